"""Pictures against their originals: PSNR in closed form, SSIM of scikit-image, names that match."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from skimage.metrics import structural_similarity

from differential_diffusion.errors import InputError
from differential_diffusion.evaluation import (
    Evaluation,
    PairedFigures,
    against,
    compare_pairs,
    paired_against,
)

SIZE = (24, 30)


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    """Originals, and pictures that lie 1, 4 and 9 grey levels beside them."""
    rng = np.random.default_rng(0)
    for name, off in (("a", 1), ("b", 4), ("c", 9)):
        original = rng.integers(20, 230, (*SIZE, 3), dtype=np.uint8)
        for folder, pixels in (("made", original + np.uint8(off)), ("real", original)):
            (tmp_path / folder / "in").mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(tmp_path / folder / f"in/{name}.png")
    return tmp_path / "made", tmp_path / "real"


def test_psnr_is_that_of_the_difference(folders: tuple[Path, Path]) -> None:
    found = compare_pairs(*folders)
    assert [pair.name for pair in found.pairs] == ["in/a.png", "in/b.png", "in/c.png"]
    exact = [20 * math.log10(255 / off) for off in (1, 4, 9)]
    np.testing.assert_allclose([pair.psnr for pair in found.pairs], exact, rtol=1e-6)
    assert found.psnr == pytest.approx(sum(exact) / 3)
    assert (found.lpips, found.unmatched) == (None, 0)


def test_ssim_is_scikit_images(folders: tuple[Path, Path]) -> None:
    made, real = folders
    noise = np.random.default_rng(1).integers(0, 40, (*SIZE, 3), dtype=np.uint8)
    for path in made.rglob("*.png"):
        Image.fromarray(np.asarray(Image.open(path)) // 2 + noise).save(path)
    found = compare_pairs(made, real)
    for pair in found.pairs:
        images = [np.asarray(Image.open(folder / pair.name)) for folder in folders]
        exact = structural_similarity(
            *images, channel_axis=2, gaussian_weights=True, sigma=1.5, use_sample_covariance=False,
            data_range=255,
        )  # fmt: skip
        assert pair.ssim == pytest.approx(exact, abs=1e-6)
    assert found.ssim == pytest.approx(np.mean([pair.ssim for pair in found.pairs]))


def test_lpips_is_asked_for_each_pair(folders: tuple[Path, Path]) -> None:
    def measure(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        return (a - b).abs().mean((1, 2, 3))

    found = compare_pairs(*folders, lpips=measure)
    exact = [off / 127.5 for off in (1, 4, 9)]
    np.testing.assert_allclose([pair.lpips for pair in found.pairs], exact, rtol=1e-4)
    assert found.lpips == pytest.approx(sum(exact) / 3)


def test_equal_pictures_are_infinitely_good_in_json_too(folders: tuple[Path, Path]) -> None:
    found = compare_pairs(folders[1], folders[1])
    assert found.psnr == math.inf
    assert found.ssim == pytest.approx(1)
    text = json.dumps(found.as_dict(), allow_nan=False)
    assert json.loads(text)["means"]["psnr"] is None
    assert PairedFigures.from_dict(json.loads(text)) == found


def test_suffixes_may_differ_and_originals_be_left_over(folders: tuple[Path, Path]) -> None:
    made, real = folders
    Image.open(made / "in/a.png").save(made / "in/a.bmp")
    for name in ("a.png", "b.png"):
        (made / "in" / name).unlink()
    found = compare_pairs(made, real)
    assert [pair.name for pair in found.pairs] == ["in/a.bmp", "in/c.png"]
    assert found.pairs[0].psnr == pytest.approx(20 * math.log10(255))
    assert found.unmatched == 1


def test_broken_pictures_are_left_out_on_either_side(folders: tuple[Path, Path]) -> None:
    made, real = folders
    (made / "in/a.png").write_bytes(b"")
    (real / "in/b.png").write_bytes(b"no picture")
    lost: tuple[dict[str, str], dict[str, str]] = ({}, {})
    with pytest.raises(InputError, match=r"1 of 3 pictures in '.*real' cannot be read"):
        compare_pairs(made, real)
    found = compare_pairs(
        made, real, max_skipped=0.4, skipped_samples=lost[0], skipped_reference=lost[1]
    )
    assert [pair.name for pair in found.pairs] == ["in/c.png"]
    assert [list(each) for each in lost] == [["in/a.png"], ["in/b.png"]]


def test_more_than_a_tenth_of_broken_samples_is_refused(folders: tuple[Path, Path]) -> None:
    made, real = folders
    for name in ("b", "c"):
        (made / f"in/{name}.png").write_bytes(b"")
    with pytest.raises(InputError, match=r"2 of 3 pictures in '.*made' cannot be read"):
        compare_pairs(made, real)


def test_the_protocol_tells_what_pairs_were_measured_with(folders: tuple[Path, Path]) -> None:
    made, real = folders
    base = compare_pairs(made, real).protocol
    assert (base.pairs, base.channels, base.lpips) == (3, 3, "none")
    assert compare_pairs(real, real).protocol == base
    grey = compare_pairs(made, real, channels=1, lpips=lambda a, b: a.mean((1, 2, 3)))
    assert (grey.protocol.channels, grey.protocol.lpips) == (1, "alex")
    (made / "in/c.png").unlink()
    assert compare_pairs(made, real).protocol.reference_digest != base.reference_digest
    assert compare_pairs(made, real).unmatched == 1


def test_pairs_compare_where_their_protocols_agree(folders: tuple[Path, Path]) -> None:
    made, real = folders
    mine, other = (
        Evaluation(str(each), "real", paired=compare_pairs(each, real)) for each in (made, real)
    )
    assert paired_against(mine, other) == (mine.paired, other.paired)
    assert against(mine, other) == []
    assert paired_against(mine, Evaluation("a", "b")) is None
    (made / "in/c.png").unlink()
    less = Evaluation("made", "real", paired=compare_pairs(made, real))
    with pytest.raises(
        InputError, match=r"different numbers of pairs \(3 and 2\) and reference sets"
    ):
        paired_against(mine, less)


def test_what_cannot_be_paired_is_refused(folders: tuple[Path, Path], tmp_path: Path) -> None:
    made, real = folders
    Image.open(made / "in/a.png").save(made / "in/more.png")
    with pytest.raises(InputError, match=r"'in/more\.png' has no picture of its name"):
        compare_pairs(made, real)
    (made / "in/more.png").rename(made / "in/a.bmp")
    with pytest.raises(InputError, match="two pictures named 'in/a'"):
        compare_pairs(made, real)
    with pytest.raises(InputError, match="two pictures named 'in/a'"):
        compare_pairs(real, made)
    (made / "in/a.bmp").unlink()
    Image.new("RGB", (30, 25)).save(made / "in/b.png")
    with pytest.raises(InputError, match=r"is 30x25 pixels and its reference 'in/b\.png' 30x24"):
        compare_pairs(made, real)
    (tmp_path / "none").mkdir()
    with pytest.raises(InputError, match="holds no usable picture"):
        compare_pairs(tmp_path / "none", real)
