"""Ladders against the published formulas, Diffusers and k-diffusion's numbers."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from differential_diffusion.core import LADDERS, ladder, sigma_to_strength, strength_to_sigma
from differential_diffusion.errors import InputError


def test_strength_to_sigma_is_the_stated_scale() -> None:
    s = torch.tensor([0.0, 0.25, 0.5, 1.0], dtype=torch.float64)
    low, high = 0.002 ** (1 / 7), 20 ** (1 / 7)
    expected = [0.0, *((low + v * (high - low)) ** 7 for v in (0.25, 0.5, 1.0))]
    torch.testing.assert_close(strength_to_sigma(s), torch.tensor(expected, dtype=torch.float64))
    assert strength_to_sigma(s)[1].item() == pytest.approx(0.076, abs=5e-4)
    assert strength_to_sigma(s)[2].item() == pytest.approx(0.825, abs=5e-4)
    assert strength_to_sigma(0) == 0
    assert strength_to_sigma(1.0).item() == pytest.approx(20)
    assert strength_to_sigma(1e-300).item() == pytest.approx(0.002)


@given(s=st.floats(0, 1), rho=st.sampled_from([1.0, 3.0, 7.0]))
def test_sigma_to_strength_inverts(s: float, rho: float) -> None:
    sigma = strength_to_sigma(s, 0.01, 80.0, rho)
    assert sigma_to_strength(sigma, 0.01, 80.0, rho).item() == pytest.approx(s, abs=1e-12)


def test_sigma_to_strength_clamps_to_the_scale() -> None:
    sigma = torch.tensor([0.0, 0.001, 0.002, 20.0, 1e6])
    assert sigma_to_strength(sigma).tolist() == pytest.approx([0, 0, 0, 1, 1], abs=1e-6)


def test_float32_maps_meet_the_ladder_to_the_last_digit() -> None:
    s = torch.arange(1001) / 1000
    exact = strength_to_sigma(s.double()).float()
    assert torch.equal(strength_to_sigma(s), exact)
    assert strength_to_sigma(s).dtype == torch.float32


@pytest.mark.parametrize("strength", [-0.01, 1.01, math.nan, math.inf])
def test_bad_strengths_are_refused(strength: float) -> None:
    with pytest.raises(InputError, match=r"strength must lie in \[0, 1\]"):
        strength_to_sigma(torch.tensor([0.5, strength]))


@pytest.mark.parametrize("sigma", [-0.01, math.nan])
def test_bad_sigmas_are_refused(sigma: float) -> None:
    with pytest.raises(InputError, match="sigma must be 0 or more"):
        sigma_to_strength(torch.tensor([0.5, sigma]))


@pytest.mark.parametrize(
    "limits", [(0.0, 1.0), (1.0, 1.0), (2.0, 1.0), (-1.0, 1.0), (0.1, math.inf)]
)
def test_bad_limits_are_refused(limits: tuple[float, float]) -> None:
    for make in (ladder.karras, ladder.log_linear, ladder.strength):
        with pytest.raises(InputError, match="sigma_min < sigma_max"):
            make(5, *limits)
    with pytest.raises(InputError, match="rho must be positive"):
        ladder.karras(5, rho=0)


def test_karras_is_equation_5() -> None:
    n, low, high, rho = 18, 0.002, 80.0, 7.0
    expected = [
        (high ** (1 / rho) + i / (n - 1) * (low ** (1 / rho) - high ** (1 / rho))) ** rho
        for i in range(n)
    ]
    torch.testing.assert_close(ladder.karras(n, low, high).tolist(), [*expected, 0.0])


def test_log_linear_is_geometric() -> None:
    sigmas = ladder.log_linear(11, 0.01, 50.0)[:-1]
    ratio = sigmas[1:] / sigmas[:-1]
    torch.testing.assert_close(ratio, torch.full_like(ratio, (0.01 / 50) ** 0.1))


def test_strength_ladder_is_the_prior_scale() -> None:
    expected = strength_to_sigma(torch.linspace(1, 0, 21, dtype=torch.float64))
    torch.testing.assert_close(ladder.strength(20), expected, rtol=1e-12, atol=0)


def test_betas_match_diffusers() -> None:
    diffusers = pytest.importorskip("diffusers")
    for betas, name, options in (
        (ladder.linear_betas(), "linear", {}),
        (ladder.scaled_linear_betas(), "scaled_linear", {"beta_start": 0.00085, "beta_end": 0.012}),
        (ladder.cosine_betas(), "squaredcos_cap_v2", {}),
    ):
        theirs = diffusers.DDPMScheduler(beta_schedule=name, **options).betas.double()
        torch.testing.assert_close(betas, theirs, rtol=2e-4, atol=1e-6)


@pytest.mark.parametrize("spacing", ["trailing", "leading", "linspace"])
@pytest.mark.parametrize("n", [2, 7, 20, 50])
def test_vp_spacings_match_diffusers(spacing: str, n: int) -> None:
    diffusers = pytest.importorskip("diffusers")
    offset = 1 if spacing == "leading" else 0
    scheduler = diffusers.EulerDiscreteScheduler(
        beta_schedule="scaled_linear",
        beta_start=0.00085,
        beta_end=0.012,
        timestep_spacing=spacing,
        steps_offset=offset,
    )
    scheduler.set_timesteps(n)
    ours = ladder.vp(n, ladder.scaled_linear_betas(), spacing, offset)
    np.testing.assert_allclose(ours.numpy(), scheduler.sigmas.numpy(), rtol=2e-5)


def test_vp_is_the_pair_of_the_model() -> None:
    """σ = sqrt(1 - ᾱ)/√ᾱ, with ᾱ the plain product."""
    betas = ladder.linear_betas()
    product = math.prod(1 - b for b in betas.tolist())
    expected = math.sqrt((1 - product) / product)
    assert ladder.vp_linear(10)[0].item() == pytest.approx(expected, rel=1e-9)
    alpha_bar = math.cos((0.5 + 0.008) / 1.008 * math.pi / 2) ** 2
    first = math.cos(0.008 / 1.008 * math.pi / 2) ** 2
    alpha_bar /= first
    middle = ladder.sigmas_from_betas(ladder.cosine_betas())[499].item()
    assert middle == pytest.approx(math.sqrt((1 - alpha_bar) / alpha_bar), rel=1e-9)


def test_vp_refuses_what_it_cannot_do() -> None:
    with pytest.raises(InputError, match="at most the schedule's 1000"):
        ladder.vp_linear(1001)
    with pytest.raises(InputError, match="spacing must be"):
        ladder.vp(5, ladder.linear_betas(), "even")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="zero terminal SNR"):
        ladder.vp(5, torch.tensor([0.1, 0.2, 0.3, 0.4, 1.0]))
    for betas in (torch.tensor([]), torch.tensor([0.1, -0.1]), torch.tensor([[0.1]])):
        with pytest.raises(InputError, match="betas must be"):
            ladder.sigmas_from_betas(betas)


def test_flow_is_the_shifted_pair() -> None:
    t = ladder.flow_times(4, shift=3.0)
    expected = [3 * u / (1 + 2 * u) for u in (1.0, 0.75, 0.5, 0.25, 0.0)]
    torch.testing.assert_close(t.tolist(), expected)
    sigmas = ladder.flow(5, t_max=0.9, shift=3.0)
    times = ladder.flow_times(5, t_max=0.9, shift=3.0)
    alpha = 1 - times
    torch.testing.assert_close(alpha * sigmas, times)


def test_flow_times_match_diffusers() -> None:
    diffusers = pytest.importorskip("diffusers")
    scheduler = diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0)
    scheduler.set_timesteps(sigmas=np.linspace(1.0, 0.1, 10))
    ours = ladder.flow_times(10, shift=3.0)
    np.testing.assert_allclose(ours.numpy(), scheduler.sigmas.numpy(), rtol=1e-5, atol=1e-7)


def test_flow_refuses_the_infinite_level() -> None:
    with pytest.raises(InputError, match="t_max must be below 1"):
        ladder.flow(10, t_max=1.0)
    for bad in ({"t_max": 1.5}, {"t_min": 0.5, "t_max": 0.5}, {"shift": 0.0}):
        with pytest.raises(InputError, match="flow times need"):
            ladder.flow_times(10, **bad)


def test_registry_holds_the_functions_of_the_module() -> None:
    assert all(getattr(ladder, name) is make for name, make in LADDERS.items())
