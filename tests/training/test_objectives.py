"""Objectives: each one's optimum is the posterior mean, at the levels and weights of its paper."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from scipy import integrate, stats
from torch import Tensor

from differential_diffusion.core import precondition
from differential_diffusion.core.ladder import linear_betas
from differential_diffusion.core.oracle import Gaussian
from differential_diffusion.core.parametrization import SCALINGS, Parametrization
from differential_diffusion.errors import InputError
from differential_diffusion.training.objectives import (
    OBJECTIVES,
    WEIGHTS,
    Betas,
    FlowTimes,
    LinearSDE,
    LogNormal,
    LogUniform,
    Regression,
)

SIZE = 2, 2, 3
RNG = torch.Generator


def network(x: Tensor, condition: Tensor) -> Tensor:
    """Some smooth function of both."""
    return (1.3 * x + 0.2).sin() + 0.1 * condition


def picture(count: int = 3, seed: int = 0) -> Tensor:
    return torch.randn(count, *SIZE, generator=RNG().manual_seed(seed), dtype=torch.float64)


def fields(count: int = 3) -> Tensor:
    """σ-maps with a known pixel in each."""
    draw = torch.rand(count, 1, 2, 3, generator=RNG().manual_seed(4), dtype=torch.float64)
    sigma = torch.exp(4 * draw - 2.5)
    sigma[:, :, 0, 0] = 0
    return sigma


def test_denoisers_are_those_of_the_adapters() -> None:
    x, sigma = picture(), fields()
    told = Parametrization().condition

    class Told(Parametrization):
        def __init__(self, told: Any, *form: Any) -> None:
            super().__init__(*form)
            object.__setattr__(self, "condition", told)

    class Times(precondition.BetaTimes):
        def __init__(self) -> None: ...

        def __call__(self, sigma: Tensor) -> Tensor:
            return told(sigma)

    per_pixel: dict[str, Any] = {"times": Times(), "per_pixel": True}
    alpha = (1 + sigma * sigma).rsqrt()

    def over(s: Tensor, seen: Tensor | float = 1.0) -> Any:
        """The score proper of a network that predicts it times s, and sees x times another."""
        return lambda x, told: network(seen * x, told) / torch.where(s > 0, s, 1.0)

    forms = {name: objective.form for name, objective in OBJECTIVES.items()}
    for form, expected in (
        (forms["ddpm"], precondition.epsilon(network, **per_pixel)),
        (forms["x0"], precondition.x0(network, **per_pixel)),
        (forms["v"], precondition.velocity(network, **per_pixel)),
        (forms["vp"], precondition.score(over(sigma * alpha), **per_pixel)),
        (forms["edm"], precondition.edm(network)),
        (
            Told(lambda s: s, "score"),
            precondition.score(over(sigma, (sigma**2 + 0.25).rsqrt()), per_pixel=True),
        ),
        (
            Told(lambda s: s / (1 + s), "flow", "flow"),
            precondition.flow(network, per_pixel=True),
        ),
    ):
        made = form.denoiser(network)(x, sigma)
        torch.testing.assert_close(made, expected(x, sigma), msg=form.prediction)
        assert torch.equal(made[..., 0, 0], x[..., 0, 0])


@pytest.mark.parametrize("per_pixel", [False, True])
@pytest.mark.parametrize("name", OBJECTIVES)
@pytest.mark.parametrize("weight", ["own", *WEIGHTS])
def test_the_optimum_is_the_posterior_mean(name: str, weight: str, per_pixel: bool) -> None:
    """No multiple of any function, added to the network whose D is exact, lowers the loss."""
    objective = OBJECTIVES[name]
    if weight != "own":
        objective = replace(objective, weight=WEIGHTS[weight])
    count, draw = 60_000, RNG().manual_seed(1)
    factor = torch.randn(12, 12, generator=RNG().manual_seed(2), dtype=torch.float64) / 5
    oracle = Gaussian(torch.full(SIZE, 0.2, dtype=torch.float64), factor @ factor.mT + 0.01 * EYE)
    white = torch.randn(count, 12, generator=draw, dtype=torch.float64)
    x0 = oracle.mean + (white @ torch.linalg.cholesky(oracle.covariance).mT).view(-1, *SIZE)
    noise = torch.randn(x0.shape, generator=draw, dtype=torch.float64)
    sigma = fields(1) if per_pixel else torch.full((1, 1, 1, 1), 0.4, dtype=torch.float64)
    x = x0 + sigma * noise
    safe = torch.where(sigma > 0, sigma, 1.0)
    form = objective.form.form(safe)
    exact = (oracle(x, sigma) - form.skip * x) / form.out

    def loss(share: float) -> Tensor:
        def near(scaled: Tensor, condition: Tensor) -> Tensor:
            return exact + share * network(scaled, condition) * form.noise.abs()

        return objective.loss(near, x0, sigma.expand(count, 1, *sigma.shape[2:]), noise)

    low, middle, high = (loss(share) for share in (-1.0, 0.0, 1.0))
    bend, slope = (low + high) / 2 - middle, (high - low) / 2
    error = float(slope.std()) / count**0.5
    assert abs(float(slope.mean())) < 4 * error + 1e-12
    if bool(bend.any()):
        assert float(bend.mean()) > 5 * error  # a lack would have shown


EYE = torch.eye(12, dtype=torch.float64)


def test_scalings_are_those_of_their_processes() -> None:
    sigma = torch.tensor([0.01, 0.3, 1.0, 9.0], dtype=torch.float64)
    alpha = {name: scaling(sigma) for name, scaling in SCALINGS.items()}
    s = {name: sigma * a for name, a in alpha.items()}
    torch.testing.assert_close(
        alpha["preserving"] ** 2 + s["preserving"] ** 2, torch.ones(4).double()
    )
    torch.testing.assert_close(s["sub-preserving"], 1 - alpha["sub-preserving"] ** 2)
    torch.testing.assert_close(s["exploding"], sigma)
    torch.testing.assert_close(alpha["flow"] + s["flow"], torch.ones(4).double())


def drawn(levels: Any, count: int = 4000) -> Tensor:
    made: Tensor = levels.sample(count, RNG().manual_seed(5))
    assert made.shape == (count,)
    assert bool((made > 0).all())
    assert torch.equal(made, levels.sample(count, RNG().manual_seed(5)))
    assert not torch.equal(made, levels.sample(count, RNG().manual_seed(6)))
    return made.double()


def test_levels_follow_their_laws() -> None:
    def follows(values: Tensor, law: Any) -> None:
        # Stratified values stay nearer to their law than independent ones would.
        assert stats.kstest(values.numpy(), law).statistic < 2 / len(values)

    follows(drawn(LogNormal(-1, 0.7)).log(), stats.norm(-1, 0.7).cdf)
    ends = torch.tensor([0.01, 20.0]).log()
    follows(
        drawn(LogUniform(0.01, 20)).log(),
        stats.uniform(float(ends[0]), float(ends[1] - ends[0])).cdf,
    )
    t = drawn(FlowTimes())
    follows(t / (1 + t), stats.uniform(1e-4, 1).cdf)
    follows(drawn(FlowTimes("logit-normal", 0.3, 0.8)).log(), stats.norm(0.3, 0.8).cdf)


def test_few_levels_have_equal_ratios() -> None:
    values, counts = drawn(LogUniform(0.1, 10, levels=5)).unique(return_counts=True)
    torch.testing.assert_close(values, 0.1 * 100 ** (torch.arange(5) / 4).double())
    assert int(counts.max() - counts.min()) <= 1


def test_timesteps_of_betas() -> None:
    values, counts = drawn(Betas(timesteps=100)).unique(return_counts=True)
    alphas = (1 - linear_betas(100)).cumprod(0)
    torch.testing.assert_close(values, ((1 - alphas) / alphas).sqrt(), rtol=1e-6, atol=0)
    assert bool((counts == 40).all())


@pytest.mark.parametrize("sub", [False, True])
def test_levels_of_the_linear_sde(sub: bool) -> None:
    """Against the SDE's own ODE of mean and variance, dα = -βα/2, ds² by either SDE."""
    median = float(drawn(LinearSDE(0.2, 12, start=0.0001, sub=sub)).median())

    def rates(t: float, state: Any) -> tuple[float, float]:
        beta = 0.2 + 11.8 * t
        whole = 2 * (0.2 * t + 11.8 * t * t / 2)
        fall = 1 - float(torch.exp(torch.tensor(-whole))) if sub else 1.0
        return -beta * state[0] / 2, -beta * state[1] + beta * fall

    alpha, variance = integrate.solve_ivp(rates, (0, 0.50005), (1, 0), rtol=1e-9, atol=1e-12).y[
        :, -1
    ]
    assert median == pytest.approx(variance**0.5 / alpha, rel=2e-3)


def test_weights_are_the_published_ones() -> None:
    sigma = torch.tensor([0.1, 0.5, 2.0], dtype=torch.float64)
    snr = 1 / sigma**2
    most = snr.clamp(max=5)

    def found(name: str, weight: str) -> Tensor:
        objective = OBJECTIVES[name]
        return WEIGHTS[weight](sigma, objective.form.form(sigma).out.square())

    torch.testing.assert_close(found("ddpm", "min-snr"), most / snr)
    torch.testing.assert_close(found("x0", "min-snr"), most)
    torch.testing.assert_close(found("v", "min-snr"), most / (snr + 1))
    torch.testing.assert_close(found("edm", "edm"), torch.ones(3).double())
    torch.testing.assert_close(found("x0", "edm"), (sigma**2 + 0.25) / (0.5 * sigma) ** 2)
    for name in ("ve", "vp"):  # s² of the score proper, whose variance is 1/s²
        torch.testing.assert_close(found(name, "noise"), torch.ones(3).double())


def test_predictions_need_their_scaling() -> None:
    with pytest.raises(InputError, match="'velocity' needs the scaling 'preserving', not 'flow'"):
        Parametrization("velocity", "flow")
    with pytest.raises(InputError, match="told is 'time': it must be one of level, timestep"):
        Parametrization(told="time")  # type: ignore[arg-type]


def test_a_timestep_is_told_of_the_table_that_was_trained_on() -> None:
    form = Parametrization("noise", "preserving", told="timestep", timesteps=50)
    alphas = (1 - linear_betas(50)).cumprod(0)
    sigma = ((1 - alphas) / alphas).sqrt()[[0, 20, 49]].view(-1, 1, 1, 1)
    torch.testing.assert_close(
        form.condition(sigma).flatten(), torch.tensor([0.0, 20, 49]).double()
    )


def test_balanced_weights_are_one_at_sigma_data_and_even_in_the_logarithm() -> None:
    sigma = torch.tensor([1e-9, 0.5 / math.e, 0.5, 0.5 * math.e, 1e9]).double()
    weight = WEIGHTS["balanced"](sigma, Parametrization().form(sigma).out.square())
    torch.testing.assert_close(
        weight, torch.tensor([0, 0.75, 1, 0.75, 0]).double(), atol=0.01, rtol=1e-6
    )


def edm_loss(network: Any, x0: Tensor, sigma: Tensor, noise: Tensor) -> Tensor:
    """Of each picture, for `OBJECTIVES["edm"]` with balanced weights."""
    return replace(OBJECTIVES["edm"], weight=WEIGHTS["balanced"]).loss(network, x0, sigma, noise)


def test_the_loss_is_the_weighted_error_of_the_denoised_picture() -> None:
    x0, noise = picture(), picture(seed=1)
    sigma = fields().clamp(min=0.05)
    denoised = precondition.edm(network)(x0 + sigma * noise, sigma)
    level = 1 / (1 + (sigma / 0.5).log().square() / 3)
    weight = level * (sigma**2 + 0.25) / (sigma * 0.5) ** 2
    expected = (weight * (denoised - x0) ** 2).mean((1, 2, 3))
    torch.testing.assert_close(edm_loss(network, x0, sigma, noise), expected)


def test_clean_pixels_do_not_count_and_small_holes_count_for_less() -> None:
    x0, noise = picture(1), picture(1, seed=1)
    sigma = torch.full((1, 1, 2, 3), 0.3).double()
    sigma[..., :1, :] = 0

    def local(x: Tensor, _: Tensor) -> Tensor:
        return 0.3 * x

    mixed = edm_loss(local, x0, sigma, noise)
    noisy = edm_loss(local, x0[..., 1:, :], sigma[..., 1:, :], noise[..., 1:, :])
    torch.testing.assert_close(mixed, 0.5**0.5 * noisy)
    assert float(edm_loss(local, x0, 0 * sigma, noise)) == 0


def test_a_loss_of_the_users_own_is_given_the_denoised_picture_and_its_truth() -> None:
    x0, noise, sigma = picture(), picture(seed=1), fields()
    seen: list[Regression] = []

    def absolute(regression: Regression) -> Tensor:
        seen.append(regression)
        return (regression.denoised - regression.x0).abs().mean((1, 2, 3))

    objective = replace(OBJECTIVES["v"], error=absolute)
    denoised = objective.form.denoiser(network)(x0 + sigma * noise, sigma)
    expected = (denoised - x0).abs().mean((1, 2, 3))
    torch.testing.assert_close(objective.loss(network, x0, sigma, noise), expected)
    form = objective.form.form(sigma)
    target = form.noise * noise + form.clean * x0
    torch.testing.assert_close(seen[0].target * (sigma > 0), target * (sigma > 0))
