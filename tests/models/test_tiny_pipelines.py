"""The tiny pipelines are whole: they run, follow their conditions, and survive a save."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from ..pipelines import CALLS, FAMILIES, VIDEOS, arguments, realigned

WITH_STRENGTH = [name for name, call in CALLS.items() if call.strength]
WITH_PROMPT = [name for name in CALLS if name != "ddpm"]


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Iterator[None]:
    """Networks this small only wait for a second thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def picture(seed: int = 0) -> Tensor:
    """Waves and a little noise, (1,3,64,64) in [0,1]."""
    row, column = torch.meshgrid(torch.arange(64.0), torch.arange(64.0), indexing="ij")
    waves = torch.stack([(row / 9).sin(), (column / 7 + seed).sin(), ((row + column) / 5).sin()])
    grain = torch.randn(3, 64, 64, generator=torch.Generator().manual_seed(seed))
    return (0.5 + 0.4 * waves + 0.05 * grain).clamp(0, 1)[None]


def run(pipe: Any, name: str, *, which: int = 0, **settings: Any) -> tuple[Tensor, list[Tensor]]:
    """The pictures that a call of four steps makes, and the latents after each step."""
    seen: list[Tensor] = []

    def keep(pipe: Any, step: int, t: Tensor, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        assert step == len(seen)
        seen.append(tensors["latents"].clone())
        return tensors

    image = settings.pop("image", picture())
    call = {**arguments(name, image, which), "num_inference_steps": 4, **settings}
    if CALLS[name].strength:
        call.setdefault("strength", 1.0)
    if CALLS[name].callback:
        call["callback_on_step_end"] = keep
    generator = torch.Generator().manual_seed(7)
    made = pipe(**call, generator=generator, output_type="np")
    return torch.from_numpy(np.asarray(made.frames if name in VIDEOS else made.images)), seen


@cache
def standard(name: str) -> tuple[Tensor, list[Tensor]]:
    return run(FAMILIES[name](), name)


def test_every_family_says_how_it_is_called() -> None:
    assert set(FAMILIES) == set(CALLS)


@pytest.mark.parametrize("name", CALLS)
def test_makes_a_picture_in_four_steps(name: str) -> None:
    made, seen = standard(name)
    assert made.shape[-3:] == (64, 64, 3)
    assert bool(made.isfinite().all())
    assert made.std() > 0.02
    assert len(seen) == (4 if CALLS[name].callback else 0)
    assert all(bool(latents.isfinite().all()) for latents in seen)


@pytest.mark.parametrize("strength", [0.3, 0.8])
@pytest.mark.parametrize("name", WITH_STRENGTH)
def test_strength_sets_the_number_of_steps(name: str, strength: float) -> None:
    _, seen = run(FAMILIES[name](), name, strength=strength)
    assert len(seen) == CALLS[name].steps(4, strength)


@pytest.mark.parametrize("name", WITH_PROMPT)
def test_follows_the_prompt(name: str) -> None:
    (_, one), (_, other) = standard(name), run(FAMILIES[name](), name, which=1)
    assert (one[-1] - other[-1]).abs().max() > 1e-3 * one[-1].std()


@pytest.mark.parametrize("name", WITH_STRENGTH)
def test_follows_the_picture(name: str) -> None:
    pipe = FAMILIES[name]()
    one, other = (run(pipe, name, image=picture(k), strength=0.5)[1][-1] for k in (0, 1))
    assert (one - other).abs().max() > 0.01 * one.std()


@pytest.mark.parametrize(
    "name", ["controlnet", "sdxl_controlnet", "flux_control", "flux_controlnet", "depth"]
)
def test_follows_the_control_image(name: str) -> None:
    (one, _), pipe = standard(name), FAMILIES[name]()
    shown = {"depth_map": picture()[:, 0]} if name == "depth" else {"control_image": picture()}
    other, _ = run(pipe, name, **shown)
    assert (one - other).abs().max() > 0.01


@pytest.mark.parametrize("name", ["inpaint", "sdxl_inpaint"])
def test_follows_the_mask(name: str) -> None:
    (one, _), pipe = standard(name), FAMILIES[name]()
    other, _ = run(pipe, name, mask_image=torch.zeros(1, 1, 64, 64))
    assert (one - other).abs().max() > 0.01


@pytest.mark.parametrize("name", CALLS)
def test_depends_on_no_global_seed(name: str) -> None:
    torch.manual_seed(11)
    before = torch.random.get_rng_state()
    assert torch.equal(run(FAMILIES[name](), name)[0], standard(name)[0])
    assert torch.equal(torch.random.get_rng_state(), before)


@pytest.mark.parametrize("name", CALLS)
def test_comes_back_from_a_folder_bit_for_bit(name: str, tmp_path: Path) -> None:
    pipe = FAMILIES[name]()
    pipe.save_pretrained(tmp_path)
    loaded = realigned(type(pipe).from_pretrained(tmp_path, local_files_only=True))
    assert torch.equal(run(loaded, name)[0], standard(name)[0])
