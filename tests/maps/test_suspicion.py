"""Which areas are damage: the odds needed follow from how much of it there is."""

from __future__ import annotations

import numpy as np

from differential_diffusion.maps._suspicion import needed_odds


def kept(*odds: float) -> list[float]:
    """Those of the odds that suffice."""
    return [o for o in odds if o > needed_odds(np.array(odds))]


def test_alone_an_area_must_be_sure_damage() -> None:
    assert kept(2.0) == []
    assert kept(6.0) == [6.0]


def test_beside_sure_damage_doubtful_areas_are_damage_too() -> None:
    sure = [5.0] * 20
    assert kept(0.0, -3.0, *sure) == [0.0, *sure]
    assert kept(-0.6, *sure) == sure  # never the improbable


def test_among_many_sound_areas_more_is_needed() -> None:
    some = [4.0] * 6
    assert kept(1.0, *some) == [1.0, *some]
    assert kept(1.0, *some, *[-6.0] * 200) == some


def test_the_odds_agree_with_the_number_that_they_expect() -> None:
    odds = np.random.default_rng(0).normal(1, 3, 40)
    needed = needed_odds(odds)
    damaged = (1 / (1 + np.exp(needed - odds))).sum()
    expected = 3 - 2 * np.log((damaged + 0.3) / (1 + 0.1 * (40 - damaged)))
    np.testing.assert_allclose(needed, np.clip(expected, -0.5, 3), atol=1e-6)
