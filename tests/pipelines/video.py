"""Video-to-video pipelines: AnimateDiff, Wan, CogVideoX.

AnimateDiff's latents have a frame for each of the video's. The others' autoencoders make one of the
first frame, and one of each four that follow.
"""

from __future__ import annotations

from typing import Any

from .parts import BLOCKS, GROUPS, WIDTH, byte_tokenizer, family, t5
from .stable import stable_parts


@family
def animatediff() -> Any:
    from diffusers import AnimateDiffVideoToVideoPipeline, MotionAdapter

    adapter = MotionAdapter(
        block_out_channels=BLOCKS,
        motion_layers_per_block=1,
        motion_num_attention_heads=2,
        motion_norm_num_groups=GROUPS,
    )
    return AnimateDiffVideoToVideoPipeline(**stable_parts(), motion_adapter=adapter)


@family
def wan() -> Any:
    from diffusers import (
        AutoencoderKLWan,
        UniPCMultistepScheduler,
        WanTransformer3DModel,
        WanVideoToVideoPipeline,
    )

    transformer = WanTransformer3DModel(
        num_attention_heads=2,
        attention_head_dim=12,
        text_dim=WIDTH,
        freq_dim=16,
        ffn_dim=WIDTH,
        num_layers=2,
        rope_max_seq_len=32,
    )
    scheduler = UniPCMultistepScheduler(
        prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0
    )
    return WanVideoToVideoPipeline(
        transformer=transformer,
        scheduler=scheduler,
        vae=AutoencoderKLWan(base_dim=4, dim_mult=[1, 1, 1, 1], num_res_blocks=1),
        text_encoder=t5(),
        tokenizer=byte_tokenizer(),
    )


@family
def cogvideox() -> Any:
    from diffusers import (
        AutoencoderKLCogVideoX,
        CogVideoXDDIMScheduler,
        CogVideoXTransformer3DModel,
        CogVideoXVideoToVideoPipeline,
    )

    transformer = CogVideoXTransformer3DModel(
        num_attention_heads=2,
        attention_head_dim=16,
        in_channels=4,
        out_channels=4,
        time_embed_dim=16,
        text_embed_dim=WIDTH,
        num_layers=2,
        sample_width=8,
        sample_height=8,
        sample_frames=9,
        max_text_seq_length=32,
        use_rotary_positional_embeddings=True,
    )
    scheduler = CogVideoXDDIMScheduler(
        beta_schedule="scaled_linear",
        prediction_type="v_prediction",
        rescale_betas_zero_snr=True,
        snr_shift_scale=1.0,
        clip_sample=False,
        set_alpha_to_one=True,
        timestep_spacing="trailing",
    )
    vae = AutoencoderKLCogVideoX(
        block_out_channels=(8, 8, 8, 8),
        latent_channels=4,
        layers_per_block=1,
        norm_num_groups=GROUPS // 4,
        sample_height=64,
        sample_width=64,
        scaling_factor=0.7,
    )
    return CogVideoXVideoToVideoPipeline(
        transformer=transformer,
        scheduler=scheduler,
        vae=vae,
        text_encoder=t5(),
        tokenizer=byte_tokenizer(),
    )
