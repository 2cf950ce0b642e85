"""Flow-matching transformers: SD3, Flux, Chroma, Qwen-Image, Z-Image, SANA-Sprint."""

from __future__ import annotations

from typing import Any

from .parts import WIDTH, alphabet, byte_tokenizer, clip, clip_tokenizer, family, t5, vae

HEADS = {"attention_head_dim": 8, "num_attention_heads": 2}


def flow_vae() -> Any:
    return vae(
        16, scaling_factor=0.36, shift_factor=0.12, use_quant_conv=False, use_post_quant_conv=False
    )


def flow(**settings: Any) -> Any:
    from diffusers import FlowMatchEulerDiscreteScheduler

    return FlowMatchEulerDiscreteScheduler(**settings)


def qwen_text() -> dict[str, Any]:
    return {
        "vocab_size": 4 + len(alphabet()),
        "hidden_size": WIDTH,
        "intermediate_size": WIDTH,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 2,
        "max_position_embeddings": 1024,
        "initializer_range": 0.2,
        "bos_token_id": None,
        "eos_token_id": 1,
        "pad_token_id": 0,
    }


def qwen3() -> Any:
    from transformers import Qwen3Config, Qwen3Model

    return Qwen3Model(Qwen3Config(**qwen_text(), head_dim=16))


def qwen_vl() -> Any:
    from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

    rope = {"type": "mrope", "rope_type": "default", "mrope_section": [2, 3, 3]}
    vision = {
        "depth": 1,
        "hidden_size": 16,
        "intermediate_size": 16,
        "num_heads": 2,
        "out_hidden_size": WIDTH,
        "fullatt_block_indexes": [0],
    }
    text = {**qwen_text(), "rope_scaling": rope}
    config = Qwen2_5_VLConfig(text_config=text, vision_config=vision)
    return Qwen2_5_VLForConditionalGeneration(config)


@family
def sd3() -> Any:
    from diffusers import SD3Transformer2DModel, StableDiffusion3Img2ImgPipeline

    transformer = SD3Transformer2DModel(
        sample_size=8,
        num_layers=2,
        joint_attention_dim=2 * WIDTH,
        caption_projection_dim=16,
        pooled_projection_dim=2 * WIDTH,
        pos_embed_max_size=16,
        **HEADS,
    )
    return StableDiffusion3Img2ImgPipeline(
        transformer=transformer,
        scheduler=flow(shift=3.0),
        vae=flow_vae(),
        text_encoder=clip(projection=True),
        tokenizer=clip_tokenizer(),
        text_encoder_2=clip(projection=True),
        tokenizer_2=clip_tokenizer(),
        text_encoder_3=t5(2 * WIDTH),
        tokenizer_3=byte_tokenizer(),
    )


FLUX = {
    "num_layers": 1,
    "num_single_layers": 1,
    "joint_attention_dim": WIDTH,
    "axes_dims_rope": (2, 2, 4),
    **HEADS,
}


def flux_network(**settings: Any) -> Any:
    from diffusers import FluxTransformer2DModel

    return FluxTransformer2DModel(
        **FLUX, pooled_projection_dim=WIDTH, guidance_embeds=True, **settings
    )


def flux_parts() -> dict[str, Any]:
    return {
        "scheduler": flow(shift=3.0, use_dynamic_shifting=True),
        "vae": flow_vae(),
        "text_encoder": clip(),
        "tokenizer": clip_tokenizer(),
        "text_encoder_2": t5(),
        "tokenizer_2": byte_tokenizer(),
    }


@family
def flux() -> Any:
    from diffusers import FluxImg2ImgPipeline

    return FluxImg2ImgPipeline(transformer=flux_network(), **flux_parts())


@family
def flux_control() -> Any:
    """Its transformer sees the control image's latents beside the picture's."""
    from diffusers import FluxControlImg2ImgPipeline

    transformer = flux_network(in_channels=128, out_channels=64)
    return FluxControlImg2ImgPipeline(transformer=transformer, **flux_parts())


@family
def flux_controlnet() -> Any:
    from diffusers import FluxControlNetImg2ImgPipeline, FluxControlNetModel

    control = FluxControlNetModel(**FLUX, pooled_projection_dim=WIDTH, guidance_embeds=True)
    return FluxControlNetImg2ImgPipeline(
        transformer=flux_network(), controlnet=control, **flux_parts()
    )


@family
def chroma() -> Any:
    from diffusers import ChromaImg2ImgPipeline, ChromaTransformer2DModel

    transformer = ChromaTransformer2DModel(
        **FLUX,
        approximator_num_channels=8,
        approximator_hidden_dim=16,
        approximator_layers=1,
    )
    return ChromaImg2ImgPipeline(
        transformer=transformer,
        scheduler=flow(shift=3.0),
        vae=flow_vae(),
        text_encoder=t5(),
        tokenizer=byte_tokenizer(),
    )


@family
def qwen_image() -> Any:
    from diffusers import (
        AutoencoderKLQwenImage,
        QwenImageImg2ImgPipeline,
        QwenImageTransformer2DModel,
    )

    transformer = QwenImageTransformer2DModel(
        num_layers=2, joint_attention_dim=WIDTH, axes_dims_rope=(2, 2, 4), **HEADS
    )
    return QwenImageImg2ImgPipeline(
        transformer=transformer,
        scheduler=flow(use_dynamic_shifting=True),
        vae=AutoencoderKLQwenImage(base_dim=8, dim_mult=[1, 1, 1, 1], num_res_blocks=1),
        text_encoder=qwen_vl(),
        tokenizer=byte_tokenizer(),
    )


@family
def z_image() -> Any:
    from diffusers import ZImageImg2ImgPipeline, ZImageTransformer2DModel

    transformer = ZImageTransformer2DModel(
        dim=16,
        n_layers=1,
        n_refiner_layers=1,
        n_heads=2,
        n_kv_heads=2,
        cap_feat_dim=WIDTH,
        axes_dims=[2, 2, 4],
        axes_lens=[1024, 64, 64],
    )
    return ZImageImg2ImgPipeline(
        transformer=transformer,
        scheduler=flow(shift=3.0),
        vae=flow_vae(),
        text_encoder=qwen3(),
        tokenizer=byte_tokenizer(),
    )


def gemma() -> Any:
    from transformers import Gemma2Config, Gemma2Model

    return Gemma2Model(Gemma2Config(**qwen_text(), head_dim=16))


@family
def sana_sprint() -> Any:
    """Its cells are 32 pixels wide, and it noises the picture without its scheduler."""
    from diffusers import (
        AutoencoderDC,
        SanaSprintImg2ImgPipeline,
        SanaTransformer2DModel,
        SCMScheduler,
    )

    blocks = {"block_out_channels": (8,) * 6, "layers_per_block": (1,) * 6}
    sides = {f"{side}_{name}": v for name, v in blocks.items() for side in ("encoder", "decoder")}
    transformer = SanaTransformer2DModel(
        in_channels=8,
        out_channels=8,
        num_layers=2,
        num_cross_attention_heads=2,
        cross_attention_head_dim=8,
        cross_attention_dim=16,
        caption_channels=WIDTH,
        sample_size=32,
        guidance_embeds=True,
        qk_norm="rms_norm_across_heads",
        **HEADS,
    )
    return SanaSprintImg2ImgPipeline(
        transformer=transformer,
        scheduler=SCMScheduler(prediction_type="trigflow", sigma_data=0.5),
        vae=AutoencoderDC(
            latent_channels=8,
            encoder_block_types="ResBlock",
            decoder_block_types="ResBlock",
            encoder_qkv_multiscales=((),) * 6,
            decoder_qkv_multiscales=((),) * 6,
            scaling_factor=0.4,
            **sides,
        ),
        text_encoder=gemma(),
        tokenizer=byte_tokenizer(),
    )
