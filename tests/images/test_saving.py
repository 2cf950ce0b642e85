"""Files appear whole or not at all, and what they cannot hold is refused or told."""

from __future__ import annotations

import os
import threading
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from PIL import Image

from differential_diffusion.errors import InputError
from differential_diffusion.images import FORMATS, SUFFIXES, LossyOutputWarning, Metadata, read

Array = npt.NDArray[Any]
Draw = Callable[..., Array]
SIZE = (12, 17)


@pytest.fixture
def rgb(samples: Draw) -> Array:
    return samples("uint8", *SIZE, 3)


def test_a_write_that_fails_midway_leaves_the_old_file(samples: Draw, tmp_path: Path) -> None:
    """The system stops the write at 20 kB, as a full disk would."""
    resource = pytest.importorskip("resource")
    target = tmp_path / "a.png"
    target.write_bytes(b"old")
    picture = read(samples("uint8", 300, 300, 3))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))  # Python ignores the signal itself
    try:
        with pytest.raises(InputError, match=r"cannot be written \(File too large\)"):
            picture.save(target)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert target.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["a.png"]


def test_readers_never_see_half_a_file(rgb: Array, tmp_path: Path) -> None:
    target = tmp_path / "a.png"
    pictures = [read(np.full((200, 200, 3), value, np.uint8)) for value in (0, 255)]
    pictures[0].save(target)
    seen, done = [], threading.Event()

    def watch() -> None:
        while not done.is_set():
            seen.append(set(np.unique(read(target).pixels)))

    watcher = threading.Thread(target=watch)
    watcher.start()
    for turn in range(20):
        pictures[turn % 2].save(target)
    done.set()
    watcher.join()
    assert seen
    assert all(values in ({0}, {255}) for values in seen)
    assert os.listdir(tmp_path) == ["a.png"]


def test_new_files_follow_the_umask_and_old_ones_keep_their_mode(
    rgb: Array, tmp_path: Path
) -> None:
    before = os.umask(0o027)
    try:
        out = read(rgb).save(tmp_path / "a.png")
        assert out.stat().st_mode & 0o777 == 0o640
        out.chmod(0o604)
        read(rgb).save(out)
        assert out.stat().st_mode & 0o777 == 0o604
    finally:
        os.umask(before)


def test_a_link_is_written_through(rgb: Array, tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "a.png").write_bytes(b"old")
    (tmp_path / "b.png").symlink_to(tmp_path / "real" / "a.png")
    read(rgb).save(tmp_path / "b.png")
    assert (tmp_path / "b.png").is_symlink()
    np.testing.assert_array_equal(read(tmp_path / "real" / "a.png").pixels, rgb)


@pytest.mark.parametrize("way", ["same", "relative", "symlink", "hard link"])
def test_the_source_is_never_overwritten(way: str, rgb: Array, tmp_path: Path) -> None:
    source = tmp_path / "a.png"
    Image.fromarray(rgb).save(source)
    before = source.read_bytes()
    picture = read(source).replaced(torch.zeros(3, *SIZE), np.zeros(SIZE, bool))
    target = {
        "same": source,
        "relative": tmp_path / "b" / ".." / "a.png",
        "symlink": tmp_path / "link.png",
        "hard link": tmp_path / "hard.png",
    }[way]
    (tmp_path / "b").mkdir()
    if way == "symlink":
        target.symlink_to(source)
    if way == "hard link":
        target.hardlink_to(source)
    with pytest.raises(InputError, match="is the source itself"):
        picture.save(target)
    assert source.read_bytes() == before


def test_overwriting_can_be_forbidden(rgb: Array, tmp_path: Path) -> None:
    read(rgb).save(tmp_path / "a.png", overwrite=False)
    with pytest.raises(InputError, match="exists"):
        read(rgb).save(tmp_path / "a.png", overwrite=False)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("a", "which format"),
        ("a.xyz", "which format"),
        ("a.png.bak", "which format"),
        ("missing/a.png", "does not exist"),
        ("file.txt/a.png", "is not a folder"),
        ("folder.png", "is a folder"),
        ("n" * 300 + ".png", "cannot be written"),
    ],
)
def test_places_that_cannot_be_written(name: str, said: str, rgb: Array, tmp_path: Path) -> None:
    (tmp_path / "file.txt").write_text("x")
    (tmp_path / "folder.png").mkdir()
    with pytest.raises(InputError, match=said) as raised:
        read(rgb).save(tmp_path / name)
    assert str(raised.value).endswith(".")
    assert "\n" not in str(raised.value)
    assert sorted(os.listdir(tmp_path)) == ["file.txt", "folder.png"]


@pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write anywhere"
)
def test_folders_without_permission(rgb: Array, tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(InputError, match="cannot be written"):
            read(rgb).save(tmp_path / "a.png")
    finally:
        tmp_path.chmod(0o700)


ALPHA_LESS = [".jpg", ".bmp", ".gif"]


@pytest.mark.parametrize("suffix", ALPHA_LESS)
@pytest.mark.parametrize("count", [2, 4])
def test_alpha_is_refused_rather_than_dropped(
    suffix: str, count: int, samples: Draw, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match="cannot hold alpha"):
        read(samples("uint8", *SIZE, count)).save(tmp_path / f"a{suffix}")
    assert not os.listdir(tmp_path)


LOSSES: list[tuple[str, str, int, str]] = [
    (".jpg", "uint8", 3, "its pixels, kept ones too, are re-encoded"),
    (".jpg", "uint8", 1, "its pixels, kept ones too, are re-encoded"),
    (".jpg", "uint16", 3, "uint16 values are rounded to 8 bits; its pixels"),
    (".gif", "uint8", 3, "its pixels, kept ones too, are re-encoded"),
    (".png", "float32", 3, "float32 values are rounded to 16 bits"),
    (".png", "float64", 4, "float64 values are rounded to 16 bits"),
    (".webp", "uint16", 4, "uint16 values are rounded to 8 bits"),
    (".bmp", "float32", 3, "float32 values are rounded to 8 bits"),
]


@pytest.mark.parametrize(("suffix", "dtype", "count", "said"), LOSSES)
def test_what_is_converted_is_told_once(
    suffix: str, dtype: str, count: int, said: str, samples: Draw, tmp_path: Path
) -> None:
    smooth = np.linspace(0, 1, 12 * 17).reshape(12, 17, 1) * np.linspace(1, 0.5, count)
    peak = {"uint8": 255, "uint16": 65535}.get(dtype, 1)
    raw = (smooth * peak).astype(dtype)
    with pytest.warns(LossyOutputWarning) as told:
        out = read(raw).save(tmp_path / f"a{suffix}")
    assert len(told) == 1
    assert said in str(told[0].message)
    assert told[0].filename == __file__
    again = read(out)
    got = again.merged() / again.value_range[1]
    exact = suffix in (".png", ".webp", ".bmp")
    levels = 65535 if suffix == ".png" else 255
    tolerance = 0.501 / levels + (0.5 / peak if peak > 1 else 0) if exact else 0.03
    want = raw.astype(float).reshape(12, 17, count) / peak
    assert np.abs(np.atleast_3d(got) - want).max() <= tolerance


@pytest.mark.parametrize(
    ("suffix", "lost"),
    [
        (".bmp", "ICC profile, EXIF, XMP, comment, text"),
        (".npy", "ICC profile, EXIF, XMP, comment, text"),
        (".tif", "comment, text"),
        (".webp", "comment, text"),
        (".gif", "ICC profile, EXIF, XMP, text"),
        (".png", None),
    ],
)
def test_metadata_without_a_place_is_told(
    suffix: str, lost: str | None, samples: Draw, tmp_path: Path
) -> None:
    info = Metadata(
        icc=b"icc", exif=b"II*\0\x08\0\0\0\0\0\0\0\0\0", xmp=b"x", comment=b"c", text={"a": "b"}
    )
    picture = read(samples("uint8", *SIZE))
    object.__setattr__(picture, "metadata", info)
    if lost is None:
        picture.save(tmp_path / f"a{suffix}")  # warnings are errors here
    else:
        with pytest.warns(LossyOutputWarning, match=f"no place for its {lost}\\."):
            picture.save(tmp_path / f"a{suffix}")


def test_8_bit_values_survive_floats_and_png(tmp_path: Path) -> None:
    ramp = np.arange(256, dtype=np.uint8).reshape(16, 16)
    with pytest.warns(LossyOutputWarning):
        out = read((ramp / 255).astype(np.float32)).save(tmp_path / "a.png")
    np.testing.assert_array_equal(read(out).pixels, ramp * np.uint16(257))


def test_half_floats_are_exact_in_tiff(samples: Draw, tmp_path: Path) -> None:
    raw = samples("float16", *SIZE, 3)
    out = read(raw).save(tmp_path / "a.tif")
    np.testing.assert_array_equal(read(out).pixels, raw.astype(np.float32), strict=True)


def test_jpeg_has_full_chroma_at_quality_95(rgb: Array, tmp_path: Path) -> None:
    with pytest.warns(LossyOutputWarning):
        read(rgb).save(tmp_path / "a.jpg")
    Image.fromarray(rgb).save(tmp_path / "b.jpg", quality=95, subsampling=0)
    assert (tmp_path / "a.jpg").read_bytes() == (tmp_path / "b.jpg").read_bytes()


def test_saving_the_same_picture_twice_gives_the_same_bytes(samples: Draw, tmp_path: Path) -> None:
    picture = read(samples("uint16", *SIZE, 3))
    for suffix in (".png", ".tif"):
        first, second = (picture.save(tmp_path / f"{n}{suffix}").read_bytes() for n in "ab")
        assert first == second


def test_suffixes_are_matched_in_any_case(rgb: Array, tmp_path: Path) -> None:
    assert {suffix for form in FORMATS.values() for suffix in form.suffixes} == SUFFIXES
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", LossyOutputWarning)
        for suffix in sorted(SUFFIXES):
            out = read(rgb).save(str(tmp_path / f"a{suffix.upper()}"))
            assert read(out).pixels.shape == rgb.shape


@pytest.mark.parametrize("suffix", [".jpg", ".webp"])
def test_sides_beyond_the_format_s_are_refused(suffix: str, tmp_path: Path) -> None:
    picture = read(np.zeros((70_000, 1), np.uint8))
    with pytest.raises(InputError, match="cannot be written as"):
        picture.save(tmp_path / f"a{suffix}")
    assert not os.listdir(tmp_path)
