"""How each family is called."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from .parts import WIDTH

PROMPTS = ("a red barn in the snow", "two blue boats")
FRAMES = 9

Keywords = dict[str, Any]


def drawn(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def pictured(image: Tensor) -> Keywords:
    return {"image": image}


def sizes(image: Tensor) -> Keywords:
    return {"height": image.shape[-2], "width": image.shape[-1]}


def sized(image: Tensor) -> Keywords:
    return {"image": image, **sizes(image)}


def masked(image: Tensor) -> Keywords:
    """The left half is to be painted anew."""
    mask = torch.zeros(1, 1, *image.shape[-2:])
    mask[..., : image.shape[-1] // 2] = 1
    return {**sized(image), "mask_image": mask}


def controlled(image: Tensor) -> Keywords:
    control = drawn(1, 3, *image.shape[-2:], seed=3).sigmoid()
    return {"image": image, "control_image": control}


def sized_and_controlled(image: Tensor) -> Keywords:
    return {**controlled(image), **sizes(image)}


def deep(image: Tensor) -> Keywords:
    return {"image": image, "depth_map": drawn(1, *image.shape[-2:], seed=3).sigmoid()}


def briefly_prompted(which: int) -> Keywords:
    return {"prompt": PROMPTS[which], "max_sequence_length": 32}


def planned(which: int) -> Keywords:
    """With few steps of Kandinsky's prior."""
    return {"prompt": PROMPTS[which], "prior_num_inference_steps": 2}


def binned(image: Tensor) -> Keywords:
    """Of its own size, and in any number of steps."""
    own = {"use_resolution_binning": False, "intermediate_timesteps": None}
    return {**sized(image), **own, "complex_human_instruction": None, "max_sequence_length": 32}


def filmed(image: Tensor) -> Keywords:
    """FRAMES frames that drift to the right, (B,F,3,H,W): as many as every autoencoder takes."""
    frames = torch.stack([image.roll(4 * k, -1) for k in range(FRAMES)], 1)
    return {"video": frames, **sizes(image)}


def nothing(_: object) -> Keywords:
    return {}


def prompted(which: int) -> Keywords:
    return {"prompt": PROMPTS[which]}


def embedded(which: int) -> Keywords:
    """What Kandinsky's prior would make of a prompt."""
    return {
        "image_embeds": drawn(1, WIDTH, seed=which),
        "negative_image_embeds": drawn(1, WIDTH, seed=2),
    }


def encoded(which: int) -> Keywords:
    """Wan's prompt, which it reads only where ftfy is installed."""
    return {
        "prompt_embeds": drawn(1, 8, WIDTH, seed=which),
        "negative_prompt_embeds": drawn(1, 8, WIDTH, seed=2),
    }


def truncated(steps: int, strength: float) -> int:
    """The steps that U-Net pipelines take."""
    return min(int(steps * strength), steps)


def rounded_up(steps: int, strength: float) -> int:
    """The steps that flow pipelines take."""
    return steps - int(max(steps - min(steps * strength, steps), 0))


def all_of_them(steps: int, strength: float) -> int:
    """The steps of pipelines whose strength does not shorten the run."""
    return steps


@dataclass(frozen=True)
class Call:
    """How a family is called.

    `takes` makes the keywords of a picture (B,3,H,W) in [0,1]; `says` those of one of two prompts;
    `steps` gives the number of steps from num_inference_steps and strength.
    """

    takes: Callable[[Tensor], Keywords] = pictured
    says: Callable[[int], Keywords] = prompted
    steps: Callable[[int, float], int] = truncated
    strength: bool = True
    callback: bool = True


CALLS = {
    "sd1": Call(),
    "sd2": Call(),
    "sd1_pag": Call(),
    "sdxl": Call(),
    "sd3": Call(sized, steps=rounded_up),
    "flux": Call(sized, steps=rounded_up),
    "chroma": Call(sized, briefly_prompted, steps=rounded_up),
    "qwen_image": Call(sized, steps=rounded_up),
    "z_image": Call(sized, steps=rounded_up),
    "sana_sprint": Call(binned, steps=rounded_up),
    "kolors": Call(sized),
    "kandinsky22": Call(sized, embedded),
    "kandinsky22_combined": Call(sized, planned),
    "kandinsky3": Call(),
    "lcm": Call(steps=all_of_them),
    "controlnet": Call(controlled),
    "sdxl_controlnet": Call(controlled),
    "flux_control": Call(sized_and_controlled, briefly_prompted, rounded_up),
    "flux_controlnet": Call(sized_and_controlled, briefly_prompted, rounded_up),
    "depth": Call(deep),
    "inpaint": Call(masked),
    "sdxl_inpaint": Call(masked),
    "animatediff": Call(filmed),
    "wan": Call(filmed, encoded),
    "cogvideox": Call(filmed, briefly_prompted),
    "ddpm": Call(nothing, nothing, all_of_them, strength=False, callback=False),
    "sd1_text": Call(sizes, steps=all_of_them, strength=False),
    "sdxl_text": Call(sizes, steps=all_of_them, strength=False),
}

VIDEOS = tuple(name for name, call in CALLS.items() if call.takes is filmed)


def arguments(name: str, image: Tensor, which: int = 0) -> Keywords:
    """Keywords of a call on a picture (B,3,H,W) in [0,1], with the first or second prompt."""
    return {**CALLS[name].takes(image), **CALLS[name].says(which)}
