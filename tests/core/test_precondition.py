"""Adapters: networks made from an exact denoiser must give that denoiser back."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from differential_diffusion.core import edm, edm_inputs, edm_target, ladder, precondition
from differential_diffusion.core.precondition import SIGMA_FLOOR, BetaTimes
from differential_diffusion.core.types import Denoiser
from differential_diffusion.errors import InputError

from .helpers import mixture, normal

BETAS = ladder.linear_betas()
TIMES = BetaTimes(BETAS)
D = mixture()
X = normal(3, 1, 2, 2, seed=2)
MAP = torch.tensor([1.3, 0.4, 0.05, 0.0], dtype=torch.float64).view(1, 1, 2, 2)


def sigma_of_time(t: Tensor) -> Tensor:
    """σ of a fractional timestep, by interpolation in ln σ: numpy's, not ours."""
    import numpy as np

    table = ladder.sigmas_from_betas(BETAS).log().numpy()
    return torch.from_numpy(np.exp(np.interp(t.numpy(), np.arange(1000), table)))


def level(t: Tensor) -> Tensor:
    """Time as the network gets it, (B,) or (B,1,H,W), to a σ-map."""
    return t if t.ndim == 4 else t.view(-1, 1, 1, 1)


def vp(predict: Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]) -> precondition.Network:
    """A variance-preserving network from D, given x_t = α x0 + σ' ε and the exact estimate."""

    def network(x_t: Tensor, t: Tensor) -> Tensor:
        sigma = sigma_of_time(level(t))
        alpha = (1 + sigma**2).rsqrt()
        x0 = D(x_t / alpha, sigma)
        return predict(x_t, x0, alpha, (1 - alpha**2).sqrt())

    return network


def flow_network(x_t: Tensor, t: Tensor) -> Tensor:
    t = level(t) / 1000
    x0 = D(x_t / (1 - t), t / (1 - t))
    eps = (x_t - (1 - t) * x0) / t
    return eps - x0


def ve_score(x: Tensor, sigma: Tensor) -> Tensor:
    """∇ log p(x; σ) by automatic differentiation of the mixture's likelihood."""
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        parts = [g.log_likelihood(x, level(sigma)) for g in D.components]
        log_p = (D.log_weights + torch.stack(parts, 1)).logsumexp(1)
        return torch.autograd.grad(log_p.sum(), x)[0]


def adapters(per_pixel: bool) -> dict[str, Denoiser]:
    epsilon = vp(lambda x_t, x0, a, s: (x_t - a * x0) / s)
    return {
        "epsilon": precondition.epsilon(epsilon, TIMES, per_pixel=per_pixel),
        "x0": precondition.x0(vp(lambda x_t, x0, a, s: x0), TIMES, per_pixel=per_pixel),
        "velocity": precondition.velocity(
            vp(lambda x_t, x0, a, s: a * (x_t - a * x0) / s - s * x0), TIMES, per_pixel=per_pixel
        ),
        "vp score": precondition.score(
            vp(lambda x_t, x0, a, s: (a * x0 - x_t) / s**2), TIMES, per_pixel=per_pixel
        ),
        "ve score": precondition.score(ve_score, per_pixel=per_pixel),
        "flow": precondition.flow(flow_network, time_scale=1000, per_pixel=per_pixel),
    }


@pytest.mark.parametrize("sigma", [0.02, 0.3, 5.0])
@pytest.mark.parametrize("name", adapters(False))
def test_adapters_recover_the_denoiser(name: str, sigma: float) -> None:
    levels = sigma * torch.tensor([1.0, 1.5, 0.8], dtype=torch.float64).view(3, 1, 1, 1)
    ours = adapters(False)[name](X, levels)
    torch.testing.assert_close(ours, D(X, levels), rtol=0, atol=1e-8)


@pytest.mark.parametrize("name", adapters(True))
def test_adapters_recover_the_denoiser_per_pixel(name: str) -> None:
    sigma = MAP.clamp(min=0.02)
    torch.testing.assert_close(adapters(True)[name](X, sigma), D(X, sigma), rtol=0, atol=1e-8)


@pytest.mark.parametrize("per_pixel", [True, False])
@pytest.mark.parametrize("name", adapters(True))
def test_zero_noise_returns_the_picture(name: str, per_pixel: bool) -> None:
    """Whatever the network says there, as long as it is finite."""
    network: precondition.Network = lambda x, t: torch.full_like(x, 7.0)  # noqa: E731
    made = {
        "epsilon": precondition.epsilon(network, TIMES, per_pixel=per_pixel),
        "x0": precondition.x0(network, TIMES, per_pixel=per_pixel),
        "velocity": precondition.velocity(network, TIMES, per_pixel=per_pixel),
        "vp score": precondition.score(network, TIMES, per_pixel=per_pixel),
        "ve score": precondition.score(network, per_pixel=per_pixel),
        "flow": precondition.flow(network, per_pixel=per_pixel),
    }[name]
    sigma = MAP if per_pixel else torch.zeros(1, 1, 1, 1, dtype=torch.float64)
    kept = (sigma == 0).expand_as(X)
    estimate = made(X, sigma)
    assert torch.equal(estimate[kept], X[kept])
    assert bool(estimate.isfinite().all())


@pytest.mark.parametrize("name", adapters(False))
def test_scalar_time_networks_refuse_maps(name: str) -> None:
    with pytest.raises(InputError, match=r"wrap its denoiser in core\.lift\.$"):
        adapters(False)[name](X, MAP)


def test_times_are_those_of_the_table() -> None:
    sigmas = ladder.sigmas_from_betas(BETAS)
    t = torch.tensor([0, 1, 250, 998, 999])
    torch.testing.assert_close(TIMES(sigmas[t]), t.double())
    between = (sigmas[250] * sigmas[251]).sqrt()
    torch.testing.assert_close(TIMES(between.view(1)).item(), 250.5)
    assert TIMES(torch.tensor([0.0, 1e-9, 1e9])).tolist() == [0, 0, 999]


def test_times_survive_zero_terminal_snr() -> None:
    times = BetaTimes(torch.tensor([0.1, 0.2, 0.5, 1.0]))
    sigmas = ladder.sigmas_from_betas(torch.tensor([0.1, 0.2, 0.5]))
    torch.testing.assert_close(times(sigmas).tolist(), [0.0, 1.0, 2.0])
    assert bool(times(torch.tensor([1e6])).isfinite().all())
    with pytest.raises(InputError, match="at least two timesteps"):
        BetaTimes(torch.tensor([0.1]))


@pytest.mark.parametrize("kind", ["epsilon", "sample", "v_prediction"])
def test_predictions_mean_what_diffusers_means(kind: str) -> None:
    diffusers = pytest.importorskip("diffusers")
    scheduler = diffusers.DDIMScheduler(
        beta_schedule="linear", prediction_type=kind, clip_sample=False
    )
    scheduler.alphas_cumprod = torch.cumprod(1 - BETAS, 0)
    scheduler.set_timesteps(1000)
    network = lambda x, t: torch.sin(3 * x)  # noqa: E731
    adapter = {
        "epsilon": precondition.epsilon,
        "sample": precondition.x0,
        "v_prediction": precondition.velocity,
    }[kind](network, TIMES)
    for t in (10, 400, 900):
        sigma = ladder.sigmas_from_betas(BETAS)[t].view(1, 1, 1, 1)
        x_t = X / (1 + sigma**2).sqrt()
        theirs = scheduler.step(network(x_t, t), t, x_t).pred_original_sample
        torch.testing.assert_close(adapter(X, sigma), theirs, rtol=1e-9, atol=1e-9)


def test_edm_is_the_published_preconditioning() -> None:
    """Karras et al. (2022), table 1, number by number."""
    sigma, sd = 0.8, 0.5
    seen = []

    def network(x: Tensor, c_noise: Tensor) -> Tensor:
        seen.append((x, c_noise))
        return torch.sin(x)

    ours = edm(network, sd)(X, torch.full((1, 1, 1, 1), sigma, dtype=torch.float64))
    c_skip = sd**2 / (sigma**2 + sd**2)
    c_out = sigma * sd / math.sqrt(sd**2 + sigma**2)
    c_in = 1 / math.sqrt(sigma**2 + sd**2)
    torch.testing.assert_close(ours, c_skip * X + c_out * torch.sin(c_in * X))
    torch.testing.assert_close(seen[0][0], c_in * X)
    torch.testing.assert_close(
        seen[0][1], torch.full((3, 1, 1, 1), 0.25 * math.log(sigma)).double()
    )


def test_edm_is_exact_and_finite_at_zero() -> None:
    def network(x: Tensor, c_noise: Tensor) -> Tensor:
        assert c_noise.shape == (3, 1, 2, 2)
        assert bool(c_noise.isfinite().all())
        assert c_noise.min().item() == pytest.approx(math.log(SIGMA_FLOOR) / 4)
        return x + c_noise

    estimate = edm(network)(X, MAP)
    assert torch.equal(estimate[..., 1, 1], X[..., 1, 1])
    assert bool(estimate.isfinite().all())
    shape = edm_inputs(X, torch.ones(1, 1, 2, 1, dtype=torch.float64))[1].shape
    assert shape == (3, 1, 2, 2)


def test_edm_target_makes_the_denoiser_perfect() -> None:
    """A network that returns F* gives D = x0, at every σ; and F* has unit variance."""
    x0, eps = 0.5 * normal(3, 1, 2, 2, seed=5), normal(3, 1, 2, 2, seed=6)
    target = edm_target(x0, eps, MAP)
    torch.testing.assert_close(edm(lambda x, c: target)(x0 + MAP * eps, MAP), x0)
    assert torch.equal(target[..., 1, 1], -eps[..., 1, 1])
    wide_x0, wide_eps = 0.5 * normal(1, 1, 300, 300), normal(1, 1, 300, 300, seed=1)
    for sigma in (0.0, 0.1, 0.5, 20.0):
        level = torch.full((1, 1, 1, 1), sigma, dtype=torch.float64)
        assert edm_target(wide_x0, wide_eps, level).std().item() == pytest.approx(1, abs=0.01)
