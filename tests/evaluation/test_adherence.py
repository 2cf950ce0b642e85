"""Reports on adherence: figures of each pair and of the mean, pictures, JSON; and the prior's."""

from __future__ import annotations

import io
import json
import math
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

import differential_diffusion as dd
from differential_diffusion.core import cam, dam, spatial_change
from differential_diffusion.errors import InputError
from differential_diffusion.evaluation import (
    MEASURES,
    AdherenceTally,
    heat_maps,
    mean_change,
    report,
)


def ramp(height: int = 20, width: int = 30) -> Tensor:
    return torch.linspace(0, 1, width).expand(1, 1, height, width).clone()


def edits(count: int = 4, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Pictures, and the same with noise in proportion to the ramp."""
    generator = torch.Generator().manual_seed(seed)
    before = torch.rand(count, 3, 20, 30, generator=generator) * 2 - 1
    noise = torch.randn(before.shape, generator=generator)
    return before, (before + 0.5 * ramp() * noise).clamp(-1, 1)


def absolute(a: Tensor, b: Tensor) -> Tensor:
    """A measure whose values are known by hand."""
    return (a - b).abs().mean(1, keepdim=True)


def test_rows_are_each_pair_s_and_the_whole_is_the_mean_change_s() -> None:
    before, after = edits()
    made = report(before, after, ramp())
    changes = spatial_change(before, after)
    assert [row.cam for row in made.rows] == pytest.approx(cam(ramp(), changes).tolist())
    assert [row.dam for row in made.rows] == pytest.approx(dam(ramp(), changes).tolist())
    mean = changes.mean(0, keepdim=True)
    torch.testing.assert_close(made.change, mean)
    assert made.cam == pytest.approx(cam(ramp(), mean).item())
    assert made.dam == pytest.approx(dam(ramp(), mean).item())
    assert made.overall.dam_rms == pytest.approx(made.dam / math.sqrt(20 * 30))
    assert made.overall.change == pytest.approx(mean.mean().item())
    assert made.cam > max(row.cam for row in made.rows), "the mean takes the pictures out"


def test_a_known_change_has_known_figures() -> None:
    """A change of exactly half the strength, and one of half of what is left of it."""
    before = torch.zeros(2, 3, 20, 30)
    after = torch.cat([ramp(), 1 - ramp()]).expand(-1, 3, -1, -1) / 2
    made = report(before, after, ramp(), measure=absolute)
    assert [row.cam for row in made.rows] == pytest.approx([1, -1])
    assert [row.dam for row in made.rows] == pytest.approx([0, 0], abs=1e-5)
    assert [row.change for row in made.rows] == pytest.approx([0.25, 0.25])
    assert math.isnan(made.cam), "the two cancel, so nothing is left to correlate"
    spread = (ramp() - 0.5).norm().item()
    assert (made.dam, made.overall.dam_rms) == pytest.approx((spread, spread / math.sqrt(600)))


def test_a_tally_adds_up_to_the_report_of_all() -> None:
    before, after = edits(5)
    tally = AdherenceTally(ramp())
    torch.testing.assert_close(
        tally.add(before[:2], after[:2]), spatial_change(before[:2], after[:2])
    )
    early = tally.report()
    tally.add(before[2:], after[2:])
    made, whole = tally.report(), report(before, after, ramp())
    torch.testing.assert_close(made.change, whole.change)
    assert made.cam == pytest.approx(whole.cam)
    assert [row.cam for row in made.rows] == pytest.approx([row.cam for row in whole.rows])
    assert len(early.rows) == 2, "a report does not change afterwards"


def test_the_bias_is_taken_off_the_mean_alone() -> None:
    """Changes that a place multiplies and a bias that is that place: what is left is the map."""
    before = torch.zeros(1, 3, 20, 30)
    place = torch.linspace(0, 1, 20).view(1, 1, 20, 1).expand(1, 1, 20, 30)
    after = (0.3 * ramp() + place).expand(1, 3, 20, 30)
    bias = mean_change([(before, place.expand(1, 3, 20, 30))], measure=absolute)
    torch.testing.assert_close(bias, place)
    made = report(before, after, ramp(), bias=bias, measure=absolute)
    assert made.cam == pytest.approx(1)
    assert made.rows[0].cam < 0.5
    torch.testing.assert_close(made.change, 0.3 * ramp(), rtol=0, atol=1e-6)
    assert made.overall.change == pytest.approx(absolute(before, after).mean().item())


def test_the_mean_change_counts_every_picture_once() -> None:
    before, after = edits(4)
    parts = [(before[:1], after[:1]), (before[1:], after[1:])]
    torch.testing.assert_close(
        mean_change(parts), spatial_change(before, after).mean(0, keepdim=True)
    )


def test_json_says_what_is_undefined() -> None:
    before, after = edits(2)
    made = report(before, after, torch.full((1, 1, 20, 30), 0.5))
    assert math.isnan(made.cam)
    told = json.loads(made.to_json())
    assert told == made.as_dict()
    assert set(told) == {"cam", "dam", "dam_rms", "change", "pairs"}
    assert (told["cam"], told["dam"], len(told["pairs"])) == (None, 0, 2)
    assert told["pairs"][0] == made.rows[0].as_dict()


def test_the_picture_is_the_map_beside_the_change() -> None:
    before, after = edits()
    made = report(before, after, ramp())
    shown = made.picture()
    assert (shown.mode, shown.size) == ("RGB", (2 * 30 + 8, 20))
    pixels = np.asarray(shown).astype(int)
    strength, change = heat_maps(made.strength, made.change)
    np.testing.assert_array_equal(pixels[:, :30], strength)
    np.testing.assert_array_equal(pixels[:, 38:], change)
    assert (np.diff(pixels[0, :30].sum(-1)) >= 0).all(), "lighter with strength"
    peak = int(made.change.argmax())
    assert change.reshape(-1, 3).sum(-1).argmax() == peak
    nothing = heat_maps(made.strength, torch.zeros_like(made.change))[1]
    np.testing.assert_array_equal(nothing, np.broadcast_to(strength[:1, :1], nothing.shape))


def test_every_measure_by_name_is_made_by_a_call() -> None:
    assert MEASURES["local"]() is spatial_change
    assert set(MEASURES) == {"local", "lpips"}


def test_bad_input_is_refused() -> None:
    before, after = edits(2)
    with pytest.raises(InputError, match=r"strength must have the shape \(1,1,H,W\)"):
        report(before, after, ramp().expand(2, -1, -1, -1))
    with pytest.raises(InputError, match=r"bias must have the shape \(1,1,H,W\)"):
        report(before, after, ramp(), bias=ramp()[..., 1:])
    with pytest.raises(InputError, match="the pictures have 30x20 pixels and the map 31x20"):
        report(before, after, ramp(20, 31))
    with pytest.raises(InputError, match="must both have the shape"):
        report(before, after[..., 1:], ramp())
    holed = after.clone()
    holed[0, 0, 0, 0] = math.nan
    with pytest.raises(InputError, match="the output holds NaN"):
        report(before, holed, ramp())
    with pytest.raises(InputError, match="the strength holds NaN"):
        report(before, after, ramp() / 0)
    with pytest.raises(InputError, match="there is no edit"):
        AdherenceTally(ramp()).report()
    with pytest.raises(InputError, match="there are no pairs"):
        mean_change([])
    with pytest.raises(InputError, match="30x20 and 29x20"):
        mean_change([(before, after), (before[..., 1:], after[..., 1:])])


@pytest.mark.slow
def test_the_prior_s_edits_follow_a_ramp_and_those_of_one_strength_do_not(
    shared_data: Path,
) -> None:
    """Three photographs of CBSD68 edited along a ramp from 0 to 1, and with strength 0.5.

    Measured CAM: along the ramp .88, .90 and .93, of the mean change .95 (DAM .088 a pixel); with
    one strength -.40, .02 and -.06, of the mean change -.25, which is these pictures' content.
    """
    with tarfile.open(shared_data / "cbsd68.tar") as archive:
        files = [archive.extractfile(name) for name in sorted(archive.getnames())[5::11][:3]]
        pictures = [np.asarray(Image.open(io.BytesIO(f.read())).convert("RGB")) for f in files if f]
    strength = ramp(160, 192)
    model = dd.load_model("prior", device="cpu", precision="fp32")
    reports = []
    for used in (strength[0, 0].numpy(), 0.5):
        tally = AdherenceTally(strength)
        for seed, picture in enumerate(pictures):
            before = picture[40:200, 40:232]
            after = dd.edit(before, used, seed=seed, model=model).image
            pair = (torch.from_numpy(x / 127.5 - 1) for x in (before, after))
            tally.add(*(x.permute(2, 0, 1)[None].float() for x in pair))
        reports.append(tally.report())
    followed, uniform = reports
    assert followed.cam > 0.93
    assert min(row.cam for row in followed.rows) > 0.85
    assert uniform.cam < 0.4
