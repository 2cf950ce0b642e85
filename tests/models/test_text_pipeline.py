"""Text to image, against the pipelines as their users call them."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import differential_diffusion as dd
from differential_diffusion.core import Step

from ..pipelines import FAMILIES


@pytest.mark.parametrize("family", ["sd1", "sdxl"])
def test_generate_is_the_text_to_image_pipeline_itself(family: str) -> None:
    steps: list[Step] = []
    result = dd.generate(
        "a red barn in the snow",
        model=FAMILIES[family](),  # the image-to-image pipeline, whose twin is asked
        width=96,
        height=64,
        steps=4,
        seed=3,
        on_step=steps.append,
    )
    plain = FAMILIES[f"{family}_text"]()(
        "a red barn in the snow",
        width=96,
        height=64,
        num_inference_steps=4,
        generator=torch.Generator().manual_seed(3),
    )
    np.testing.assert_array_equal(np.asarray(result.image), np.asarray(plain.images[0]))
    assert result.evaluations == len(steps) == 4
    assert [float(step.sigma) for step in steps] == [1, 0.75, 0.5, 0.25]


def test_any_size_is_made_and_the_prompt_counts() -> None:
    pipeline = FAMILIES["sd1_text"]()
    barn, boats = (
        np.asarray(dd.generate(prompt, model=pipeline, width=70, height=51, steps=2, seed=1).image)
        for prompt in ("a red barn in the snow", "two blue boats")
    )
    assert barn.shape == (51, 70, 3)
    assert not np.array_equal(barn, boats)
    with pytest.raises(dd.InputError, match="refuses its arguments"):
        dd.generate(model=pipeline, width=64, height=64)
