"""Whether an area that a model cannot explain is damage or part of the picture.

Damage was put onto the picture: it shifts what it covers by much the same everywhere, in all
channels alike, and is as clear in front of a plain background as it is in front of detail. What
belongs to the picture is a colour of its own and varies.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import special

from ._unexplained import Array, Labels, Mask, Suspects, _blur, _spread

__all__ = ["FEATURES", "hidden", "needed_odds", "offsets", "opaque", "suspect_features"]

FEATURES = (
    "offset", "evenness", "offset over texture", "colour of the mean", "colour of the pixels",
    "drop at the edge", "area", "length", "width", "perimeter", "fullness",
)  # fmt: skip
"""Names of what `suspect_features` gives; all but the drop are logarithms."""

# Fitted by logistic regression to areas found in 45 training photographs: `FEATURES`, then how
# far the area stands out, the unrest around it, and a constant; 15 photographs as they are, 30
# with damage of `data.damage.add_hidden_damage`. Grey is judged without the colours.
# fmt: off
_HIDDEN = {
    3: (-1.786, 1.753, -0.917, -0.752, -0.372, -0.347, 0.692, 0.388, 1.747, 0.727, -1.491,
        3.411, 3.312, -8.217),
    1: (-0.987, 1.924, -0.825, 0, 0, -0.246, 0.624, 0.303, 1.725, 1.144, -1.564,
        3.322, 2.944, -9.29),
}
# Likewise, to what `find_damage` takes for scratches and dust: 23 photographs as they are, 22 with
# those of `add_scratches` and `add_dust`; each area weighs as much as the harm of a mistake.
_OPAQUE = {
    3: (0.295, -0.739, 2.31, 0.493, 1.16, -2.154, -0.046, -0.505, 0.828, 0.87, 1.413, -1.554),
    1: (-1.575, -0.592, 2.592, 0, 0, -1.874, -0.009, -0.414, 0.847, 0.81, 1.58, 1.322),
}
# fmt: on
_DOUBTFUL = -2.0
_USUAL, _MUCH = 1e-2, 3e-2  # shares of doubtful areas in photographs
_SURE = 0.5
_TOUCHING, _APART = 2.0, -1.0

# Chosen on 120 training photographs, as they are and with damage.
_ALONE, _MANY = 3.0, -0.5  # odds that an area must have in a sound picture, and in a scratched one
_FALL = 2.0  # of the odds needed, for a rise of the share of damage by e
_USUAL_AREAS, _SOUND_WEIGHT, _ROUNDS = 0.3, 0.1, 30


def hidden(
    areas: Suspects, image: Array, filled: Array, z: Array, beside: Mask | None = None
) -> Mask:
    """Which areas, (count,), are damage through which the picture shows.

    The more of the picture is doubtful, the stricter: leaves have everything between a twig and a
    scratch. Where damage was found before, what lies beside it is likelier damage, and what lies
    apart less likely, as it was looked at before.

    Args:
        areas: suspected.
        image: (H,W,C) in [-1,1], C = 1 or 3.
        filled: likewise, the areas filled from what is around.
        z: (levels,H,W), of `standard_residuals`.
        beside: (H,W), damage that was found before.
    """
    labels, count = areas.labels, areas.count
    highest = np.abs(z).max(0)
    ring = _ring(labels)
    unrest = _mean(highest, ring, count) + 0.2
    prominence = np.log(_mean(highest, labels, count) / unrest)
    features = suspect_features(areas, image, filled)
    features = np.concatenate([features, np.stack([prominence, np.log(unrest)], 1)], 1)
    odds = _odds(features, _HIDDEN[image.shape[-1]])
    doubtful = (odds > _DOUBTFUL) & (odds < 0)
    share = np.bincount(labels.ravel(), minlength=count + 1)[1:][doubtful].sum() / labels.size
    if beside is not None:
        touching = _mean(beside.astype(np.float32), areas.grown(), count) > 0
        odds += np.where(touching, _TOUCHING, _APART)
    return np.asarray(odds > _SURE + np.log1p(share / _USUAL) + share / _MUCH)


def opaque(found: list[Suspects], image: Array, filled: Array) -> list[Suspects]:
    """Those of the areas that look like scratches and dust which are damage; see `hidden`.

    How surely an area must be follows from all that was found, see `needed_odds`.
    """
    weights = _OPAQUE[image.shape[-1]]
    odds = [_odds(suspect_features(areas, image, filled), weights) for areas in found]
    needed = needed_odds(np.concatenate([*odds, []]))
    return [areas.chosen(own > needed) for areas, own in zip(found, odds, strict=True)]


def needed_odds(odds: NDArray[np.float64]) -> float:
    """The odds to be damage from which on an area of a picture is taken for it.

    Damage seldom comes alone: where much of what was found is surely damage the rest is likelier
    to be, and where nothing surely is, blossoms and glints may look like it. So the odds that are
    needed fall with the expected number of damaged areas n, which itself depends on them:

        needed = 3 - 2 ln((n + 0.3)/(1 + 0.1 (all - n))),    n = Σ sigmoid(odds - needed)

    and lie between -0.5 and 3.

    Args:
        odds: of all areas of the picture, (count,).
    """
    needed = _ALONE
    for _ in range(_ROUNDS):
        damaged = special.expit(odds - needed).sum()
        share = (damaged + _USUAL_AREAS) / (1 + _SOUND_WEIGHT * (odds.size - damaged))
        needed = float(np.clip(_ALONE - _FALL * np.log(share), _MANY, _ALONE))
    return needed


def _odds(features: NDArray[np.float64], weights: tuple[float, ...]) -> NDArray[np.float64]:
    return np.asarray(features @ np.array(weights[:-1]) + weights[-1])


def offsets(areas: Suspects, image: Array, filled: Array) -> NDArray[np.float64]:
    """By how many 8-bit levels each area, (count,), differs from its filling."""
    shift = areas.sign * (image - filled).mean(-1) * 127.5
    return _mean(shift, areas.labels, areas.count)


def suspect_features(areas: Suspects, image: Array, filled: Array) -> NDArray[np.float64]:
    """What tells damage from the picture, (count, 11), in the order of `FEATURES`."""
    labels, count = areas.labels, areas.count
    error = (image - filled) * np.float32(127.5)
    shift = areas.sign * error.mean(-1)
    size = np.bincount(labels[labels > 0], minlength=count + 1)[1:].astype(np.float64)
    offset = _mean(shift, labels, count)
    spread = np.sqrt(np.maximum(_mean(shift * shift, labels, count) - offset**2, 0)) + 0.5
    own = np.stack([_mean(channel, labels, count) for channel in np.moveaxis(error, -1, 0)])
    tinges = _mean(error.std(-1), labels, count)
    luma = np.ascontiguousarray(image.mean(-1) * np.float32(127.5))
    fine = luma - _blur(luma, 2.0)
    texture = np.sqrt(_mean(fine * fine, _ring(labels), count)) + 0.5
    perimeter, drop = _edge(labels, count, areas.sign * luma)
    length, across = _extent(labels, count)
    above = np.maximum(offset, 1)
    return np.stack(
        [
            np.log(above),
            np.log(above / spread),
            np.log(above / texture),
            np.log((own.std(0) + 0.5) / above),
            np.log((tinges + 0.5) / above),
            np.clip(drop / above, -0.5, 2),
            np.log(size),
            np.log(length),
            np.log(size / length),
            np.log(perimeter / np.sqrt(size)),
            np.log(across * length / size),
        ],
        axis=1,
    )


def _ring(labels: Labels) -> Labels:
    """Labels of the pixels that lie three to five from an area."""
    return np.where(_spread(labels, 5) == 0, _spread(labels, 11), 0)


def _mean(values: NDArray[np.floating], labels: Labels, count: int) -> NDArray[np.float64]:
    """Mean of the values in each area, (count,); 0 for an empty one."""
    inside = labels > 0
    ids = labels[inside]
    total = np.bincount(ids, values[inside], count + 1)[1:]
    return np.asarray(total / np.maximum(np.bincount(ids, minlength=count + 1)[1:], 1))


def _edge(
    labels: Labels, count: int, values: Array
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Length of each area's border in pixel edges, and the mean fall of the values across it."""
    pairs, falls = np.zeros(count + 1), np.zeros(count + 1)
    for turned, plane in ((labels, values), (labels.T, values.T)):
        for inner, outer in ((slice(None, -1), slice(1, None)), (slice(1, None), slice(None, -1))):
            edge = (turned[inner] > 0) & (turned[outer] == 0)
            ids = turned[inner][edge]
            pairs += np.bincount(ids, minlength=count + 1)
            falls += np.bincount(ids, plane[inner][edge] - plane[outer][edge], count + 1)
    return np.maximum(pairs[1:], 1), falls[1:] / np.maximum(pairs[1:], 1)


def _extent(labels: Labels, count: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Length and breadth of the rectangle that has each area's second moments."""
    rows, columns = np.nonzero(labels)
    ids = labels[rows, columns]
    size = np.maximum(np.bincount(ids, minlength=count + 1), 1)

    def moment(values: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(np.bincount(ids, values, count + 1) / size)

    y, x = rows.astype(np.float64), columns.astype(np.float64)
    y -= moment(y)[ids]
    x -= moment(x)[ids]
    yy, xx, xy = moment(y * y), moment(x * x), moment(x * y)
    turned = np.hypot(yy - xx, 2 * xy)
    sides = (np.sqrt(12 * ((yy + xx + s * turned) / 2 + 1 / 12)) for s in (1, -1))
    length, breadth = (side[1:] for side in sides)
    return length, breadth
