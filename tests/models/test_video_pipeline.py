"""Videos: a strength for each pixel of each frame, against the pipeline itself."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import differential_diffusion as dd
from differential_diffusion.errors import InputError
from differential_diffusion.models.pipeline import PipelineModel, PipelineSettings
from differential_diffusion.models.pipeline_load import wrap_pipeline

from ..pipelines import FAMILIES

FRAMES, STEPS = 3, 4
SETTINGS = PipelineSettings(prompt="a red barn in the snow")


@cache
def model() -> PipelineModel:
    return wrap_pipeline(FAMILIES["video"]())


def frames() -> Tensor:
    row, column = torch.meshgrid(torch.arange(64), torch.arange(64), indexing="ij")
    waves = torch.stack([(row / 9).sin(), (column / 7).sin(), ((row + column) / 5).sin()])
    return torch.stack([0.8 * waves.roll(4 * k, -1) for k in range(FRAMES)]).float()


def plain(strength: float) -> Tensor:
    out = model().pipeline(
        video=((frames() + 1) / 2)[None],
        prompt=SETTINGS.prompt,
        height=64,
        width=64,
        strength=strength,
        num_inference_steps=STEPS,
        generator=torch.Generator().manual_seed(5),
        output_type="pt",
    )
    made: Tensor = out.frames[0] * 2 - 1
    return made


@pytest.mark.parametrize("strength", [0.5, 1.0])
def test_one_strength_for_all_is_the_pipeline_itself(strength: float) -> None:
    constant = torch.full((1, 1, 1, 1), strength)
    assert torch.equal(model().sample(frames(), constant, (5,), STEPS, SETTINGS), plain(strength))


def test_each_frame_and_each_pixel_keeps_to_its_own_strength() -> None:
    strength = torch.zeros(FRAMES, 1, 64, 64)
    strength[1] = 0.5
    strength[2, ..., 32:] = 1.0
    seen: list[Tensor] = []

    def keep(_: Any, step: int, t: Any, tensors: dict[str, Any]) -> dict[str, Any]:
        seen.append(tensors["latents"].clone())
        return {}

    watched = PipelineSettings(
        prompt=SETTINGS.prompt, pipeline_kwargs={"callback_on_step_end": keep}
    )
    made = model().sample(frames(), strength, (5,), STEPS, watched)
    kept = (strength == 0).expand_as(made)
    assert torch.equal(made[kept], frames()[kept])
    assert len(seen) == STEPS
    changed = (made - frames()).abs().mean((1, 2))
    assert changed[0].max() == 0
    assert changed[1].min() > 0
    assert changed[2, 40:].min() > 0


def test_strength_0_and_one_map_for_all_frames() -> None:
    assert torch.equal(
        model().sample(frames(), torch.zeros(1, 1, 64, 64), (5,), STEPS, SETTINGS), frames()
    )
    strength = torch.zeros(1, 1, 64, 64)
    strength[..., :32, :] = 0.7
    one = model().sample(frames(), strength, (5,), STEPS, SETTINGS)
    each = model().sample(frames(), strength.expand(FRAMES, -1, -1, -1), (5,), STEPS, SETTINGS)
    assert torch.equal(one, each)


def test_pictures_are_refused_in_a_sentence() -> None:
    with pytest.raises(InputError, match="takes videos: give their frames"):
        dd.edit(np.zeros((64, 64, 3), np.uint8), 0.5, prompt="a", model=FAMILIES["video"]())
