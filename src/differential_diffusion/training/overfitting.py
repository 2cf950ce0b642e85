"""Whether a model learnt its pictures by heart: the gap of the loss, and neighbours of samples."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from functools import reduce
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from ..files import write_atomically
from ..models.checkpoint import CheckpointConfig
from ..models.network import Network
from .validation import BANDS, Validator, save_grid, shown

SAMPLES, _DRAWN = 64, 16
GAP_DEVIATIONS, GAP_SHARE = 4.0, 0.1
LEAST = 8
"""Pictures of each side, of fewer of which the gap of the loss says nothing."""
NEAR, NEAR_SHARE = 0.5, 0.1
_SIDE = 32
"""Pictures are compared at most this large, by the mean over areas."""
_PART = 256  # pictures whose distances to all others are held at once


@dataclass(frozen=True)
class Overfitting:
    """What was found.

    Attributes:
        gap: mean loss on held-out pictures less that on training pictures, by bands of noise
            levels from low to high.
        loss: mean loss on training pictures, likewise.
        deviations: the mean gap in its standard errors; None for too few pictures to tell.
        near: share of samples much nearer to a training picture than held-out pictures are: nearer
            than half their median distance; None where pictures are larger than what is learnt.
        near_held_out: that share of the held-out pictures themselves.
        step: of the weights.
    """

    gap: tuple[float, ...]
    loss: tuple[float, ...]
    deviations: float | None
    near: float | None
    near_held_out: float | None
    step: int

    @property
    def gap_found(self) -> bool:
        """Whether the loss on held-out pictures is larger by a tenth, and not by chance."""
        share = sum(self.gap) / max(1e-12, sum(self.loss))
        return (self.deviations or 0.0) > GAP_DEVIATIONS and share > GAP_SHARE

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
        sure = (
            "of too few pictures to tell"
            if self.deviations is None
            else f"{self.deviations:.1f} deviations"
        )
        gap = f"the loss on held-out pictures is {share:+.0f} % ({sure})"
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
    near = base = None
    if validator.whole_pictures:
        samples = validator.samples(network, described, SAMPLES, bf16)
        training, held_out = validator.squares("training"), validator.squares("held_out")
        among, others = (
            pooled(side[index]["x0"] for index in range(len(side))) for side in (training, held_out)
        )
        distance, which = nearest(pooled(samples), among, validator.symmetries)
        usual, _ = nearest(others, among, validator.symmetries)
        limit = NEAR * float(usual.median())
        near, base = (float((found < limit).double().mean()) for found in (distance, usual))
        chosen = distance.argsort()[:_DRAWN].tolist()
        pairs = [(samples[k], training[int(which[k])]["x0"]) for k in chosen]
        _draw(pairs, output / "overfitting.png")
    found = Overfitting(
        tuple(gap.tolist()),
        tuple(losses["training"].mean(1).tolist()),
        _deviations(losses),
        near,
        base,
        step,
    )
    record = asdict(found) | {"found": found.found, "sentence": found.sentence(), "bands": BANDS}
    write_atomically(
        output / "overfitting.json", (json.dumps(record, indent=2) + "\n").encode("utf-8")
    )
    return found


def _deviations(losses: dict[str, Tensor]) -> float | None:
    """The mean gap in its standard errors, of losses by side, (BANDS,pictures)."""
    held_out, training = (losses[side].mean(0) for side in ("held_out", "training"))
    if min(len(held_out), len(training)) < LEAST:
        return None
    error = (held_out.var() / len(held_out) + training.var() / len(training)).sqrt()
    return float((held_out.mean() - training.mean()) / error.clamp(min=1e-12))


def pooled(pictures: Iterable[Tensor]) -> Tensor:
    """Squares (C,H,W) of one size as they are compared, (n,C,h,w)."""
    return torch.stack(
        [F.adaptive_avg_pool2d(one.float(), min(_SIDE, one.shape[-1])) for one in pictures]
    )


def nearest(
    pictures: Tensor, among: Tensor, symmetries: Sequence[int] = (0, 2)
) -> tuple[Tensor, Tensor]:
    """Root mean square distance of each picture to the nearest of others, and which it is.

    Args:
        pictures: (n,C,H,H).
        among: (m,C,H,H).
        symmetries: under which pictures count as the same, as `data.crops.symmetry` numbers them;
            mirror images by default.
    """
    others, found = among.flatten(1), []
    for part in torch.split(pictures, _PART):
        views = (_seen(part, which).flatten(1) for which in symmetries)
        found.append(reduce(torch.minimum, (torch.cdist(view, others) for view in views)).min(1))
    least, which = (torch.cat(of) for of in zip(*found, strict=True))
    return least / others.shape[1] ** 0.5, which


def _seen(pictures: Tensor, which: int) -> Tensor:
    """Pictures (n,C,H,H) under a symmetry, see `data.crops.symmetry`."""
    flipped = [axis for bit, axis in ((1, -2), (2, -1)) if which & bit]
    pictures = pictures.flip(flipped)
    return pictures.mT if which & 4 else pictures


def _draw(pairs: Sequence[tuple[Tensor, Tensor]], path: Path) -> None:
    """Samples, each above its neighbour, all (C,H,H)."""
    side = pairs[0][0].shape[-1]
    columns = [torch.cat([shown(one, side) for one in pair], dim=-2) for pair in pairs]
    save_grid(torch.cat(columns, dim=-1), path)
