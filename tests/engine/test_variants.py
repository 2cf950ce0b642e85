"""Variants: kept to the bit where they must be, of their class where they may change."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from differential_diffusion.engine import protecting_map, vary
from differential_diffusion.errors import InputError

from .test_samples import MEANS, model


def picture() -> Any:
    return np.random.default_rng(0).integers(0, 256, (16, 12, 1), dtype=np.uint8)


def test_what_may_change_becomes_of_the_class_and_the_rest_stays() -> None:
    strength = np.zeros((16, 12), np.float32)
    strength[:, 5:] = 1
    made = np.stack(list(vary(model(), picture(), 12, label="cow", strength=strength, steps=300)))
    assert (made[:, :, :5] == picture()[:, :5]).all()
    drawn = made[:, :, 5:] / 127.5 - 1
    assert drawn.mean() == pytest.approx(float(MEANS[2]), abs=0.02)
    assert drawn.std() == pytest.approx(0.1, rel=0.1)
    assert np.abs(made[0].astype(int) - made[1])[:, 5:].mean() > 5


def test_a_class_that_the_model_does_not_know_is_not_told() -> None:
    made = np.stack(list(vary(model(), picture(), 8, label="yak", strength=1.0, steps=30)))
    assert (made / 127.5 - 1).mean() == pytest.approx(float(MEANS[3]), abs=0.02)
    with pytest.raises(InputError, match="guidance_scale is 2 and the model 'oracle' is told"):
        list(vary(model(), picture(), 1, label="yak", guidance_scale=2.0))


def test_the_object_that_is_found_is_protected() -> None:
    pixels = np.full((64, 64, 3), 90, np.uint8)
    pixels[20:30, 40:50] = 250
    strength = protecting_map(pixels, "saliency", 0.6, {})
    assert strength.shape == (64, 64)
    assert strength[20:30, 40:50].mean() < 0.5 * strength[40:, :30].mean()
    assert strength.max() <= 0.6
    with pytest.raises(InputError, match=r"strength must lie in \[0, 1\], not be 5"):
        protecting_map(pixels, "saliency", 5, {})


@pytest.mark.parametrize(
    ("strength", "message"),
    [
        (1.5, r"strength must lie in \[0, 1\]"),
        (np.zeros((3, 3)), r"strength has the shape \(3, 3\)"),
    ],
)
def test_what_cannot_be_is_refused(strength: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        vary(model(), picture(), 1, strength=strength)  # at once, before any is drawn
