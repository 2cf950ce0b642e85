"""What single solvers promise beyond the contract."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from differential_diffusion.core import (
    DDIM,
    Churn,
    DPMpp2M,
    Heun,
    PredictorCorrector,
    ladder,
    sample,
    sample_steps,
    wait,
)
from differential_diffusion.core.oracle import Gaussian
from differential_diffusion.errors import InputError

from .helpers import exact_law, gaussian, mixture, normal


def scalar(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64).view(-1, 1, 1, 1)


@pytest.mark.parametrize("n", [5, 20, 200])
def test_variance_that_ancestral_sampling_lacks(n: int) -> None:
    """For a Gaussian it is known in closed form, with V_i = Var(x0 | x at level i):

    each step renews noise as if x0 were D, so the share 1 - V_{i+1}/V_i of what D should gain,
    V_i - V_{i+1}, is lost.
    """
    prior = Gaussian(scalar(0.3)[0], torch.ones(1, 1, dtype=torch.float64))
    sigmas = ladder.karras(n, 0.002, 1.0)
    path = wait(scalar(1.0), None, sigmas)
    mean, variance = exact_law(prior, path, DDIM(1.0), scalar(0.7))
    v = sigmas**2 / (1 + sigmas**2)
    lacking = ((v[:-1] - v[1:]) ** 2 / v[:-1]).sum()
    torch.testing.assert_close(variance, (v[0] - lacking).view(1, 1))
    torch.testing.assert_close(mean, torch.tensor([0.5], dtype=torch.float64))


def test_multistep_sde_samples_the_posterior_on_the_default_ladder() -> None:
    """Where ancestral sampling lacks a quarter of the variance at 20 steps of noise."""
    prior = gaussian(smallest=0.5)
    x, start = normal(1, 1, 2, 2, seed=3), torch.full((1, 1, 2, 2), 1.0, dtype=torch.float64)
    truth = prior.posterior(x, start).covariance[0]

    def error(solver: DDIM | DPMpp2M, n: int) -> float:
        path = wait(start, None, ladder.strength(n, sigma_max=1.0))
        return ((exact_law(prior, path, solver, x)[1] - truth).norm() / truth.norm()).item()

    assert error(DDIM(1.0), 20) > 0.25
    assert error(DPMpp2M(1.0), 20) < 0.03
    assert error(DPMpp2M(1.0), 200) < 0.0003


def test_heun_saves_the_evaluations_it_would_throw_away() -> None:
    x = normal(1, 1, 2, 2)
    path = wait(scalar(1.0), None, ladder.karras(10, 0.01, 1.0))
    steps = list(sample_steps(mixture(), x, path, Heun()))
    assert [s.evaluations for s in steps] == [*range(2, 19, 2), 19]


def test_churn_without_churn_is_heun() -> None:
    x = normal(1, 1, 2, 2)
    path = wait(scalar(1.0), None, ladder.karras(10, 0.01, 1.0))
    assert torch.equal(sample(mixture(), x, path, Churn(0.0)), sample(mixture(), x, path, Heun()))


def test_churn_stays_within_its_limits() -> None:
    """Pixels outside s_tmin...s_tmax take Heun steps."""
    start = scalar(1.0, 0.2).view(1, 1, 1, 2)
    path = wait(start, None, ladder.karras(8, 0.05, 1.0))

    def denoise(x: Tensor, sigma: Tensor) -> Tensor:
        return x / (1 + sigma**2)  # no pixel depends on another

    def noise(k: int) -> Tensor:
        return torch.ones(1, 1, 1, 2)

    x = normal(1, 1, 1, 2)
    plain = sample(denoise, x, path, Heun())
    churned = sample(denoise, x, path, Churn(8.0, s_tmin=0.3), noise)
    assert torch.equal(churned[..., 1], plain[..., 1])
    assert abs(churned[..., 0] - plain[..., 0]) > 0.01


def langevin(x: Tensor, denoise: Gaussian, s: Tensor, tau: Tensor, eps: Tensor) -> Tensor:
    """One unadjusted Langevin step by the score, written out."""
    score = (denoise(x, s) - x) / s**2
    return x + tau / 2 * score + tau.sqrt() * eps


def test_predictor_corrector_is_ddim_then_langevin() -> None:
    prior, x = gaussian(), normal(1, 1, 2, 2, seed=1)
    eps = [normal(1, 1, 2, 2, seed=10 + j) for j in range(3)]
    sigma, s = scalar(1.0), scalar(0.6)
    solver = PredictorCorrector(eta=1.0, delta=0.4, corrections=2)
    ours, _, _ = solver.step(prior, x, sigma, s, eps.__getitem__, None)
    expected, _, _ = DDIM(1.0).step(prior, x, sigma, s, eps.__getitem__, None)
    tau = 0.4 * (1 - (s / sigma) ** 2) * s**2
    for j in (1, 2):
        expected = langevin(expected, prior, s, tau, eps[j])
    torch.testing.assert_close(ours, expected, rtol=0, atol=1e-12)


def test_corrections_bring_the_law_closer() -> None:
    prior = gaussian()
    start = scalar(1.0)
    spread = torch.linalg.cholesky(prior.covariance + torch.eye(4, dtype=torch.float64))
    path = wait(start, None, ladder.karras(40, 0.01, 1.0))

    def error(solver: DDIM | PredictorCorrector) -> float:
        _, covariance = exact_law(prior, path, solver, prior.mean[None], spread)
        return (covariance - prior.covariance).norm().item()

    assert error(PredictorCorrector(delta=1.0, corrections=2)) < 0.8 * error(DDIM())


@pytest.mark.parametrize("eta", [0.0, 1.0])
def test_multistep_is_not_upset_by_pixels_that_join_between_levels(eta: float) -> None:
    """A first step cut short to next to nothing must not be extrapolated from.

    A pixel just above a level takes a first step that is as good as none; in that step its
    neighbours move and change its estimate. The run must be close to that of a pixel exactly
    on the level.
    """
    prior = gaussian()
    x = normal(1, 1, 2, 2, seed=2)

    def noise(k: int) -> Tensor:
        return normal(1, 1, 2, 2, seed=50 + k)

    def run(nudge: float) -> Tensor:
        start = torch.tensor([1.0, 1.0, 1.0, 0.5], dtype=torch.float64)
        sigmas = ladder.strength(10, sigma_max=1.0)
        start[3] = sigmas[4] * (1 + nudge)
        path = wait(start.view(1, 1, 2, 2), None, sigmas)
        return sample(prior, x, path, DPMpp2M(eta), noise)

    assert (run(1e-5) - run(0.0)).abs().max() < 0.05


def test_multistep_forgets_only_what_it_is_told() -> None:
    solver, x = DPMpp2M(), normal(1, 1, 2, 2)
    prior = mixture()
    _, _, state = solver.step(prior, x, scalar(1.0), scalar(0.7), normal, None)
    where = torch.tensor([[[[True, False], [False, False]]]])
    kept, _, _ = solver.step(prior, x, scalar(0.7), scalar(0.5), normal, state)
    told, _, _ = solver.step(
        prior, x, scalar(0.7), scalar(0.5), normal, solver.forget(state, where)
    )
    first, _, _ = solver.step(prior, x, scalar(0.7), scalar(0.5), normal, None)
    torch.testing.assert_close(told, torch.where(where, first, kept))
    assert (first - kept).abs().min() > 1e-4


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: DDIM(1.5), "eta must lie in"),
        (lambda: DDIM(float("nan")), "eta must lie in"),
        (lambda: DPMpp2M(-0.1), "eta must lie in"),
        (lambda: Churn(-1.0), "s_churn >= 0"),
        (lambda: Churn(1.0, s_tmin=2.0, s_tmax=1.0), "s_tmin <= s_tmax"),
        (lambda: PredictorCorrector(delta=0.0), "delta must lie"),
        (lambda: PredictorCorrector(corrections=0), "corrections must be"),
    ],
)
def test_bad_settings_are_refused(make: object, match: str) -> None:
    with pytest.raises(InputError, match=match):
        make()  # type: ignore[operator]


def test_laws_follow_eta() -> None:
    assert DDIM(1.0).law == DPMpp2M(1.0).law == "posterior"
    assert {DDIM(0.0).law, DDIM(0.99).law, DPMpp2M().law, Heun().law} == {"marginal"}
