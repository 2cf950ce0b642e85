"""Colouring: colours for a grey picture that, made grey again, are what was given."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from ..core.guidance import data_consistency
from ..core.operators import grey
from ..core.plan import Plan, Run
from ..errors import InputError
from ..maps.hints import colour_hints
from ..schema import ColorizeRequest
from .base import Task, TaskInput, TaskOutput, in_part, plan_options, strength_tensor, unused
from .propagation import propagated

NO_HINTS = (
    "no colours were given, and none can be told from grey without knowing objects: the mean is "
    "grey; give hints"
)
NO_STEPS = "the mean spreads hints without the model: {} went unused; samples use them"
SAMPLED = (
    "samples are the model's: one that knows no objects, as the bundled prior, colours at random "
    "what is far from hints"
)


def colorize(request: ColorizeRequest, source: TaskInput, run: Run) -> TaskOutput:
    """Spread the hints' chroma along the lines of the grey picture, or draw samples about it.

    With c = x - A x, the chroma, for A the luminance: known where there are hints, spread from
    there by `propagated`, as the mean; a sample starts there from noise, and from the known colours
    where they are sure, and is held to the grey picture in every step.
    """
    if source.model_channels < 3:
        raise InputError(
            f"the model knows {source.model_channels} channel, and colours have three: use a model "
            "of colours"
        )
    luminance = grey()
    y = luminance.forward(source.image)
    strength = strength_tensor(request.strength, source, invert=request.invert)
    colours, known = _known(request, source, strength)
    chroma = colours - luminance.forward(colours)
    spread = propagated(y, chroma[:, ::2], known)
    spread = torch.lerp(_three(spread), chroma, known)
    start = _within_range(y, spread)
    notes: tuple[str, ...] = ()
    if request.estimate == "mean" and request.samples == 1:
        samples, mean, notes = start, start, unused(request, NO_STEPS)
    else:
        guide = partial(data_consistency, operator=luminance, y=y)
        drawn = run(Plan(start, 1 - known, guide=guide, **plan_options(request)))
        samples = _within_range(y, drawn - luminance.forward(drawn))
        mean = start
    hinted = float((known > 0).float().mean())
    notes = (f"hints: {100 * hinted:.2f} % of the pixels" if hinted else NO_HINTS, *notes)
    if request.estimate == "sample":
        notes = (*notes, SAMPLED)
    return TaskOutput(
        in_part(source, samples, strength),
        strength == 0,
        strength,
        notes=notes,
        mean=in_part(source, mean, strength),
        coloured=True,
    )


def _known(request: ColorizeRequest, source: TaskInput, strength: Tensor) -> tuple[Tensor, Tensor]:
    """Colours and how sure they are: the hints', and what is kept of a picture with colours."""
    known = torch.zeros(1, 1, *source.size)
    colours = source.image
    if not source.grey:
        known = (strength == 0).float()
    if request.hints is None:
        return colours, known
    hints, sure = colour_hints(request.hints)
    if hints.shape[-2:] != colours.shape[-2:]:
        raise InputError(
            f"the hints are {hints.shape[-1]}x{hints.shape[-2]} pixels and the picture "
            f"{source.size[1]}x{source.size[0]}: make them fit"
        )
    return torch.where(known > 0, colours, hints), torch.maximum(known, sure)


def _three(red_and_blue: Tensor) -> Tensor:
    """The chroma (B,3,H,W) whose luminance is 0 and whose red and blue are given."""
    red, blue = red_and_blue[:, :1], red_and_blue[:, 1:]
    w = grey().weights.flatten().tolist()
    return torch.cat([red, -(w[0] * red + w[2] * blue) / w[1], blue], 1)


def _within_range(y: Tensor, chroma: Tensor) -> Tensor:
    """The picture of luminance y and this chroma, less of it where [-1,1] has no room for all."""
    room = torch.where(chroma > 0, 1 - y, 1 + y).clamp(min=0)
    share = torch.where(chroma.abs() > room, room / chroma.abs().clamp(min=1e-12), 1.0)
    return y + share.amin(1, keepdim=True) * chroma


TASK = Task(ColorizeRequest, colorize, "give a grey picture colours, from hints")
