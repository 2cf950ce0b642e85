"""The U-Net: locality and its stated radius, any size, conditioning on every pixel's level."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from differential_diffusion.nn import SigmaMapUNet, UNetConfig
from differential_diffusion.nn.unet import receptive_radius

SMALL = UNetConfig(channels=(8, 8, 8), blocks=(1, 1, 1), embedding_channels=4)


def randomized(config: UNetConfig, seed: int = 0) -> SigmaMapUNet:
    """A network without zero weights, so that every path through it carries a signal."""
    torch.manual_seed(seed)
    network = SigmaMapUNet(config).double().eval()
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return network


@pytest.mark.parametrize(
    "config",
    [
        SMALL,
        UNetConfig(channels=(8,), blocks=(2,), embedding_channels=4),
        UNetConfig(channels=(8, 8), blocks=(2, 1), patch=1, embedding_channels=4),
        UNetConfig(channels=(8, 8), blocks=(1, 2), patch=4, embedding_channels=4),
    ],
)
def test_receptive_radius_is_exact(config: UNetConfig) -> None:
    # The gradient of every output pixel within one stride cell: no input pixel beyond the
    # radius counts, and one at the radius does.
    network, radius, stride = randomized(config), receptive_radius(config), config.stride
    side = (2 * (radius // stride + 2) + 1) * stride
    first = side // 2 // stride * stride
    reached = 0
    for offset in range(stride):
        centre = first + offset
        x = torch.randn(1, 3, side, side, dtype=torch.float64, requires_grad=True)
        level = torch.randn(1, 1, side, side, dtype=torch.float64, requires_grad=True)
        network(x, level)[0, :, centre, centre].sum().backward()
        assert x.grad is not None
        assert level.grad is not None
        touched = (x.grad.abs().sum((0, 1)) + level.grad.abs().sum((0, 1))).nonzero()
        reached = max(reached, int((touched - centre).abs().max()))
    assert reached == radius


@given(
    height=st.integers(33, 70),
    width=st.integers(33, 70),
    top=st.integers(0, 8),
    left=st.integers(0, 8),
)
def test_a_crop_with_its_halo_equals_the_whole(
    height: int, width: int, top: int, left: int
) -> None:
    network = randomized(SMALL)
    stride, halo = SMALL.stride, network.halo
    generator = torch.Generator().manual_seed(height * 100 + width)
    x = torch.randn(1, 3, height, width, generator=generator, dtype=torch.float64)
    level = torch.randn(1, 1, height, width, generator=generator, dtype=torch.float64)
    whole = network(x, level)
    y0, x0 = min(top * stride, height - 1), min(left * stride, width - 1)
    y0, x0 = y0 // stride * stride, x0 // stride * stride
    y1, x1 = min(y0 + 16, height), min(x0 + 16, width)
    a, b = max(0, y0 - halo), max(0, x0 - halo)
    c, d = min(height, y1 + halo), min(width, x1 + halo)
    crop = network(x[..., a:c, b:d], level[..., a:c, b:d])
    torch.testing.assert_close(
        crop[..., y0 - a : y1 - a, x0 - b : x1 - b], whole[..., y0:y1, x0:x1], rtol=0, atol=1e-12
    )


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (5, 3), (17, 40)])
def test_any_size_and_one_level_equals_a_constant_map(size: tuple[int, int]) -> None:
    network = randomized(SMALL)
    x = torch.randn(2, 3, *size, dtype=torch.float64)
    level = torch.tensor([0.3, -0.7], dtype=torch.float64).view(2, 1, 1, 1)
    one = network(x, level)
    assert one.shape == x.shape
    torch.testing.assert_close(one, network(x, level.expand(2, 1, *size)), rtol=0, atol=1e-12)


def test_a_pixel_is_told_its_own_level() -> None:
    # Changing the level of one pixel changes the outputs around it and none far away.
    network = randomized(SMALL)
    x = torch.randn(1, 3, 160, 160, dtype=torch.float64)
    level = torch.zeros(1, 1, 160, 160, dtype=torch.float64)
    before = network(x, level)
    level[..., 80, 80] = 1.0
    changed = (network(x, level) - before).abs().sum((0, 1))
    assert changed[80, 80] > 0
    rows, columns = changed.nonzero().unbind(1)
    assert int((rows - 80).abs().max()) <= network.receptive_radius
    assert int((columns - 80).abs().max()) <= network.receptive_radius


def test_starts_as_the_identity_of_the_preconditioning() -> None:
    # With the zero-initialised head F = 0, so that D = c_skip x: a stable beginning.
    x = torch.randn(1, 3, 16, 16)
    assert torch.equal(SigmaMapUNet(SMALL)(x, torch.zeros(1, 1, 1, 1)), torch.zeros_like(x))


def test_runs_under_bfloat16_and_channels_last() -> None:
    torch.manual_seed(0)
    network = SigmaMapUNet(SMALL).eval().requires_grad_(False)
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.05)
    x, level = torch.randn(1, 3, 32, 32), torch.randn(1, 1, 32, 32)
    exact = network(x, level)
    network = network.to(memory_format=torch.channels_last)
    x = x.contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(network(x, level), exact, rtol=1e-4, atol=1e-5)
    with torch.autocast("cpu", torch.bfloat16):
        rough = network(x, level).float()
    assert float((rough - exact).norm() / exact.norm()) < 0.05


@pytest.mark.slow
def test_compiles_to_the_same_numbers() -> None:
    network = SigmaMapUNet(SMALL).eval().requires_grad_(False)
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.05)
    x, level = torch.randn(1, 3, 24, 24), torch.randn(1, 1, 24, 24)
    compiled = torch.compile(network, fullgraph=True)
    torch.testing.assert_close(compiled(x, level), network(x, level), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "bad",
    [{"channels": ()}, {"channels": (8,), "blocks": (1, 1)}, {"blocks": (0, 1, 1)}, {"patch": 0}],
)
def test_bad_shapes_are_refused(bad: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"channels|positive"):
        UNetConfig(**bad)  # type: ignore[arg-type]
