"""What every extractor promises, of the registry and of a user's own."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import torch

from differential_diffusion.errors import InputError
from differential_diffusion.evaluation import EXTRACTORS, Extractor, load_extractor

from .. import extractor_models

NAMES = [*EXTRACTORS, "own"]


@pytest.fixture(params=NAMES)
def name(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    made = extractor_models
    names = {
        "inception": lambda: f"inception:{made.fake_inception(tmp_path, monkeypatch)}",
        "transformers": lambda: f"transformers:{made.vision_model(tmp_path / 'vit')}",
        "own": lambda: f"{made.own_module(tmp_path, monkeypatch)}:brightness",
    }
    return names[request.param]() if request.param in names else request.param


@pytest.fixture
def extractor(name: str) -> Extractor:
    return load_extractor(name, "cpu")


def pictures(count: int, extractor: Extractor, channels: int = 3) -> torch.Tensor:
    side = extractor.size or 32
    rng = torch.Generator().manual_seed(1)
    return torch.rand(count, channels, side, side, generator=rng) * 2 - 1


def test_features_are_a_row_for_each_picture_alone_or_in_a_batch(extractor: Extractor) -> None:
    x = pictures(3, extractor)
    together = extractor(x)
    alone = np.concatenate([extractor(one[None]) for one in x])
    assert together.dtype == np.float32
    np.testing.assert_allclose(together, alone, atol=2e-5)
    assert np.abs(together[0] - together[1]).max() > 1e-4, "pictures must tell apart"


def test_loading_again_gives_the_same_hash_and_features(name: str, extractor: Extractor) -> None:
    again = load_extractor(name, "cpu")
    assert (again.name, again.hash, again.resize) == (
        extractor.name, extractor.hash, extractor.resize,
    )  # fmt: skip
    assert re.fullmatch(r"[0-9a-f]{16}", again.hash)
    x = pictures(2, extractor)
    np.testing.assert_array_equal(again(x), extractor(x))


def test_pictures_are_left_as_they_are(extractor: Extractor) -> None:
    x = pictures(2, extractor)
    before = x.clone()
    extractor(x)
    assert torch.equal(x, before)


def test_grey_counts_as_colour_of_equal_channels(extractor: Extractor) -> None:
    if extractor.name in ("pixels", "mine:brightness"):
        pytest.skip("takes channels as they are")
    grey = pictures(2, extractor, 1)
    np.testing.assert_array_equal(extractor(grey), extractor(grey.expand(-1, 3, -1, -1)))
    with pytest.raises(InputError, match="1 or 3 channels, not 5"):
        extractor(pictures(2, extractor, 5))


def test_only_inception_is_called_fid(extractor: Extractor) -> None:
    assert extractor.is_inception == (extractor.name == "inception")


def test_what_is_no_batch_is_refused(extractor: Extractor) -> None:
    for wrong in (torch.zeros(3, 8, 8), torch.zeros(0, 3, 8, 8)):
        with pytest.raises(InputError, match=r"give \(B,C,H,W\)"):
            extractor(wrong)
