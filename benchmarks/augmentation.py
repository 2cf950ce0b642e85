"""Few labels: does a classifier gain from variants that a diffusion model draws?

Of scikit-learn's 1,797 digits, 20 of each class have a label; 800 more have none, and the rest are
the test. A diffusion model learns from both, the classes of the unlabelled ones withheld and the
labelled ones repeated, so that there are as many. A small
convolutional network learns from the labelled ones alone; from them and variants of them; from them
and new samples of each class; and from as many copies of them, shifted by a pixel as one does
without a model. All get as many steps.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from differential_diffusion.engine import draw_samples, vary
from differential_diffusion.models import DenoiserModel, load_model

from . import common

LABELS, UNLABELLED, PER_CLASS = 20, 800, 100
Pixels = NDArray[np.uint8]


def digits() -> tuple[Pixels, NDArray[np.int64]]:
    """Pictures (N,8,8,1) and their classes."""
    from sklearn.datasets import load_digits

    found = load_digits()
    return np.rint(found.images * 255 / 16).astype(np.uint8)[..., None], found.target


def split(y: NDArray[np.int64], seed: int) -> tuple[Any, Any, Any]:
    """Indices of labelled, unlabelled and test pictures."""
    order = np.random.default_rng(seed).permutation(len(y))
    labelled = np.concatenate([order[y[order] == k][:LABELS] for k in range(10)])
    rest = order[~np.isin(order, labelled)]
    return labelled, rest[:UNLABELLED], rest[UNLABELLED:]


def diffusion(x: Pixels, y: Any, labelled: Any, unlabelled: Any, options: Any, seed: int) -> Any:
    """A model of the labelled and the unlabelled pictures."""
    from differential_diffusion.training import TrainingConfig, train

    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "pictures"
        files = [
            (str(y[k]), k, copy)
            for k in labelled
            for copy in range(len(unlabelled) // len(labelled))
        ]
        files += [("unlabelled", k, 0) for k in unlabelled]
        for label, index, copy in files:
            path = root / label / f"{index:04d}-{copy}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(x[index, ..., 0]).save(path)
        config = TrainingConfig.model_validate(
            {
                "output": str(Path(folder) / "run"),
                "seed": seed,
                "steps": options.steps,
                "batch_size": 64,
                "precision": options.precision,
                "data": {
                    "path": str(root), "channels": 1, "patch_size": 8, "cut": "fit",
                    "symmetries": "none", "labels": "folders", "unlabelled": "unlabelled",
                    "validation": 16,
                },
                "network": {
                    "channels": [48, 96], "blocks": [2, 2], "patch": 1, "attention": [1],
                    "embedding_channels": 48, "dropout": 0.1,
                },
                "objective": {"condition_dropout": 0.0},  # the unlabelled teach that
                "noise": {"mean": -1.0, "sigma_max": 40.0, "coloured": 0},
                "optimizer": {"warmup_steps": 50, "ema_halflife": 100, "decay": 0.6},
                "validation": {"every": options.steps, "crop": 8},
                "checkpoint": {"every": options.steps, "keep": 1},
            }
        )  # fmt: skip
        model = load_model(train(config), device="cpu", precision=options.precision)
    assert isinstance(model, DenoiserModel)
    return model


class Small(nn.Module):
    """A convolutional network of three layers."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(1, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU(),
            nn.Conv2d(32, 64, 3, padding=1), nn.BatchNorm2d(64), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(64, 64, 3, padding=1), nn.BatchNorm2d(64), nn.ReLU(),
        )  # fmt: skip
        self.head = nn.Linear(64 * 16, 10)

    def forward(self, x: Tensor) -> Tensor:
        """(B,1,8,8) to logits (B,10)."""
        logits: Tensor = self.head(F.dropout(self.layers(x).flatten(1), 0.3, self.training))
        return logits


def accuracy(parts: list[tuple[Pixels, Any, float]], test: tuple[Pixels, Any], seed: int) -> float:
    """On the test pictures, of a network trained on parts, each seen with some probability."""
    torch.manual_seed(seed)
    model, rng = Small(), np.random.default_rng(seed)
    optimizer = torch.optim.AdamW(model.parameters(), 2e-3, weight_decay=1e-2)
    rates = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, total_steps=600)
    for _ in range(600):
        kinds = rng.choice(len(parts), 64, p=[share for _, _, share in parts])
        pixels, labels = [], []
        for kind in kinds:
            x, y, _ = parts[kind]
            index = rng.integers(len(x))
            pixels.append(x[index])
            labels.append(int(y[index]))
        loss = F.cross_entropy(model(tensor(np.stack(pixels))), torch.tensor(labels))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        rates.step()
    model.eval()
    with torch.no_grad():
        found = model(tensor(test[0])).argmax(1).numpy()
    return float((found == test[1]).mean())


def tensor(x: Pixels) -> Tensor:
    """(N,8,8,1) to (N,1,8,8) in [-1,1]."""
    return torch.from_numpy(x).permute(0, 3, 1, 2).float() / 127.5 - 1


def shifted(x: Pixels, y: Any, seed: int) -> tuple[Pixels, Any]:
    """Copies moved by up to a pixel, as many as the other kinds have."""
    rng = np.random.default_rng(seed)
    chosen = rng.integers(len(x), size=10 * PER_CLASS)
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    made = [
        padded[k, i : i + 8, j : j + 8]
        for k, (i, j) in zip(chosen, rng.integers(0, 3, (len(chosen), 2)), strict=True)
    ]
    return np.stack(made), y[chosen]


def measure(options: argparse.Namespace, seed: int) -> dict[str, float]:
    """Accuracies of one split."""
    x, y = digits()
    labelled, unlabelled, rest = split(y, seed)
    model = diffusion(x, y, labelled, unlabelled, options, seed)
    own, test = (x[labelled], y[labelled]), (x[rest], y[rest])
    samples = list(
        draw_samples(
            model, 10 * PER_CLASS, labels=list(model.classes), guidance_scale=options.guidance,
            steps=20, seed=seed, batch_size=500,
        )
    )  # fmt: skip
    fresh = np.stack([s.pixels for s in samples]), np.array([int(s.label or 0) for s in samples])
    count = PER_CLASS // LABELS
    variants = [
        (one, y[index])
        for index in labelled
        for one in vary(model, x[index], count, label=str(y[index]), strength=options.strength,
                        seed=seed + int(index))
    ]  # fmt: skip
    varied = np.stack([one for one, _ in variants]), np.array([label for _, label in variants])
    kinds = {
        "labelled alone": [(*own, 1.0)],
        "and shifted copies": [(*own, 0.5), (*shifted(*own, seed), 0.5)],
        "and variants": [(*own, 0.5), (*varied, 0.5)],
        "and new samples": [(*own, 0.5), (*fresh, 0.5)],
    }
    return {name: accuracy(parts, test, seed) for name, parts in kinds.items()}


def run(options: argparse.Namespace) -> None:
    """Measure, then print the table."""
    torch.set_num_threads(options.threads)
    found = []
    for seed in range(options.seeds):
        found.append(measure(options, seed))
        print(seed, {name: round(100 * value, 1) for name, value in found[-1].items()}, flush=True)
    rows = []
    for name in found[0]:
        values = [100 * of[name] for of in found]
        spread = statistics.stdev(values) if len(values) > 1 else 0.0
        gains = [100 * (of[name] - of["labelled alone"]) for of in found]
        rows.append(
            [
                name,
                f"{statistics.mean(values):.2f} ± {spread:.2f}",
                f"{statistics.mean(gains):+.2f}",
                f"{sum(gain > 0 for gain in gains)} of {len(gains)}",
            ]
        )
    save_points(options.output / "augmentation.png", found)
    common.write_report(
        options,
        "augmentation",
        "Augmentation",
        [
            " ".join((__doc__ or "").split("\n\n", 1)[1].split()),
            f"Mean and deviation over {len(found)} splits, and the mean gain over the first row:",
            common.table(["training pictures", "test accuracy, %", "gain", "higher in"], rows),
        ],
        model=f"A diffusion model of {options.steps:,} steps for each split",
        alt="test accuracy of each split by what the classifier was trained on",
    )


def save_points(path: Path, found: list[dict[str, float]]) -> None:
    """The accuracy of every split, a line each."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(7, 4), layout="constrained")
    for seed, of in enumerate(found):
        axes.plot(list(of), [100 * value for value in of.values()], "o-", label=f"split {seed}")
    axes.set(ylabel="test accuracy, %")
    axes.legend()
    common.save_figure(path, figure)


def main(argv: list[str] | None = None) -> None:
    """Read the options and run."""
    parser = common.parser(__doc__)
    parser.add_argument("--seeds", type=int, default=5, help="splits")
    parser.add_argument("--steps", type=int, default=1500, help="of the diffusion model")
    parser.add_argument("--guidance", type=float, default=1.5, help="of new samples")
    parser.add_argument("--strength", type=float, default=0.5, help="of variants")
    run(parser.parse_args(argv))


if __name__ == "__main__":
    main()
