"""Restoration: what each mode and mechanism looks for, with scripted models and the prior."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage
from skimage import data
from torch import Tensor

import differential_diffusion as dd
from differential_diffusion.core.plan import Plan
from differential_diffusion.data.damage import add_hidden_damage, add_scratches
from differential_diffusion.errors import InputError
from differential_diffusion.maps._unexplained import anomaly, standard_residuals, suspects
from differential_diffusion.schema import RestoreRequest, build
from differential_diffusion.tasks import TaskInput, TaskOutput
from differential_diffusion.tasks.restore import MOST_LOOKS, restore
from differential_diffusion.tasks.unexplained import anomalies, hidden_damage, noise_removed

SIZE = (72, 96)
RNG = np.random.default_rng(0)
TEXTURE = ndimage.gaussian_filter(RNG.standard_normal(SIZE), 8) * 0.8
CLEAN = np.repeat((TEXTURE + RNG.normal(0, 0.01, SIZE))[..., None], 3, 2).astype(np.float32)
MARK = np.zeros(SIZE, bool)
MARK[20:22, 12:70] = True


class Smoother:
    """A model of smooth pictures: where it is told of noise, it takes away all fine detail."""

    def __init__(self) -> None:
        self.plans: list[Plan] = []

    def __call__(self, plan: Plan) -> Tensor:
        self.plans.append(plan)
        start = torch.maximum(20 * plan.strength, plan.noise).expand(1, 1, *plan.image.shape[-2:])
        moving = (start > plan.target).float()
        whole = bool((moving > 0).all())
        known = torch.ones_like(moving) if whole else 1 - moving
        blurred = [
            torch.from_numpy(ndimage.gaussian_filter(x.numpy(), (0, 0, 2.5, 2.5)))
            for x in (plan.image * known, known)
        ]
        smooth = blurred[0] / blurred[1].clamp(min=1e-6)
        made = torch.where(moving > 0, smooth, plan.image)
        return made.expand(len(plan.seeds), -1, -1, -1)


def source(pixels: NDArray[np.float32], *, grey: bool = False) -> TaskInput:
    return TaskInput(torch.from_numpy(pixels).permute(2, 0, 1)[None].contiguous(), grey)


def scratched(contrast: float = 30) -> NDArray[np.float32]:
    return CLEAN + np.float32(contrast / 127.5) * MARK[..., None].astype(np.float32)


def done(pixels: NDArray[np.float32], **fields: Any) -> tuple[TaskOutput, Smoother]:
    run = Smoother()
    fields = {"noise_level_8bit": 0.0} | fields
    return restore(build(RestoreRequest, image="x", **fields), source(pixels), run), run


def error(output: TaskOutput) -> float:
    made = output.samples[0].permute(1, 2, 0).numpy()
    return float(np.square(made - CLEAN).mean())


@pytest.mark.parametrize("grey", [False, True])
def test_a_faint_scratch_is_found_where_it_is_at_its_own_strength(grey: bool) -> None:
    given = source(scratched(), grey=grey)
    found = hidden_damage(given.image, torch.zeros(1, 1, 1, 1), Smoother(), grey=grey)[0, 0]
    at = found.numpy()
    assert (at[MARK] > 0).mean() > 0.9
    assert (at[~ndimage.binary_dilation(MARK, iterations=3)] == 0).all()
    assert at[MARK].max() * 127.5 == pytest.approx(30, rel=0.2)


def test_nothing_is_found_in_a_clean_picture_and_it_stays() -> None:
    for mode in ("light", "standard", "deep"):
        for mechanism in ("static", "dynamic"):
            output, _ = done(CLEAN, mode=mode, control_mechanism=mechanism)
            assert bool(output.keep.all()), (mode, mechanism)


@pytest.mark.parametrize(
    ("mode", "mechanism", "looks"),
    [
        ("light", "static", 0),
        ("light", "dynamic", 0),
        ("standard", "static", 0),
        ("standard", "dynamic", 1),
        ("deep", "static", 1),
        ("deep", "dynamic", MOST_LOOKS),
        ("standard", None, 0),
        ("deep", None, MOST_LOOKS),
    ],
)
def test_modes_and_mechanisms_say_how_often_the_model_is_asked(
    mode: str, mechanism: str | None, looks: int
) -> None:
    output, run = done(scratched(), mode=mode, control_mechanism=mechanism)
    asked = [
        p for p in run.plans if not p.strength.any() and p.noise.shape[-1] == 1 and p.noise > 0
    ]
    assert len(asked) % 3 == 0
    assert len(asked) // 3 <= looks
    assert bool(len(asked)) == bool(looks)
    assert (error(output) < error(done(scratched(), mode="light")[0])) == bool(looks)


def test_damage_that_is_given_is_not_looked_for() -> None:
    damage = np.zeros(SIZE, np.float32)
    damage[50:55, 50:55] = 1
    output, run = done(scratched(), mode="deep", damage=damage, estimate="sample")
    assert len(run.plans) == 2
    assert torch.equal(output.keep[0, 0], torch.from_numpy(damage == 0))


def test_uniform_fills_all_damage_alike_and_tells_one_level_of_noise() -> None:
    level = np.zeros(SIZE)
    level[:, 48:] = 20
    given = {"mode": "deep", "control_mechanism": "static", "noise_level_8bit": level}
    given["estimate"] = "sample"
    _, adaptive = done(scratched(), **given, pixel_strengths="adaptive")
    _, uniform = done(scratched(), **given, pixel_strengths="uniform")
    assert not adaptive.plans[-1].strength.any()
    assert len(torch.unique(adaptive.plans[-1].noise)) > 2
    fill, last = uniform.plans[-2:]
    assert set(torch.unique(fill.strength).tolist()) == {0.0, 1.0}
    told = last.noise[last.noise > 0]
    torch.testing.assert_close(told, torch.full_like(told, 20 / 127.5 / 2**0.5))


@pytest.mark.parametrize("invert", [False, True])
def test_a_map_lets_part_of_the_change_through(invert: bool) -> None:
    strength = np.zeros(SIZE, np.float32)
    strength[:, 20:40], strength[:, 40:] = 0.5, 1
    given = {"mode": "deep", "control_mechanism": "static"}
    whole, _ = done(scratched(), **given)
    part, _ = done(
        scratched(), **given, pixel_strengths=1 - strength if invert else strength, invert=invert
    )
    x, s = source(scratched()).image, torch.from_numpy(strength)[None, None]
    torch.testing.assert_close(part.samples, x + s * (whole.samples - x))
    assert torch.equal(part.samples[..., :20], x[..., :20])
    assert bool(part.keep[..., :20].all())


def test_noise_beside_hidden_damage_adds_up() -> None:
    output, run = done(scratched(), mode="deep", control_mechanism="static", noise_level_8bit=5)
    told, level = run.plans[-1].noise, 5 / 127.5
    at = output.damage[0, 0].numpy() > 0 if output.damage is not None else MARK
    assert (told[0, 0].numpy()[~at] == np.float32(level)).all()
    assert told[0, 0].numpy()[at].min() > level


def test_what_the_request_refuses() -> None:
    for field in ({"mode": "heavy"}, {"control_mechanism": "wild"}):
        with pytest.raises(InputError):
            build(RestoreRequest, image="x", **field)
    with pytest.raises(InputError, match="no-such-map"):
        done(CLEAN, pixel_strengths="no-such-map.png")


def test_deviations_have_the_sign_of_the_picture_and_no_scale() -> None:
    z = anomalies(source(scratched()).image, Smoother())
    lighter = np.median(z[MARK])
    assert lighter > 4
    darker = anomalies(source(scratched(-30)).image, Smoother())
    assert np.median(darker[MARK]) < -4
    assert abs(np.median(z[~MARK])) < 0.3


def test_deviations_are_counted_in_what_is_usual_around() -> None:
    """Ten times the noise around makes the same mark stand out much less."""
    rng = np.random.default_rng(1)
    smooth = [np.zeros((96, 96, 3), np.float32)] * 3
    mark = np.zeros((96, 96, 1), np.float32)
    mark[48:50, 30:60] = 0.2
    heights = []
    for level in (0.01, 0.1):
        noise = rng.normal(0, level, (96, 96, 1)).astype(np.float32)
        picture = np.repeat(mark + noise, 3, 2)
        heights.append(anomaly(standard_residuals(picture, smooth))[48:50, 30:60].mean())
    assert heights[0] > 4 * heights[1] > 0


def test_thick_areas_are_no_suspects() -> None:
    z = np.zeros((3, 60, 60), np.float32)
    z[:, 5:30, 5:30], z[:, 40:43, 5:50] = 9, 9
    found = [areas for areas in suspects(z) if areas.count]
    assert found
    for areas in found:
        assert areas.sign == 1
        assert set(np.unique(np.nonzero(areas.labels)[0])) == {40, 41, 42}


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_hidden_damage_adds_within_its_contrasts_and_nothing_outside(dtype: type) -> None:
    grey = np.full((120, 160), 128)
    image = grey.astype(np.uint8) if dtype is np.uint8 else (grey / 127.5 - 1).astype(dtype)
    scale = 1 if dtype is np.uint8 else 127.5
    damaged, mask = add_hidden_damage(image, scratches=1, specks=0, seed=4)
    added = (damaged.astype(float) - image) * scale
    assert damaged.dtype == dtype
    assert (added[~mask] == 0).all()
    assert 5 - 0.5 <= np.abs(added).max() <= 60.5
    again, _ = add_hidden_damage(image, scratches=1, specks=0, seed=4)
    other, _ = add_hidden_damage(image, scratches=1, specks=0, seed=5)
    assert np.array_equal(damaged, again)
    assert not np.array_equal(damaged, other)
    with pytest.raises(InputError, match="contrast"):
        add_hidden_damage(image, contrast=(9, 5), seed=0)


def test_the_prior_mends_a_hidden_scratch_of_a_photograph() -> None:
    clean = np.asarray(data.astronaut())[40:168, 300:460]
    y, x = np.mgrid[:128, :160]
    line = np.abs(y - 20 - 0.35 * x) < 1.2
    damaged = np.clip(clean + 35 * line[..., None], 0, 255).astype(np.uint8)

    def loss(mode: str, mechanism: str) -> float:
        made = dd.restore(damaged, mode=mode, control_mechanism=mechanism).image
        return float(np.square(made.astype(float) - clean).mean())

    before = float(np.square(damaged.astype(float) - clean).mean())
    plain, deep = loss("standard", "static"), loss("deep", "dynamic")
    assert deep < 0.6 * before
    assert deep < plain
    untouched = dd.restore(clean, mode="deep").image.astype(float)
    assert 10 * np.log10(255**2 / max(1e-9, np.square(untouched - clean).mean())) > 40


def test_the_anomaly_map_of_a_photograph_is_calibrated_and_shows_the_odd_one_out() -> None:
    clean = np.asarray(data.astronaut())[40:168, 300:460]
    plain = dd.anomaly_map(clean)
    assert plain.deviations.shape == clean.shape[:2]
    assert 0.7 < plain.deviations.var() < 1.4
    odd = clean.copy()
    flat = np.unravel_index(
        ndimage.uniform_filter(np.abs(plain.deviations), 25)[20:-20, 20:-20].argmin(), (88, 120)
    )
    y, x = int(flat[0]) + 20, int(flat[1]) + 20
    odd[y : y + 3, x : x + 3] = np.clip(odd[y : y + 3, x : x + 3].astype(int) - 40, 0, 255)
    marked = dd.anomaly_map(odd)
    assert marked.deviations[y : y + 3, x : x + 3].mean() < -4
    assert np.abs(plain.deviations[y : y + 3, x : x + 3]).mean() < 2
    expected = np.clip((np.abs(marked.deviations) - 2) / 6, 0, 1)
    np.testing.assert_allclose(marked.map.array, expected, atol=1e-6)
    with pytest.raises(InputError, match="black < white"):
        dd.anomaly_map(clean, black=5, white=3)


@pytest.mark.parametrize("grey", [False, True])
def test_noise_that_is_there_is_taken_away_and_noise_that_is_not_is_not(grey: bool) -> None:
    rng = np.random.default_rng(3)
    smooth = np.repeat(TEXTURE[..., None], 3, 2).astype(np.float32)
    noise = rng.normal(0, 0.1, (*SIZE, 1 if grey else 3)).astype(np.float32)
    level = torch.full((1, 1, *SIZE), 0.1)
    assert noise_removed(source(smooth + noise, grey=grey), level, Smoother()) > 0.85
    assert noise_removed(source(smooth + noise / 5, grey=grey), level, Smoother()) < 0.4


def test_the_blocks_of_a_jpeg_file_go_where_they_are_coarse(
    repository: Path, tmp_path: Path
) -> None:
    with Image.open(repository / "examples" / "photograph.png") as opened:
        photo = opened.convert("RGB").crop((120, 60, 280, 188))
    clean = np.asarray(photo).astype(float)

    def error(image: Any) -> float:
        return float(np.square(np.asarray(image) - clean).mean() ** 0.5)

    photo.save(tmp_path / "coarse.jpg", quality=30)
    with Image.open(tmp_path / "coarse.jpg") as opened:
        before = error(opened)
    keep = np.ones((128, 160), np.float32)
    keep[:40] = 0
    light = dd.restore(tmp_path / "coarse.jpg", mode="light")
    standard = dd.restore(tmp_path / "coarse.jpg", pixel_strengths=keep)
    assert error(standard.image) < 0.93 * min(before, error(light.image))
    assert any("JPEG blocks" in note for note in standard.notes)
    with Image.open(tmp_path / "coarse.jpg") as opened:
        assert np.array_equal(np.asarray(standard.image)[:40], np.asarray(opened)[:40])
    photo.save(tmp_path / "fine.jpg", quality=97, subsampling=0)
    fine = dd.restore(tmp_path / "fine.jpg")
    assert not any("JPEG blocks" in note for note in fine.notes)


def test_bold_lines_and_specks_are_anomalies_too(repository: Path) -> None:
    """Which no model takes for noise of 40 of 255."""
    with Image.open(repository / "examples" / "photograph.png") as opened:
        clean = np.asarray(opened.convert("RGB"))[60:188, 40:200]
    bold, mask = add_scratches(clean, count=2, width=(2, 3), seed=3)
    before, after = (np.abs(dd.anomaly_map(x).deviations) for x in (clean, bold))
    assert np.median(after[mask]) > 2 * np.median(before[mask])
    assert (after[~mask] > 3).mean() < 0.05


def test_pictures_that_are_no_longer_the_file_s_have_no_blocks(
    repository: Path, tmp_path: Path
) -> None:
    with Image.open(repository / "examples" / "photograph.png") as opened:
        opened.convert("RGB").crop((120, 60, 280, 188)).save(tmp_path / "a.jpg", quality=30)
    with Image.open(tmp_path / "a.jpg") as image:
        image.thumbnail((80, 64))
        as_it_is = np.asarray(image)
        result = dd.restore(image, noise_level_8bit=0, damage=0.0)
        assert np.array_equal(np.asarray(result.image), as_it_is)


def test_no_deviation_is_claimed_of_blocks_that_went(repository: Path, tmp_path: Path) -> None:
    with Image.open(repository / "examples" / "photograph.png") as opened:
        opened.convert("RGB").crop((120, 60, 184, 124)).save(tmp_path / "a.jpg", quality=20)
    damage = np.zeros((64, 64), np.float32)
    damage[10:14, 10:40] = 1
    given = {"noise_level_8bit": 0, "damage": damage, "samples": 2, "steps": 2}
    assert dd.restore(tmp_path / "a.jpg", **given).std is None


def test_invert_without_a_map_is_refused() -> None:
    with pytest.raises(InputError, match="invert turns a map"):
        build(RestoreRequest, image="x", invert=True)
