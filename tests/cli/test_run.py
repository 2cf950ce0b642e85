"""edit, inpaint, denoise and restore from the command line."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import Result

import differential_diffusion as dd
from differential_diffusion.cli.outputs import Targets
from differential_diffusion.errors import InputError
from differential_diffusion.schema import Request
from differential_diffusion.tasks import TASKS, Task, TaskInput, TaskOutput

from ..pipelines import FAMILIES

Command = Callable[..., Result]
HOLE = slice(8, 16)
EDIT = ("--strength", "mask.png", "--steps", "3")
MAIN = "from differential_diffusion.cli import main; main()"


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image)


def names(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def test_edit_changes_what_may_change_and_says_what_it_did(run: Command, folder: Path) -> None:
    done = run("edit", "photo.png", *EDIT)
    assert done.exit_code == 0, done.output
    assert done.stdout.startswith("photo.png -> photo-edit.png (")
    assert done.stdout.rstrip().endswith("s, 3 evaluations, seed 0)")
    assert done.stderr == ""
    before, after = pixels(folder / "photo.png"), pixels(folder / "photo-edit.png")
    changed = (before != after).any(axis=-1)
    assert changed[HOLE].mean() > 0.9
    assert not np.delete(changed, np.r_[HOLE], axis=0).any()
    assert names(folder) == {"photo.png", "other.png", "mask.png", "photo-edit.png"}


def test_the_command_and_python_make_the_same_picture(
    run: Command, folder: Path, tiny_model: Path
) -> None:
    given = {"seed": 5, "steps": 4, "solver": "heun", "path": "together", "precision": "fp32"}
    options = [text for name, value in given.items() for text in (f"--{name}", str(value))]
    assert run("edit", "photo.png", "--strength", "0.5", *options, "-o", "a.png").exit_code == 0
    result = dd.edit("photo.png", 0.5, model=str(tiny_model), **given)
    np.testing.assert_array_equal(pixels(folder / "a.png"), np.asarray(result.image))


def test_invert_reads_white_as_keep(run: Command, folder: Path) -> None:
    assert run("edit", "photo.png", *EDIT, "--invert", "-o", "a.png").exit_code == 0
    changed = (pixels(folder / "photo.png") != pixels(folder / "a.png")).any(axis=-1)
    assert not changed[HOLE].any()
    assert np.delete(changed, np.r_[HOLE], axis=0).mean() > 0.9


def test_inpaint_fills_the_mask_alone(run: Command, folder: Path) -> None:
    done = run("inpaint", "photo.png", "--mask", "mask.png", "--noise", "10", "--steps", "3")
    assert done.exit_code == 0, done.output
    changed = (pixels(folder / "photo.png") != pixels(folder / "photo-inpaint.png")).any(axis=-1)
    assert changed[HOLE].mean() > 0.9
    assert not np.delete(changed, np.r_[HOLE], axis=0).any()


def test_denoise_takes_a_picture_of_levels(run: Command, folder: Path, tiny_model: Path) -> None:
    """A grey value is σ on the 0-255 scale, as Python takes it as a number in a map."""
    levels = np.zeros((24, 40), np.uint8)
    levels[HOLE] = 30
    Image.fromarray(levels).save(folder / "levels.png")
    assert run("denoise", "photo.png", "--noise", "levels.png").exit_code == 0
    expected = dd.denoise("photo.png", levels.astype(np.float32), model=str(tiny_model))
    np.testing.assert_array_equal(pixels(folder / "photo-denoise.png"), np.asarray(expected.image))
    assert (pixels(folder / "photo.png")[0] == pixels(folder / "photo-denoise.png")[0]).all()


def test_restore_modes(run: Command, folder: Path) -> None:
    options = ("--noise", "20", "--damage", "mask.png", "--steps", "3")
    assert run("restore", "photo.png", *options, "-o", "a.png").exit_code == 0
    light = run("restore", "photo.png", "--mode", "light", "--noise", "0", "-o", "b.png")
    assert light.exit_code == 0, light.output
    assert (pixels(folder / "photo.png") != pixels(folder / "a.png")).any()
    np.testing.assert_array_equal(pixels(folder / "photo.png"), pixels(folder / "b.png"))
    deep = ("--mode", "deep", "--control", "static", "--strength", "mask.png", "--noise", "20")
    assert run("restore", "photo.png", *deep, "-o", "c.png").exit_code == 0
    kept = pixels(folder / "mask.png") == 0
    made = pixels(folder / "c.png")
    np.testing.assert_array_equal(made[kept], pixels(folder / "photo.png")[kept])
    assert (made[~kept] != pixels(folder / "photo.png")[~kept]).any()
    assert run("restore", "photo.png", "--strength", "uniform", "-o", "d.png").exit_code == 0
    assert run("restore", "photo.png", "--control", "wild", "-o", "e.png").exit_code == 2


def test_a_task_by_name_is_what_its_own_command_makes(run: Command, folder: Path) -> None:
    assert run("denoise", "photo.png", "--noise", "20", "-o", "a.png").exit_code == 0
    named = ("task", "denoise", "photo.png", "--set", "noise_level_8bit=20")
    assert run(*named, "-o", "b.png").exit_code == 0
    np.testing.assert_array_equal(pixels(folder / "a.png"), pixels(folder / "b.png"))
    for bad, says in (
        ((*named, "--set", "task=edit"), "--set task says again"),
        ((*named, "--set", "images=x"), "'images' is no setting of DenoiseRequest"),
        ((*named, "--set", "settings=x"), "'settings' is no setting of DenoiseRequest"),
        ((*named, "--set", "cls=1"), "'cls' is no setting of DenoiseRequest"),
        ((*named, "--set", "seed=2020-13-45"), "not valid YAML"),
        (("task", "edit", "photo.png"), "EditRequest needs 'strength'"),
        (("task", "paint", "photo.png"), "'paint' is no task: use one of edit"),
        ((*named, "--set", "noise=3"), "'noise' is no setting of DenoiseRequest"),
        ((*named, "--seed", "1", "--set", "seed=2"), "--set seed says again"),
        ((*named, "--set", "model=x"), "--set model says again"),
    ):
        done = run(*bad)
        assert done.exit_code == 2
        assert says in done.stderr


def test_a_format_without_alpha_is_refused_before_any_work(run: Command, folder: Path) -> None:
    Image.new("RGBA", (20, 20), (10, 20, 30, 40)).save(folder / "alpha.png")
    done = run("denoise", "alpha.png", "-o", "out.jpg", "--model", "there-is-none")
    assert done.exit_code == 2
    done = run("denoise", "alpha.png", "-o", "out.jpg")
    assert done.exit_code == 2
    assert "JPEG cannot hold alpha: name an output that ends in .png" in done.stderr
    assert not (folder / "out.jpg").exists()


def test_a_task_that_was_added_needs_no_command(
    run: Command, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Flip(Request):
        task: Literal["flip"] = "flip"
        rows: bool = False

    def flip(request: Flip, source: TaskInput, run: Any) -> TaskOutput:
        flipped = source.image.flip(-2 if request.rows else -1)
        none = torch.zeros(1, 1, *source.size)
        return TaskOutput(flipped, keep=none.bool(), map=1 - none)

    monkeypatch.setitem(TASKS, "flip", Task(Flip, flip, "mirror the picture"))
    assert run("task", "flip", "photo.png", "--set", "rows=true").exit_code == 0
    np.testing.assert_array_equal(
        pixels(folder / "photo-flip.png"), pixels(folder / "photo.png")[::-1]
    )


def test_json_is_all_that_stdout_gets(run: Command, folder: Path) -> None:
    done = run("edit", "photo.png", "other.png", *EDIT, "--seed", "7", "-o", "made/", "--json")
    assert done.exit_code == 0, done.output
    records = [json.loads(line) for line in done.stdout.splitlines()]
    assert [record["input"] for record in records] == ["photo.png", "other.png"]
    for record in records:
        content = (folder / record["output"]).read_bytes()
        assert record["sha256"] == hashlib.sha256(content).hexdigest()
        assert (record["seed"], record["evaluations"], record["task"]) == (7, 3, "edit")
        assert record["seconds"] > 0
        assert record["notes"] == []


def test_the_same_seed_gives_the_same_bytes(run: Command, folder: Path) -> None:
    digests = [
        json.loads(run("edit", "photo.png", *EDIT, "--seed", seed, "-o", name, "--json").stdout)[
            "sha256"
        ]
        for seed, name in [("1", "a.png"), ("1", "b.png"), ("2", "c.png")]
    ]
    assert digests[0] == digests[1] != digests[2]


def test_each_sample_is_written_and_is_that_of_its_seed(run: Command, folder: Path) -> None:
    done = run("edit", "photo.png", *EDIT, "--seed", "3", "--samples", "2", "--json")
    record = json.loads(done.stdout)
    assert [made["output"] for made in record["samples"]] == [
        "photo-edit-1.png",
        "photo-edit-2.png",
    ]
    assert [made["seed"] for made in record["samples"]] == [3, 4]
    alone = json.loads(
        run("edit", "photo.png", *EDIT, "--seed", "4", "-o", "a.png", "--json").stdout
    )
    assert alone["sha256"] == record["samples"][1]["sha256"]


def test_the_mean_of_samples_is_one_picture(run: Command, folder: Path) -> None:
    options = ("--noise", "20", "--samples", "3", "--steps", "4")
    assert run("denoise", "photo.png", *options).exit_code == 0
    assert names(folder) >= {"photo-denoise.png"}
    assert run("denoise", "photo.png", *options, "--estimate", "sample").exit_code == 0
    samples = [pixels(folder / f"photo-denoise-{k}.png").astype(float) for k in (1, 2, 3)]
    mean = pixels(folder / "photo-denoise.png").astype(float)
    inside = np.all([(s > 0) & (s < 255) for s in samples], axis=0)  # where nothing was clipped
    assert np.abs(np.mean(samples, axis=0) - mean)[inside].max() <= 1
    assert inside.mean() > 0.5


def test_map_out_is_the_map_that_was_used(run: Command, folder: Path) -> None:
    strength = np.linspace(0, 65535, 24 * 40).reshape(24, 40).round().astype(np.uint16)
    Image.fromarray(strength).save(folder / "ramp.png")
    options = ("--strength", "ramp.png", "--steps", "2", "--map-out", "used.png")
    assert run("edit", "photo.png", *options).exit_code == 0
    np.testing.assert_array_equal(pixels(folder / "used.png"), strength)


def test_a_bad_picture_does_not_stop_the_others(run: Command, folder: Path) -> None:
    (folder / "bad.png").write_bytes(b"")
    done = run("edit", "photo.png", "bad.png", "gone.png", "other.png", *EDIT, "-o", "made")
    assert done.exit_code == 2
    errors = [line for line in done.stderr.splitlines() if line.startswith("error:")]
    assert ["bad.png" in line or "gone.png" in line for line in errors] == [True, True]
    assert done.stderr.splitlines()[-1] == "2 of 4 pictures done, 2 failed."
    assert names(folder / "made") == {"photo.png", "other.png"}


def test_json_tells_which_pictures_failed(run: Command, folder: Path) -> None:
    (folder / "bad.png").write_bytes(b"")
    done = run("edit", "bad.png", "other.png", *EDIT, "--json")
    records = [json.loads(line) for line in done.stdout.splitlines()]
    assert ["error" in record for record in records] == [True, False]
    assert records[0]["input"] == "bad.png"


def test_folders_and_patterns_are_read(run: Command, folder: Path) -> None:
    (folder / "in").mkdir()
    for name in ("photo.png", "other.png"):
        (folder / name).rename(folder / "in" / name)
    (folder / "in" / "notes.txt").write_text("no picture")
    assert run("edit", "in", *EDIT, "-o", "a").exit_code == 0
    assert run("edit", "in/*.png", *EDIT, "-o", "b").exit_code == 0
    assert names(folder / "a") == names(folder / "b") == {"photo.png", "other.png"}


def test_quiet_says_nothing(run: Command, folder: Path) -> None:
    done = run("edit", "photo.png", "other.png", *EDIT, "--quiet")
    assert (done.exit_code, done.output) == (0, "")


@pytest.mark.parametrize(("name", "written"), [("a.jpg", "a-edit.png"), ("a.tif", "a-edit.tif")])
def test_the_default_output_is_lossless(
    run: Command, folder: Path, name: str, written: str
) -> None:
    with Image.open("photo.png") as image:
        image.save(name)
    assert run("edit", name, *EDIT).exit_code == 0
    before, after = pixels(folder / name), pixels(folder / written)
    np.testing.assert_array_equal(np.delete(before, HOLE, axis=0), np.delete(after, HOLE, axis=0))


def test_a_lossy_output_is_said(run: Command, folder: Path) -> None:
    done = run("edit", "photo.png", *EDIT, "-o", "a.jpg", "--json")
    assert done.exit_code == 0, done.output
    assert "re-encoded" in json.loads(done.stdout)["notes"][-1]


def test_force_replaces_an_output(run: Command, folder: Path) -> None:
    (folder / "photo-edit.png").write_bytes(b"old")
    assert run("edit", "photo.png", *EDIT).exit_code == 2
    assert (folder / "photo-edit.png").read_bytes() == b"old"
    assert run("edit", "photo.png", *EDIT, "--force").exit_code == 0
    assert pixels(folder / "photo-edit.png").shape == (24, 40, 3)


def test_force_never_replaces_an_input(run: Command, folder: Path) -> None:
    """photo-edit.png is both the output of photo.png and an input of the run."""
    (folder / "photo-edit.png").write_bytes((folder / "other.png").read_bytes())
    done = run("edit", "photo.png", "photo-edit.png", *EDIT, "--force")
    assert done.exit_code == 2
    assert "'photo-edit.png' is an input" in done.stderr
    assert (folder / "photo-edit.png").read_bytes() == (folder / "other.png").read_bytes()
    assert "photo-edit-edit.png" in names(folder)


def test_two_pictures_never_share_an_output(run: Command, folder: Path) -> None:
    with Image.open("other.png") as image:
        image.save("photo.jpg")
    done = run("edit", "photo.png", "photo.jpg", *EDIT)
    assert done.exit_code == 2
    assert "written twice, for 'photo.png' and 'photo.jpg'" in done.stderr
    kept = np.delete(pixels(folder / "photo-edit.png"), HOLE, axis=0)
    np.testing.assert_array_equal(kept, np.delete(pixels(folder / "photo.png"), HOLE, axis=0))


@pytest.mark.parametrize(
    ("count", "output", "expected"),
    [
        (1, None, "in/a-edit.png"),
        (1, "b.tif", "b.tif"),
        (1, "made/b.tif", "made/b.tif"),
        (1, "made", "made/a.png"),
        (1, "made.d/", "made.d/a.png"),
        (2, "made", "made/a.png"),
        (2, None, "in/a-edit.png"),
    ],
)
def test_where_results_go(folder: Path, count: int, output: str | None, expected: str) -> None:
    sources = [Path("in/a.png"), Path("in/c.png")][:count]
    assert Targets(sources, "edit", output).of(sources[0]).output == Path(expected)


def test_a_link_to_an_input_is_an_input(folder: Path) -> None:
    (folder / "link.png").symlink_to("photo.png")
    with pytest.raises(InputError, match=r"'link\.png' is an input"):
        Targets([Path("photo.png")], "edit", "link.png", force=True).of(Path("photo.png"))


def test_options_reach_the_request(run: Command, folder: Path) -> None:
    """A misspelt value of each setting is refused by the request type, so it got there."""
    for option, value in [
        ("--steps", "0"),
        ("--solver", "eulr"),
        ("--path", "later"),
        ("--samples", "0"),
        ("--estimate", "median"),
        ("--precision", "fp8"),
        ("--views", "9"),
        ("--tile", "1"),
        ("--device", "abacus"),
    ]:
        done = run("edit", "photo.png", "--strength", "1", option, value)
        assert done.exit_code == 2, option
        assert value in done.stderr, option


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
def test_ctrl_c_leaves_nothing_behind(folder: Path, tiny_model: Path) -> None:
    Image.fromarray(np.zeros((400, 400, 3), np.uint8)).save("large.png")
    before = names(folder)
    command = [sys.executable, "-c", MAIN, "edit", "large.png", "--strength", "1"]
    options = ["--steps", "10000", "--model", str(tiny_model), "--device", "cpu"]
    started = subprocess.Popen(
        [*command, *options],
        stderr=subprocess.PIPE,
        text=True,
        # A suite that runs in the background may have been told to ignore it, which is inherited.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    time.sleep(6)  # in the middle of sampling, or still importing: both must end cleanly
    assert started.poll() is None
    os.kill(started.pid, signal.SIGINT)
    _, said = started.communicate(timeout=60)
    assert started.returncode == 130
    assert said == "interrupted.\n"
    assert names(folder) == before


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
def test_ctrl_c_in_a_pipeline_leaves_nothing_behind(folder: Path) -> None:
    FAMILIES["sd1"]().save_pretrained(folder / "sd")
    Image.fromarray(np.zeros((512, 512, 3), np.uint8)).save("large.png")
    before = names(folder)
    command = [sys.executable, "-c", MAIN, "edit", "large.png", "--strength", "1"]
    options = ["--steps", "900", "--model", "sd", "--prompt", "a barn", "--save-steps", "film.gif"]
    started = subprocess.Popen(
        [*command, *options, "-o", "made.png", "--preview", "seen.png"],
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    time.sleep(10)
    assert started.poll() is None
    os.kill(started.pid, signal.SIGINT)
    _, said = started.communicate(timeout=60)
    assert started.returncode == 130
    assert said.endswith("interrupted.\n")
    assert names(folder) == before


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="pseudo-terminals")
def test_a_terminal_sees_progress(folder: Path, tiny_model: Path) -> None:
    import pty

    shown: list[bytes] = []

    def read() -> None:
        with contextlib.suppress(OSError):  # how Linux tells that the other end was closed
            while block := os.read(reader, 4096):
                shown.append(block)

    reader, writer = pty.openpty()
    thread = threading.Thread(target=read)
    thread.start()
    command = [sys.executable, "-c", MAIN, "edit", "photo.png", "other.png", *EDIT]
    done = subprocess.run(
        [*command, "--model", str(tiny_model)], stderr=writer, stdout=subprocess.PIPE,
        env=os.environ | {"TERM": "xterm", "COLUMNS": "120"}, text=True, check=True,
    )  # fmt: skip
    os.close(writer)
    thread.join()
    text = b"".join(shown).decode()
    assert "1/2 photo.png" in text
    assert "2/2 other.png" in text
    assert "100%" in text
    assert [line.split(" (")[0] for line in done.stdout.splitlines()] == [
        "photo.png -> photo-edit.png",
        "other.png -> other-edit.png",
    ]
