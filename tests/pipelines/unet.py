"""Other pipelines around a U-Net: Kolors, Kandinsky 2.2, and one without a condition."""

from __future__ import annotations

from typing import Any

from torch import nn

from .parts import (
    BLOCKS,
    GROUPS,
    STABLE,
    WIDTH,
    PlacedTokenizer,
    alphabet,
    byte_tokenizer,
    euler,
    family,
    unet,
    vae,
    xl_unet,
)


def chat_glm() -> Any:
    """Its layers come with whatever was in memory, so every weight is drawn."""
    from diffusers.pipelines.kolors.text_encoder import ChatGLMConfig, ChatGLMModel

    config = ChatGLMConfig(
        num_layers=2,
        padded_vocab_size=4 + len(alphabet()),
        hidden_size=WIDTH,
        ffn_hidden_size=WIDTH,
        kv_channels=16,
        num_attention_heads=2,
        multi_query_attention=True,
        multi_query_group_num=1,
        seq_length=256,
        add_qkv_bias=True,
        original_rope=True,
    )
    model = ChatGLMModel(config)
    for name, parameter in model.named_parameters():
        is_norm = "norm" in name
        nn.init.normal_(parameter, mean=float(is_norm), std=0.0 if is_norm else 0.2)
    return model


@family
def kolors() -> Any:
    # By its own module: without sentencepiece, `diffusers` has a stand-in that refuses to work.
    from diffusers.pipelines.kolors.pipeline_kolors_img2img import KolorsImg2ImgPipeline

    return KolorsImg2ImgPipeline(
        vae=vae(scaling_factor=0.13025),
        text_encoder=chat_glm(),
        tokenizer=byte_tokenizer(PlacedTokenizer, padding_side="left"),
        unet=xl_unet(encoder_hid_dim=WIDTH, encoder_hid_dim_type="text_proj"),
        scheduler=euler(),
    )


@family
def kandinsky22() -> Any:
    from diffusers import DDPMScheduler, KandinskyV22Img2ImgPipeline, VQModel

    movq = VQModel(
        block_out_channels=(32, 32, 32, 32),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        latent_channels=4,
        num_vq_embeddings=16,
        norm_num_groups=GROUPS,
        norm_type="spatial",
        vq_embed_dim=4,
    )
    scheduler = DDPMScheduler(**STABLE, clip_sample=False, variance_type="learned_range")
    denoiser = unet(
        out_channels=8,
        down_block_types=("ResnetDownsampleBlock2D", "SimpleCrossAttnDownBlock2D"),
        mid_block_type="UNetMidBlock2DSimpleCrossAttn",
        up_block_types=("SimpleCrossAttnUpBlock2D", "ResnetUpsampleBlock2D"),
        addition_embed_type="image",
        encoder_hid_dim=WIDTH,
        encoder_hid_dim_type="image_proj",
        resnet_time_scale_shift="scale_shift",
    )
    return KandinskyV22Img2ImgPipeline(unet=denoiser, scheduler=scheduler, movq=movq)


@family
def ddpm() -> Any:
    from diffusers import DDPMPipeline, DDPMScheduler, UNet2DModel

    denoiser = UNet2DModel(
        sample_size=64,
        block_out_channels=BLOCKS,
        layers_per_block=1,
        down_block_types=("DownBlock2D", "AttnDownBlock2D"),
        up_block_types=("AttnUpBlock2D", "UpBlock2D"),
        norm_num_groups=GROUPS,
    )
    return DDPMPipeline(unet=denoiser, scheduler=DDPMScheduler())
