"""The sampling loop: a generator of `Step` records."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from ..errors import InputError
from .path import Path
from .types import Denoiser, Focusable, Noise, Solver, Step

__all__ = ["sample", "sample_steps"]


def sample_steps(
    denoise: Denoiser,
    x: Tensor,
    path: Path,
    solver: Solver,
    noise: Noise | None = None,
    *,
    grad: bool = False,
) -> Iterator[Step]:
    """Sample step by step, yielding a record of each; the last record's `x` is the result.

    Steps in which no pixel's level changes are skipped without a model call; if there are no
    others, nothing is yielded and the result is x itself. Stop iterating to stop the run.

    Args:
        denoise: D(x, σ), see `Denoiser`.
        x: noisy picture whose σ-map is ``path.sigma(0)``, (B,C,H,W), floating point.
        path: σ-maps, broadcastable to (B,1,H,W); used in the dtype and on the device of x.
        solver: how to step.
        noise: `noise(k)`, k ≥ 0, is the k-th normal draw, broadcastable to (B,C,H,W), moved to
            x; needed by stochastic solvers. Draws are numbered from the end of the ladder, so
            a crop, or one image of a batch, sees the draws it sees in the whole.
        grad: whether to record gradients through the run.

    Raises:
        InputError: shapes that do not fit, no noise for a stochastic solver, or a denoiser
            that returns another shape.
    """
    if x.ndim != 4 or not x.is_floating_point():
        raise InputError(
            f"x must be a floating-point tensor (B,C,H,W), not {x.dtype} {tuple(x.shape)}."
        )
    full = (len(x), 1, *x.shape[2:])
    for given, wanted in zip(path.sigma(0).shape, full, strict=True):
        if given not in (1, wanted):
            raise InputError(
                f"the path's maps have the shape {tuple(path.sigma(0).shape)}, the picture needs"
                f" {full}: build the path for this picture."
            )
    if solver.stochastic and noise is None:
        raise InputError(f"{solver} adds noise: pass noise=, such as a PositionalNoise.")
    return _steps(_Counted(denoise), x, path, solver, noise, grad)


def sample(
    denoise: Denoiser,
    x: Tensor,
    path: Path,
    solver: Solver,
    noise: Noise | None = None,
    *,
    grad: bool = False,
) -> Tensor:
    """Sample to the end of the path: the result, (B,C,H,W); see `sample_steps`."""
    for step in sample_steps(denoise, x, path, solver, noise, grad=grad):
        x = step.x
    return x


class _Counted:
    """A denoiser that counts its calls and checks what it returns."""

    def __init__(self, denoise: Denoiser) -> None:
        self.denoise = denoise
        self.calls = 0

    def __call__(self, x: Tensor, sigma: Tensor) -> Tensor:
        self.calls += 1
        denoised = self.denoise(x, sigma)
        if denoised.shape != x.shape:
            raise InputError(
                f"the denoiser returned the shape {tuple(denoised.shape)} for a picture of"
                f" {tuple(x.shape)}: it must keep the shape."
            )
        return denoised


def _steps(
    denoise: _Counted, x: Tensor, path: Path, solver: Solver, noise: Noise | None, grad: bool
) -> Iterator[Step]:
    moving = [i for i in range(len(path)) if path.moves(i)]
    state = solver.start(path.steps)
    for index, i in enumerate(moving):
        draw = _draws_of_step(noise, solver.draws * (len(path) - 1 - i), x)
        sigma, sigma_next = path.sigma(i).to(x), path.sigma(i + 1).to(x)
        if isinstance(denoise.denoise, Focusable):
            denoise.denoise.focus(sigma != sigma_next)
        # Inside the step only: a caller's own code between two records keeps its grad mode.
        with torch.set_grad_enabled(grad):
            x, denoised, state = solver.step(denoise, x, sigma, sigma_next, draw, state)
            state = solver.forget(state, path.joined(i).to(x.device))
        yield Step(index, len(moving), x, denoised, sigma, sigma_next, denoise.calls)


def _draws_of_step(noise: Noise | None, first: int, like: Tensor) -> Noise:
    """The draws of one step, numbered from 0."""

    def draw(j: int) -> Tensor:
        if noise is None:
            raise InputError("the solver drew noise although it declares no draws: set draws.")
        return noise(first + j).to(like)

    return draw
