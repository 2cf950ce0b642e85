"""Training that begins from a pipeline of Diffusers."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from differential_diffusion.core.parametrization import Parametrization
from differential_diffusion.errors import InputError
from differential_diffusion.models.checkpoint import (
    CheckpointConfig,
    load_checkpoint,
    save_checkpoint,
)
from differential_diffusion.models.network import UNet2D, UNet2DConfig, build_network
from differential_diffusion.nn import Conditions, UNetConfig
from differential_diffusion.nn.conditions import AUGMENTATIONS
from differential_diffusion.training import load_config, train
from differential_diffusion.training.state import warm_start

from ..unet2d import OPTIONS

diffusers = pytest.importorskip("diffusers")

DDPM = Parametrization("noise", "preserving", told="timestep")


@pytest.fixture
def pipeline(tmp_path: Path) -> Path:
    """A random DDPM pipeline that Diffusers made."""
    with torch.random.fork_rng():
        torch.manual_seed(3)
        unet = diffusers.UNet2DModel(sample_size=32, **OPTIONS)
    pipe = diffusers.DDPMPipeline(unet, diffusers.DDPMScheduler())
    pipe.save_pretrained(tmp_path / "pipe")
    return tmp_path / "pipe"


def fresh(classes: int = 0, **options: Any) -> UNet2D:
    with torch.random.fork_rng():
        torch.manual_seed(9)
        made = build_network(UNet2DConfig(OPTIONS | options, 3, classes, 16), timesteps=True)
    assert isinstance(made, UNet2D)
    return made.eval()


def weights_of(pipeline: Path) -> dict[str, torch.Tensor]:
    unet = diffusers.UNet2DModel.from_pretrained(pipeline, subfolder="unet")
    weights: dict[str, torch.Tensor] = unet.state_dict()
    return weights


@pytest.mark.slow
def test_training_begins_at_the_pipeline_s_weights(
    settings: dict[str, Any], pipeline: Path, tmp_path: Path
) -> None:
    """One step too small to move anything; the weights that come out are those that went in."""
    settings |= {
        "steps": 1,
        "network": {"diffusers": OPTIONS},
        "objective": {"name": "ddpm", "maps": False},
        "init_from": str(pipeline),
        "optimizer": {"name": "adamw", "learning_rate": 1e-9, "warmup_steps": 0},
    }
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(settings))
    network, _ = load_checkpoint(train(load_config(tmp_path / "run.yaml")))
    assert isinstance(network, UNet2D)
    for name, value in weights_of(pipeline).items():
        torch.testing.assert_close(network.unet.state_dict()[name], value, rtol=0, atol=1e-6)


def test_every_weight_is_taken(pipeline: Path) -> None:
    network = fresh(dropout=0.1)
    warm_start(network, pipeline, DDPM)
    for name, value in weights_of(pipeline).items():
        assert torch.equal(network.unet.state_dict()[name], value), name


def test_classes_that_the_pipeline_lacks_change_nothing_at_first(pipeline: Path) -> None:
    network = fresh(classes=3)
    warm_start(network, pipeline, DDPM)
    unet = diffusers.UNet2DModel.from_pretrained(pipeline, subfolder="unet")
    x, t = torch.randn(4, 3, 16, 16), torch.tensor([500])
    with torch.no_grad():
        told = network.unet(x, t, torch.arange(4)).sample
        torch.testing.assert_close(told, unet(x, t).sample)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"block_out_channels": [8, 24]}, r"block_out_channels \[8, 16\].*\[8, 24\]"),
        # These two leave every weight of the same shape.
        ({"norm_num_groups": 2}, "norm_num_groups 4.* 2: set them alike"),
        ({"flip_sin_to_cos": False}, "flip_sin_to_cos True"),
    ],
)
def test_another_network_is_refused(pipeline: Path, options: dict[str, Any], sentence: str) -> None:
    network = fresh(**options)
    before = network.unet.conv_in.weight.clone()
    with pytest.raises(InputError, match=sentence):
        warm_start(network, pipeline, DDPM)
    assert torch.equal(network.unet.conv_in.weight, before)


@pytest.mark.parametrize(
    "form",
    [
        Parametrization("velocity", "preserving", told="timestep", schedule="cosine"),
        Parametrization("noise", "preserving", told="timestep", schedule="cosine"),
        Parametrization("flow", "flow"),
    ],
)
def test_another_prediction_is_refused(pipeline: Path, form: Parametrization) -> None:
    learnt = "learnt to predict 'noise' in the scaling 'preserving' at 1000 linear timesteps"
    with pytest.raises(InputError, match=learnt):
        warm_start(fresh(), pipeline, form)


@pytest.mark.parametrize(
    ("before", "added"),
    [
        ({}, {"blocks": (2, 3), "attention": (1,), "context": True}),
        ({}, {"dropout": 0.2, "classes": 3, "vector": 2, "augmented": True}),
        ({"classes": 3}, {"augmented": True, "vector": 1}),
        ({"attention": (1,)}, {"attention": (0, 1), "classes": 2}),
        ({"dropout": 0.5, "augmented": True}, {"dropout": 0.0, "classes": 2}),
    ],
)
def test_what_is_added_begins_without_effect(
    tmp_path: Path, before: dict[str, Any], added: dict[str, Any]
) -> None:
    shape = UNetConfig(**{"channels": (4, 8), "blocks": (1, 1)} | before)
    network = build_network(shape).eval()
    rng = torch.Generator().manual_seed(0)
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.2, generator=rng)
    save_checkpoint(
        tmp_path, network, CheckpointConfig(shape, classes=_names(shape)), torch.float32
    )
    wanted = replace(shape, **added)
    grown = build_network(wanted).eval()
    warm_start(grown, tmp_path, Parametrization())
    x, c_noise = torch.randn(2, 3, 16, 16, generator=rng), torch.randn(2, 1, 16, 16, generator=rng)
    told = {
        "labels": torch.tensor([1, 0]) if wanted.classes else None,
        "vector": torch.ones(2, wanted.vector) if wanted.vector else None,
        "augmentation": torch.ones(2, AUGMENTATIONS) if wanted.augmented else None,
    }
    known = {
        "labels": told["labels"] if shape.classes else None,
        "augmentation": told["augmentation"] if shape.augmented else None,
    }
    expected = network(x, c_noise, Conditions(**known))
    torch.testing.assert_close(grown(x, c_noise, Conditions(**told)), expected)
    if wanted.classes and not shape.classes:  # and can be learnt
        grown(x, c_noise, Conditions(**told)).square().mean().backward()
        parts = [grown.given.label.weight, *(head.weight for head in grown.given.project)]
        assert any(part.grad is not None and bool(part.grad.any()) for part in parts)


def _names(shape: UNetConfig) -> tuple[str, ...]:
    return tuple("abcdef"[: shape.classes])


def test_parts_that_would_change_place_are_refused(tmp_path: Path) -> None:
    shape = UNetConfig(channels=(4, 8), blocks=(1, 1), context=True)
    save_checkpoint(tmp_path, build_network(shape), CheckpointConfig(shape), torch.float32)
    with pytest.raises(InputError, match="has another shape than the network"):
        warm_start(build_network(replace(shape, attention=(1,))), tmp_path)
    with pytest.raises(InputError, match="has another shape than the network"):
        warm_start(build_network(replace(shape, context=False)), tmp_path)


@pytest.mark.parametrize(
    "form", [Parametrization("clean"), Parametrization("noise", "preserving"), DDPM]
)
def test_another_prediction_of_our_network_is_refused(
    tmp_path: Path, form: Parametrization
) -> None:
    shape = UNetConfig(channels=(4, 8), blocks=(1, 1))
    network = build_network(shape)
    described = CheckpointConfig(shape, Parametrization("edm", sigma_data=0.3))
    save_checkpoint(tmp_path, network, described, torch.float32)
    with pytest.raises(
        InputError, match="learnt to predict 'edm' in the scaling 'exploding' at no"
    ):
        warm_start(build_network(shape), tmp_path, form)
    other = build_network(shape)
    warm_start(other, tmp_path, Parametrization("edm", sigma_data=0.5, schedule="cosine"))
    for a, b in zip(other.parameters(), network.parameters(), strict=True):
        assert torch.equal(a, b)


def test_a_checkpoint_with_other_classes_is_refused(tmp_path: Path) -> None:
    config = UNet2DConfig(OPTIONS, 3, 2, 16)
    described = CheckpointConfig(config, DDPM, maps=False, classes=("a", "b"))
    save_checkpoint(tmp_path, build_network(config, timesteps=True), described, torch.float32)
    with pytest.raises(InputError, match="num_class_embeds 3"):
        warm_start(fresh(classes=5), tmp_path, DDPM)
    warm_start(fresh(classes=2), tmp_path, DDPM)


def test_a_network_of_ours_takes_no_pipeline(pipeline: Path) -> None:
    from differential_diffusion.nn import SigmaMapUNet, UNetConfig

    with pytest.raises(InputError, match="another shape"):
        warm_start(SigmaMapUNet(UNetConfig(channels=(8,), blocks=(1,))), pipeline)
