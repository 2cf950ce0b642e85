"""Figures outside of a run's own files, read back by the tracker's own reader."""

from __future__ import annotations

import io
import json
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from differential_diffusion.errors import MissingExtraError
from differential_diffusion.training import Progress, load_config, train

from .test_processes import write


class Stop(Exception):
    """Stands for a kill."""


def stop_at(step: int) -> Any:
    def on_step(progress: Progress) -> None:
        if progress.step == step:
            raise Stop

    return on_step


def tracked(settings: dict[str, Any], name: str) -> dict[str, Any]:
    validation = {"every": 3, "crop": 16, "sample_steps": 1, "noise_levels_8bit": [25]}
    checkpoint = {"every": 5}
    return settings | {
        "tracking": {"trackers": [name], "project": "tests"},
        "validation": validation,
        "checkpoint": checkpoint,
    }


@pytest.mark.parametrize("stops", [(), (4,), (7, 8)])
def test_tensorboard_has_every_figure_once(
    settings: dict[str, Any], tmp_path: Path, stops: tuple[int, ...]
) -> None:
    """Stopped before there is a checkpoint, after one, and again: nothing is there twice."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    config = load_config(write(tracked(settings, "tensorboard"), tmp_path / "run.yaml"))
    for step in stops:
        with pytest.raises(Stop):
            train(config, on_step=stop_at(step))
    train(config)
    lines = (config.output / "metrics.jsonl").read_text().splitlines()
    records = [json.loads(line) for line in lines]
    assert [record["step"] for record in records] == [3, 6, 9, 12]
    events = EventAccumulator(str(config.output / "tensorboard"), {"images": 0, "scalars": 0})
    events.Reload()
    assert set(events.Tags()["scalars"]) == records[0].keys() - {"step"}
    for name in records[0].keys() - {"step"}:
        found = {event.step: event.value for event in events.Scalars(name)}
        assert len(events.Scalars(name)) == len(records), name
        for record in records:
            assert found[record["step"]] == pytest.approx(record[name], rel=1e-6), name
    pictures = events.Images("samples")
    assert [event.step for event in pictures] == [3, 6, 9, 12]
    for event in pictures:
        saved = config.output / "samples" / f"step-{event.step:08d}.png"
        shown = Image.open(io.BytesIO(event.encoded_image_string))
        assert np.array_equal(np.asarray(shown), np.asarray(Image.open(saved)))


def test_one_run_at_weights_and_biases_however_often_it_stops(
    settings: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a stand-in that notes what it is told."""
    begun: list[dict[str, Any]] = []
    logged: list[tuple[int, dict[str, Any]]] = []
    finished: list[int] = []

    class Run:
        def log(self, figures: dict[str, Any], step: int) -> None:
            logged.append((step, figures))

        def finish(self) -> None:
            finished.append(len(begun))

    def init(**options: Any) -> Run:
        begun.append(options)
        return Run()

    fake = types.ModuleType("wandb")
    fake.init = init  # type: ignore[attr-defined]
    fake.Image = lambda path: ("image", path)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "wandb", fake)
    config = load_config(write(tracked(settings, "wandb"), tmp_path / "run.yaml"))
    with pytest.raises(Stop):
        train(config, on_step=stop_at(7))
    train(config)
    assert [options["id"] for options in begun] == [begun[0]["id"]] * 2
    assert finished == [1, 2]
    assert {options["resume"] for options in begun} == {"allow"}
    assert begun[0]["project"] == "tests"
    assert begun[0]["config"] == config.model_dump(mode="json")
    assert [step for step, _ in logged] == [3, 6, 6, 9, 12]
    lines = (config.output / "metrics.jsonl").read_text().splitlines()
    records = [json.loads(line) for line in lines]
    last = {name: value for name, value in records[-1].items() if name != "step"}
    picture = str(config.output / "samples" / "step-00000012.png")
    assert logged[-1][1] == last | {"samples": ("image", picture)}

    other = tracked(settings, "wandb") | {"output": str(tmp_path / "other")}
    train(load_config(write(other, tmp_path / "other.yaml")))
    assert begun[2]["id"] != begun[0]["id"]


@pytest.mark.parametrize(("name", "module"), [("wandb", "wandb"), ("tensorboard", "tensorboard")])
def test_a_tracker_that_is_not_installed(
    settings: dict[str, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    module: str,
) -> None:
    for loaded in [m for m in sys.modules if m.startswith("torch.utils.tensorboard")]:
        monkeypatch.delitem(sys.modules, loaded)
    for loaded in [m for m in sys.modules if m.split(".")[0] == module]:
        monkeypatch.delitem(sys.modules, loaded)
    monkeypatch.setitem(sys.modules, module, None)
    config = load_config(write(tracked(settings, name), tmp_path / "run.yaml"))
    with pytest.raises(MissingExtraError, match=f"the tracker {name} needs the extra 'tracking'"):
        train(config)
