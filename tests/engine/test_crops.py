"""Crops for pipelines: every active pixel once, context around it, the rest as it was."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor

import differential_diffusion as dd
from differential_diffusion.core.noise import Window
from differential_diffusion.engine.crops import crops_over
from differential_diffusion.models import PipelineModel
from differential_diffusion.models.aligned import cut

from ..pipelines import FAMILIES


def disc(height: int, width: int, y: int, x: int, radius: int) -> Tensor:
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    return (rows - y) ** 2 + (columns - x) ** 2 < radius**2


@given(
    seed=st.integers(0, 10_000),
    height=st.integers(1, 1500),
    width=st.integers(1, 1500),
    spots=st.integers(0, 5),
    context=st.sampled_from([0, 17, 64]),
    least=st.sampled_from([0, 256, 500]),
)
def test_every_active_pixel_is_in_one_crop_with_its_context(
    seed: int, height: int, width: int, spots: int, context: int, least: int
) -> None:
    rng = np.random.default_rng(seed)
    active = torch.zeros(height, width, dtype=torch.bool)
    for _ in range(spots):
        y, x, radius = rng.integers(height), rng.integers(width), rng.integers(1, 90)
        active |= disc(height, width, int(y), int(x), int(radius))
    crops = crops_over(active, context, 8, least)
    covered = torch.zeros(height, width, dtype=torch.int)
    for top, left, bottom, right in crops:
        assert 0 <= top < bottom <= height
        assert 0 <= left < right <= width
        mine = active[top:bottom, left:right]
        covered[top:bottom, left:right] += mine
        ys, xs = mine.nonzero(as_tuple=True)
        near = [
            (int(ys.min()), top, 0),
            (int(xs.min()), left, 0),
            (bottom - top - 1 - int(ys.max()), bottom, height),
            (right - left - 1 - int(xs.max()), right, width),
        ]
        for distance, side, end in near:
            assert distance >= context // 2 or side == end
        for length, whole in ((bottom - top, height), (right - left, width)):
            assert length % 64 == 0 or length == whole
            assert length >= min(least, whole)
    assert torch.equal(covered, active.int())


def test_one_area_is_never_cut_in_two() -> None:
    """A diagonal band and a ring, which boxes of their parts would cover with less."""
    rows, columns = torch.meshgrid(torch.arange(2048), torch.arange(2048), indexing="ij")
    band = (rows - columns).abs() < 40
    assert crops_over(band, 64, 8) == [(0, 0, 2048, 2048)]
    distance = ((rows - 900) ** 2 + (columns - 900) ** 2).sqrt()
    ring = (distance - 500).abs() < 30
    assert len(crops_over(ring, 64, 8)) == 1
    apart = disc(2048, 2048, 300, 300, 50) | disc(2048, 2048, 1700, 1700, 50)
    assert len(crops_over(apart, 64, 8)) == 2


def test_many_specks_are_gathered_into_areas() -> None:
    """To weigh every pair of thousands would take minutes."""
    rng = np.random.default_rng(0)
    active = torch.zeros(6000, 8000, dtype=torch.bool)
    for y, x in rng.integers(0, (2990, 3990), (3000, 2)):
        active[y : y + 3, x : x + 3] = True
    crops = crops_over(active, 0, 8, 64)
    assert 1 <= len(crops) <= 100
    held = sum(int(active[w.top : w.bottom, w.left : w.right].sum()) for w in crops)
    assert held == int(active.sum())


def test_a_small_edit_is_a_small_crop_and_a_wide_one_the_whole() -> None:
    small = crops_over(disc(1024, 1024, 500, 300, 60), 64, 8)
    assert [(window.height, window.width) for window in small] == [(256, 256)]
    far = crops_over(disc(1024, 1024, 100, 100, 40) | disc(1024, 1024, 900, 900, 40), 64, 8)
    assert len(far) == 2
    wide = crops_over(torch.ones(1024, 1024, dtype=torch.bool), 64, 8)
    assert wide == [(0, 0, 1024, 1024)]
    assert crops_over(torch.zeros(64, 64, dtype=torch.bool), 64, 8) == []


class Scripted(PipelineModel):
    """A pipeline that notes what it is shown and paints it grey."""

    seen: list[tuple[int, ...]]

    def sample(self, images: Tensor, strength: Tensor, *_: Any, **__: Any) -> Tensor:
        self.seen.append((*images.shape[-2:], int((strength > 0).sum())))
        return torch.where(strength > 0, 0.0, images)


def scripted() -> Scripted:
    model = Scripted("scripted", FAMILIES["sd1"]())
    object.__setattr__(model, "seen", [])
    return model


def test_the_pipeline_is_shown_the_crops_and_all_else_is_kept() -> None:
    image = np.random.default_rng(0).integers(0, 256, (700, 900, 3), dtype=np.uint8)
    strength = (disc(700, 900, 90, 120, 30) | disc(700, 900, 600, 800, 50)).float().numpy()
    model = scripted()
    result = dd.edit(image, strength, model=model)
    assert [size[:2] for size in model.seen] == [(128, 128), (192, 192)]
    assert sum(size[2] for size in model.seen) == int(strength.sum())
    expected = np.where(strength[..., None] > 0, np.uint8(128), image)
    assert np.abs(result.image.astype(int) - expected).max() <= 1
    np.testing.assert_array_equal(result.image[strength == 0], image[strength == 0])

    whole = scripted()
    dd.edit(image, strength, model=whole, region="whole")
    assert [size[:2] for size in whole.seen] == [(700, 900)]
    wide = scripted()
    dd.edit(image, strength, model=wide, context=150)
    assert all(height > 256 for height, _, _ in wide.seen)


def test_crops_have_the_models_own_size_unless_told() -> None:
    image = np.zeros((700, 900, 3), np.uint8)
    strength = disc(700, 900, 90, 120, 30).float().numpy()
    model = scripted()
    model.pipeline.unet.register_to_config(sample_size=40)
    dd.edit(image, strength, model=model)
    dd.edit(image, strength, model=model, crop_size=200)
    assert [size[:2] for size in model.seen] == [(320, 320), (256, 256)]


CONTROLLED: dict[str, Any] = {
    "model": FAMILIES["controlnet"](),
    "prompt": "a barn",
    "steps": 4,
    "seed": 3,
}


def textured(height: int, width: int, seed: int) -> Image.Image:
    cells = np.random.default_rng(seed).integers(0, 256, (height // 4, width // 4, 3), np.uint8)
    return Image.fromarray(cells.repeat(4, 0).repeat(4, 1))


def as_given(control: Image.Image, kind: str) -> Any:
    pixels = np.asarray(control, np.float32) / 255
    return {
        "pil": control,
        "palette": control.quantize(200),
        "array": pixels[None],
        "tensor": torch.from_numpy(pixels).permute(2, 0, 1)[None],
        "small": control.resize((150, 130), Image.Resampling.NEAREST),
    }[kind]


@pytest.mark.parametrize("kind", ["pil", "palette", "array", "tensor", "small"])
def test_what_lies_over_the_picture_is_cut_with_it(kind: str) -> None:
    """A ControlNet's picture belongs to the whole, whichever part of it the pipeline sees."""
    image, control = textured(260, 300, 0), textured(260, 300, 1)
    strength = 0.9 * disc(260, 300, 60, 200, 30).float().numpy()
    given = as_given(control, kind)
    part = (136, 0, 264, 128)  # the crop: left, top, right, bottom
    made = dd.edit(image, strength, **CONTROLLED, pipeline_kwargs={"control_image": given})
    if kind == "palette":
        control, kind = given.convert("RGB"), "pil"
    if kind == "small":
        control = given.resize((300, 260), Image.Resampling.LANCZOS)
        kind = "pil"
    alone = dd.edit(
        image.crop(part),
        strength[part[1] : part[3], part[0] : part[2]],
        **CONTROLLED,
        pipeline_kwargs={"control_image": as_given(control.crop(part), kind)},
    )
    np.testing.assert_array_equal(np.asarray(made.image.crop(part)), np.asarray(alone.image))
    other = dd.edit(
        image.crop(part),
        strength[part[1] : part[3], part[0] : part[2]],
        **CONTROLLED,
        pipeline_kwargs={"control_image": textured(128, 128, 2)},
    )
    assert not np.array_equal(np.asarray(other.image), np.asarray(alone.image))


def test_masks_of_an_ip_adapter_are_cut_too() -> None:
    masks = torch.arange(2 * 40 * 60.0).view(1, 2, 40, 60)
    given = {"cross_attention_kwargs": {"ip_adapter_masks": [masks], "scale": 0.5}}
    part = cut(given, (40, 60), Window(8, 16, 24, 48))["cross_attention_kwargs"]
    assert torch.equal(part["ip_adapter_masks"][0], masks[..., 8:24, 16:48])
    assert part["scale"] == 0.5
    assert given["cross_attention_kwargs"]["ip_adapter_masks"] == [masks]


@pytest.mark.parametrize("kind", ["pil", "array", "tensor"])
def test_what_lies_over_the_picture_is_mirrored_with_it(kind: str) -> None:
    """Sides that are no multiple of 8 are extended, not resized: both must be."""
    image, control = textured(60, 76, 0), textured(60, 76, 1)
    larger = np.pad(np.asarray(control), ((0, 4), (0, 4), (0, 0)), "reflect")
    wide = np.pad(np.asarray(image), ((0, 4), (0, 4), (0, 0)), "reflect")
    given = {"control_image": as_given(control, kind)}
    made = dd.edit(image, 0.9, **CONTROLLED, pipeline_kwargs=given)
    given = {"control_image": as_given(Image.fromarray(larger), kind)}
    whole = dd.edit(Image.fromarray(wide), 0.9, **CONTROLLED, pipeline_kwargs=given)
    np.testing.assert_array_equal(
        np.asarray(made.image), np.asarray(whole.image.crop((0, 0, 76, 60)))
    )


@pytest.mark.parametrize("exact", [True, False])
def test_every_area_ends_edited_and_by_noise_of_its_own(exact: bool) -> None:
    image = np.full((300, 700, 3), 90, np.uint8)
    strength = np.zeros((300, 700), np.float32)
    strength[100:164, 100:164] = strength[100:164, 548:612] = 1
    given: dict[str, Any] = {"model": FAMILIES["sd1"](), "prompt": "a barn", "steps": 4}
    made = dd.edit(image, strength, exact=exact, **given).image
    first, second = made[100:164, 100:164], made[100:164, 548:612]
    for part in (first, second):
        assert np.abs(part.astype(int) - 90).mean() > 10
    assert np.abs(first.astype(int) - second).mean() > 5
    again = dd.edit(image, strength, exact=exact, **given).image
    np.testing.assert_array_equal(made, again)


@pytest.mark.parametrize("batch_size", [1, 2, 3])
def test_samples_keep_their_order_whatever_the_batch(batch_size: int) -> None:
    class Seeded(Scripted):
        def sample(
            self, images: Tensor, strength: Tensor, seeds: tuple[int, ...], *_: Any, **__: Any
        ) -> Tensor:
            levels = torch.tensor(seeds).view(-1, 1, 1, 1) / 10
            return torch.where(strength > 0, levels, images)

    image = np.zeros((64, 64, 3), np.uint8)
    model = Seeded("seeded", FAMILIES["sd1"]())
    result = dd.edit(image, 1.0, model=model, samples=3, seed=2, batch_size=batch_size)
    found = [round(float(made.mean()) / 127.5 - 1, 1) for made in result.images]
    assert found == [0.2, 0.3, 0.4]
