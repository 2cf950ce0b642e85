"""The configuration: errors name the key, and the nearest known one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from differential_diffusion.errors import InputError
from differential_diffusion.models.checkpoint import CheckpointConfig
from differential_diffusion.training import load_config


def test_reads_every_section(settings: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(yaml.safe_dump(settings))
    config = load_config(path, {"seed": 5})
    assert config.network.channels == (16, 16)
    assert config.data.patch_size == 16
    assert config.seed == 5


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"stesp": 3}, r"'stesp' is not known: did you mean 'steps'\?"),
        ({"optimizer": {"learning_rat": 1}}, r"'optimizer.learning_rat' .* 'learning_rate'\?"),
        ({"optimizer": {"zzz": 1}}, r"'optimizer.zzz' is not known: known keys are name, "),
        ({"steps": 0}, r"'steps' is 0: input should be greater than or equal to 1"),
        ({"steps": "many"}, r"'steps' is 'many': input should be a valid integer"),
        ({"optimizer": {"learning_rate": -1}}, r"'optimizer.learning_rate' is -1"),
        ({"noise": {"sigma_min": 3, "sigma_max": 2}}, r"sigma_min < sigma_max"),
        ({"data": {"path": "x", "patch_size": 18}}, r"patch_size 18 is no multiple of 4"),
        ({"network": {"channels": [8], "blocks": [1, 1]}}, r"one entry per scale"),
        ({"precision": "fp8"}, r"'precision' is 'fp8'"),
    ],
)
def test_errors_name_the_key(
    settings: dict[str, Any], tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(yaml.safe_dump(settings | change))
    with pytest.raises(InputError, match=message) as caught:
        load_config(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [1", "not valid YAML at line"),
        ("just words", "must hold a mapping"),
        ("steps: 3", "the key 'output' is missing"),
    ],
)
def test_bad_files(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(text)
    with pytest.raises(InputError, match=message):
        load_config(path)


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot read the configuration"):
        load_config(tmp_path / "none.yaml")


@pytest.mark.parametrize("name", ["prior", "prior-finish"])
def test_the_recipes_of_the_bundled_prior_can_be_read(repository: Path, name: str) -> None:
    config = load_config(repository / "configs" / f"{name}.yaml")
    shipped = repository / "src" / "differential_diffusion" / "weights" / "prior.json"
    described = CheckpointConfig.from_json(shipped.read_text("utf-8"), shipped)
    assert config.network.build() == described.network
    assert config.sigma_range == (
        described.sigma_min,
        described.sigma_max,
    )


def test_a_latent_run_begins_where_the_codec_of_its_example_ends(repository: Path) -> None:
    codec = load_config(repository / "configs" / "codec.yaml")
    latent = load_config(repository / "configs" / "latent.yaml")
    assert (codec.kind, latent.kind) == ("codec", "denoiser")
    assert latent.latent.codec == str(codec.output / "final")
    channels, cell = codec.network.latent_channels, codec.cell
    assert latent.shape(channels=channels, cell=cell).in_channels == channels
