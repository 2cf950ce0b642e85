"""What belongs to a pipeline stays in force: LoRA, textual inversion, IP-Adapter, tiling, prompts.

Each changes the picture, changes it as it changes the plain pipeline's, and works with a map.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from differential_diffusion.models.pipeline import PipelineSettings
from differential_diffusion.models.pipeline_load import wrap_pipeline

from ..pipelines import FAMILIES

STEPS, SEED = 4, 5
PROMPT = "a red barn in the snow"


def picture() -> Tensor:
    row, column = torch.meshgrid(torch.arange(64), torch.arange(64), indexing="ij")
    waves = torch.stack([(row / 9).sin(), (column / 7).sin(), ((row + column) / 5).sin()])
    return (0.8 * waves)[None].float()


def edited(pipe: Any, strength: Tensor, prompt: str | None = PROMPT, **kwargs: Any) -> Tensor:
    settings = PipelineSettings(prompt=prompt, pipeline_kwargs=kwargs)
    return wrap_pipeline(pipe).sample(picture(), strength, (SEED,), STEPS, settings)


def plain(pipe: Any, prompt: str | None = PROMPT, **kwargs: Any) -> Tensor:
    if type(pipe).__name__ == "FluxImg2ImgPipeline":
        kwargs |= {"height": 64, "width": 64}  # else it would enlarge the picture
    made: Tensor = pipe(
        prompt=prompt,
        image=(picture() + 1) / 2,
        strength=0.5,
        num_inference_steps=STEPS,
        generator=torch.Generator().manual_seed(SEED),
        output_type="pt",
        **kwargs,
    ).images
    return made * 2 - 1


def check(pipe: Any, without: Tensor, prompt: str | None = PROMPT, **kwargs: Any) -> None:
    """As in the plain pipeline, other than `without` it, and in a map's moving part alone."""
    one_for_all = edited(pipe, torch.full((1, 1, 1, 1), 0.5), prompt, **kwargs)
    assert torch.equal(one_for_all, plain(pipe, prompt, **kwargs))
    assert (one_for_all - without).abs().max() > 0.01
    halves = torch.zeros(1, 1, 64, 64)
    halves[..., 32:] = 0.5
    made = edited(pipe, halves, prompt, **kwargs)
    assert torch.equal(made[..., :32], picture()[..., :32])
    assert (made - picture())[..., 40:].abs().max() > 0.01


@pytest.mark.parametrize("family", ["sd1", "sdxl"])
def test_lora_loaded_from_a_file(family: str, tmp_path: Path) -> None:
    from peft import LoraConfig
    from peft.utils import get_peft_model_state_dict

    pipe = FAMILIES[family]()
    without = plain(pipe)
    torch.manual_seed(0)
    donor = FAMILIES[family]()
    config = LoraConfig(
        r=2, lora_alpha=8, init_lora_weights=False, target_modules=["to_q", "to_k", "to_v"]
    )
    donor.unet.add_adapter(config)
    donor.save_lora_weights(tmp_path, unet_lora_layers=get_peft_model_state_dict(donor.unet))
    assert [file.suffix for file in tmp_path.iterdir()] == [".safetensors"]

    pipe.load_lora_weights(tmp_path, adapter_name="barn")
    check(pipe, without)
    full = plain(pipe)
    check(pipe, full, cross_attention_kwargs={"scale": 0.2})
    pipe.unload_lora_weights()
    assert torch.equal(plain(pipe), without)


def test_textual_inversion() -> None:
    pipe = FAMILIES["sd1"]()
    prompt = "a <barn> in the snow"
    without = plain(pipe, prompt)
    word = torch.randn(1, 32, generator=torch.Generator().manual_seed(0))
    pipe.load_textual_inversion({"<barn>": word}, token="<barn>")
    check(pipe, without, prompt)


def test_ip_adapter() -> None:
    pipe = FAMILIES["sd1"]()
    without = plain(pipe)
    generator = torch.Generator().manual_seed(0)

    def drawn(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator) / 3

    width = pipe.unet.config.cross_attention_dim
    layers = {}
    for index, name in enumerate(pipe.unet.attn_processors):
        if name.endswith("attn2.processor"):
            attention = pipe.unet.get_submodule(name.removesuffix(".processor"))
            for part in ("to_k_ip", "to_v_ip"):
                layers[f"{index}.{part}.weight"] = drawn(attention.inner_dim, width)
    projected = {
        "proj.weight": drawn(4 * width, 16),
        "proj.bias": drawn(4 * width),
        "norm.weight": torch.ones(width),
        "norm.bias": torch.zeros(width),
    }
    pipe.load_ip_adapter(
        {"image_proj": projected, "ip_adapter": layers},
        subfolder="",
        weight_name="",
        image_encoder_folder=None,
    )
    pipe.set_ip_adapter_scale(0.8)
    seen = [torch.cat([torch.zeros(1, 1, 16), drawn(1, 1, 16)])]
    check(pipe, without, ip_adapter_image_embeds=seen)


@pytest.mark.parametrize("family", ["sd1", "sdxl", "flux", "z_image"])
def test_prompts_as_embeddings(family: str) -> None:
    pipe = FAMILIES[family]()
    without = plain(pipe, "two blue boats")
    made = pipe.encode_prompt(
        prompt=PROMPT,
        device=torch.device("cpu"),
        **({"prompt_2": PROMPT} if family == "flux" else {}),
        **({"num_images_per_prompt": 1} if family == "sd1" else {}),
        **({} if family == "flux" else {"do_classifier_free_guidance": True}),
    )
    names = {
        "sd1": ("prompt_embeds", "negative_prompt_embeds"),
        "sdxl": (
            "prompt_embeds",
            "negative_prompt_embeds",
            "pooled_prompt_embeds",
            "negative_pooled_prompt_embeds",
        ),
        "flux": ("prompt_embeds", "pooled_prompt_embeds"),
        "z_image": ("prompt_embeds", "negative_prompt_embeds"),
    }[family]
    check(pipe, without, None, **dict(zip(names, made, strict=False)))


def test_tiled_and_sliced_autoencoders() -> None:
    pipe = FAMILIES["sd1"]()
    without = plain(pipe)
    pipe.vae.enable_slicing()
    pipe.vae.enable_tiling()
    pipe.vae.tile_sample_min_size, pipe.vae.tile_latent_min_size = 32, 4
    check(pipe, without)


def test_arguments_of_the_call() -> None:
    pipe = FAMILIES["sd1"]()
    check(pipe, plain(pipe), guidance_scale=2.0)
    check(pipe, plain(pipe), negative_prompt="two blue boats")
    check(pipe, plain(pipe), eta=1.0)
