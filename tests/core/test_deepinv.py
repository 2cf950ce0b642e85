"""deepinv's physics as operators: its own [0,1] pictures, its closed forms, the real package."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import pytest
import torch

from differential_diffusion.core import data_consistency
from differential_diffusion.core.operators import DeepinvPhysics, LinearOperator
from differential_diffusion.errors import InputError

from ..deepinv_physics import Averaging, Decomposed, Nonlinear, Stacked
from ..test_extending import example
from .helpers import mixture, normal

MASK = torch.tensor([1.0, 0.0, 1.0, 1.0], dtype=torch.float64).view(1, 1, 2, 2)
ONE = torch.ones(1, 1, 1, 1, dtype=torch.float64)


@pytest.mark.parametrize("physics", [Averaging(), Decomposed(MASK)])
def test_what_was_measured_on_0_to_1_is_measured_on_minus_1_to_1(physics: Any) -> None:
    operator, u = DeepinvPhysics(physics), normal(2, 3, 2, 2).abs()
    noise = 0.1 * normal(*physics.A(u).shape, seed=1)
    converted = operator.measured(physics.A(u) + noise)
    torch.testing.assert_close(converted, operator.forward(2 * u - 1) + 2 * noise)


def test_closed_forms_are_deepinvs_where_it_has_some() -> None:
    physics = Decomposed(MASK)
    operator, v, y = DeepinvPhysics(physics), normal(2, 1, 2, 2), normal(2, 1, 2, 2, seed=1)
    operator.pseudo_inverse(y)
    found = operator.prox(v, y, 0.3 * ONE, 0.2)
    assert physics.calls == 2
    torch.testing.assert_close(found, LinearOperator.prox(operator, v, y, 0.3 * ONE, 0.2))
    operator.prox(v, y, 0.3 * MASK, 0.2)  # a map: by itself
    operator.prox(v, y, 0 * ONE, 0.2)
    assert physics.calls == 2


def test_a_guided_estimate_holds_what_was_measured() -> None:
    """The whole way: a picture in [0,1], deepinv's measurement, our denoiser in [-1,1]."""
    physics, u = Decomposed(MASK), (normal(1, 1, 2, 2).tanh() + 1) / 2
    operator = DeepinvPhysics(physics)
    guided = data_consistency(mixture(), operator, operator.measured(physics.A(u)))
    estimate = (guided(normal(1, 1, 2, 2, seed=4), 0.7 * ONE) + 1) / 2
    torch.testing.assert_close(physics.A(estimate), physics.A(u), rtol=0, atol=1e-6)


def test_what_cannot_be_used_is_refused_in_a_sentence() -> None:
    with pytest.raises(InputError, match="Nonlinear has no A_adjoint: give a linear physics"):
        DeepinvPhysics(Nonlinear())
    with pytest.raises(InputError, match="the physics gives a list: stack"):
        DeepinvPhysics(Stacked()).forward(ONE)


def test_the_example_of_the_page_explains_a_measurement(repository: Path) -> None:
    reconstruct = example(repository, "A measurement", block=2)["reconstruct"]
    u = (normal(1, 3, 16, 16).cumsum(-1).cumsum(-2).tanh() + 1).float() / 2
    made = reconstruct(Averaging(), Averaging().A(u), 0.01, steps=4)
    assert made.shape == u.shape
    assert float((Averaging().A(made) - Averaging().A(u)).square().mean().sqrt()) < 0.02


def real(name: str, **settings: Any) -> Any:
    """A physics of the real package, if it can be imported here."""
    try:
        package = importlib.import_module("deepinv")
    except (ImportError, RuntimeError) as error:
        pytest.skip(f"deepinv cannot be imported: {error}")
    return getattr(package.physics, name)(**settings)


PHYSICS: dict[str, dict[str, Any]] = {
    "Inpainting": {"img_size": (3, 16, 16), "mask": 0.5},
    "Downsampling": {"img_size": (3, 16, 16), "factor": 2, "filter": "gaussian"},
    "BlurFFT": {"img_size": (3, 16, 16), "filter": torch.ones(1, 1, 3, 3) / 9},
    "Blur": {"filter": torch.ones(1, 1, 3, 3) / 9, "padding": "circular"},
}


@pytest.mark.parametrize("name", PHYSICS)
@pytest.mark.filterwarnings("ignore")
def test_real_physics_are_operators(name: str) -> None:
    """Adjointness, the prox against conjugate gradients, and [0,1] against [-1,1]."""
    physics = real(name, **PHYSICS[name])
    operator, u = DeepinvPhysics(physics), torch.rand(2, 3, 16, 16, generator=seeded())
    y = physics.A(u)
    torch.testing.assert_close(operator.measured(y), operator.forward(2 * u - 1))
    other = torch.randn(y.shape, generator=seeded())
    left = (operator.forward(u) * other).sum()
    torch.testing.assert_close(left, (u * operator.adjoint(other)).sum(), rtol=1e-4, atol=1e-4)
    v = torch.randn(u.shape, generator=seeded())
    found = operator.prox(v, y, ONE.float(), 0.1)
    expected = LinearOperator.prox(operator, v, y, ONE.float(), 0.1)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-4)


def seeded() -> torch.Generator:
    return torch.Generator().manual_seed(0)
