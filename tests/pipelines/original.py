"""Pipelines as one file, under the names of the models' first code (LDM, SDXL), as users have them.

The inverse of what Diffusers does when it reads such a file: for the U-Net, the autoencoder, and
CLIP under the names of Transformers (SD 1, and the first of SDXL's) or of open_clip (the second).
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from .parts import FAMILIES, WIDTH

Weights = dict[str, Tensor]

UNET_RESNET = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "time_emb_proj": "emb_layers.1",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "conv_shortcut": "skip_connection",
}
UNET_ENDS = {
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "add_embedding.linear_1": "label_emb.0.0",
    "add_embedding.linear_2": "label_emb.0.2",
    "conv_in": "input_blocks.0.0",
    "conv_norm_out": "out.0",
    "conv_out": "out.2",
}
VAE = {
    "mid_block.attentions.0": "mid.attn_1",
    "mid_block.resnets.0": "mid.block_1",
    "mid_block.resnets.1": "mid.block_2",
    "down_blocks": "down",
    "up_blocks": "up",
    "resnets": "block",
    "downsamplers.0": "downsample",
    "upsamplers.0": "upsample",
    "conv_shortcut": "nin_shortcut",
    "conv_norm_out": "norm_out",
    "group_norm": "norm",
    "to_q": "q",
    "to_k": "k",
    "to_v": "v",
    "to_out.0": "proj_out",
}
OPEN_CLIP = {
    "text_model.encoder.layers": "transformer.resblocks",
    "text_model.final_layer_norm": "ln_final",
    "text_model.embeddings.token_embedding": "token_embedding",
    "text_model.embeddings.position_embedding.weight": "positional_embedding",
    "text_projection.weight": "text_projection",
    "layer_norm1": "ln_1",
    "layer_norm2": "ln_2",
    "fc1": "c_fc",
    "fc2": "c_proj",
    "self_attn": "attn",
}


def two_width_sdxl() -> Any:
    """SDXL with text encoders of unequal widths, by which Diffusers tells them apart in a file."""
    from transformers import CLIPTextModel, CLIPTextModelWithProjection

    pipe: Any = FAMILIES["sdxl"]()
    first, second = pipe.text_encoder.config, pipe.text_encoder_2.config
    first.hidden_size, second.hidden_size = WIDTH - 8, WIDTH + 8
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        pipe.text_encoder = CLIPTextModel(first).eval().requires_grad_(False)
        wide = CLIPTextModelWithProjection(second).eval().requires_grad_(False)
        pipe.text_encoder_2 = wide
    return pipe


def save_original(pipe: Any, path: Path) -> Path:
    """Save a pipeline of Stable Diffusion 1 or XL as one file."""
    save_file(original(pipe), path)
    return path


def original(pipe: Any) -> Weights:
    """The weights of a pipeline of Stable Diffusion 1 or XL under their first names."""
    parts = {"model.diffusion_model": unet(pipe.unet), "first_stage_model": vae(pipe.vae)}
    if hasattr(pipe, "text_encoder_2"):
        parts["conditioner.embedders.0.transformer"] = clip(pipe.text_encoder)
        parts["conditioner.embedders.1.model"] = open_clip(pipe.text_encoder_2)
    else:
        parts["cond_stage_model.transformer"] = clip(pipe.text_encoder)
    weights = {f"{part}.{name}": tensor for part in parts for name, tensor in parts[part].items()}
    weights["alphas_cumprod"] = pipe.scheduler.alphas_cumprod  # in real files too, where it is idle
    return {name: tensor.contiguous() for name, tensor in weights.items()}


def unet(module: Any) -> Weights:
    """Blocks are numbered through; a downsampler is one of its own, an upsampler ends one."""
    weights = module.state_dict()
    depth = module.config.layers_per_block + 1

    def place(found: re.Match[str]) -> str:
        way, block, kind, layer = found["way"], int(found["block"]), found["kind"], found["layer"]
        if kind.endswith("samplers"):
            last = (block + 1) * depth - 1
            if way == "down":
                return f"input_blocks.{1 + last}.0.op."
            behind = 2 if f"up_blocks.{block}.attentions.0.norm.weight" in weights else 1
            return f"output_blocks.{last}.{behind}.conv."
        index = block * depth + int(layer)
        side = f"input_blocks.{1 + index}" if way == "down" else f"output_blocks.{index}"
        return f"{side}.{int(kind == 'attentions')}."

    def named(name: str) -> str:
        if ".resnets." in name:
            name = renamed(name, UNET_RESNET)
        name = re.sub(r"^mid_block\.attentions\.0", "middle_block.1", name)
        name = re.sub(r"^mid_block\.resnets\.(\d)", lambda m: f"middle_block.{2 * int(m[1])}", name)
        blocks = (
            r"^(?P<way>down|up)_blocks\.(?P<block>\d+)\.(?P<kind>\w+)\.(?P<layer>\d+)\.(conv\.)?"
        )
        return renamed(re.sub(blocks, place, name), UNET_ENDS)

    return {named(name): tensor for name, tensor in weights.items()}


def vae(module: Any) -> Weights:
    """The decoder's blocks are counted from its end; attention is of convolutions."""
    last = len(module.config.up_block_types) - 1
    weights = {}
    for name, tensor in module.state_dict().items():
        if ".attentions." in name and tensor.ndim == 2:
            tensor = tensor[:, :, None, None]
        turned = re.sub(r"(?<=up_blocks\.)\d+", lambda m: str(last - int(m[0])), name)
        weights[renamed(turned, VAE)] = tensor
    return weights


def clip(module: Any) -> Weights:
    """Newer versions of Transformers leave the prefix out."""
    return {
        name if name.startswith("text_") else f"text_model.{name}": tensor
        for name, tensor in module.state_dict().items()
    }


def open_clip(module: Any) -> Weights:
    """Queries, keys and values are one matrix; the projection is turned."""
    weights = clip(module)
    weights["text_projection.weight"] = weights["text_projection.weight"].T
    for name in [name for name in weights if ".q_proj." in name]:
        parts = [weights.pop(name.replace(".q_proj.", f".{part}_proj.")) for part in "qkv"]
        weights[name.replace(".q_proj.", ".in_proj_")] = torch.cat(parts)
    return {renamed(name, OPEN_CLIP): tensor for name, tensor in weights.items()}


def renamed(name: str, names: dict[str, str]) -> str:
    for now, then in names.items():
        name = re.sub(rf"(?:^|(?<=\.)){re.escape(now)}(?=\.|$)", then, name)
    return name
