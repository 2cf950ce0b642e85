"""Other pipelines around a U-Net: Kolors, Kandinsky 2.2 and 3, and one without a condition."""

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
    clip,
    clip_tokenizer,
    euler,
    family,
    t5,
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


def movq() -> Any:
    from diffusers import VQModel

    return VQModel(
        block_out_channels=(32, 32, 32, 32),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        latent_channels=4,
        num_vq_embeddings=16,
        norm_num_groups=GROUPS,
        norm_type="spatial",
        vq_embed_dim=4,
    )


def kandinsky22_parts() -> dict[str, Any]:
    from diffusers import DDPMScheduler

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
    scheduler = DDPMScheduler(**STABLE, clip_sample=False, variance_type="learned_range")
    return {"unet": denoiser, "scheduler": scheduler, "movq": movq()}


@family
def kandinsky22() -> Any:
    from diffusers import KandinskyV22Img2ImgPipeline

    return KandinskyV22Img2ImgPipeline(**kandinsky22_parts())


@family
def kandinsky22_combined() -> Any:
    """A prior makes of the prompt what the other takes in its place."""
    from diffusers import KandinskyV22Img2ImgCombinedPipeline, PriorTransformer, UnCLIPScheduler
    from transformers import CLIPImageProcessor, CLIPVisionConfig, CLIPVisionModelWithProjection

    prior = PriorTransformer(
        num_attention_heads=2, attention_head_dim=8, num_layers=1, embedding_dim=WIDTH
    )
    prior.clip_std.data.fill_(1.0)
    sizes = {"hidden_size": WIDTH, "intermediate_size": WIDTH, "projection_dim": WIDTH}
    layers = {"num_hidden_layers": 1, "num_attention_heads": 2}
    vision = CLIPVisionConfig(**sizes, **layers, image_size=16, patch_size=8)
    return KandinskyV22Img2ImgCombinedPipeline(
        **kandinsky22_parts(),
        prior_prior=prior,
        prior_image_encoder=CLIPVisionModelWithProjection(vision),
        prior_text_encoder=clip(projection=True),
        prior_tokenizer=clip_tokenizer(),
        prior_scheduler=UnCLIPScheduler(prediction_type="sample"),
        prior_image_processor=CLIPImageProcessor(size=16, crop_size=16),
    )


@family
def kandinsky3() -> Any:
    from diffusers import DDPMScheduler, Kandinsky3Img2ImgPipeline, Kandinsky3UNet

    denoiser = Kandinsky3UNet(
        time_embedding_dim=16,
        groups=2,
        attention_head_dim=8,
        layers_per_block=2,
        block_out_channels=BLOCKS,
        cross_attention_dim=16,
        encoder_hid_dim=WIDTH,
    )
    return Kandinsky3Img2ImgPipeline(
        tokenizer=byte_tokenizer(),
        text_encoder=t5(),
        unet=denoiser,
        scheduler=DDPMScheduler(**STABLE, clip_sample=False),
        movq=movq(),
    )


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
