"""One run, however many processes and turns compute it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from safetensors.torch import load_file

from differential_diffusion.training.state import STATE_FILE, list_checkpoints

from .processes import Server

State = dict[str, torch.Tensor]


def write(settings: dict[str, Any], path: Path) -> Path:
    path.write_text(yaml.safe_dump(settings), encoding="utf-8")
    return path


def end(output: str | Path) -> State:
    """Weights, averages and optimizer state of the last checkpoint."""
    return load_file(list_checkpoints(Path(output))[-1] / STATE_FILE)


def assert_near(a: State, b: State, most: float = 1e-9) -> None:
    assert a.keys() == b.keys()
    kinds = {name.split(".")[0] for name in a}
    assert kinds == {"network", "ema", "optimizer"}
    for name in a:
        assert float((a[name] - b[name]).abs().max()) <= most, name


@pytest.fixture
def told(tmp_path: Path) -> dict[str, Any]:
    """Data of two classes with numbers and a picture beside each."""
    rng = np.random.default_rng(3)
    lines = []
    for kind in ("a", "b"):
        for folder in ("photos", "beside"):
            (tmp_path / folder / kind).mkdir(parents=True)
        for k in range(5):
            for folder in ("photos", "beside"):
                pixels = rng.integers(0, 256, (24, 28, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(tmp_path / folder / kind / f"{k}.png")
            lines.append(f"{kind}/{k},{rng.normal():.3f},{rng.normal():.3f}\n")
    (tmp_path / "numbers.csv").write_text("".join(lines))
    return {
        "path": str(tmp_path / "photos"),
        "pictures": str(tmp_path / "beside"),
        "vectors": str(tmp_path / "numbers.csv"),
        "labels": "folders",
        "augmentation": 0.3,
        "validation": 2,
        "patch_size": 16,
    }


def exact(settings: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """A run in double precision that exercises all that a network may be told and hold."""
    return settings | {
        "steps": 20,
        "precision": "fp64",
        "batch_size": 8,
        "network": {
            "channels": [8, 8],
            "blocks": [1, 1],
            "embedding_channels": 4,
            "attention": [1],
            "context": True,
        },
        "validation": {"every": 10, "crop": 16, "sample_steps": 1, "pictures": 2},
        "checkpoint": {"every": 20, "keep": 1},
        **changes,
    }


@pytest.mark.parametrize("kind", ["plain", "told"])
def test_processes_and_turns_change_nothing(
    settings: dict[str, Any],
    told: dict[str, Any],
    tmp_path: Path,
    server: Server,
    kind: str,
) -> None:
    made = exact(settings) | ({"data": told} if kind == "told" else {})
    ends = []
    for name, count, turns in (("one", 1, 1), ("turns", 1, 2), ("two", 2, 1), ("both", 2, 2)):
        changes = {"output": str(tmp_path / name), "accumulation": turns}
        server.train(write(made | changes, tmp_path / f"{name}.yaml"), count)
        ends.append(end(tmp_path / name))
        assert ends[-1]["network.head.weight"].dtype == torch.float64
    assert ends[0]["network.head.weight"].abs().max() > 1e-3  # it has moved
    for other in ends[1:]:
        assert_near(ends[0], other)


@pytest.mark.parametrize("what", ["checkpoints", "pictures"])
def test_processes_that_do_not_see_the_same_are_refused(
    settings: dict[str, Any], told: dict[str, Any], tmp_path: Path, server: Server, what: str
) -> None:
    """As on machines that do not share the folder of the output or of the pictures."""
    config = write(settings, tmp_path / "run.yaml")
    if what == "checkpoints":
        server.train(config)
        other = settings | {"output": str(tmp_path / "other")}
    else:
        other = settings | {"data": settings["data"] | {"path": told["path"]}}
    run = server.start(config, 2, second=write(other, tmp_path / "other.yaml"))
    assert run.wait() == [2, 2]
    assert run.log.read_text().count(f"the processes find different {what} (") == 2


def test_dropout_is_that_of_the_part(
    settings: dict[str, Any], tmp_path: Path, server: Server
) -> None:
    """Two processes leave out what two turns of one leave out."""
    made = exact(settings)
    made["network"] |= {"dropout": 0.3}
    for name, count, turns in (("turns", 1, 2), ("two", 2, 1), ("one", 1, 1)):
        changes = {"output": str(tmp_path / name), "accumulation": turns}
        server.train(write(made | changes, tmp_path / f"{name}.yaml"), count)
    assert_near(end(tmp_path / "turns"), end(tmp_path / "two"))
    with pytest.raises(AssertionError):
        assert_near(end(tmp_path / "turns"), end(tmp_path / "one"))


def test_a_run_begun_by_two_processes_goes_on_with_one(
    settings: dict[str, Any], tmp_path: Path, server: Server
) -> None:
    made = exact(settings, optimizer={"warmup_steps": 2, "decay": 1e-9})
    whole = write(made | {"output": str(tmp_path / "whole")}, tmp_path / "whole.yaml")
    server.train(whole)
    half = write(made | {"steps": 10}, tmp_path / "half.yaml")
    server.train(half, 2)
    server.train(write(made, tmp_path / "rest.yaml"))
    assert_near(end(tmp_path / "whole"), end(made["output"]))


def test_figures_are_those_of_one_process(
    settings: dict[str, Any], tmp_path: Path, server: Server
) -> None:
    """But for the running loss, which is the main process's own."""
    made = exact(settings)
    lines = []
    for count in (1, 2):
        output = tmp_path / str(count)
        server.train(write(made | {"output": str(output)}, tmp_path / f"{count}.yaml"), count)
        text = (output / "metrics.jsonl").read_text()
        lines.append([json.loads(line) for line in text.splitlines()])
    assert [line["step"] for line in lines[0]] == [line["step"] for line in lines[1]] == [10, 20]
    for one, two in zip(*lines, strict=True):
        for name in one.keys() - {"loss", "seconds"}:
            assert two[name] == pytest.approx(one[name], abs=1e-5), name


LAUNCHERS = {
    "torchrun": (["torch.distributed.run", "--nproc_per_node=2", "--standalone", "-m"], 2),
    "accelerate": (["accelerate.commands.launch", "--cpu", "--num_processes=1", "-m"], 1),
    "python": (["differential_diffusion.training"], 1),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", LAUNCHERS)
def test_launchers(settings: dict[str, Any], tmp_path: Path, name: str) -> None:
    launcher, _ = LAUNCHERS[name]
    config = write(settings | {"steps": 3}, tmp_path / "run.yaml")
    module = [] if name == "python" else ["differential_diffusion.training"]
    done = subprocess.run(
        [sys.executable, "-m", *launcher, *module, str(config), "--set", "steps=2"],
        env=os.environ | {"ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("the model is in") == LAUNCHERS[name][1]
    assert list_checkpoints(Path(settings["output"]))[-1].name == "step-00000002"


@pytest.mark.slow
def test_a_launched_run_refuses_in_one_sentence(settings: dict[str, Any], tmp_path: Path) -> None:
    config = write(settings | {"stesp": 3}, tmp_path / "run.yaml")
    done = subprocess.run(
        [sys.executable, "-m", "differential_diffusion.training", str(config)],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert done.stderr == (
        f"error: in '{config}', the key 'stesp' is not known: did you mean 'steps'?\n"
    )


def test_a_batch_that_cannot_be_divided_is_refused_by_every_process(
    settings: dict[str, Any], tmp_path: Path, server: Server
) -> None:
    run = server.start(write(settings | {"batch_size": 3}, tmp_path / "run.yaml"), 2)
    assert run.wait() == [2, 2]
    assert "batch_size 3 is no multiple of the 2 parts" in run.log.read_text()
