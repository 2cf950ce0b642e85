"""Sets of pictures compared from end to end: against numpy and scipy, on files of many kinds."""

from __future__ import annotations

import io
import json
import math
import tarfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from safetensors.numpy import load_file, save_file
from scipy import linalg

from differential_diffusion.data.images import NamedImage
from differential_diffusion.errors import InputError
from differential_diffusion.evaluation import (
    Evaluation,
    FeatureSet,
    Protocol,
    against,
    collect,
    comparable,
    compare_sets,
    load_extractor,
    load_features,
    load_results,
    save_features,
    save_results,
)
from differential_diffusion.evaluation.sets import SHOWN, stored_extractors

Array = NDArray[Any]
SIDE = 4
PIXELS = load_extractor(f"pixels:{SIDE}")


def pictures(count: int, seed: int = 0, mean: float = 128, side: int = 12) -> list[Array]:
    """Smooth random pictures about a mean."""
    rng = np.random.default_rng(seed)
    coarse = mean + 40 * rng.standard_normal((count, 4, 4, 3))
    sized = [cv2.resize(one, (side, side), interpolation=cv2.INTER_LINEAR) for one in coarse]
    return [one.clip(0, 255).astype(np.uint8) for one in sized]


def write(folder: Path, made: list[Array]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for index, pixels in enumerate(made):
        Image.fromarray(pixels).save(folder / f"{index:03d}.png")
    return folder


def features(made: list[Array]) -> Array:
    """Pixel features by numpy: means of blocks of 3x3, in [-1,1]."""
    blocks = np.stack(made).reshape(len(made), SIDE, 3, SIDE, 3, 3).mean((2, 4))
    return (blocks / 127.5 - 1).transpose(0, 3, 1, 2).reshape(len(made), -1)


def evaluated(samples: Any, reference: Any, **settings: Any) -> Evaluation:
    a, b = (collect(each, [PIXELS], **settings) for each in (samples, reference))
    return compare_sets(a, b, [PIXELS])


@pytest.mark.parametrize("batch_size", [7, 64])
def test_frechet_from_files_is_that_of_scipy(tmp_path: Path, batch_size: int) -> None:
    made, real = pictures(150, 1, 150), pictures(130, 2)
    found = evaluated(
        write(tmp_path / "made", made), write(tmp_path / "real", real), batch_size=batch_size
    )
    x, y = features(made), features(real)
    a, b = np.cov(x.T), np.cov(y.T)
    root = np.real(linalg.sqrtm(a @ b))
    exact = np.square(x.mean(0) - y.mean(0)).sum() + np.trace(a + b - 2 * root)
    figures = found.figures[0]
    assert figures.frechet == pytest.approx(exact, rel=1e-4)
    assert (figures.protocol.samples, figures.protocol.reference) == (150, 130)
    assert figures.names[0] == "Fréchet distance"


def test_kernel_distance_from_files_is_the_estimate_written_out(tmp_path: Path) -> None:
    """Over half of each set many times, whose mean is near that over all."""
    made, real = pictures(60, 1, 140), pictures(60, 2)
    figures = evaluated(write(tmp_path / "a", made), write(tmp_path / "b", real)).figures[0]
    x, y = features(made), features(real)

    def kernel(a: Array, b: Array) -> Array:
        return (a @ b.T / a.shape[1] + 1) ** 3

    within = sum((kernel(z, z).sum() - np.trace(kernel(z, z))) / (60 * 59) for z in (x, y))
    exact = within - 2 * kernel(x, y).mean()
    assert figures.protocol.subset == 30
    assert 0 < figures.kernel_error < abs(exact)
    assert figures.kernel == pytest.approx(exact, abs=4 * figures.kernel_error)


def test_precision_and_coverage_from_files_are_counts_of_balls(tmp_path: Path) -> None:
    made, real = pictures(40, 1, 150), pictures(50, 2)
    figures = evaluated(write(tmp_path / "a", made), write(tmp_path / "b", real)).figures[0]
    x, y = features(made), features(real)
    apart = np.linalg.norm(y[:, None] - x[None], axis=-1)
    own = [np.sort(np.linalg.norm(z[:, None] - z[None], axis=-1), 1)[:, 5] for z in (y, x)]
    inside = apart <= own[0][:, None]
    assert figures.precision == pytest.approx(inside.any(0).mean(), abs=0.03)
    assert figures.recall == pytest.approx((apart <= own[1]).any(1).mean(), abs=0.03)
    assert figures.density == pytest.approx(inside.sum(0).mean() / 5, abs=0.03)
    assert figures.coverage == pytest.approx(inside.any(1).mean(), abs=0.03)


@pytest.mark.parametrize("name", [PIXELS.name, "prior:16"])
def test_equal_sets_are_no_distance_apart(tmp_path: Path, name: str) -> None:
    folder = write(tmp_path / "a", pictures(80))
    extractor = load_extractor(name, "cpu")
    both = collect(folder, [extractor])
    figures = compare_sets(both, both, [extractor]).figures[0]
    rows = both.features[name].astype(np.float64)
    assert abs(figures.frechet) < 1e-6 * rows.var(0).sum()
    # The same pictures stand in both sets, which no two draws would share: a little below 0.
    kernel = (rows @ rows.T / rows.shape[1] + 1) ** 3
    apart = (kernel.sum() - np.trace(kernel)) / (80 * 79)
    exact = 2 * (apart - kernel.mean())
    assert figures.kernel == pytest.approx(exact, abs=5 * figures.kernel_error)
    assert abs(figures.kernel) < 0.01 * kernel.mean()
    assert (figures.precision, figures.recall, figures.coverage) == (1, 1, 1)
    assert figures.density >= 1


def test_a_shift_of_all_pixels_is_its_square(tmp_path: Path) -> None:
    """|μ_a - μ_b|² alone, as the covariances are equal."""
    made = [one.clip(40, 200) for one in pictures(60)]
    moved = [one + np.uint8(20) for one in made]
    figures = evaluated(write(tmp_path / "a", made), write(tmp_path / "b", moved)).figures[0]
    assert figures.frechet == pytest.approx(3 * SIDE**2 * (20 / 127.5) ** 2, rel=1e-4)


def archive(path: Path, folder: Path) -> Path:
    with tarfile.open(path, "w") as file:
        for each in sorted(folder.iterdir(), reverse=True):
            file.add(each, each.name)
    return path


def test_a_tar_in_another_order_is_the_same_reference(tmp_path: Path) -> None:
    folder = write(tmp_path / "a", pictures(30))
    packed = archive(tmp_path / "a.tar", folder)
    one, two = (collect(each, [PIXELS]) for each in (folder, packed))
    assert one.digest == two.digest
    assert one.names == tuple(reversed(two.names))
    np.testing.assert_array_equal(one.features[PIXELS.name], two.features[PIXELS.name][::-1])
    assert [image.name for image in one.shown] == [image.name for image in two.shown]


def test_the_digest_sees_a_name_and_a_pixel(tmp_path: Path) -> None:
    made = pictures(3)
    first = collect(write(tmp_path / "a", made), [PIXELS]).digest
    (tmp_path / "a/000.png").rename(tmp_path / "a/007.png")
    second = collect(tmp_path / "a", [PIXELS]).digest
    made[0][0, 0, 0] ^= 1
    third = collect(write(tmp_path / "b", made), [PIXELS]).digest
    assert len({first, second, third}) == 3


def test_a_count_takes_the_same_pictures_from_any_source(tmp_path: Path) -> None:
    folder = write(tmp_path / "a", pictures(40))
    chosen = collect(folder, [PIXELS], count=11)
    again = collect(archive(tmp_path / "a.tar", folder), [PIXELS], count=11)
    assert len(chosen) == 11
    assert set(chosen.names) == set(again.names)
    assert chosen.digest == again.digest
    more = collect(folder, [PIXELS], count=12)
    assert set(chosen.names) < set(more.names)
    for count in (0, 41):
        with pytest.raises(InputError, match="holds 40 pictures: give 1 to that many"):
            collect(folder, [PIXELS], count=count)


def test_shown_pictures_do_not_depend_on_the_order() -> None:
    images = [NamedImage(f"{k}.png", one) for k, one in enumerate(pictures(3 * SHOWN))]
    straight, turned = (collect(iter(order), [PIXELS]) for order in (images, images[::-1]))
    assert len(straight.shown) == SHOWN
    assert [image.name for image in straight.shown] == [image.name for image in turned.shown]
    fewer = collect(iter(images[:5]), [PIXELS])
    assert {image.name for image in fewer.shown} == {image.name for image in images[:5]}


def test_broken_files_are_counted_and_too_many_refused(tmp_path: Path) -> None:
    folder = write(tmp_path / "a", pictures(19))
    whole = (folder / "000.png").read_bytes()
    (folder / "cut.png").write_bytes(whole[: len(whole) // 2])
    made = collect(folder, [PIXELS])
    assert len(made) == 19
    assert list(made.skipped) == ["cut.png"]
    assert compare_sets(made, made, [PIXELS]).skipped_samples == made.skipped
    for name in ("empty.png", "text.jpg"):
        (folder / name).write_bytes(b"no picture" if name == "text.jpg" else b"")
    with pytest.raises(InputError, match=r"3 of 22 pictures in .* cannot be read .*cut\.png"):
        collect(folder, [PIXELS])
    with pytest.raises(InputError, match="holds no usable picture"):
        collect(write(tmp_path / "none", []), [PIXELS])


def test_sizes_are_brought_to_the_middle_square(tmp_path: Path) -> None:
    """A wide picture's middle square, of another side, has the features of that square."""
    square = pictures(1, side=24)[0]
    wide = np.concatenate([np.zeros((24, 10, 3), np.uint8), square, square[:, :10]], axis=1)
    made = collect([NamedImage("a", wide), NamedImage("b", square)], [PIXELS])
    rows = made.features[PIXELS.name]
    np.testing.assert_allclose(rows[0], rows[1], atol=1e-6)
    blocks = (square.reshape(SIDE, 6, SIDE, 6, 3).mean((1, 3)) / 127.5 - 1).transpose(2, 0, 1)
    np.testing.assert_allclose(rows[1], blocks.ravel(), atol=1e-5)
    first = collect([NamedImage("a", wide)], [PIXELS], size=8)
    np.testing.assert_allclose(first.features[PIXELS.name][0], blocks.ravel(), atol=1e-5)


def test_one_network_sees_pictures_of_several_shapes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "means.py").write_text("def means(x):\n    return x.mean((2, 3))\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    extractor = load_extractor("means:means")
    shapes = [(9, 12), (9, 12), (12, 9), (9, 12), (15, 15)]
    rng = np.random.default_rng(0)
    made = [rng.integers(0, 256, (*shape, 3), np.uint8) for shape in shapes]
    images = [NamedImage(str(k), one) for k, one in enumerate(made)]
    found = collect(images, [extractor, PIXELS], batch_size=2)
    expected = np.stack([one.mean((0, 1)) / 127.5 - 1 for one in made])
    np.testing.assert_allclose(found.features["means:means"], expected, atol=1e-5)
    assert found.features[PIXELS.name].shape == (5, 3 * SIDE**2)


def test_grey_pictures_and_what_they_do_not_go_with(tmp_path: Path) -> None:
    folder = write(tmp_path / "a", [one[..., 0] for one in pictures(4)])
    assert collect(folder, [PIXELS], channels=1).features[PIXELS.name].shape == (4, SIDE**2)
    grey, colour = collect(folder, [PIXELS], channels=1), collect(folder, [PIXELS])
    with pytest.raises(InputError, match="with channels 1 and the reference with 3"):
        compare_sets(grey, colour, [PIXELS])
    with pytest.raises(InputError, match="has 3 channels, not 1"):
        collect([NamedImage("a", pictures(1)[0])], [PIXELS], channels=1)
    with pytest.raises(InputError, match="name one of each"):
        collect(folder, [PIXELS, PIXELS])
    few = collect([NamedImage("a", pictures(1)[0])], [PIXELS])
    with pytest.raises(InputError, match="give two of each at least"):
        compare_sets(few, colour, [PIXELS])
    with pytest.raises(InputError, match="were not found by pixels:5"):
        compare_sets(colour, colour, [load_extractor("pixels:5")])


def test_few_pictures_have_distances_but_no_neighbours(tmp_path: Path) -> None:
    figures = evaluated(write(tmp_path / "a", pictures(5)), tmp_path / "a").figures[0]
    assert figures.precision is None
    assert math.isfinite(figures.kernel)


def test_progress_is_told(tmp_path: Path) -> None:
    told: list[tuple[int, int | None]] = []
    folder = write(tmp_path / "a", pictures(5))
    collect(folder, [PIXELS], count=3, on_progress=lambda *each: told.append(each))
    assert told == [(1, 3), (2, 3), (3, 3)]


PROTOCOL = Protocol(
    "pixels", "0" * 16, "to 16", 100, 200, "1" * 16, 3, 50, 100, 5, 0, "0.1.0"
)  # fmt: skip


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("extractor", "prior", "extractors (pixels and prior)"),
        ("extractor_hash", "f" * 16, "weights or definitions of the extractor"),
        ("resize", "to 8", "ways of resizing (to 16 and to 8)"),
        ("samples", 99, "numbers of samples (100 and 99)"),
        ("reference", 1, "numbers of reference pictures (200 and 1)"),
        ("reference_digest", "a", "reference sets"),
        ("channels", 1, "numbers of channels (3 and 1)"),
        ("subset", 5, "subset sizes"),
        ("subsets", 5, "numbers of subsets"),
        ("neighbours", 3, "numbers of neighbours (5 and 3)"),
        ("seed", 1, "seeds (0 and 1)"),
        ("version", "0.2.0", "versions of the package (0.1.0 and 0.2.0)"),
    ],
)
def test_protocols_that_differ_do_not_compare(name: str, value: object, words: str) -> None:
    assert comparable(PROTOCOL, PROTOCOL) is None
    why = comparable(PROTOCOL, replace(PROTOCOL, **{name: value}))
    assert why is not None
    assert words in why
    assert "\n" not in why


def test_every_entry_of_a_protocol_counts_and_all_that_differ_are_named() -> None:
    names = set(Protocol.__dataclass_fields__)
    tried = test_protocols_that_differ_do_not_compare.pytestmark[0].args[1]
    assert {name for name, *_ in tried} == names
    why = comparable(PROTOCOL, replace(PROTOCOL, seed=1, samples=3, version="9"))
    assert why is not None
    assert why.startswith(
        "the figures were made with different numbers of samples (100 and 3), seeds (0 and 1) and "
        "versions"
    )


def test_results_return_from_json_with_their_protocols(tmp_path: Path) -> None:
    made = evaluated(write(tmp_path / "a", pictures(9)), write(tmp_path / "b", pictures(9, 1)))
    told = replace(made, settings={"steps": 5, "solver": "ddim"}, skipped_samples={"x": "why"})
    few = replace(made, figures=(replace(made.figures[0], precision=None),))
    save_results([told, few], tmp_path / "r.json")
    raw = json.loads((tmp_path / "r.json").read_text())
    assert raw["results"][0]["figures"][0]["protocol"]["extractor"] == PIXELS.name
    assert load_results(tmp_path / "r.json") == [told, few]
    assert against(told, load_results(tmp_path / "r.json")[0]) == [(made.figures[0],) * 2]


def test_results_that_do_not_compare_are_refused(tmp_path: Path) -> None:
    a, b = (write(tmp_path / n, pictures(9, k)) for k, n in enumerate("ab"))
    one, two = evaluated(a, b), evaluated(b, a)
    with pytest.raises(InputError, match="different reference sets"):
        against(one, two)
    other = replace(one, figures=(replace(one.figures[0], protocol=PROTOCOL),))
    with pytest.raises(InputError, match="no extractor in common"):
        against(one, other)


def spoil(text: str) -> Callable[[Path], None]:
    return lambda path: path.write_text(text)


@pytest.mark.parametrize(
    "text",
    ["", "{}", "[]", '{"format": "differential-diffusion-evaluation/1", "results": []}',
     '{"format": "differential-diffusion-evaluation/1", "results": [{"figures": [{}]}]}',
     '{"format": "other", "results": [{}]}'],
)  # fmt: skip
def test_other_files_are_no_results(tmp_path: Path, text: str) -> None:
    (tmp_path / "r.json").write_text(text)
    for name in ("r.json", "gone.json"):
        with pytest.raises(InputError, match="holds no results of an evaluation"):
            load_results(tmp_path / name)


def test_protocols_from_json_are_checked() -> None:
    raw = PROTOCOL.as_dict()
    assert Protocol.from_dict(raw) == PROTOCOL
    for wrong in ({**raw, "more": 1}, {**raw, "seed": "0"}, {}, None):
        with pytest.raises(InputError, match="protocol"):
            Protocol.from_dict(wrong)


@pytest.fixture
def stored(tmp_path: Path) -> tuple[FeatureSet, Path]:
    made = collect(write(tmp_path / "a", pictures(12)), [PIXELS])
    save_features(made, tmp_path / "a.safetensors")
    return made, tmp_path / "a.safetensors"


def test_features_return_from_their_file(stored: tuple[FeatureSet, Path], tmp_path: Path) -> None:
    made, path = stored
    again = load_features(path, [PIXELS])
    assert (again.names, again.digest, again.source) == (made.names, made.digest, made.source)
    np.testing.assert_array_equal(again.features[PIXELS.name], made.features[PIXELS.name])
    assert (made.readable, again.readable, again.shown) == (True, False, ())
    assert stored_extractors(path) == [PIXELS.name]
    samples = collect(write(tmp_path / "b", pictures(12, 3)), [PIXELS])
    assert compare_sets(samples, again, [PIXELS]) == compare_sets(samples, made, [PIXELS])


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"size": 8}, "made with size None, not 8"),
        ({"channels": 1}, "made with channels 3, not 1"),
        ({"count": 5}, "made with count 12, not 5"),
    ],
)
def test_features_made_otherwise_are_refused(
    stored: tuple[FeatureSet, Path], settings: dict[str, int], words: str
) -> None:
    with pytest.raises(InputError, match=words):
        load_features(stored[1], [PIXELS], **settings)
    assert len(load_features(stored[1], [PIXELS], count=12)) == 12


def test_features_of_another_extractor_are_refused(stored: tuple[FeatureSet, Path]) -> None:
    other = replace(PIXELS, hash="f" * 16)
    with pytest.raises(InputError, match="another definition or other weights"):
        load_features(stored[1], [other])
    with pytest.raises(InputError, match=r"holds features of pixels:4, not of pixels:5"):
        load_features(stored[1], [load_extractor("pixels:5")])


def test_features_of_another_version_are_refused(
    stored: tuple[FeatureSet, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    from differential_diffusion.evaluation import sets

    monkeypatch.setattr(sets, "package_version", lambda: "9.9.9")
    with pytest.raises(InputError, match=r"was made by version .* and this is 9\.9\.9"):
        load_features(stored[1], [PIXELS])


def test_damaged_files_of_features_are_refused(stored: tuple[FeatureSet, Path]) -> None:
    path = stored[1]
    whole = path.read_bytes()
    path.write_bytes(whole[:-8])
    with pytest.raises(InputError, match="is no file of features of ours"):
        load_features(path, [PIXELS])
    path.write_bytes(whole)
    rows = load_file(path)[PIXELS.name]
    from safetensors import safe_open

    with safe_open(path, framework="np") as file:
        metadata = file.metadata()
    for wrong in (rows[:-1], np.full_like(rows, np.nan)):
        save_file({PIXELS.name: np.ascontiguousarray(wrong)}, path, metadata)
        with pytest.raises(InputError, match=r"do not belong together|not finite"):
            load_features(path, [PIXELS])
    save_file({PIXELS.name: rows}, path)
    with pytest.raises(InputError, match="not of the format"):
        load_features(path, [PIXELS])


def test_nearest_pictures_are_found_and_read_anew(tmp_path: Path) -> None:
    """Samples that are reference pictures, slightly changed, find these."""
    real = pictures(2 * SHOWN)
    reference = collect(write(tmp_path / "real", real), [PIXELS])
    some = [5, 70, 31, 90]
    changed = [NamedImage(f"{k:03d}", (real[k] | 1).astype(np.uint8)) for k in some]
    samples = collect(changed, [PIXELS])
    shown = compare_sets(samples, reference, [PIXELS], gallery=True).gallery
    pairs = shown.nearest[PIXELS.name]
    assert {(one.name, two.name) for one, two, _ in pairs} == {
        (f"{k:03d}", f"{k:03d}.png") for k in some
    }
    for one, two, distance in pairs:
        np.testing.assert_array_equal(two.pixels, real[int(one.name)])
        exact = np.linalg.norm(features([one.pixels]) - features([two.pixels]))
        assert distance == pytest.approx(exact, abs=1e-4)
    assert shown.samples == samples.shown
    assert len(shown.reference) == SHOWN


@pytest.mark.parametrize("asked", [{"size": 0}, {"size": -4}, {"batch_size": 0}])
def test_sides_and_batches_of_nothing_are_refused(asked: dict[str, int]) -> None:
    images = [NamedImage(f"{k}.png", one) for k, one in enumerate(pictures(3))]
    with pytest.raises(InputError, match=r"is (0|-4): give at least 1"):
        collect(images, [PIXELS], **asked)  # type: ignore[arg-type]


def test_inception_of_pictures_brought_to_another_size_is_no_fid() -> None:
    inception = replace(PIXELS, is_inception=True)
    images = [NamedImage(f"{k}.png", one) for k, one in enumerate(pictures(3))]
    for size, name in ((None, "FID"), (8, "Fréchet distance")):
        made = collect(images, [inception], size=size)
        assert compare_sets(made, made, [inception]).figures[0].names[0] == name


def test_neighbours_among_pictures_without_a_source_are_those_held() -> None:
    images = [NamedImage(f"{k}.png", one) for k, one in enumerate(pictures(2 * SHOWN))]
    reference = collect(images, [PIXELS])
    shown = compare_sets(reference, reference, [PIXELS], gallery=True).gallery
    assert {one.name for one, *_ in shown.nearest[PIXELS.name]} <= {
        image.name for image in reference.shown
    }


def test_float_and_16_bit_pictures_have_their_range(tmp_path: Path) -> None:
    grey = np.linspace(0, 1, 144).reshape(12, 12)
    kinds = {
        "f": np.repeat(grey[..., None], 3, 2).astype(np.float32),
        "w": np.repeat(np.rint(grey * 65535)[..., None], 3, 2).astype(np.uint16),
        "b": np.repeat(np.rint(grey * 255)[..., None], 3, 2).astype(np.uint8),
    }
    for name, pixels in kinds.items():
        np.save(tmp_path / f"{name}.npy", pixels)
    rows = collect(tmp_path, [PIXELS]).features[PIXELS.name]
    np.testing.assert_allclose(rows[1:], rows[:-1], atol=2e-3)
    file = io.BytesIO()
    np.save(file, kinds["f"] * 2)
    (tmp_path / "z.npy").write_bytes(file.getvalue())
    with pytest.raises(InputError, match="beyond"):
        collect(tmp_path, [PIXELS])
