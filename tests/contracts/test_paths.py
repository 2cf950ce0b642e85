"""One suite over PATHS: what every path from start to target promises."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from differential_diffusion.core import PATHS, ladder, strength_to_sigma
from differential_diffusion.core.noise import Window
from differential_diffusion.errors import InputError


@st.composite
def maps(draw: st.DrawFn) -> tuple[Tensor, Tensor]:
    """Start and target maps, some pixels kept, some at the ends of the scale."""
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    dtype = draw(st.sampled_from([torch.float32, torch.float64]))
    shape = (draw(st.integers(1, 3)), 1, draw(st.integers(1, 6)), draw(st.integers(1, 6)))
    ceiling = draw(st.sampled_from([0.0, 0.03, 0.5, 1.0]))
    strength = ceiling * torch.rand(shape, generator=generator, dtype=dtype)
    start = strength_to_sigma(strength)
    share = torch.rand(shape, generator=generator, dtype=dtype)
    share = torch.where(share < 0.3, 0.0, torch.where(share > 0.8, 1.0, share))
    return start, start * share * draw(st.sampled_from([0.0, 1.0]))


@given(
    maps=maps(), steps=st.integers(1, 30), compat=st.sampled_from(["image-to-image", "published"])
)
@pytest.mark.parametrize("name", PATHS)
def test_leads_from_start_to_target_without_rising(
    name: str, maps: tuple[Tensor, Tensor], steps: int, compat: str
) -> None:
    start, target = maps
    path = PATHS[name](start, target, steps, compat=compat)
    sigmas = [path.sigma(i) for i in range(len(path) + 1)]
    assert torch.equal(sigmas[0], path.start)
    assert torch.equal(sigmas[-1], target)
    for sigma, following in pairwise(sigmas):
        assert bool((following <= sigma).all())
        assert bool((following >= target).all())
        assert bool(torch.equal(sigma[start == target], start[start == target]))
    for pair, expected in zip(path, pairwise(sigmas), strict=True):
        assert all(map(torch.equal, pair, expected))
    if compat == "image-to-image":
        assert torch.equal(path.start, start)
    else:
        assert bool((path.start >= start).all())


@given(
    strength=st.floats(0, 1), steps=st.integers(1, 60), others=st.lists(st.floats(0, 1), max_size=3)
)
@pytest.mark.parametrize("name", PATHS)
def test_number_of_steps(name: str, strength: float, steps: int, others: list[float]) -> None:
    """max(1, floor(mN + 1e-6)) for the largest strength m > 0, and none for m = 0."""
    strengths = torch.tensor([strength, *others], dtype=torch.float64)
    m = strengths.max().item()
    product = m * steps
    if abs(product - round(product)) < 1e-4 and product != round(product):
        return  # levels are compared to a millionth, in σ
    path = PATHS[name](strength_to_sigma(strengths).view(1, 1, 1, -1), None, steps)
    assert len(path) == (max(1, math.floor(product + 1e-6)) if m > 0 else 0)
    assert all(path.moves(i) for i in range(len(path)))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("steps", [3, 10, 20, 37, 50, 100, 1000])
@pytest.mark.parametrize("name", PATHS)
def test_number_of_steps_at_every_level_of_the_ladder(
    name: str, steps: int, dtype: torch.dtype
) -> None:
    """int(N · (k/N)) falls short in floats; the count must not, in either precision."""
    for k in range(1, steps + 1, max(1, steps // 50)):
        start = strength_to_sigma(torch.full((1, 1, 1, 1), k / steps, dtype=dtype))
        assert len(PATHS[name](start, None, steps)) == k
        published = PATHS[name](start, None, steps, compat="published")
        # N - max(0, ceil((1-m)N) - 1) with (1-m)N = N - k exactly.
        assert len(published) == steps - max(0, steps - k - 1)


@given(maps=maps(), steps=st.integers(1, 30))
@pytest.mark.parametrize("name", PATHS)
def test_crops_and_single_images_are_parts_of_the_whole(
    name: str, maps: tuple[Tensor, Tensor], steps: int
) -> None:
    start, target = maps
    path = PATHS[name](start, target, steps)
    height, width = start.shape[2:]
    window = Window(height // 3, width // 2, height, width)
    part = path.crop(window)
    assert len(part) == len(path)
    for i in range(len(path) + 1):
        whole = path.sigma(i)[:, :, window.top :, window.left :]
        assert torch.equal(part.sigma(i), whole)
    for b in range(len(start)):
        alone = PATHS[name](start[b : b + 1], target[b : b + 1], steps)
        late = len(path) - len(alone)
        for i in range(len(alone) + 1):
            assert torch.equal(alone.sigma(i), path.sigma(late + i)[b : b + 1])
        assert not any(bool((path.sigma(i)[b] != start[b]).any()) for i in range(late + 1))


@pytest.mark.parametrize("name", PATHS)
def test_maps_broadcast(name: str) -> None:
    start = torch.tensor([20.0, 0.5, 0.0]).view(3, 1, 1, 1)
    path = PATHS[name](start, torch.zeros(1, 1, 4, 5), 6)
    assert path.sigma(2).shape == (3, 1, 4, 5)
    assert path.crop(Window(1, 2, 3, 4)).sigma(2).shape == (3, 1, 2, 2)


@pytest.mark.parametrize("name", PATHS)
@pytest.mark.parametrize(
    ("start", "target", "match"),
    [
        (torch.full((1, 1, 2, 2), float("nan")), None, "start must be finite"),
        (torch.full((1, 1, 2, 2), float("inf")), None, "start must be finite"),
        (torch.full((1, 1, 2, 2), -0.1), None, "start must be finite and 0 or more"),
        (torch.ones(1, 1, 2, 2), torch.full((1, 1, 2, 2), -1.0), "target must be finite"),
        (torch.ones(1, 1, 2, 2), torch.full((1, 1, 1, 1), 1.1), "target lies above start"),
        (torch.ones(1, 1, 2, 2), torch.zeros(1, 1, 3, 2), "do not fit"),
        (torch.ones(2, 1, 2, 2), torch.zeros(3, 1, 2, 2), "do not fit"),
        (torch.ones(2, 2), None, r"start must have the shape \(B,1,H,W\)"),
        (torch.ones(1, 3, 2, 2), None, r"start must have the shape \(B,1,H,W\)"),
        (torch.ones(1, 1, 0, 2), None, r"start must have the shape \(B,1,H,W\)"),
        (torch.ones(1, 1, 2, 2, dtype=torch.int64), None, "floating-point"),
    ],
)
def test_bad_maps_are_refused_in_one_sentence(
    name: str, start: Tensor, target: Tensor | None, match: str
) -> None:
    with pytest.raises(InputError, match=match) as error:
        PATHS[name](start, target, 10)
    assert str(error.value).endswith(".")


@pytest.mark.parametrize("name", PATHS)
@pytest.mark.parametrize(
    "steps",
    [
        torch.tensor([1.0]),
        torch.tensor([[2.0, 1.0]]),
        torch.tensor([1.0, 2.0]),
        torch.tensor([1.0, 1.0, 0.0]),
        torch.tensor([1.0, -1.0]),
        torch.tensor([float("inf"), 0.0]),
        torch.tensor([2, 1, 0]),
    ],
)
def test_bad_ladders_are_refused(name: str, steps: Tensor) -> None:
    with pytest.raises(InputError, match="the ladder must be"):
        PATHS[name](torch.ones(1, 1, 1, 1), None, steps)


@pytest.mark.parametrize("name", PATHS)
def test_other_bad_arguments_are_refused(name: str) -> None:
    start = torch.ones(1, 1, 1, 1)
    with pytest.raises(InputError, match="steps must be a whole number"):
        PATHS[name](start, None, 0)
    with pytest.raises(InputError, match="compat must be"):
        PATHS[name](start, None, 5, compat="exact")
    with pytest.raises(InputError, match="sigma_min < sigma_max"):
        PATHS[name](start, None, 5, sigma_min=30.0)
    with pytest.raises(IndexError):
        PATHS[name](start, None, 5).sigma(99)


@pytest.mark.parametrize("name", PATHS)
def test_a_ladder_that_ends_above_zero_leaves_noise(name: str) -> None:
    start = torch.tensor([1.0, 0.3, 0.005, 0.0], dtype=torch.float64).view(1, 1, 2, 2)
    path = PATHS[name](start, None, ladder.karras(8, 0.01, 1.0, final_zero=False))
    end = path.sigma(len(path))
    assert len(path) == 8
    assert bool((end[start > 0] > 0).all())
    assert end.max() == pytest.approx(0.01)


@pytest.mark.parametrize("name", PATHS)
def test_images_below_the_end_of_the_ladder_stay(name: str) -> None:
    """Alone, and in a batch with one that moves."""
    sigmas = ladder.karras(8, 0.01, 1.0, final_zero=False)
    low = torch.tensor([0.009, 0.002], dtype=torch.float64).view(1, 1, 1, 2)
    alone = PATHS[name](low, None, sigmas)
    assert len(alone) == 0
    assert torch.equal(alone.sigma(0), low)
    batch = PATHS[name](torch.cat([low, 50 * low]), None, sigmas)
    assert len(batch) > 0
    for i in range(len(batch) + 1):
        assert torch.equal(batch.sigma(i)[:1], low)
