"""Samples of models whose denoisers are known in closed form."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from differential_diffusion.core.types import Denoiser
from differential_diffusion.engine.samples import draw_samples, interpolate, sample_grid
from differential_diffusion.errors import InputError
from differential_diffusion.models import DenoiserModel
from differential_diffusion.nn import Conditions

MEANS = torch.tensor([-0.6, 0.0, 0.5, 0.1])
"""Of three classes, and of all together."""
WIDTH = 0.1


def conditioned(conditions: Conditions) -> Denoiser:
    """E[x0 | x] of white noise about the mean of a class."""
    labels = conditions.labels
    mean = MEANS[-1:] if labels is None else MEANS[labels]

    def denoise(x: Tensor, sigma: Tensor) -> Tensor:
        share = WIDTH**2 / (WIDTH**2 + sigma**2)
        return share * x + (1 - share) * mean.view(-1, 1, 1, 1)

    return denoise


def model(**changes: Any) -> DenoiserModel:
    made: dict[str, Any] = {
        "name": "oracle",
        "denoiser": conditioned(Conditions()),
        "channels": 1,
        "stride": 1,
        "halo": None,
        "device": torch.device("cpu"),
        "classes": ("ant", "bee", "cow"),
        "size": (16, 12),
        "conditioned": conditioned,
    }
    return DenoiserModel(**made | changes)


def values(samples: Any) -> Any:
    return np.stack([sample.pixels for sample in samples]) / 127.5 - 1


def test_samples_have_the_law_of_their_class() -> None:
    made = list(draw_samples(model(), 90, labels=["cow", 0, "bee"], steps=30))
    assert [sample.label for sample in made[:4]] == ["cow", "ant", "bee", "cow"]
    assert made[0].pixels.shape == (16, 12, 1)
    for name, mean in zip(("ant", "bee", "cow"), MEANS.tolist(), strict=False):
        own = values(sample for sample in made if sample.label == name)
        assert own.mean() == pytest.approx(mean, abs=0.01)
        assert own.std() == pytest.approx(WIDTH, rel=0.05)


def test_guidance_moves_the_mean_beyond_the_class() -> None:
    """With equal deviations the guided law has the mean m_u + w (m_c - m_u)."""
    made = values(draw_samples(model(), 30, labels=["ant"], guidance_scale=1.3))
    assert made.mean() == pytest.approx(0.1 + 1.3 * (-0.6 - 0.1), abs=0.01)


def test_what_a_model_was_told_stays() -> None:
    """Also where it is told of guidance or numbers later."""
    cows = model(numbers=1).given(label="cow", guidance_scale=1.3)
    for told, scale in (
        ({}, 1.3),
        ({"vector": [0.5]}, 1.3),
        ({"guidance_scale": 1.0}, 1.0),
        ({"guidance_scale": 1.2, "vector": [0.5]}, 1.2),
    ):
        made = values(draw_samples(cows, 30, **told))
        assert made.mean() == pytest.approx(0.1 + scale * (0.5 - 0.1), abs=0.01)
    ants = values(draw_samples(cows, 30, labels=["ant"], guidance_scale=1.0))
    assert ants.mean() == pytest.approx(-0.6, abs=0.01)
    with pytest.raises(InputError, match="guidance_scale is 3 and the model 'oracle' is told noth"):
        list(draw_samples(model(), 1, guidance_scale=3))


def test_a_sample_depends_on_its_number_and_the_seed_alone() -> None:
    whole = list(draw_samples(model(), 7, labels=[0, 1], seed=3, batch_size=7))
    parts = list(draw_samples(model(), 7, labels=[0, 1], seed=3, batch_size=2))
    some = list(draw_samples(model(), 7, labels=[0, 1], seed=3, skip=lambda i: i % 3 > 0))
    assert [sample.index for sample in some] == [0, 3, 6]
    for sample in [*parts, *some]:
        same = whole[sample.index]
        assert (sample.seed, sample.label) == (same.seed, same.label)
        assert np.abs(sample.pixels.astype(int) - same.pixels).max() <= 1
    other = next(draw_samples(model(), 1, labels=[0], seed=4))
    assert np.abs(other.pixels.astype(int) - whole[0].pixels).max() > 5
    assert np.abs(whole[0].pixels.astype(int) - whole[2].pixels).max() > 5


def test_a_sketch_keeps_what_its_strength_says() -> None:
    sketch = torch.full((1, 1, 16, 12), 0.8)
    strength = torch.zeros(1, 1, 16, 12)
    strength[..., 6:] = 1
    made = values(draw_samples(model(), 20, labels=["ant"], image=sketch, strength=strength))
    assert np.abs(made[:, :, :6] - 0.8).max() < 0.5 / 127.5
    assert made[:, :, 6:].mean() == pytest.approx(-0.6, abs=0.02)


def test_a_way_between_two_seeds_has_them_as_ends() -> None:
    """With the ODE the samples are an affine function of the noise, which runs along a circle."""
    ends = [values(draw_samples(model(), 1, seed=s, solver="ddim")) for s in (3, 7)]
    way = values(interpolate(model(), 3, 7, 5, solver="ddim", batch_size=2))
    assert np.abs(way[[0, -1]] - np.concatenate(ends)).max() < 1.5 / 127.5
    centre = float(MEANS[-1])
    some = interpolate(model(), 3, 7, 5, solver="ddim", skip=lambda i: i % 3 > 0)
    assert [sample.index for sample in some] == [0, 3]
    middle = (ends[0] + ends[1] - 2 * centre) / 2**0.5 + centre
    assert np.abs(way[2] - middle).max() < 3 / 127.5


def test_a_grid_shows_every_picture_once() -> None:
    pictures = [np.full((3, 4, 1), 10 * k, np.uint8) for k in range(5)]
    grid = sample_grid(pictures, 2)
    assert grid.shape == (11, 9, 1)
    assert [int(grid[4 * (k // 2), 5 * (k % 2), 0]) for k in range(5)] == [0, 10, 20, 30, 40]
    assert (grid[8:, 5:] == 255).all()
    assert (grid[3] == 255).all()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"labels": ["be"]}, "knows no class 'be': did you mean 'bee'"),
        ({"labels": [3]}, "knows no class 3: it knows ant, bee, cow"),
        ({"solver": "hun"}, "the solver 'hun' is not known"),
        ({"steps": 0}, "steps is 0"),
        ({"batch_size": 0}, "batch_size is 0"),
        ({"size": (0, 4)}, "size is 0x4"),
        ({"strength": 1.5}, r"strength must lie in \[0, 1\]"),
        ({"image": torch.zeros(1, 1, 4, 4), "size": (4, 5)}, "image is 4x4 and size is 4x5"),
        ({"image": torch.zeros(1, 3, 4, 4)}, "the sketch has 3 channels and the model 'oracle' 1"),
    ],
)
def test_what_cannot_be_drawn_is_refused(given: dict[str, Any], message: str) -> None:
    """At once, before any is drawn."""
    with pytest.raises(InputError, match=message):
        draw_samples(model(), 2, **given)
    with pytest.raises(InputError, match="was trained without conditions"):
        draw_samples(model(conditioned=None), 2, labels=[0])
    with pytest.raises(InputError, match="knows no classes"):
        draw_samples(model(classes=()), 2, labels=[0])
    with pytest.raises(InputError, match="count is 1"):
        interpolate(model(), 0, 1, 1)
    with pytest.raises(InputError, match="there is no way from seed 3 to itself"):
        interpolate(model(), 3, 3, 5)
    with pytest.raises(InputError, match="columns is -1"):
        sample_grid([np.zeros((2, 2, 1), np.uint8)], -1)


def test_samples_that_are_no_numbers_are_told_of() -> None:
    broken = model(denoiser=lambda x, sigma: x * torch.nan)
    with pytest.raises(InputError, match="drew NaN or infinite values"):
        list(draw_samples(broken, 2, steps=2))


def test_a_picture_that_the_model_is_told_gives_the_size() -> None:
    def shown(conditions: Conditions) -> Denoiser:
        picture = conditions.picture
        return lambda x, sigma: x if picture is None else torch.where(sigma > 0, picture, x)

    told = torch.linspace(-1, 1, 30).view(1, 1, 5, 6)
    made = values(draw_samples(model(conditioned=shown, picture_channels=1), 2, picture=told))
    assert np.abs(made[..., 0] - told[0, 0].numpy()).max() < 1 / 127.5
    with pytest.raises(InputError, match="picture is 5x6 and size is 16x12"):
        draw_samples(model(conditioned=shown, picture_channels=1), 2, picture=told, size=(16, 12))


def test_each_stands_for_all_classes_in_turn() -> None:
    made = list(draw_samples(model(), 4, labels=["each"], steps=2))
    assert [sample.label for sample in made] == ["ant", "bee", "cow", "ant"]
    with pytest.raises(InputError, match="knows no classes"):
        list(draw_samples(model(classes=()), 1, labels=["each"]))
