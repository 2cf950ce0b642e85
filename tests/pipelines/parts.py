"""What the families share: the registry, tokenizers, text encoders, autoencoders, U-Nets."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from transformers import BatchEncoding, PreTrainedTokenizerFast

if TYPE_CHECKING:
    from diffusers import DiffusionPipeline

FAMILIES: dict[str, Callable[[], DiffusionPipeline]] = {}

WIDTH = 32
BLOCKS = (16, 32)
GROUPS = 8
CHAT = "{% for m in messages %}<|im_start|>{{ m.role }} {{ m.content }}<|im_end|>{% endfor %}"
STABLE = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}


def family(build: Callable[[], Any]) -> Callable[[], DiffusionPipeline]:
    """Register a builder under its name; its weights are drawn from seed 0."""

    @wraps(build)
    def seeded() -> DiffusionPipeline:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            pipe: DiffusionPipeline = build()
            for part in modules(pipe):
                draw_zeros(part.eval().requires_grad_(False))
        pipe.set_progress_bar_config(disable=True)
        return pipe

    FAMILIES[build.__name__] = seeded
    return seeded


def modules(pipe: DiffusionPipeline) -> list[nn.Module]:
    return [part for part in pipe.components.values() if isinstance(part, nn.Module)]


def draw_zeros(part: nn.Module) -> None:
    for parameter in part.parameters():
        if not parameter.any():
            parameter.normal_(std=0.1)


def realigned(pipe: DiffusionPipeline) -> DiffusionPipeline:
    """A pipeline that was loaded, ready to be compared with the one saved, bit for bit.

    Loaded weights are views of the file and begin at any address; for some, the matrix product
    takes its other path, with other last bits. Copies begin where fresh weights do. So it does for
    weights that want a gradient, even where none is taken.
    """
    for part in modules(pipe):
        part.requires_grad_(False)
        for parameter in part.parameters():
            parameter.data = parameter.data.clone()
    pipe.set_progress_bar_config(disable=True)
    return pipe


# Tokenizers: one token for each byte.


def alphabet() -> list[str]:
    from tokenizers.pre_tokenizers import ByteLevel

    return sorted(ByteLevel.alphabet())


def clip_tokenizer() -> Any:
    from transformers import CLIPTokenizer

    letters = alphabet()
    tokens = [*letters, *(f"{c}</w>" for c in letters), "<|startoftext|>", "<|endoftext|>"]
    with TemporaryDirectory() as folder:
        vocabulary = {token: index for index, token in enumerate(tokens)}
        Path(folder, "vocab.json").write_text(json.dumps(vocabulary), "utf-8")
        Path(folder, "merges.txt").write_text("#version: 0.2\n", "utf-8")
        return CLIPTokenizer.from_pretrained(folder, model_max_length=77)


class PlacedTokenizer(PreTrainedTokenizerFast):  # type: ignore[misc]
    """Also numbers the tokens, as ChatGLM's does.

    Diffusers loads it by this module's name, and learns how from its base class, imported here.
    """

    def __call__(self, *args: Any, **kwargs: Any) -> BatchEncoding:
        encoded = super().__call__(*args, **kwargs)
        encoded["position_ids"] = (encoded["attention_mask"].cumsum(-1) - 1).clamp(min=0)
        return encoded


def byte_tokenizer(kind: type[Any] = PreTrainedTokenizerFast, **settings: Any) -> Any:
    """In place of T5's, Qwen's and ChatGLM's; with a chat template."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors

    tokens = ["<pad>", "</s>", "<|im_start|>", "<|im_end|>", *alphabet()]
    vocabulary = {token: index for index, token in enumerate(tokens)}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="$A </s>", special_tokens=[("</s>", vocabulary["</s>"])]
    )
    made = kind(tokenizer_object=tokenizer, pad_token="<pad>", eos_token="</s>", **settings)
    made.chat_template = CHAT
    return made


# Text encoders.


def clip(*, projection: bool = False) -> Any:
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

    start = 2 * len(alphabet())
    config = CLIPTextConfig(
        vocab_size=start + 2,
        hidden_size=WIDTH,
        intermediate_size=WIDTH,
        projection_dim=WIDTH,
        num_hidden_layers=2,
        num_attention_heads=2,
        bos_token_id=start,
        eos_token_id=start + 1,
        pad_token_id=start + 1,
    )
    return CLIPTextModelWithProjection(config) if projection else CLIPTextModel(config)


def t5(width: int = WIDTH) -> Any:
    from transformers import T5Config, T5EncoderModel

    config = T5Config(
        vocab_size=4 + len(alphabet()),
        d_model=width,
        d_kv=8,
        d_ff=WIDTH,
        num_layers=2,
        num_heads=2,
    )
    return T5EncoderModel(config)


# Autoencoders and U-Nets.


def vae(channels: int = 4, **settings: Any) -> Any:
    from diffusers import AutoencoderKL

    return AutoencoderKL(
        block_out_channels=(8, 8, 16, 16),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        latent_channels=channels,
        norm_num_groups=GROUPS,
        sample_size=64,
        force_upcast=False,
        **settings,
    )


def unet(**settings: Any) -> Any:
    from diffusers import UNet2DConditionModel

    defaults = {
        "sample_size": 8,
        "block_out_channels": BLOCKS,
        "layers_per_block": 1,
        "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
        "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
        "attention_head_dim": 2,
        "norm_num_groups": GROUPS,
        "cross_attention_dim": WIDTH,
    }
    return UNet2DConditionModel(**{**defaults, **settings})


def xl_unet(**settings: Any) -> Any:
    """A U-Net that also takes a pooled text embedding and six sizes."""
    return unet(
        addition_embed_type="text_time",
        addition_time_embed_dim=8,
        projection_class_embeddings_input_dim=WIDTH + 6 * 8,
        use_linear_projection=True,
        **settings,
    )


def ddim(**settings: Any) -> Any:
    from diffusers import DDIMScheduler

    return DDIMScheduler(
        **STABLE, clip_sample=False, set_alpha_to_one=False, steps_offset=1, **settings
    )


def euler() -> Any:
    from diffusers import EulerDiscreteScheduler

    return EulerDiscreteScheduler(**STABLE, steps_offset=1, timestep_spacing="leading")
