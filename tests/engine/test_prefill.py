"""Holes filled before a pipeline sees them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import differential_diffusion as dd
from differential_diffusion.errors import InputError
from differential_diffusion.models import PipelineModel

from ..pipelines import FAMILIES


class Mirror(PipelineModel):
    """A pipeline that gives back what it is shown."""

    def sample(self, images: Tensor, strength: Tensor, *_: Any, **__: Any) -> Tensor:
        return images


def scene() -> tuple[np.ndarray, np.ndarray]:
    """Red above green with a blue square across, which is the hole."""
    image = np.zeros((96, 96, 3), np.float32)
    image[:48, :, 0] = 0.8
    image[48:, :, 1] = 0.6
    strength = np.zeros((96, 96), np.float32)
    strength[32:64, 32:64] = 1
    strength[:, 90:] = 0.5
    image[strength == 1] = (0, 0, 1)
    return image, strength


def shown(how: str, **settings: Any) -> np.ndarray:
    image, strength = scene()
    model = Mirror("mirror", FAMILIES["sd1"]())
    made: np.ndarray = dd.edit(image, strength, model=model, prefill=how, **settings).image
    return made


@pytest.mark.parametrize("how", ["none", "mean", "noise", "coarse", "prior"])
def test_only_holes_are_filled(how: str) -> None:
    image, strength = scene()
    made = shown(how)
    np.testing.assert_array_equal(made[strength < 1], image[strength < 1])
    assert (how == "none") == bool((made[strength == 1] == image[strength == 1]).all())


def test_what_they_are_filled_with() -> None:
    hole = np.s_[32:64, 32:64]
    mean = shown("mean")[hole]
    assert mean.std((0, 1)).max() < 1e-5
    # The ring of 32 pixels around is the whole picture here, less the hole.
    image, strength = scene()
    np.testing.assert_allclose(mean[0, 0], image[strength < 1].mean(0), atol=1e-4)
    noise = shown("noise")[hole]
    assert noise.std((0, 1))[0] > 0.2
    assert abs(noise.mean((0, 1)) - mean[0, 0]).max() < 0.1
    np.testing.assert_array_equal(noise, shown("noise")[hole])
    assert not np.array_equal(noise, shown("noise", seed=1)[hole])
    for how in ("coarse", "prior"):
        filled = shown(how)[hole]
        assert filled[:12].mean((0, 1)).argmax() == 0, how  # red carries on above
        assert filled[-12:].mean((0, 1)).argmax() == 1, how  # green below
        assert filled[..., 2].mean() < 0.25, how  # and blue is gone


def test_a_hole_over_everything_is_grey_of_nothing() -> None:
    model = Mirror("mirror", FAMILIES["sd1"]())
    for how in ("mean", "coarse"):
        made = dd.edit(torch.rand(3, 32, 32), 1.0, model=model, prefill=how).image
        torch.testing.assert_close(made, torch.full((3, 32, 32), 0.5))


def test_a_fan_compares_edits_of_one_filled_picture() -> None:
    image, strength = scene()
    model = Mirror("mirror", FAMILIES["sd1"]())
    made = dd.fan(image, (0.3, 1.0), strength=strength, model=model, prefill="mean")
    for result in made:
        np.testing.assert_allclose(
            result.image[strength == 1], shown("mean")[strength == 1], atol=1e-6
        )
        np.testing.assert_array_equal(result.image[strength < 1], image[strength < 1])


def test_a_map_without_a_hole_is_refused() -> None:
    image, strength = scene()
    model = Mirror("mirror", FAMILIES["sd1"]())
    with pytest.raises(InputError, match="nowhere 1, so that there is no hole"):
        dd.edit(image, 0.9 * strength, model=model, prefill="mean")
    nearly = np.rint(254 * strength).astype(np.uint8)  # what JPEG makes of white
    filled = dd.edit(image, nearly, model=model, prefill="mean").image
    assert not np.array_equal(filled[strength == 1], image[strength == 1])
