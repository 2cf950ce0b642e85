"""The loop: exact resume after a kill, what it leaves behind, and that it learns."""

from __future__ import annotations

import hashlib
import json
import shutil
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from safetensors.torch import load_file

from differential_diffusion.errors import InputError
from differential_diffusion.models import DenoiserModel, load_model
from differential_diffusion.training import load_config, train
from differential_diffusion.training.config import OptimizerConfig
from differential_diffusion.training.feed import fetched_ahead
from differential_diffusion.training.loop import Progress, ema_decay, learning_rate_factor
from differential_diffusion.training.run import Run
from differential_diffusion.training.state import INFO_FILE, STATE_FILE, list_checkpoints


def write(settings: dict[str, Any], path: Path) -> Path:
    path.write_text(yaml.safe_dump(settings), encoding="utf-8")
    return path


def run(settings: dict[str, Any], tmp_path: Path) -> dict[str, torch.Tensor]:
    """Train in this process; the full state at the end."""
    config = load_config(write(settings, tmp_path / "config.yaml"))
    train(config)
    return load_file(list_checkpoints(config.output)[-1] / STATE_FILE)


def assert_same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> None:
    assert a.keys() == b.keys()
    for name in a:
        assert torch.equal(a[name], b[name]), name


def test_same_seed_same_bytes_and_another_seed_differs(
    settings: dict[str, Any], tmp_path: Path
) -> None:
    first = run(settings, tmp_path)
    assert_same(first, run(settings | {"output": str(tmp_path / "again")}, tmp_path))
    other = run(settings | {"output": str(tmp_path / "other"), "seed": 1}, tmp_path)
    assert not torch.equal(first["ema.head.weight"], other["ema.head.weight"])


@pytest.mark.parametrize("optimizer", ["muon", "adamw"])
def test_stopped_and_resumed_equals_uninterrupted(
    settings: dict[str, Any], tmp_path: Path, optimizer: str
) -> None:
    settings["optimizer"] = {"name": optimizer, "warmup_steps": 2}
    expected = run(settings, tmp_path)
    config = load_config(
        write(settings | {"output": str(tmp_path / "halves")}, tmp_path / "halves.yaml")
    )

    class Stop(Exception):
        pass

    def stop(progress: Any) -> None:
        if progress.step == 7:
            raise Stop

    with pytest.raises(Stop):
        train(config, on_step=stop)
    train(config)
    assert_same(expected, load_file(list_checkpoints(config.output)[-1] / STATE_FILE))


@pytest.mark.parametrize("accumulation", [1, 2])
def test_what_is_fetched_ahead_is_the_same(
    settings: dict[str, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    accumulation: int,
) -> None:
    """As on a GPU: in another thread, and thrown away by what interrupts a step."""
    settings |= {"accumulation": accumulation, "noise": {"coloured": 0.5}}
    expected = run(settings, tmp_path)
    monkeypatch.setattr(Run, "fetches_ahead", True)
    settings["output"] = str(tmp_path / "ahead")
    config = load_config(write(settings, tmp_path / "ahead.yaml"))

    def stop(progress: Any) -> None:
        if progress.step == 7:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(config, on_step=stop)
    train(config)
    assert_same(expected, load_file(list_checkpoints(config.output)[-1] / STATE_FILE))


def test_what_fails_ahead_is_told() -> None:
    def items() -> Iterator[int]:
        yield 1
        raise InputError("no more")

    with pytest.raises(InputError, match="no more"):
        list(fetched_ahead(items()))
    assert list(fetched_ahead(iter([1, 2, 3]))) == [1, 2, 3]


def test_leaves_a_loadable_model_metrics_and_pictures(
    settings: dict[str, Any], tmp_path: Path
) -> None:
    run(settings, tmp_path)
    output = Path(settings["output"])
    model = load_model(output / "final", device="cpu")
    assert isinstance(model, DenoiserModel)
    x = torch.rand(1, 3, 20, 30)
    assert torch.equal(model.denoiser(x, torch.zeros(1, 1, 20, 30)), x)
    records = [json.loads(line) for line in (output / "metrics.jsonl").read_text().splitlines()]
    assert [record["step"] for record in records] == [6, 12]
    assert {"psnr_15", "psnr_25", "psnr_50", "loss"} <= records[0].keys()
    grid = np.asarray(Image.open(output / "samples" / "step-00000012.png"))
    assert grid.shape == (2 * 32, 6 * 32, 3)
    assert [folder.name for folder in list_checkpoints(output)] == [
        "step-00000010",
        "step-00000012",
    ]
    assert not list(output.rglob(".*"))


def test_learns_to_denoise(settings: dict[str, Any], tmp_path: Path) -> None:
    # Pictures of flat cells: even a small neighbourhood tells much; shrinking alone gains 3 dB.
    settings |= {"steps": 400, "noise": {"uniform": 1, "smooth": 0, "holes": 0, "paths": 0}}
    settings["validation"] = {"every": 400, "crop": 32, "sample_steps": 2}
    settings["optimizer"] = {"warmup_steps": 20, "ema_halflife": 5, "muon_learning_rate": 0.03}
    settings["checkpoint"] = {"every": 1000}
    seen: list[dict[str, float]] = []
    config = load_config(write(settings, tmp_path / "config.yaml"))
    train(config, on_step=lambda progress: seen.append(progress.metrics))
    noisy = 20 * np.log10(255 / 50)
    assert seen[-1]["psnr_50"] > noisy + 5


def test_refuses_to_start_over_an_old_run(settings: dict[str, Any], tmp_path: Path) -> None:
    run(settings, tmp_path)
    config = load_config(write(settings, tmp_path / "config.yaml"))
    with pytest.raises(InputError, match="already holds checkpoints"):
        train(config, resume=False)


def test_a_damaged_checkpoint_is_named(settings: dict[str, Any], tmp_path: Path) -> None:
    run(settings, tmp_path)
    state = list_checkpoints(Path(settings["output"]))[-1] / STATE_FILE
    state.write_bytes(state.read_bytes()[:1000])
    with pytest.raises(InputError, match="does not fit this run"):
        run(settings, tmp_path)


def test_warm_start_takes_the_weights(settings: dict[str, Any], tmp_path: Path) -> None:
    run(settings, tmp_path)
    first = Path(settings["output"])
    again = settings | {
        "output": str(tmp_path / "warm"),
        "init_from": str(first / "final"),
        "steps": 1,
        "optimizer": {"learning_rate": 1e-9, "muon_learning_rate": 1e-9, "warmup_steps": 0},
    }
    state = run(again, tmp_path)
    final = load_file(first / "final" / "model.safetensors")
    for name, value in final.items():
        torch.testing.assert_close(state[f"ema.{name}"], value, rtol=0, atol=1e-6)


class Stop(Exception):
    """Stands for a kill at a chosen step."""


def stop_at(step: int) -> Callable[[Progress], None]:
    def on_step(progress: Progress) -> None:
        if progress.step == step:
            raise Stop

    return on_step


def test_metrics_hold_every_step_once_after_a_kill(
    settings: dict[str, Any], tmp_path: Path
) -> None:
    settings |= {"steps": 20, "checkpoint": {"every": 10}}
    config = load_config(write(settings, tmp_path / "config.yaml"))
    with pytest.raises(Stop):  # step 12 is in the metrics, but after the last checkpoint
        train(config, on_step=stop_at(13))
    lines = (config.output / "metrics.jsonl").read_text().splitlines()
    with (config.output / "metrics.jsonl").open("a") as file:
        file.write('{"step": 13, "lo')  # killed while writing
    train(config)
    text = (config.output / "metrics.jsonl").read_text()
    again = [json.loads(line) for line in text.splitlines()]
    assert [record["step"] for record in again] == [6, 12, 18, 20]
    before = json.loads(lines[1])
    assert again[1]["psnr_50"] == before["psnr_50"]


@pytest.mark.parametrize(
    ("change", "key"),
    [
        ({"batch_size": 2}, "batch_size"),
        ({"seed": 5}, "seed"),
        ({"network": {"channels": [8, 8], "blocks": [1, 1]}}, "network.channels"),
        ({"noise": {"mean": 0.0}}, "noise.mean"),
        ({"optimizer": {"learning_rate": 0.1, "warmup_steps": 2}}, "optimizer.learning_rate"),
    ],
)
def test_resuming_with_another_configuration_names_the_key(
    settings: dict[str, Any], tmp_path: Path, change: dict[str, Any], key: str
) -> None:
    run(settings, tmp_path)
    with pytest.raises(InputError, match=f"another '{key}'"):
        run(settings | change, tmp_path)


def test_what_changed_nothing_may_be_left_out(settings: dict[str, Any], tmp_path: Path) -> None:
    """It was accepted once, and is in checkpoints of that time; so are what defaults were."""
    settings |= {"data": settings["data"] | {"augmentation": 0.1}}
    run(settings | {"steps": 1}, tmp_path)
    info = list_checkpoints(Path(settings["output"]))[-1] / INFO_FILE
    stored = json.loads(info.read_text())
    stored["config"]["data"] |= {"symmetries": "none", "unlabelled": "rest"}
    stored["config"]["noise"] |= {"mean": -1.4, "deviation": 1.2}
    info.write_text(json.dumps(stored))
    run(settings | {"steps": 2}, tmp_path)


def test_resuming_with_other_pictures_is_refused(settings: dict[str, Any], tmp_path: Path) -> None:
    folder = tmp_path / "pictures"
    shutil.copytree(settings["data"]["path"], folder)
    settings |= {"data": settings["data"] | {"path": str(folder)}, "steps": 2}
    run(settings, tmp_path)
    moved = folder.rename(tmp_path / "moved")
    settings |= {"data": settings["data"] | {"path": str(moved)}, "steps": 4}
    run(settings, tmp_path)
    Image.new("RGB", (40, 40)).save(moved / "another.png")
    with pytest.raises(InputError, match="are not those that the run"):
        run(settings | {"steps": 6}, tmp_path)


def other_pixels(folder: Path) -> None:
    for path in (folder / "photos").iterdir():
        with Image.open(path) as opened:
            pixels = np.array(opened)
        pixels[3, 4, 1] ^= 1
        Image.fromarray(pixels).save(path)


def other_numbers(folder: Path) -> None:
    path = folder / "numbers.csv"
    path.write_text(path.read_text().replace("1.5", "1.25"))


def other_pictures_beside(folder: Path) -> None:
    for path in (folder / "beside").iterdir():
        Image.new("RGB", (96, 80)).save(path)


@pytest.mark.parametrize("change", [other_pixels, other_numbers, other_pictures_beside])
def test_resuming_with_other_contents_is_refused(
    settings: dict[str, Any], tmp_path: Path, change: Callable[[Path], None]
) -> None:
    """Under the same names and in the same sizes, in a folder that was moved."""
    first, moved = tmp_path / "first", tmp_path / "moved"
    for name in ("photos", "beside"):
        shutil.copytree(settings["data"]["path"], first / name)
    (first / "numbers.csv").write_text("".join(f"{k},{k},1.5\n" for k in range(6)))

    def of(folder: Path, steps: int) -> dict[str, Any]:
        paths = {"path": "photos", "vectors": "numbers.csv", "pictures": "beside"}
        told = {key: str(folder / name) for key, name in paths.items()}
        return settings | {"data": settings["data"] | told, "steps": steps}

    run(of(first, 1), tmp_path)
    first.rename(moved)
    run(of(moved, 2), tmp_path)
    change(moved)
    with pytest.raises(InputError, match="or what is told of them, are not those that the run"):
        run(of(moved, 3), tmp_path)


@pytest.mark.parametrize("key", ["vectors", "pictures"])
def test_what_was_told_may_not_be_left_out(
    settings: dict[str, Any], tmp_path: Path, key: str
) -> None:
    (tmp_path / "numbers.csv").write_text("".join(f"{k},{k}\n" for k in range(6)))
    path = tmp_path / "numbers.csv" if key == "vectors" else settings["data"]["path"]
    run(settings | {"data": settings["data"] | {key: str(path)}, "steps": 1}, tmp_path)
    with pytest.raises(InputError, match=f"another 'data.{key}'"):
        run(settings | {"steps": 2}, tmp_path)


def test_checkpoints_that_know_pictures_by_name_and_size_go_on(
    settings: dict[str, Any], tmp_path: Path
) -> None:
    """As they were written before pixels counted: sha256 of the lines of names and shapes."""
    settings |= {"data": settings["data"] | {"cut": "fit"}}
    run(settings | {"steps": 2}, tmp_path)
    info = list_checkpoints(Path(settings["output"]))[-1] / INFO_FILE
    stored = json.loads(info.read_text())
    pictures = sorted(Path(settings["data"]["path"]).iterdir())
    held_out = sorted(pictures, key=lambda path: hashlib.sha256(path.name.encode()).digest())[:2]
    names = [path.name for path in pictures if path not in held_out]
    listed = "\n".join(f"{name} (80, 96, 3)" for name in names)
    former = hashlib.sha256(listed.encode()).hexdigest()
    assert stored["data"] != former
    info.write_text(json.dumps(stored | {"data": former}))
    run(settings | {"steps": 4}, tmp_path)
    now = list_checkpoints(Path(settings["output"]))[-1] / INFO_FILE
    assert json.loads(now.read_text())["data"] == stored["data"]


def test_resuming_with_other_classes_is_refused(settings: dict[str, Any], tmp_path: Path) -> None:
    """The same pictures by name and size, in an archive whose classes have been exchanged."""
    for turn, names in enumerate((("a", "b"), ("b", "a"))):
        with tarfile.open(tmp_path / "shard.tar", "w") as archive:
            for path in sorted(Path(settings["data"]["path"]).iterdir()):
                archive.add(path, path.name)
                label = tmp_path / f"{path.stem}.cls"
                label.write_text(names[int(path.stem) % 2])
                archive.add(label, label.name)
        made = settings | {"steps": turn + 1}
        made["data"] = settings["data"] | {"path": str(tmp_path / "shard.tar"), "labels": "source"}
        made["data"]["validation"] = 1
        if turn == 0:
            run(made, tmp_path)
    with pytest.raises(InputError, match="are not those that the run"):
        run(made, tmp_path)


def test_steps_to_keep_are_kept(settings: dict[str, Any], tmp_path: Path) -> None:
    settings["checkpoint"] = {"every": 4, "keep": 1, "keep_steps": [3, 4]}
    run(settings, tmp_path)
    kept = [folder.name[-2:] for folder in list_checkpoints(Path(settings["output"]))]
    assert kept == ["03", "04", "12"]


def test_resuming_may_train_longer_and_needs_no_init_from(
    settings: dict[str, Any], tmp_path: Path
) -> None:
    first = tmp_path / "first"
    run(settings | {"output": str(first)}, tmp_path)
    settings["init_from"] = str(first / "final")
    run(settings, tmp_path)
    shutil.rmtree(first)
    run(settings | {"steps": 14}, tmp_path)
    assert list_checkpoints(Path(settings["output"]))[-1].name == "step-00000014"


def test_an_output_that_cannot_be_made_is_found_before_anything_else(
    settings: dict[str, Any], tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    settings |= {"output": str(tmp_path / "file" / "run"), "data": {"path": "nowhere"}}
    with pytest.raises(InputError, match=r"output folder '.*' cannot be made"):
        train(load_config(write(settings, tmp_path / "config.yaml")))


def test_says_which_pictures_it_left_out(settings: dict[str, Any], tmp_path: Path) -> None:
    folder = tmp_path / "pictures"
    shutil.copytree(settings["data"]["path"], folder)
    Image.new("RGB", (8, 40)).save(folder / "narrow.png")
    settings |= {"data": settings["data"] | {"path": str(folder)}, "steps": 1}
    notes: list[str] = []
    train(load_config(write(settings, tmp_path / "config.yaml")), on_note=notes.append)
    assert notes[0] == (
        "pictures left out: 1, the first is 'narrow.png' (8x40 is smaller than 16 pixels)."
    )


def test_a_network_that_grew_starts_as_what_it_grew_from(
    settings: dict[str, Any], tmp_path: Path
) -> None:
    run(settings, tmp_path)
    small = Path(settings["output"]) / "final"
    grown = settings | {
        "output": str(tmp_path / "grown"),
        "init_from": str(small),
        "steps": 1,
        "network": settings["network"] | {"blocks": [2, 3]},
        "optimizer": {"learning_rate": 1e-12, "muon_learning_rate": 1e-12, "warmup_steps": 0},
    }
    run(grown, tmp_path)
    x, sigma = torch.rand(1, 3, 24, 24), torch.full((1, 1, 24, 24), 0.3)
    before, after = (
        load_model(folder, device="cpu", precision="fp32").denoiser(x, sigma)
        for folder in (small, tmp_path / "grown" / "final")
    )
    torch.testing.assert_close(after, before, rtol=0, atol=1e-6)
    network = {"channels": [24], "blocks": [1]}
    wider = grown | {"output": str(tmp_path / "wide"), "network": network}
    with pytest.raises(InputError, match="only blocks, attention, context and conditions may be"):
        run(wider, tmp_path)


def test_schedule() -> None:
    plain = OptimizerConfig(warmup_steps=10, decay=1.0)
    factors = [learning_rate_factor(step, 100, plain) for step in range(101)]
    assert factors[0] == pytest.approx(0.1)
    assert factors[50] == pytest.approx(0.5)
    assert factors[100] == pytest.approx(0.0)
    plateau = OptimizerConfig(warmup_steps=10, decay=0.25)
    assert learning_rate_factor(74, 100, plateau) == 1
    assert learning_rate_factor(87, 100, plateau) == pytest.approx(0.531, abs=0.01)
    assert ema_decay(10**6, 500) ** 500 == pytest.approx(0.5)
    assert ema_decay(99, 500) ** 10 == pytest.approx(0.5)


def test_too_little_memory_is_one_sentence(settings: dict[str, Any], tmp_path: Path) -> None:
    config = load_config(write(settings, tmp_path / "config.yaml"))

    def exhaust(progress: Any) -> None:
        torch.empty(1 << 60)

    with pytest.raises(InputError, match="not enough memory: raise accumulation, set gradient_"):
        train(config, on_step=exhaust)
