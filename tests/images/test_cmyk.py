"""CMYK: the colours that others see, and inks that stay where the colour did."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest
import tifffile
import torch
from PIL import Image

from differential_diffusion.images import LossyOutputWarning, read

Draw = Callable[..., npt.NDArray[Any]]

SIZE = (13, 9)
PEAK = {"uint8": 255, "uint16": 65535}


def test_cmyk_jpeg_has_the_colours_that_others_see(samples: Draw, tmp_path: Path) -> None:
    """OpenCV undoes Adobe's inversion by itself; smooth inks keep the JPEG near its source."""
    rows, columns = np.mgrid[0:48, 0:64] * 4
    inks = np.stack([rows, columns, 255 - rows, columns // 2], axis=2).astype(np.uint8)
    image = Image.frombytes("CMYK", (64, 48), inks.tobytes())
    image.save(tmp_path / "a.jpg", quality=98, subsampling=0)
    picture = read(tmp_path / "a.jpg")
    assert (picture.colour, picture.channels, picture.format) == ("cmyk", 4, "JPEG")
    assert np.abs(picture.pixels.astype(int) - inks).max() <= 8
    seen = (picture.tensor()[0].permute(1, 2, 0).numpy() + 1) * 127.5
    other = cv2.imread(str(tmp_path / "a.jpg"), cv2.IMREAD_COLOR)[..., ::-1]
    assert np.abs(seen - other).max() <= 2


def test_cmyk_follows_pillow_s_formula(samples: Draw) -> None:
    inks = samples("uint8", 64, 64, 4)
    image = Image.frombytes("CMYK", (64, 64), inks.tobytes())
    seen = (read(image).tensor()[0].permute(1, 2, 0).numpy() + 1) * 127.5
    assert np.abs(seen - np.asarray(image.convert("RGB"))).max() <= 1


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_cmyk_gives_its_own_inks_for_colours_that_did_not_change(
    dtype: str, samples: Draw, tmp_path: Path
) -> None:
    raw = samples(dtype, 64, 64, 4)
    raw[0, :, 3] = PEAK[dtype]  # rich black: any ink under full black
    tifffile.imwrite(tmp_path / "a.tif", raw, photometric="separated")
    picture = read(tmp_path / "a.tif")
    np.testing.assert_array_equal(picture.pixels, raw, strict=True)
    again = picture.replaced(picture.tensor(), np.zeros((64, 64), bool))
    little = raw[..., 3] > 0.99 * PEAK[dtype]  # float32 tells inks apart while some light is left
    np.testing.assert_array_equal(again.pixels[~little], raw[~little])
    np.testing.assert_array_equal(again.pixels[0], raw[0])


def test_cmyk_takes_new_colours_and_keeps_the_rest(samples: Draw, tmp_path: Path) -> None:
    raw = samples("uint8", *SIZE, 4)
    picture = read(Image.frombytes("CMYK", SIZE[::-1], raw.tobytes()))
    x = torch.rand(3, *SIZE, generator=torch.Generator().manual_seed(1)) * 2 - 1
    keep = samples("bool", *SIZE)
    edited = picture.replaced(x, keep)
    out = edited.save(tmp_path / "a.tif")
    np.testing.assert_array_equal(tifffile.imread(out)[keep], raw[keep])
    with tifffile.TiffFile(out) as found:
        assert found.pages[0].photometric == tifffile.PHOTOMETRIC.SEPARATED
    error = (edited.tensor()[0] - x).abs().numpy()[:, ~keep] * 127.5
    assert error.max() <= 1.1
    native = edited.native()
    assert isinstance(native, Image.Image)
    assert native.mode == "CMYK"
    np.testing.assert_array_equal(np.asarray(native)[keep], raw[keep])


def test_cmyk_to_png_is_rgb_with_a_warning(samples: Draw, tmp_path: Path) -> None:
    raw = samples("uint8", *SIZE, 4)
    picture = read(Image.frombytes("CMYK", SIZE[::-1], raw.tobytes()))
    with pytest.warns(LossyOutputWarning, match="CMYK becomes RGB"):
        picture.save(tmp_path / "a.png")
    unit = raw / 255
    expected = np.rint((1 - unit[..., :3]) * (1 - unit[..., 3:]) * 255)
    assert np.abs(np.asarray(Image.open(tmp_path / "a.png")) - expected).max() <= 1
