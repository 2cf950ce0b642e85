"""When each cell of the latent grid starts to move: integers, so that nothing hangs on rounding.

A ladder of N steps starts cell p at step `first_p` (0 to N); until then the cell is kept at the
noised original of the current level. What counts is the strength s of the cell:

    first = N - max(1, floor(s N)),    N where s = 0                   (image-to-image tools)
    first = max(0, ceil((1 - s) N) - 1)                                (the published loop)

The published loop gives a cell one step more, and a cell of strength 0 the last step.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["LatentPlan", "WholeSteps", "cell_maximum"]

_ROUNDING = 1e-6  # a strength of 0.3 over 10 steps is 3 steps, whatever its last bit


def cell_maximum(strength: Tensor, rows: int, columns: int) -> Tensor:
    """The largest strength in each cell of a grid, (B,1,rows,columns).

    A one-pixel stroke keeps its strength, where the mean would fade it.

    Args:
        strength: (B,1,H,W), H and W multiples of rows and columns, or (B,1,1,1).
    """
    if strength.shape[-2:] == (1, 1):
        return strength.expand(-1, -1, rows, columns)
    cell = strength.shape[-2] // rows, strength.shape[-1] // columns
    return F.max_pool2d(strength, cell)


@dataclass(frozen=True)
class LatentPlan:
    """What of a pipeline's steps is done, for which cells.

    Attributes:
        first: (B,1,h,w) int64, the step at which a cell starts to move; `steps` for never.
        steps: N, of the whole ladder.
        begin: the step that the pipeline starts at.
        pinned: (B,1,h,w) bool, cells that end at the original.
    """

    first: Tensor
    steps: int
    begin: int
    pinned: Tensor

    @classmethod
    def of(
        cls,
        strength: Tensor,
        steps: int,
        *,
        published: bool = False,
        skip_idle: bool = True,
        warmup_steps: int = 0,
        pin: bool = True,
    ) -> LatentPlan:
        """The plan for the strength of each cell.

        Args:
            strength: (B,1,h,w) in [0, 1].
            steps: N.
            published: as the published loop has it.
            skip_idle: leave out the steps in which no cell moves.
            warmup_steps: of the idle steps, how many to do all the same, for solvers that
                remember their history.
            pin: end cells of strength 0 at the original.
        """
        exact = strength.double() * steps
        rounding = (
            _ROUNDING + steps * torch.finfo(torch.float32).eps
        )  # of maps, in single precision
        if published:
            first = (torch.ceil(steps - exact - rounding) - 1).clamp(min=0)
        else:
            moves = torch.floor(exact + rounding).clamp(min=1)
            first = torch.where(strength > 0, steps - moves, float(steps))
        first = first.long()
        begin = max(0, int(first.min()) - warmup_steps) if skip_idle else 0
        nothing = not bool((strength > 0).any())
        return cls(first, steps, steps if nothing else begin, (strength == 0) & pin)

    @property
    def calls(self) -> int:
        """Steps that the pipeline does."""
        return self.steps - self.begin

    def held(self, step: int) -> Tensor:
        """(B,1,h,w) bool: cells to set to the noised original before this step.

        Cells that start with the pipeline are not held, even where it takes longer to begin (PNDM).
        """
        return (self.first >= step) & (self.first > self.begin)

    def moving(self, step: int) -> Tensor:
        """(B,1,h,w) bool: cells that move in this step."""
        return self.first <= step

    @property
    def holds(self) -> bool:
        """Whether any cell is held or pinned; else the run is the pipeline's own."""
        return bool((self.first > self.begin).any()) or bool(self.pinned.any())

    @property
    def strength(self) -> float:
        """The number to give a pipeline so that it does exactly `calls` steps."""
        return WholeSteps(self.calls / self.steps)


class WholeSteps(float):
    """A strength whose product with a number of steps is whole where it is so but for rounding.

    Pipelines cut N s to whole steps, some from below and some from above: 0.29 * 100 is
    28.999999999999996, and no float serves both.
    """

    def __mul__(self, steps: float) -> float:
        product = float(self) * steps
        return float(round(product)) if abs(product - round(product)) < _ROUNDING else product

    __rmul__ = __mul__
