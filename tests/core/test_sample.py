"""The sampling loop: its records, what it skips, and what it refuses."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from differential_diffusion.core import DDIM, DPMpp2M, Heun, Step, sample, sample_steps, wait
from differential_diffusion.core import strength_to_sigma as sigma_of
from differential_diffusion.core.noise import PositionalNoise, Window
from differential_diffusion.core.types import Denoiser
from differential_diffusion.errors import InputError

from .helpers import mixture, normal


def shrink(x: Tensor, sigma: Tensor) -> Tensor:
    """A denoiser in which no pixel depends on another."""
    return x / (1 + sigma**2)


def counted(denoise: Denoiser) -> tuple[Denoiser, list[Tensor]]:
    calls: list[Tensor] = []

    def wrapped(x: Tensor, sigma: Tensor) -> Tensor:
        calls.append(sigma)
        return denoise(x, sigma)

    return wrapped, calls


def start_map(*strengths: float) -> Tensor:
    return sigma_of(torch.tensor(strengths, dtype=torch.float64)).view(1, 1, 2, 2)


def test_records_tell_what_happened() -> None:
    x = normal(1, 1, 2, 2)
    path = wait(start_map(0.7, 0.4, 0.1, 0.0), None, 10)
    denoise, calls = counted(mixture())
    steps = list(sample_steps(denoise, x, path, DDIM()))
    assert all(isinstance(s, Step) for s in steps)
    assert [s.index for s in steps] == list(range(7))
    assert {s.count for s in steps} == {7}
    assert [s.evaluations for s in steps] == list(range(1, 8))
    assert len(calls) == 7
    state = x
    for step, (sigma, sigma_next), seen in zip(steps, path, calls, strict=True):
        assert torch.equal(step.sigma, sigma)
        assert torch.equal(step.sigma_next, sigma_next)
        assert torch.equal(seen, sigma)
        assert torch.equal(step.denoised, mixture()(state, sigma))
        state = step.x
    assert torch.equal(state, sample(mixture(), x, path, DDIM()))


def test_the_model_is_not_called_where_nothing_moves() -> None:
    """Neither for an empty edit, nor between the levels of two groups of pixels."""
    denoise, calls = counted(shrink)
    x = normal(1, 1, 2, 2)
    empty = wait(start_map(0.5, 0.4, 0.1, 0.0), start_map(0.5, 0.4, 0.1, 0.0), 10)
    assert sample(denoise, x, empty, DDIM()) is x
    assert list(sample_steps(denoise, x, empty, Heun())) == []
    assert calls == []
    path = wait(start_map(1.0, 1.0, 0.2, 0.0), start_map(0.7, 0.7, 0.0, 0.0), 10)
    steps = list(sample_steps(denoise, x, path, DDIM()))
    assert len(calls) == 5 == steps[-1].count
    assert [s.index for s in steps] == [0, 1, 2, 3, 4]


def test_one_step_is_the_denoised_picture() -> None:
    """σ → 0 at once: the posterior mean, whatever the deterministic solver."""
    x, start = normal(1, 1, 2, 2), start_map(0.3, 0.2, 0.1, 0.0)
    for solver in (DDIM(), Heun(), DPMpp2M()):
        end = sample(mixture(), x, wait(start, None, 1), solver)
        torch.testing.assert_close(end, mixture()(x, start), rtol=0, atol=1e-12)


def test_a_crop_of_the_run_is_a_run_of_the_crop() -> None:
    """Same path, same noise by position: equal for a denoiser that is local."""
    generator = torch.Generator().manual_seed(0)
    start = sigma_of(torch.rand(1, 1, 9, 8, generator=generator))
    start[..., 4:, :] = 0
    x = torch.randn(1, 2, 9, 8, generator=generator)
    noise = PositionalNoise([3], 2, 9, 8)
    window = Window(2, 3, 7, 8)
    path = wait(start, None, 8)
    for solver in (DDIM(1.0), DPMpp2M(1.0)):
        whole = sample(shrink, x, path, solver, noise)
        part = sample(shrink, x[..., 2:7, 3:], path.crop(window), solver, noise.crop(window))
        assert torch.equal(part, whole[..., 2:7, 3:])
    assert torch.equal(whole[..., 4:, :], x[..., 4:, :])


def test_gradients_are_recorded_on_request_only() -> None:
    x = normal(1, 1, 2, 2).requires_grad_()
    path = wait(start_map(0.5, 0.4, 0.1, 0.0), None, 6)
    assert not sample(shrink, x, path, DDIM()).requires_grad
    end = sample(shrink, x, path, DDIM(), grad=True)
    (gradient,) = torch.autograd.grad(end.sum(), x)
    ones = sample(shrink, torch.ones(1, 1, 2, 2, dtype=torch.float64), path, DDIM())
    torch.testing.assert_close(gradient, ones)  # the run is linear and pixel-wise


@pytest.mark.parametrize("enabled", [True, False])
def test_the_caller_keeps_its_grad_mode(enabled: bool) -> None:
    path = wait(start_map(0.5, 0.4, 0.1, 0.0), None, 6)
    with torch.set_grad_enabled(enabled):
        for _ in sample_steps(shrink, normal(1, 1, 2, 2), path, DDIM()):
            assert torch.is_grad_enabled() == enabled
        assert torch.is_grad_enabled() == enabled


def test_paths_follow_the_picture_in_dtype() -> None:
    x = normal(1, 1, 2, 2).float()
    end = sample(shrink, x, wait(start_map(0.5, 0.4, 0.1, 0.0), None, 6), DDIM())
    assert end.dtype == torch.float32


@pytest.mark.parametrize(
    ("x", "match"),
    [
        (torch.zeros(1, 2, 2), "x must be a floating-point tensor"),
        (torch.zeros(1, 1, 2, 2, dtype=torch.uint8), "x must be a floating-point tensor"),
        (torch.zeros(1, 1, 2, 3), "the path's maps have the shape"),
    ],
)
def test_bad_pictures_are_refused_before_the_first_step(x: Tensor, match: str) -> None:
    path = wait(start_map(0.5, 0.4, 0.1, 0.0), None, 6)
    with pytest.raises(InputError, match=match):
        sample_steps(shrink, x, path, DDIM())


def test_maps_of_another_batch_are_refused() -> None:
    path = wait(start_map(0.5, 0.4, 0.1, 0.0).expand(2, -1, -1, -1), None, 6)
    with pytest.raises(InputError, match="build the path for this picture"):
        sample_steps(shrink, torch.zeros(3, 1, 2, 2), path, DDIM())


def test_denoisers_that_change_the_shape_are_refused() -> None:
    path = wait(start_map(0.5, 0.4, 0.1, 0.0), None, 6)
    with pytest.raises(InputError, match=r"returned the shape \(1, 1, 2\)"):
        sample(lambda x, sigma: x[..., 0], torch.zeros(1, 1, 2, 2), path, DDIM())
