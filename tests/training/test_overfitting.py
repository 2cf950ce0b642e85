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

from differential_diffusion.training import TrainingConfig, train
from differential_diffusion.training.overfitting import Overfitting, nearest


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


@pytest.mark.parametrize(
    ("changes", "gap", "copies"),
    [
        ({}, False, False),
        ({"gap": (0.2, 0.2), "deviations": 6.0}, True, False),
        ({"gap": (0.2, 0.2), "deviations": 3.0}, False, False),  # may be chance
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
