"""Every mistake in a configuration or its data ends in one sentence that says what to do."""

from __future__ import annotations

import json
import re
import resource
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image
from typer.testing import CliRunner

from differential_diffusion.cli import app
from differential_diffusion.errors import InputError
from differential_diffusion.training import Progress, load_config, train
from differential_diffusion.training.state import list_checkpoints

from .test_processes import end, write
from .test_stops import assert_same, drafts, newest

Settings = dict[str, Any]
Change = Callable[[Settings, Path], Settings]


def refused(config: Path, *options: str) -> str:
    """What the command says about a run that it refuses: one sentence and no more."""
    done = CliRunner().invoke(app, ["train", str(config), "--quiet", *options])
    assert done.exit_code == 2, done.output
    assert done.stdout == ""
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1, done.stderr
    said = done.stderr.removeprefix("error: ").rstrip("\n")
    assert not re.search(r"[.!?] +[A-Z]", said), said
    assert "Traceback" not in said
    assert "0x" not in said
    assert re.search(r"[:,] .{3,}", said), said  # what to do
    return said


def put(**changes: Any) -> Change:
    """Settings put in, those of sections beside what the section has."""

    def change(settings: Settings, _: Path) -> Settings:
        for key, value in changes.items():
            old = settings.get(key)
            merged = isinstance(value, dict) and isinstance(old, dict)
            settings[key] = old | value if merged else value  # type: ignore[operator]
        return settings

    return change


def without(key: str) -> Change:
    def change(settings: Settings, _: Path) -> Settings:
        del settings[key]
        return settings

    return change


def data(make: Callable[[Path], dict[str, Any]]) -> Change:
    """Data that a function makes in a folder, beside a copy of the pictures in `pictures`."""

    def change(settings: Settings, tmp_path: Path) -> Settings:
        shutil.copytree(settings["data"]["path"], tmp_path / "pictures")
        settings["data"] = settings["data"] | {"path": str(tmp_path / "pictures")} | make(tmp_path)
        return settings

    return change


def photo(path: Path, size: tuple[int, int] = (96, 80)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(len(str(path)))
    Image.fromarray(rng.integers(0, 256, (*size[::-1], 3), dtype=np.uint8)).save(path)


def classes(**counts: int) -> Callable[[Path], dict[str, Any]]:
    def make(folder: Path) -> dict[str, Any]:
        for name, count in counts.items():
            for k in range(count):
                photo(folder / "kinds" / name / f"{k}.png")
        return {"path": str(folder / "kinds"), "labels": "folders", "validation": 1}

    return make


def vectors(text: str) -> Callable[[Path], dict[str, Any]]:
    def make(folder: Path) -> dict[str, Any]:
        (folder / "numbers.csv").write_text(text)
        return {"vectors": str(folder / "numbers.csv")}

    return make


def numbered(last: str) -> str:
    return "".join(f"{k},1.5,2\n" for k in range(5)) + last


def beside(change: Callable[[Path], None]) -> Callable[[Path], dict[str, Any]]:
    def make(folder: Path) -> dict[str, Any]:
        shutil.copytree(folder / "pictures", folder / "beside")
        change(folder / "beside")
        return {"pictures": str(folder / "beside")}

    return make


def damaged(count: int) -> Callable[[Path], dict[str, Any]]:
    def make(folder: Path) -> dict[str, Any]:
        for k in range(count):
            (folder / "pictures" / f"broken-{k}.jpg").write_bytes(b"\xff\xd8\xff" + bytes(50))
        return {}

    return make


def file(name: str, content: bytes) -> Callable[[Path], dict[str, Any]]:
    def make(folder: Path) -> dict[str, Any]:
        (folder / name).write_bytes(content)
        return {"path": str(folder / name)}

    return make


def empty(folder: Path) -> dict[str, Any]:
    (folder / "empty").mkdir()
    return {"path": str(folder / "empty")}


def saved(folder: Path) -> dict[str, Any]:
    import datasets

    rows = datasets.Dataset.from_dict({"text": ["a"]})
    datasets.DatasetDict({"train": rows}).save_to_disk(str(folder / "set"))
    return {"path": str(folder / "set"), "split": "trian"}


def cut_archive(folder: Path) -> dict[str, Any]:
    shutil.make_archive(str(folder / "whole"), "tar", folder / "pictures")
    whole = (folder / "whole.tar").read_bytes()
    (folder / "cut.tar").write_bytes(whole[: len(whole) // 2])
    return {"path": str(folder / "cut.tar")}


def loss(text: str, name: str) -> Change:
    """A module of the user's, and what of it is named as the loss."""

    def change(settings: Settings, tmp_path: Path) -> Settings:
        (tmp_path / "wrong_losses.py").write_text(text)
        return settings | {"objective": {"loss": name}}

    return change


def of_diffusers(options: dict[str, Any] | None = None, **changes: Any) -> Change:
    small = {"block_out_channels": [32], "down_block_types": ["DownBlock2D"]}
    small |= {"up_block_types": ["UpBlock2D"], "layers_per_block": 1}

    def change(settings: Settings, _: Path) -> Settings:
        made = {"objective": {"maps": False}, "network": {"diffusers": small | (options or {})}}
        for key, value in changes.items():
            made[key] = made.get(key, settings.get(key, {})) | value
        return settings | made

    return change


def init_from(name: str) -> Change:
    def change(settings: Settings, tmp_path: Path) -> Settings:
        return settings | {"init_from": str(tmp_path / name)}

    return change


def under_a_file(settings: Settings, tmp_path: Path) -> Settings:
    (tmp_path / "file").write_text("")
    return settings | {"output": str(tmp_path / "file" / "run")}


BAD: dict[str, tuple[Change, str]] = {
    "misspelt key": (put(stesp=3), r"'stesp' is not known: did you mean 'steps'\?"),
    "misspelt key of a section": (
        put(optimizer={"learning_rat": 1}),
        r"'optimizer.learning_rat' is not known: did you mean 'learning_rate'\?",
    ),
    "misspelt section": (put(optimiser={"name": "muon"}), r"did you mean 'optimizer'\?"),
    "key like no other": (put(data={"zzz": 1}), r"'data.zzz' is not known: known keys are path, "),
    "no output": (without("output"), "the key 'output' is missing: add it"),
    "no data": (without("data"), "the key 'data' is missing: add it"),
    "wrong type": (put(steps="many"), "'steps' is 'many': input should be a valid integer"),
    "half a step": (put(steps=1.5), "'steps' is 1.5: input should be a valid integer"),
    "section that is none": (put(network=3), "'network' is 3: input should be a mapping"),
    "entry of a list": (
        put(network={"channels": [8, "x"]}),
        r"'network.channels.1' is 'x': input should be a valid integer",
    ),
    "no steps": (put(steps=0), "'steps' is 0: input should be greater than or equal to 1"),
    "negative rate": (
        put(optimizer={"learning_rate": -1}),
        "'optimizer.learning_rate' is -1: input should be greater than 0",
    ),
    "rate that is no number": (
        put(optimizer={"learning_rate": float("nan")}),
        "'optimizer.learning_rate' is nan: input should be",
    ),
    "negative dropout": (put(network={"dropout": -0.1}), "'network.dropout' is -0.1: input"),
    "all left out": (put(network={"dropout": 1}), "'network.dropout' is 1: input should be less"),
    "precision": (put(precision="fp8"), "'precision' is 'fp8': input should be 'auto', 'fp32'"),
    "optimizer": (put(optimizer={"name": "sgd"}), "'optimizer.name' is 'sgd': .*'muon'"),
    "objective": (put(objective={"name": "gan"}), "'objective.name' is 'gan': .*'edm'"),
    "weight": (
        put(objective={"weight": "heavy"}),
        "'objective.weight' is 'heavy': the weight must be one of uniform, min-snr",
    ),
    "tracker": (put(tracking={"trackers": ["mlflow"]}), "'mlflow': input should be 'tensorboard'"),
    "tracker that is not installed": (
        put(tracking={"trackers": ["wandb"]}),
        r"the tracker wandb needs the extra 'tracking': pip install",
    ),
    "range of levels": (
        put(noise={"sigma_min": 3, "sigma_max": 2}),
        "sigma_min 3.0 and sigma_max 2.0 must satisfy 0 < sigma_min < sigma_max",
    ),
    "no kind of field": (
        put(noise={"uniform": 0, "smooth": 0, "holes": 0, "paths": 0}),
        "none may be negative and their sum must be positive",
    ),
    "no levels between": (
        put(noise={"deviation": -1}),
        "'noise.deviation' is -1: input should be greater than or equal to 0",
    ),
    "patches and strides": (
        put(data={"patch_size": 18}),
        "data.patch_size 18 is no multiple of 4",
    ),
    "batch and accumulation": (
        put(batch_size=4, accumulation=3),
        "batch_size 4 is no multiple of accumulation 3",
    ),
    "channels and blocks": (put(network={"channels": [8]}), "need one entry per scale each"),
    "attention": (
        put(network={"attention": [2]}),
        r"attention \(2,\) names scales beyond the 2 there are",
    ),
    "loss without a module": (
        put(objective={"loss": "mine"}),
        "objective.loss 'mine' cannot be imported .*: give 'package.module:function'",
    ),
    "loss of no module": (
        put(objective={"loss": "no_such_module:loss"}),
        "ModuleNotFoundError: No module named 'no_such_module'",
    ),
    "loss of another name": (
        loss("def loss(r): ...", "wrong_losses:los"),
        "has no attribute 'los'",
    ),
    "loss that is no function": (loss("loss = 3", "wrong_losses:loss"), "is no function: name one"),
    "loss in a broken module": (
        loss("def loss(:", "wrong_losses:loss"),
        "objective.loss 'wrong_losses:loss' cannot be imported .SyntaxError",
    ),
    "loss for the batch": (
        loss("def loss(r): return r.predicted.mean()", "wrong_losses:loss"),
        r"the loss gave \(\) for a batch of 4: give one number for each picture",
    ),
    "maps for Diffusers": (
        of_diffusers(objective={"maps": True}),
        "cannot be told of objective.maps: set it to false",
    ),
    "numbers for Diffusers": (
        of_diffusers(data={"vectors": "x.csv"}),
        "cannot be told of data.vectors: leave it out",
    ),
    "channels for Diffusers": (
        of_diffusers(network={"channels": [8, 8]}),
        "network.channels is not for a network of Diffusers: leave it out",
    ),
    "option of Diffusers": (
        of_diffusers({"layer_per_block": 2}),
        "UNet2DModel knows no 'layer_per_block' .*: did you mean 'layers_per_block'",
    ),
    "option that follows from the data": (
        of_diffusers({"in_channels": 2}),
        "UNet2DModel knows no 'in_channels' that may be set here",
    ),
    "options that do not fit": (
        of_diffusers({"block_out_channels": [32, 32]}),
        "UNet2DModel cannot be made of .*: mend network.diffusers",
    ),
    "blocks of Diffusers": (
        of_diffusers({"down_block_types": ["DownBlok2D"]}),
        "UNet2DModel cannot be made of .*: mend network.diffusers",
    ),
    "groups of Diffusers": (
        of_diffusers({"block_out_channels": [30]}),
        "UNet2DModel cannot be made of .*: mend network.diffusers",
    ),
    "output under a file": (under_a_file, "the output folder '.*run' cannot be made"),
    "data that are not there": (put(data={"path": "nowhere"}), "'nowhere' does not exist: give a"),
    "empty folder": (data(empty), r"empty' holds no usable picture \(0 found\): give a folder"),
    "text as data": (data(file("a.txt", b"hello")), "neither a folder nor a whole tar file"),
    "cut archive": (data(cut_archive), "cut.tar' is neither a folder nor a whole tar file"),
    "damaged pictures": (
        data(damaged(3)),
        r"3 of 9 pictures in '.*' cannot be read \(the first is 'broken-0.jpg': .*\): mend or",
    ),
    "pictures that are too small": (
        put(data={"patch_size": 128}),
        r"holds no usable picture \(6 found\): .* at least 128 pixels a side",
    ),
    "all pictures held out": (
        put(data={"validation": 6}),
        r"wants 6 of 6 usable pictures: lower data\.validation or add pictures",
    ),
    "half a picture held out": (
        put(data={"validation": 1.5}),
        "'data.validation' is 1.5: give a whole number of pictures, or a share below 1",
    ),
    "nothing held out": (
        put(data={"validation": 0}),
        "'data.validation' is 0: input should be greater than 0",
    ),
    "symmetries beside augmentation": (
        put(data={"symmetries": "none", "augmentation": 0.1}),
        "data.symmetries is without effect beside data.augmentation, which replaces it: leave",
    ),
    "unlabelled without labels": (
        put(data={"unlabelled": "rest"}),
        "data.unlabelled is without effect without data.labels: leave it out",
    ),
    "channels of no pictures": (
        put(data={"picture_channels": 1}),
        "data.picture_channels is without effect without data.pictures: leave it out",
    ),
    "coloured noise of grey": (
        put(data={"channels": 1}, noise={"coloured": 0.2}),
        "noise.coloured is without effect where data.channels is not 3: leave it out",
    ),
    "single class": (data(classes(cat=5)), "has the single class 'cat': set data.labels to none"),
    "class of one": (
        data(classes(cat=9, dog=1)),
        "the class 'dog' has (one training|all of its pictures)",
    ),
    "no classes": (put(data={"labels": "folders"}), "has no class in a folder of its own: put it"),
    "no classes beside": (put(data={"labels": "source"}), "has no class beside it: put it there"),
    "no numbers": (
        put(data={"vectors": "none.csv"}),
        "data.vectors 'none.csv' cannot be read: No such file",
    ),
    "numbers of one missing": (
        data(vectors(numbered(""))),
        r"data.vectors '.*' has no line for '5.png': add one",
    ),
    "numbers that are words": (
        data(vectors(numbered("5,1,red\n"))),
        r"has \['1', 'red'\] for '5.png': give numbers only",
    ),
    "numbers that are not finite": (data(vectors(numbered("5,1,inf\n"))), "as many finite numbers"),
    "numbers of other lengths": (data(vectors(numbered("5,1\n"))), "on each line, at least one"),
    "numbers that are a picture": (
        data(lambda folder: {"vectors": str(folder / "pictures" / "0.png")}),
        "0.png' cannot be read: it is no CSV text",
    ),
    "nothing beside": (put(data={"pictures": "nowhere"}), "'nowhere' does not exist: give"),
    "one without a picture beside": (
        data(beside(lambda folder: (folder / "3.png").unlink())),
        "data.pictures '.*' has no readable picture for '3.png': add it",
    ),
    "one of another size beside": (
        data(beside(lambda folder: photo(folder / "3.png", (95, 80)))),
        "data.pictures '.*' has one of another size for '3.png'",
    ),
    "split": (data(saved), "has no split 'trian': choose one of train"),
    "a schedule of an objective without betas": (
        put(objective={"schedule": "cosine"}),
        "objective.schedule is without effect on the objective 'edm': leave it out",
    ),
    "a law of t of an objective without t": (
        put(objective={"name": "v", "times": "logit-normal"}),
        "objective.times is without effect on the objective 'v'",
    ),
    "betas that fall": (
        put(objective={"name": "vp", "betas": [20, 0.1]}),
        r"'objective.betas' is \[20, 0.1\]: the first of betas must be below the second",
    ),
    "the mean of a law that has none": (
        put(objective={"name": "flow"}, noise={"mean": -1.0}),
        "noise.mean is without effect on the objective 'flow', which has a law of its own",
    ),
    "fields without maps": (
        put(objective={"maps": False}, noise={"holes": 0.4}),
        "noise.holes is without effect without objective.maps",
    ),
    "a rate of muon for adamw": (
        put(optimizer={"name": "adamw", "muon_learning_rate": 0.02}),
        "optimizer.muon_learning_rate is without effect on adamw",
    ),
    "levels beyond those that are learnt": (
        put(objective={"name": "ddpm", "maps": False}, noise={"sigma_max": 5000}),
        "noise.sigma_max 5000 is beyond the largest level that 'ddpm' learns, 157.4: lower it",
    ),
    "a step to keep before the first": (
        put(checkpoint={"every": 4, "keep_steps": [-5]}),
        "'checkpoint.keep_steps.0' is -5: input should be greater than 0",
    ),
    "weights that are not there": (init_from("none"), "none' does not exist: a checkpoint is"),
}  # fmt: skip


@pytest.mark.parametrize("kind", BAD)
def test_one_sentence(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    change, expected = BAD[kind]
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delitem(sys.modules, "wrong_losses", raising=False)
    said = refused(write(change(settings, tmp_path), tmp_path / "run.yaml"))
    assert re.search(expected, said), said
    output = tmp_path / "run"
    assert not list_checkpoints(output)
    assert not (output / "final").exists()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a: [1", "is not valid YAML at line 1: check indentation and colons"),
        ("a: 1\n b: 2", "is not valid YAML at line 2: check"),
        ("just words", "must hold a mapping of settings such as"),
        ("", "must hold a mapping"),
        ("steps: 2024-13-45", "is not valid YAML: check"),
        (b"\xff\xfe\x00", "it is not text"),
    ],
)
def test_files_that_hold_no_settings(tmp_path: Path, text: str | bytes, expected: str) -> None:
    path = tmp_path / "run.yaml"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    said = refused(path)
    assert re.search(expected, said), said
    assert str(path) in said
    assert refused(path, "--set", "steps=3") == said or "missing" in said


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    assert "No such file" in refused(tmp_path / "none.yaml")
    assert "Is a directory" in refused(tmp_path)


def test_settings_on_the_command_line(settings: Settings, tmp_path: Path) -> None:
    config = write(settings, tmp_path / "run.yaml")
    assert "is not KEY=VALUE" in refused(config, "--set", "steps")
    assert "not valid YAML" in refused(config, "--set", "steps=[1")
    assert "did you mean 'steps'" in refused(config, "--set", "stesp=3")
    assert "'optimizer.warmup_steps' is -1" in refused(config, "--set", "optimizer.warmup_steps=-1")


def test_weights_of_another_shape(settings: Settings, tmp_path: Path) -> None:
    first = settings | {"output": str(tmp_path / "first"), "steps": 1}
    train(load_config(write(first, tmp_path / "first.yaml")))
    wider = settings | {"init_from": str(tmp_path / "first" / "final")}
    wider["network"] = settings["network"] | {"channels": [8, 16]}
    said = refused(write(wider, tmp_path / "wider.yaml"))
    assert "has another shape than the network of this configuration" in said
    # The folder of the run in place of its model.
    wider["init_from"] = str(tmp_path / "first")
    assert "first/model.safetensors' does not exist" in refused(write(wider, tmp_path / "w.yaml"))


RESUMED: dict[str, tuple[Callable[[Settings, Path], None], str]] = {
    "other seed": (lambda s, run: s.update(seed=9), "was started with another 'seed': set it back"),
    "other width": (
        lambda s, run: s.update(network={"channels": [8, 8], "blocks": [1, 1]}),
        "was started with another 'network.channels': set it back",
    ),
    "fewer steps": (
        lambda s, run: s.update(steps=1),
        "has done 2 steps already and 'steps' is 1: raise it, or choose another output",
    ),
    "cut state": (
        lambda s, run: (run / "training_state.safetensors").write_bytes(b"\0" * 9),  # type: ignore[func-returns-value]
        "step-00000002' does not fit this run .*: remove it or choose another output",
    ),
    "no state": (
        lambda s, run: (run / "training_state.safetensors").unlink(),
        "step-00000002' does not fit this run",
    ),
    "text in place of the figures": (
        lambda s, run: (run / "training_state.json").write_text("x"),  # type: ignore[func-returns-value]
        "step-00000002' does not fit this run",
    ),
    "other figures": (
        lambda s, run: (run / "training_state.json").write_text("{}"),  # type: ignore[func-returns-value]
        "step-00000002' does not fit this run .*'step'",
    ),
    "a list in place of the figures": (
        lambda s, run: (run / "training_state.json").write_text("[]"),  # type: ignore[func-returns-value]
        "step-00000002' does not fit this run",
    ),
}


@pytest.mark.parametrize("kind", RESUMED)
def test_a_run_that_does_not_go_on(settings: Settings, tmp_path: Path, kind: str) -> None:
    config = write(settings | {"steps": 2}, tmp_path / "run.yaml")
    train(load_config(config))
    change, expected = RESUMED[kind]
    folder = list_checkpoints(Path(settings["output"]))[-1]
    made = settings | {"steps": 2}
    change(made, folder)
    said = refused(write(made, config))
    assert re.search(expected, said), said


def test_a_checkpoint_of_another_network(settings: Settings, tmp_path: Path) -> None:
    """Its settings say the same, its weights do not."""
    other = settings | {"output": str(tmp_path / "other"), "steps": 2}
    other["network"] = settings["network"] | {"channels": [24, 16]}
    for name, made in (("run", settings | {"steps": 2}), ("other", other)):
        train(load_config(write(made, tmp_path / f"{name}.yaml")))
    state = "training_state.safetensors"
    ours, theirs = (list_checkpoints(tmp_path / name)[-1] for name in ("run", "other"))
    shutil.copy(theirs / state, ours / state)
    said = refused(tmp_path / "run.yaml")
    assert "does not fit this run (size mismatch for " in said


class FullDisk:
    """Files may grow to so many bytes and no more, as with a quota."""

    def __init__(self, most: int) -> None:
        self.most, self.before = most, resource.getrlimit(resource.RLIMIT_FSIZE)

    def __enter__(self) -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (self.most, self.before[1]))

    def __exit__(self, *_: object) -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, self.before)


@pytest.mark.parametrize(
    ("most", "step", "what"),
    [
        (20_000, 5, r"the checkpoint '.*step-00000006'"),
        (400, 7, r"the figures in '.*run'"),
        (30_000, 10, r"the checkpoint '.*step-00000012'"),
    ],
)
def test_a_full_disk_leaves_what_was_saved(
    settings: Settings, tmp_path: Path, most: int, step: int, what: str
) -> None:
    settings |= {"checkpoint": {"every": 3, "keep": 1}}
    settings["validation"] |= {"every": 8}
    config = load_config(write(settings, tmp_path / "run.yaml"))
    limit = FullDisk(most)

    def fill(progress: Progress) -> None:
        if progress.step == step:
            limit.__enter__()

    try:
        with pytest.raises(
            InputError, match=what + r" cannot be written .File too large.: make"
        ) as e:
            train(config, on_step=fill)
    finally:
        limit.__exit__()
    assert "\n" not in str(e.value)
    assert newest(config.output) == {5: 3, 7: 6, 10: 9}[step]
    assert drafts(config.output) == []
    assert not (config.output / "final").exists()
    for folder in list_checkpoints(config.output):
        json.loads((folder / "training_state.json").read_text())
    train(config)
    whole = settings | {"output": str(tmp_path / "whole")}
    train(load_config(write(whole, tmp_path / "whole.yaml")))
    assert_same(end(tmp_path / "whole"), end(config.output))
    records = (config.output / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in records] == [8, 12]


def test_a_full_disk_at_the_very_end(settings: Settings, tmp_path: Path) -> None:
    config = load_config(write(settings, tmp_path / "run.yaml"))
    train(config)
    before = (config.output / "final" / "model.safetensors").read_bytes()
    with (
        FullDisk(10_000),
        pytest.raises(InputError, match=r"the model '.*final' cannot be written"),
    ):
        train(config)
    assert (config.output / "final" / "model.safetensors").read_bytes() == before
    assert drafts(config.output) == []


def test_a_full_disk_under_a_codec(settings: Settings, tmp_path: Path) -> None:
    """Diffusers writes it, whose errors are others."""
    pytest.importorskip("diffusers")
    kept = {key: settings[key] for key in ("output", "data", "precision")}
    network = {"channels": [8, 8], "norm_groups": 4, "latent_channels": 2}
    made = kept | {"kind": "codec", "steps": 2, "network": network}
    config = load_config(write(made, tmp_path / "run.yaml"))
    train(config)
    with (
        FullDisk(10_000),
        pytest.raises(InputError, match=r"the model '.*final' cannot be written .*File too large"),
    ):
        train(config)


@pytest.mark.parametrize("text", ["steps: 3\nseed: 1\nsteps: 4", "noise: {mean: 1}\nnoise: {}"])
def test_a_key_that_stands_twice_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "run.yaml").write_text(text)
    key, line = text[:5], 1 + text.count("\n")
    said = refused(tmp_path / "run.yaml")
    assert f"at line {line}: the key '{key}' stands there for the second time: join them" in said


def test_the_folders_of_runs_are_listed_by_step(tmp_path: Path) -> None:
    """What is half there, and what is none, does not count."""
    for name in ("step-00000002", "step-00000010", ".step-00000011.77", "step-00000012", "notes"):
        (tmp_path / "checkpoints" / name).mkdir(parents=True)
    for name in ("step-00000002", "step-00000010", ".step-00000011.77"):
        (tmp_path / "checkpoints" / name / "training_state.json").write_text("{}")
    assert [folder.name[-2:] for folder in list_checkpoints(tmp_path)] == ["02", "10"]
    assert yaml.safe_load("a: 1") == {"a": 1}
