"""Every format, mode and depth: read beside independent encoders, written beside other readers."""

from __future__ import annotations

import io
import zlib
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

from differential_diffusion.images import read

Array = npt.NDArray[Any]
Draw = Callable[..., Array]
Png = Callable[..., bytes]

SIZE = (13, 9)
PEAK = {"uint8": 255, "uint16": 65535, "float32": 1, "float64": 1}


def tiff(samples: Array, **options: Any) -> bytes:
    stream = io.BytesIO()
    tifffile.imwrite(stream, samples, **options)
    return stream.getvalue()


def pillow(image: Image.Image, form: str, **options: Any) -> bytes:
    stream = io.BytesIO()
    image.save(stream, form, **options)
    return stream.getvalue()


def channels(samples: Array) -> Array:
    return samples.reshape(*samples.shape[:2], -1)


def decoded(path: Path) -> Array:
    """The samples (H, W, C) in a file, by a reader that the package does not use for it."""
    if path.suffix == ".npy":
        return channels(np.load(path))
    if path.suffix == ".tif":
        return channels(tifffile.imread(path))
    if path.suffix == ".png" and path.read_bytes()[24] == 16:
        found = channels(cv2.imread(str(path), cv2.IMREAD_UNCHANGED))
        order = {0: [0], 4: [0, 3], 2: [2, 1, 0], 6: [2, 1, 0, 3]}[path.read_bytes()[25]]
        return found[..., order]
    with Image.open(path) as image:
        return channels(np.asarray(image))


# suffix, dtype, channels: what is held exactly, with alpha as the 2nd or 4th channel
EXACT = [
    *((".png", dtype, count) for dtype in ("uint8", "uint16") for count in (1, 2, 3, 4)),
    *((".tif", dtype, count) for dtype in PEAK for count in (1, 2, 3, 4)),
    *((".npy", dtype, count) for dtype in PEAK for count in (1, 2, 3, 4)),
    *((".webp", "uint8", count) for count in (3, 4)),
    *((".bmp", "uint8", count) for count in (1, 3)),
    (".gif", "uint8", 1),
]


def encoded(samples: Array, suffix: str, png: Png) -> bytes:
    """A file with these samples, by another encoder than the package's."""
    squeezed = samples[..., 0] if samples.shape[2] == 1 else samples
    if suffix == ".png":
        return png(squeezed)
    if suffix == ".tif":
        count = samples.shape[2]
        photometric = "minisblack" if count < 3 else "rgb"
        extra = ["unassalpha"] if count in (2, 4) else None
        return tiff(squeezed, photometric=photometric, extrasamples=extra, planarconfig="contig")
    if suffix == ".npy":
        stream = io.BytesIO()
        np.save(stream, squeezed)
        return stream.getvalue()
    options: dict[str, Any] = {"lossless": True, "exact": True} if suffix == ".webp" else {}
    return pillow(Image.fromarray(squeezed), suffix[1:].upper(), **options)


@pytest.mark.parametrize(("suffix", "dtype", "count"), EXACT)
def test_kept_pixels_and_alpha_are_the_same_bits_in_the_written_file(
    suffix: str, dtype: str, count: int, samples: Draw, png: Png, tmp_path: Path
) -> None:
    raw = samples(dtype, *SIZE, count)
    colours = 1 if count < 3 else 3
    (tmp_path / f"in{suffix}").write_bytes(encoded(raw, suffix, png))
    picture = read(tmp_path / f"in{suffix}")
    if suffix == ".gif":  # a palette, of greys
        raw = raw.repeat(3, axis=2)
        colours = 3
    np.testing.assert_array_equal(channels(picture.pixels), raw[..., :colours], strict=True)
    assert picture.pixels.dtype == dtype

    x = torch.rand(1, 3, *SIZE, generator=torch.Generator().manual_seed(1)) * 2 - 1
    keep = np.random.default_rng(2).random(SIZE) < 0.5
    out = tmp_path / f"out{'.png' if suffix == '.gif' else suffix}"
    edited = picture.replaced(x, keep)
    assert edited.save(out) == out

    wanted = ((x[0].double() + 1) / 2 * PEAK[dtype]).numpy().transpose(1, 2, 0)
    wanted = wanted.mean(axis=2, keepdims=True) if colours == 1 else wanted
    wanted = wanted if dtype.startswith("float") else np.rint(wanted)
    got = decoded(out)
    assert got.dtype == dtype
    assert got.shape == raw.shape
    np.testing.assert_array_equal(got[keep], raw[keep])
    np.testing.assert_array_equal(got[..., colours:], raw[..., colours:])
    np.testing.assert_allclose(got[~keep][:, :colours], wanted[~keep], rtol=0, atol=1e-6)
    np.testing.assert_array_equal(channels(read(out).merged()), got)


@pytest.mark.parametrize("suffix", [".png", ".tif", ".webp", ".npy"])
@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_lossless_formats_agree_on_8_bits(
    suffix: str, count: int, samples: Draw, tmp_path: Path
) -> None:
    raw = samples("uint8", *SIZE, count)
    read(raw).save(tmp_path / f"a{suffix}")
    again = channels(read(tmp_path / f"a{suffix}").merged())
    if suffix == ".webp" and count < 3:  # WebP has no grey: three equal channels
        raw = raw[..., [0, 0, 0, 1][: count + 2]]
    np.testing.assert_array_equal(again, raw)


@pytest.mark.parametrize("size", [(1, 1), (1, 300), (300, 1), (500, 700)])
@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_16_bit_colour_of_any_size_is_read_by_others(
    size: tuple[int, int], suffix: str, samples: Draw, tmp_path: Path
) -> None:
    smooth = np.linspace(0, 60000, size[0] * size[1] * 3).reshape(*size, 3)
    raw = (smooth + samples("uint8", *size, 3)).astype(np.uint16)
    out = read(raw).save(tmp_path / f"a{suffix}")
    found = cv2.imread(str(out), cv2.IMREAD_UNCHANGED)
    np.testing.assert_array_equal(found[..., ::-1], raw)
    with Image.open(out) as image:  # its 8-bit view of the file
        np.testing.assert_array_equal(np.asarray(image), raw >> 8)


def test_16_bit_png_is_compressed_like_others_compress_it(tmp_path: Path) -> None:
    rows, columns = np.mgrid[0:256, 0:256]
    smooth = np.stack([rows * 200, columns * 200, rows * columns], axis=2).astype(np.uint16)
    ours = read(smooth).save(tmp_path / "a.png").stat().st_size
    theirs = len(cv2.imencode(".png", smooth)[1])
    assert ours < 1.1 * theirs
    assert ours < len(zlib.compress(smooth.astype(">u2").tobytes())) / 2


@pytest.mark.parametrize("depth", [1, 2, 4])
def test_shallow_grey_png_is_scaled_to_the_full_range(depth: int, png: Png, tmp_path: Path) -> None:
    top = 2**depth - 1
    raw = np.arange(12, dtype=np.uint8).reshape(3, 4) % (top + 1)
    key = {b"tRNS": (1).to_bytes(2, "big")}
    (tmp_path / "a.png").write_bytes(png(raw, depth=depth))
    (tmp_path / "b.png").write_bytes(png(raw, depth=depth, before=key))
    picture, keyed = read(tmp_path / "a.png"), read(tmp_path / "b.png")
    np.testing.assert_array_equal(picture.luminance(), (raw / np.float32(top)).astype(np.float32))
    np.testing.assert_array_equal(keyed.luminance(), picture.luminance())
    assert picture.alpha is None
    np.testing.assert_array_equal(keyed.alpha, np.where(raw == 1, 0, 255))


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
@pytest.mark.parametrize("count", [1, 3])
def test_png_s_transparent_colour_becomes_alpha(
    dtype: str, count: int, samples: Draw, png: Png, tmp_path: Path
) -> None:
    raw = samples(dtype, *SIZE, count)
    raw[2:4] = raw[2, 0]
    if count == 3:  # one channel alike is not the colour
        raw[5, 5, 0] = raw[2, 0, 0]
    tail = raw[2, 0].astype(">u2").tobytes()
    (tmp_path / "a.png").write_bytes(png(raw, before={b"tRNS": tail}))
    picture = read(tmp_path / "a.png")
    opaque = (raw != raw[2, 0]).any(axis=2)
    np.testing.assert_array_equal(channels(picture.pixels), raw)
    np.testing.assert_array_equal(picture.alpha, np.where(opaque, PEAK[dtype], 0))
    out = picture.save(tmp_path / "b.png")
    np.testing.assert_array_equal(decoded(out)[..., :count], raw)


@pytest.mark.parametrize(
    ("form", "transparent"),
    [
        *((form, None) for form in ("PNG", "GIF", "BMP", "TIFF")),
        *((form, 3) for form in ("PNG", "GIF")),
        ("PNG", bytes(range(0, 256, 16))),
    ],
)
def test_palettes_become_rgb_of_exactly_their_colours(
    form: str, transparent: int | bytes | None, samples: Draw, tmp_path: Path
) -> None:
    image = Image.fromarray(samples("uint8", *SIZE) % 16)
    indexed = Image.frombytes("P", image.size, image.tobytes())
    palette = samples("uint8", 16, 3, seed=5)
    indexed.putpalette(palette.tobytes())
    options = {} if transparent is None else {"transparency": transparent}
    path = tmp_path / f"a.{form.lower()}"
    indexed.save(path, form, **options)

    picture = read(path)
    assert "The palette became RGB." in picture.notes
    np.testing.assert_array_equal(picture.pixels, palette[np.asarray(image)])
    if transparent is None:
        assert picture.alpha is None
    else:
        table = np.frombuffer(transparent, np.uint8) if isinstance(transparent, bytes) else None
        of_index = table if table is not None else np.where(np.arange(16) == 3, 0, 255)
        np.testing.assert_array_equal(picture.alpha, of_index[np.asarray(image)])
    keep = np.arange(SIZE[1]) < 4 * np.ones((SIZE[0], 1))
    out = picture.replaced(torch.zeros(3, *SIZE), keep).save(tmp_path / "out.png")
    np.testing.assert_array_equal(decoded(out)[..., :3][keep], palette[np.asarray(image)][keep])
    assert (decoded(out)[..., :3][~keep] == 128).all()


TIFFS: dict[str, dict[str, Any]] = {
    "deflate with differences": {"compression": "zlib", "predictor": True},
    "planes apart": {"planarconfig": "separate"},
    "big-endian": {"byteorder": ">"},
    "64-bit offsets": {"bigtiff": True},
    "tiles": {"tile": (16, 16), "compression": "zlib"},
    "many strips": {"rowsperstrip": 2},
}


@pytest.mark.parametrize("kind", TIFFS)
@pytest.mark.parametrize("dtype", PEAK)
def test_tiff_layouts(kind: str, dtype: str, samples: Draw, tmp_path: Path) -> None:
    raw = samples(dtype, 37, 41, 3)
    options = dict(TIFFS[kind])
    if dtype.startswith("float"):
        options.pop("predictor", None)
    given = np.moveaxis(raw, 2, 0) if "planarconfig" in options else raw
    (tmp_path / "a.tif").write_bytes(tiff(given, photometric="rgb", **options))
    picture = read(tmp_path / "a.tif")
    np.testing.assert_array_equal(picture.pixels, raw, strict=True)


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
@pytest.mark.parametrize("count", [1, 3, 4])
def test_tiff_compressed_with_lzw(dtype: str, count: int, samples: Draw, tmp_path: Path) -> None:
    raw = samples(dtype, 40, 50, count)
    turned = raw[..., [2, 1, 0, 3][:count]] if count > 1 else raw
    path = tmp_path / "a.tif"
    cv2.imwrite(str(path), turned, [cv2.IMWRITE_TIFF_COMPRESSION, cv2.IMWRITE_TIFF_COMPRESSION_LZW])
    with tifffile.TiffFile(path) as found:
        assert found.pages[0].compression == 5
    np.testing.assert_array_equal(channels(read(path).merged()), raw)


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_tiff_with_white_as_zero_is_turned_round(dtype: str, samples: Draw, tmp_path: Path) -> None:
    raw = samples(dtype, *SIZE)
    (tmp_path / "a.tif").write_bytes(tiff(raw, photometric="miniswhite"))
    np.testing.assert_array_equal(read(tmp_path / "a.tif").pixels, PEAK[dtype] - raw, strict=True)


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
def test_tiff_with_premultiplied_alpha_is_divided(
    dtype: str, samples: Draw, tmp_path: Path
) -> None:
    straight = samples(dtype, *SIZE, 3).astype(np.float64) / PEAK[dtype]
    alpha = 0.5 + 0.5 * samples("float64", *SIZE, seed=3)
    alpha[0] = 0
    both = np.dstack([straight * alpha[..., None], alpha])
    stored = both if dtype == "float32" else np.rint(both * PEAK[dtype])
    data = tiff(stored.astype(dtype), photometric="rgb", extrasamples=["assocalpha"])
    (tmp_path / "a.tif").write_bytes(data)
    picture = read(tmp_path / "a.tif")
    assert len(picture.notes) == 1
    got = picture.pixels / PEAK[dtype]
    level = 0 if dtype == "float32" else 1 / PEAK[dtype]
    np.testing.assert_allclose(got[1:], straight[1:], rtol=0, atol=2.1 * level + 1e-6)
    np.testing.assert_array_equal(picture.pixels[0], 0)


def test_bilevel_files(samples: Draw, tmp_path: Path) -> None:
    raw = samples("bool", *SIZE)
    for form in ("PNG", "TIFF", "BMP", "GIF"):
        path = tmp_path / f"a.{form.lower()}"
        Image.fromarray(raw).save(path, form)
        picture = read(path)
        np.testing.assert_array_equal(picture.luminance(), raw.astype(np.float32))
        out = picture.save(tmp_path / f"{form}.png")
        np.testing.assert_array_equal(read(out).luminance(), raw.astype(np.float32))


def test_file_contents_decide_not_names(samples: Draw, png: Png, tmp_path: Path) -> None:
    raw = samples("uint8", *SIZE, 3)
    (tmp_path / "a.jpg").write_bytes(png(raw))
    picture = read(str(tmp_path / "a.jpg"))
    assert picture.format == "PNG"
    assert (picture.kind, picture.path) == ("path", tmp_path / "a.jpg")
    np.testing.assert_array_equal(picture.pixels, raw)


@pytest.mark.parametrize("form", ["GIF", "WEBP", "PNG", "TIFF"])
def test_animations_give_their_first_frame_and_say_so(
    form: str, samples: Draw, tmp_path: Path
) -> None:
    first, second = (Image.fromarray(samples("uint8", *SIZE, 3, seed=n) // 64 * 85) for n in (0, 1))
    path = tmp_path / "a"
    options: dict[str, Any] = {"lossless": True} if form == "WEBP" else {}
    first.save(path, form, save_all=True, append_images=[second], **options)
    picture = read(path)
    assert "Only one frame of several was read." in picture.notes
    np.testing.assert_array_equal(picture.pixels, np.asarray(first))


@pytest.mark.parametrize("mode", ["1", "L", "LA", "RGB", "RGBA", "CMYK", "F", "I;16"])
def test_pillow_images_come_back_in_their_mode(mode: str, samples: Draw) -> None:
    bands = {"LA": 2, "RGB": 3, "RGBA": 4, "CMYK": 4}.get(mode)
    dtype = {"1": "bool", "F": "float32", "I;16": "uint16"}.get(mode, "uint8")
    raw = samples(dtype, *SIZE, *([bands] if bands else []))
    image = (
        Image.frombytes("CMYK", SIZE[::-1], raw.tobytes())
        if mode == "CMYK"
        else Image.fromarray(raw)
    )
    assert image.mode == mode
    picture = read(image)
    native = picture.native()
    assert isinstance(native, Image.Image)
    assert native.mode == mode
    assert native.tobytes() == image.tobytes()
    kept = picture.replaced(torch.zeros(3, *SIZE), np.ones(SIZE, bool)).native()
    assert isinstance(kept, Image.Image)
    assert kept.convert("F").tobytes() == image.convert("F").tobytes()


def test_pillow_s_other_16_bit_order(samples: Draw) -> None:
    raw = samples("uint16", *SIZE)
    image = Image.frombytes("I;16B", SIZE[::-1], raw.astype(">u2").tobytes())
    np.testing.assert_array_equal(read(image).pixels, raw, strict=True)


def test_a_path_gives_pillow_or_an_array_where_pillow_has_no_mode(
    samples: Draw, png: Png, tmp_path: Path
) -> None:
    for dtype, count, mode in [("uint8", 4, "RGBA"), ("uint16", 1, "I;16"), ("uint16", 3, None)]:
        raw = samples(dtype, *SIZE, *([count] if count > 1 else []))
        (tmp_path / "a.png").write_bytes(png(raw))
        native = read(tmp_path / "a.png").native()
        assert getattr(native, "mode", None) == mode
        np.testing.assert_array_equal(np.asarray(native), raw, strict=True)
    np.save(tmp_path / "a.npy", raw.astype(np.float32) / 65535)
    native = read(tmp_path / "a.npy").native()
    np.testing.assert_array_equal(native, raw.astype(np.float32) / 65535, strict=True)
