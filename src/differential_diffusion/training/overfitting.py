"""Whether a model learnt its pictures by heart: the gap of the loss, and neighbours of samples."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from ..files import write_atomically
from ..models.checkpoint import CheckpointConfig
from ..models.network import Network
from .validation import BANDS, Validator, shown

SAMPLES = 64
GAP_DEVIATIONS, GAP_SHARE = 4.0, 0.1
NEAR, NEAR_SHARE = 0.5, 0.1
_SIDE = 32
"""Pictures are compared at most this large, by the mean over areas."""


@dataclass(frozen=True)
class Overfitting:
    """What was found.

    Attributes:
        gap: mean loss on held-out pictures less that on training pictures, by bands of noise
            levels from low to high.
        loss: mean loss on training pictures, likewise.
        deviations: the mean gap in its standard errors.
        near: share of samples much nearer to a training picture than held-out pictures are: nearer
            than half their median distance; None where pictures are larger than what is learnt.
        near_held_out: that share of the held-out pictures themselves.
        step: of the weights.
    """

    gap: tuple[float, ...]
    loss: tuple[float, ...]
    deviations: float
    near: float | None
    near_held_out: float | None
    step: int

    @property
    def gap_found(self) -> bool:
        """Whether the loss on held-out pictures is larger by a tenth, and not by chance."""
        share = sum(self.gap) / max(1e-12, sum(self.loss))
        return self.deviations > GAP_DEVIATIONS and share > GAP_SHARE

    @property
    def copies_found(self) -> bool:
        """Whether a tenth of the samples more than of the held-out pictures are nearly copies."""
        return self.near is not None and self.near > NEAR_SHARE + (self.near_held_out or 0.0)

    @property
    def found(self) -> bool:
        """Whether either shows."""
        return self.gap_found or self.copies_found

    def sentence(self) -> str:
        """What was found, in a sentence."""
        share = 100 * sum(self.gap) / max(1e-12, sum(self.loss))
        gap = f"the loss on held-out pictures is {share:+.0f} % ({self.deviations:.1f} deviations)"
        near = (
            ""
            if self.near is None
            else (
                f", and {100 * self.near:.0f} % of samples are nearly training pictures "
                f"({100 * (self.near_held_out or 0):.0f} % of held-out ones)"
            )
        )
        if not self.found:
            return f"no sign of over-fitting: {gap}{near}"
        return (
            f"the model over-fits: {gap}{near}; take more pictures, augmentation, dropout, a "
            "smaller network or fewer steps"
        )


def report_overfitting(
    validator: Validator,
    network: Network,
    described: CheckpointConfig,
    output: Path,
    *,
    step: int,
    bf16: bool = False,
) -> Overfitting:
    """Measure, and write `overfitting.json` and, of samples with their neighbours, a picture.

    Args:
        validator: of the run.
        network: the averaged weights.
        described: the model's description.
        output: the run's folder.
        step: of the weights.
        bf16: whether to compute in bfloat16.
    """
    losses = {side: validator.losses(network, side, bf16) for side in validator.sides}
    gap = losses["held_out"].mean(1) - losses["training"].mean(1)
    errors = [of.mean(0).var() / of.shape[1] for of in losses.values() if of.shape[1] > 1]
    deviation = float(sum(errors, torch.tensor(0.0))) ** 0.5
    near = base = None
    if validator.whole_pictures:
        samples = validator.samples(network, described, SAMPLES, bf16)
        training, held_out = validator.squares("training"), validator.squares("held_out")
        distance, which = nearest(samples, training)
        usual, _ = nearest(held_out, training)
        limit = NEAR * float(usual.median())
        near, base = (float((found < limit).double().mean()) for found in (distance, usual))
        _draw(samples, training[which], distance, output / "overfitting.png")
    found = Overfitting(
        tuple(gap.tolist()),
        tuple(losses["training"].mean(1).tolist()),
        float(gap.mean()) / max(deviation, 1e-12),
        near,
        base,
        step,
    )
    record = asdict(found) | {"found": found.found, "sentence": found.sentence(), "bands": BANDS}
    write_atomically(
        output / "overfitting.json", (json.dumps(record, indent=2) + "\n").encode("utf-8")
    )
    return found


def nearest(pictures: Tensor, among: Tensor) -> tuple[Tensor, Tensor]:
    """Root mean square distance of each picture to the nearest of others, and which it is.

    Mirror images count as the same.

    Args:
        pictures: (n,C,H,W).
        among: (m,C,H,W).
    """
    side = min(_SIDE, *pictures.shape[-2:])
    small = F.adaptive_avg_pool2d(pictures.float(), side)
    others = F.adaptive_avg_pool2d(among.float(), side).flatten(1)
    distances = torch.stack(
        [torch.cdist(view.flatten(1), others) for view in (small, small.flip(-1))]
    ).amin(0)
    least, which = distances.min(1)
    return least / others.shape[1] ** 0.5, which


def _draw(samples: Tensor, neighbours: Tensor, distances: Tensor, path: Path) -> None:
    """The samples nearest to training pictures, each above its neighbour."""
    chosen = distances.argsort()[:16]
    side = samples.shape[-1]
    rows = [
        torch.cat([shown(one, side) for one in pictures[chosen]], dim=-1)
        for pictures in (samples, neighbours)
    ]
    grid = torch.cat(rows, dim=-2).clamp(-1, 1)
    pixels = ((grid + 1) * 127.5).round().to(torch.uint8).permute(1, 2, 0).numpy()
    file = BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(file, "PNG")
    write_atomically(path, file.getvalue())
