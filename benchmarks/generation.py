"""Class-conditional samples of CIFAR-10: do they show what was asked for, and how like it are they?

A classifier trained on real pictures (`benchmarks.classifier`) looks at samples of each class, at
several scales of guidance. Fréchet distances to the 10,000 test pictures are told by the features
of the bundled prior, of small pixels, and of the classifier; what real training pictures get, as
many as there are samples, stands beside them. Then how these figures follow the time of training,
the solver and its steps. `diffdiff evaluate --run` and `--model` tell the distances of any model.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from differential_diffusion.data.images import NamedImage, load_images
from differential_diffusion.engine import Sample, draw_samples, sample_grid
from differential_diffusion.evaluation import collect, compare_sets, load_extractor
from differential_diffusion.evaluation.curves import run_checkpoints
from differential_diffusion.evaluation.extractors import Extractor
from differential_diffusion.evaluation.sets import FeatureSet
from differential_diffusion.models import DenoiserModel, load_model

from . import classifier, common

JUDGE = "DIFFDIFF_CLASSIFIER"
EXTRACTORS = {"prior": "prior", "pixels": "pixels", "classifier": "benchmarks.generation:features"}
ABOUT = (
    "The classifier is right on {:.2f} % of the test pictures. {:,} samples of each row, the "
    "classes in turn; {} steps of `heun` where nothing else is said."
)


def features(x: Tensor) -> Tensor:
    """The classifier's features of pictures (B,3,32,32) in [-1,1], as an extractor of ours."""
    judge, _, _ = _classifier(os.environ[JUDGE])
    with torch.no_grad():
        return judge.features(x.to(memory_format=torch.channels_last)).float()


features.size = 32  # type: ignore[attr-defined]
_classifier = lru_cache(maxsize=1)(lambda path: classifier.load(Path(path)))


@dataclass(frozen=True)
class Found:
    """What a set of samples got.

    Attributes:
        agree: share that the classifier takes for the class asked for.
        by_class: the same for each class.
        distances: Fréchet's, by extractor.
        seconds: that drawing took.
        samples: the pictures.
    """

    agree: float
    by_class: dict[str, float]
    distances: dict[str, float]
    seconds: float
    samples: list[Sample]

    def row(self) -> list[str]:
        """Cells of a table."""
        return [f"{100 * self.agree:.1f} %", *(f"{d:.2f}" for d in self.distances.values())]


@dataclass(frozen=True)
class Judge:
    """The classifier, the extractors, and the real pictures."""

    network: torch.nn.Module
    accuracy: float
    names: list[str]
    extractors: dict[str, Extractor]
    reference: FeatureSet

    @classmethod
    def of(cls, options: argparse.Namespace) -> Judge:
        """Load them."""
        os.environ[JUDGE] = str(options.classifier)
        network, accuracy, names = classifier.load(options.classifier)
        extractors = {name: load_extractor(at, "cpu") for name, at in EXTRACTORS.items()}
        archive = options.data / "cifar10-test.tar.gz"
        reference = collect(archive, list(extractors.values()))
        return cls(network, accuracy, names, extractors, reference)

    def distances(self, pictures: Sequence[NamedImage]) -> dict[str, float]:
        """Fréchet's distances to the real pictures, by extractor."""
        kinds = list(self.extractors.values())
        made = compare_sets(collect(pictures, kinds), self.reference, kinds)
        return {
            name: figures.frechet
            for name, figures in zip(self.extractors, made.figures, strict=True)
        }

    def found(self, model: DenoiserModel, options: argparse.Namespace, **settings: Any) -> Found:
        """Draw samples of each class in turn and judge them."""
        labels = list(model.classes)
        began = time.perf_counter()
        drawn = draw_samples(model, options.count, labels=labels, batch_size=100, **settings)
        samples = list(drawn)
        seconds = time.perf_counter() - began
        pixels = torch.from_numpy(np.stack([sample.pixels for sample in samples]))
        x = pixels.permute(0, 3, 1, 2).float() / 127.5 - 1
        taken_for = classifier.predicted(self.network, x).tolist()
        right = np.array(
            [self.names[k] == s.label for k, s in zip(taken_for, samples, strict=True)]
        )
        asked = np.array([sample.label for sample in samples])
        shares = {name: float(right[asked == name].mean()) for name in labels}
        named = [NamedImage(f"{s.index:06d}", s.pixels, s.label) for s in samples]
        return Found(float(right.mean()), shares, self.distances(named), seconds, samples)


def real(judge: Judge, options: argparse.Namespace) -> list[str]:
    """What as many real training pictures get, as cells of a table."""
    images = load_images(options.data / "cifar10-train.tar.gz", labels="folders").images
    order = common.random(0).permutation(len(images))[: options.count]
    chosen = [images[k] for k in order]
    x = torch.from_numpy(np.stack([image.pixels for image in chosen])).permute(0, 3, 1, 2)
    taken_for = classifier.predicted(judge.network, x.float() / 127.5 - 1).tolist()
    pairs = zip(taken_for, chosen, strict=True)
    agree = float(np.mean([judge.names[k] == image.label for k, image in pairs]))
    return [f"{100 * agree:.1f} %", *(f"{d:.2f}" for d in judge.distances(chosen).values())]


def by_guidance(
    judge: Judge, model: DenoiserModel, options: argparse.Namespace
) -> Iterator[tuple[float, Found]]:
    """What each scale of guidance gets."""
    for scale in options.guidance:
        yield (
            scale,
            judge.found(model, options, guidance_scale=scale, steps=options.steps, solver="heun"),
        )


def by_training(judge: Judge, options: argparse.Namespace) -> Iterator[tuple[float, int, Found]]:
    """What each checkpoint of the run gets: hours, training steps, and that."""
    for checkpoint in run_checkpoints(options.run):
        model = load_model(checkpoint.folder, device=options.device, precision=options.precision)
        assert isinstance(model, DenoiserModel)
        found = judge.found(
            model, options, guidance_scale=options.scale, steps=options.steps, solver="heun"
        )
        yield (checkpoint.seconds or 0) / 3600, checkpoint.step, found


def by_steps(
    judge: Judge, model: DenoiserModel, options: argparse.Namespace
) -> Iterator[tuple[str, int, Found]]:
    """What each solver gets in so many steps, without guidance."""
    for solver in options.solvers:
        for steps in options.ladders:
            yield solver, steps, judge.found(model, options, steps=steps, solver=solver)


def run(options: argparse.Namespace) -> None:
    """Measure, then write the report and its pictures."""
    torch.set_num_threads(options.threads)
    judge = Judge.of(options)
    final = options.run / "final"
    model = load_model(final, device=options.device, precision=options.precision)
    assert isinstance(model, DenoiserModel)
    distances = [f"Fréchet, {name}" for name in EXTRACTORS]
    header = ["agree", *distances]

    guided = list(told(by_guidance(judge, model, options)))
    rows = [
        [f"{scale:g}", *found.row(), least(found.by_class), f"{found.seconds:.0f}"]
        for scale, found in guided
    ]
    rows.append(["real pictures", *real(judge, options), "–", "–"])
    trained = list(told(by_training(judge, options)))
    solved = list(told(by_steps(judge, model, options)))
    parts = [
        " ".join((__doc__ or "").split("\n\n", 1)[1].split()),
        ABOUT.format(100 * judge.accuracy, options.count, options.steps),
        common.table(
            ["guidance", *header, "least agreed class", "seconds"],
            rows,
        ),
        f"By the time of training, at guidance {options.scale:g}:",
        common.table(
            ["training steps", "hours", *header],
            [[f"{steps:,}", f"{hours:.2f}", *found.row()] for hours, steps, found in trained],
        ),
        "By solver and steps, without guidance:",
        common.table(
            ["solver", "steps", *header, "seconds"],
            [
                [f"`{solver}`", str(steps), *found.row(), f"{found.seconds:.0f}"]
                for solver, steps, found in solved
            ],
        ),
        "Samples, a class in each row, at the scale that agrees best:",
        "![samples of ten classes](generation-samples.png)",
    ]
    best = max((found for _, found in guided), key=lambda found: found.agree)
    save_samples(options.output / "generation-samples.png", best.samples, judge.names)
    save_curves(options.output / "generation.png", trained, solved)
    common.write_report(
        options,
        "generation",
        "Generation",
        parts,
        model=f"`diffdiff train configs/cifar10.yaml` ({card(model)})",
        alt="Fréchet distances by the hours of training, and by solver and steps",
    )


def told(points: Iterator[tuple[Any, ...]]) -> Iterator[tuple[Any, ...]]:
    """The same points, each printed as it comes."""
    for *what, found in points:
        print(*what, *found.row(), f"{found.seconds:.0f} s", flush=True)
        yield (*what, found)


def least(shares: dict[str, float]) -> str:
    """The class that is agreed on least."""
    name = min(shares, key=lambda name: shares[name])
    return f"{name} {100 * shares[name]:.0f} %"


def card(model: DenoiserModel) -> str:
    """What its card says of the training."""
    told = model.card or {}
    return ", ".join(f"{key} {json.dumps(value)}" for key, value in told.items())


def save_samples(path: Path, samples: list[Sample], names: list[str]) -> None:
    """The first twelve samples of each class, twice as large, a class in each row."""
    chosen = [s.pixels for name in names for s in [s for s in samples if s.label == name][:12]]
    grid = Image.fromarray(sample_grid(chosen, 12))
    path.parent.mkdir(parents=True, exist_ok=True)
    grid.resize((2 * grid.width, 2 * grid.height), Image.Resampling.NEAREST).save(
        path, optimize=True
    )


def save_curves(path: Path, trained: list[Any], solved: list[Any]) -> None:
    """Distances by time, and by steps, one row of axes for each extractor."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(len(EXTRACTORS), 2, figsize=(9, 9), layout="constrained")
    for (left, right), name in zip(axes, EXTRACTORS, strict=True):
        hours = [hours for hours, _, _ in trained]
        left.plot(hours, [found.distances[name] for *_, found in trained], "o-")
        left.set(xlabel="hours of training", ylabel=f"Fréchet, {name}")
        for solver in dict.fromkeys(solver for solver, _, _ in solved):
            points = [(n, found.distances[name]) for s, n, found in solved if s == solver]
            right.plot(*zip(*points, strict=True), "o-", label=solver)
        right.set(xlabel="steps", xscale="log", yscale="log")
        right.legend()
    common.save_figure(path, figure)


def main(argv: list[str] | None = None) -> None:
    """Read the options and run."""
    parser = common.parser(__doc__)
    add = parser.add_argument
    add("--run", type=Path, default=Path("runs/cifar10"), help="of `diffdiff train`")
    add("--classifier", type=Path, default=classifier.DEFAULT, help="of real pictures")
    add("--count", type=int, default=1000, help="samples of each point")
    add("--guidance", type=float, nargs="+", default=[1, 1.5, 2, 3], help="scales")
    add("--scale", type=float, default=1.5, help="of guidance, for the curve of training")
    add("--steps", type=int, default=18, help="of heun")
    add("--ladders", type=int, nargs="+", default=[5, 10, 20, 40], help="steps for each solver")
    add("--solvers", nargs="+", default=["ddim", "heun", "dpmpp_2m"], help="of `diffdiff doctor`")
    run(parser.parse_args(argv))


if __name__ == "__main__":
    main()
