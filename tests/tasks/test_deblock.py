"""Deblocking: results that give the file again, from tables wherever they are to be found."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

import differential_diffusion as dd
from differential_diffusion.core.operators import Jpeg, JpegFormat
from differential_diffusion.core.plan import Plan
from differential_diffusion.data.images import load_images
from differential_diffusion.errors import InputError
from differential_diffusion.images import read
from differential_diffusion.schema import DeblockRequest, build
from differential_diffusion.tasks import TaskInput, TaskOutput
from differential_diffusion.tasks.deblock import TASK

PILLOW = {"4:4:4": 0, "4:2:2": 1, "4:2:0": 2}


def scene(height: int = 40, width: int = 56) -> NDArray[np.uint8]:
    """A disc, a ramp and a stripe."""
    y, x = np.mgrid[:height, :width]
    red = 60 + 120 * ((y - 20) ** 2 + (x - 24) ** 2 < 150)
    grain = np.random.default_rng(0).normal(0, 12, (height, width))
    blue = 180 - y + 30 * (x % 9 == 0)
    return (np.stack([red, 60 + x, blue], -1) + grain[..., None]).astype(np.uint8)


def saved(path: Path, pixels: NDArray[np.uint8], **options: Any) -> Path:
    Image.fromarray(pixels).save(path, **options)
    return path


def smooth(plan: Plan) -> Tensor:
    """A model that blurs, so that it leaves the cells."""
    return torch.nn.functional.avg_pool2d(
        torch.nn.functional.pad(plan.image, (2, 2, 2, 2), mode="replicate"), 5, 1
    )


def performed(source: Any, **fields: Any) -> TaskOutput:
    picture = read(source)
    given = TaskInput(picture.tensor(), picture.is_grey, 3, picture.jpeg, picture.coefficients)
    return TASK.perform(build(DeblockRequest, image=source, **fields), given, smooth)


@pytest.mark.parametrize("size", [(48, 64), (41, 57), (43, 62)])
@pytest.mark.parametrize("quality", [10, 60])
@pytest.mark.parametrize("sampling", PILLOW)
def test_results_lie_in_the_cells_of_the_file(
    tmp_path: Path, sampling: str, quality: int, size: tuple[int, int]
) -> None:
    """In float64, before rounding and clipping, by the coefficients that jpeglib reads."""
    jpeglib = pytest.importorskip("jpeglib")
    pixels = scene(*size)
    path = saved(tmp_path / "a.jpg", pixels, quality=quality, subsampling=PILLOW[sampling])
    held = jpeglib.read_dct(str(path))
    k = tuple(torch.from_numpy(p.astype(np.float64))[None] for p in (held.Y, held.Cb, held.Cr))
    jpeg = Jpeg(JpegFormat.of_quality(quality, sampling), *size)
    made = performed(path, passes=2).samples
    assert float(jpeg.distance(made, k)) < 0.5 + 0.01
    start = read(path).tensor()
    assert float((made - start).abs().mean()) > 1e-3


def test_the_file_says_how_it_was_quantised(tmp_path: Path) -> None:
    """Tables of its own, found by the path and on the Pillow image, and said of the pixels."""
    steps = [[5 + index % 8 + index // 8 for index in range(64)], [20] * 64]
    path = saved(tmp_path / "a.jpg", scene(), qtables=steps, subsampling=0)
    picture = read(path)
    assert isinstance(picture.jpeg, JpegFormat)
    assert picture.jpeg.factors == ((1, 1),) * 3
    assert [t.flatten().tolist() for t in picture.jpeg.tables] == [steps[0], steps[1], steps[1]]
    by_path = performed(path).samples
    torch.testing.assert_close(performed(Image.open(path)).samples, by_path)


def test_without_jpeglib_it_is_told_from_the_pixels(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = saved(tmp_path / "a.jpg", scene(48, 64), quality=20)
    exact = performed(path).samples
    monkeypatch.setitem(__import__("sys").modules, "jpeglib", None)
    assert read(path).coefficients() is None
    output = performed(path)
    torch.testing.assert_close(output.samples, exact, rtol=0, atol=1e-6)
    assert "differential-diffusion[jpeg]" in output.notes[0]


@pytest.mark.parametrize("sampling", PILLOW)
@pytest.mark.parametrize("quality", [15, 50, 85])
def test_the_pixels_of_other_pictures_tell_their_quality(
    tmp_path: Path, sampling: str, quality: int
) -> None:
    pixels = scene(112, 128)
    path = saved(tmp_path / "a.jpg", pixels, quality=quality, subsampling=PILLOW[sampling])
    array = np.array(Image.open(path))
    output = performed(array)
    assert f"quality {quality} and sampling {sampling}" in output.notes[0]
    torch.testing.assert_close(output.samples, performed(path).samples, rtol=0, atol=0.1)
    said = performed(array, quality=quality, sampling=sampling)
    assert torch.equal(said.samples, output.samples)
    assert said.notes == ()


def test_pictures_that_tell_no_quality_need_one(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="give quality="):
        dd.deblock(scene())
    array = np.array(Image.open(saved(tmp_path / "a.jpg", scene(112, 128), quality=15)))
    with pytest.raises(InputError, match="give quality="):
        dd.deblock(np.ascontiguousarray(array[3:, 5:]))
    assert "do not look decoded" in performed(array, quality=30).notes[0]
    shrunk = Image.open(tmp_path / "a.jpg")
    shrunk.thumbnail((90, 90))
    assert "do not look decoded" in performed(shrunk).notes[0]


def test_what_was_made_of_a_jpeg_is_none(tmp_path: Path) -> None:
    picture = read(saved(tmp_path / "a.jpg", scene(), quality=20))
    assert picture.replaced(picture.tensor(), np.zeros((40, 56), bool)).jpeg is None
    assert picture.enlarged(2).jpeg is None
    assert read(Image.open(tmp_path / "a.jpg").convert("HSV").convert("RGB")).jpeg is None


def test_four_inks_and_stored_rgb_are_refused(tmp_path: Path) -> None:
    inks = Image.fromarray(scene()).convert("CMYK")
    inks.save(tmp_path / "inks.jpg")
    Image.fromarray(scene()).save(tmp_path / "rgb.jpg", keep_rgb=True)
    for name, kind in (("inks.jpg", "four inks"), ("rgb.jpg", "red, green and blue")):
        with pytest.raises(InputError, match=f"is a JPEG file of {kind}, which deblock"):
            dd.deblock(tmp_path / name)


def test_grey_files_stay_grey(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.jpg", scene()[..., 1], quality=10)
    made = dd.deblock(path, passes=2).image
    assert made.mode == "L"
    output = performed(path)
    assert torch.equal(output.samples[:, 0], output.samples[:, 2])
    k = read(path).coefficients()
    assert k is not None
    jpeg = Jpeg(JpegFormat.of_quality(10, grey=True), 40, 56)
    assert float(jpeg.distance(output.samples[:, :1], k)) < 0.51


@pytest.mark.parametrize("orientation", [3, 6, 7])
def test_turned_files_are_mended_as_they_are_stored(tmp_path: Path, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = saved(tmp_path / "a.jpg", scene(43, 62), quality=20, exif=exif.tobytes())
    picture = read(path)
    made = performed(path).samples
    assert isinstance(picture.jpeg, JpegFormat)
    assert picture.jpeg.orientation == orientation
    k = picture.coefficients()
    assert k is not None
    assert float(Jpeg(picture.jpeg, *made.shape[-2:]).distance(made, k)) < 0.51


def test_strength_keeps_and_shares(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.jpg", scene(), quality=10)
    strength = np.zeros((40, 56), np.float32)
    strength[:, 20:] = 0.5
    strength[:, 40:] = 1
    before, whole = np.array(Image.open(path)), performed(path).samples
    output = performed(path, strength=strength)
    assert torch.equal(output.keep[0, 0], torch.from_numpy(strength == 0))
    torch.testing.assert_close(output.samples[..., 40:], whole[..., 40:])
    half = (whole + read(path).tensor())[..., 20:40] / 2
    torch.testing.assert_close(output.samples[..., 20:40], half)
    made = np.array(dd.deblock(path, strength=strength, passes=1).image)
    assert np.array_equal(made[:, :20], before[:, :20])
    assert not np.array_equal(made[:, 40:], before[:, 40:])


def test_what_makes_no_sense_is_refused(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.jpg", scene(), quality=10)
    with pytest.raises(InputError, match="draws no samples"):
        dd.deblock(path, samples=2)
    with pytest.raises(InputError, match="sampling was given without quality"):
        dd.deblock(path, sampling="4:4:4")
    with pytest.raises(InputError, match="quality is 101"):
        dd.deblock(path, quality=101)
    assert "steps went unused" in performed(path, steps=9).notes[0]


@pytest.mark.slow
@pytest.mark.parametrize("sampling", ["4:4:4", "4:2:0"])
def test_photographs_gain_half_a_decibel(shared_data: Path, tmp_path: Path, sampling: str) -> None:
    gains = []
    for index in (10, 30, 50):
        truth = sorted(load_images(shared_data / "cbsd68.tar").images)[index].pixels[:184, :200]
        path = saved(tmp_path / "a.jpg", truth, quality=10, subsampling=PILLOW[sampling])
        before = psnr(np.array(Image.open(path)), truth)
        gains.append(psnr(np.array(dd.deblock(path).image), truth) - before)
    assert min(gains) > 0.5, gains


def psnr(made: NDArray[np.uint8], truth: NDArray[np.uint8]) -> float:
    return 10 * math.log10(255**2 / float(((made.astype(float) - truth) ** 2).mean()))
