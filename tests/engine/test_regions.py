"""Regions and tiles: the numbers of the whole picture, at the cost of the edit."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from differential_diffusion.core import SOLVERS, Plan, PositionalNoise, lift
from differential_diffusion.core.types import Step
from differential_diffusion.engine import run_plan, windows_over
from differential_diffusion.errors import InputError
from differential_diffusion.models import DenoiserModel


def picture(height: int, width: int, seed: int = 0) -> Tensor:
    return torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def spots(height: int, width: int) -> Tensor:
    """A strength map with a soft spot, a hard box and a lone pixel, far apart."""
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    soft = (1 - ((y - 30) ** 2 + (x - 40) ** 2).float().sqrt() / 20).clamp(0, 1) * 0.7
    strength = soft[None, None].clone()
    strength[..., height - 24 : height - 4, width - 30 : width - 5] = 1
    strength[..., 20, width - 1] = 0.4
    return strength


def whole(plan: Plan, model: DenoiserModel) -> Tensor:
    """The plan without regions or tiles."""
    noise = PositionalNoise(plan.seeds, 3, *plan.image.shape[-2:])
    return model.run(plan, noise)


@pytest.mark.parametrize("path", ["wait", "together"])
@pytest.mark.parametrize("solver", sorted(SOLVERS))
def test_regions_equal_the_whole(tiny: DenoiserModel, solver: str, path: str) -> None:
    x, strength = picture(203, 317), spots(203, 317)
    noise = torch.full_like(strength, 0.05)
    noise[..., :100] = 0
    plan = Plan(x, strength, noise=noise, target=noise * (strength == 0), steps=5, solver=solver)
    plan = replace(plan, path=path, seeds=(5,))
    expected = whole(plan, tiny)
    result = run_plan(plan, tiny, tile=64)
    torch.testing.assert_close(result, expected, rtol=0, atol=1e-4)
    kept = (strength == 0).expand_as(x)
    assert torch.equal(result[kept], x[kept])


@pytest.mark.parametrize("views", [2, 3, 8])
def test_views_keep_regions_and_tiles_exact(tiny: DenoiserModel, views: int) -> None:
    """Sides that are no multiple of the stride: turned crops must still start on its grid."""
    x, strength = picture(203, 317), spots(203, 317)
    plan, model = Plan(x, strength, steps=3), tiny.averaged(views)
    expected = whole(plan, model)
    assert not torch.allclose(expected, whole(plan, tiny), atol=1e-3)
    result = run_plan(plan, model, tile=64)
    torch.testing.assert_close(result, expected, rtol=0, atol=1e-4)
    assert torch.equal(result[(strength == 0).expand_as(x)], x[(strength == 0).expand_as(x)])


def test_views_need_a_local_model(tiny: DenoiserModel) -> None:
    with pytest.raises(InputError, match="views is 2, and the model 'tiny' is not local"):
        tiny.with_denoiser(tiny.denoiser).averaged(2)


@pytest.mark.parametrize("tile", [64, 96, 4096])
@pytest.mark.parametrize("size", [(130, 201), (64, 64), (7, 300)])
def test_tiles_equal_the_whole(tiny: DenoiserModel, size: tuple[int, int], tile: int) -> None:
    plan = Plan(
        picture(*size), torch.zeros(1, 1, *size), noise=torch.full((1, 1, 1, 1), 0.2), steps=1
    )
    expected = whole(plan, tiny)
    torch.testing.assert_close(run_plan(plan, tiny, tile=tile), expected, rtol=0, atol=1e-4)


def test_several_seeds_equal_single_runs(tiny: DenoiserModel) -> None:
    plan = Plan(picture(40, 50), spots(40, 50), steps=4, solver="ancestral", seeds=(1, 2))
    both = run_plan(plan, tiny)
    for index, seed in enumerate(plan.seeds):
        alone = run_plan(replace(plan, seeds=(seed,)), tiny)
        assert torch.equal(both[index : index + 1], alone)
    batched = whole(plan, tiny)
    torch.testing.assert_close(both, batched, rtol=0, atol=1 / 255)


def test_nothing_to_do_calls_nothing(tiny: DenoiserModel) -> None:
    def refuse(x: Tensor, sigma: Tensor, /) -> Tensor:
        raise AssertionError("the network was called")

    x = picture(40, 50)
    plan = Plan(x, torch.zeros(1, 1, 40, 50))
    assert torch.equal(run_plan(plan, tiny.with_denoiser(refuse, halo=tiny.halo)), x)


def test_the_network_sees_the_edit_and_its_halo_only(tiny: DenoiserModel) -> None:
    seen = []

    def record(x: Tensor, sigma: Tensor, /) -> Tensor:
        seen.append(x.shape[-2] * x.shape[-1])
        return tiny.denoiser(x, sigma)

    strength = torch.zeros(1, 1, 800, 800)
    strength[..., 400:420, 300:330] = 1
    run_plan(Plan(picture(800, 800), strength, steps=2), tiny.with_denoiser(record, halo=tiny.halo))
    halo = tiny.halo or 0
    side = 2 * halo + 30 + 2 * tiny.stride
    assert max(seen) <= side * side


def test_pixels_that_wait_cost_nothing(tiny: DenoiserModel) -> None:
    # A weak spot far from a strong one: the first steps, above its level, leave it out.
    seen: list[int] = []

    def record(x: Tensor, sigma: Tensor, /) -> Tensor:
        seen.append(x.shape[-2] * x.shape[-1])
        return tiny.denoiser(x, sigma)

    strength = torch.zeros(1, 1, 100, 1500)
    strength[..., 40:50, 10:20] = 1
    strength[..., 20:90, 1200:1400] = 0.15
    steps: list[Step] = []
    run_plan(
        Plan(picture(100, 1500), strength, steps=10),
        tiny.with_denoiser(record, halo=tiny.halo),
        on_step=steps.append,
    )
    assert len(steps) == 10
    assert len(seen) == 10 + 2  # the second window takes part in the last two steps alone


@given(
    seed=st.integers(0, 10_000),
    height=st.integers(1, 300),
    width=st.integers(1, 300),
    share=st.sampled_from([0.0, 0.0005, 0.01, 0.5, 1.0]),
    tile=st.sampled_from([64, 128, 1000]),
)
def test_windows_cover_what_is_active(
    seed: int, height: int, width: int, share: float, tile: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    active = torch.rand(height, width, generator=generator) < share
    covered = torch.zeros_like(active)
    for w in windows_over(active, stride=8, halo=24, tile=tile):
        assert w.top % 8 == 0
        assert w.left % 8 == 0
        assert max(w.height, w.width) <= tile
        assert (w.bottom % 8 == 0) or w.bottom == height
        assert (w.right % 8 == 0) or w.right == width
        covered[w.top : w.bottom, w.left : w.right] = True
    assert bool((covered | ~active).all())


def test_windows_join_neighbours_and_leave_strangers_apart() -> None:
    active = torch.zeros(2000, 2000, dtype=torch.bool)
    active[100:110, 100:110] = active[130:140, 150:160] = active[1900, 1900] = True
    windows = windows_over(active, stride=8, halo=100, tile=1024)
    assert len(windows) == 2


def test_a_denoiser_that_holds_a_picture_is_given_whole_ones(tiny: DenoiserModel) -> None:
    x, strength = picture(96, 128), torch.zeros(1, 1, 96, 128)
    strength[..., 40:48, 40:52] = 1
    noise = PositionalNoise((0,), 3, 96, 128)
    lifted = tiny.with_denoiser(lift(tiny.denoiser, x, noise(0)))
    plan = Plan(x, strength, steps=3)
    torch.testing.assert_close(run_plan(plan, lifted), lifted.run(plan, noise))
