"""Training items: where squares are taken from, and that what is told goes with them."""

from __future__ import annotations

from collections import Counter

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from scipy import stats

from differential_diffusion.data.crops import Items, fitted, to_tensor, unit
from differential_diffusion.data.images import NamedImage


def ramps(height: int, width: int, which: int, dtype: type = np.uint8) -> NDArray[np.uint8]:
    """A picture that tells of every pixel its row, its column, and which picture it is."""
    rows, columns = np.mgrid[:height, :width]
    return np.stack([rows, columns, np.full_like(rows, which)], -1).astype(dtype)


def numbers(x0: torch.Tensor) -> NDArray[np.int64]:
    """(C,H,W) in [-1,1] back to 0-255, (H,W,C)."""
    return ((x0 + 1) * 127.5).round().long().permute(1, 2, 0).numpy()


SIZES = ((20, 30), (50, 17), (16, 16), (24, 60))


def test_crops_are_pieces_of_their_picture_under_its_symmetries() -> None:
    images = [NamedImage(str(k), ramps(*size, k)) for k, size in enumerate(SIZES)]
    seen = Counter()
    for item in Items(images, 16, 400, seed=3):
        square = numbers(item["x0"])
        height, width = SIZES[square[0, 0, 2]]
        down, across = square[1, 0, :2] - square[0, 0, :2], square[0, 1, :2] - square[0, 0, :2]
        seen[tuple(down), tuple(across)] += 1
        # Some symmetry of the square: steps by one along rows, and along columns.
        assert sorted(map(abs, down.tolist())) == sorted(map(abs, across.tolist())) == [0, 1]
        assert abs(int(down @ across)) == 0
        r, c = np.mgrid[:16, :16]
        expected = square[0, 0, :2] + r[..., None] * down + c[..., None] * across
        assert np.array_equal(square[..., :2], expected)
        assert square[..., 0].max() < height
        assert square[..., 1].max() < width
    assert len(seen) == 8
    assert stats.chisquare(list(seen.values())).pvalue > 1e-3


def test_mirror_only_and_none() -> None:
    images = [NamedImage("a", ramps(20, 30, 0))]
    for kinds, expected in (("mirror", {(1, 1), (1, -1)}), ("none", {(1, 1)})):
        found = set()
        for item in Items(images, 16, 60, seed=1, symmetries=kinds):  # type: ignore[arg-type]
            square = numbers(item["x0"])
            found.add(
                (int(square[1, 0, 0] - square[0, 0, 0]), int(square[0, 1, 1] - square[0, 0, 1]))
            )
        assert found == expected


def test_pictures_are_drawn_by_the_root_of_their_positions_and_positions_alike() -> None:
    images = [NamedImage(str(k), ramps(*size, k)) for k, size in enumerate(SIZES)]
    drawn, tops = Counter(), Counter()
    for item in Items(images, 16, 4000, seed=2, symmetries="none"):
        square = numbers(item["x0"])
        drawn[square[0, 0, 2]] += 1
        if square[0, 0, 2] == 1:
            tops[square[0, 0, 0]] += 1
    roots = np.array([((h - 15) * (w - 15)) ** 0.5 for h, w in SIZES])
    expected = 4000 * roots / roots.sum()
    assert stats.chisquare([drawn[k] for k in range(4)], expected).pvalue > 1e-3
    assert set(tops) == set(range(35))
    assert stats.chisquare(list(tops.values())).pvalue > 1e-3


def test_an_item_is_a_function_of_seed_and_index() -> None:
    images = [NamedImage(str(k), ramps(*size, k)) for k, size in enumerate(SIZES)]
    items, again = Items(images, 16, 50, seed=7), Items(images, 16, 99, seed=7)
    other = Items(images, 16, 50, seed=8)
    for index in reversed(range(50)):
        assert torch.equal(items[index]["x0"], again[index]["x0"])
    assert any(not torch.equal(items[k]["x0"], other[k]["x0"]) for k in range(5))


@pytest.mark.parametrize("count", [1, 5, 6])
def test_fitted_pictures_come_once_a_round_in_a_new_order(count: int) -> None:
    images = [NamedImage(str(k), ramps(16, 16, k)) for k in range(count)]
    items = Items(images, 16, 6 * count, seed=4, cut="fit")
    order = [int(numbers(item["x0"])[0, 0, 2]) for item in items]
    rounds = [order[k : k + count] for k in range(0, 6 * count, count)]
    assert all(sorted(one) == list(range(count)) for one in rounds)
    if count > 1:
        assert len({tuple(one) for one in rounds}) > 1
    other = Items(images, 16, 6 * count, seed=5, cut="fit")
    if count > 1:
        assert order != [int(numbers(item["x0"])[0, 0, 2]) for item in other]


def smooth(height: int, width: int) -> NDArray[np.float32]:
    r, c = np.mgrid[:height, :width] / max(height, width)
    planes = [0.5 + 0.4 * np.sin(3 * r + 2 * c), 0.5 + 0.4 * np.cos(4 * r * c), r * c]
    return np.stack(planes, -1).astype(np.float32)


@pytest.mark.parametrize("size", [(96, 64), (64, 96), (75, 131), (40, 20), (32, 32)])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_fitted_against_pillow(size: tuple[int, int], dtype: type) -> None:
    """Shrunk by averages over areas, grown by cubics: of a smooth picture, what Pillow gives."""
    picture = smooth(*size)
    most = 1 if dtype is np.float32 else np.iinfo(dtype).max
    given = picture if dtype is np.float32 else np.rint(picture * most).astype(dtype)
    made = fitted(given, 32)
    assert made.dtype == dtype
    scale = 32 / min(size)
    assert made.shape == (max(32, round(size[0] * scale)), max(32, round(size[1] * scale)), 3)
    how = Image.Resampling.BOX if scale < 1 else Image.Resampling.BICUBIC
    for channel in range(3):
        plane = Image.fromarray(picture[..., channel])
        expected = np.asarray(plane.resize(made.shape[1::-1], how))
        assert np.abs(made[..., channel] / most - expected).max() < 0.012


def test_fitted_by_whole_numbers_is_the_mean_of_blocks() -> None:
    picture = np.random.default_rng(0).random((64, 96, 5)).astype(np.float32)
    blocks = picture.reshape(16, 4, 24, 4, 5).mean((1, 3))
    np.testing.assert_allclose(fitted(picture, 16), blocks, atol=1e-6)
    assert fitted(picture[:16], 16) is not None
    np.testing.assert_array_equal(fitted(picture[:16], 16), picture[:16])


def test_fitted_pictures_stay_in_range() -> None:
    """Cubics overshoot at edges."""
    steps = np.kron(np.random.default_rng(0).integers(0, 2, (5, 5, 1)), np.ones((3, 3, 1)))
    for picture in (steps.astype(np.float32), (255 * steps).astype(np.uint8)):
        item = Items([NamedImage("a", picture)], 64, 1, seed=0, cut="fit")[0]["x0"]
        assert item.min() == -1
        assert item.max() == 1


@pytest.mark.parametrize("cut", ["crop", "fit"])
@pytest.mark.parametrize("augmentation", [0.0, 0.5])
def test_what_is_told_goes_with_the_picture(cut: str, augmentation: float) -> None:
    """The picture to tell is the negative of the picture, and stays it; numbers are its own."""
    rng = np.random.default_rng(0)
    images, beside, vectors = [], {}, {}
    for k, (h, w) in enumerate(SIZES):
        pixels = cv2.blur(rng.integers(0, 256, (h, w, 3), dtype=np.uint8), (5, 5))
        images.append(NamedImage(str(k), pixels, f"class {k % 2}"))
        beside[str(k)] = 255 - pixels
        vectors[str(k)] = np.array([k, pixels.mean()], np.float32)
    items = Items(
        images,
        16,
        40,
        seed=1,
        cut=cut,  # type: ignore[arg-type]
        augmentation=augmentation,
        classes=["class 1", "class 0"],
        vectors=vectors,
        pictures=beside,
    )
    seen = set()
    for item in items:
        assert item["x0"].shape == item["picture"].shape == (3, 16, 16)
        torch.testing.assert_close(item["picture"], -item["x0"], rtol=0, atol=0.01)
        which = int(item["vector"][0])
        assert torch.equal(item["vector"], torch.from_numpy(vectors[str(which)]))
        assert int(item["label"]) == 1 - which % 2
        assert ("augmentation" in item) == (augmentation > 0)
        seen.add(which)
        if cut == "crop" and not augmentation:
            pieces = sliding(images[which].pixels, numbers(item["x0"]))
            assert pieces
    assert seen == {0, 1, 2, 3}


def sliding(picture: NDArray[np.uint8], square: NDArray[np.int64]) -> bool:
    """Whether a square, under some symmetry, is a piece of a picture."""
    views = np.lib.stride_tricks.sliding_window_view(picture, (16, 16), (0, 1))
    views = views.transpose(0, 1, 3, 4, 2)
    for turns in range(4):
        for turned in (np.rot90(square, turns), np.rot90(square, turns)[:, ::-1]):
            if (views == turned).all((2, 3, 4)).any():
                return True
    return False


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_ends_of_the_range(dtype: type) -> None:
    most = 1 if dtype is np.float32 else np.iinfo(dtype).max
    pixels = np.array([[[0], [most]]], dtype)
    assert to_tensor(pixels).flatten().tolist() == [-1, 1]
    assert unit(pixels).ravel().tolist() == [0, 1]
