"""The report on over-fitting: what it measures, and that it tells few pictures from many."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from differential_diffusion.data.crops import SYMMETRIES, symmetry
from differential_diffusion.training import TrainingConfig, train
from differential_diffusion.training.overfitting import Overfitting, nearest, pooled


def test_neighbours_are_those_of_a_search_over_all_pairs() -> None:
    rng = torch.Generator().manual_seed(0)
    pictures, among = torch.randn(5, 3, 8, 8, generator=rng), torch.randn(9, 3, 8, 8, generator=rng)
    among[7] = pictures[2].flip(-1) + 0.01
    distance, which = nearest(pictures, among)
    for k, picture in enumerate(pictures):
        all_of = [
            min(
                float((view - other).square().mean().sqrt()) for view in (picture, picture.flip(-1))
            )
            for other in among
        ]
        assert float(distance[k]) == pytest.approx(min(all_of), rel=1e-4)
        assert int(which[k]) == int(np.argmin(all_of))
    assert float(distance[2]) == pytest.approx(0.01, rel=1e-3)


def test_copies_are_found_under_every_symmetry_that_is_shown() -> None:
    rng = torch.Generator().manual_seed(0)
    among = torch.randn(300, 3, 8, 8, generator=rng)
    views = [symmetry(one.permute(1, 2, 0).numpy(), k) for k, one in enumerate(among[:8])]
    pictures = torch.from_numpy(np.stack(views)).permute(0, 3, 1, 2)
    for shown in SYMMETRIES.values():
        distance, which = nearest(pictures, among, shown)
        for k in range(8):
            assert (float(distance[k]) < 1e-3) == (k in shown)
            assert int(which[k]) == k or k not in shown
    # However many there are: parts of them give what all of them give.
    distance, which = nearest(among, pictures, SYMMETRIES["all"])
    assert which[:8].tolist() == list(range(8))
    part = nearest(among[256:], pictures, SYMMETRIES["all"])
    torch.testing.assert_close(distance[256:], part[0])


def test_pictures_are_compared_by_their_means_over_areas() -> None:
    rng = torch.Generator().manual_seed(0)
    pictures = torch.randn(3, 3, 64, 64, generator=rng)
    means = pictures.view(3, 3, 32, 2, 32, 2).mean((3, 5))
    torch.testing.assert_close(pooled(pictures), means)
    assert torch.equal(pooled(pictures[..., :16, :16]), pictures[..., :16, :16])


@pytest.mark.parametrize(
    ("changes", "gap", "copies"),
    [
        ({}, False, False),
        ({"gap": (0.2, 0.2), "deviations": 6.0}, True, False),
        ({"gap": (0.2, 0.2), "deviations": 3.0}, False, False),  # may be chance
        ({"gap": (0.2, 0.2), "deviations": None}, False, False),  # of too few to tell
        ({"gap": (0.05, 0.0), "deviations": 9.0}, False, False),  # small
        ({"near": 0.5, "near_held_out": 0.02}, False, True),
        ({"near": 0.5, "near_held_out": 0.45}, False, False),  # so are other pictures
        ({"near": None, "near_held_out": None}, False, False),
    ],
)
def test_what_counts_as_over_fitting(changes: dict[str, Any], gap: bool, copies: bool) -> None:
    usual = {"gap": (0.0, 0.0), "loss": (0.5, 0.5), "deviations": 0.0, "near": 0.0}
    found = Overfitting(**{**usual, "near_held_out": 0.0, "step": 1, **changes})
    assert (found.gap_found, found.copies_found) == (gap, copies)
    assert found.sentence().startswith("the model over-fits") == (gap or copies)


def run(folder: Path, output: Path, steps: int) -> dict[str, Any]:
    config = TrainingConfig.model_validate(
        {
            "output": str(output),
            "steps": steps,
            "batch_size": 64,
            "data": {
                "path": str(folder),
                "channels": 1,
                "patch_size": 8,
                "cut": "fit",
                "symmetries": "none",
                "validation": 16,
            },
            "network": {"channels": [48, 96], "blocks": [2, 2], "patch": 1, "attention": [1]},
            "noise": {"coloured": 0, "mean": -1.0, "sigma_max": 40.0},
            "optimizer": {"warmup_steps": 50, "ema_halflife": 50},
            "validation": {"every": steps, "crop": 16},
            "checkpoint": {"every": steps, "keep": 1},
        }
    )
    notes: list[str] = []
    train(config, on_note=notes.append)
    report: dict[str, Any] = json.loads((output / "overfitting.json").read_text())
    assert notes == [f"{report['sentence']}."]
    return report


def test_the_gap_of_few_pictures_is_told_without_judging(
    settings: dict[str, Any], pictures: Path
) -> None:
    """One picture is held out of six, and the deviation of one is none."""
    settings["data"] = {"path": str(pictures), "validation": 1, "patch_size": 16, "cut": "fit"}
    notes: list[str] = []
    train(TrainingConfig.model_validate(settings | {"steps": 1}), on_note=notes.append)
    report = json.loads((Path(str(settings["output"])) / "overfitting.json").read_text())
    assert report["deviations"] is None
    assert "% (of too few pictures to tell)" in notes[-1]
    with Image.open(Path(str(settings["output"])) / "overfitting.png") as strip:
        assert strip.size == (16 * 16, 2 * 16)  # sixteen samples above their neighbours


@pytest.mark.slow
def test_fires_on_fifty_pictures_and_not_on_all(tmp_path: Path) -> None:
    from sklearn.datasets import load_digits

    every = tmp_path / "all"
    every.mkdir()
    for number, image in enumerate(load_digits().images):
        pixels = np.rint(image * 255 / 16).astype(np.uint8)
        Image.fromarray(pixels).save(every / f"{number:04d}.png")
    few = tmp_path / "few"
    few.mkdir()
    for path in sorted(every.iterdir())[:50]:
        shutil.copy(path, few)
    report = run(few, tmp_path / "run-few", 600)
    assert report["found"], report
    assert report["near"] > 0.3, report
    assert np.mean(report["gap"]) > 0.1 * np.mean(report["loss"]), report
    strip = np.asarray(Image.open(tmp_path / "run-few" / "overfitting.png")).astype(int)
    assert np.abs(strip[:8] - strip[8:]).mean() < 40  # samples above their neighbours
    report = run(every, tmp_path / "run-all", 600)
    assert not report["found"], report
