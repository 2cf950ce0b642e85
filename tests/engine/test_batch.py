"""Several edits at once: each as it comes out alone, in as few calls of the pipeline as can be."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import differential_diffusion as dd
from differential_diffusion.engine import Progress
from differential_diffusion.errors import InputError

from ..pipelines import FAMILIES

STEPS = 4
FIRST = ["sd1", "sdxl", "sd3", "flux", "qwen_image", "z_image", "kolors", "lcm"]


def picture(seed: int, height: int = 64, width: int = 64) -> NDArray[np.uint8]:
    cells = np.random.default_rng(seed).integers(0, 256, (height // 8, width // 8, 3), np.uint8)
    return cells.repeat(8, 0).repeat(8, 1)


def ramp(largest: float, height: int = 64, width: int = 64) -> NDArray[np.float32]:
    return np.linspace(0, largest, width, dtype=np.float32) * np.ones((height, 1), np.float32)


@cache
def pipeline(family: str) -> Any:
    return FAMILIES[family]()


class Batches:
    """The batches that a pipeline decodes inside a with statement."""

    def __init__(self, pipe: Any) -> None:
        self.sizes: list[int] = []
        self.pipe = pipe

    def __enter__(self) -> list[int]:
        self.hook = self.pipe.vae.decoder.register_forward_pre_hook(
            lambda _, inputs: self.sizes.append(len(inputs[0]))
        )
        return self.sizes

    def __exit__(self, *_: object) -> None:
        self.hook.remove()


EDITS: list[dict[str, Any]] = [
    {"image": picture(0), "strength": ramp(1.0), "prompt": "a red barn", "seed": 7},
    {"image": picture(1), "strength": ramp(1.0)[:, ::-1], "prompt": "two blue boats", "seed": 8},
    {"image": picture(2), "strength": 0.5, "prompt": "a lake", "seed": 9},
    {"image": picture(3), "strength": 1.0, "prompt": "a red barn", "seed": 7},
]


@pytest.mark.parametrize("family", FIRST)
def test_each_of_a_batch_is_what_it_is_alone(family: str) -> None:
    common = {"model": pipeline(family), "steps": STEPS}
    together = dd.edit_batch(
        [edit["image"] for edit in EDITS],
        [edit["strength"] for edit in EDITS],
        prompts=[edit["prompt"] for edit in EDITS],
        seeds=[edit["seed"] for edit in EDITS],
        **common,
    )
    for made, edit in zip(together, EDITS, strict=True):
        alone = dd.edit(**edit, **common)
        assert np.abs(made.image.astype(int) - alone.image.astype(int)).max() <= 1
        assert made.evaluations == alone.evaluations
        np.testing.assert_array_equal(made.map, alone.map)
        kept = made.map == 0
        np.testing.assert_array_equal(made.image[kept], edit["image"][kept])
    assert not np.array_equal(together[0].image, together[3].image)


def test_what_is_alike_is_drawn_at_once() -> None:
    """The third has half of the steps, so it goes alone; negative prompts go along."""
    pipe = pipeline("sd1")
    given: dict[str, Any] = {
        "prompts": [edit["prompt"] for edit in EDITS],
        "negative_prompt": "blurred",
        "model": pipe,
        "steps": STEPS,
    }
    lists = [edit["image"] for edit in EDITS], [edit["strength"] for edit in EDITS]
    with Batches(pipe) as sizes:
        dd.edit_batch(*lists, **given)
    assert sizes == [3, 1]
    with Batches(pipe) as sizes:
        dd.edit_batch(*lists, batch_size=2, **given)
    assert sizes == [2, 1, 1]


def test_what_belongs_to_one_picture_keeps_it_alone() -> None:
    pipe = pipeline("controlnet")
    control = picture(9).astype(np.float32)[None] / 255
    given: dict[str, Any] = {"prompt": "a barn", "model": pipe, "steps": STEPS}
    with Batches(pipe) as sizes:
        dd.edit_batch(
            [picture(0), picture(1)], 0.7, pipeline_kwargs={"control_image": control}, **given
        )
    assert sizes == [1, 1]
    with Batches(pipe) as sizes:  # samples of one picture share it
        dd.edit(
            picture(0),
            0.7,
            samples=2,
            batch_size=2,
            pipeline_kwargs={"control_image": control},
            **given,
        )
    assert sizes == [2]


def test_pictures_of_other_sizes_and_crops_come_along() -> None:
    pipe = pipeline("sd1")
    wide = picture(5, 200, 304)
    spot = np.zeros(wide.shape[:2], np.float32)
    spot[20:40, 200:230] = 1
    given: dict[str, Any] = {"model": pipe, "steps": STEPS, "prompt": "a barn"}
    progress: list[Progress] = []
    made = dd.edit_batch(
        [wide, picture(6)], [spot, ramp(1.0)], on_progress=progress.append, **given
    )
    for result, image, strength in zip(made, (wide, picture(6)), (spot, ramp(1.0)), strict=True):
        expected = dd.edit(image, strength, **given).image
        assert np.abs(result.image.astype(int) - expected.astype(int)).max() <= 1
    fractions = [p.fraction for p in progress]
    assert fractions == sorted(fractions)
    assert fractions[-1] == 1.0


def test_the_prior_does_one_after_the_other() -> None:
    lists = [picture(0), picture(1)], [ramp(0.3), 0.0]
    made = dd.edit_batch(*lists, seeds=[1, 2], steps=3)
    for result, image, strength, seed in zip(made, *lists, (1, 2), strict=True):
        alone = dd.edit(image, strength, seed=seed, steps=3)
        np.testing.assert_array_equal(result.image, alone.image)


def test_lists_of_other_lengths_are_refused() -> None:
    with pytest.raises(InputError, match="strengths has 1 entries for 2 pictures"):
        dd.edit_batch([picture(0), picture(1)], [0.5])
    with pytest.raises(InputError, match="seeds has 3 entries for 1 pictures"):
        dd.edit_batch([picture(0)], 0.5, seeds=[1, 2, 3])
    with pytest.raises(InputError, match="prompts is one text"):
        dd.edit_batch([picture(0)], 0.5, prompts="a barn")
    assert dd.edit_batch([], 0.5) == []


def test_what_edit_refuses_a_batch_refuses() -> None:
    given: dict[str, Any] = {"model": pipeline("sd1"), "prompt": "a barn", "views": 2}
    with pytest.raises(InputError, match="views is 2"):
        dd.edit(picture(0), 0.5, **given)
    with pytest.raises(InputError, match="views is 2"):
        dd.edit_batch([picture(0)], 0.5, **given)
