"""Which areas are damage: the odds needed follow from how much of it there is."""

from __future__ import annotations

import numpy as np
import pytest

from differential_diffusion.maps import _suspicion
from differential_diffusion.maps._unexplained import Suspects


def kept(monkeypatch: pytest.MonkeyPatch, *odds: list[float]) -> list[list[float]]:
    """Which of the odds stand, for areas of one pixel each."""
    left = iter([np.array(own) for own in odds])
    monkeypatch.setattr(_suspicion, "suspect_features", lambda *_: None)
    monkeypatch.setattr(_suspicion, "_odds", lambda *_: next(left))
    found = [Suspects(np.arange(len(own) + 1, dtype=np.int32)[None], len(own), 1) for own in odds]
    image = np.zeros((1, 1, 3), np.float32)
    made = _suspicion.opaque(found, image, image)
    chosen = [each.labels[0, 1:] > 0 for each in made]
    pairs = zip(odds, chosen, strict=True)
    return [[o for o, c in zip(own, at, strict=True) if c] for own, at in pairs]


def test_alone_an_area_must_be_sure_damage(monkeypatch: pytest.MonkeyPatch) -> None:
    assert kept(monkeypatch, [2.0]) == [[]]
    assert kept(monkeypatch, [6.0]) == [[6.0]]


def test_beside_sure_damage_doubtful_areas_are_damage_too(monkeypatch: pytest.MonkeyPatch) -> None:
    sure = [5.0] * 20
    assert kept(monkeypatch, [0.0, -3.0], sure) == [[0.0], sure]  # of either sign
    assert kept(monkeypatch, sure, [-0.6]) == [sure, []]  # never the improbable


def test_among_many_sound_areas_more_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    some = [4.0] * 6
    assert kept(monkeypatch, [1.0, *some]) == [[1.0, *some]]
    assert kept(monkeypatch, [1.0, *some, *[-6.0] * 200]) == [some]


def test_nothing_found_is_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    assert kept(monkeypatch) == []
