"""CAM, DAM and the change they are taken of: closed forms, numpy, scipy, and photographs."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.ndimage import correlate1d, gaussian_filter
from torch import Tensor

from differential_diffusion.core import cam, dam, spatial_change
from differential_diffusion.errors import InputError

from .helpers import normal

REACH = 54  # of spatial_change's four scales, in pixels


def pair(batch: int = 3, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Strengths in [0,1] and changes that follow them in part, (B,1,9,13)."""
    strength = normal(batch, 1, 9, 13, seed=seed).sigmoid()
    return strength, 0.3 * strength + 0.1 * normal(batch, 1, 9, 13, seed=seed + 1)


def test_cam_is_numpy_s_correlation() -> None:
    m, e = pair()
    expected = [
        np.corrcoef(p.ravel(), q.ravel())[0, 1] for p, q in zip(m.numpy(), e.numpy(), strict=True)
    ]
    np.testing.assert_allclose(cam(m, e).numpy(), expected, rtol=1e-12)
    np.testing.assert_allclose(cam(m.float(), e.float()).numpy(), expected, atol=1e-6)


def test_dam_is_the_residual_of_numpy_s_least_squares() -> None:
    m, e = pair()
    for k, found in enumerate(dam(m, e)):
        design = np.stack([e[k].numpy().ravel(), np.ones(e[k].numel())], axis=1)
        _, residual, _, _ = np.linalg.lstsq(design, m[k].numpy().ravel())
        assert float(found) ** 2 == pytest.approx(residual.item(), rel=1e-10)


@given(st.integers(0, 1000), st.floats(-3, 3), st.floats(0.01, 3))
def test_dam_is_what_cam_leaves(seed: int, slope: float, noise: float) -> None:
    """DAM = ‖m - m̄‖ √(1 - CAM²), for any mixture of following and not."""
    m = normal(2, 1, 5, 7, seed=seed)
    e = slope * m + noise * normal(2, 1, 5, 7, seed=seed + 1)
    spread = (m - m.mean((2, 3), keepdim=True)).flatten(1).norm(dim=1)
    torch.testing.assert_close(dam(m, e), spread * (1 - cam(m, e) ** 2).sqrt())


@given(st.floats(0.01, 100), st.floats(-100, 100), st.integers(0, 1000))
def test_neither_minds_the_measure_s_scale_and_origin(a: float, b: float, seed: int) -> None:
    m, e = pair(seed=seed)
    torch.testing.assert_close(cam(m, a * e + b), cam(m, e), rtol=0, atol=1e-7)
    torch.testing.assert_close(dam(m, a * e + b), dam(m, e), rtol=1e-7, atol=0)
    torch.testing.assert_close(cam(m, -a * e + b), -cam(m, e), rtol=0, atol=1e-7)
    torch.testing.assert_close(dam(m, -a * e + b), dam(m, e), rtol=1e-7, atol=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_an_affine_change_follows_exactly(dtype: torch.dtype) -> None:
    m = pair()[0].to(dtype)
    eps = torch.finfo(dtype).eps
    for a, sign in ((0.4, 1.0), (-0.4, -1.0)):
        assert cam(m, a * m + 0.2).tolist() == pytest.approx([sign] * 3, abs=10 * eps)
        assert cam(m, a * m + 0.2).abs().max() <= 1
        assert dam(m, a * m + 0.2).max() < 100 * eps


def test_pixels_may_stand_in_any_order() -> None:
    m, e = pair()
    order = torch.randperm(9 * 13, generator=torch.Generator().manual_seed(0))
    p, q = (x.flatten(2)[..., order].view_as(x) for x in (m, e))
    torch.testing.assert_close(cam(p, q), cam(m, e))
    torch.testing.assert_close(dam(p, q), dam(m, e))


def test_one_map_serves_a_batch() -> None:
    m, e = pair()
    m = m[:1]
    for metric in (cam, dam):
        alone = torch.cat([metric(m, one[None]) for one in e])
        torch.testing.assert_close(metric(m, e), alone)
        torch.testing.assert_close(metric(m, e), metric(m.expand(3, -1, -1, -1), e))


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("value", [0.0, 0.1, 1.0, -3.7])
def test_a_constant_has_no_correlation(value: float) -> None:
    """Also one that is constant but for rounding."""
    m = pair()[0].float()
    flat = torch.full_like(m, value)
    wobbling = flat * (1 + torch.finfo(flat.dtype).eps * (m > 0.5))
    spread = (m - m.mean((2, 3), keepdim=True)).flatten(1).norm(dim=1)
    for constant in (flat, wobbling):
        assert cam(constant, m).isnan().all()
        assert cam(m, constant).isnan().all()
        assert (dam(constant, m) == 0).all()
        torch.testing.assert_close(dam(m, constant), spread)
    some = torch.cat([m[:1], flat[:1]])
    assert cam(m[:1], some).isnan().tolist() == [False, True]


def test_bad_shapes_are_refused() -> None:
    m = torch.rand(2, 1, 4, 4)
    wrong = [(m, m[..., 1:]), (m[0], m[0]), (m, m[:, 0]), (m, m.expand(-1, 3, -1, -1)),
             (m, torch.rand(3, 1, 4, 4)), (m[..., :0], m[..., :0])]  # fmt: skip
    for metric in (cam, dam):
        for a, b in wrong:
            with pytest.raises(InputError, match=r"the shape \(B,1,H,W\)"):
                metric(a, b)


def photographs() -> list[Tensor]:
    """Three photographs of scikit-image's, each (1,3,256,256) in [-1,1]."""
    from skimage import data

    pictures = (data.astronaut(), data.coffee(), data.chelsea())
    crops = (torch.from_numpy(p[:256, :256].copy()) for p in pictures)
    return [crop.permute(2, 0, 1)[None].float() / 127.5 - 1 for crop in crops]


def reference(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """The formula of `spatial_change`, (C,H,W) to (H,W), written with scipy, data range 2."""

    def mean(x: np.ndarray, taps: np.ndarray, spacing: int) -> np.ndarray:
        spread = np.zeros(spacing * (len(taps) - 1) + 1)
        spread[::spacing] = taps
        weight = np.ones_like(x)
        for axis in (-2, -1):
            x = correlate1d(x, spread, axis=axis, mode="constant")
            weight = correlate1d(weight, spread, axis=axis, mode="constant")
        return x / weight

    window = np.exp(-0.5 * (np.arange(-5, 6) / 1.5) ** 2)

    def variance(x: np.ndarray, spacing: int) -> np.ndarray:
        return (mean(x * x, window, spacing) - mean(x, window, spacing) ** 2).sum(0)

    colour = np.sqrt(((mean(a, window, 1) - mean(b, window, 1)) ** 2).mean(0)) / 2
    structure = 0
    for k in range(4):
        v_a, v_b, v_d = (variance(x, 2**k) for x in (a, b, a - b))
        constant = 2 * len(a) * (0.06 * 2) ** 2
        structure += np.sqrt(np.maximum(v_d, 0) / (2 * v_a + 2 * v_b + constant)) / 4
        a, b = (mean(x, np.array([1.0, 4, 6, 4, 1]), 2**k) for x in (a, b))
    return structure + colour


@pytest.mark.parametrize("channels", [1, 2, 3])
def test_change_is_its_formula(channels: int) -> None:
    a = normal(2, channels, 61, 43).tanh()
    b = (a + 0.3 * normal(2, channels, 61, 43, seed=1)).clamp(-1, 1)
    expected = np.stack([reference(p.numpy(), q.numpy()) for p, q in zip(a, b, strict=True)])
    np.testing.assert_allclose(spatial_change(a, b)[:, 0], expected, rtol=1e-9)
    np.testing.assert_allclose(
        spatial_change(a.float(), b.float())[:, 0], expected, rtol=0, atol=1e-4
    )
    scaled = spatial_change((a + 1) * 127.5, (b + 1) * 127.5, data_range=255)
    np.testing.assert_allclose(scaled[:, 0], expected, rtol=1e-6)


@pytest.mark.parametrize("shape", [(1, 3, 1, 1), (2, 1, 5, 70), (1, 3, 64, 33), (1, 5, 12, 12)])
def test_equal_pictures_have_no_change_and_order_does_not_matter(shape: tuple[int, ...]) -> None:
    a, b = normal(*shape).float().tanh(), normal(*shape, seed=1).float().tanh()
    change = spatial_change(a, b)
    assert change.shape == (shape[0], 1, *shape[2:])
    assert (spatial_change(a, a.clone()) == 0).all()
    assert (change > 0).all()
    assert change.max() <= 2
    torch.testing.assert_close(spatial_change(b, a), change, rtol=0, atol=0)


def test_change_grows_with_noise_and_blur() -> None:
    for picture in photographs():
        noise = normal(*picture.shape).float()
        noisy = [spatial_change(picture, picture + s * noise) for s in (0.01, 0.02, 0.05, 0.2, 1)]
        blurred = [
            spatial_change(picture, torch.from_numpy(gaussian_filter(picture, (0, 0, s, s))))
            for s in (0.5, 1, 2, 4)
        ]
        for changes in (noisy, blurred):
            means = [float(change.mean()) for change in changes]
            assert means == sorted(means)
            assert means[0] > 0
        # At every pixel, as the same noise only grows.
        assert all((b > a).all() for a, b in pairwise(noisy))


def test_a_colour_changes_where_there_is_no_structure() -> None:
    a = torch.zeros(1, 3, 80, 80)
    b = a.clone()
    b[:, 0] += 0.5
    change = spatial_change(a, b)
    assert change.flatten().tolist() == pytest.approx([0.25 / math.sqrt(3)] * 6400, abs=0.01)


def test_a_change_reaches_as_far_as_is_said() -> None:
    picture = photographs()[0]
    edited = picture.clone()
    edited[..., :20, :30] += 0.4
    change = spatial_change(picture, edited)[0, 0]
    assert (change[20 + REACH :] == 0).all()
    assert (change[:, 30 + REACH :] == 0).all()
    assert (change[: 20 + REACH, : 30 + REACH] > 0).all()
    assert change[:20, :30].mean() > 10 * change[40:, 50:].mean()


def test_a_crop_has_the_changes_of_the_whole() -> None:
    a = photographs()[1]
    b = a + 0.1 * normal(*a.shape).float()
    whole = spatial_change(a, b)[..., 60:196, 60:196]
    part = spatial_change(a[..., 6:250, 6:250], b[..., 6:250, 6:250])[..., 54:190, 54:190]
    torch.testing.assert_close(part, whole, rtol=0, atol=1e-5)


def test_bad_pictures_are_refused() -> None:
    a = torch.zeros(1, 1, 4, 4)
    with pytest.raises(InputError, match="must both have the shape"):
        spatial_change(a, a[..., 1:])
    with pytest.raises(InputError, match="data_range must be above 0"):
        spatial_change(a, a, data_range=0)
    for scales in (0, 9):
        with pytest.raises(InputError, match="scales must be 1 to 8"):
            spatial_change(a, a, scales=scales)


def blurred_along(picture: Tensor, strength: Tensor, largest: float) -> Tensor:
    """Blur by a Gaussian of deviation strength x largest, mixed from eight fixed ones."""
    levels = [
        torch.from_numpy(gaussian_filter(picture, (0, 0, s, s))) for s in np.linspace(0, largest, 9)
    ]
    weights = [(1 - (8 * strength - k).abs()).clamp(min=0) for k in range(9)]
    return sum(w * level for w, level in zip(weights, levels, strict=True))


def test_damage_in_proportion_to_a_ramp_is_seen_to_follow_it() -> None:
    """White noise up to 25 and blur up to 4 pixels, along a ramp, on photographs.

    Measured: noise .81, .88 and .93, their mean .94; blur .73, .58 and .87, their mean .90. A
    smooth background blurs without a trace, so one picture says little of that.
    """
    ramp = torch.linspace(0, 1, 256).expand(1, 1, 256, 256)
    pictures = photographs()
    noisy = [p + ramp * normal(*p.shape).float() * 25 / 127.5 for p in pictures]
    blurred = [blurred_along(p, ramp, 4) for p in pictures]
    for edits, each, together in ((noisy, 0.78, 0.92), (blurred, 0.55, 0.87)):
        changes = torch.cat([spatial_change(p, q) for p, q in zip(pictures, edits, strict=True)])
        assert cam(ramp, changes).min() > each
        assert cam(ramp, changes.mean(0, keepdim=True)) > together
