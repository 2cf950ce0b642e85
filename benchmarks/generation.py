"""Class-conditional samples: do they show what was asked for?

    python -m benchmarks.classifier
    diffdiff train configs/cifar10.yaml
    python -m benchmarks.generation --model runs/cifar10/final

A classifier trained on real pictures looks at samples of each class, at several scales of guidance.
`diffdiff evaluate` gives the distances to the real pictures.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from differential_diffusion.engine import draw_samples, sample_grid
from differential_diffusion.models import DenoiserModel, load_model

from . import classifier, common


def agreement(
    judge: torch.nn.Module, names: list[str], model: DenoiserModel, count: int, **settings: Any
) -> tuple[float, dict[str, float], list[Any]]:
    """Share of samples that the judge takes for the class asked for, overall and by class."""
    samples = list(draw_samples(model, count, labels=list(model.classes), **settings))
    pixels = torch.from_numpy(np.stack([sample.pixels for sample in samples]))
    found = classifier.predicted(judge, pixels.permute(0, 3, 1, 2).float() / 127.5 - 1).tolist()
    right: dict[str, list[bool]] = {name: [] for name in names}
    for sample, number in zip(samples, found, strict=True):
        right[sample.label or ""].append(names[number] == sample.label)
    shares = {name: sum(of) / max(1, len(of)) for name, of in right.items()}
    total = sum(map(sum, right.values())) / count
    return total, shares, samples


def run(options: argparse.Namespace) -> None:
    """Measure, then write the table and a picture."""
    torch.set_num_threads(options.threads)
    judge, accuracy, names = classifier.load(options.classifier)
    model = load_model(options.model, precision=options.precision)
    assert isinstance(model, DenoiserModel)
    rows, made = [], []
    for scale in options.guidance:
        total, shares, samples = agreement(
            judge, names, model, options.count, guidance_scale=scale,
            steps=options.steps, solver=options.solver, batch_size=100,
        )  # fmt: skip
        least = min(shares, key=lambda name: shares[name])
        rows.append([f"{scale:g}", f"{100 * total:.1f} %", f"{least} {100 * shares[least]:.0f} %"])
        print(rows[-1], flush=True)
        made.append((total, samples))
    table = common.table(["guidance", "agree", "least agreed class"], rows)
    card = json.dumps(model.card)
    print(f"classifier: {100 * accuracy:.2f} % of test pictures; model: {card}\n\n{table}")
    best = max(made, key=lambda of: of[0])[1]
    chosen = sorted(best[: 10 * len(names)], key=lambda s: (names.index(s.label), s.index))
    grid = sample_grid([sample.pixels for sample in chosen], 10)
    options.output.mkdir(parents=True, exist_ok=True)
    large = Image.fromarray(grid).resize((2 * grid.shape[1], 2 * grid.shape[0]), 0)
    large.save(options.output / "generation.png", optimize=True)


def main(argv: list[str] | None = None) -> None:
    """Read the options and run."""
    parser = common.parser(__doc__)
    parser.set_defaults(model="runs/cifar10/final")
    parser.add_argument("--classifier", type=Path, default=classifier.DEFAULT, help="of real ones")
    parser.add_argument("--count", type=int, default=1000, help="samples at each scale")
    parser.add_argument("--guidance", type=float, nargs="+", default=[1, 1.5, 2, 3], help="scales")
    parser.add_argument("--steps", type=int, default=18, help="of the solver")
    parser.add_argument("--solver", default="heun", help="see `diffdiff doctor`")
    run(parser.parse_args(argv))


if __name__ == "__main__":
    main()
