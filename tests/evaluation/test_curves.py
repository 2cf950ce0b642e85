"""Quality against steps, of a model in closed form; and what a training run left behind."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from differential_diffusion.data.images import NamedImage
from differential_diffusion.engine.samples import draw_samples
from differential_diffusion.errors import InputError
from differential_diffusion.evaluation import (
    collect,
    compare_sets,
    load_extractor,
    quality_curve,
    run_checkpoints,
    run_metrics,
    training_curve,
)
from differential_diffusion.evaluation.sets import FeatureSet
from differential_diffusion.models import DenoiserModel
from differential_diffusion.models.checkpoint import CheckpointConfig, save_checkpoint
from differential_diffusion.nn import SigmaMapUNet, UNetConfig

MEAN, WIDTH, SIDE = 0.2, 0.25, 4
PIXELS = load_extractor(f"pixels:{SIDE}")


def denoise(x: Tensor, sigma: Tensor) -> Tensor:
    """E[x0 | x] of independent pixels, normal about MEAN with deviation WIDTH."""
    share = WIDTH**2 / (WIDTH**2 + sigma**2)
    return share * x + (1 - share) * MEAN


def model() -> DenoiserModel:
    return DenoiserModel(
        "oracle", denoise, 3, 1, None, torch.device("cpu"), size=(SIDE, SIDE)
    )  # fmt: skip


def reference(count: int = 400) -> FeatureSet:
    rng = np.random.default_rng(5)
    drawn = MEAN + WIDTH * rng.standard_normal((count, SIDE, SIDE, 3))
    levels = np.rint((drawn.clip(-1, 1) + 1) * 127.5).astype(np.uint8)
    pictures = [NamedImage(f"{k}.png", each) for k, each in enumerate(levels)]
    return collect(pictures, [PIXELS], name="drawn from the law")


def test_distances_fall_with_the_steps_to_those_of_the_law() -> None:
    """One step gives the mean, whose distance is the variance; many give the law itself."""
    real = reference()
    curve = quality_curve(
        model(), real, [PIXELS], steps=[1, 4, 40], solvers=["ddim", "heun"], count=300
    )
    found = {(r.settings["solver"], r.settings["steps"]): r.figures[0] for r in curve}
    assert list(found) == [(s, n) for s in ("ddim", "heun") for n in (1, 4, 40)]
    ddim = [found["ddim", n].frechet for n in (1, 4, 40)]
    assert ddim[0] == pytest.approx(48 * WIDTH**2, rel=0.05)
    assert ddim[0] > ddim[1] > ddim[2]
    again = reference(300)
    floor = compare_sets(again, real, [PIXELS]).figures[0].frechet
    assert found["heun", 40].frechet < 0.25 * ddim[0] + floor
    assert found["heun", 40].recall > 0.5 > found["ddim", 1].recall


def test_a_point_is_what_sampling_and_comparing_give() -> None:
    real = reference(60)
    (point,) = quality_curve(
        model(), real, [PIXELS], steps=[5], solvers=["ddim"], count=50, seed=3, batch_size=16
    )
    drawn = draw_samples(model(), 50, seed=3, steps=5, solver="ddim", batch_size=16)
    pictures = [NamedImage(f"{each.index:06d}", each.pixels) for each in drawn]
    alone = compare_sets(collect(pictures, [PIXELS]), real, [PIXELS], seed=3)
    assert point.figures == alone.figures
    told = point.settings
    assert (told["model"], told["solver"], told["steps"], told["seed"]) == ("oracle", "ddim", 5, 3)
    assert told["seconds"] >= 0


def test_progress_and_pictures_of_a_point() -> None:
    told: list[tuple[str, int, int]] = []
    real = reference(20)

    def on_point(name: str) -> Any:
        return lambda done, total: told.append((name, done, total))

    (point,) = quality_curve(
        model(), real, [PIXELS], steps=[2], solvers=["ddim"], count=3, on_point=on_point,
        gallery=True,
    )  # fmt: skip
    assert told == [("ddim, 2 steps", k, 3) for k in (1, 2, 3)]
    assert len(point.gallery.samples) == 3
    assert len(point.gallery.nearest[PIXELS.name]) == 3


def test_sampling_that_cannot_be_is_refused() -> None:
    curve = quality_curve(model(), reference(20), [PIXELS], steps=[2], solvers=["rk9"], count=4)
    with pytest.raises(InputError, match="rk9"):
        list(curve)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run with two checkpoints, the last of them also as its final model."""
    config = UNetConfig(channels=(8,), blocks=(1,), embedding_channels=4)
    with torch.random.fork_rng():
        for step, name in (
            (20, "checkpoints/step-00000020"),
            (3, "checkpoints/step-00000003"),
            (20, "final"),
        ):
            torch.manual_seed(step)
            card = {"step": step} | ({"seconds": 9} if name == "final" else {})
            described = CheckpointConfig(config, size=(SIDE, SIDE), card=card)
            save_checkpoint(tmp_path / name, SigmaMapUNet(config), described, torch.float32)
            if name != "final":
                state = tmp_path / name / "training_state.json"
                state.write_text(json.dumps({"step": step, "seconds": step / 2}))
    (tmp_path / "checkpoints/step-00000009").mkdir()
    return tmp_path


def test_checkpoints_are_found_in_order(run: Path) -> None:
    found = run_checkpoints(run)
    assert [(each.step, each.seconds) for each in found] == [(3, 1.5), (20, 10)]
    assert found[1].folder == run / "checkpoints/step-00000020"
    (run / "checkpoints/step-00000020/config.json").unlink()
    assert run_checkpoints(run)[1].folder == run / "final"
    assert run_checkpoints(run)[1].seconds == 9
    described = run / "final/config.json"
    told = json.loads(described.read_text())
    described.write_text(json.dumps(told | {"card": told["card"] | {"trained_steps": 25}}))
    assert run_checkpoints(run)[1].seconds is None


def test_every_checkpoint_is_evaluated(run: Path) -> None:
    real = reference(20)
    points = list(
        training_curve(run, real, [PIXELS], steps=[1, 2], solvers=["ddim"], count=6, device="cpu")
    )
    assert [(p.settings["training_step"], p.settings["steps"]) for p in points] == [
        (3, 1), (3, 2), (20, 1), (20, 2),
    ]  # fmt: skip
    assert {p.settings["run"] for p in points} == {str(run)}
    assert points[0].settings["training_seconds"] == 1.5


def test_points_that_are_known_are_not_drawn_again(run: Path) -> None:
    real = reference(20)
    asked: dict[str, Any] = {"solvers": ["ddim"], "count": 6, "device": "cpu"}
    known = list(training_curve(run, real, [PIXELS], steps=[1, 2], precision="fp32", **asked))
    told = known[0].settings
    assert (told["device"], told["precision"]) == ("cpu", "fp32")
    asked["known"] = known[1:]
    again = list(training_curve(run, real, [PIXELS], steps=[1, 2], precision="fp32", **asked))
    assert [each is other for each, other in zip(again, known, strict=True)] == [
        False, True, True, True,
    ]  # fmt: skip
    assert again[0].figures == known[0].figures
    weights = run / "checkpoints/step-00000020/model.safetensors"
    weights.write_bytes((run / "checkpoints/step-00000003/model.safetensors").read_bytes())
    trained = list(training_curve(run, real, [PIXELS], steps=[1, 2], precision="fp32", **asked))
    assert [each is other for each, other in zip(trained, known, strict=True)] == [
        False, True, False, False,
    ]  # fmt: skip
    for other in (
        training_curve(run, real, [PIXELS], steps=[1, 2], precision="bf16", **asked),
        training_curve(run, real, [PIXELS], steps=[1, 2], seed=1, precision="fp32", **asked),
        training_curve(run, reference(19), [PIXELS], steps=[1, 2], precision="fp32", **asked),
    ):
        assert not any(each is kept for each in other for kept in known)


def test_runs_without_checkpoints_or_with_damaged_ones_are_refused(run: Path) -> None:
    with pytest.raises(InputError, match="holds no checkpoints"):
        run_checkpoints(run / "nowhere")
    described = run / "final/config.json"
    told = json.loads(described.read_text())
    described.write_text(json.dumps(told | {"card": {}}))
    with pytest.raises(InputError, match="does not tell its training step"):
        run_checkpoints(run)
    described.write_text("{")
    with pytest.raises(InputError, match="cannot be read"):
        run_checkpoints(run)


def test_metrics_of_a_run(tmp_path: Path) -> None:
    assert run_metrics(tmp_path) == []
    path = tmp_path / "metrics.jsonl"
    lines = ['{"step": 1, "loss": 0.5}', '{"step": 2, "loss": null, "psnr_25": 30}', '{"step": 3']
    path.write_text("\n".join(lines))
    assert run_metrics(tmp_path) == [{"step": 1, "loss": 0.5}, {"step": 2, "psnr_25": 30}]
    path.write_text("\n".join(reversed(lines)))
    with pytest.raises(InputError, match="line 1 of"):
        run_metrics(tmp_path)
