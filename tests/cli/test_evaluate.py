"""evaluate: figures told and written, features reused, and bad input refused."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import Result

from differential_diffusion.evaluation import (
    collect,
    compare_pairs,
    compare_sets,
    load_extractor,
    load_results,
)
from differential_diffusion.models.checkpoint import CheckpointConfig, save_checkpoint
from differential_diffusion.nn import SigmaMapUNet, UNetConfig

Command = Callable[..., Result]
PIXELS = ("-e", "pixels:4")


def pictures(folder: Path, count: int, seed: int) -> None:
    folder.mkdir()
    rng = np.random.default_rng(seed)
    for index in range(count):
        coarse = 100 + 10 * seed + 30 * rng.standard_normal((3, 3, 3))
        pixels = cv2.resize(coarse, (16, 16)).clip(0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"{index:02d}.png")


@pytest.fixture
def sets(folder: Path) -> Path:
    """made/ and real/ with 12 and 14 pictures, in `folder`."""
    pictures(folder / "made", 12, 1)
    pictures(folder / "real", 14, 2)
    return folder


def test_the_figures_are_the_library_s(run: Command, sets: Path) -> None:
    done = run("evaluate", "made", "real", *PIXELS, "-e", "pixels:2", "--json", "-o", "r.json")
    assert done.exit_code == 0, done.output
    extractors = [load_extractor(name) for name in ("pixels:4", "pixels:2")]
    made, real = (collect(name, extractors) for name in ("made", "real"))
    expected = compare_sets(made, real, extractors)
    assert json.loads(done.stdout) == expected.as_dict()
    assert load_results(sets / "r.json") == [expected]
    text = run("evaluate", "made", "real", *PIXELS).stdout
    figures = expected.figures[0]
    assert text.startswith(f"pixels:4: Fréchet distance {figures.frechet:.4g}, kernel distance ")
    assert text.endswith("(12 samples, 14 of the reference)\n")


def test_the_prior_finds_the_features_by_default(run: Command, sets: Path) -> None:
    done = run("evaluate", "made", "real", "--count", "6", "--json", "--quiet")
    (figures,) = json.loads(done.stdout)["figures"]
    assert figures["protocol"]["extractor"] == "prior"
    assert (figures["protocol"]["samples"], figures["protocol"]["reference"]) == (6, 6)


def test_saved_features_stand_for_the_reference(run: Command, sets: Path) -> None:
    save = ("--save-reference", "real.safetensors")
    first = run("evaluate", "made", "real", *PIXELS, "--json", *save)
    assert first.exit_code == 0, first.output
    again = run("evaluate", "made", "real.safetensors", "--json")
    assert again.exit_code == 0, again.output
    assert json.loads(again.stdout) == json.loads(first.stdout)
    other = run("evaluate", "made", "real.safetensors", "-e", "pixels:5")
    assert other.exit_code == 2
    assert "holds features of pixels:4, not of pixels:5" in other.stderr
    less = run("evaluate", "made", "real.safetensors", "--count", "5")
    assert "made with count 14, not 5" in less.stderr


def test_results_compare_where_protocols_agree(run: Command, sets: Path) -> None:
    pictures(sets / "more", 12, 3)
    assert run("evaluate", "made", "real", *PIXELS, "-o", "r.json").exit_code == 0
    done = run("evaluate", "more", "real", *PIXELS, "--compare", "r.json", "--json")
    assert done.exit_code == 0, done.output
    mine, both = [json.loads(line) for line in done.stdout.splitlines()]
    assert both["frechet"] == mine["figures"][0]["frechet"]
    assert both["frechet_there"] == load_results(sets / "r.json")[0].figures[0].frechet
    text = run("evaluate", "more", "real", *PIXELS, "--compare", "r.json").stdout.splitlines()[-1]
    assert text.startswith("pixels:4: Fréchet distance ")
    assert text.endswith(" in r.json")


def test_others_are_refused_as_soon_as_it_is_known(run: Command, sets: Path) -> None:
    asked = ("evaluate", "made", "real", *PIXELS)
    assert run(*asked, "-o", "r.json").exit_code == 0
    for more, words in (
        (("--count", "9"), "different numbers of reference pictures (9 and 14)"),
        (("--seed", "1"), "different seeds (1 and 0)"),
        (("--size", "8"), "different ways of resizing"),
    ):
        done = run(*asked, *more, "--compare", "r.json", "-o", "s.json")
        assert done.exit_code == 2, done.output
        assert words in done.stderr
        assert done.stderr.count("error:") == 1
        assert not (sets / "s.json").exists()
    untouched(sets)
    done = run("evaluate", "made", "real", "-e", "untouched:f", "--compare", "r.json")
    assert "'r.json' holds no figures of untouched:f" in done.stderr
    done = run("evaluate", "made", "real", "--paired", "--compare", "r.json")
    assert "'r.json' holds no figures of pairs" in done.stderr
    # How many samples can be read is known after the fact.
    done = run(*asked, "--samples-count", "9", "--compare", "r.json", "-o", "s.json")
    assert done.exit_code == 2
    assert "different numbers of samples (9 and 12)" in done.stderr
    assert load_results(sets / "s.json")[0].figures[0].protocol.samples == 9


def untouched(folder: Path) -> None:
    """An extractor that tells when it is called."""
    (folder / "untouched.py").write_text("def f(x):\n    raise RuntimeError('measured')\n")


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        (("gone", "real"), "'gone' does not exist"),
        (("made", "real", "--count", "13"), "count is 13 and 'made' holds 12 pictures"),
        (("real", "--model", "gone"), "the model 'gone' is not known"),
        (("real", "--model", "prior", "--solvers", "ddim,hune"), "the solver 'hune' is not known"),
        (("real", "--model", "prior", "--label", "cat"), "without conditions"),
        (("real", "--model", "prior", "--vector", "1,2"), "without conditions"),
        (("real", "--model", "prior", "--channels", "1"), "draws pictures of 3 channels"),
        (("real", "--model", "prior", "--samples-count", "0"), "count is 0: give at least 1"),
        (("real", "--model", "prior", "--precision", "fp8"), "precision 'fp8' is not known"),
    ],
)
def test_bad_input_is_found_before_anything_is_measured(
    run: Command, sets: Path, asked: tuple[str, ...], words: str
) -> None:
    untouched(sets)
    done = run("evaluate", *asked, "-e", "untouched:f")
    assert done.exit_code == 2, done.output
    assert words in done.stderr


def test_what_was_measured_is_kept_and_gone_on_with(
    run: Command, sets: Path, tiny_model: Path
) -> None:
    """An extractor that breaks once, at the second point of three."""
    (sets / "breaks.py").write_text(
        "calls = []\n\ndef f(x):\n    calls.append(1)\n"
        "    if len(calls) == 3:\n        raise RuntimeError('once')\n    return x.mean((2, 3))\n"
        "f.size = 8\n"
    )
    asked = (
        "evaluate", "--model", str(tiny_model), "real", "-e", "breaks:f", "--samples-count", "4",
        "--solvers", "ddim", "--steps", "1,2,3", "-o", "c.json",
    )  # fmt: skip
    assert run(*asked).exit_code == 1
    begun = json.loads((sets / "c.json").read_text())
    assert (begun["complete"], len(begun["results"])) == (False, 1)
    refused = run(*asked)
    assert refused.exit_code == 2
    assert "'c.json' exists: go on with it by --resume" in refused.stderr
    done = run(*asked, "--resume")
    assert done.exit_code == 0, done.output
    whole = json.loads((sets / "c.json").read_text())
    assert whole["complete"] is True
    assert whole["results"][0] == begun["results"][0]
    assert [each["settings"]["steps"] for each in whole["results"]] == [1, 2, 3]
    calls = len(sys.modules["breaks"].calls)
    assert run(*asked, "--resume", "--force").exit_code == 0
    assert len(sys.modules["breaks"].calls) == calls + 1, "the reference alone"
    assert json.loads((sets / "c.json").read_text()) == whole
    other = (*asked[:-4], "--steps", "1", "--seed", "1", *asked[-2:])
    assert run(*other, "--resume").exit_code == 0
    more = json.loads((sets / "c.json").read_text())["results"]
    assert more[:3] == whole["results"]
    assert more[3]["settings"]["seed"] == 1


def test_a_model_is_told_and_computes_as_asked(run: Command, sets: Path) -> None:
    config = UNetConfig(channels=(8, 8), blocks=(1, 1), vector=2, condition_channels=1)
    save_checkpoint(sets / "told", SigmaMapUNet(config), CheckpointConfig(config), torch.float32)
    asked = (
        "evaluate", "--model", "told", "real", *PIXELS, "--samples-count", "3", "--steps", "1",
        "--device", "cpu", "--json",
    )  # fmt: skip
    for precision in ("fp32", "bf16"):
        done = run(*asked, "--precision", precision, "--vector", "0.5,1", "--picture", "photo.png")
        assert done.exit_code == 0, done.output
        (record,) = [json.loads(line) for line in done.stdout.splitlines()]
        settings, protocol = record["settings"], record["figures"][0]["protocol"]
        assert (settings["device"], settings["precision"]) == ("cpu", precision)
        assert (settings["vector"], settings["size"]) == ([0.5, 1.0], [24, 40])
        assert len(settings["picture"]) == 16
        assert (protocol["samples"], protocol["reference"]) == (3, 14)
    done = run(*asked, "--vector", "1,2,3")
    assert done.exit_code == 2
    assert "vector has 3 entries and the model " in done.stderr


def test_samples_may_be_fewer_than_the_reference(run: Command, sets: Path) -> None:
    done = run("evaluate", "made", "real", *PIXELS, "--count", "8", "--samples-count", "5")
    assert done.stdout.endswith("(5 samples, 8 of the reference)\n")


def test_pairs_are_measured(run: Command, sets: Path) -> None:
    for name in ("12.png", "13.png"):
        (sets / "real" / name).unlink()
    done = run("evaluate", "made", "real", "--paired", "--json")
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    expected = compare_pairs("made", "real")
    assert found["paired"] == expected.as_dict()
    assert found["figures"] == []
    text = run("evaluate", "made", "real", "--paired").stdout
    assert text.startswith(f"mean of 12 pairs: PSNR {expected.psnr:.4g} dB, SSIM ")
    both = run("evaluate", "made", "real", "--paired", *PIXELS, "--json")
    assert json.loads(both.stdout)["paired"] == found["paired"]
    assert len(json.loads(both.stdout)["figures"]) == 1


def test_pairs_compare_with_those_of_before(run: Command, sets: Path) -> None:
    assert run("evaluate", "made", "real", "--paired", "-o", "r.json").exit_code == 0
    pictures(sets / "more", 12, 3)
    done = run("evaluate", "more", "real", "--paired", "--compare", "r.json", "--json")
    assert done.exit_code == 0, done.output
    mine, both = [json.loads(line) for line in done.stdout.splitlines()]
    assert (both["pairs"], both["psnr"]) == (12, mine["paired"]["means"]["psnr"])
    assert both["psnr_there"] == load_results(sets / "r.json")[0].paired.psnr
    text = run("evaluate", "more", "real", "--paired", "--compare", "r.json").stdout.splitlines()[
        -1
    ]
    assert text.startswith("mean of 12 pairs: PSNR ")
    assert text.endswith(" in r.json")
    assert "LPIPS" not in text


def test_a_model_is_evaluated_at_each_point(run: Command, sets: Path, tiny_model: Path) -> None:
    asked = ("--model", str(tiny_model), "real", *PIXELS, "--steps", "1,2", "--solvers", "ddim")
    done = run("evaluate", *asked, "--count", "7", "--json", "-o", "r.json", "--report", "r.html")
    assert done.exit_code == 0, done.output
    records = [json.loads(line) for line in done.stdout.splitlines()]
    assert [record["settings"]["steps"] for record in records] == [1, 2]
    assert {record["figures"][0]["protocol"]["samples"] for record in records} == {7}
    page = (sets / "r.html").read_text()
    assert "<svg" in page
    assert page.count("data:image/png") == 3
    again = run("evaluate", *asked, "--count", "7", "--compare", "r.json")
    assert again.exit_code == 0, again.output
    assert again.stdout.splitlines()[0].startswith("solver ddim, steps 1, pixels:4: Fréchet")
    other = (*asked[:5], "--steps", "3", "--solvers", "ddim", "--count", "7")
    done = run("evaluate", *other, "--compare", "r.json")
    assert done.exit_code == 2
    assert "'r.json' holds no result of solver ddim, steps 3" in done.stderr


def test_a_function_of_one_s_own_is_found_here(run: Command, sets: Path) -> None:
    Path("evaluated_by_me.py").write_text("def means(x):\n    return x.mean((2, 3))\n")
    done = run("evaluate", "made", "real", "-e", "evaluated_by_me:means", "--json")
    assert done.exit_code == 0, done.output
    protocol = json.loads(done.stdout)["figures"][0]["protocol"]
    assert protocol["resize"] == "as they are"


def test_broken_pictures_are_told(run: Command, sets: Path) -> None:
    (sets / "made/00.png").write_bytes(b"")
    done = run("evaluate", "made", "real", *PIXELS)
    assert done.exit_code == 0
    assert "left out of 'made': 1, the first is '00.png'" in done.stderr
    assert "(11 samples, 14 of the reference)" in done.stdout
    (sets / "made/01.png").write_bytes(b"")
    refused = run("evaluate", "made", "real", *PIXELS)
    assert refused.exit_code == 2
    assert "2 of 12 pictures in 'made' cannot be read" in refused.stderr


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("made", "1 set was named: name SAMPLES and REFERENCE"),
        ("made real real", "3 sets were named"),
        ("made real --model prior", "--model draws the samples: name the reference alone"),
        ("real --model prior --run x", "--model and --run were both given"),
        ("made real --steps 5", "--steps says how to draw samples"),
        ("made real --solvers ddim", "--solvers says how to draw samples"),
        ("made real --label 3", "--label says how to draw samples"),
        ("made real --vector 1,2", "--vector says how to draw samples"),
        ("made real --picture photo.png", "--picture says how to draw samples"),
        ("made real --precision fp32", "--precision says how to draw samples"),
        ("made real --resume -o r.json", "--resume goes on with samples to draw"),
        ("real --model prior --resume", "--resume goes on with a file of results"),
        ("real --model prior --resume -o there.json", "'there.json' holds no results"),
        ("real --model prior --vector 1,x", "--vector '1,x' is no list of numbers"),
        ("made real --lpips", "--lpips measures pairs"),
        ("real --model prior --paired", "--paired is for pictures of the same names"),
        ("real --model prior --steps 5,x", "--steps '5,x' is no list of whole numbers"),
        ("real --model prior --solvers ddim,,", "--solvers 'ddim,,' names nothing"),
        ("real --model prior --solvers ddim,ddim", "something twice"),
        ("real --run real", "'real' holds no checkpoints"),
        ("real --model gone", "the model 'gone' is not known"),
        ("gone real", "'gone' does not exist"),
        ("made gone", "'gone' does not exist"),
        ("made gone.safetensors", "is no file of features of ours"),
        ("made real -e vgg", "the extractor 'vgg' is not known"),
        ("made real -e inception", "differential-diffusion[fidelity]"),
        ("made real -e pixels -e pixels", "name one of each"),
        ("made real --count 13", "count is 13 and 'made' holds 12 pictures"),
        ("made real --paired --count 3", "--count, --samples-count and --size are for sets"),
        ("made real --paired --samples-count 3", "are for sets"),
        ("made r.safetensors --paired -e pixels:4", "the reference is a file of features"),
        ("made real --paired --lpips", "differential-diffusion[evaluation]"),
        ("made real --paired --save-reference r.safetensors", "name what finds them"),
        ("made real -o r.txt", "--output 'r.txt' does not end in .json"),
        ("made real --report r.pdf", "--report 'r.pdf' does not end in .html"),
        ("made real --save-reference r.npz", "does not end in .safetensors"),
        ("made real -o there.json", "'there.json' exists"),
        ("made real -o no/where.json", "the folder 'no' does not exist"),
        ("made real --compare there.json", "'there.json' holds no results"),
        ("made real --size 0", "--size is 0: give at least 1"),
        ("made real --size -4", "--size is -4: give at least 1"),
        ("made real --batch-size 0", "--batch-size is 0: give at least 1"),
        ("made real --split test", "--split is of a set of Hugging Face, and none was named"),
        ("made real --device tpu", "'tpu' is no device"),
    ],
)
def test_bad_command_lines_are_one_sentence(
    run: Command, sets: Path, monkeypatch: pytest.MonkeyPatch, command: str, words: str
) -> None:
    for package in ("lpips", "torch_fidelity"):
        monkeypatch.setitem(sys.modules, package, None)
    Path("there.json").write_text("{}")
    cheap = () if "-e" in command or "--paired" in command else PIXELS
    before = {path: path.read_bytes() for path in sets.rglob("*") if path.is_file()}
    done = run("evaluate", *command.split(), *cheap)
    assert done.exit_code == 2, done.output
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1
    assert words in done.stderr
    assert {path: path.read_bytes() for path in sets.rglob("*") if path.is_file()} == before
