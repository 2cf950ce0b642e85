"""LPIPS where it cannot be imported, and how it is called where it can: with a scripted stand-in.

Its weights need the network, so what the real one says is not tested here.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from differential_diffusion.errors import InputError, MissingExtraError
from differential_diffusion.evaluation import MEASURES, lpips_change, lpips_distance, report


class Scripted(nn.Module):
    """Stands for `lpips.LPIPS`: records how it was made, and squares differences."""

    made: dict[str, Any]

    def __init__(self, **options: Any) -> None:
        super().__init__()
        type(self).made = options
        self.weight = nn.Parameter(torch.ones(()))

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        assert a.shape[1] == 3
        assert not self.training
        square = (a - b).square().mean(1, keepdim=True)
        return self.weight * (square if self.made["spatial"] else square.mean((2, 3), keepdim=True))


@pytest.fixture
def lpips(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    module = ModuleType("lpips")
    module.LPIPS = Scripted  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "lpips", module)
    return module


def test_without_the_package_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "lpips", None)
    for make in (lpips_change, lpips_distance, MEASURES["lpips"]):
        with pytest.raises(MissingExtraError, match=r"differential-diffusion\[evaluation\]"):
            make()


@pytest.mark.usefixtures("lpips")
def test_it_measures_in_space_without_gradients() -> None:
    measure = lpips_change("vgg")
    assert Scripted.made == {"net": "vgg", "spatial": True, "verbose": False}
    a, b = (torch.rand(2, 3, 32, 40) * 2 - 1 for _ in range(2))
    change = measure(a, b)
    assert change.shape == (2, 1, 32, 40)
    assert not change.requires_grad
    torch.testing.assert_close(change, (a - b).square().mean(1, keepdim=True))
    grey = measure(a[:, :1], b[:, :1])
    torch.testing.assert_close(grey, (a - b)[:, :1].square())
    made = report(a, b, torch.rand(1, 1, 32, 40), measure=measure)
    torch.testing.assert_close(made.change, change.mean(0, keepdim=True))


@pytest.mark.usefixtures("lpips")
def test_the_distance_of_whole_pictures_is_a_number_each() -> None:
    measure = lpips_distance()
    assert Scripted.made == {"net": "alex", "spatial": False, "verbose": False}
    a, b = (torch.rand(3, 3, 32, 40) * 2 - 1 for _ in range(2))
    torch.testing.assert_close(measure(a, b), (a - b).square().mean((1, 2, 3)))


@pytest.mark.usefixtures("lpips")
def test_what_it_cannot_measure_is_refused() -> None:
    measure = lpips_change()
    for a, b, words in [
        (torch.zeros(1, 3, 31, 64), torch.zeros(1, 3, 31, 64), "at least 32x32"),
        (torch.zeros(1, 3, 40, 40), torch.zeros(1, 3, 40, 41), "must both have the shape"),
        (torch.zeros(1, 4, 40, 40), torch.zeros(1, 4, 40, 40), "must both have the shape"),
    ]:
        with pytest.raises(InputError, match=words):
            measure(a, b)
    with pytest.raises(InputError, match="'resnet' is no network of LPIPS"):
        lpips_change("resnet")


def test_weights_that_cannot_be_fetched_are_told_of(lpips: ModuleType) -> None:
    def offline(**options: Any) -> None:
        raise OSError("no route to host")

    lpips.LPIPS = offline  # type: ignore[attr-defined]
    with pytest.raises(InputError, match="cannot fetch the weights of 'alex'"):
        lpips_change()
