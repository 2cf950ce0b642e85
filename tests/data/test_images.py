"""Pictures from every kind of source, by values; damaged ones counted and named."""

from __future__ import annotations

import io
import struct
import tarfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray
from PIL import Image

from differential_diffusion.data.images import ImageCollection, NamedImage, load_images
from differential_diffusion.data.sources import find_pictures, picture_names
from differential_diffusion.errors import InputError

Pixels = NDArray[Any]


def pixels(seed: int = 0, shape: tuple[int, ...] = (6, 9, 3), dtype: Any = np.uint8) -> Pixels:
    rng = np.random.default_rng(seed)
    return rng.integers(0, np.iinfo(dtype).max, shape, dtype, endpoint=True)


def png(array: Pixels) -> bytes:
    file = io.BytesIO()
    Image.fromarray(array).save(file, "PNG")
    return file.getvalue()


def tiff(array: Pixels, **options: Any) -> bytes:
    file = io.BytesIO()
    tifffile.imwrite(file, array, **options)
    return file.getvalue()


def lzw(array: Pixels) -> bytes:
    return cv2.imencode(".tif", array[..., ::-1], [cv2.IMWRITE_TIFF_COMPRESSION, 5])[1].tobytes()


def deep_png(array: Pixels, exif: bytes = b"") -> bytes:
    """A PNG of 16 bits of grey and alpha, RGB or RGBA, as its specification has it."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        check = struct.pack(">I", zlib.crc32(kind + content))
        return struct.pack(">I", len(content)) + kind + content + check

    height, width, channels = array.shape
    head = struct.pack(">IIBBBBB", width, height, 16, {2: 4, 3: 2, 4: 6}[channels], 0, 0, 0)
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in array)
    told = chunk(b"eXIf", exif) if exif else b""
    body = chunk(b"IHDR", head) + told + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def npy(array: Pixels) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def tar(path: Path, members: dict[str, bytes], mode: str = "w") -> Path:
    with tarfile.open(path, mode) as archive:  # type: ignore[call-overload]
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


def by_name(collection: ImageCollection) -> dict[str, NamedImage]:
    return {image.name: image for image in collection.images}


ORDERS = {
    "beside": ["a.jpg", "a.cls", "b.png", "b.cls", "c/d.png", "c/d.cls"],
    "classes first": ["b.cls", "c/d.cls", "a.cls", "a.jpg", "b.png", "c/d.png"],
    "classes last": ["a.jpg", "c/d.png", "b.png", "a.cls", "b.cls", "c/d.cls"],
    "crossed": ["b.cls", "a.jpg", "c/d.png", "b.png", "c/d.cls", "a.cls"],
}


@pytest.mark.parametrize("kind", ["tar", "tar.gz"])
@pytest.mark.parametrize("order", ORDERS)
def test_classes_of_shards_in_any_order(tmp_path: Path, order: str, kind: str) -> None:
    content = {
        "a.jpg": png(pixels(1)),  # told by what is inside, not by the name
        "b.png": png(pixels(2)),
        "c/d.png": png(pixels(3)),
        "a.cls": b"7\n",
        "b.cls": b"3",
        "c/d.cls": "Büchse".encode(),
        "a.txt": b"a caption",
    }
    members = {name: content[name] for name in [*ORDERS[order], "a.txt"]}
    path = tar(tmp_path / f"shard.{kind}", members, "w:gz" if "gz" in kind else "w")
    found = by_name(load_images(path, labels="source"))
    assert {name: image.label for name, image in found.items()} == {
        "a.jpg": "7",
        "b.png": "3",
        "c/d.png": "Büchse",
    }
    for seed, name in enumerate(("a.jpg", "b.png", "c/d.png"), 1):
        assert np.array_equal(found[name].pixels, pixels(seed))


def test_a_folder_of_shards(tmp_path: Path) -> None:
    for shard in range(3):
        members = {f"{k}.png": png(pixels(10 * shard + k)) for k in range(4)}
        tar(tmp_path / f"{shard:03d}.tar", members)
    (tmp_path / "readme.txt").write_text("notes")
    found = by_name(load_images(tmp_path))
    assert list(found) == [f"{shard:03d}.tar/{k}.png" for shard in range(3) for k in range(4)]
    assert np.array_equal(found["002.tar/3.png"].pixels, pixels(23))
    Image.fromarray(pixels()).save(tmp_path / "beside.png")
    with pytest.raises(InputError, match=r"both archives, such as '000.tar', and pictures"):
        load_images(tmp_path)


def test_classes_by_folder(tmp_path: Path) -> None:
    for name in ("cat/1.png", "cat/2.png", "deep/dog/1.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels()).save(tmp_path / name)
    found = by_name(load_images(tmp_path, labels="folders"))
    assert [image.label for image in found.values()] == ["cat", "cat", "dog"]
    assert all(image.label is None for image in load_images(tmp_path).images)
    Image.fromarray(pixels()).save(tmp_path / "stray.png")
    with pytest.raises(InputError, match=r"'stray.png' in .* has no class in a folder of its own"):
        load_images(tmp_path, labels="folders")
    with pytest.raises(InputError, match="has no class beside it"):
        load_images(tmp_path, labels="source")


def test_the_name_of_a_shard_is_no_class(tmp_path: Path) -> None:
    tar(tmp_path / "cats.tar", {"1.png": png(pixels())})
    with pytest.raises(InputError, match="has no class in a folder of its own"):
        load_images(tmp_path, labels="folders")
    tar(tmp_path / "cats.tar", {"cat/1.png": png(pixels())})
    assert load_images(tmp_path, labels="folders").images[0].label == "cat"


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    """A set of two splits that `datasets` saved, with modes that an array does not tell of."""
    import datasets

    palette = Image.fromarray(pixels(1)).convert("P")
    cmyk = Image.fromarray(pixels(2)).convert("CMYK")
    deep = Image.fromarray(pixels(3, (6, 9), np.uint16))
    grey = Image.fromarray(pixels(4, (6, 9)))
    features = datasets.Features(
        {"picture": datasets.Image(), "kind": datasets.ClassLabel(names=["x", "y"])}
    )
    rows = {"picture": [palette, cmyk, deep, grey], "kind": [0, 1, 1, 0]}
    train = datasets.Dataset.from_dict(rows, features=features)
    test = datasets.Dataset.from_dict({"picture": [grey], "kind": [1]}, features=features)
    datasets.DatasetDict({"train": train, "test": test}).save_to_disk(str(tmp_path / "set"))
    return tmp_path / "set"


def test_a_set_that_datasets_saved(saved: Path) -> None:
    found = load_images(saved, labels="source").images
    assert [image.label for image in found] == ["x", "y", "y", "x"]
    palette = np.asarray(Image.fromarray(pixels(1)).convert("P").convert("RGB"))
    assert np.array_equal(found[0].pixels, palette)
    cmyk = np.asarray(Image.fromarray(pixels(2)).convert("CMYK").convert("RGB"))
    assert np.abs(found[1].pixels.astype(int) - cmyk).max() <= 60  # JPEG has been at it, no more
    assert np.array_equal(found[3].pixels, pixels(4, (6, 9))[..., None].repeat(3, 2))
    deep = load_images(saved, channels=1).images[2].pixels
    assert np.array_equal(deep[..., 0], pixels(3, (6, 9), np.uint16))
    assert len(load_images(saved, split="test").images) == 1
    with pytest.raises(InputError, match=r"has no split 'dev': choose one of train, test"):
        load_images(saved, split="dev")


def test_a_damaged_picture_of_a_set_is_counted(tmp_path: Path) -> None:
    import datasets

    good = {"bytes": png(pixels()), "path": None}
    bad = {"bytes": b"no picture", "path": None}
    features = datasets.Features({"image": datasets.Image()})
    made = datasets.Dataset.from_dict({"image": [good] * 10 + [bad, None]}, features=features)
    made.save_to_disk(str(tmp_path / "set"))
    found = load_images(tmp_path / "set", max_skipped=0.2)
    assert len(found.images) == 10
    assert list(found.skipped) == ["00000010", "00000011"]


def test_a_set_without_pictures_and_one_that_is_damaged(tmp_path: Path) -> None:
    import datasets

    datasets.Dataset.from_dict({"text": ["a"]}).save_to_disk(str(tmp_path / "set"))
    with pytest.raises(InputError, match="no column of pictures"):
        load_images(tmp_path / "set")
    (tmp_path / "set" / "state.json").write_text("{")
    with pytest.raises(InputError, match="cannot be loaded") as caught:
        load_images(tmp_path / "set")
    assert "\n" not in str(caught.value)


RGB16 = pixels(5, (6, 9, 3), np.uint16)
GREY16 = pixels(6, (6, 9), np.uint16)
RGBA16 = pixels(10, (6, 9, 4), np.uint16)
FIVE = pixels(7, (6, 9, 5), np.uint16)
FLOAT = np.random.default_rng(8).random((6, 9)).astype(np.float32)
RGBA = pixels(9, (6, 9, 4))

# What a file holds, and what it is read as with so many channels.
READ: dict[str, tuple[str, bytes, int, Pixels]] = {
    "16-bit grey PNG": ("png", png(GREY16), 1, GREY16[..., None]),
    "16-bit grey PNG in colour": (
        "png",
        png(GREY16),
        3,
        GREY16[..., None].repeat(3, 2),
    ),
    "16-bit colour PNG": ("png", deep_png(RGB16), 3, RGB16),
    "16-bit colour and alpha PNG": ("png", deep_png(RGBA16), 3, RGBA16[..., :3]),
    "16-bit colour and alpha PNG of four": ("png", deep_png(RGBA16), 4, RGBA16),
    "16-bit grey and alpha PNG": (
        "png",
        deep_png(RGBA16[..., :2]),
        3,
        RGBA16[..., :1].repeat(3, 2),
    ),
    "16-bit grey TIFF": ("tif", tiff(GREY16), 1, GREY16[..., None]),
    "16-bit grey TIFF, big-endian": ("tif", tiff(GREY16, byteorder=">"), 1, GREY16[..., None]),
    "16-bit colour TIFF": ("tiff", tiff(RGB16, photometric="rgb"), 3, RGB16),
    "16-bit colour TIFF, big-endian": (
        "tiff",
        tiff(RGB16, photometric="rgb", byteorder=">"),
        3,
        RGB16,
    ),
    "16-bit colour TIFF, planes": (
        "tiff",
        tiff(np.moveaxis(RGB16, -1, 0), photometric="rgb", planarconfig="separate"),
        3,
        RGB16,
    ),
    "16-bit colour TIFF, LZW": ("tiff", lzw(RGB16), 3, RGB16),
    "five channels": ("tif", tiff(FIVE, photometric="minisblack"), 5, FIVE),
    "five channels, big-endian": (
        "tif",
        tiff(FIVE, photometric="minisblack", byteorder=">"),
        5,
        FIVE,
    ),
    "five planes": (
        "tif",
        tiff(np.moveaxis(FIVE, -1, 0), photometric="minisblack", planarconfig="separate"),
        5,
        FIVE,
    ),
    "float TIFF": ("tif", tiff(FLOAT), 1, FLOAT[..., None]),
    "array": ("npy", npy(FIVE), 5, FIVE),
    "array, big-endian": ("npy", npy(FIVE.astype(">u2")), 5, FIVE),
    "array, Fortran": ("npy", npy(np.asfortranarray(FIVE)), 5, FIVE),
    "float64 array": ("npy", npy(FLOAT.astype(np.float64)), 1, FLOAT[..., None]),
    "grey array in colour": ("npy", npy(GREY16), 3, GREY16[..., None].repeat(3, 2)),
    "four channels": ("png", png(RGBA), 4, RGBA),
    "two channels": ("png", png(RGBA[..., :2]), 2, RGBA[..., :2]),
    "colour as grey": (
        "png",
        png(RGBA[..., :3]),
        1,
        np.asarray(Image.fromarray(RGBA[..., :3]).convert("L"))[..., None],
    ),
}


@pytest.mark.parametrize("kind", READ)
def test_reads(tmp_path: Path, kind: str) -> None:
    suffix, content, channels, expected = READ[kind]
    (tmp_path / f"a.{suffix}").write_bytes(content)
    (image,) = load_images(tmp_path, channels=channels).images
    assert image.pixels.dtype == expected.dtype
    assert image.pixels.dtype.isnative
    assert np.array_equal(image.pixels, expected)


@pytest.mark.parametrize("channels", [3, 4])
def test_the_right_way_up(tmp_path: Path, channels: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # turned a quarter
    Image.fromarray(RGBA[..., :channels]).save(tmp_path / "a.png", exif=exif)
    (image,) = load_images(tmp_path, channels=channels).images
    assert np.array_equal(image.pixels, np.rot90(RGBA[..., :channels], -1))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["png", "tiff", "planes"])
def test_colour_of_16_bits_is_turned_like_that_of_8(
    tmp_path: Path, kind: str, orientation: int
) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    tags = {"extratags": [(0x0112, 3, 1, orientation, True)], "photometric": "rgb"}
    planes = tiff(np.moveaxis(RGB16, -1, 0), planarconfig="separate", **tags)
    told = exif.tobytes().removeprefix(b"Exif\0\0")
    deep = {"png": deep_png(RGB16, told), "tiff": tiff(RGB16, **tags), "planes": planes}[kind]
    (tmp_path / "16.png").write_bytes(deep)
    Image.fromarray((RGB16 >> 8).astype(np.uint8)).save(tmp_path / "8.png", exif=exif)
    found = by_name(load_images(tmp_path))
    assert found["16.png"].pixels.dtype == np.uint16
    assert np.array_equal(found["16.png"].pixels >> 8, found["8.png"].pixels)


REFUSED: dict[str, tuple[str, bytes, int, str]] = {
    "other channels": ("npy", npy(FIVE), 4, "it has 5 channels, not 4"),
    "signed numbers": ("npy", npy(FIVE.astype(np.int32)), 5, "type int32 have no range"),
    "floats beyond 1": ("npy", npy(2 * FLOAT + 1), 1, r"beyond \[0, 1\]"),
    "NaN": ("npy", npy(np.full((4, 4), np.nan)), 1, r"beyond \[0, 1\]"),
    "four dimensions": ("npy", npy(np.zeros((2, 3, 4, 3))), 3, "no picture"),
    "pickle": ("npy", npy(np.array([{}], dtype=object)), 1, "allow_pickle=False"),
    "text": ("png", b"not a picture", 3, "it is no picture"),
    "empty": ("jpg", b"", 3, "it is no picture"),
    "empty TIFF": ("tif", b"II*\0", 3, "bad.tif': ."),
    "archive of arrays": ("npy", b"PK\3\4" + b"\0" * 40, 3, "it is no picture"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_cannot_be_read_is_named_with_the_reason(tmp_path: Path, kind: str) -> None:
    suffix, content, channels, reason = REFUSED[kind]
    good = np.full((6, 9, channels), 0.5, np.float32)
    for k in range(9):
        np.save(tmp_path / f"{k}.npy", good)
    (tmp_path / f"bad.{suffix}").write_bytes(content)
    found = load_images(tmp_path, channels=channels, max_skipped=0.1)
    assert len(found.images) == 9
    assert list(found.skipped) == [f"bad.{suffix}"]
    with pytest.raises(InputError, match=reason) as caught:
        load_images(tmp_path, channels=channels, max_skipped=0.09)
    said = str(caught.value)
    assert f"1 of 10 pictures in '{tmp_path}' cannot be read (the first is 'bad.{suffix}'" in said
    assert "\n" not in said
    assert "0x" not in said


ENCODED: dict[str, Callable[[], bytes]] = {
    "png": lambda: png(pixels(0, (40, 40, 3))),
    "tif": lambda: tiff(pixels(0, (40, 40, 5)), photometric="minisblack", compression="zlib"),
    "npy": lambda: npy(pixels(0, (40, 40, 5))),
}


@pytest.mark.parametrize("suffix", ENCODED)
@pytest.mark.filterwarnings("ignore")
def test_no_damage_ends_the_reading(tmp_path: Path, suffix: str) -> None:
    """Bytes changed at random, and files cut off, are read or named, whatever decoders raise."""
    rng, content = np.random.default_rng(1), ENCODED[suffix]()
    channels = 3 if suffix == "png" else 5
    members = {f"whole.{suffix}": content}
    for k in range(150):
        damaged = bytearray(content)
        reach = len(damaged) if k % 2 else min(400, len(damaged))
        for place in rng.integers(0, reach, 1 + k % 4):
            damaged[place] = int(rng.integers(256))
        members[f"{k}.{suffix}"] = bytes(
            damaged[: int(rng.integers(1, reach)) if k % 5 == 0 else None]
        )
    path = tar(tmp_path / "damaged.tar", members)
    found = load_images(path, channels=channels, max_skipped=1.0)
    assert len(found.images) + len(found.skipped) == len(members)
    assert len(found.skipped) > 5


def test_archives_that_are_not_whole(tmp_path: Path) -> None:
    members = {f"{k}.png": png(pixels(k, (50, 50, 3))) for k in range(20)}
    for kind, mode in (("tar", "w"), ("tar.gz", "w:gz"), ("tar.xz", "w:xz")):
        whole = tar(tmp_path / f"whole.{kind}", members, mode).read_bytes()
        for share in (0.0, 0.3, 0.7):
            cut = tmp_path / f"cut.{kind}"
            cut.write_bytes(whole[: int(share * len(whole))])
            with pytest.raises(InputError, match="neither a folder nor a whole tar file"):
                load_images(cut)


def test_a_link_or_folder_of_a_picture_s_name_is_no_picture(tmp_path: Path) -> None:
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "nowhere.png").symlink_to(tmp_path / "missing")
    Image.fromarray(pixels()).save(tmp_path / "a.png")
    assert [found.name for found in find_pictures(tmp_path)] == ["a.png"]


def test_names_are_told_and_some_are_read_without_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    members = {f"{k}.png": png(pixels(k)) for k in range(5)}
    (tmp_path / "folder").mkdir()
    for name, data in members.items():
        (tmp_path / "folder" / name).write_bytes(data)
    archive = tar(tmp_path / "pictures.tar", members)
    reads: list[str] = []
    bytes_of, member_of = Path.read_bytes, tarfile.TarFile.extractfile

    def read_bytes(path: Path) -> bytes:
        reads.append(path.name)
        return bytes_of(path)

    def extractfile(opened: tarfile.TarFile, member: Any) -> Any:
        reads.append(member.name)
        return member_of(opened, member)

    monkeypatch.setattr(Path, "read_bytes", read_bytes)
    monkeypatch.setattr(tarfile.TarFile, "extractfile", extractfile)
    for source in (tmp_path / "folder", archive):
        assert list(picture_names(source)) == list(members)
        assert reads == []
        found = list(find_pictures(source, names={"1.png", "3.png"}))
        assert [(each.name, each.data) for each in found] == [
            (name, members[name]) for name in ("1.png", "3.png")
        ]
        assert reads == ["1.png", "3.png"]
        reads.clear()


def test_a_file_that_cannot_be_read_is_counted(tmp_path: Path) -> None:
    unreadable = Path("/proc/self/mem")  # whose first bytes nobody may read
    if not unreadable.is_file():
        pytest.skip("needs /proc")
    (tmp_path / "a.png").symlink_to(unreadable)
    Image.fromarray(pixels()).save(tmp_path / "b.png")
    found = load_images(tmp_path, max_skipped=0.5)
    assert [image.name for image in found.images] == ["b.png"]
    assert found.skipped == {"a.png": "unreadable: Input/output error"}
    with pytest.raises(InputError, match=r"the first is 'a.png': Input/output error\): mend"):
        load_images(tmp_path, max_skipped=0.4)


def test_a_file_of_a_set_that_is_gone_is_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sets of the hub may name files of their cache."""
    import datasets

    Image.fromarray(pixels()).save(tmp_path / "a.png")
    rows = [{"bytes": None, "path": str(tmp_path / f"{name}.png")} for name in "ab"]
    features = datasets.Features({"image": datasets.Image()})
    made = datasets.Dataset.from_dict({"image": rows}, features=features)
    monkeypatch.setattr(datasets, "load_dataset", lambda name, split: made)
    found = load_images("hub:some/set", max_skipped=0.5)
    assert [image.name for image in found.images] == ["00000000"]
    assert found.skipped == {"00000001": "unreadable: No such file or directory"}


def test_the_split_depends_on_names_alone() -> None:
    blank = np.zeros((4, 4, 3), np.uint8)
    images = [NamedImage(f"{k}.png", blank) for k in range(50)]
    training, held_out = ImageCollection(images).split(10)
    again = ImageCollection(images[::-1]).split(10)
    assert {i.name for i in again[1]} == {i.name for i in held_out}
    assert {i.name for i in training} | {i.name for i in held_out} == {i.name for i in images}
    # Without some of the training pictures the same ones are held out.
    fewer = ImageCollection(sorted(held_out) + training[:5]).split(10)
    assert {i.name for i in fewer[1]} == {i.name for i in held_out}
    # Hashes of names do not change with versions of this package.
    assert [image.name for image in held_out[:3]] == ["33.png", "6.png", "40.png"]
    with pytest.raises(InputError, match=r"wants 50 of 50 usable pictures: lower data\.validation"):
        ImageCollection(images).split(50)


def test_a_share_is_held_out_picture_by_picture() -> None:
    blank = np.zeros((4, 4, 3), np.uint8)
    images = [NamedImage(f"{k}.png", blank) for k in range(2000)]
    training, held_out = ImageCollection(images[:1000]).split(0.1)
    assert 70 < len(held_out) < 130
    more = ImageCollection(images).split(0.1)
    assert {i.name for i in held_out} == {i.name for i in more[1]} & {i.name for i in images[:1000]}
    assert {i.name for i in training} <= {i.name for i in more[0]}
    assert [i.name for i in held_out] == [i.name for i in more[1] if i in held_out]
    with pytest.raises(InputError, match=r"holds out none of 3 usable pictures: raise data\.valid"):
        ImageCollection(images[:3]).split(1e-6)
    with pytest.raises(InputError, match=r"wants 3 of 3 usable pictures: lower data\.validation"):
        ImageCollection(images[:3]).split(1 - 1e-9)
