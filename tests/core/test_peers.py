"""Our solvers against independent implementations, in float64 on uniform σ-maps."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import math
import sys
import types
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from differential_diffusion.core import DDIM, Churn, DPMpp2M, Heun, ladder, sample, wait
from differential_diffusion.core.types import Solver

from .helpers import mixture, normal

N = 12
LADDER = ladder.karras(N, 0.01, 5.0)
ORACLE = mixture(channels=3)


def start() -> Tensor:
    return LADDER[0] * normal(2, 3, 2, 2, seed=1)


def draws(count: int = N) -> list[Tensor]:
    return [normal(2, 3, 2, 2, seed=100 + i) for i in range(count)]


def ours(solver: Solver, x: Tensor, sigmas: Tensor = LADDER) -> Tensor:
    path = wait(sigmas[0].view(1, 1, 1, 1), None, sigmas)
    assert len(path) == len(sigmas) - 1
    replay = draws(len(path))[::-1]  # draws are numbered from the end of the ladder
    return sample(ORACLE, x, path, solver, replay.__getitem__)


@pytest.fixture(scope="module")
def k_sampling() -> Any:
    """k_diffusion.sampling; that file alone where the whole package does not import."""
    try:
        files = importlib.metadata.files("k-diffusion") or []
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("k-diffusion is not installed")
    try:
        from k_diffusion import sampling

        return sampling
    except (ImportError, RuntimeError):
        package = types.ModuleType("_k_alone")
        package.utils = types.ModuleType("_k_alone.utils")
        package.utils.append_dims = lambda x, n: x[(...,) + (None,) * (n - x.ndim)]
        package.__path__ = []
        (path,) = [f.locate() for f in files if str(f) == "k_diffusion/sampling.py"]
        spec = importlib.util.spec_from_file_location("_k_alone.sampling", path)
        module = importlib.util.module_from_spec(spec)
        sys.modules |= {"_k_alone": package, "_k_alone.utils": package.utils, spec.name: module}
        spec.loader.exec_module(module)
        return module


def k_model(x: Tensor, sigma: Tensor) -> Tensor:
    return ORACLE(x, sigma.view(-1, 1, 1, 1))


K_DIFFUSION: dict[str, tuple[Solver, Callable[..., Tensor], dict[str, Any]]] = {
    "euler": (DDIM(), "sample_euler", {}),
    "ancestral": (DDIM(1.0), "sample_euler_ancestral", {"noise": True}),
    "half ancestral": (DDIM(0.5), "sample_euler_ancestral", {"noise": True, "eta": 0.5}),
    "heun": (Heun(), "sample_heun", {}),
    "2m": (DPMpp2M(), "sample_dpmpp_2m", {}),
    "2m sde": (DPMpp2M(1.0), "sample_dpmpp_2m_sde", {"noise": True, "solver_type": "midpoint"}),
    "2m sde, eta": (
        DPMpp2M(0.3),
        "sample_dpmpp_2m_sde",
        {"noise": True, "eta": 0.3, "solver_type": "midpoint"},
    ),
}


@pytest.mark.parametrize("case", K_DIFFUSION)
def test_equals_k_diffusion(case: str, k_sampling: Any) -> None:
    solver, name, options = K_DIFFUSION[case]
    options = dict(options)
    if options.pop("noise", False):
        replay = iter(draws())
        options["noise_sampler"] = lambda *_: next(replay)
    theirs = getattr(k_sampling, name)(k_model, start(), LADDER, disable=True, **options)
    torch.testing.assert_close(ours(solver, start()), theirs, rtol=0, atol=1e-10)


def test_churn_equals_k_diffusion(k_sampling: Any) -> None:
    churn = {"s_churn": 5.0, "s_tmin": 0.05, "s_tmax": 2.0, "s_noise": 1.003}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        theirs = k_sampling.sample_heun(k_model, start(), LADDER, disable=True, **churn)
        torch.manual_seed(0)
        replay = [torch.randn_like(start()) for _ in range(N)][::-1]
    path = wait(LADDER[0].view(1, 1, 1, 1), None, LADDER)
    x = sample(ORACLE, start(), path, Churn(**churn), replay.__getitem__)
    torch.testing.assert_close(x, theirs, rtol=0, atol=1e-10)
    assert (x - ours(Heun(), start())).abs().max() > 0.01


def test_churn_equals_algorithm_2_of_karras() -> None:
    s_churn, s_tmin, s_tmax, s_noise = 5.0, 0.05, 2.0, 1.003
    x = start()
    for i, eps in enumerate(draws()):
        t, t_next = float(LADDER[i]), float(LADDER[i + 1])
        gamma = min(s_churn / N, math.sqrt(2) - 1) if s_tmin <= t <= s_tmax else 0.0
        t_hat = t + gamma * t
        x_hat = x + math.sqrt(t_hat**2 - t**2) * s_noise * eps
        d = (x_hat - k_model(x_hat, torch.tensor([t_hat], dtype=torch.float64))) / t_hat
        x = x_hat + (t_next - t_hat) * d
        if t_next > 0:
            corrected = (x - k_model(x, torch.tensor([t_next], dtype=torch.float64))) / t_next
            x = x_hat + (t_next - t_hat) * (d + corrected) / 2
    torch.testing.assert_close(
        ours(Churn(s_churn, s_tmin, s_tmax, s_noise), start()), x, rtol=0, atol=1e-10
    )


@pytest.mark.parametrize("eta", [0.0, 0.4, 1.0])
def test_ddim_equals_diffusers(eta: float) -> None:
    diffusers = pytest.importorskip("diffusers")
    scheduler = diffusers.DDIMScheduler(
        beta_schedule="linear", timestep_spacing="trailing", clip_sample=False
    )
    scheduler.alphas_cumprod = torch.cumprod(1 - ladder.linear_betas(), 0)
    scheduler.final_alpha_cumprod = torch.ones((), dtype=torch.float64)
    scheduler.set_timesteps(10)
    sigmas = ladder.vp_linear(10)
    x = sigmas[0] * normal(2, 3, 2, 2, seed=1)
    state = x / (1 + sigmas[0] ** 2).sqrt()
    for t, sigma, eps in zip(scheduler.timesteps, sigmas, draws(10), strict=False):
        noisy = state * (1 + sigma**2).sqrt()
        noise = (noisy - ORACLE(noisy, sigma.view(1, 1, 1, 1))) / sigma
        state = scheduler.step(noise, t, state, eta=eta, variance_noise=eps).prev_sample
    torch.testing.assert_close(ours(DDIM(eta), x, sigmas), state, rtol=0, atol=1e-9)


def test_heun_equals_diffusers() -> None:
    diffusers = pytest.importorskip("diffusers")
    scheduler = diffusers.HeunDiscreteScheduler(
        beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012
    )
    scheduler.set_timesteps(10)
    sigmas = scheduler.sigmas.double()
    scheduler.sigmas = sigmas
    x = state = sigmas[0] * normal(2, 3, 2, 2, seed=1)
    for i, t in enumerate(scheduler.timesteps):
        sigma = sigmas[i]
        noise = (state - ORACLE(state, sigma.view(1, 1, 1, 1))) / sigma
        state = scheduler.step(noise, t, state).prev_sample
    once = torch.cat([sigmas[:1], sigmas[1::2]])  # their ladder lists each inner level twice
    torch.testing.assert_close(ours(Heun(), x, once), state, rtol=0, atol=1e-9)


@pytest.mark.parametrize(
    ("algorithm", "solver"), [("dpmsolver++", DPMpp2M()), ("sde-dpmsolver++", DPMpp2M(1.0))]
)
def test_multistep_equals_diffusers(algorithm: str, solver: Solver) -> None:
    """Their step computes in float32, hence the tolerance."""
    diffusers = pytest.importorskip("diffusers")
    scheduler = diffusers.DPMSolverMultistepScheduler(
        beta_schedule="scaled_linear",
        beta_start=0.00085,
        beta_end=0.012,
        algorithm_type=algorithm,
        use_karras_sigmas=True,
        lower_order_final=False,
        euler_at_final=True,
        final_sigmas_type="zero",
    )
    scheduler.set_timesteps(20)
    sigmas = scheduler.sigmas.double()
    x = sigmas[0] * normal(2, 3, 2, 2, seed=1)
    state = (x / (1 + sigmas[0] ** 2).sqrt()).float()
    for t, sigma, eps in zip(scheduler.timesteps, sigmas, draws(20), strict=False):
        noisy = state * (1 + sigma**2).sqrt()
        noise = (noisy - ORACLE(noisy.double(), sigma.view(1, 1, 1, 1))) / sigma
        state = scheduler.step(noise.float(), t, state, variance_noise=eps.float()).prev_sample
    torch.testing.assert_close(ours(solver, x, sigmas), state.double(), rtol=0, atol=1e-5)
