"""train: the settings that a run gets, and what the user sees of it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image
from typer.testing import Result

import differential_diffusion as dd
from differential_diffusion.errors import InputError
from differential_diffusion.training import load_config, overrides

Command = Callable[..., Result]

CONFIG: dict[str, Any] = {
    "output": "run",
    "data": {"path": "pictures", "validation": 1, "patch_size": 16},
    "steps": 3,
    "batch_size": 2,
    "precision": "fp32",
    "network": {"channels": [8, 8], "blocks": [1, 1]},
    "validation": {"every": 2, "crop": 16, "sample_steps": 2, "noise_levels_8bit": [25]},
    "checkpoint": {"every": 2},
}


@pytest.fixture
def config(folder: Path) -> Path:
    """run.yaml, and a folder of four pictures."""
    (folder / "pictures").mkdir()
    rng = np.random.default_rng(0)
    for k in range(4):
        noise = rng.integers(0, 256, (24, 24, 3), dtype=np.uint8)
        Image.fromarray(noise).save(folder / "pictures" / f"{k}.png")
    (folder / "run.yaml").write_text(yaml.safe_dump(CONFIG))
    return Path("run.yaml")


def test_overrides_replace_single_settings(config: Path) -> None:
    settings = ["steps=7", "data.patch_size=32", "optimizer.betas=[0.8, 0.9]", "compile=true"]
    before, after = load_config(config), load_config(config, overrides(config, settings))
    assert after.steps == 7
    assert after.data == before.data.model_copy(update={"patch_size": 32})
    assert after.optimizer == before.optimizer.model_copy(update={"betas": (0.8, 0.9)})
    assert after.compile is True
    assert after.network == before.network


def test_no_overrides_change_nothing(config: Path) -> None:
    assert load_config(config, overrides(config, [])) == load_config(config)


def test_an_override_may_give_what_the_file_lacks(folder: Path) -> None:
    path = folder / "part.yaml"
    path.write_text("steps: 5\n")
    made = load_config(path, overrides(path, ["output=a", "data.path=b", "data.patch_size=16"]))
    assert (str(made.output), str(made.data.path), made.data.patch_size) == ("a", "b", 16)


@pytest.mark.parametrize("setting", ["steps", "=3", ".steps=3", "data..path=3", "steps=[1"])
def test_an_override_of_another_form_is_refused(config: Path, setting: str) -> None:
    with pytest.raises(InputError, match=r"--set '") as caught:
        overrides(config, [setting])
    assert setting in str(caught.value)


def test_a_run_ends_in_a_model_that_loads(run: Command, folder: Path, config: Path) -> None:
    done = run("train", "run.yaml")
    assert done.exit_code == 0, done.output
    assert f"the model is in {Path('run/final')}" in done.stdout
    records = [json.loads(line) for line in (folder / "run/metrics.jsonl").read_text().splitlines()]
    assert [record["step"] for record in records] == [2, 3]
    for record in records:
        assert f"step {record['step']}/3" in done.stderr
        assert f"psnr_25 {record['psnr_25']:.2f}" in done.stderr
    result = dd.denoise("photo.png", 25, model="run/final")
    assert np.asarray(result.image).shape == (24, 40, 3)


def test_a_run_goes_on_and_no_resume_refuses(run: Command, folder: Path, config: Path) -> None:
    assert run("train", "run.yaml", "--quiet").exit_code == 0
    more = run("train", "run.yaml", "--set", "steps=5")
    assert more.exit_code == 0, more.output
    assert "going on from step 3." in more.stderr
    assert "step 5/5" in more.stderr
    again = run("train", "run.yaml", "--no-resume")
    assert again.exit_code == 2
    assert again.stderr.startswith("error: 'run' already holds checkpoints")


@pytest.mark.slow
def test_training_without_its_extra_names_it(config: Path) -> None:
    """Python treats a module that is None in sys.modules as not installed."""
    code = (
        "import sys; sys.modules['accelerate'] = None\n"
        "from differential_diffusion.cli import main; main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "train", str(config)], capture_output=True, text=True
    )
    assert done.returncode == 2
    assert done.stderr == (
        "error: training needs the extra 'train': pip install 'differential-diffusion[train]'.\n"
    )
