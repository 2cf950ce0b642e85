"""The configuration: errors name the key, and the nearest known one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from differential_diffusion.errors import InputError
from differential_diffusion.models.checkpoint import CheckpointConfig
from differential_diffusion.training import TrainingConfig, load_config
from differential_diffusion.training.objectives import (
    Betas,
    FlowTimes,
    Levels,
    LinearSDE,
    LogNormal,
    LogUniform,
)


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


@pytest.mark.parametrize(
    ("objective", "noise", "levels"),
    [
        ({"name": "ddpm", "schedule": "cosine", "timesteps": 50}, {}, Betas("cosine", 50)),
        ({"name": "x0", "timesteps": 20}, {}, Betas("cosine", 20)),
        ({"name": "vp", "betas": [0.2, 5.0]}, {}, LinearSDE(0.2, 5.0)),
        ({"name": "sub-vp", "betas": [0.2, 5.0]}, {}, LinearSDE(0.2, 5.0, sub=True)),
        ({"name": "dsm", "levels": 10}, {"sigma_max": 9.0}, LogUniform(0.01, 9.0, 10)),
        ({"name": "flow", "times": "logit-normal"}, {}, FlowTimes("logit-normal")),
        (
            {"name": "flow", "times": "logit-normal"},
            {"mean": 0.5, "deviation": 0.7},
            FlowTimes("logit-normal", 0.5, 0.7),
        ),
        ({"name": "edm"}, {}, LogNormal(-1.4, 1.2)),
        ({"name": "edm"}, {"mean": -1.0}, LogNormal(-1.0, 1.2)),
    ],
)
def test_the_schedule_is_chosen(
    objective: dict[str, Any], noise: dict[str, Any], levels: Levels
) -> None:
    raw = {"output": "o", "data": {"path": "p"}, "steps": 1}
    config = TrainingConfig.model_validate(raw | {"objective": objective, "noise": noise})
    goal = config.goal()
    assert goal.levels == levels
    assert config.sigma_range[1] <= levels.reach
    if isinstance(levels, Betas):
        assert (goal.form.schedule, goal.form.timesteps) == (levels.schedule, levels.timesteps)
    # A dump of the configuration is one.
    again = TrainingConfig.model_validate(config.model_dump(mode="json"))
    assert again == config


@pytest.mark.parametrize(
    "levels", [Betas(), Betas("cosine", 30), LinearSDE(), LinearSDE(0.1, 3, sub=True), LogUniform()]
)
def test_no_level_is_above_the_reach(levels: Levels) -> None:
    drawn = levels.sample(20_000, torch.Generator().manual_seed(0))
    assert float(drawn.max()) == pytest.approx(levels.reach, rel=0.01)
    assert float(drawn.max()) <= levels.reach * (1 + 1e-6)
