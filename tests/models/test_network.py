"""The U-Net of Diffusers behind our face, against calling it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from differential_diffusion.core.grid import to_whole_strides
from differential_diffusion.core.parametrization import Parametrization
from differential_diffusion.errors import InputError
from differential_diffusion.models.checkpoint import (
    CheckpointConfig,
    load_checkpoint,
    save_checkpoint,
)
from differential_diffusion.models.network import UNet2D, UNet2DConfig, build_network
from differential_diffusion.nn import Conditions

OPTIONS: dict[str, Any] = {
    "block_out_channels": (32, 32),
    "down_block_types": ("DownBlock2D", "AttnDownBlock2D"),
    "up_block_types": ("AttnUpBlock2D", "UpBlock2D"),
    "layers_per_block": 1,
    "attention_head_dim": 8,
}


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def unet(classes: int = 0, timesteps: bool = False, channels: int = 3) -> UNet2D:
    torch.manual_seed(0)
    config = UNet2DConfig(OPTIONS, in_channels=channels, classes=classes, sample_size=16)
    made = build_network(config, timesteps=timesteps)
    assert isinstance(made, UNet2D)
    return made.eval().requires_grad_(False)


@pytest.mark.parametrize(("timesteps", "scale"), [(False, 1000.0), (True, 1.0)])
def test_is_the_network_itself(timesteps: bool, scale: float) -> None:
    made, x, level = unet(timesteps=timesteps), normal(2, 3, 16, 16), normal(2, 1, 1, 1, seed=1)
    expected = made.unet(x, scale * level.flatten()).sample
    torch.testing.assert_close(made(x, level), expected, rtol=0, atol=0)
    # A map of one level, and one level for all, are what they say.
    torch.testing.assert_close(made(x, level.expand(2, 1, 16, 16)), expected, rtol=0, atol=0)
    one = made(x, level[:1])
    torch.testing.assert_close(one, made.unet(x, scale * level[0].flatten()).sample)


def test_classes_and_none() -> None:
    made, x, level = unet(classes=4), normal(3, 3, 16, 16), normal(3, 1, 1, 1, seed=1)
    labels = torch.tensor([0, 3, 1])
    for told, number in ((Conditions(labels), labels), (Conditions(), torch.full((3,), 4))):
        expected = made.unet(x, 1000 * level.flatten(), class_labels=number).sample
        torch.testing.assert_close(made(x, level, told), expected, rtol=0, atol=0)
    one = made(x, level, Conditions(labels[1:2]))
    torch.testing.assert_close(one, made(x, level, Conditions(labels[1:2].expand(3))))


@pytest.mark.parametrize("size", [(1, 5), (5, 16), (17, 31), (30, 18)])
def test_any_size(size: tuple[int, int]) -> None:
    """Mirrored beyond the border up to whole strides."""
    made, x, level = unet(channels=2), normal(1, 2, *size), torch.full((1, 1, 1, 1), 0.3)
    out = made(x, level)
    assert out.shape == x.shape
    expected = made.unet(to_whole_strides(x, 2), torch.tensor([300.0])).sample
    torch.testing.assert_close(out, expected[..., : size[0], : size[1]], rtol=0, atol=0)
    assert made.halo is None
    assert not made.config.local


def test_refuses_maps() -> None:
    level = torch.zeros(1, 1, 16, 16)
    level[..., 3, 4] = 0.1
    with pytest.raises(InputError, match=r"one noise level for each picture .*: wrap its denoiser"):
        unet()(normal(1, 3, 16, 16), level)


def test_gradients_with_activations_computed_anew() -> None:
    torch.manual_seed(0)
    made = UNet2D(UNet2DConfig(OPTIONS)).double()
    x, level = normal(2, 3, 16, 16).double(), torch.full((2, 1, 1, 1), 0.2, dtype=torch.float64)
    gradients = []
    for anew in (False, True):
        if anew:
            made.checkpoint_gradients()
            assert made.unet.is_gradient_checkpointing
        made.train().zero_grad()
        made(x, level).square().sum().backward()
        gradients.append([p.grad.clone() for p in made.parameters() if p.grad is not None])
    for one, two in zip(*gradients, strict=True):
        torch.testing.assert_close(two, one, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("told", ["level", "timestep"])
def test_saved_and_loaded(tmp_path: Path, told: Any) -> None:
    made = unet(classes=2, timesteps=told == "timestep")
    form = Parametrization("noise", "preserving", told=told)
    described = CheckpointConfig(made.config, form, maps=False, classes=("a", "b"))
    save_checkpoint(tmp_path, made, described, torch.float32)
    assert json.loads((tmp_path / "config.json").read_text())["network"]["kind"] == "UNet2DModel"
    loaded, again = load_checkpoint(tmp_path)
    assert again.classes == ("a", "b")
    assert again.form == form
    x, level = normal(2, 3, 16, 16), normal(2, 1, 1, 1, seed=1)
    conditions = Conditions(torch.tensor([1, 0]))
    assert torch.equal(loaded(x, level, conditions), made(x, level, conditions))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"layer_per_block": 1}, "did you mean 'layers_per_block'"),
        ({"sample_size": 3}, "knows no 'sample_size' that may be set here"),
        ({"norm_num_groups": 5}, r"UNet2DModel cannot be made of .*: mend network\.diffusers"),
        ({"down_block_types": ("DownBlock2D",)}, "UNet2DModel cannot be made of"),
    ],
)
def test_options_that_it_does_not_take(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        UNet2D(UNet2DConfig(OPTIONS | options))
