"""What a pipeline made, put back: exact where kept, faded around, its colours matched."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from differential_diffusion.models.blend import blended, fade_weight, matched_colours


@given(
    seed=st.integers(0, 1000),
    fade_below=st.sampled_from([0.0, 0.1, 1.0]),
    border=st.integers(0, 9),
)
def test_kept_pixels_are_the_originals_and_others_lie_between(
    seed: int, fade_below: float, border: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    strength = (torch.rand(2, 1, 20, 30, generator=generator) * 2 - 1).clamp(min=0)
    weight = fade_weight(strength, fade_below, border)
    assert bool(((weight >= 0) & (weight <= 1)).all())
    assert bool((weight[strength == 0] == 0).all())
    made = torch.rand(2, 3, 20, 30, generator=generator)
    image = torch.rand(2, 3, 20, 30, generator=generator)
    out = blended(made, image, strength, fade_below, border)
    kept = (strength == 0).expand_as(out)
    assert torch.equal(out[kept], image[kept])


def test_the_border_is_linear_in_the_distance_and_narrows_with_strength() -> None:
    for value, expected in (
        (1.0, [0, 1, 1, 1, 1, 1, 1]),
        (0.5, [0, 1 / 3, 2 / 3, 1, 1, 1, 1]),
        (0.25, [0, 0.25, 0.5, 0.75, 1, 1, 1]),
    ):
        strength = torch.zeros(1, 1, 8, 30)
        strength[..., 10:] = value
        assert torch.equal(fade_weight(strength, 0.1, 0), (strength > 0).float())
        soft = fade_weight(strength, 0.1, 4)[0, 0, 4]
        torch.testing.assert_close(soft[9:16], torch.tensor(expected, dtype=torch.float32))


def test_what_may_barely_change_fades_unless_nothing_is_kept() -> None:
    small = torch.full((1, 1, 8, 8), 0.05)
    assert torch.equal(fade_weight(small, 0.1, 4), torch.ones_like(small))
    small[..., 0, 0] = 0
    weight = fade_weight(small, 0.1, 0)
    torch.testing.assert_close(weight[..., 1:], torch.full((1, 1, 8, 7), 0.5))


def test_nothing_of_what_filled_a_hole_shows_at_its_edge() -> None:
    image = torch.zeros(1, 3, 40, 40)
    image[..., 15:25, 15:25] = -1  # what is to disappear
    hole = (image[:, :1] < 0).float()
    out = blended(torch.zeros_like(image), image, hole, 0.1, 4)
    assert torch.equal(out, torch.zeros_like(image))


def test_the_result_has_the_colours_of_what_is_kept() -> None:
    image = torch.rand(1, 3, 64, 96, generator=torch.Generator().manual_seed(0))
    strength = torch.zeros(1, 1, 64, 96)
    strength[..., 20:40, 30:60] = 1
    torch.testing.assert_close(blended(image + 0.2, image, strength, 0.1, 4), image)


def test_a_shift_of_colour_is_taken_back_by_what_is_kept_around() -> None:
    image = torch.rand(1, 3, 64, 96, generator=torch.Generator().manual_seed(0))
    strength = torch.zeros(1, 1, 64, 96)
    strength[..., 20:40, 30:60] = 1
    shift = torch.tensor([0.1, -0.05, 0.02]).view(1, 3, 1, 1)
    torch.testing.assert_close(matched_colours(image + shift, image, strength), image)
    everywhere = torch.ones(1, 1, 64, 96)
    moved = image + shift
    assert torch.equal(matched_colours(moved, image, everywhere), moved)


def test_what_is_far_from_the_edit_has_no_say() -> None:
    image = torch.zeros(1, 3, 100, 200)
    made = image.clone()
    made[..., 100:] = 0.5  # the autoencoder errs on the far side
    strength = torch.zeros(1, 1, 100, 200)
    strength[..., 40:60, 20:40] = 1
    assert torch.equal(matched_colours(made, image, strength)[..., :100], image[..., :100])


def test_a_constant_map_is_the_pipelines_own_picture() -> None:
    made = torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    image = torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    assert torch.equal(blended(made, image, torch.full((1, 1, 16, 16), 0.6), 0.1, 4), made)
