"""Muon: the orthogonal factor, and the update by hand."""

from __future__ import annotations

import pytest
import torch

from differential_diffusion.training.muon import Muon, orthogonalize


@pytest.mark.parametrize("shape", [(64, 576), (576, 64), (32, 32)])
def test_orthogonalize_is_close_to_the_polar_factor(shape: tuple[int, int]) -> None:
    torch.manual_seed(0)
    m = torch.randn(3, *shape)
    q = orthogonalize(m)
    u, _, vh = torch.linalg.svd(m, full_matrices=False)
    # The same singular vectors: Uᵀ Q V is diagonal, with entries near one.
    inner = u.mT @ q @ vh.mT
    diagonal = inner.diagonal(dim1=-2, dim2=-1)
    off = inner - torch.diag_embed(diagonal)
    assert float(off.abs().max()) < 1e-3
    assert float(diagonal.max()) < 1.25
    if shape != (32, 32):  # a square normal matrix has singular values near zero
        assert float(diagonal.min()) > 0.65


def test_gram_iteration_equals_the_plain_one() -> None:
    torch.manual_seed(0)
    m = torch.randn(1, 16, 40, dtype=torch.float64)
    x = m / m.norm()
    for _ in range(5):
        a = x @ x.mT
        x = 3.4445 * x + (-4.7750 * a + 2.0315 * a @ a) @ x
    torch.testing.assert_close(orthogonalize(m), x, rtol=1e-9, atol=1e-9)


def test_step_by_hand() -> None:
    torch.manual_seed(0)
    weights = [torch.randn(4, 3, 3, 3, requires_grad=True) for _ in range(2)]
    start = [w.detach().clone() for w in weights]
    optimizer = Muon(weights, lr=0.1, momentum=0.9, weight_decay=0.5)
    momenta = [torch.zeros_like(w) for w in start]
    for _ in range(2):
        for k, w in enumerate(weights):
            w.grad = torch.randn_like(w)
            momenta[k] = 0.9 * momenta[k] + w.grad
            step = orthogonalize((w.grad + 0.9 * momenta[k]).view(1, 4, 27)).view_as(w)
            start[k] = (1 - 0.05) * start[k] - 0.1 * step
        optimizer.step()
    for w, expected in zip(weights, start, strict=True):
        torch.testing.assert_close(w.detach(), expected, rtol=1e-5, atol=1e-6)
