"""One suite over LADDERS: what every ladder promises."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch

from differential_diffusion.core import LADDERS, wait
from differential_diffusion.errors import InputError


@pytest.mark.parametrize("name", LADDERS)
@pytest.mark.parametrize("n", [1, 2, 3, 7, 20, 50, 1000])
def test_falls_to_zero_in_n_steps(name: str, n: int) -> None:
    sigmas = LADDERS[name](n)
    assert sigmas.dtype == torch.float64
    assert sigmas.shape == (n + 1,)
    assert bool(sigmas.isfinite().all())
    assert bool((sigmas[1:] < sigmas[:-1]).all())
    assert sigmas[-1] == 0


@pytest.mark.parametrize("name", LADDERS)
@pytest.mark.parametrize("n", [1, 2, 3, 7, 50])
def test_without_the_final_zero_ends_at_the_smallest_level(name: str, n: int) -> None:
    sigmas = LADDERS[name](n, final_zero=False)
    assert sigmas.shape == (n + 1,)
    assert bool((sigmas[1:] < sigmas[:-1]).all())
    assert 0 < sigmas[-1] < 0.05


@pytest.mark.parametrize("name", LADDERS)
def test_begins_at_the_same_level_whatever_its_length(name: str) -> None:
    tops = [LADDERS[name](n)[0].item() for n in (1, 5, 50)]
    assert all(abs(b / a - 1) < 1e-12 for a, b in pairwise(tops))


@pytest.mark.parametrize("name", LADDERS)
@pytest.mark.parametrize("n", [0, -1, 2.5, True, "20"])
def test_bad_lengths_are_refused_in_one_sentence(name: str, n: object) -> None:
    with pytest.raises(InputError, match=r"^steps must be .*\.$"):
        LADDERS[name](n)


@pytest.mark.parametrize("name", LADDERS)
@pytest.mark.parametrize("final_zero", [True, False])
def test_paths_walk_it(name: str, final_zero: bool) -> None:
    sigmas = LADDERS[name](8, final_zero=final_zero)
    path = wait(sigmas[0].view(1, 1, 1, 1), None, sigmas)
    walked = torch.stack([path.sigma(i) for i in range(len(path) + 1)]).flatten()
    assert torch.equal(walked, sigmas)
