"""Latents of pictures: normalised as stated, encoded once, of nothing else; and learnt."""

from __future__ import annotations

import json
import shutil
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from safetensors.torch import load_file

from differential_diffusion.core import Plan, PositionalNoise
from differential_diffusion.data.crops import to_tensor
from differential_diffusion.errors import InputError
from differential_diffusion.models import LatentModel, load_model
from differential_diffusion.models.codec import posterior
from differential_diffusion.training import TrainingConfig, latents, load_config, train
from differential_diffusion.training.latents import LatentPictures, key
from differential_diffusion.training.run import Progress, TrainingStopped
from differential_diffusion.training.state import STATE_FILE, list_checkpoints

from ..autoencoders import tiny_autoencoder

Settings = dict[str, Any]
CPU = torch.device("cpu")


@pytest.fixture
def latent_settings(settings: Settings, tmp_path: Path) -> Settings:
    """A run on latents of the tiny codec, whose cells are of 4 pixels."""
    tiny_autoencoder().save_pretrained(tmp_path / "codec")
    settings["latent"] = {"codec": str(tmp_path / "codec"), "cache": str(tmp_path / "cache")}
    settings["data"] = settings["data"] | {"symmetries": "mirror"}
    settings["network"] |= {"patch": 1}
    return settings


def configured(settings: Settings, tmp_path: Path) -> TrainingConfig:
    path = tmp_path / "latent.yaml"
    path.write_text(yaml.safe_dump(settings))
    config = load_config(path)
    assert isinstance(config, TrainingConfig)
    return config


def pictures_of(settings: Settings, tmp_path: Path, told: Any = lambda text: None) -> Any:
    return LatentPictures(configured(settings, tmp_path), CPU, told)


def encoder_is_away(monkeypatch: pytest.MonkeyPatch) -> None:
    def away(*_: object) -> None:
        raise AssertionError("encoded again")

    monkeypatch.setattr(latents, "posterior", away)


@pytest.mark.parametrize("cut", ["crop", "fit"])
@pytest.mark.parametrize("sigma_data", [0.5, 1.0])
def test_draws_have_the_deviation_that_the_objective_is_told_of(
    latent_settings: Settings, tmp_path: Path, cut: str, sigma_data: float
) -> None:
    latent_settings["data"] |= {"cut": cut, "symmetries": "none", "patch_size": 32}
    made = pictures_of(latent_settings | {"sigma_data": sigma_data}, tmp_path)
    if cut == "crop":  # squares favour the middle: what is normalised is all cells alike
        made.config = made.config.model_copy(update={"patch_size": 80})
        made.training = [i for i in made.training if min(i.pixels.shape[:2]) >= 80]
    items = made.items(400, seed=3)
    z = torch.stack([items[index]["x0"] for index in range(len(items))]).double()
    assert z.shape[1:] == (2, *z.shape[2:])
    pooled = z.transpose(0, 1).flatten(1)
    # The right and left ends of pictures wider than squares are seen less often than the middle.
    torch.testing.assert_close(pooled.mean(1), torch.zeros(2).double(), rtol=0, atol=0.1)
    torch.testing.assert_close(
        pooled.std(1), torch.full((2,), sigma_data).double(), rtol=0.1, atol=0
    )


def test_statistics_are_those_of_draws_of_the_posterior(
    latent_settings: Settings, tmp_path: Path
) -> None:
    made = pictures_of(latent_settings, tmp_path)
    vae, rng, drawn = made.codec.vae, torch.Generator().manual_seed(0), []
    for image in made.training:
        for pixels in (image.pixels, image.pixels[:, ::-1]):
            law = posterior(vae, to_tensor(pixels)[None])
            for _ in range(20):
                noise = torch.randn(law.mean.shape, generator=rng)
                drawn.append((law.mean + law.std * noise)[0].flatten(1))
    y = torch.cat(drawn, dim=1).double()
    deviation = torch.tensor(made.space.deviation).double()
    torch.testing.assert_close(deviation, y.std(1), rtol=0.01, atol=0)
    mean = torch.tensor(made.space.mean).double()
    torch.testing.assert_close(mean, y.mean(1), rtol=0, atol=0.01 * float(deviation.max()))


@pytest.mark.parametrize(("symmetries", "versions"), [("none", 1), ("mirror", 2), ("all", 8)])
def test_each_picture_is_encoded_as_it_is_shown(
    latent_settings: Settings, tmp_path: Path, symmetries: str, versions: int
) -> None:
    latent_settings["data"] |= {"symmetries": symmetries}
    made = pictures_of(latent_settings, tmp_path)
    assert len(made.latents) == 6 * versions
    shown = {0: lambda x: x, 2: lambda x: x[:, ::-1], 7: lambda x: x[::-1, ::-1].swapaxes(0, 1)}
    for image in made.training:
        for which in set(shown) & set(made.versions):
            law = posterior(made.codec.vae, to_tensor(shown[which](image.pixels))[None])
            expected = torch.cat([law.mean[0], law.std[0]])
            found = made.latents[key(image.name, which)]
            torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_a_cache_gives_the_same_and_encodes_nothing(
    latent_settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    first = pictures_of(latent_settings, tmp_path, said.append)
    assert [text for text in said if text] == [f"encoding 12 pictures into '{tmp_path / 'cache'}'."]
    encoder_is_away(monkeypatch)
    second = pictures_of(latent_settings, tmp_path)
    assert first.latents.keys() == second.latents.keys()
    assert all(torch.equal(one, second.latents[name]) for name, one in first.latents.items())
    assert (first.space, first.digest) == (second.space, second.digest)
    a, b = (of.items(9, 5) for of in (first, second))
    assert all(torch.equal(a[index]["x0"], b[index]["x0"]) for index in range(9))
    assert not torch.equal(a[0]["x0"], first.items(9, 6)[0]["x0"])


def test_encoding_that_was_stopped_goes_on(
    latent_settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = pictures_of(latent_settings, tmp_path)
    latent_settings["latent"] |= {"cache": str(tmp_path / "again")}
    monkeypatch.setattr("differential_diffusion.training.latent_cache.SHARD_BYTES", 1)
    monkeypatch.setattr(latents, "_BATCH", 2)
    seen = 0

    def told(text: str) -> None:
        nonlocal seen
        seen += not text
        if seen == 6:
            raise TrainingStopped(0, signal.SIGTERM)

    with pytest.raises(TrainingStopped):
        pictures_of(latent_settings, tmp_path, told)
    assert len(list((tmp_path / "again").glob("*.safetensors"))) == 2
    counted = []
    encode = latents.posterior
    monkeypatch.setattr(
        latents, "posterior", lambda vae, x: (counted.append(len(x)), encode(vae, x))[1]
    )
    resumed = pictures_of(latent_settings, tmp_path)
    assert sum(counted) == 8
    for name, one in whole.latents.items():
        torch.testing.assert_close(resumed.latents[name], one, rtol=1e-4, atol=1e-5)


def of_another_codec(settings: Settings, folder: Path) -> None:
    tiny_autoencoder(seed=1).save_pretrained(folder / "other")
    settings["latent"]["codec"] = str(folder / "other")


def of_other_pixels(settings: Settings, folder: Path) -> None:
    shutil.copytree(settings["data"]["path"], folder / "copied")
    settings["data"]["path"] = str(folder / "copied")
    path = folder / "copied" / "0.png"
    pixels = np.array(Image.open(path))
    pixels[3, 4, 1] ^= 1
    Image.fromarray(pixels).save(path)


def of_another_size(settings: Settings, folder: Path) -> None:
    settings["data"] |= {"cut": "fit", "patch_size": 32}


def under_other_symmetries(settings: Settings, folder: Path) -> None:
    settings["data"]["symmetries"] = "all"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (of_another_codec, "holds latents of another codec: remove"),
        (of_other_pixels, "holds latents of other pictures: remove"),
        (of_another_size, "of pictures of their own size, not of 32 pixels: remove"),
        (under_other_symmetries, "under the symmetries 'mirror', not 'all': remove"),
    ],
)
def test_a_cache_of_something_else_is_refused(
    latent_settings: Settings, tmp_path: Path, change: Any, message: str
) -> None:
    pictures_of(latent_settings, tmp_path)
    before = sorted((path, path.stat().st_mtime_ns) for path in (tmp_path / "cache").iterdir())
    change(latent_settings, tmp_path)
    with pytest.raises(InputError, match=message):
        pictures_of(latent_settings, tmp_path)
    after = sorted((path, path.stat().st_mtime_ns) for path in (tmp_path / "cache").iterdir())
    assert before == after


@pytest.mark.parametrize("name", ["index.json", "latents-00000.safetensors"])
@pytest.mark.parametrize("how", ["cut", "flipped", "gone"])
def test_damaged_files_are_named(
    latent_settings: Settings, tmp_path: Path, name: str, how: str
) -> None:
    pictures_of(latent_settings, tmp_path)
    path = tmp_path / "cache" / name
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content[:-40] if how == "cut" else content)
    if how == "gone":
        path.unlink()
    if (name, how) == ("index.json", "flipped"):
        path.write_text(json.dumps({"format": 1}))
    wanted = "no cache of latents" if (name, how) == ("index.json", "gone") else name
    with pytest.raises(InputError, match=wanted):
        pictures_of(latent_settings, tmp_path)


def test_a_folder_of_something_else_is_left_alone(
    latent_settings: Settings, tmp_path: Path
) -> None:
    (tmp_path / "cache").mkdir()
    for name in ("thesis.txt", ".thesis.txt.part"):
        (tmp_path / "cache" / name).write_text("precious")
    with pytest.raises(InputError, match="no cache of latents"):
        pictures_of(latent_settings, tmp_path)
    assert len(list((tmp_path / "cache").iterdir())) == 2


@pytest.mark.parametrize("written", [False, True])
def test_drafts_of_a_kill_are_removed(
    latent_settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, written: bool
) -> None:
    """A process that is killed while it writes leaves these, before the first index or after."""
    if written:
        pictures_of(latent_settings, tmp_path)
        encoder_is_away(monkeypatch)
    (tmp_path / "cache").mkdir(exist_ok=True)
    for name in ("index.json", "latents-00000.safetensors"):
        (tmp_path / "cache" / f".{name}.0a1b2c3d.part").write_bytes(b"{")
    pictures_of(latent_settings, tmp_path)
    left = sorted(path.name for path in (tmp_path / "cache").iterdir())
    assert left == ["index.json", "latents-00000.safetensors"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"data": {"augmentation": 0.1}}, "data.augmentation is not for latents"),
        ({"data": {"pictures": "x"}}, "data.pictures is not for latents"),
        ({"noise": {"coloured": 0.1}}, "noise.coloured is not for latents"),
        ({"latent": {"codek": "x"}}, "'latent.codek' is not known: did you mean 'codec'"),
        ({"data": {"channels": 1}}, "takes 3 channels and data.channels is 1"),
        ({"data": {"patch_size": 20}}, "data.patch_size 20 is no multiple of 8"),
        ({"latent": {"codec": "nowhere"}}, "the codec 'nowhere' does not exist"),
    ],
)
def test_what_does_not_fit_is_said(
    latent_settings: Settings, tmp_path: Path, change: Settings, message: str
) -> None:
    for section, changes in change.items():
        latent_settings[section] = latent_settings.get(section, {}) | changes
    with pytest.raises(InputError, match=message):
        train(configured(latent_settings, tmp_path))


def state(settings: Settings, tmp_path: Path) -> dict[str, torch.Tensor]:
    config = configured(settings, tmp_path)
    train(config)
    return load_file(list_checkpoints(config.output)[-1] / STATE_FILE)


def test_stopped_and_resumed_equals_uninterrupted(
    latent_settings: Settings, tmp_path: Path
) -> None:
    class Stop(Exception):
        pass

    def stop(progress: Progress) -> None:
        if progress.step == 5:
            raise Stop

    latent_settings |= {"steps": 8}
    expected = state(latent_settings | {"output": str(tmp_path / "whole")}, tmp_path)
    with pytest.raises(Stop):
        train(configured(latent_settings, tmp_path), on_step=stop)
    resumed = state(latent_settings, tmp_path)
    assert all(torch.equal(value, resumed[name]) for name, value in expected.items())
    of_another_codec(latent_settings, tmp_path)
    latent_settings["latent"] |= {"cache": str(tmp_path / "other-cache")}
    with pytest.raises(InputError, match="are not those that the run"):
        state(latent_settings | {"steps": 10}, tmp_path)


@pytest.mark.parametrize("network", ["own", "diffusers"])
def test_leaves_a_model_of_pictures(
    latent_settings: Settings, tmp_path: Path, network: str
) -> None:
    if network == "diffusers":
        latent_settings |= {
            "objective": {"name": "v", "maps": False},
            "network": {
                "diffusers": {
                    "block_out_channels": [8, 8],
                    "norm_num_groups": 4,
                    "layers_per_block": 1,
                    "down_block_types": ["DownBlock2D", "DownBlock2D"],
                    "up_block_types": ["UpBlock2D", "UpBlock2D"],
                }
            },
        }
    latent_settings |= {"steps": 2, "validation": {"every": 2, "sample_steps": 2}}
    config = configured(latent_settings, tmp_path)
    final = train(config)
    shutil.rmtree(tmp_path / "codec")  # the model carries its own
    whole = final.rename(tmp_path / "elsewhere")
    made = load_model(whole, device="cpu", precision="fp32")
    assert isinstance(made, LatentModel)
    x = torch.rand(1, 3, 19, 25) * 2 - 1
    strength = torch.zeros(1, 1, 19, 25)
    strength[..., 10:] = 0.6
    out = made.run(Plan(x, strength, steps=4), PositionalNoise((0,), 3, 19, 25))
    assert torch.equal(out[..., :10], x[..., :10])
    assert not torch.equal(out[..., 10:], x[..., 10:])
    record = json.loads((config.output / "metrics.jsonl").read_text().splitlines()[-1])
    assert {"loss_held_out", "loss_training", "gap_1"} <= record.keys()
    assert not [name for name in record if name.startswith("psnr")]
    assert (config.output / "samples" / "step-00000002.png").is_file()


@pytest.mark.slow
def test_samples_are_like_the_pictures(colours: Path, colour_codec: Path, tmp_path: Path) -> None:
    """Flat colours, from pictures to a codec to a model of latents to pictures."""
    run = {
        "output": str(tmp_path / "run"),
        "data": {
            "path": str(colours),
            "validation": 8,
            "patch_size": 8,
            "cut": "fit",
            "symmetries": "none",
        },
        "latent": {"codec": str(colour_codec)},
        "steps": 400,
        "batch_size": 32,
        "precision": "fp32",
        "network": {"channels": [24], "blocks": [2], "embedding_channels": 16},
        "objective": {"maps": False},
        "optimizer": {
            "learning_rate": 0.003,
            "muon_learning_rate": 0.01,
            "warmup_steps": 10,
            "ema_halflife": 50,
        },
        "validation": {"every": 1000},
        "checkpoint": {"every": 1000},
    }
    made = load_model(train(configured(run, tmp_path)), device="cpu", precision="fp32")
    seeds = tuple(range(64))
    everything = torch.ones(1, 1, 1, 1)
    plan = Plan(torch.zeros(1, 3, 8, 8), everything, seeds=seeds, steps=12, solver="heun")
    drawn = made.run(plan, PositionalNoise(seeds, 3, 8, 8))
    pixels = np.stack([np.asarray(Image.open(path))[0, 0] for path in colours.glob("*.png")])
    found, wanted = drawn.mean((2, 3)), torch.from_numpy(pixels / 127.5 - 1).float()
    torch.testing.assert_close(found.mean(0), wanted.mean(0), rtol=0, atol=0.12)
    torch.testing.assert_close(found.std(0), wanted.std(0), rtol=0.35, atol=0)
    assert float(drawn.std((2, 3)).mean()) < 0.4 * float(wanted.std(0).mean())  # flat
