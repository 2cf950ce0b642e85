"""One suite over SOLVERS: declared order and law, kept pixels, no NaN."""

from __future__ import annotations

from itertools import pairwise
from math import log2

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from differential_diffusion.core import PATHS, SOLVERS, Solver, ladder, sample, sample_steps
from differential_diffusion.errors import InputError

from ..core.helpers import exact_law, gaussian, mixture


def row(*values: float) -> Tensor:
    """Four values as a 2x2 map."""
    return torch.tensor(values, dtype=torch.float64).view(1, 1, 2, 2)


X = row(0.3, -0.5, 0.8, 0.1)
MAPS = {
    "uniform": (row(1.0, 1.0, 1.0, 1.0), row(0.01, 0.01, 0.01, 0.01)),
    "mixed": (row(1.0, 0.3, 0.05, 0.0), row(0.05, 0.1, 0.02, 0.0)),
}


# Less churn than its default, which is capped until a ladder has about 100 steps.
OPTIONS = {"churn": {"s_churn": 2.0}}
MADE: dict[str, Solver] = {name: SOLVERS[name](**OPTIONS.get(name, {})) for name in SOLVERS}
DETERMINISTIC = [name for name, solver in MADE.items() if not solver.stochastic]
POSTERIOR = [name for name, solver in MADE.items() if solver.law == "posterior"]


@pytest.fixture(params=SOLVERS)
def solver(request: pytest.FixtureRequest) -> Solver:
    return MADE[request.param]


@pytest.mark.parametrize("maps", MAPS)
def test_order_is_as_declared(solver: Solver, maps: str) -> None:
    """Richardson: halving the steps of one smooth path divides the change by 2**order.

    Of the end point from one x, or, if the solver draws noise, of the law it samples: from one
    x for the posterior, from x ~ p(x; σ) for the marginal.
    """
    prior, (start, target) = gaussian(), MAPS[maps]
    x, spread = X, None
    if solver.stochastic and solver.law == "marginal":
        x = prior.mean[None]
        noisy = prior.covariance + torch.diag(start.flatten().square())
        spread = torch.linalg.cholesky(noisy)

    def law(n: int) -> Tensor:
        path = PATHS["together"](start, target, ladder.karras(n, 0.01, 1.0, final_zero=False))
        mean, covariance = exact_law(prior, path, solver, x, spread)
        return torch.cat([mean, covariance.flatten()])

    laws = [law(n) for n in (40, 80, 160)]
    coarse, fine = ((b - a).norm().item() for a, b in pairwise(laws))
    assert abs(log2(coarse / fine) - solver.order) < 0.3


@pytest.mark.parametrize("maps", MAPS)
@pytest.mark.parametrize("solver", DETERMINISTIC, indirect=True)
def test_order_of_deterministic_solvers_beyond_gaussians(solver: Solver, maps: str) -> None:
    start, target = MAPS[maps]
    prior = mixture()

    def end(n: int) -> Tensor:
        path = PATHS["together"](start, target, ladder.karras(n, 0.01, 1.0, final_zero=False))
        return sample(prior, X, path, solver)

    ends = [end(n) for n in (40, 80, 160)]
    coarse, fine = ((b - a).norm().item() for a, b in pairwise(ends))
    assert abs(log2(coarse / fine) - solver.order) < 0.3


@pytest.mark.parametrize("start", [row(0.5, 0.5, 0.5, 0.5), row(0.5, 0.3, 0.1, 0.0)])
@pytest.mark.parametrize("solver", POSTERIOR, indirect=True)
def test_posterior_solvers_sample_the_posterior(solver: Solver, start: Tensor) -> None:
    """Mean and covariance from one x within 2 % at 200 steps, the error falling with steps."""
    prior = gaussian(smallest=0.5)
    truth = prior.posterior(X, start)

    def errors(n: int) -> tuple[float, float]:
        # Equal steps of σ: the best ladder for ancestral sampling of so little noise.
        path = PATHS["together"](start, None, ladder.karras(n, 0.5 / n, 0.5, rho=1))
        mean, covariance = exact_law(prior, path, solver, X)
        return (
            ((mean - truth.mean.flatten()).norm() / truth.mean.norm()).item(),
            ((covariance - truth.covariance[0]).norm() / truth.covariance.norm()).item(),
        )

    means, covariances = zip(*(errors(n) for n in (50, 100, 200)), strict=True)
    assert max(means) < 1e-10  # the estimates of a posterior sampler are a martingale
    assert covariances[2] < 0.02
    assert covariances[0] > 1.7 * covariances[1] > 1.7**2 * covariances[2]


def test_marginal_solvers_sample_the_prior(solver: Solver) -> None:
    """From x ~ p(x; σ): the end has the prior's mean and covariance, better with more steps."""
    prior, start = gaussian(), row(1.0, 1.0, 1.0, 1.0)
    spread = torch.linalg.cholesky(prior.covariance + torch.eye(4, dtype=torch.float64))

    def errors(n: int) -> tuple[float, float]:
        path = PATHS["wait"](start, None, ladder.karras(n, 1 / n**2, 1.0, rho=3))
        mean, covariance = exact_law(prior, path, solver, prior.mean[None], spread)
        return (
            (mean - prior.mean.flatten()).norm().item(),
            ((covariance - prior.covariance).norm() / prior.covariance.norm()).item(),
        )

    (_, coarse), (mean, fine) = errors(50), errors(150)
    assert mean < 1e-10
    assert fine < 0.03
    assert fine < coarse / 2.5


@pytest.mark.parametrize("solver", DETERMINISTIC, indirect=True)
def test_known_and_unknown_pixels_give_the_conditional(solver: Solver) -> None:
    """0/1 maps: an ODE solver's law over the start noise tends to p(unknown | known)."""
    prior, known = gaussian(), row(1, 0, 1, 0).bool()
    truth = prior.conditional(X, known)
    x = torch.where(known, X, 0.0)

    def errors(sigma_max: float) -> tuple[float, float]:
        start = torch.where(known, 0.0, torch.tensor(sigma_max, dtype=torch.float64))
        path = PATHS["wait"](start, None, ladder.karras(400, 1e-3, sigma_max))
        mean, covariance = exact_law(prior, path, solver, x, torch.diag(start.flatten()))
        return (
            (mean - truth.mean.flatten()).norm().item(),
            (covariance - truth.covariance[0]).norm().item(),
        )

    few, some, many = errors(2.0), errors(10.0), errors(50.0)
    assert many[0] < some[0] < few[0]
    assert many[1] < some[1] < few[1]
    assert many[0] < 0.02
    assert many[1] < (0.02 if solver.order == 1 else 0.001)


@st.composite
def runs(draw: st.DrawFn) -> tuple[Tensor, Tensor, Tensor, int, str, int]:
    """A picture with start and target maps in which some pixels stay, at 0 or above."""
    batch, channels = draw(st.integers(1, 2)), draw(st.integers(1, 3))
    height, width = draw(st.integers(1, 5)), draw(st.integers(1, 5))
    seed = draw(st.integers(0, 2**31))
    generator = torch.Generator().manual_seed(seed)
    dtype = draw(st.sampled_from([torch.float32, torch.float64]))
    shape = (batch, 1, height, width)
    start = ladder.strength_to_sigma(torch.rand(shape, generator=generator, dtype=dtype))
    target = start * torch.rand(shape, generator=generator, dtype=dtype)
    kind = torch.randint(0, 5, shape, generator=generator)
    start = torch.where(kind == 0, 0.0, start)
    start = torch.where(kind == 1, 20.0, start)
    target = torch.where((kind == 0) | (kind == 1) | (kind == 2), 0.0, target)
    target = torch.where(kind == 3, start, target)
    x = torch.randn(batch, channels, height, width, generator=generator, dtype=dtype)
    x = torch.where(x > 1.5, -0.0, x)
    return x, start, target, draw(st.integers(1, 12)), draw(st.sampled_from(list(PATHS))), seed


@given(run=runs())
@pytest.mark.parametrize("name", SOLVERS)
def test_kept_pixels_are_bit_exact(
    name: str, run: tuple[Tensor, Tensor, Tensor, int, str, int]
) -> None:
    x, start, target, steps, path_name, seed = run

    def denoise(x: Tensor, sigma: Tensor) -> Tensor:
        local = torch.nn.functional.avg_pool2d(x.tanh(), 3, 1, 1)
        return torch.where(sigma > 0, local, x + 1e-3)  # a model that drifts where it must not

    def noise(k: int) -> Tensor:
        generator = torch.Generator().manual_seed(seed + k)
        return torch.randn(x.shape, generator=generator)

    solver = SOLVERS[name]()
    path = PATHS[path_name](start, target, steps)
    kept = (start == target).expand_as(x)
    end, last = x, path.sigma(0)
    for step in sample_steps(denoise, x, path, solver, noise):
        assert bool(step.x.isfinite().all())
        still = (step.sigma_next == step.sigma).expand_as(x)
        assert torch.equal(_bits(step.x)[still], _bits(end)[still])
        assert not torch.equal(step.sigma, step.sigma_next)
        assert torch.equal(step.sigma, last)
        end, last = step.x, step.sigma_next
    assert torch.equal(last, target)
    assert end.dtype == x.dtype
    assert torch.equal(_bits(end)[kept], _bits(x)[kept])


def _bits(x: Tensor) -> Tensor:
    return x.view(torch.int32 if x.dtype == torch.float32 else torch.int64)


@pytest.mark.parametrize("path_name", PATHS)
def test_nan_at_kept_pixels_of_a_model_does_no_harm(solver: Solver, path_name: str) -> None:
    """A pixel-wise model that is NaN where σ = 0 leaves no trace."""
    start = row(1.0, 0.3, 0.05, 0.0)
    path = PATHS[path_name](start, None, 7)

    def denoise(x: Tensor, sigma: Tensor) -> Tensor:
        return x * sigma / (sigma * (1 + sigma**2))

    end = sample(denoise, X, path, solver, lambda k: torch.ones(1, 1, 2, 2))
    assert bool(end.isfinite().all())
    assert torch.equal(end[start == 0], X[start == 0])


def test_evaluations_and_draws_are_as_declared(solver: Solver) -> None:
    prior, seen = gaussian(), []

    def noise(k: int) -> Tensor:
        seen.append(k)
        return torch.zeros(1, 1, 2, 2)

    path = PATHS["wait"](row(1.0, 1.0, 0.5, 0.0), None, 10)
    steps = list(sample_steps(prior, X, path, solver, noise))
    per_step = [b.evaluations - a.evaluations for a, b in pairwise(steps[:-1])]
    assert set(per_step) == {solver.evaluations_per_step} == {steps[0].evaluations}
    assert max(seen, default=-1) + 1 <= solver.draws * len(path)
    assert len(seen) == len(set(seen)), "a draw was used twice"
    assert bool(seen) == solver.stochastic


def test_stochastic_solvers_ask_for_noise(solver: Solver) -> None:
    path = PATHS["wait"](row(1.0, 1.0, 0.5, 0.0), None, 4)
    if not solver.stochastic:
        assert bool(sample(gaussian(), X, path, solver).isfinite().all())
        return
    with pytest.raises(InputError, match="pass noise="):
        sample(gaussian(), X, path, solver)


def test_batches_and_crops_change_nothing(solver: Solver) -> None:
    """Images of a batch run as if alone, though their ladders begin at different levels."""

    def denoise(x: Tensor, sigma: Tensor) -> Tensor:
        return x / (1 + sigma**2)

    def noise(k: int, images: slice = slice(None)) -> Tensor:
        generator = torch.Generator().manual_seed(k)
        return torch.randn(2, 1, 2, 2, generator=generator, dtype=torch.float64)[images]

    start = torch.cat([row(0.7, 0.0, 0.02, 0.3), row(20.0, 5.0, 0.0, 0.1)])
    x = torch.cat([X, X + 0.1])
    together = sample(denoise, x, PATHS["wait"](start, None, 9), solver, noise)
    for b in (slice(0, 1), slice(1, 2)):
        path = PATHS["wait"](start[b], None, 9)
        alone = sample(denoise, x[b], path, solver, lambda k, b=b: noise(k, b))
        torch.testing.assert_close(alone, together[b], rtol=0, atol=1e-12)
