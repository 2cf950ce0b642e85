"""Steps as whole numbers: the formulas of image-to-image tools and of the published loop."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from differential_diffusion.models.latent_plan import LatentPlan, WholeSteps, cell_maximum


def grid(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float32).view(1, 1, 1, -1)


@pytest.mark.parametrize("steps", [1, 2, 7, 20, 50])
@pytest.mark.parametrize("largest", [0, 0.25, 0.5, 0.75, 1])
def test_the_number_of_steps_is_that_of_the_design(largest: float, steps: int) -> None:
    plan = LatentPlan.of(grid(0, largest / 2, largest), steps)
    assert plan.calls == (max(1, math.floor(largest * steps + 1e-6)) if largest else 0)
    published = LatentPlan.of(grid(0, largest / 2, largest), steps, published=True)
    expected = steps - max(0, math.ceil((1 - largest) * steps) - 1) if largest else 0
    assert published.calls == expected


@given(steps=st.integers(1, 400), data=st.data())
def test_every_way_of_cutting_to_whole_steps_gives_the_same(
    steps: int, data: st.DataObject
) -> None:
    calls = data.draw(st.integers(1, steps))
    strength = WholeSteps(calls / steps)
    assert 0 < strength <= 1
    assert int(steps * strength) == calls
    assert int(strength * steps) == calls
    assert int(max(steps - min(steps * strength, steps), 0)) == steps - calls


def test_a_plain_float_would_not() -> None:
    assert int(100 * 0.29) == 28
    assert int(100 * WholeSteps(0.29)) == 29


@given(
    strength=st.lists(st.floats(0, 1, width=32), min_size=1, max_size=6),
    steps=st.integers(1, 60),
)
def test_a_cell_moves_in_as_many_steps_as_it_would_alone(strength: list[float], steps: int) -> None:
    cells = grid(*strength)
    plan = LatentPlan.of(cells, steps)
    for index, value in enumerate(strength):
        alone = LatentPlan.of(cells[..., index : index + 1], steps)
        # What a step made of a cell lasts unless the cell is held before the next one.
        moved = sum(
            not bool(plan.held(step + 1)[0, 0, 0, index]) for step in range(plan.begin, steps)
        )
        assert moved == alone.calls == steps - int(plan.first[0, 0, 0, index])
        assert bool(plan.pinned[0, 0, 0, index]) == (value == 0)


@given(strength=st.floats(0, 1, width=32), other=st.floats(0, 1, width=32))
def test_more_strength_is_never_fewer_steps(strength: float, other: float) -> None:
    for published in (False, True):
        low, high = sorted((strength, other))
        first = LatentPlan.of(grid(low, high), 17, published=published).first[0, 0, 0]
        assert first[0] >= first[1]


def test_warm_up_begins_earlier_and_holds_everything_meanwhile() -> None:
    plan = LatentPlan.of(grid(0.3, 0.1), 10, warmup_steps=2)
    assert (plan.begin, plan.calls) == (5, 5)
    assert plan.held(6).all()
    assert not plan.held(8)[..., 0].any()
    assert LatentPlan.of(grid(0.9), 10, warmup_steps=5).begin == 0
    assert LatentPlan.of(grid(0.3), 10, skip_idle=False).begin == 0


def test_a_thin_stroke_keeps_its_strength() -> None:
    strength = torch.zeros(1, 1, 16, 24)
    strength[0, 0, 9, 13] = 0.7
    cells = cell_maximum(strength, 2, 3)
    assert cells[0, 0, 1, 1] == torch.tensor(0.7)
    assert int((cells > 0).sum()) == 1
    assert cell_maximum(torch.full((1, 1, 1, 1), 0.2), 2, 3).shape == (1, 1, 2, 3)


@pytest.mark.parametrize("steps", [3, 7, 10, 20, 29, 50, 100])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_whole_steps_are_whole_whatever_the_last_bit(steps: int, dtype: torch.dtype) -> None:
    """k/N of N steps are k, though 0.29 in single precision times 100 is less than 29."""
    strength = (torch.arange(1, steps + 1, dtype=dtype) / steps).view(1, 1, 1, -1)
    first = LatentPlan.of(strength, steps).first
    assert first.flatten().tolist() == [steps - k for k in range(1, steps + 1)]
