"""Run a plan on a model, in regions and tiles where the model is local."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..core.noise import PositionalNoise, Window
from ..core.plan import OnStep, Plan
from ..core.types import Step
from ..models import DenoiserModel, Model
from .regions import RegionalDenoiser, bounding, crop_map, windows_over, with_halo


@dataclass
class Counter:
    """Model evaluations so far, over all runs of a request."""

    evaluations: int = 0


OnFraction = Callable[[float], None]


class _Meter:
    """Share of a run of several samples that is done, from steps and the pieces within them."""

    def __init__(self, samples: int, report: OnFraction | None) -> None:
        self.samples, self.report = samples, report
        self.sample, self.step, self.steps, self.last = 0, 0, 1, 0.0

    def begin(self, sample: int, steps: int) -> None:
        self.sample, self.step, self.steps = sample, 0, max(1, steps)

    def finish(self) -> None:
        """The sample in hand is done, whether or not anything had to move."""
        self._tell(self.steps)

    def piece(self, done: int, count: int) -> None:
        self._tell(self.step + done / count)

    def stepped(self, step: Step) -> None:
        self.step, self.steps = step.index + 1, step.count
        self._tell(self.step)

    def _tell(self, steps_done: float) -> None:
        # A solver with two evaluations a step goes over its pieces twice: never step back.
        within = min(1.0, steps_done / self.steps)
        self.last = max(self.last, (self.sample + within) / self.samples)
        if self.report is not None:
            self.report(self.last)


def run_plan(
    plan: Plan,
    model: Model,
    *,
    tile: int = 1024,
    on_step: OnStep | None = None,
    on_fraction: OnFraction | None = None,
    counter: Counter | None = None,
) -> Tensor:
    """Samples of the plan, (n,C,H,W), one for each seed, drawn one after the other.

    With a local `DenoiserModel` the state and the network are cut to the pixels that move and
    their halo; the numbers equal the whole-picture run's up to rounding. Other models run
    whole.

    Args:
        plan: what to do.
        model: what does it.
        tile: largest side of what the network is given at once, halo not counted.
        on_step: called after each step with the record of the (cropped) state.
        on_fraction: called with the share of the work that is done, as often as it grows.
        counter: adds up evaluations.
    """
    counter, meter = counter or Counter(), _Meter(len(plan.seeds), on_fraction)
    last = 0

    def count(step: Step) -> None:
        nonlocal last
        counter.evaluations += step.evaluations - last
        last = step.evaluations
        meter.stepped(step)
        if on_step is not None:
            on_step(step)

    results = []
    for sample, seed in enumerate(plan.seeds):
        last = 0
        one = replace(plan, seeds=(seed,))
        meter.begin(sample, len(model.path(one)) if isinstance(model, DenoiserModel) else 1)
        results.append(_run_one(one, model, tile, count, meter.piece))
        meter.finish()
    return torch.cat(results) if len(results) > 1 else results[0]


def _run_one(
    plan: Plan, model: Model, tile: int, on_step: OnStep, on_piece: Callable[[int, int], None]
) -> Tensor:
    height, width = plan.image.shape[-2:]
    noise = PositionalNoise(plan.seeds, model.channels, height, width)
    if not isinstance(model, DenoiserModel) or model.halo is None:
        return model.run(plan, noise, on_step)
    active = (plan.start(model.sigma) > plan.target).expand(1, 1, height, width)[0, 0]
    windows = windows_over(active, stride=model.stride, halo=model.halo, tile=tile)
    if not windows:
        return plan.image
    # The network needs the halo around every window; the state, nothing beyond that.
    box = with_halo(bounding(windows), model.halo, height, width)
    local = [
        Window(w.top - box.top, w.left - box.left, w.bottom - box.top, w.right - box.left)
        for w in windows
    ]
    regional = RegionalDenoiser(model.denoiser, local, model.halo, on_piece)
    cropped = replace(
        plan,
        image=crop_map(plan.image, box),
        strength=crop_map(plan.strength, box),
        noise=crop_map(plan.noise, box),
        target=crop_map(plan.target, box),
    )
    part = model.with_denoiser(regional).run(cropped, noise.crop(box), on_step)
    if (box.height, box.width) == (height, width):
        return part
    result = plan.image.clone()
    crop_map(result, box).copy_(part)
    return result
