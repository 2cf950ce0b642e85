"""Text to image, against the pipelines as their users call them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from PIL import Image

import differential_diffusion as dd
from differential_diffusion.core import Step

from ..pipelines import FAMILIES, parts


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


def pixart() -> Any:
    """A pipeline that can start from nothing but a prompt."""
    transformer = diffusers.PixArtTransformer2DModel(
        sample_size=8,
        num_layers=1,
        attention_head_dim=8,
        num_attention_heads=2,
        in_channels=4,
        out_channels=8,
        caption_channels=parts.WIDTH,
        cross_attention_dim=16,
    )
    torch.manual_seed(0)
    return diffusers.PixArtSigmaPipeline(
        tokenizer=parts.byte_tokenizer(),
        text_encoder=parts.t5().eval(),
        vae=parts.vae().eval(),
        transformer=transformer.eval(),
        scheduler=diffusers.DPMSolverMultistepScheduler(),
    )


def test_pipelines_that_know_prompts_alone_generate_and_refuse_to_edit(tmp_path: Path) -> None:
    pipe = pixart()
    plain = pipe(
        "a red barn",
        width=64,
        height=64,
        num_inference_steps=2,
        generator=torch.Generator().manual_seed(3),
        use_resolution_binning=False,
        max_sequence_length=32,
    ).images[0]
    kwargs = {"max_sequence_length": 32}
    given: dict[str, Any] = {"width": 64, "height": 64, "steps": 2, "pipeline_kwargs": kwargs}
    made = dd.generate("a red barn", model=pipe, seed=3, **given)
    np.testing.assert_array_equal(np.asarray(made.image), np.asarray(plain))
    with pytest.raises(dd.InputError, match="makes pictures of prompts alone"):
        dd.edit(np.zeros((64, 64, 3), np.uint8), 0.5, model=pipe, prompt="a barn")
    with pytest.raises(dd.InputError, match="makes pictures of prompts alone"):
        dd.edit_batch([np.zeros((64, 64, 3), np.uint8)], 0.5, model=pipe, prompt="a barn")
    pipe.save_pretrained(tmp_path)
    loaded = dd.load_model(tmp_path, precision="fp32")
    assert np.asarray(dd.generate("a red barn", model=loaded, **given).image).std() > 1


def test_a_controlnet_generates_by_its_picture() -> None:
    pipe = FAMILIES["controlnet"]()
    control = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    twin = diffusers.StableDiffusionControlNetPipeline(
        **pipe.components, requires_safety_checker=False
    )
    plain = twin(
        "a red barn",
        image=Image.fromarray(control),
        width=64,
        height=64,
        num_inference_steps=2,
        generator=torch.Generator().manual_seed(3),
    ).images[0]
    given: dict[str, Any] = {"model": pipe, "width": 64, "height": 64, "steps": 2, "seed": 3}
    control_image = {"control_image": Image.fromarray(control)}
    made = dd.generate("a red barn", pipeline_kwargs=control_image, **given)
    np.testing.assert_array_equal(np.asarray(made.image), np.asarray(plain))
    other = {"control_image": Image.fromarray(255 - control)}
    changed = dd.generate("a red barn", pipeline_kwargs=other, **given)
    assert not np.array_equal(np.asarray(changed.image), np.asarray(plain))
