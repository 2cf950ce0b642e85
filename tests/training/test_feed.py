"""What a run learns from: pictures at their size, and what is told of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from differential_diffusion.data.crops import Items, fitted
from differential_diffusion.data.images import load_images
from differential_diffusion.errors import InputError
from differential_diffusion.training.config import DataConfig
from differential_diffusion.training.feed import Pictures
from differential_diffusion.training.validation import centre

SIZES = ((40, 60), (90, 45), (33, 32), (16, 20), (32, 32))


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Photographs of several sizes, and in `beside` the negative of each."""
    rng = np.random.default_rng(0)
    for folder in ("photos", "beside"):
        (tmp_path / folder).mkdir()
    for index, size in enumerate(SIZES):
        pixels = cv2.blur(rng.integers(0, 256, (*size, 3), np.uint8), (3, 3))
        Image.fromarray(pixels).save(tmp_path / "photos" / f"{index}.png")
        Image.fromarray(255 - pixels).save(tmp_path / "beside" / f"{index}.png")
    return tmp_path / "photos"


def read(photos: Path, **settings: Any) -> Pictures:
    given = {"path": str(photos), "patch_size": 32, "validation": 1, **settings}
    return Pictures(DataConfig.model_validate(given))


def test_pictures_are_brought_to_size_once_and_their_squares_are_the_same(photos: Path) -> None:
    beside = photos.parent / "beside"
    made = read(photos, cut="fit", pictures=str(beside))
    whole = {image.name: image for image in load_images(photos).images}
    assert made.pictures is not None
    for image in [*made.training, *made.held_out]:
        assert min(image.pixels.shape[:2]) == min(made.pictures[image.name].shape[:2]) == 32
        assert image.shape == whole[image.name].pixels.shape
    late = Items(
        [whole[image.name] for image in made.training],
        32,
        40,
        seed=3,
        cut="fit",
        pictures={image.name: image.pixels for image in load_images(beside).images},
    )
    for expected, item in zip(late, made.items(40, seed=3), strict=True):
        assert torch.equal(item["x0"], expected["x0"])
        assert torch.equal(item["picture"], expected["picture"])


def test_what_is_judged_is_the_middle_of_the_fitted_picture(photos: Path) -> None:
    whole = {image.name: image.pixels for image in load_images(photos).images}
    for image in read(photos, cut="fit").training:
        small = fitted(whole[image.name], 32)
        top, left = ((side - 32) // 2 for side in small.shape[:2])
        shown = small[top : top + 32, left : left + 32] / 127.5 - 1
        made = centre(image, 32)[0].permute(1, 2, 0).numpy()
        np.testing.assert_allclose(made, shown, atol=1e-6)


BESIDE: dict[str, tuple[int, type]] = {
    "16-bit grey": (1, np.uint16),
    "five channels": (5, np.float32),
}


@pytest.mark.parametrize("kind", BESIDE)
@pytest.mark.parametrize("cut", ["crop", "fit"])
@pytest.mark.parametrize("augmentation", [0.0, 0.5])
def test_pictures_beside_of_other_kinds(
    photos: Path, kind: str, cut: str, augmentation: float
) -> None:
    """Beside each lies its green channel, in other numbers, in the first channel of several."""
    channels, dtype = BESIDE[kind]
    folder = photos.parent / kind
    folder.mkdir()
    for path in sorted(photos.iterdir())[1:3]:
        with Image.open(path) as opened:
            green = np.asarray(opened)[..., 1]
        if dtype is np.uint16:
            Image.fromarray(green.astype(np.uint16) * 257).save(folder / f"{path.stem}.png")
        else:
            planes = [green / 255, *(np.full(green.shape, k / 4) for k in range(1, channels))]
            np.save(folder / f"{path.stem}.npy", np.stack(planes, -1).astype(dtype))
    for path in [path for path in photos.iterdir() if path.stem not in "12"]:
        path.unlink()
    settings = {"cut": cut, "augmentation": augmentation, "pictures": str(folder)}
    made = read(photos, picture_channels=channels, **settings)
    assert made.told["condition_channels"] == channels
    for item in made.items(20, seed=0):
        assert item["picture"].shape == (channels, 32, 32)
        torch.testing.assert_close(item["picture"][0], item["x0"][1], rtol=0, atol=0.01)
        for plane in range(1, channels):
            expected = torch.full((32, 32), plane / 2 - 1)
            torch.testing.assert_close(item["picture"][plane], expected, rtol=0, atol=1e-5)
    if channels > 1:
        with pytest.raises(InputError, match=r"the first is '1.npy': it has 5 channels, not 3\)"):
            read(photos, **settings)


@pytest.mark.parametrize("cut", ["crop", "fit"])
def test_plain_items_are_of_each_picture_once(photos: Path, cut: str) -> None:
    for number in range(20):
        pixels = np.full((34 + number, 32, 3), 10 * number, np.uint8)
        Image.fromarray(pixels).save(photos / f"flat-{number}.png")
    made = read(photos, cut=cut)
    flat = [image for image in made.training if image.name.startswith("flat")]
    items = made.plain_items(flat, len(flat))
    shown = [float(items[index]["x0"].mean()) for index in range(len(items))]
    expected = [float(image.pixels.mean() / 127.5 - 1) for image in flat]
    if cut == "fit":
        shown, expected = sorted(shown), sorted(expected)
    np.testing.assert_allclose(shown, expected, atol=1e-5)
