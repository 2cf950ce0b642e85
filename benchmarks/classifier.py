"""A classifier of CIFAR-10's real pictures, to judge generated ones with.

    python -m benchmarks.classifier --data FOLDER

It is trained on the 50,000 training pictures alone, and its accuracy on the 10,000 test pictures is
written into its file beside the weights.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from differential_diffusion.data.images import load_images

from . import common

DEFAULT = Path("runs/cifar10-classifier.safetensors")


class Classifier(nn.Module):
    """A residual network of nine layers for pictures of 32 x 32 pixels."""

    def __init__(self, width: int = 32, classes: int = 10) -> None:
        super().__init__()
        w = width
        self.stem = nn.Sequential(_layer(3, w), _layer(w, 2 * w, pool=True))
        self.first = nn.Sequential(_layer(2 * w, 2 * w), _layer(2 * w, 2 * w))
        self.middle = nn.Sequential(
            _layer(2 * w, 4 * w, pool=True), _layer(4 * w, 8 * w, pool=True)
        )
        self.second = nn.Sequential(_layer(8 * w, 8 * w), _layer(8 * w, 8 * w))
        self.head = nn.Linear(8 * w, classes)

    def features(self, x: Tensor) -> Tensor:
        """(B,3,32,32) in [-1,1] to (B,8 width)."""
        h = self.stem(x)
        h = self.middle(h + self.first(h))
        h = h + self.second(h)
        return h.amax((2, 3))

    def forward(self, x: Tensor) -> Tensor:
        """(B,3,32,32) in [-1,1] to logits (B,classes)."""
        logits: Tensor = self.head(self.features(x))
        return logits


def _layer(inputs: int, outputs: int, *, pool: bool = False) -> nn.Module:
    layers = [nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs)]
    return nn.Sequential(*layers, nn.ReLU(), *([nn.MaxPool2d(2)] if pool else []))


def pictures(path: Path) -> tuple[Tensor, Tensor, list[str]]:
    """Pictures (N,3,32,32) in [-1,1], their classes, and the names of these."""
    images = load_images(path, labels="folders").images
    names = sorted({image.label or "" for image in images})
    pixels = torch.from_numpy(np.stack([image.pixels for image in images]))
    x = pixels.permute(0, 3, 1, 2).float() / 127.5 - 1
    return x, torch.tensor([names.index(image.label or "") for image in images]), names


def augmented(x: Tensor, rng: torch.Generator) -> Tensor:
    """Shifted by up to four pixels, and half of them mirrored."""
    padded = F.pad(x, (4, 4, 4, 4), mode="reflect")
    top, left = torch.randint(0, 9, (2, len(x)), generator=rng)
    rows = torch.arange(32)
    made = padded[
        torch.arange(len(x))[:, None, None, None],
        torch.arange(3)[None, :, None, None],
        (top[:, None] + rows)[:, None, :, None],
        (left[:, None] + rows)[:, None, None, :],
    ]
    flip = torch.rand(len(x), generator=rng) < 0.5
    return torch.where(flip.view(-1, 1, 1, 1), made.flip(-1), made)


@torch.no_grad()
def predicted(model: nn.Module, x: Tensor) -> Tensor:
    """Classes of pictures, from them and their mirror images together, (N,)."""
    model.eval()
    with torch.autocast("cpu", torch.bfloat16):
        both = [model(part) + model(part.flip(-1)) for part in x.split(500)]
    return torch.cat(both).argmax(1)


def fit(
    x: Tensor, y: Tensor, *, epochs: float, seed: int = 0, width: int = 32, batch: int = 256
) -> Classifier:
    """A classifier trained on pictures with their classes."""
    torch.manual_seed(seed)
    model = Classifier(width, int(y.max()) + 1).to(memory_format=torch.channels_last)
    steps = max(1, round(epochs * len(x) / batch))
    optimizer = torch.optim.SGD(
        model.parameters(), lr=0.2, momentum=0.9, weight_decay=5e-4, nesterov=True
    )
    rates = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.2, total_steps=steps, pct_start=0.2)
    rng = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(x), generator=rng)
    at = 0
    for step in range(steps):
        if at + batch > len(x):
            order, at = torch.randperm(len(x), generator=rng), 0
        chosen = order[at : at + batch]
        at += batch
        model.train()
        seen = augmented(x[chosen], rng).contiguous(memory_format=torch.channels_last)
        with torch.autocast("cpu", torch.bfloat16):
            logits = model(seen)
        loss = F.cross_entropy(logits.float(), y[chosen], label_smoothing=0.1)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        rates.step()
        if step % 50 == 0:
            print(f"step {step}/{steps}  loss {loss.item():.3f}", flush=True)
    return model


def load(path: Path = DEFAULT) -> tuple[Classifier, float, list[str]]:
    """A saved classifier, its accuracy on the test pictures, and the names of its classes."""
    with safe_open(path, framework="pt") as file:
        said = file.metadata()
        weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    model = Classifier(int(said["width"]), len(json.loads(said["classes"])))
    model.load_state_dict(weights)
    return model.eval(), float(said["accuracy"]), json.loads(said["classes"])


def main(argv: list[str] | None = None) -> None:
    """Train, test and save."""
    parser = common.parser(__doc__)
    parser.add_argument("--epochs", type=float, default=10, help="over the training pictures")
    parser.add_argument("--width", type=int, default=32, help="channels of the first layer")
    parser.add_argument("--to", type=Path, default=DEFAULT, help="file to write")
    options: argparse.Namespace = parser.parse_args(argv)
    torch.set_num_threads(options.threads)
    x, y, names = pictures(options.data / "cifar10-train.tar.gz")
    model = fit(x, y, epochs=options.epochs, width=options.width)
    x, y, _ = pictures(options.data / "cifar10-test.tar.gz")
    accuracy = float((predicted(model, x) == y).float().mean())
    print(f"test accuracy {100 * accuracy:.2f} %")
    options.to.parent.mkdir(parents=True, exist_ok=True)
    weights = {k: v.contiguous() for k, v in model.state_dict().items()}
    said = {
        "accuracy": f"{accuracy:.4f}",
        "width": str(options.width),
        "classes": json.dumps(names),
    }
    save_file(weights, options.to, metadata=said)


if __name__ == "__main__":
    main()
