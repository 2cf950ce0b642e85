"""Codecs: the loss, what is left behind, exact resume, and that pictures come back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from diffusers import AutoencoderKL
from PIL import Image
from safetensors.torch import load_file
from torch.distributions import Normal, kl_divergence

from differential_diffusion.errors import InputError
from differential_diffusion.training import load_config, train
from differential_diffusion.training.codec import codec_loss, divergence
from differential_diffusion.training.codec_config import CodecConfig, CodecLossConfig
from differential_diffusion.training.run import Progress
from differential_diffusion.training.state import STATE_FILE, list_checkpoints

Settings = dict[str, Any]


def configured(settings: Settings, tmp_path: Path) -> CodecConfig:
    path = tmp_path / "codec.yaml"
    path.write_text(yaml.safe_dump(settings))
    config = load_config(path)
    assert isinstance(config, CodecConfig)
    return config


def state(settings: Settings, tmp_path: Path) -> dict[str, torch.Tensor]:
    """Train in this process; the full state at the end."""
    config = configured(settings, tmp_path)
    train(config)
    return load_file(list_checkpoints(config.output)[-1] / STATE_FILE)


@pytest.fixture
def codec_settings(settings: Settings) -> Settings:
    return {
        "kind": "codec",
        **{key: settings[key] for key in ("output", "data", "precision", "batch_size")},
        "steps": 6,
        "network": {"channels": [8, 8], "norm_groups": 4, "latent_channels": 2},
        "optimizer": {"warmup_steps": 2},
        "validation": {"every": 3},
        "checkpoint": {"every": 2},
    }


def test_the_loss_is_the_error_and_the_divergence() -> None:
    rng = torch.Generator().manual_seed(0)
    made, x = (torch.rand(3, 3, 8, 8, generator=rng) for _ in range(2))
    mean, logvar = (torch.randn(3, 2, 4, 4, generator=rng) for _ in range(2))
    law = Normal(mean, (logvar / 2).exp())
    nats = kl_divergence(law, Normal(torch.zeros(()), torch.ones(()))).sum((1, 2, 3))
    torch.testing.assert_close(divergence(mean, logvar), nats)
    config = CodecLossConfig(reconstruction="l2", kl=0.3)
    expected = (made - x).pow(2).flatten(1).mean(1) + 0.3 * nats / (3 * 8 * 8)
    torch.testing.assert_close(codec_loss(made, x, mean, logvar, config), expected)
    config = CodecLossConfig(kl=0)
    expected = (made - x).abs().flatten(1).mean(1)
    torch.testing.assert_close(codec_loss(made, x, mean, logvar, config), expected)


def test_leaves_a_codec_that_diffusers_loads(codec_settings: Settings, tmp_path: Path) -> None:
    config = configured(codec_settings, tmp_path)
    final = train(config)
    vae = AutoencoderKL.from_pretrained(final)
    weights = load_file(list_checkpoints(config.output)[-1] / STATE_FILE)
    for name, value in vae.state_dict().items():
        assert torch.equal(value, weights[f"ema.vae.{name}"]), name
    assert vae.encode(torch.zeros(1, 3, 16, 16)).latent_dist.mean.shape == (1, 2, 8, 8)
    records = [
        json.loads(line) for line in (config.output / "metrics.jsonl").read_text().splitlines()
    ]
    assert [record["step"] for record in records] == [3, 6]
    assert {"psnr", "kl", "loss_held_out", "loss_training", "loss"} <= records[0].keys()
    assert records[1]["kl"] >= 0
    with Image.open(config.output / "samples" / "step-00000006.png") as grid:
        assert grid.size == (2 * 16, 2 * 16)
    assert not list(config.output.rglob(".*"))


def test_stopped_and_resumed_equals_uninterrupted(codec_settings: Settings, tmp_path: Path) -> None:
    class Stop(Exception):
        pass

    def stop(progress: Progress) -> None:
        if progress.step == 5:
            raise Stop

    expected = state(codec_settings | {"output": str(tmp_path / "whole")}, tmp_path)
    with pytest.raises(Stop):
        train(configured(codec_settings, tmp_path), on_step=stop)
    resumed = state(codec_settings, tmp_path)
    assert expected.keys() == resumed.keys()
    assert all(torch.equal(value, resumed[name]) for name, value in expected.items())
    with pytest.raises(InputError, match=r"another 'loss.kl'"):
        state(codec_settings | {"loss": {"kl": 0.1}}, tmp_path)


def test_accumulated_parts_are_the_batch(codec_settings: Settings, tmp_path: Path) -> None:
    codec_settings |= {"optimizer": {"name": "adamw", "warmup_steps": 0}, "steps": 2}
    whole = state(codec_settings, tmp_path)
    parts = codec_settings | {"accumulation": 2, "output": str(tmp_path / "parts")}
    for name, value in state(parts, tmp_path).items():
        if name.startswith("network."):
            torch.testing.assert_close(value, whole[name], rtol=0, atol=2e-5)


def test_starts_from_another_codec(codec_settings: Settings, tmp_path: Path) -> None:
    first = train(configured(codec_settings, tmp_path))
    again = codec_settings | {
        "output": str(tmp_path / "again"),
        "init_from": str(first),
        "steps": 1,
        "optimizer": {"learning_rate": 1e-9, "muon_learning_rate": 1e-9, "warmup_steps": 0},
    }
    weights = state(again, tmp_path)
    for name, value in AutoencoderKL.from_pretrained(first).state_dict().items():
        torch.testing.assert_close(weights[f"ema.vae.{name}"], value, rtol=0, atol=1e-6)
    other = again | {"output": str(tmp_path / "other")}
    other["network"] = codec_settings["network"] | {"latent_channels": 3}
    with pytest.raises(InputError, match="another shape than network"):
        state(other, tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kind": "vqvae"}, "'kind' is 'vqvae': it must be one of denoiser, codec"),
        ({"objective": {"name": "edm"}}, "'objective' is not known"),
        ({"loss": {"kll": 1}}, r"'loss.kll' is not known: did you mean 'kl'\?"),
        ({"network": {"channels": [8, 12], "norm_groups": 8}}, "12, no multiple of norm_groups 8"),
        ({"data": {"path": "x", "patch_size": 17}}, "patch_size 17 is no multiple of 2"),
        ({"data": {"path": "x", "patch_size": 16, "labels": "folders"}}, "labels is not for a"),
    ],
)
def test_errors_name_the_key(
    codec_settings: Settings, tmp_path: Path, change: Settings, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        configured(codec_settings | change, tmp_path)


@pytest.mark.slow
def test_pictures_come_back(colours: Path, colour_codec: Path) -> None:
    vae = AutoencoderKL.from_pretrained(colour_codec)
    pixels = np.stack([np.asarray(Image.open(path)) for path in sorted(colours.glob("*.png"))])
    x = torch.from_numpy(pixels).permute(0, 3, 1, 2) / 127.5 - 1
    with torch.no_grad():
        law = vae.encode(x).latent_dist
        made = vae.decode(law.mean).sample.clamp(-1, 1)
    of_the_mean = 10 * torch.log10(4 / (x - x.mean(0)).square().mean())
    assert 10 * torch.log10(4 / (made - x).square().mean()) > of_the_mean + 8
    scale = (law.mean.var() + law.var.mean()).sqrt() * vae.config.scaling_factor
    assert float(scale) == pytest.approx(1, abs=0.3)
