"""One suite over OPERATORS, and over an operator that relies on the base class alone."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from differential_diffusion.core import OPERATORS, LinearOperator, Mask
from differential_diffusion.errors import InputError

from ..core.helpers import normal

SHAPE = (2, 2, 4, 6)


class BlockAverage(LinearOperator):
    """Means of 2x2 blocks: only what an operator must define."""

    def forward(self, x: Tensor) -> Tensor:
        return F.avg_pool2d(x, 2)

    def adjoint(self, y: Tensor) -> Tensor:
        return F.interpolate(y, scale_factor=2) / 4


class Blur(LinearOperator):
    """A 3x3 box blur with zero borders, its own adjoint: far from diagonal."""

    def forward(self, x: Tensor) -> Tensor:
        return F.avg_pool2d(x, 3, 1, 1)

    adjoint = forward


MASK = (normal(1, 1, 4, 6, seed=3) > 0).double()
EXAMPLES: dict[str, LinearOperator] = {
    "mask": Mask(MASK),
    "mask with gains": Mask(MASK * (1 + normal(1, 2, 4, 6, seed=4))),
    "block average": BlockAverage(),
    "blur": Blur(),
}


def matrix(operator: LinearOperator) -> Tensor:
    """A as a dense matrix over one image, column by column."""
    d = SHAPE[1] * SHAPE[2] * SHAPE[3]
    basis = torch.eye(d, dtype=torch.float64).view(d, *SHAPE[1:])
    return operator.forward(basis).flatten(1).mT


def test_every_registered_operator_has_an_example() -> None:
    assert set(OPERATORS) <= set(EXAMPLES)
    assert all(isinstance(EXAMPLES[name], made) for name, made in OPERATORS.items())


@pytest.fixture(params=EXAMPLES)
def operator(request: pytest.FixtureRequest) -> LinearOperator:
    return EXAMPLES[request.param]


@pytest.mark.parametrize("name", EXAMPLES)
@given(seed=st.integers(0, 2**31))
def test_adjointness(name: str, seed: int) -> None:
    """<A x, y> = <x, Aᵀ y>."""
    a = EXAMPLES[name]
    x = normal(*SHAPE, seed=seed)
    y = normal(*a.forward(x).shape, seed=seed + 1)
    left = (a.forward(x) * y).flatten(1).sum(1)
    right = (x * a.adjoint(y)).flatten(1).sum(1)
    torch.testing.assert_close(left, right, rtol=0, atol=1e-10)


def test_linearity(operator: LinearOperator) -> None:
    x, z = normal(*SHAPE), normal(*SHAPE, seed=1)
    torch.testing.assert_close(
        operator.forward(2 * x - 3 * z), 2 * operator.forward(x) - 3 * operator.forward(z)
    )


def test_pseudo_inverse(operator: LinearOperator) -> None:
    """Least squares of least norm, for measurements in the range of A and out of it."""
    y = normal(*operator.forward(normal(*SHAPE)).shape, seed=2)
    expected = y.flatten(1) @ torch.linalg.pinv(matrix(operator), rtol=1e-9).mT
    found = operator.pseudo_inverse(y).flatten(1)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


def variances(seed: int) -> Tensor:
    v = normal(2, 1, 4, 6, seed=seed).square()
    return torch.where(v < 0.1, 0.0, v)  # some pixels are kept


@pytest.mark.parametrize("name", EXAMPLES)
@given(seed=st.integers(0, 2**31), noise=st.sampled_from([0.01, 0.3, 2.0]))
def test_prox_is_the_gaussian_posterior(name: str, seed: int, noise: float) -> None:
    """v + V Aᵀ (A V Aᵀ + R)⁻¹ (y - A v), densely, with noise that differs by measurement."""
    a = EXAMPLES[name]
    v, variance = normal(*SHAPE, seed=seed), variances(seed + 1)
    y = normal(*a.forward(v).shape, seed=seed + 2)
    r = noise**2 * (0.5 + normal(*y.shape, seed=seed + 3).square())
    dense = matrix(a)
    for b in range(SHAPE[0]):
        big_v = torch.diag(variance[b].expand(SHAPE[1:]).flatten())
        system = dense @ big_v @ dense.mT + torch.diag(r[b].flatten())
        z = torch.linalg.solve(system, y[b].flatten() - dense @ v[b].flatten())
        expected = v[b].flatten() + big_v @ dense.mT @ z
        found = a.prox(v, y, variance, r)[b].flatten()
        torch.testing.assert_close(found, expected, rtol=1e-7, atol=1e-7)


def test_prox_is_the_minimum(operator: LinearOperator) -> None:
    """No step in any direction that leaves kept pixels alone lowers the objective."""
    v, variance = normal(*SHAPE), variances(1).clamp(min=0)
    y = normal(*operator.forward(v).shape, seed=2)

    def objective(x: Tensor) -> Tensor:
        fidelity = torch.where(variance > 0, (x - v) ** 2 / variance.clamp(min=1e-9), 0.0)
        return fidelity.flatten(1).sum(1) + ((operator.forward(x) - y) ** 2 / 0.09).flatten(1).sum(
            1
        )

    best = operator.prox(v, y, variance, 0.09)
    for seed in range(20):
        step = 0.01 * torch.where(variance > 0, normal(*SHAPE, seed=10 + seed), 0.0)
        assert bool((objective(best) < objective(best + step)).all())


def test_prox_keeps_kept_pixels_bit_for_bit(operator: LinearOperator) -> None:
    v, variance = normal(*SHAPE), variances(1)
    y = normal(*operator.forward(v).shape, seed=2)
    for noise in (0.0, 0.1):
        found = operator.prox(v, y, variance, noise)
        kept = (variance == 0).expand_as(v)
        assert torch.equal(found[kept], v[kept])
        assert bool(found.isfinite().all())


def test_prox_with_no_noise_holds_the_measurement(operator: LinearOperator) -> None:
    truth, v = normal(*SHAPE, seed=1), normal(*SHAPE)
    y = operator.forward(truth)
    found = operator.prox(v, y, torch.ones(1, 1, 1, 1, dtype=torch.float64))
    torch.testing.assert_close(operator.forward(found), y, rtol=0, atol=1e-5)


def test_prox_of_batches_is_that_of_images(operator: LinearOperator) -> None:
    v, variance = normal(*SHAPE), variances(1)
    y = normal(*operator.forward(v).shape, seed=2)
    whole = operator.prox(v, y, variance, 0.1)
    parts = [operator.prox(v[b : b + 1], y[b : b + 1], variance[b : b + 1], 0.1) for b in (0, 1)]
    torch.testing.assert_close(whole, torch.cat(parts), rtol=0, atol=1e-10)


def test_closed_forms_equal_conjugate_gradients() -> None:
    v, variance = normal(*SHAPE), variances(1)
    y = normal(*SHAPE, seed=2)
    make: list[Callable[[LinearOperator], Tensor]] = [
        lambda a: LinearOperator.prox(a, v, y, variance, 0.1),
        lambda a: LinearOperator.pseudo_inverse(a, y),
    ]
    closed = [lambda a: a.prox(v, y, variance, 0.1), lambda a: a.pseudo_inverse(y)]
    for name in ("mask", "mask with gains"):
        for iterated, direct in zip(make, closed, strict=True):
            torch.testing.assert_close(
                iterated(EXAMPLES[name]), direct(EXAMPLES[name]), rtol=1e-6, atol=1e-6
            )


def test_bad_masks_are_refused() -> None:
    for bad in (torch.ones(2, 2), torch.full((1, 1, 2, 2), float("nan"))):
        with pytest.raises(InputError, match="mask must be a finite tensor"):
            Mask(bad)
