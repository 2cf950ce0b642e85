"""The JPEG operator against libjpeg's own files, and its projections against their definitions."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from scipy.stats import truncnorm
from torch import Tensor

from differential_diffusion.core.operators import (
    SAMPLINGS,
    Coefficients,
    Jpeg,
    JpegFormat,
    coefficients_of_decoded,
)
from differential_diffusion.errors import InputError

from .helpers import normal

PILLOW = {"4:4:4": 0, "4:2:2": 1, "4:2:0": 2}
SIZES = [(48, 64), (41, 58), (47, 49)]


def picture(height: int, width: int, channels: int = 3) -> Tensor:
    """Waves and an edge, in the 256 levels of a file, (1,C,H,W) in [-1,1]."""
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    waves = [torch.sin(x / (3 + c) + y / (7 - c)) + (x > y + 4 * c).double() for c in range(3)]
    levels = (128 + 50 * (torch.stack(waves)[None, :channels] - 0.5)).round()
    return levels / 127.5 - 1


def file_of(x: Tensor, path: Path, quality: int, sampling: str) -> Path:
    levels = ((x[0] + 1) * 127.5).round().byte().permute(1, 2, 0).numpy()
    image = Image.fromarray(levels[..., 0] if levels.shape[2] == 1 else levels)
    image.save(path, quality=quality, subsampling=PILLOW[sampling])
    return path


def decoded(path: Path) -> Tensor:
    pixels = np.atleast_3d(np.array(Image.open(path), np.float64))
    return torch.from_numpy(pixels).permute(2, 0, 1)[None] / 127.5 - 1


def in_file(path: Path) -> Coefficients:
    jpeglib = pytest.importorskip("jpeglib")
    found = jpeglib.read_dct(str(path))
    planes = [found.Y] if found.Cb is None else [found.Y, found.Cb, found.Cr]
    return tuple(torch.from_numpy(plane.astype(np.float64))[None] for plane in planes)


def norm(jpeg: Jpeg, x: Tensor) -> Tensor:
    """‖T x‖ of a difference x, in brightness and colour."""
    at_zero = jpeg.planes(torch.zeros_like(x))
    planes = zip(jpeg.planes(x), at_zero, strict=True)
    return torch.stack([(p - q).square().sum() for p, q in planes]).sum().sqrt()


@pytest.mark.parametrize("quality", [1, 10, 49, 50, 75, 100])
def test_tables_of_a_quality_are_pillows(quality: int) -> None:
    stream = io.BytesIO()
    Image.new("RGB", (8, 8)).save(stream, "JPEG", quality=quality)
    written = Image.open(stream).quantization  # type: ignore[attr-defined]
    tables = JpegFormat.of_quality(quality).tables
    for number, table in zip((0, 1, 1), tables, strict=True):
        assert table.flatten().tolist() == written[number]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("sampling", PILLOW)
def test_coefficients_are_those_of_the_file(
    tmp_path: Path, sampling: str, size: tuple[int, int]
) -> None:
    """Up to the encoder's own roundings, in blocks that the picture does not fill too."""
    x = picture(*size)
    jpeg = Jpeg(JpegFormat.of_quality(20, sampling), *size)
    path = file_of(x, tmp_path / "a.jpg", 20, sampling)
    for found, held in zip(jpeg.steps(x), in_file(path), strict=True):
        assert found.shape == held.shape
        assert float((found - held).abs().max()) < 0.53
    for found, held in zip(jpeg.forward(x), in_file(path), strict=True):
        assert float((found != held).double().mean()) < 2e-3


def test_grey_coefficients_are_those_of_the_file(tmp_path: Path) -> None:
    x = picture(29, 35, 1)
    jpeg = Jpeg(JpegFormat.of_quality(20, grey=True), 29, 35)
    (held,) = in_file(file_of(x, tmp_path / "a.jpg", 20, "4:4:4"))
    assert float((jpeg.steps(x)[0] - held).abs().max()) < 0.53


@pytest.mark.parametrize("size", SIZES)
def test_decoding_is_pillows_up_to_rounding(tmp_path: Path, size: tuple[int, int]) -> None:
    """The decoder rounds brightness, both colours and red, green and blue: 2 levels at most."""
    x = picture(*size)
    jpeg = Jpeg(JpegFormat.of_quality(20, "4:4:4"), *size)
    path = file_of(x, tmp_path / "a.jpg", 20, "4:4:4")
    made = jpeg.decode(in_file(path)).clamp(-1, 1)
    assert float((made - decoded(path)).abs().max() * 127.5) < 2


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("sampling", SAMPLINGS)
def test_projections_lie_in_the_cells(sampling: str, size: tuple[int, int]) -> None:
    jpeg = Jpeg(JpegFormat.of_quality(40, sampling), *size)
    k = jpeg.forward(picture(*size))
    x = picture(*size) + 0.2 * normal(1, 3, *size)
    assert float(jpeg.distance(x, k)) > 1
    for made in (jpeg.project(x, k), jpeg.expected(x, k, 0.1)):
        assert made.shape == x.shape
        assert float(jpeg.distance(made, k)) < 0.5 + 1e-3
    inside = picture(*size)
    torch.testing.assert_close(jpeg.project(inside, k), inside, rtol=0, atol=1e-6)
    once = jpeg.project(x, k)
    torch.testing.assert_close(jpeg.project(once, k), once, rtol=0, atol=1e-4)


@given(seed=st.integers(0, 2**31), sampling=st.sampled_from(sorted(SAMPLINGS)))
def test_no_point_of_the_cell_is_nearer(seed: int, sampling: str) -> None:
    """<T (x - p), T (z - p)> <= 0 for all z inside: the projection onto a convex set."""
    jpeg = Jpeg(JpegFormat.of_quality(15, sampling), 32, 64)
    k = jpeg.forward(picture(32, 64))
    x = picture(32, 64) + 0.3 * normal(1, 3, 32, 64, seed=seed)
    p = jpeg.project(x, k)
    for other in range(3):
        z = jpeg.project(picture(32, 64) + normal(1, 3, 32, 64, seed=seed + 1 + other), k)
        z = torch.lerp(p, z, 0.01 + 0.3 * other)
        assert norm(jpeg, x - p) <= norm(jpeg, x - z) + 1e-9


def test_where_the_picture_ends_within_a_block_none_is_nearer_either() -> None:
    """In the filled blocks' own distance, from 47 x 49 pixels to 48 x 56 samples."""
    jpeg = Jpeg(JpegFormat.of_quality(15, "4:4:4"), 47, 49)
    ones = Jpeg(JpegFormat((torch.ones(8, 8, dtype=torch.float64),) * 3, ((1, 1),) * 3), 47, 49)

    def length(a: Tensor, b: Tensor) -> float:
        pairs = zip(ones.steps(a), ones.steps(b), strict=True)
        return sum(float((p - q).square().sum()) for p, q in pairs) ** 0.5

    k = jpeg.forward(picture(47, 49))
    x = picture(47, 49) + 0.3 * normal(1, 3, 47, 49)
    p = jpeg.project(x, k)
    for seed in range(5):
        z = jpeg.project(picture(47, 49) + normal(1, 3, 47, 49, seed=seed), k)
        for share in (0.01, 0.1, 1.0):
            assert length(x, p) <= length(x, torch.lerp(p, z, share)) + 1e-4


def test_channels_are_projected_apart() -> None:
    """A picture that leaves its cell in one colour alone changes in that colour alone."""
    jpeg = Jpeg(JpegFormat.of_quality(30, "4:2:0"), 32, 32)
    x = picture(32, 32)
    k = jpeg.forward(x)
    moved = x.clone()
    moved[:, 2] += 0.4  # blue, of which brightness takes a part
    moved -= 0.4 * 0.114
    before, after = jpeg.planes(moved), jpeg.planes(jpeg.project(moved, k))
    torch.testing.assert_close(after[0], before[0], rtol=0, atol=1e-9)
    assert float((after[1] - before[1]).abs().max()) > 1


def test_what_is_expected_is_the_mean_of_a_cut_normal_distribution() -> None:
    jpeg = Jpeg(JpegFormat.of_quality(20, grey=True), 8, 8)
    k = jpeg.forward(picture(8, 8, 1))
    q = jpeg.form.tables[0]
    for seed, deviation in ((0, 0.02), (1, 0.1), (2, 1.0), (3, 0.003)):
        x = picture(8, 8, 1) + 0.2 * normal(1, 1, 8, 8, seed=seed)
        believed = jpeg.steps(x)[0][0, 0, 0] * q
        found = jpeg.steps(jpeg.expected(x, k, deviation))[0][0, 0, 0] * q
        scale = deviation * 127.5
        low, high = ((k[0][0, 0, 0] + side) * q for side in (-0.5, 0.5))
        a, b = ((bound - believed) / scale for bound in (low, high))
        near = (torch.minimum(a.abs(), b.abs()) < 6) | ((a < 0) & (b > 0))  # scipy's own reach
        expected = truncnorm.mean(a.numpy(), b.numpy(), believed.numpy(), scale)
        torch.testing.assert_close(
            found[near], torch.from_numpy(expected)[near], rtol=1e-6, atol=1e-6
        )


def test_a_firm_belief_is_projected_and_a_weak_one_gives_the_middle() -> None:
    jpeg = Jpeg(JpegFormat.of_quality(20, "4:4:4"), 32, 32)
    k = jpeg.forward(picture(32, 32))
    x = picture(32, 32) + 0.2 * normal(1, 3, 32, 32)
    firm, weak = jpeg.expected(x, k, 1e-6), jpeg.expected(x, k, 1e3)
    torch.testing.assert_close(firm, jpeg.project(x, k), rtol=0, atol=1e-5)
    torch.testing.assert_close(weak, jpeg.decode(k), rtol=0, atol=1e-4)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_upright_pictures_are_turned_to_their_file(orientation: int) -> None:
    """EXIF's own meaning, as Pillow has it."""
    from PIL import ImageOps

    stored = picture(24, 41)
    form = JpegFormat.of_quality(30, "4:2:2")
    levels = ((stored[0] + 1) * 127.5).round().byte().permute(1, 2, 0).numpy()
    image = Image.fromarray(levels)
    image.getexif()[0x0112] = orientation
    seen = np.array(ImageOps.exif_transpose(image), np.float64)
    upright = torch.from_numpy(seen).permute(2, 0, 1)[None] / 127.5 - 1
    turned = Jpeg(JpegFormat(form.tables, form.factors, orientation), *upright.shape[-2:])
    plain = Jpeg(form, 24, 41)
    k = plain.forward(stored)
    for found, expected in zip(turned.steps(upright), plain.steps(stored), strict=True):
        torch.testing.assert_close(found, expected)
    assert turned.decode(k).shape == upright.shape
    assert float(turned.distance(turned.project(upright + 0.1, k), k)) < 0.5 + 1e-3


@pytest.mark.parametrize("sampling", PILLOW)
@pytest.mark.parametrize("size", [(48, 64), (33, 65)])
def test_decoded_pixels_tell_the_coefficients(
    tmp_path: Path, sampling: str, size: tuple[int, int]
) -> None:
    """Interpolated colours too; one pixel beyond a block repeats just as the decoder has it."""
    path = file_of(0.7 * picture(*size), tmp_path / "a.jpg", 30, sampling)
    jpeg = Jpeg(JpegFormat.of_quality(30, sampling), *size)
    for found, held in zip(
        coefficients_of_decoded(decoded(path), jpeg), in_file(path), strict=True
    ):
        assert float((found != held).double().mean()) < 2e-3


def test_pictures_of_a_batch_are_those_by_themselves() -> None:
    jpeg = Jpeg(JpegFormat.of_quality(30), 33, 40)
    x = torch.cat([picture(33, 40), 0.5 * picture(33, 40)])
    k = jpeg.forward(x)
    noisy = x + 0.2 * normal(*x.shape)
    made = jpeg.project(noisy, k)
    assert jpeg.distance(noisy, k).shape == (2,)
    for b in range(2):
        alone = jpeg.project(noisy[b : b + 1], tuple(c[b : b + 1] for c in k))
        torch.testing.assert_close(made[b : b + 1], alone, rtol=0, atol=1e-5)


def test_bad_formats_are_refused() -> None:
    table = torch.ones(8, 8, dtype=torch.float64)
    with pytest.raises(InputError, match="quality is 0"):
        JpegFormat.of_quality(0)
    with pytest.raises(InputError, match="sampling is '4:2:1'"):
        JpegFormat.of_quality(50, "4:2:1")
    with pytest.raises(InputError, match="2 tables"):
        JpegFormat((table,) * 2, ((1, 1),) * 2)
    with pytest.raises(InputError, match="positive"):
        JpegFormat((0 * table,), ((1, 1),))
    with pytest.raises(InputError, match="factors"):
        JpegFormat((table,), ((5, 1),))
    with pytest.raises(InputError, match="orientation is 9"):
        JpegFormat((table,), ((1, 1),), 9)
    with pytest.raises(InputError, match="has 3 channels"):
        Jpeg(JpegFormat((table,), ((1, 1),)), 8, 8).forward(picture(8, 8))
