"""Spread what is known of some pixels to the others, along the lines of a grey picture."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from scipy import ndimage, sparse
from scipy.sparse.linalg import splu
from torch import Tensor

from ..core.operators.base import conjugate_gradients

__all__ = ["affinity", "propagated"]

Array = NDArray[np.float32]

_SHARPNESS, _LEAST_DEVIATION = 0.1, 1 / 127.5
_LEAST = 1e-5
_HOLD = 100.0
"""Weight of a known pixel beside that of a neighbour of the same grey."""
_GREY = 1e-9
_DIRECT = 4096
"""Unknowns that are solved for at once."""
_ITERATIONS = 200
_LARGEST = 1_000_000
"""Pixels; of larger pictures, averages over blocks are worked on."""


def affinity(grey: Array) -> Any:
    """How alike neighbours are: a sparse symmetric matrix (H W, H W) over the eight around each.

        w_rs = exp(-(Y_r - Y_s)² / (0.1 (v_r + v_s)))

    with v the variance of Y within 3x3 pixels (Levin, Lischinski and Weiss, 2004, equation 2, made
    symmetric).

    Args:
        grey: Y, (H,W) in [-1,1].
    """
    y = grey.astype(np.float64)
    height, width = y.shape
    variance = ndimage.uniform_filter(y * y, 3) - ndimage.uniform_filter(y, 3) ** 2
    variance = _SHARPNESS * np.maximum(variance, _LEAST_DEVIATION**2)
    places = np.arange(height * width).reshape(height, width)
    pairs, weights = [], []
    for down, right in ((0, 1), (1, 0), (1, 1), (1, -1)):
        one = np.s_[: height - down, max(0, -right) : width - max(0, right)]
        other = np.s_[down:, max(0, right) : width - max(0, -right)]
        alike = np.exp(-((y[one] - y[other]) ** 2) / (variance[one] + variance[other]))
        weights.append(np.maximum(alike, _LEAST).ravel())
        pairs.append(np.stack([places[one].ravel(), places[other].ravel()]))
    rows, columns = np.concatenate(pairs, 1)
    half = sparse.coo_matrix((np.concatenate(weights), (rows, columns)), shape=2 * (y.size,))
    return (half + half.T).tocsr()


def propagated(grey: Tensor, values: Tensor, known: Tensor) -> Tensor:
    """Values for all pixels that differ least between neighbours of like grey.

        argmin_c  Σ_rs w_rs (c_r - c_s)²/2 + Σ_r 100 k_r (c_r - h_r)²

    with w of `affinity`; after "Colorization using optimization" (Levin, Lischinski and Weiss,
    2004), which takes the squares of the weighted averages' errors and holds h exactly. By
    conjugate gradients, with a cycle over averages of 2x2 pixels for a preconditioner; of pictures
    above a megapixel, on averages of blocks. Where nothing is known, 0.

    Args:
        grey: Y, (1,1,H,W) in [-1,1].
        values: h, (1,C,H,W), which count where they are known.
        known: k, (1,1,H,W) in [0,1]: how surely.
    """
    height, width = grey.shape[-2:]
    factor = 1
    while height * width > _LARGEST * factor**2:
        factor += 1
    if factor > 1:
        return _on_averages(grey, values, known, factor)
    neighbours = affinity(grey[0, 0].numpy())
    k = _HOLD * known.flatten().double().numpy()
    total = np.asarray(neighbours.sum(1)).ravel()
    system = (sparse.diags(total + k + _GREY) - neighbours).tocsr()
    b = k * values.flatten(2)[0].double().numpy()
    if b.shape[1] <= _DIRECT:
        solved = splu(system.tocsc()).solve(b.T).T
    else:
        solved = _solved(system, b, height, width)
    return torch.from_numpy(np.ascontiguousarray(solved)).float().view(values.shape)


def _on_averages(grey: Tensor, values: Tensor, known: Tensor, factor: int) -> Tensor:
    """`propagated` of averages over blocks, enlarged."""
    height, width = grey.shape[-2:]
    pad = (0, -width % factor, 0, -height % factor)

    def small(x: Tensor, mode: str = "constant") -> Tensor:
        return F.avg_pool2d(F.pad(x, pad, mode), factor)

    share = small(known)
    mean = small(known * values) / share.clamp(min=1e-6)
    coarse = propagated(small(grey, "replicate"), mean, (share * factor**2).clamp(max=1))
    size = (height + pad[3], width + pad[1])
    fine = F.interpolate(coarse, size, mode="bilinear", align_corners=False)
    return fine[..., :height, :width]


def _solved(system: Any, b: NDArray[np.float64], height: int, width: int) -> NDArray[np.float32]:
    """The system's solutions (C,H W) for the rows of b, by conjugate gradients."""
    levels = []
    matrix, size = system, (height, width)
    while size[0] * size[1] > _DIRECT:
        rows, columns = (np.arange(side) // 2 for side in size)
        half = (size[0] + 1) // 2, (size[1] + 1) // 2
        blocks = (rows[:, None] * half[1] + columns).ravel()
        ones = np.ones(blocks.size)
        spread = sparse.csr_matrix((ones, (np.arange(blocks.size), blocks)))
        levels.append((matrix, spread, matrix.diagonal()[:, None]))
        matrix, size = (spread.T @ matrix @ spread).tocsr(), half
    coarsest = splu(matrix.tocsc())

    def cycle(residual: NDArray[np.float64], level: int = 0) -> NDArray[np.float64]:
        if level == len(levels):
            solution: NDArray[np.float64] = coarsest.solve(residual)
            return solution
        matrix, spread, diagonal = levels[level]
        z = 0.6 * residual / diagonal
        z = z + 0.6 * (residual - matrix @ z) / diagonal
        z = z + 1.5 * (spread @ cycle(spread.T @ (residual - matrix @ z), level + 1))
        for _ in range(2):
            z = z + 0.6 * (residual - matrix @ z) / diagonal
        better: NDArray[np.float64] = z
        return better

    def on_rows(function: Any) -> Any:
        return lambda x: torch.from_numpy(
            np.ascontiguousarray(function(x.double().numpy().T).T)
        ).to(x)

    rows_of_b = torch.from_numpy(b).float()
    found = conjugate_gradients(
        on_rows(lambda x: system @ x), rows_of_b, _ITERATIONS, on_rows(cycle)
    )
    solutions: NDArray[np.float32] = found.numpy()
    return solutions
