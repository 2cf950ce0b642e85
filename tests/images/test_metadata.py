"""Orientation is applied and reset; everything else arrives as it left."""

from __future__ import annotations

import io
import struct
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
from PIL import ExifTags, Image, ImageCms, ImageOps, PngImagePlugin

from differential_diffusion.images import LossyOutputWarning, read
from differential_diffusion.images.exif import oriented, upright_exif, upright_xmp

Array = npt.NDArray[Any]
Draw = Callable[..., Array]
Png = Callable[..., bytes]

ICC = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
XMP = (
    b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF><rdf:Description '
    b'tiff:Orientation="1" dc:title="a \xc3\xa9"/></rdf:RDF></x:xmpmeta>'
)
SIZE = (6, 9)


def exif_with(orientation: int = 1) -> Image.Exif:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    exif[ExifTags.Base.Make] = "Maker"
    exif[ExifTags.Base.DateTime] = "2020:01:02 03:04:05"
    exif[ExifTags.IFD.Exif] = {
        ExifTags.Base.ExposureTime: (1, 250),
        ExifTags.Base.LensModel: "50mm",
        ExifTags.Base.MakerNote: b"\x01\x02 private \xff",
    }
    exif[ExifTags.IFD.GPSInfo] = {ExifTags.GPS.GPSLatitudeRef: "N"}
    return exif


def everything(image: Image.Image) -> dict[str, Any]:
    """The values of a file's EXIF, directories opened, without what tells how it is stored."""
    exif = image.getexif()
    tags = {tag: exif[tag] for tag in (271, 306) if tag in exif}
    for directory in (ExifTags.IFD.Exif, ExifTags.IFD.GPSInfo):
        tags |= {(directory, tag): value for tag, value in exif.get_ifd(directory).items()}
    return {str(tag): str(value) for tag, value in tags.items()}


def saved(image: Image.Image, path: Path, **options: Any) -> Path:
    if path.suffix == ".webp":
        options |= {"lossless": True, "exact": True}
    if isinstance(options.get("exif"), Image.Exif):
        options["exif"] = options["exif"].tobytes()
    image.save(path, **options)
    return path


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", [".png", ".webp", ".tif"])
def test_orientation_is_applied_and_reset_and_kept_pixels_stay(
    orientation: int, suffix: str, samples: Draw, tmp_path: Path
) -> None:
    image = Image.fromarray(samples("uint8", *SIZE, 4))
    path = saved(image, tmp_path / f"in{suffix}", exif=exif_with(orientation))
    image.getexif()[ExifTags.Base.Orientation] = orientation
    upright = np.asarray(ImageOps.exif_transpose(image))

    picture = read(path)
    np.testing.assert_array_equal(picture.merged(), upright)
    keep = np.zeros(upright.shape[:2], bool)
    keep[1:, :4] = True
    out = picture.replaced(torch.zeros(3, *keep.shape), keep).save(tmp_path / f"out{suffix}")
    with Image.open(out) as again:
        found = np.asarray(again)
        assert again.getexif().get(ExifTags.Base.Orientation, 1) == 1
        assert everything(again) == everything_of(exif_with())
    np.testing.assert_array_equal(found[keep], upright[keep])
    np.testing.assert_array_equal(found[..., 3], upright[..., 3])
    assert (found[..., :3][~keep] == 128).all()
    np.testing.assert_array_equal(read(out).merged(), found)


def everything_of(exif: Image.Exif) -> dict[str, Any]:
    image = Image.new("L", (1, 1))
    stream = io.BytesIO()
    image.save(stream, "PNG", exif=exif)
    return everything(Image.open(stream))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_of_jpeg_and_of_pillow_images(
    orientation: int, samples: Draw, tmp_path: Path
) -> None:
    path = saved(
        Image.fromarray(samples("uint8", *SIZE, 3)), tmp_path / "a.jpg", exif=exif_with(orientation)
    )
    with Image.open(path) as image:
        upright = np.asarray(ImageOps.exif_transpose(image))
        before = image.tobytes()
        for picture in (read(path), read(image)):
            np.testing.assert_array_equal(picture.pixels, upright)
            native = picture.native()
            assert isinstance(native, Image.Image)
            assert native.getexif()[ExifTags.Base.Orientation] == 1
            assert everything(native) == everything(image)
        assert image.tobytes() == before


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("compression", ["none", "lzw"])
def test_orientation_of_16_bit_tiff(
    orientation: int, compression: str, samples: Draw, tmp_path: Path
) -> None:
    raw = samples("uint16", *SIZE, 3)
    path = tmp_path / "a.tif"
    if compression == "none":
        tag = [(274, 3, 1, orientation, True)]
        tifffile.imwrite(path, raw, photometric="rgb", extratags=tag)
    else:
        cv2.imwrite(str(path), raw[..., ::-1], [cv2.IMWRITE_TIFF_COMPRESSION, 5])
        data = bytearray(path.read_bytes())
        with tifffile.TiffFile(path) as found:
            at = found.pages[0].tags["SampleFormat"].offset
        struct.pack_into("<HHIHH", data, at, 274, 3, 1, orientation, 0)  # unneeded tag made over
        path.write_bytes(data)
    seen = [np.asarray(read(raw[..., band]).native()) for band in range(3)]
    images = [Image.fromarray((band >> 8).astype(np.uint8)) for band in seen]
    for image in images:
        image.getexif()[ExifTags.Base.Orientation] = orientation
    high = np.dstack([np.asarray(ImageOps.exif_transpose(image)) for image in images])
    picture = read(path)
    np.testing.assert_array_equal(picture.pixels >> 8, high)
    np.testing.assert_array_equal(np.sort(picture.pixels, axis=None), np.sort(raw, axis=None))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_of_16_bit_png(
    orientation: int, samples: Draw, png: Png, tmp_path: Path
) -> None:
    raw = samples("uint16", *SIZE, 4)
    exif = exif_with(orientation).tobytes().removeprefix(b"Exif\0\0")
    (tmp_path / "a.png").write_bytes(png(raw, after={b"eXIf": exif}))  # after the data: allowed
    picture = read(tmp_path / "a.png")
    np.testing.assert_array_equal(picture.merged(), oriented(raw, orientation))
    out = picture.save(tmp_path / "b.png")
    with Image.open(out) as again:
        again.load()
        assert again.getexif()[ExifTags.Base.Orientation] == 1
        assert everything(again) == everything_of(exif_with())


def test_exif_bytes_differ_in_the_orientation_alone(tmp_path: Path) -> None:
    for endian in ("<", ">"):
        exif = exif_with(6)
        exif.endian = endian
        before = exif.tobytes()
        saved(Image.new("RGB", (4, 2)), tmp_path / "a.jpg", exif=before)
        after = read(tmp_path / "a.jpg").metadata.exif
        assert after is not None
        changed = [a for a, b in zip(before[6:], after, strict=True) if a != b]
        assert changed == [6]


@pytest.mark.parametrize("junk", [b"", b"II*\0", b"II*\0\xff\xff\xff\xff\0\0\0\0", b"MM\0*" * 5])
def test_damaged_exif_is_left_alone(junk: bytes) -> None:
    assert upright_exif(junk) == junk


@pytest.mark.parametrize("form", [b'tiff:Orientation="8"', b"<tiff:Orientation>8<"])
def test_xmp_s_orientation_is_applied_and_reset(form: bytes, tmp_path: Path) -> None:
    assert upright_xmp(form) == form.replace(b"8", b"1")
    raw = np.arange(6, dtype=np.uint8).reshape(2, 3)
    saved(Image.fromarray(raw), tmp_path / "a.webp", xmp=b"<x " + form + b"/>", lossless=True)
    picture = read(tmp_path / "a.webp")
    np.testing.assert_array_equal(picture.luminance() * 255, np.rot90(raw))
    again = read(picture.save(tmp_path / "b.png"))
    np.testing.assert_array_equal(again.luminance() * 255, np.rot90(raw))


def test_imagemagick_s_exif_in_png_is_not_applied_twice(tmp_path: Path) -> None:
    data = b"Exif\0\0" + exif_with(6).tobytes().removeprefix(b"Exif\0\0")
    info = PngImagePlugin.PngInfo()
    info.add_text("Raw profile type exif", f"\nexif\n{len(data):8}\n{data.hex()}\n")
    raw = np.arange(6, dtype=np.uint8).reshape(2, 3)
    Image.fromarray(raw).save(tmp_path / "a.png", pnginfo=info)
    picture = read(tmp_path / "a.png")
    np.testing.assert_array_equal(picture.pixels, np.rot90(raw, -1))
    again = read(picture.save(tmp_path / "b.png"))
    np.testing.assert_array_equal(again.pixels, picture.pixels)
    with Image.open(tmp_path / "b.png") as image:
        assert everything(image) == everything_of(exif_with())


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_png_keeps_profile_texts_and_resolution(
    dtype: str, count: int, samples: Draw, png: Png, tmp_path: Path
) -> None:
    raw = samples(dtype, *SIZE, count)
    chunks = {
        b"gAMA": struct.pack(">I", 45455),
        b"cHRM": struct.pack(">8I", 31270, 32900, 64000, 33000, 30000, 60000, 15000, 6000),
        b"iCCP": b"name\0\0" + zlib.compress(ICC),
        b"pHYs": struct.pack(">IIB", 3937, 7874, 1),
        b"tEXt": "Author\0Zoë".encode("latin-1"),
        b"iTXt": b"Title\0\0\0de\0Titel\0" + "Größe 図".encode(),
    }
    late = {
        b"zTXt": b"Software\0\0" + zlib.compress(b"something"),
        b"iTXt": b"XML:com.adobe.xmp\0\0\0\0\0" + XMP,
    }
    (tmp_path / "a.png").write_bytes(png(raw, before=chunks, after=late))
    out = read(tmp_path / "a.png").save(tmp_path / "b.png")
    np.testing.assert_array_equal(np.atleast_3d(read(out).merged()), raw, strict=True)
    data = out.read_bytes()
    with Image.open(out) as image:
        image.load()
        assert image.info["icc_profile"] == ICC
        text = image.text
        assert text["Author"] == "Zoë"
        assert text["Software"] == "something"
        assert (text["Title"], text["Title"].lang, text["Title"].tkey) == (
            "Größe 図",
            "de",
            "Titel",
        )
        assert image.info["xmp"] == XMP
    for kind in (b"gAMA", b"cHRM", b"pHYs"):
        assert kind + chunks[kind] in data


def test_16_bit_png_without_a_profile_keeps_srgb_and_cicp(
    samples: Draw, png: Png, tmp_path: Path
) -> None:
    chunks = {b"cICP": bytes([9, 16, 0, 1]), b"sRGB": b"\0"}
    (tmp_path / "a.png").write_bytes(png(samples("uint16", *SIZE, 3), before=chunks))
    data = read(tmp_path / "a.png").save(tmp_path / "b.png").read_bytes()
    for kind, content in chunks.items():
        assert struct.pack(">I", len(content)) + kind + content in data


@pytest.mark.parametrize("source", [".jpg", ".png", ".webp", ".tif"])
@pytest.mark.parametrize("target", [".jpg", ".png", ".webp", ".tif"])
def test_profile_exif_and_xmp_pass_between_formats(
    source: str, target: str, samples: Draw, tmp_path: Path
) -> None:
    image = Image.fromarray(samples("uint8", *SIZE, 3))
    options: dict[str, Any] = {"icc_profile": ICC, "exif": exif_with(3)}
    if source == ".png":
        info = PngImagePlugin.PngInfo()
        info.add_itxt("XML:com.adobe.xmp", XMP)
        options["pnginfo"] = info
    elif source == ".tif":
        options["exif"][700] = XMP
    else:
        options["xmp"] = XMP
    picture = read(saved(image, tmp_path / f"in{source}", **options))
    assert picture.metadata.icc == ICC
    assert picture.metadata.xmp == XMP
    out = tmp_path / f"out{target}"
    if target == ".jpg":
        with pytest.warns(LossyOutputWarning, match="re-encoded"):
            picture.save(out)
    else:
        picture.save(out)
    with Image.open(out) as again:
        again.load()
        assert again.info["icc_profile"] == ICC
        assert again.info["xmp"] == XMP
        assert everything(again) == everything_of(exif_with())
    if target != ".jpg":
        np.testing.assert_array_equal(read(out).pixels, picture.pixels)


@pytest.mark.parametrize("dtype", ["uint16", "float32"])
def test_deep_tiff_keeps_profile_and_exif(dtype: str, samples: Draw, tmp_path: Path) -> None:
    raw = samples(dtype, *SIZE, 3)
    tags = [
        (271, 2, 6, "Maker", True),
        (34675, 7, len(ICC), ICC, True),
        (700, 1, len(XMP), XMP, True),
    ]
    tifffile.imwrite(
        tmp_path / "a.tif",
        raw,
        photometric="rgb",
        extratags=tags,
        resolution=(118, 118),
        resolutionunit="CENTIMETER",
        description="a view",
        metadata=None,
    )
    picture = read(tmp_path / "a.tif")
    assert picture.metadata.dpi == pytest.approx((299.72, 299.72))
    out = picture.save(tmp_path / "b.tif")
    with tifffile.TiffFile(out) as again:
        found = {tag.name: tag.value for tag in again.pages[0].tags}
        np.testing.assert_array_equal(again.asarray(), raw, strict=True)
    assert found["InterColorProfile"] == ICC
    assert found["XMP"] == XMP
    assert found["Make"] == "Maker"
    assert found["ImageDescription"] == "a view"
    across, per = found["XResolution"]
    assert across / per == pytest.approx(299.72)
    if dtype == "uint16":
        with Image.open(picture.save(tmp_path / "b.png")) as image:
            assert image.info["icc_profile"] == ICC
            assert image.getexif()[271] == "Maker"


def test_deep_tiff_keeps_exif_directories(samples: Draw, png: Png, tmp_path: Path) -> None:
    exif = exif_with().tobytes().removeprefix(b"Exif\0\0")
    (tmp_path / "a.png").write_bytes(png(samples("uint16", *SIZE, 3), before={b"eXIf": exif}))
    out = read(tmp_path / "a.png").save(tmp_path / "b.tif")
    with tifffile.TiffFile(out) as again:
        tags = again.pages[0].tags
        assert tags["ExifTag"].value["LensModel"] == "50mm"
        assert tags["ExifTag"].value["ExposureTime"] == (1, 250)
        assert tags["GPSTag"].value["GPSLatitudeRef"] == "N"
    back = read(out).save(tmp_path / "c.png")
    with Image.open(back) as image:
        image.load()
        assert everything(image) == everything_of(exif_with())


def test_comments_stay_bytes(samples: Draw, tmp_path: Path) -> None:
    comment = "fünf".encode("cp1252")
    saved(Image.fromarray(samples("uint8", *SIZE)), tmp_path / "a.jpg", comment=comment)
    picture = read(tmp_path / "a.jpg")
    with pytest.warns(LossyOutputWarning):
        picture.save(tmp_path / "b.jpg")
    assert read(tmp_path / "b.jpg").metadata.comment == comment
    assert read(picture.save(tmp_path / "b.gif")).metadata.comment == comment
    with Image.open(picture.save(tmp_path / "b.png")) as image:
        assert image.text["Comment"] == "fünf"


def test_pillow_images_keep_their_profile_and_texts(tmp_path: Path) -> None:
    info = PngImagePlugin.PngInfo()
    info.add_text("prompt", "a lake")
    Image.new("L", (3, 2)).save(tmp_path / "a.png", pnginfo=info, icc_profile=ICC, dpi=(300, 300))
    with Image.open(tmp_path / "a.png") as image:
        for source in (image, image.copy()):
            picture = read(source)
            native = picture.native()
            assert isinstance(native, Image.Image)
            assert native.info["icc_profile"] == ICC
            assert native.info["prompt"] == "a lake"
            with Image.open(picture.save(tmp_path / "b.png")) as again:
                assert again.text == {"prompt": "a lake"}
                assert again.info["dpi"] == pytest.approx((300, 300), abs=0.01)
