"""Stable Diffusion 1, 2 and XL, and pipelines made of their parts."""

from __future__ import annotations

from typing import Any

from .parts import (
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
def sd1_pag() -> Any:
    from diffusers import StableDiffusionPAGImg2ImgPipeline

    return StableDiffusionPAGImg2ImgPipeline(**stable_parts(), **UNCHECKED)


@family
def depth() -> Any:
    """Its U-Net sees a depth map beside the latents, given or estimated."""
    from diffusers import StableDiffusionDepth2ImgPipeline
    from transformers import DPTConfig, DPTForDepthEstimation, DPTImageProcessor

    estimator = DPTForDepthEstimation(
        DPTConfig(
            hidden_size=WIDTH,
            intermediate_size=WIDTH,
            num_hidden_layers=4,
            num_attention_heads=2,
            image_size=32,
            patch_size=8,
            backbone_out_indices=[0, 1, 2, 3],
            initializer_range=0.2,
            neck_hidden_sizes=[8] * 4,
            fusion_hidden_size=8,
        )
    )
    return StableDiffusionDepth2ImgPipeline(
        **stable_parts(in_channels=5),
        depth_estimator=estimator,
        feature_extractor=DPTImageProcessor(size={"height": 32, "width": 32}),
    )


@family
def inpaint() -> Any:
    from diffusers import StableDiffusionInpaintPipeline

    return StableDiffusionInpaintPipeline(**stable_parts(in_channels=9), **UNCHECKED)


@family
def sdxl_inpaint() -> Any:
    from diffusers import StableDiffusionXLInpaintPipeline

    return StableDiffusionXLInpaintPipeline(**xl_parts(in_channels=9))


def control_of(network: Any) -> Any:
    from diffusers import ControlNetModel

    control = ControlNetModel.from_unet(network, conditioning_embedding_out_channels=(8, 8, 8, 8))
    # Each of its eight fresh layers would shrink the control image to a third.
    for parameter in control.controlnet_cond_embedding.parameters():
        parameter.data *= 3
    return control


@family
def controlnet() -> Any:
    from diffusers import DPMSolverMultistepScheduler, StableDiffusionControlNetImg2ImgPipeline

    parts = stable_parts()
    parts["scheduler"] = DPMSolverMultistepScheduler(**STABLE, steps_offset=1)
    return StableDiffusionControlNetImg2ImgPipeline(
        **parts, controlnet=control_of(parts["unet"]), **UNCHECKED
    )


@family
def sdxl_controlnet() -> Any:
    from diffusers import StableDiffusionXLControlNetImg2ImgPipeline

    parts = xl_parts()
    return StableDiffusionXLControlNetImg2ImgPipeline(**parts, controlnet=control_of(parts["unet"]))


@family
def lcm() -> Any:
    from diffusers import LatentConsistencyModelImg2ImgPipeline, LCMScheduler

    parts = stable_parts(time_cond_proj_dim=16)
    parts["scheduler"] = LCMScheduler(**STABLE)
    return LatentConsistencyModelImg2ImgPipeline(**parts, **UNCHECKED)
