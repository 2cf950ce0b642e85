"""Videos: a strength for each pixel of each frame, against the pipeline itself."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from importlib.util import find_spec
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr
from torch import Tensor

import differential_diffusion as dd
from differential_diffusion.core import Step
from differential_diffusion.errors import InputError
from differential_diffusion.models.pipeline import PipelineModel, PipelineSettings
from differential_diffusion.models.pipeline_load import wrap_pipeline
from differential_diffusion.models.video_pipeline import VideoPipelineModel

from ..pipelines import CALLS, FAMILIES, VIDEOS

STEPS = 4
FRAMES = {"animatediff": 3, "wan": 5, "cogvideox": 9}
SHORTENED = [family for family in VIDEOS if family != "animatediff"]


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Iterator[None]:
    """Networks this small only wait for a second thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@cache
def model(family: str) -> PipelineModel:
    return wrap_pipeline(FAMILIES[family]())


def settings(family: str, **kwargs: Any) -> PipelineSettings:
    return PipelineSettings(pipeline_kwargs={**CALLS[family].says(0), **kwargs})


def frames(count: int, height: int = 64, width: int = 64) -> Tensor:
    row, column = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    waves = torch.stack([(row / 9).sin(), (column / 7).sin(), ((row + column) / 5).sin()])
    return torch.stack([0.8 * waves.roll(4 * k, -1) for k in range(count)]).float()


def plain(family: str, video: Tensor, strength: float) -> Tensor:
    out = model(family).pipeline(
        **CALLS[family].says(0),
        video=((video + 1) / 2)[None],
        height=64,
        width=64,
        strength=strength,
        num_inference_steps=STEPS,
        generator=torch.Generator().manual_seed(5),
        output_type="pt",
    )
    made: Tensor = out.frames[0] * 2 - 1
    return made


class Latents:
    """A user's callback that keeps the latents."""

    def __init__(self) -> None:
        self.seen: list[Tensor] = []

    def __call__(self, pipe: Any, step: int, t: Any, tensors: dict[str, Any]) -> dict[str, Any]:
        self.seen.append(tensors["latents"].clone())
        return {}


@pytest.mark.parametrize("family", VIDEOS)
@pytest.mark.parametrize("strength", [0.5, 1.0])
def test_one_strength_for_all_is_the_pipeline_itself(family: str, strength: float) -> None:
    video, constant = frames(FRAMES[family]), torch.full((1, 1, 1, 1), strength)
    steps: list[Step] = []
    made = model(family).sample(video, constant, (5,), STEPS, settings(family), steps.append)
    assert torch.equal(made, plain(family, video, strength))
    decode = steps[-1].decode
    assert decode is not None
    torch.testing.assert_close(decode(steps[-1].x).clamp(-1, 1), made, rtol=0, atol=1e-4)


def test_each_frame_and_each_pixel_keeps_to_its_own_strength() -> None:
    video, latents = frames(3), Latents()
    strength = torch.zeros(3, 1, 64, 64)
    strength[1] = 0.5
    strength[2, ..., 32:] = 1.0
    watched = settings("animatediff", callback_on_step_end=latents)
    made = model("animatediff").sample(video, strength, (5,), STEPS, watched)
    kept = (strength == 0).expand_as(made)
    assert torch.equal(made[kept], video[kept])
    assert len(latents.seen) == STEPS
    changed = (made - video).abs().mean((1, 2))
    assert changed[0].max() == 0
    assert changed[1].min() > 0
    assert changed[2, 40:].min() > 0


@pytest.mark.parametrize("family", SHORTENED)
def test_a_map_for_each_frame_needs_latents_for_each(family: str) -> None:
    video = frames(FRAMES[family])
    strength = torch.linspace(0, 1, len(video)).view(-1, 1, 1, 1).expand(-1, 1, 64, 64)
    with pytest.raises(InputError, match="has no latents for each frame: give one strength map"):
        model(family).sample(video, strength, (5,), STEPS, settings(family))


@pytest.mark.parametrize("family", VIDEOS)
def test_strength_0_and_one_map_for_all_frames(family: str) -> None:
    video = frames(FRAMES[family], 60, 50)
    nothing = Latents()
    still = settings(family, callback_on_step_end=nothing)
    made = model(family).sample(video, torch.zeros(1, 1, 60, 50), (5,), STEPS, still)
    assert torch.equal(made, video)
    assert nothing.seen == []
    strength = torch.zeros(1, 1, 60, 50)
    strength[..., :32, :] = 0.7
    one = model(family).sample(video, strength, (5,), STEPS, settings(family))
    assert torch.equal(one[..., 32:, :], video[..., 32:, :])
    assert (one - video)[..., :20, :].abs().mean((1, 2, 3)).min() > 0
    if family == "animatediff":
        each = strength.expand(len(video), -1, -1, -1)
        assert torch.equal(one, model(family).sample(video, each, (5,), STEPS, settings(family)))


@pytest.mark.parametrize("family", SHORTENED)
def test_a_video_may_have_any_number_of_frames(family: str) -> None:
    """The pipeline itself drops frames, or makes more."""
    video, constant = frames(3), torch.full((1, 1, 1, 1), 0.5)
    made = model(family).sample(video, constant, (5,), STEPS, settings(family))
    assert len(made) == 3
    assert len(plain(family, video, 0.5)) == 1
    target = model(family)
    assert isinstance(target, VideoPipelineModel)
    longer = torch.cat([video, video[-1:].repeat(target.frames_for(3) - 3, 1, 1, 1)])
    assert torch.equal(made, plain(family, longer, 0.5)[:3])


@pytest.mark.parametrize("twos", [None, 2])
def test_cogvideox_takes_eights_and_before_1_5_one_more(
    twos: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = model("cogvideox")
    assert isinstance(target, VideoPipelineModel)
    monkeypatch.setattr(PipelineModel, "configured", lambda self, name: twos)
    for count in (8, 9, 10, 49, 81):
        taken = target.frames_for(count)
        latent = (taken - 1) // 4 + 1
        assert 0 <= taken - count < 8
        assert taken % 8 == (1 if count % 8 == 1 and twos is None else 0)
        assert twos is None or latent % twos == 0


@pytest.mark.slow
@pytest.mark.parametrize("family", VIDEOS)
def test_change_grows_with_strength_along_a_ramp(
    family: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """How far the latents end from the video's, in each column, before anything is put back."""
    target, video = model(family), frames(FRAMES[family], 32, 128)
    ramp = torch.linspace(0, 1, 128).expand(1, 1, 32, 128)
    clean: list[Tensor] = []
    noised = target.worker.scheduler.add_noise

    def listen(original: Tensor, *rest: Any) -> Tensor:
        clean.append(original.transpose(1, 2) if family == "animatediff" else original)
        result: Tensor = noised(original, *rest)
        return result

    monkeypatch.setattr(target.worker.scheduler, "add_noise", listen)
    change = torch.zeros(16)
    for seed in range(20):
        latents = Latents()
        clean.clear()
        target.sample(video, ramp, (seed,), 8, settings(family, callback_on_step_end=latents))
        change += (latents.seen[-1] - clean[0]).abs().flatten(0, -2).mean(0)
    correlation = float(spearmanr(range(16), change.tolist()).statistic)
    assert correlation > 0.9, change


def test_a_missing_package_is_said() -> None:
    """Wan's asks for ftfy to read a prompt, which is not among our packages."""
    if find_spec("ftfy") is not None:
        pytest.skip("it is there")
    with pytest.raises(InputError, match="needs the package ftfy to read a prompt: pip install"):
        model("wan").sample(
            frames(1), torch.ones(1, 1, 1, 1), (5,), STEPS, PipelineSettings(prompt="a barn")
        )


def test_pictures_are_refused_in_a_sentence() -> None:
    with pytest.raises(InputError, match="takes videos: give their frames"):
        dd.edit(np.zeros((64, 64, 3), np.uint8), 0.5, prompt="a", model=FAMILIES["animatediff"]())
