"""The formulas of `wait` and `together`, and the published loop."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from differential_diffusion.core import strength_to_sigma, together, wait


def sigma(*strengths: float) -> Tensor:
    return strength_to_sigma(torch.tensor(strengths, dtype=torch.float64)).view(1, 1, 1, -1)


def test_wait_is_the_smaller_of_start_and_ladder() -> None:
    start = sigma(1.0, 0.62, 0.3, 0.05, 0.0)
    path = wait(start, None, 10)
    for i in range(11):
        level = sigma(1 - i / 10) if i < 10 else torch.zeros(1)
        torch.testing.assert_close(path.sigma(i), torch.minimum(start, level))


def test_wait_never_falls_below_the_target() -> None:
    start, target = sigma(1.0, 0.6, 0.4, 0.4), sigma(0.5, 0.2, 0.4, 0.0)
    path = wait(start, target, 10)
    for i in range(11):
        level = sigma(1 - i / 10)
        torch.testing.assert_close(
            path.sigma(i), torch.minimum(start, level).maximum(target), rtol=0, atol=1e-12
        )


def test_levels_run_from_the_highest_start_through_the_rest_of_the_ladder() -> None:
    path = wait(sigma(0.52, 0.1), None, 20)
    expected = torch.cat([sigma(0.52), *(sigma(k / 20) for k in range(9, -1, -1))], 3)
    torch.testing.assert_close(path.levels.flatten(), expected.flatten(), rtol=1e-12, atol=0)


def test_a_noisy_pixel_that_stays_does_not_lengthen_the_run() -> None:
    start, target = sigma(0.9, 0.25), sigma(0.9, 0.0)
    assert len(wait(start, target, 20)) == 5


def test_steps_in_which_nothing_moves_are_known() -> None:
    path = wait(sigma(1.0, 0.2), sigma(0.7, 0.0), 10)
    assert [path.moves(i) for i in range(10)] == [True] * 3 + [False] * 5 + [True] * 2


def test_joined_are_the_pixels_that_start_between_two_levels() -> None:
    path = wait(sigma(1.0, 0.9, 0.85, 0.8, 0.0), None, 10)
    assert path.joined(0).flatten().tolist() == [False] * 5
    assert path.joined(1).flatten().tolist() == [False, False, True, False, False]
    assert not bool(together(sigma(1.0, 0.85), None, 10).joined(1).any())


def test_together_scales_every_start_by_one_factor() -> None:
    start = sigma(1.0, 0.62, 0.3, 0.05, 0.0)
    path = together(start, None, 10)
    for i in range(11):
        u = sigma(1 - i / 10) / 20
        torch.testing.assert_close(path.sigma(i), start * u, rtol=1e-12, atol=0)


def test_together_moves_linearly_between_start_and_target() -> None:
    start, target = sigma(1.0, 0.6), sigma(0.5, 0.4)
    path = together(start, target, 10)
    u = (path.sigma(4) - target) / (start - target)
    torch.testing.assert_close(u, (sigma(0.6) / 20).expand_as(u))


def test_published_is_the_loop_of_the_paper() -> None:
    """Before step i the pixel is replaced where keep > i/N: it starts at the last such i + 1.

    Replayed with integers: keep = (M - s)/M and i/N are compared as (M - s) N > i M.
    """
    n, m = 7, 100
    ladder = [sigma(1 - i / n).item() for i in range(n + 1)]
    for s in range(1, m + 1):
        start = max(0, max((i + 1 for i in range(n) if (m - s) * n > i * m), default=0) - 1)
        path = wait(sigma(s / m), None, n, compat="published")
        assert len(path) == n - start == n - max(0, math.ceil((m - s) * n / m) - 1)
        torch.testing.assert_close(path.start.item(), ladder[start])


def test_published_start_is_never_lower_and_keeps_what_is_kept() -> None:
    start, target = sigma(0.9, 0.31, 0.0, 0.5), sigma(0.0, 0.0, 0.0, 0.5)
    path = wait(start, target, 10, compat="published")
    torch.testing.assert_close(path.start, sigma(1.0, 0.4, 0.0, 0.5))
