"""Paths: from a start map to a target map along a ladder, as one σ-map per step, lazily."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from ..errors import InputError
from .ladder import RHO, SIGMA_MAX, SIGMA_MIN, strength
from .noise import Window

__all__ = ["PATHS", "Compat", "Path", "Together", "Wait", "together", "wait"]

Compat = Literal["image-to-image", "published"]


@dataclass(frozen=True)
class Path(ABC):
    """σ-maps from `start` (the first) to `target` (the last), each computed when asked for.

    ``len(path)`` is the number of steps, ``path.sigma(i)`` the map before step i, and iterating
    gives the pairs (σ_i, σ_{i+1}). Maps are never above the one before them.

    Attributes:
        start, target: (B or 1,1,H or 1,W or 1), 0 ≤ target ≤ start.
        levels: what is left of the ladder for each image, (len + 1, B or 1,1,1,1). Images that
            begin lower on the ladder wait for the others, so that a batch changes nothing.
        steps: N, the steps of the whole ladder.
    """

    start: Tensor
    target: Tensor
    levels: Tensor
    steps: int

    def __len__(self) -> int:
        return len(self.levels) - 1

    @abstractmethod
    def sigma(self, i: int) -> Tensor:
        """The σ-map before step i, 0 ≤ i ≤ len: the map of the state then."""

    @abstractmethod
    def joined(self, i: int) -> Tensor:
        """The pixels, as a mask, that begin to move in the midst of step i, not at its start."""

    def moves(self, i: int) -> bool:
        """Whether any pixel's level changes in step i."""
        return bool((self.sigma(i) != self.sigma(i + 1)).any())

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        for i in range(len(self)):
            yield self.sigma(i), self.sigma(i + 1)

    def crop(self, window: Window) -> Path:
        """The same path seen through a window of the picture: the same steps, fewer pixels."""
        return replace(self, start=_crop(self.start, window), target=_crop(self.target, window))


class Wait(Path):
    """σ_i(p) = max(min(start_p, σ_i), target_p): a pixel waits until the ladder reaches it."""

    def sigma(self, i: int) -> Tensor:
        """The σ-map before step i."""
        return torch.maximum(torch.minimum(self.start, self.levels[i]), self.target)

    def joined(self, i: int) -> Tensor:
        """The pixels whose start lies between the levels of step i."""
        return (self.levels[i + 1] < self.start) & (self.start < self.levels[i])


class Together(Path):
    """σ_i(p) = target_p + u_i (start_p - target_p), u_i = σ_i / σ_0: all pixels move at once."""

    def sigma(self, i: int) -> Tensor:
        """The σ-map before step i."""
        top = self.levels[0]
        u = torch.where(top > 0, self.levels[i] / top, 0.0)
        return torch.lerp(self.target, self.start, u)

    def joined(self, i: int) -> Tensor:
        """None: all pixels move from the first step on."""
        return torch.zeros_like(self.start, dtype=torch.bool)


def wait(
    start: Tensor,
    target: Tensor | None = None,
    steps: int | Tensor = 20,
    *,
    sigma_min: float = SIGMA_MIN,
    sigma_max: float = SIGMA_MAX,
    rho: float = RHO,
    compat: Compat = "image-to-image",
) -> Path:
    """Path on which a pixel keeps its start level until the ladder comes down to it.

        σ_i(p) = max(min(start_p, σ_i), target_p)

    The ladder has N + 1 levels σ(1 - i/N). With m the highest level, as a strength, from which
    any pixel of an image moves, that image takes k = max(1, floor(mN + 1e-6)) steps through
    the levels σ(m), σ((k-1)/N), ..., σ(1/N), 0, as image-to-image tools do; no steps where
    start = target everywhere. (Levels are compared to one part in a million.)

    Args:
        start: σ of each pixel now, (B or 1,1,H or 1,W or 1).
        target: σ of each pixel at the end, broadcastable with start; 0 by default.
        steps: N of the whole ladder, or a ladder of your own, N + 1 falling levels; if that
            ends above 0, pixels stop there.
        sigma_min, sigma_max, rho: of the ladder σ(s), see `strength_to_sigma`.
        compat: "published" gives the loop of Levin and Fried (2023), which rounds each pixel
            up to the next level of the ladder: N - max(0, ceil((1-m)N) - 1) steps, from
            ``path.start`` in place of `start`.

    Raises:
        InputError: maps that are negative, NaN, infinite or of unlike shapes, a target above
            the start, less than one step, or a ladder that does not fall.
    """
    return Wait(*_plan(start, target, steps, (sigma_min, sigma_max, rho), compat))


def together(
    start: Tensor,
    target: Tensor | None = None,
    steps: int | Tensor = 20,
    *,
    sigma_min: float = SIGMA_MIN,
    sigma_max: float = SIGMA_MAX,
    rho: float = RHO,
    compat: Compat = "image-to-image",
) -> Path:
    """Path on which all pixels of an image move from first step to last.

        σ_i(p) = target_p + u_i (start_p - target_p),    u_i = σ_i / σ_0 from 1 to 0

    with the levels σ_i, the arguments and the errors of `wait`.
    """
    return Together(*_plan(start, target, steps, (sigma_min, sigma_max, rho), compat))


def _plan(
    start: Tensor,
    target: Tensor | None,
    steps: int | Tensor,
    scale: tuple[float, float, float],
    compat: Compat,
) -> tuple[Tensor, Tensor, Tensor, int]:
    """Check the maps and cut the ladder to the levels that are left: the fields of a `Path`."""
    ladder = _check_ladder(steps) if isinstance(steps, Tensor) else strength(steps, *scale)
    start, target = _check_maps(start, target)
    ladder = ladder.to(start)
    if compat == "published":
        start = _round_up(start, target, ladder)
    elif compat != "image-to-image":
        raise InputError(f"compat must be 'image-to-image' or 'published', not {compat!r}.")

    n = len(ladder) - 1
    moving = start > torch.maximum(target, ladder[-1])
    highest = torch.where(moving, start, 0.0).amax((1, 2, 3), keepdim=True)
    count = _levels_up_to(highest, ladder).clamp(min=1) * (highest > 0)
    top = torch.where(count > 0, highest, start.amax((1, 2, 3), keepdim=True))
    total = int(count.max())
    # Step j of the run is the (total - j)-th last of every image: those with fewer steps wait.
    j = torch.arange(total + 1, device=start.device).view(-1, 1, 1, 1, 1)
    levels = torch.where(j <= total - count, top, ladder[n - total :].view(-1, 1, 1, 1, 1))
    return start, target, levels, n


def _levels_up_to(sigma: Tensor, ladder: Tensor) -> Tensor:
    """How many levels of the ladder, its last not counted, are at or below σ."""
    slack = 1 + max(1e-6, 4 * torch.finfo(sigma.dtype).eps)
    return torch.searchsorted(ladder[:-1].flip(0), sigma * slack, right=True)


def _round_up(start: Tensor, target: Tensor, ladder: Tensor) -> Tensor:
    """Lift every moving pixel to the next level of the ladder, as the published loop does."""
    n = len(ladder) - 1
    above = ladder[n - (_levels_up_to(start, ladder) + 1).clamp(max=n)]
    return torch.where(start > target, torch.maximum(start, above), start)


def _check_ladder(ladder: Tensor) -> Tensor:
    if (
        ladder.ndim != 1
        or len(ladder) < 2
        or not ladder.is_floating_point()
        or not bool(ladder.isfinite().all())
        or not bool((ladder[1:] < ladder[:-1]).all())
        or not bool(ladder[-1] >= 0)
    ):
        raise InputError(
            "the ladder must be a 1-D tensor of at least two finite levels that fall to 0 or more:"
            " build it with core.ladder."
        )
    return ladder


def _check_maps(start: Tensor, target: Tensor | None) -> tuple[Tensor, Tensor]:
    """Start and target with the same batch size, dtype and device, checked."""
    _check_map("start", start)
    target = start.new_zeros(1, 1, 1, 1) if target is None else target
    _check_map("target", target)
    target = target.to(start)
    if any(a != b and 1 not in (a, b) for a, b in zip(start.shape, target.shape, strict=True)):
        raise InputError(
            f"start {tuple(start.shape)} and target {tuple(target.shape)} do not fit each other:"
            " give maps of the same size."
        )
    if bool((target > start).any()):
        raise InputError("target lies above start somewhere: noise can only be taken away.")
    batch = max(len(start), len(target))
    return start.expand(batch, -1, -1, -1), target.expand(batch, -1, -1, -1)


def _check_map(name: str, sigma: Tensor) -> None:
    if sigma.ndim != 4 or sigma.shape[1] != 1 or not sigma.numel():
        raise InputError(f"{name} must have the shape (B,1,H,W), not {tuple(sigma.shape)}.")
    if not sigma.is_floating_point():
        raise InputError(f"{name} must hold floating-point noise levels, not {sigma.dtype}.")
    if not bool((sigma.isfinite() & (sigma >= 0)).all()):
        raise InputError(f"{name} must be finite and 0 or more everywhere: fix the noise levels.")


def _crop(sigma: Tensor, window: Window) -> Tensor:
    """A window of a map; a side of length 1 is the same everywhere and stays."""
    rows = slice(window.top, window.bottom) if sigma.shape[2] > 1 else slice(None)
    columns = slice(window.left, window.right) if sigma.shape[3] > 1 else slice(None)
    return sigma[:, :, rows, columns]


PATHS: dict[str, Callable[..., Path]] = {"wait": wait, "together": together}
