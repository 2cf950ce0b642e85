"""What a network is told of a picture: what withholding means, and that it stays its own."""

from __future__ import annotations

import json
from importlib import resources

import pytest
import torch
from safetensors import safe_open
from torch import Tensor

from differential_diffusion.nn import AUGMENTATIONS, Conditions, SigmaMapUNet, UNetConfig

ALL = {"classes": 3, "vector": 2, "condition_channels": 2, "augmented": True}
ALONE: list[dict[str, object]] = [{name: value} for name, value in ALL.items()]


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def network(**told: object) -> SigmaMapUNet:
    config = UNetConfig(
        channels=(8, 8),
        blocks=(1, 1),
        embedding_channels=4,
        attention=(1,),
        context=True,
        **told,  # type: ignore[arg-type]
    )
    made = SigmaMapUNet(config).double().eval()
    for number, parameter in enumerate(made.parameters()):
        parameter.data = 0.15 * normal(*parameter.shape, seed=number)
    return made.requires_grad_(False)


X, LEVEL = normal(4, 3, 9, 10, seed=1), normal(4, 1, 9, 10, seed=2)
LABELS, VECTOR = torch.tensor([0, 2, 1, 2]), normal(4, 2, seed=3)
PICTURE, AUGMENTATION = normal(4, 2, 9, 10, seed=4), normal(4, AUGMENTATIONS, seed=5)
GIVEN = Conditions(LABELS, VECTOR, PICTURE, AUGMENTATION)


@pytest.mark.parametrize("level", [LEVEL, LEVEL[..., :1, :1]], ids=["map", "one level"])
def test_each_output_depends_on_its_own_conditions_alone(level: Tensor) -> None:
    told = network(**ALL)
    whole = told(X, level, GIVEN)
    for b in range(4):
        own = Conditions(*(None if t is None else t[b : b + 1] for t in GIVEN))
        alone = told(X[b : b + 1], level[b : b + 1], own)
        torch.testing.assert_close(whole[b : b + 1], alone, rtol=0, atol=1e-11)
    for name in ("labels", "vector", "picture", "augmentation"):
        changed = getattr(GIVEN, name).clone()
        changed[2] = changed[2] + 1
        other = told(X, level, GIVEN._replace(**{name: changed}))
        moved = (other - whole).abs().amax((1, 2, 3))
        assert moved[2] > 1e-4, name
        assert moved[[0, 1, 3]].max() < 1e-11, name


def test_the_class_after_the_last_is_no_class() -> None:
    told = network(classes=3)
    unknown = told(X, LEVEL, Conditions(torch.full((4,), 3)))
    torch.testing.assert_close(told(X, LEVEL), unknown, rtol=0, atol=0)
    assert (told(X, LEVEL, Conditions(LABELS)) - unknown).abs().amin((0, 1)).max() > 1e-4


def test_withheld_is_not_given() -> None:
    """`keep` withholds numbers and picture; of the class, the caller does by its number."""
    told = network(**ALL)
    keep = torch.tensor([True, False, True, False])
    some = told(X, LEVEL, GIVEN._replace(keep=keep))
    everything = told(X, LEVEL, GIVEN)
    nothing = told(X, LEVEL, GIVEN._replace(vector=None, picture=None))
    torch.testing.assert_close(some[keep], everything[keep], rtol=0, atol=1e-11)
    torch.testing.assert_close(some[~keep], nothing[~keep], rtol=0, atol=1e-11)
    assert (everything - nothing).abs().amax((1, 2, 3)).min() > 1e-3


def test_unknown_is_told_apart_from_zero() -> None:
    for name, zero in (("vector", torch.zeros(4, 2)), ("picture", torch.zeros(4, 2, 9, 10))):
        told = network(**{"vector": 2} if name == "vector" else {"condition_channels": 2})
        known = told(X, LEVEL, Conditions(**{name: zero.double()}))
        assert (known - told(X, LEVEL)).abs().max() > 1e-4


def test_no_augmentation_is_that_of_zeros() -> None:
    told = network(augmented=True)
    zeros = Conditions(augmentation=torch.zeros(4, AUGMENTATIONS, dtype=torch.float64))
    torch.testing.assert_close(told(X, LEVEL), told(X, LEVEL, zeros), rtol=0, atol=0)


def test_one_condition_serves_a_whole_batch() -> None:
    told = network(**ALL)
    one = Conditions(*(None if t is None else t[:1] for t in GIVEN))._replace(augmentation=None)
    same = Conditions(*(None if t is None else t[:1].expand(4, *t.shape[1:]) for t in one))
    torch.testing.assert_close(told(X, LEVEL, one), told(X, LEVEL, same), rtol=0, atol=1e-12)


@pytest.mark.parametrize("told", [*ALONE, ALL], ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_what_is_told_may_be_of_single_precision(
    told: dict[str, object], dtype: torch.dtype
) -> None:
    """As data come; the network computes in its own."""
    made, exact = network(**told), network(**told)
    made.to(dtype)
    given = Conditions(
        LABELS if "classes" in told else None,
        VECTOR.float() if "vector" in told else None,
        PICTURE.float() if "condition_channels" in told else None,
        AUGMENTATION.float() if "augmented" in told else None,
        torch.tensor([True, True, False, True]),
    )
    out = made(X.to(dtype), LEVEL.to(dtype), given)
    assert out.dtype == dtype
    torch.testing.assert_close(out.double(), exact(X, LEVEL, given), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("told", ALONE, ids=str)
def test_what_a_network_does_not_take_changes_nothing(told: dict[str, object]) -> None:
    made = network()
    assert torch.equal(made(X, LEVEL, GIVEN), made(X, LEVEL))
    assert len(network(**told).state_dict()) >= len(made.state_dict())


def test_the_bundled_prior_has_the_weights_that_it_always_had() -> None:
    """By name and shape: what a network may be told of has added none to it."""
    folder = resources.files("differential_diffusion") / "weights"
    described = json.loads((folder / "prior.json").read_text("utf-8"))["network"]
    made = {
        name: list(t.shape)
        for name, t in SigmaMapUNet(UNetConfig(**described)).state_dict().items()
    }
    with resources.as_file(folder / "prior.safetensors") as path, safe_open(path, "pt") as file:
        shipped = {name: file.get_slice(name).get_shape() for name in file.keys()}  # noqa: SIM118
    assert made == shipped
