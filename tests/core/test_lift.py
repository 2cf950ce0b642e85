"""Lifted denoisers: variances, what each kind of pixel becomes, equal maps."""

from __future__ import annotations

import torch
from torch import Tensor

from differential_diffusion.core import DDIM, DPMpp2M, lift, sample, wait
from differential_diffusion.core import strength_to_sigma as sigma_of

from .helpers import mixture, normal


class Spy:
    """A uniform-level denoiser that remembers what it was given."""

    def __call__(self, x: Tensor, sigma: Tensor) -> Tensor:
        assert sigma.shape == (len(x), 1, 1, 1)
        self.x, self.sigma = x, sigma
        return x / (1 + sigma**2)


def column(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64).view(1, 1, 1, -1)


def test_known_and_waiting_pixels_become_the_noised_original() -> None:
    """The published replacement: reference + s n, wherever the pixel has not moved."""
    reference, n = normal(2, 3, 1, 4), normal(1, 3, 1, 4, seed=1)
    sigma = column(1.5, 0.7, 0.2, 0.0)
    spy = Spy()
    estimate = lift(spy, reference, n)(reference + sigma * n, sigma)
    torch.testing.assert_close(spy.x, reference + 1.5 * n, rtol=0, atol=1e-12)
    assert spy.sigma.flatten().tolist() == [1.5, 1.5]
    assert torch.equal(estimate[..., 3], (reference + sigma * n)[..., 3])
    expected = (reference + 1.5 * n) / (1 + 1.5**2)
    torch.testing.assert_close(estimate[..., :3], expected[..., :3])


def test_noise_of_its_own_adds_in_variance() -> None:
    """A noisy photograph that is its own reference: sqrt(s² - σ²) of fresh noise."""
    reference, n = normal(1, 3, 1, 3), normal(1, 3, 1, 3, seed=1)
    sigma = column(1.5, 0.7, 0.0)
    spy = Spy()
    lift(spy, reference, n)(reference, sigma)
    added = (1.5**2 - sigma**2).sqrt() * n
    torch.testing.assert_close(spy.x, reference + added, rtol=0, atol=1e-12)


def test_partly_own_noise_reaches_the_common_level() -> None:
    """A noisy photograph noised on to its start level: the sum must have variance s²."""
    shape = (1, 3, 200, 200)
    x0, own, n = torch.zeros(shape), normal(*shape), normal(*shape, seed=1)
    camera, start, s = 0.3, 0.5, 0.9
    reference = x0 + camera * own
    x = reference + (start**2 - camera**2) ** 0.5 * n
    sigma = torch.full((1, 1, 200, 200), start, dtype=torch.float64)
    sigma[..., 0, 0] = s
    spy = Spy()
    lift(spy, reference, n)(x, sigma)
    assert abs(spy.x.std().item() - s) < 0.005
    assert torch.equal(spy.x[..., 0, 0], x[..., 0, 0])


def test_uniform_maps_pass_unchanged() -> None:
    x, n = normal(2, 1, 2, 2), normal(1, 1, 2, 2, seed=1)
    sigma = torch.tensor([0.4, 2.0], dtype=torch.float64).view(2, 1, 1, 1)
    assert torch.equal(lift(mixture(), x, n)(x + 1, sigma), mixture()(x + 1, sigma))
    zero = torch.zeros(1, 1, 1, 1, dtype=torch.float64)
    assert torch.equal(lift(mixture(), x, n)(x, zero), x)


def test_a_lifted_run_is_the_published_loop() -> None:
    """Euler on a common level, with not yet free pixels replaced before every step."""
    n_steps, reference = 8, normal(1, 1, 2, 2, seed=3)
    n = normal(1, 1, 2, 2, seed=4)
    strength = column(1.0, 0.75, 0.25, 0.0).view(1, 1, 2, 2)
    levels = sigma_of(1 - torch.arange(n_steps + 1).double() / n_steps)

    x = reference + levels[0] * n
    for i in range(n_steps):
        kept = 1 - strength > i / n_steps
        x = torch.where(kept, reference + levels[i] * n, x)
        denoised = mixture()(x, levels[i].view(1, 1, 1, 1))
        x = denoised + levels[i + 1] / levels[i] * (x - denoised)
    x = torch.where(strength == 0, reference, x)

    path = wait(sigma_of(strength), None, n_steps, compat="published")
    start = reference + path.start * n
    ours = sample(lift(mixture(), reference, n), start, path, DDIM())
    torch.testing.assert_close(ours, x, rtol=0, atol=1e-9)


def test_lifted_estimates_are_smooth_for_solvers_with_memory() -> None:
    """The same noise at every call: two calls with one input agree."""
    reference, n = normal(1, 1, 2, 2), normal(1, 1, 2, 2, seed=1)
    sigma = column(1.0, 0.5, 0.2, 0.0).view(1, 1, 2, 2)
    lifted = lift(mixture(), reference, n)
    x = reference + sigma * n
    assert torch.equal(lifted(x, sigma), lifted(x, sigma))
    path = wait(sigma, None, 12)
    end = sample(lifted, x, path, DPMpp2M())
    assert bool(end.isfinite().all())
    assert torch.equal(end[..., 1, 1], reference[..., 1, 1])
