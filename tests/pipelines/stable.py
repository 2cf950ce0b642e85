"""Stable Diffusion 1, 2 and XL, and pipelines made of their parts."""

from __future__ import annotations

from typing import Any

from .parts import (
    BLOCKS,
    GROUPS,
    STABLE,
    WIDTH,
    clip,
    clip_tokenizer,
    ddim,
    euler,
    family,
    unet,
    vae,
    xl_unet,
)


def stable_parts(**settings: Any) -> dict[str, Any]:
    return {
        "vae": vae(),
        "text_encoder": clip(),
        "tokenizer": clip_tokenizer(),
        "unet": unet(**settings),
        "scheduler": ddim(),
    }


UNCHECKED = {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False}


def xl_parts(**settings: Any) -> dict[str, Any]:
    return {
        "vae": vae(scaling_factor=0.13025),
        "text_encoder": clip(),
        "text_encoder_2": clip(projection=True),
        "tokenizer": clip_tokenizer(),
        "tokenizer_2": clip_tokenizer(),
        "unet": xl_unet(cross_attention_dim=2 * WIDTH, **settings),
        "scheduler": euler(),
    }


@family
def sd1() -> Any:
    from diffusers import StableDiffusionImg2ImgPipeline

    return StableDiffusionImg2ImgPipeline(**stable_parts(), **UNCHECKED)


@family
def sd1_text() -> Any:
    from diffusers import StableDiffusionPipeline

    return StableDiffusionPipeline(**stable_parts(), **UNCHECKED)


@family
def sd2() -> Any:
    from diffusers import StableDiffusionImg2ImgPipeline

    parts = stable_parts(use_linear_projection=True)
    parts["scheduler"] = ddim(prediction_type="v_prediction")
    return StableDiffusionImg2ImgPipeline(**parts, **UNCHECKED)


@family
def sdxl() -> Any:
    from diffusers import StableDiffusionXLImg2ImgPipeline

    return StableDiffusionXLImg2ImgPipeline(**xl_parts())


@family
def sdxl_text() -> Any:
    from diffusers import StableDiffusionXLPipeline

    return StableDiffusionXLPipeline(**xl_parts())


@family
def inpaint() -> Any:
    from diffusers import StableDiffusionInpaintPipeline

    return StableDiffusionInpaintPipeline(**stable_parts(in_channels=9), **UNCHECKED)


@family
def sdxl_inpaint() -> Any:
    from diffusers import StableDiffusionXLInpaintPipeline

    return StableDiffusionXLInpaintPipeline(**xl_parts(in_channels=9))


@family
def controlnet() -> Any:
    from diffusers import (
        ControlNetModel,
        DPMSolverMultistepScheduler,
        StableDiffusionControlNetImg2ImgPipeline,
    )

    parts = stable_parts()
    parts["scheduler"] = DPMSolverMultistepScheduler(**STABLE, steps_offset=1)
    control = ControlNetModel.from_unet(
        parts["unet"], conditioning_embedding_out_channels=(8, 8, 8, 8)
    )
    # Each of its eight fresh layers would shrink the control image to a third.
    for parameter in control.controlnet_cond_embedding.parameters():
        parameter.data *= 3
    parts["controlnet"] = control
    return StableDiffusionControlNetImg2ImgPipeline(**parts, **UNCHECKED)


@family
def lcm() -> Any:
    from diffusers import LatentConsistencyModelImg2ImgPipeline, LCMScheduler

    parts = stable_parts(time_cond_proj_dim=16)
    parts["scheduler"] = LCMScheduler(**STABLE)
    return LatentConsistencyModelImg2ImgPipeline(**parts, **UNCHECKED)


@family
def video() -> Any:
    from diffusers import AnimateDiffVideoToVideoPipeline, MotionAdapter

    adapter = MotionAdapter(
        block_out_channels=BLOCKS,
        motion_layers_per_block=1,
        motion_num_attention_heads=2,
        motion_norm_num_groups=GROUPS,
    )
    return AnimateDiffVideoToVideoPipeline(**stable_parts(), motion_adapter=adapter)
