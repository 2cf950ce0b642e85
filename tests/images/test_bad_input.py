"""Each kind of bad input gives one sentence that names it."""

from __future__ import annotations

import io
import os
import pickle
import re
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import tifffile
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from differential_diffusion.errors import InputError
from differential_diffusion.images import read

Png = Callable[..., bytes]
Draw = Callable[..., npt.NDArray[Any]]
RNG = np.random.default_rng(0)
NOISE = RNG.integers(0, 256, (64, 64, 3), dtype=np.uint8)


def refused(source: Any, **options: Any) -> str:
    """The message with which `read` refuses, checked to be one sentence."""
    with pytest.raises(InputError) as raised:
        read(source, **options)
    message = str(raised.value)
    assert message.endswith(".")
    assert "\n" not in message
    assert len(message) < 250 + len(str(source))
    assert "object at 0x" not in message
    return message


def file_of(form: str, **options: Any) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(NOISE).save(stream, form, **options)
    return stream.getvalue()


def tiff(samples: npt.NDArray[Any], **options: Any) -> bytes:
    stream = io.BytesIO()
    tifffile.imwrite(stream, samples, **options)
    return stream.getvalue()


def npy(array: npt.NDArray[Any], **options: Any) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array, **options)
    return stream.getvalue()


class Trap:
    """Leaves a file behind when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return (open, (str(self.mark), "w"))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is empty"),
        (b"this is text renamed to .png", "is no PNG"),
        (b"\0" * 100, "is no PNG"),
        (b"%PDF-1.7 and so on", "is no PNG"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "is no PNG"),
        (b"\x89PNG\r\n\x1a\n", "cannot be decoded"),
        (b"\xff\xd8\xff\xe0\0\x10JFIF", "cannot be decoded"),
        (b"GIF89a", "cannot be decoded"),
        (b"BM", "cannot be decoded"),
        (b"RIFF\0\0\0\0WEBP", "cannot be decoded"),
        (b"RIFF\0\0\0\0WAVEfmt ", "cannot be decoded"),
        (b"II*\0", "cannot be decoded"),
        (b"MM\0*\0\0\0\x08\0\0", "has no pixels"),
        (b"\x93NUMPY\x01\0", "cannot be decoded"),
        (pickle.dumps([1, 2, 3]), "is no PNG"),
    ],
)
def test_files_that_are_no_images(content: bytes, said: str, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(content)
    message = refused(tmp_path / "a.png")
    assert said in message
    assert str(tmp_path / "a.png") in message


@pytest.mark.parametrize("form", ["PNG", "JPEG", "TIFF", "WEBP", "BMP", "GIF"])
@pytest.mark.parametrize("part", [0.05, 0.3, 0.6, 0.95])
def test_truncated_files(form: str, part: float, tmp_path: Path) -> None:
    whole = file_of(form)
    (tmp_path / "a").write_bytes(whole[: int(len(whole) * part)])
    assert re.search("cannot be decoded|is truncated", refused(tmp_path / "a"))


@pytest.mark.parametrize("part", [0.05, 0.3, 0.6, 0.95])
@pytest.mark.parametrize("kind", ["png", "tif", "deflated", "npy"])
def test_truncated_16_bit_files(
    part: float, kind: str, samples: Draw, png: Png, capfd: Any, tmp_path: Path
) -> None:
    raw = samples("uint16", 64, 64, 3)
    whole = {
        "png": lambda: png(raw),
        "tif": lambda: tiff(raw, photometric="rgb"),
        "deflated": lambda: tiff(raw, photometric="rgb", compression="zlib"),
        "npy": lambda: npy(raw),
    }[kind]()
    (tmp_path / "a").write_bytes(whole[: int(len(whole) * part)])
    assert re.search("cannot be decoded|is truncated", refused(tmp_path / "a"))
    assert capfd.readouterr() == ("", "")  # no decoder's own complaints on the console


@pytest.mark.parametrize("form", ["PNG", "JPEG", "TIFF", "WEBP", "BMP", "GIF", "PNG16", "TIFF16"])
@given(damage=st.lists(st.tuples(st.floats(0, 0.999), st.integers(0, 255)), min_size=1, max_size=6))
def test_any_damage_gives_a_picture_or_one_sentence(
    form: str, damage: list[tuple[float, int]], samples: Draw, png: Png, tmp_path_factory: Any
) -> None:
    raw = samples("uint16", 16, 16, 3)
    small = io.BytesIO()
    if not form.endswith("16"):
        Image.fromarray(NOISE[:16, :16]).save(small, form)
    whole = {"PNG16": lambda: png(raw), "TIFF16": lambda: tiff(raw, photometric="rgb")}
    data = bytearray(whole.get(form, small.getvalue)())
    for place, value in damage:
        data[int(place * len(data))] = value
    path = tmp_path_factory.mktemp("damaged", numbered=True) / "a"
    path.write_bytes(data)
    try:
        picture = read(path, max_pixels=100_000)
    except InputError:
        refused(path, max_pixels=100_000)
    else:
        assert picture.height * picture.width <= 100_000


@pytest.mark.parametrize("depth", [8, 16])
def test_png_with_damaged_content(depth: int, samples: Draw, png: Png, tmp_path: Path) -> None:
    data = bytearray(png(samples(f"uint{depth}", 64, 64, 3)))
    at = data.index(b"IDAT") + 200
    data[at : at + 40] = bytes(40)
    (tmp_path / "a.png").write_bytes(data)
    assert "cannot be decoded" in refused(tmp_path / "a.png")


def test_places_that_hold_no_file(tmp_path: Path) -> None:
    assert "does not exist" in refused(tmp_path / "missing.png")
    assert "does not exist" in refused("a\0b.png")
    assert "is a folder" in refused(tmp_path)
    assert "cannot be read" in refused(tmp_path / ("n" * 300))
    (tmp_path / "broken.png").symlink_to(tmp_path / "gone.png")
    assert "does not exist" in refused(tmp_path / "broken.png")
    os.mkfifo(tmp_path / "pipe.png")
    assert "is a device or a pipe" in refused(tmp_path / "pipe.png")


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read all")
def test_files_without_permission(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(file_of("PNG"))
    (tmp_path / "a.png").chmod(0)
    assert "cannot be read (Permission denied)" in refused(tmp_path / "a.png")


def bomb(width: int, height: int, depth: int = 8) -> bytes:
    """A small PNG that claims to be huge."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        crc = struct.pack(">I", zlib.crc32(kind + data))
        return struct.pack(">I", len(data)) + kind + data + crc

    header = struct.pack(">IIBBBBB", width, height, depth, 2, 0, 0, 0)
    body = zlib.compress(bytes(1000))
    chunks = [(b"IHDR", header), (b"IDAT", body), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in chunks)


@pytest.mark.parametrize("depth", [8, 16])
def test_decompression_bombs(depth: int, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(bomb(60_000, 60_000, depth))
    assert "more pixels than Pillow allows" in refused(tmp_path / "a.png")
    (tmp_path / "a.png").write_bytes(bomb(9000, 9000, depth))
    assert "max_pixels=80000000" in refused(tmp_path / "a.png", max_pixels=80_000_000)


@pytest.mark.parametrize(
    "make",
    [
        lambda raw: tiff(raw, photometric="rgb"),
        npy,
        lambda raw: file_of("BMP"),
        lambda raw: file_of("JPEG"),
    ],
)
def test_max_pixels_holds_for_every_kind(make: Callable[..., bytes], tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(make(NOISE))
    assert "64x64 pixels, more than max_pixels=4095" in refused(tmp_path / "a", max_pixels=4095)
    assert read(tmp_path / "a", max_pixels=4096).height == 64


def test_max_pixels_holds_for_values_in_memory() -> None:
    tensor = torch.from_numpy(NOISE.transpose(2, 0, 1))
    for source in (NOISE, Image.fromarray(NOISE), tensor):
        assert "max_pixels=4095" in refused(source, max_pixels=4095)


def test_tiff_and_npy_that_claim_to_be_huge(tmp_path: Path) -> None:
    data = tiff(np.zeros((8, 8), np.uint8))
    with tifffile.TiffFile(io.BytesIO(data)) as found:
        sides = [found.pages[0].tags[name].valueoffset for name in ("ImageWidth", "ImageLength")]
    huge = bytearray(data)
    for at in sides:
        struct.pack_into("<H", huge, at, 60_000)
    (tmp_path / "a.tif").write_bytes(huge)
    assert "60000x60000 pixels" in refused(tmp_path / "a.tif")
    (tmp_path / "a.npy").write_bytes(
        npy(np.zeros((8, 10), np.uint8)).replace(b"(8, 10)", b"(8, 99)")
    )
    assert "cannot be decoded" in refused(tmp_path / "a.npy")


def test_npy_is_never_unpickled(tmp_path: Path) -> None:
    mark = tmp_path / "executed"
    trap = np.array([[Trap(mark)]], dtype=object)
    (tmp_path / "a.npy").write_bytes(npy(trap, allow_pickle=True))
    assert "cannot be decoded" in refused(tmp_path / "a.npy")
    assert not mark.exists()


@pytest.mark.parametrize(
    ("array", "said"),
    [
        (np.zeros((4, 4), np.int64), "holds int64 samples"),
        (np.zeros((4, 4, 3), np.int8), "holds int8 samples"),
        (np.zeros((4, 4), np.uint32), "holds uint32 samples"),
        (np.zeros((4, 4), np.complex64), "holds complex64 samples"),
        (np.zeros((4, 4), object), "holds object samples"),
        (np.full((4, 4), "x"), "samples"),
        (np.zeros((0, 4), np.uint8), "has no pixels"),
        (np.zeros((4, 0, 3)), "has no pixels"),
        (np.zeros(4), r"shape \(4,\)"),
        (np.zeros(()), r"shape \(\)"),
        (np.zeros((4, 4, 5)), r"shape \(4, 4, 5\)"),
        (np.zeros((4, 4, 0)), r"shape \(4, 4, 0\)"),
        (np.zeros((1, 4, 4, 3)), r"shape \(1, 4, 4, 3\)"),
        (np.zeros((3, 40, 50)), r"transpose\(1, 2, 0\)"),
        (np.array([[0, np.nan]]), "NaN or infinite"),
        (np.array([[0, np.inf]], np.float32), "NaN or infinite"),
        (np.array([[0, 255.0]]), "floats from 0 to 255"),
        (np.array([[-1, 1.0]]), r"\(x \+ 1\) / 2"),
        (np.array([[0, 1 + 1e-6]]), "floats from 0 to 1"),
    ],
)
def test_arrays_that_are_not_read(array: npt.NDArray[Any], said: str) -> None:
    assert re.search(said, refused(array))


@pytest.mark.parametrize(
    ("tensor", "said"),
    [
        (torch.zeros(2, 3, 4, 4), r"shape \(2, 3, 4, 4\)"),
        (torch.zeros(4), r"shape \(4,\)"),
        (torch.zeros(40, 50, 3), r"shape \(40, 50, 3\)"),
        (torch.zeros(3, 4, 4, dtype=torch.int64), "torch.int64"),
        (torch.zeros(3, 0, 4), "has no pixels"),
        (torch.full((3, 4, 4), -1.0), "floats from -1 to -1"),
        (torch.full((3, 4, 4), torch.nan), "NaN or infinite"),
        (torch.full((3, 4, 4), 2.0, dtype=torch.bfloat16), "floats from 2 to 2"),
    ],
)
def test_tensors_that_are_not_read(tensor: torch.Tensor, said: str) -> None:
    assert re.search(said, refused(tensor))


@pytest.mark.parametrize("mode", ["I", "YCbCr", "LAB", "HSV", "La", "RGBa", "RGBX"])
def test_pillow_modes_that_are_not_read(mode: str) -> None:
    message = refused(Image.new(mode, (3, 2)))
    assert f"mode {mode!r}" in message
    assert "image.convert(" in message


def test_pillow_images_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(file_of("PNG"))
    image = Image.open(tmp_path / "a.png")
    image.close()
    assert "cannot be decoded" in refused(image)
    assert "no pixels" in refused(Image.new("L", (0, 3)))
    assert "floats from 5 to 5" in refused(Image.new("F", (2, 2), 5.0))


@pytest.mark.parametrize("source", [None, 3, b"bytes", [[0, 1]], {"a": 1}])
def test_other_things_are_no_pictures(source: Any) -> None:
    assert f"a {type(source).__name__} is no picture" in refused(source)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (tiff(np.zeros((4, 4), np.int32)), "holds int32 samples"),
        (tiff(np.zeros((4, 4, 3), np.uint32), photometric="rgb"), "holds uint32 samples"),
        (tiff(np.full((4, 4), 7, np.float32)), "floats from 7 to 7"),
        (tiff(np.full((4, 4), np.nan, np.float32)), "NaN or infinite"),
        (tiff(np.zeros((4, 4, 3), np.uint16), photometric="rgb", subfiletype=1), "preview"),
        (tiff(np.zeros((4, 4, 3), np.uint16), photometric="cielab"), "photometric"),
        (
            tiff(np.zeros((4, 4, 5), np.uint8), photometric="separated", planarconfig="contig"),
            "5 channels",
        ),
    ],
)
def test_tiff_kinds_that_are_not_read(data: bytes, said: str, tmp_path: Path) -> None:
    (tmp_path / "a.tif").write_bytes(data)
    assert said in refused(tmp_path / "a.tif")


@pytest.mark.parametrize(
    ("x", "keep", "said"),
    [
        (torch.zeros(3, 5, 4), np.ones((4, 4), bool), "has shape (3, 5, 4)"),
        (torch.zeros(1, 4, 4), np.ones((4, 4), bool), "needs (3, 4, 4)"),
        (torch.zeros(2, 3, 4, 4), np.ones((4, 4), bool), "has shape (2, 3, 4, 4)"),
        (torch.zeros(3, 4, 4), np.ones((4, 5), bool), "keep has shape (4, 5)"),
        (torch.zeros(3, 4, 4), np.ones((4, 4)), "dtype float64"),
        (torch.full((3, 4, 4), torch.nan), np.zeros((4, 4), bool), "NaN or infinite"),
        (torch.full((3, 4, 4), torch.inf), np.zeros((4, 4), bool), "NaN or infinite"),
    ],
)
def test_replacements_that_do_not_fit(x: torch.Tensor, keep: npt.NDArray[Any], said: str) -> None:
    with pytest.raises(InputError, match=re.escape(said)):
        read(np.zeros((4, 4), np.uint8)).replaced(x, keep)


def test_nan_under_kept_pixels_does_no_harm() -> None:
    raw = np.arange(16, dtype=np.uint8).reshape(4, 4)
    kept = read(raw).replaced(torch.full((3, 4, 4), torch.nan), np.ones((4, 4), bool))
    np.testing.assert_array_equal(kept.native(), raw)
