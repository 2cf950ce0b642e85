"""The published loop, written here on its own, against `compat="published"` in stock pipelines.

Before step i of N (but for the first) a cell with keep > i/N is set to the original, noised to the
level of that step with one noise for all steps; then the network moves everything.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from diffusers import (
    DDIMScheduler,
    DPMSolverMultistepScheduler,
    EulerDiscreteScheduler,
    HeunDiscreteScheduler,
    PNDMScheduler,
)
from torch import Tensor

from differential_diffusion.models.pipeline import PipelineModel, PipelineSettings

from ..pipelines import FAMILIES

STEPS, SEED, GUIDANCE = 6, 11, 5.0
PROMPT, NEGATIVE = "a red barn in the snow", "two blue boats"
SCHEDULERS = {
    "ddim": DDIMScheduler,
    "euler": EulerDiscreteScheduler,
    "dpmpp_2m": DPMSolverMultistepScheduler,
    "heun": HeunDiscreteScheduler,
}
ONE_STEP = ("ddim", "euler")


def with_scheduler(family: str, name: str) -> Any:
    pipeline = FAMILIES[family]()
    kind: Any = {**SCHEDULERS, "pndm": PNDMScheduler}[name]
    pipeline.scheduler = kind.from_config(pipeline.scheduler.config)
    return pipeline


def picture() -> Tensor:
    row, column = torch.meshgrid(torch.arange(64), torch.arange(64), indexing="ij")
    waves = torch.stack([(row / 9).sin(), (column / 7).sin(), ((row + column) / 5).sin()])
    return (0.8 * waves)[None].float()


def strength() -> Tensor:
    """Of 8x8 cells of 8 pixels: a ramp from 0 to 1, with a row of 0.4."""
    cells = torch.linspace(0, 1, 8).expand(8, 8).clone()
    cells[3] = 0.4
    return cells.repeat_interleave(8, 0).repeat_interleave(8, 1)[None, None]


def embeddings(pipeline: Any) -> tuple[Tensor, dict[str, Any]]:
    """The prompt embeddings with guidance, and what else the U-Net wants."""
    if not hasattr(pipeline, "tokenizer_2"):
        positive, negative = pipeline.encode_prompt(PROMPT, "cpu", 1, True, NEGATIVE)
        return torch.cat([negative, positive]), {}
    encoded = pipeline.encode_prompt(
        PROMPT, device="cpu", do_classifier_free_guidance=True, negative_prompt=NEGATIVE
    )
    positive, negative, pooled, negative_pooled = encoded
    size = torch.tensor([[64, 64, 0, 0, 64, 64]], dtype=positive.dtype).repeat(2, 1)
    added = {"text_embeds": torch.cat([negative_pooled, pooled]), "time_ids": size}
    return torch.cat([negative, positive]), {"added_cond_kwargs": added}


@torch.no_grad()
def published(pipeline: Any) -> Tensor:
    """The loop itself, from the picture to the picture."""
    generator = torch.Generator().manual_seed(SEED)
    scale = pipeline.vae.config.scaling_factor
    image = 2 * ((picture() + 1) / 2) - 1  # as it comes out of a processor of pictures in [0, 1]
    encoded = pipeline.vae.encode(image).latent_dist.sample(generator)
    clean = scale * encoded
    noise = torch.randn(clean.shape, generator=generator)
    prompt, more = embeddings(pipeline)
    scheduler = type(pipeline.scheduler).from_config(pipeline.scheduler.config)
    scheduler.set_timesteps(STEPS)
    levels = type(pipeline.scheduler).from_config(pipeline.scheduler.config)
    levels.set_timesteps(STEPS)
    order = scheduler.order
    timesteps = scheduler.timesteps
    keep = 1 - strength()[..., ::8, ::8]
    for index, t in enumerate(timesteps):
        first_of_step = order == 1 or index == 0 or index % order == 0
        if first_of_step:
            step = index // order
            original = levels.add_noise(clean, noise, t.reshape(1))
            if step == 0:
                latents = original
            else:
                mask = (keep > step / STEPS).float()
                latents = original * mask + latents * (1 - mask)
        scaled = scheduler.scale_model_input(torch.cat([latents] * 2), t)
        predicted = pipeline.unet(scaled, t, encoder_hidden_states=prompt, **more).sample
        negative, positive = predicted.chunk(2)
        guided = negative + GUIDANCE * (positive - negative)
        latents = scheduler.step(guided, t, latents).prev_sample
    decoded = pipeline.vae.decode(latents / scale).sample
    return ((decoded / 2 + 0.5).clamp(0, 1)) * 2 - 1


def ours(pipeline: Any, **given: Any) -> Tensor:
    chosen = PipelineSettings(
        prompt=PROMPT,
        negative_prompt=NEGATIVE,
        guidance_scale=GUIDANCE,
        compat="published",
        exact=False,
        **given,
    )
    model = PipelineModel("published", pipeline)
    return model.sample(picture(), strength(), (SEED,), STEPS, chosen)


@pytest.mark.parametrize(
    ("family", "scheduler"),
    [(f, s) for f in ("sd1", "sdxl") for s in SCHEDULERS if (f, s) != ("sdxl", "heun")],
)
def test_bit_equal_to_the_published_loop(family: str, scheduler: str) -> None:
    pipeline = with_scheduler(family, scheduler)
    assert torch.equal(ours(pipeline, skip_idle=False), published(pipeline))


@pytest.mark.parametrize("family", ["sd1", "sdxl"])
@pytest.mark.parametrize("scheduler", ONE_STEP)
def test_skipping_idle_steps_changes_nothing_for_one_step_solvers(
    family: str, scheduler: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    weak = 0.5 * strength()
    monkeypatch.setitem(globals(), "strength", lambda: weak)
    pipeline = with_scheduler(family, scheduler)
    counted = []
    with pipeline.unet.register_forward_hook(lambda *_: counted.append(1)):
        made = ours(pipeline)
    assert len(counted) == STEPS - max(0, 3 - 1)  # ceil((1 - 0.5) 6) = 3
    assert torch.equal(made, published(pipeline))
