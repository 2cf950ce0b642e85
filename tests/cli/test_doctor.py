"""doctor tells what works, and its exit code says whether all of it does."""

from __future__ import annotations

import json
import platform
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import torch
from typer.testing import Result

import differential_diffusion as dd
from differential_diffusion.core import SOLVERS
from differential_diffusion.maps import MAPS
from differential_diffusion.tasks import TASKS

Command = Callable[..., Result]


def test_the_report_is_true(run: Command, tiny_model: Path) -> None:
    done = run("doctor", "--model", str(tiny_model), "--device", "cpu", "--json")
    assert done.exit_code == 0, done.output
    report = json.loads(done.stdout)
    assert report["ok"] is True
    assert report["versions"]["differential-diffusion"] == dd.__version__
    assert report["versions"]["python"] == platform.python_version()
    assert report["versions"]["torch"] == version("torch")
    assert report["machine"]["device"] == "cpu"
    assert report["machine"]["threads"] == torch.get_num_threads()
    assert report["model"]["card: figures.psnr_25"] == 12.5
    assert report["model"]["halo"] == dd.load_model(str(tiny_model)).halo
    assert report["registries"]["solvers"] == list(SOLVERS)
    assert report["registries"]["maps"] == list(MAPS)
    assert report["registries"]["tasks"] == list(TASKS)


def test_the_text_says_the_same(run: Command, tiny_model: Path) -> None:
    done = run("doctor", "--model", str(tiny_model), "--device", "cpu")
    assert done.exit_code == 0
    lines = {tuple(line.split(maxsplit=1)) for line in done.stdout.splitlines()}
    assert ("torch", version("torch")) in lines
    assert ("device", "cpu") in lines
    assert done.stdout.endswith("all is well\n")


def test_a_model_that_does_not_load_is_code_1(run: Command, folder: Path) -> None:
    done = run("doctor", "--model", "nothing.safetensors", "--json")
    assert done.exit_code == 1
    report = json.loads(done.stdout)
    assert report["ok"] is False
    assert "nothing.safetensors" in report["model"]["error"]
    assert "error" not in report["versions"]


def test_a_device_that_is_not_there_is_code_1(run: Command, tiny_model: Path) -> None:
    done = run("doctor", "--model", str(tiny_model), "--device", "cuda:99")
    assert done.exit_code == 1
    assert "not working: machine, model" in done.stdout
