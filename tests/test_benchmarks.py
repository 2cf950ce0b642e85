"""The benchmarks' own arithmetic: quality, noise, masks, maps of levels, pairs and reports."""

from __future__ import annotations

import argparse
import importlib
import os
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from skimage.color import rgb2ycbcr
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from differential_diffusion.core.operators import bayer
from differential_diffusion.data.images import NamedImage
from differential_diffusion.engine import run_plan
from differential_diffusion.evaluation import collect, load_extractor
from differential_diffusion.models import DenoiserModel

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks import (
    colorize,
    common,
    deblur,
    demosaic,
    denoise,
    enhance,
    generation,
    heterogeneous,
    inpaint,
    jpeg,
    measured,
    regions,
    upscale,
)
from benchmarks.__main__ import NAMED, NAMES
from benchmarks.common import Photo, Score, Scores

SIZES = [(321, 481), (481, 321), (97, 130)]


def photo(height: int = 96, width: int = 128, index: int = 3) -> Photo:
    row, column = np.mgrid[0:height, 0:width]
    waves = [np.sin(row / a) * np.cos(column / b) for a, b in ((7, 9), (5, 13), (11, 4))]
    return Photo(index, "waves", common.as_array(np.stack(waves, -1) / 2 + 0.5))


@given(seed=st.integers(0, 1000), level=st.floats(1, 120))
def test_quality_is_scikit_image_s_of_the_clipped_estimate(seed: int, level: float) -> None:
    clean = photo(40, 52).pixels
    estimate = clean + level / 255 * np.random.default_rng(seed).standard_normal(clean.shape)
    clipped = np.clip(estimate, 0, 1)
    expected = peak_signal_noise_ratio(clean.astype(np.float64), clipped, data_range=1)
    assert common.psnr(estimate, clean) == pytest.approx(expected, abs=1e-9)
    similarity = structural_similarity(
        clean.astype(np.float64),
        clipped,
        data_range=1,
        channel_axis=-1,
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
    )
    assert common.ssim(estimate, clean) == pytest.approx(similarity, abs=1e-6)


def test_psnr_within_holes_counts_no_other_pixel() -> None:
    clean, hole = np.zeros((8, 8, 3)), np.zeros((8, 8), bool)
    hole[2:4, 2:4] = True
    estimate = np.where(hole[..., None], 0.1, 0.9)
    assert common.psnr(estimate, clean, hole) == pytest.approx(20)
    assert common.psnr(np.full_like(clean, 7.0), clean) == pytest.approx(0)  # clipped to 1


def test_psnr_b_counts_steps_at_the_borders_of_blocks() -> None:
    """A step of 8 levels at every border, whose excess counts log 8 / log 64 = 1/2."""
    clean = np.full((64, 64, 3), 0.5, np.float32)
    even = clean + np.float32(4 / 255)
    assert jpeg.psnr_b(even, clean) == pytest.approx(10 * np.log10(255**2 / 16), abs=1e-3)
    blocks = (np.indices((64, 64)) // 8).sum(0) % 2
    steps = clean + common.as_array((blocks[..., None] * 8 - 4) / 255)
    expected = 10 * np.log10(255**2 / (16 + 0.5 * 64))
    assert jpeg.psnr_b(steps, clean) == pytest.approx(expected, abs=1e-3)
    shifted = np.roll(steps, 3, (0, 1))
    assert jpeg.psnr_b(shifted, clean) == pytest.approx(10 * np.log10(255**2 / 16), abs=1e-3)


@pytest.mark.parametrize("level", [15, 50])
def test_noise_has_its_level_is_not_clipped_and_depends_on_picture_and_stream(level: int) -> None:
    source = photo(400, 400)
    noise = common.add_noise(source, level, stream=level) - source.pixels
    assert noise.std() * 255 == pytest.approx(level, rel=0.005)
    assert abs(noise.mean()) * 255 < level * 0.01
    noisy = source.pixels + noise
    assert noisy.min() < 0
    assert noisy.max() > 1
    again = common.add_noise(source, level, stream=level) - source.pixels
    assert np.array_equal(again, noise)
    others = [
        common.add_noise(Photo(4, "other", source.pixels), level, level) - source.pixels,
        common.add_noise(source, level, level + 1) - source.pixels,
    ]
    for other in others:
        assert abs(np.corrcoef(other.ravel(), noise.ravel())[0, 1]) < 0.01


@pytest.mark.parametrize("size", SIZES)
def test_the_ramp_has_its_ends_and_the_noise_follows_it(size: tuple[int, int]) -> None:
    level = heterogeneous.ramp(*size)
    assert level.shape == size
    assert np.all(level[:, 0] == 5)
    assert np.all(level[:, -1] == 50)
    np.testing.assert_allclose(np.diff(level, axis=1), 45 / (size[1] - 1), rtol=1e-3)
    tall = photo(4000, 40)
    noise = common.add_noise(tall, heterogeneous.ramp(4000, 40), stream=0) - tall.pixels
    np.testing.assert_allclose(noise.std((0, 2)) * 255, np.linspace(5, 50, 40), rtol=0.04)


@pytest.mark.parametrize("size", SIZES)
def test_patches_are_flat_squares_of_the_stated_levels(size: tuple[int, int]) -> None:
    level = heterogeneous.patches(*size, common.random(0))
    assert level.shape == size
    for top in range(0, size[0], 64):
        for left in range(0, size[1], 64):
            square = np.unique(level[top : top + 64, left : left + 64])
            assert len(square) == 1
            assert square[0] in heterogeneous.PATCH_LEVELS
    assert len(np.unique(level)) > 1


@pytest.mark.parametrize("size", SIZES[:2])
@pytest.mark.parametrize("seed", range(5))
def test_masks_have_the_stated_area(size: tuple[int, int], seed: int) -> None:
    holes = {name: make(*size, np.random.default_rng(seed)) for name, make in inpaint.MASKS.items()}
    assert all(hole.shape == size and hole.dtype == bool for hole in holes.values())
    assert 0.05 <= holes["strokes"].mean() < 0.06
    assert holes["boxes"].sum() == 4 * (min(size) // 8) ** 2
    for percent in (10, 50, 90):
        assert holes[f"{percent} % of pixels"].sum() == round(size[0] * size[1] * percent / 100)


def test_the_shown_crop_holds_the_most_of_the_hole() -> None:
    hole = np.zeros((90, 120), bool)
    hole[40:50, 70:80] = True
    hole[5:8, 5:8] = True
    crop = inpaint.most_of(hole, 40)
    assert hole[crop].shape == (40, 40)
    assert hole[crop].sum() == 100
    assert hole[crop][10:30, 10:30].sum() == 100  # in the middle
    edge = np.zeros((90, 120), bool)
    edge[-1, -1] = True
    assert edge[inpaint.most_of(edge, 40)].shape == (40, 40)


@pytest.mark.parametrize(("length", "count"), [(68, 1), (68, 17), (68, 68), (68, 900), (3, 2)])
def test_a_subset_is_spread_evenly(length: int, count: int) -> None:
    chosen = common.spread(length, count)
    assert len(chosen) == len(set(chosen)) == min(count, length)
    assert 0 <= min(chosen) <= max(chosen) < length
    share = length / len(chosen)
    for k, index in enumerate(chosen):  # one from the middle of each equal share
        assert abs(index - (k + 0.5) * share) < 1


def test_scores_compare_what_both_methods_did() -> None:
    rows = [
        Score(picture, "15", method, psnr, seconds)
        for picture, method, psnr, seconds in [
            (0, "ours", 30.0, 1.0),
            (1, "ours", 40.0, 1.0),
            (0, "slow", 29.0, 8.0),
        ]
    ]
    scores = Scores(rows)
    assert scores.mean("psnr", "ours", "15") == 35
    assert scores.gain("ours", "slow", "15") == 1
    assert scores.gain("slow", "ours") == -1
    assert scores.times("slow", "ours") == 8
    assert (scores.pictures("ours"), scores.pictures("slow"), scores.pictures("none")) == (2, 1, 0)
    assert np.isnan(scores.mean("psnr", "ours", "25"))


@pytest.fixture(scope="module")
def gaussian() -> DenoiserModel:
    """A model whose denoiser is known in closed form: pixels independent, N(0, 0.25)."""

    def shrink(x: torch.Tensor, sigma: torch.Tensor, /) -> torch.Tensor:
        return x * 0.25 / (0.25 + sigma * sigma)

    return DenoiserModel("gaussian", shrink, 3, 8, 8, torch.device("cpu"))


def test_the_model_is_told_levels_on_its_own_scale(gaussian: DenoiserModel) -> None:
    function, clean = common.denoiser_of(gaussian), photo()
    noisy = common.add_noise(clean, 25, stream=0)
    for level in (25.0, heterogeneous.ramp(*clean.size)):
        sigma = np.asarray(level)[..., None] / 255  # on [0,1], where the deviation is 0.25
        expected = 0.5 + (noisy - 0.5) * 0.0625 / (0.0625 + sigma**2)
        np.testing.assert_allclose(function(noisy, level), expected, atol=1e-6)


def test_the_single_level_is_the_best_there_is(gaussian: DenoiserModel) -> None:
    function = common.denoiser_of(gaussian)
    noise = np.random.default_rng(0).standard_normal((2, 200, 200, 3)).astype(np.float32)
    clean = 0.5 + 0.25 * noise[0]
    noisy = clean + 30 / 255 * noise[1]
    best = heterogeneous.best_single(function, noisy, clean)
    np.testing.assert_allclose(best, function(noisy, 30.0), atol=1e-6)


def test_known_pixels_stay_and_holes_start_from_noise_alone(gaussian: DenoiserModel) -> None:
    source = photo()
    hole = inpaint.boxes(*source.size, common.random(0))
    secret = Photo(source.index, "other", np.where(hole[..., None], 1, source.pixels))
    for lifted in (False, True):
        filled = [
            inpaint.fill(gaussian, inpaint.blanked(p, hole), hole, 0, 3, lifted=lifted)
            for p in (source, secret)
        ]
        assert np.array_equal(*filled)
        np.testing.assert_allclose(filled[0][~hole], source.pixels[~hole], atol=1e-6)


def test_one_step_fills_with_the_posterior_mean(gaussian: DenoiserModel) -> None:
    # Independent pixels: the surroundings tell nothing, and the start is noise of 20 around 0.
    source = photo()
    hole = inpaint.strokes(*source.size, common.random(0))
    filled = inpaint.fill(gaussian, inpaint.blanked(source, hole), hole, 0, 1, lifted=False)
    assert np.abs(filled[hole] - 0.5).max() < 5 * 20 * 0.25 / (0.25 + 400) / 2


@pytest.mark.parametrize("percent", [0.5, 1, 10, 100])
def test_the_edited_box_has_its_area(percent: float) -> None:
    strength = regions.box(1024, percent)
    assert 100 * float(strength.mean()) == pytest.approx(percent, rel=0.02)


def test_the_full_frame_run_skips_nothing_and_equals_the_regions(gaussian: DenoiserModel) -> None:
    seen: list[int] = []

    def record(x: torch.Tensor, sigma: torch.Tensor, /) -> torch.Tensor:
        seen.append(x.shape[-2] * x.shape[-1])
        return gaussian.denoiser(x, sigma)

    picture = torch.rand(1, 3, 256, 256, generator=torch.Generator().manual_seed(0)) * 2 - 1
    plan = regions.Plan(picture, regions.box(256, 1), steps=3)
    whole = regions.full_frame(plan, gaussian.with_denoiser(record))
    assert seen == [256 * 256] * 3
    torch.testing.assert_close(run_plan(plan, gaussian), whole, rtol=0, atol=1e-5)


def test_peak_memory_is_seen_after_it_was_given_back(repository: Path) -> None:
    code = (
        "import numpy as np; from benchmarks.memory import peak_bytes; a = peak_bytes();"
        "np.ones(2**25); print(peak_bytes() - a)"
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=repository, env=environment, capture_output=True
    )
    assert done.returncode == 0, done.stderr.decode()
    assert 0.8 * 2**28 < int(done.stdout) < 1.1 * 2**28


def test_luminance_is_scikit_image_s_y() -> None:
    clean = photo(40, 52).pixels
    estimate = clean + 0.05 * np.random.default_rng(0).standard_normal(clean.shape)
    y = [rgb2ycbcr(np.clip(p, 0, 1).astype(np.float64))[..., 0] for p in (estimate, clean)]
    expected = peak_signal_noise_ratio(y[1], y[0], data_range=255)
    assert measured.luma_psnr(estimate, clean) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("factor", upscale.FACTORS)
def test_results_are_measured_again_as_the_inputs_were_made(factor: int) -> None:
    source = photo(97, 130)
    truth, operator, small = upscale.shrunk(source, factor)
    assert truth.shape == (97 // factor * factor, 130 // factor * factor, 3)
    assert small.shape == (97 // factor, 130 // factor, 3)
    kept = measured.score(source, "x", "truth", measured.levels(truth), truth, 0.0, operator, small)
    assert 0.05 < kept.error < 0.5  # rounding, of both
    assert kept.psnr > 50
    large = upscale.interpolated(Image.Resampling.BICUBIC, small, factor)
    plain = measured.score(source, "x", "bicubic", large, truth, 0.0, operator, small)
    assert plain.error > 1.2 * kept.error
    sharp, _ = upscale.best_sharpened(small, factor, truth)
    assert common.psnr(sharp / 255, truth) >= plain.psnr - 1


def test_demosaicing_peers_know_the_pattern_and_borders_do_not_count() -> None:
    flat = np.broadcast_to(np.float32([0.8, 0.4, 0.2]), (24, 30, 3))
    raw = measured.levels(measured.measured(bayer("RGGB", 24, 30), flat))[..., 0]
    makers = [partial(demosaic.opencv, code) for code in demosaic.OPENCV.values()]
    for make in (*makers, demosaic.linear):
        made = make(raw).copy()
        np.testing.assert_array_equal(made[4:-4, 4:-4], measured.levels(flat)[4:-4, 4:-4])
        made[:4] = made[:, -4:] = 0
        scored = measured.score(
            photo(), "x", "y", made, flat, 0.0, bayer("RGGB", 24, 30), raw, border=4
        )
        assert scored.error == pytest.approx(0, abs=1e-9)
        assert scored.psnr > 60


def test_hints_are_true_colours_and_the_nearest_fills(gaussian: DenoiserModel) -> None:
    source = photo(40, 52)
    levels, hints = colorize.hinted(source, 5)
    known = hints[..., 3] > 0
    assert 0.02 < known.mean() < 0.08
    truth = measured.levels(source.pixels)
    assert np.array_equal(hints[known][:, :3], truth[known])
    near = colorize.of_nearest(levels, hints)
    assert np.abs(near[known].astype(int) - truth[known]).max() <= 1
    plain = colorize.of_grey(levels, hints)
    assert colorize.difference(near, source.pixels) < colorize.difference(plain, source.pixels)
    assert colorize.difference(truth, source.pixels) < 0.5
    held = colorize.refined(gaussian, near, levels, hints)
    assert np.abs(held[known].astype(int) - near[known]).max() <= 1
    inside = ((held > 0) & (held < 255)).all(-1)
    assert np.abs(held.astype(float) @ colorize.LUMA - levels)[inside].max() <= 1


def test_peers_denoise() -> None:
    clean = photo()
    noisy = common.add_noise(clean, 25, stream=25)
    for method in (denoise.non_local_means, denoise.total_variation):
        gain = common.psnr(method(noisy, 25), clean.pixels) - common.psnr(noisy, clean.pixels)
        assert gain > 3


def test_local_contrast_is_the_deviation_of_the_luma() -> None:
    row = np.arange(200)
    stripes = np.tile(0.5 + 0.1 * np.sin(2 * np.pi * row / 5), (200, 1))[..., None] * np.ones(3)
    assert enhance.local_contrast(stripes) == pytest.approx(25.5 / np.sqrt(2), rel=0.01)
    assert enhance.local_contrast(np.full((50, 60, 3), 0.3)) == pytest.approx(0, abs=1e-4)
    colours = 0.5 + 0.1 * (stripes - 0.5) / 0.1 * np.array([1, 0, 0])
    assert enhance.local_contrast(colours) == pytest.approx(0.299 * 25.5 / np.sqrt(2), rel=0.01)


def test_pictures_are_degraded_by_noise_and_jpeg() -> None:
    source = photo()
    quality = [
        common.psnr(enhance.degraded(source, sigma, q) / 255, source.pixels)
        for sigma, q in enhance.CASES
    ]
    assert 38 > quality[0] > quality[1] > quality[2] > 26
    again = [enhance.degraded(source, 5, 75) for _ in range(2)]
    assert np.array_equal(*again)


def test_enhancing_peers_raise_contrast_and_smoothing_lowers_it() -> None:
    given = enhance.degraded(photo(), 5, 75)
    before = enhance.local_contrast(given / 255)
    for method in (enhance.unsharp_mask, enhance.clahe, enhance.detail_enhance):
        assert enhance.local_contrast(method(given) / 255) > before
    assert enhance.local_contrast(enhance.non_local_means(given, 5) / 255) < before


def test_peers_take_blur_away() -> None:
    clean, case = photo(), deblur.CASES[0]
    soft = deblur.blurred(clean, case, 1)
    for method, grid in (deblur.PEERS[n] for n in (deblur.WIENER, deblur.LUCY, deblur.TV)):
        estimate, _ = deblur.best(method, grid, soft, case, clean.pixels)
        assert common.psnr(estimate, clean.pixels) > common.psnr(soft, clean.pixels) + 0.5
    perfect = deblur.residual(clean.pixels, soft, case)
    assert perfect == pytest.approx(1, rel=0.02)


def test_tables_and_grids(tmp_path: Path) -> None:
    text = common.table(["method", "dB"], [["ours", "1.0"], ["theirs", 2]])
    assert text == "| method | dB |\n| --- | ---: |\n| ours | 1.0 |\n| theirs | 2 |"
    red = np.float32([0.8, 0.2, 0.0]) * np.ones((20, 30, 1), np.float32)
    common.save_grid(tmp_path / "grid.png", [[("a", red), ("b", red - 9)], [("c", red)]])
    grid = np.asarray(Image.open(tmp_path / "grid.png"))
    assert (grid == (204, 51, 0)).all(-1).sum() == 2 * 20 * 30


def test_a_report_replaces_its_section_alone() -> None:
    page = "top\n<!-- regions -->\nold\n<!-- /regions -->\nend\n"
    text = "## New\n\n![plot](regions.png)"
    once = common.with_section(page, "regions", text, "benchmarks")
    assert once.startswith("top\n<!-- regions -->\n")
    assert once.endswith("<!-- /regions -->\nend\n")
    assert "![plot](benchmarks/regions.png)" in once
    assert "old" not in once
    assert common.with_section(once, "regions", text, "benchmarks") == once
    assert common.with_section(page, "memory", text, "benchmarks") == page


def test_the_page_shows_the_reports_as_they_were_written(repository: Path) -> None:
    page = (repository / "docs" / "benchmarks.md").read_text("utf-8")
    for name in (*NAMES, "generation"):
        assert f"<!-- {name} -->" in page
        written = repository / "docs" / "benchmarks" / f"{name}.md"
        if written.is_file():
            text = written.read_text("utf-8").rstrip("\n")
            assert common.with_section(page, name, text, "benchmarks") == page
            assert (written.parent / f"{name}.png").is_file()


def test_every_benchmark_has_the_common_options() -> None:
    options = common.parser("x").parse_args(["--pictures", "2", "--threads", "1"])
    assert (options.pictures, options.threads, options.model) == (2, 1, "prior")
    for name in (*NAMES, *NAMED):
        assert callable(importlib.import_module(f"benchmarks.{name}").main)


def test_photographs_are_those_of_the_set(shared_data: Path) -> None:
    options = common.parser("x").parse_args(["--pictures", "3", "--data", str(shared_data)])
    chosen = common.photographs(options)
    assert [p.index for p in chosen] == common.spread(common.ALL, 3)
    assert {p.size for p in chosen} <= {(321, 481), (481, 321)}
    assert all(p.pixels.dtype == np.float32 and 0.9 < p.pixels.max() <= 1 for p in chosen)


class Always(torch.nn.Module):
    """Takes every picture for one class."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.eye(3)[self.number].expand(len(x), -1)


def test_samples_agree_where_the_judge_sees_the_class_asked_for() -> None:
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (40, 8, 8, 3), dtype=np.uint8)
    real = [NamedImage(f"{k}", each, "ant") for k, each in enumerate(pixels)]
    extractors = {"pixels": load_extractor("pixels:4", "cpu")}
    reference = collect(real, list(extractors.values()))
    names = ["ant", "bee", "cow"]
    options = argparse.Namespace(count=20)
    model = DenoiserModel(
        name="small",
        denoiser=lambda x, sigma: 0 * x,
        channels=3,
        stride=1,
        halo=None,
        device=torch.device("cpu"),
        size=(8, 8),
        classes=("ant", "bee", "cow"),
        conditioned=lambda told: lambda x, sigma: 0 * x,
    )
    for number in range(3):
        judge = generation.Judge(Always(number), 1.0, names, extractors, reference)
        found = judge.found(model, options, steps=2)
        asked = [sample.label for sample in found.samples]
        assert found.agree == pytest.approx(asked.count(names[number]) / 20)
        assert found.by_class == {name: float(name == names[number]) for name in names}
        assert found.distances == judge.distances(
            [NamedImage(f"{s.index}", s.pixels, s.label) for s in found.samples]
        )
    assert judge.distances(real) == pytest.approx({"pixels": 0}, abs=1e-6)
    assert generation.least({"ant": 0.5, "bee": 0.25}) == "bee 25 %"
