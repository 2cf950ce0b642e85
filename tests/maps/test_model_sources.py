"""Sources that look through a model: against the model called directly, and scripted models whose
maps are known in closed form."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from typer.testing import CliRunner

from differential_diffusion.cli import app
from differential_diffusion.errors import InputError, MissingExtraError
from differential_diffusion.maps import (
    StrengthMap,
    boxes,
    depth,
    detection,
    make_map,
    salient_object,
    segmentation,
    text_region,
)
from differential_diffusion.maps._loaded import fit
from differential_diffusion.maps._transformers import _load
from differential_diffusion.schema import EditRequest, MapSpec
from differential_diffusion.schema import build as build_request

from .. import map_models

transformers = pytest.importorskip("transformers")

HEIGHT, WIDTH = 100, 121
Array = NDArray[np.float32]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The tiny models, each saved to a folder."""
    folder = tmp_path_factory.mktemp("models")
    return {name: map_models.save(name, folder) for name in map_models.BUILDERS}


@pytest.fixture(autouse=True)
def _on_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Devices are not chosen by what a machine has: figures are compared closely."""
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr("torch.backends.mps.is_available", lambda: False)


def picture(height: int = HEIGHT, width: int = WIDTH, channels: int = 3) -> Array:
    """Smooth colours, in [-1, 1]."""
    rng = np.random.default_rng(0)
    coarse = rng.uniform(-1, 1, (5, 6, channels)).astype(np.float32)
    smooth = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_LINEAR)
    return smooth.reshape(height, width, channels)


def looked_at(name: str, image: Array, **more: Any) -> tuple[Any, Any]:
    """The model's outputs for a picture, called without our code, and its processor."""
    model, processor = map_models.build(name)
    rgb = Image.fromarray(np.rint((image + 1) * 127.5).astype(np.uint8))
    with torch.no_grad():
        return model(**processor(images=rgb, return_tensors="pt", **more)), processor


def enlarged(values: Array, height: int = HEIGHT, width: int = WIDTH) -> Array:
    return np.asarray(cv2.resize(values, (width, height), interpolation=cv2.INTER_LINEAR))


def close(made: StrengthMap, expected: Any, atol: float = 1e-5) -> None:
    np.testing.assert_allclose(made.array, expected, rtol=0, atol=atol)


def softmax(logits: Array, axis: int) -> Array:
    powers = np.exp(logits - logits.max(axis, keepdims=True))
    return np.asarray(powers / powers.sum(axis, keepdims=True))


def refuse(make: Callable[[], object], *mentions: str) -> None:
    """The call raises InputError, in one sentence of one line that holds the words given."""
    with pytest.raises(InputError) as caught:
        make()
    message = str(caught.value)
    assert "\n" not in message
    assert message.endswith(".")
    for mention in mentions:
        assert mention in message


class Scripted(torch.nn.Module):
    """A model that says what the test wants, of the picture that its processor shows it."""

    def __init__(self, script: Callable[[Tensor], dict[str, Tensor]], **config: Any) -> None:
        super().__init__()
        self.script = script
        self.config = SimpleNamespace(**config)
        self.eval()

    def forward(self, pixel_values: Tensor, **_: Any) -> Any:
        return SimpleNamespace(**self.script(pixel_values))


def whole(images: Image.Image, return_tensors: str) -> dict[str, Tensor]:
    """A processor that shows a model the picture as it is, (1,3,H,W) in [-1, 1]."""
    assert return_tensors == "pt"
    pixels = torch.from_numpy(np.array(images)).float()
    return {"pixel_values": pixels.permute(2, 0, 1)[None] / 127.5 - 1}


def scripted(script: Callable[[Tensor], dict[str, Tensor]], **config: Any) -> tuple[Any, Any]:
    return Scripted(script, **config), whole


# Depth


@pytest.mark.parametrize("channels", [1, 3])
def test_depth_is_what_the_model_says(folders: dict[str, Path], channels: int) -> None:
    image = picture(channels=channels)
    outputs, _ = looked_at("depth", np.broadcast_to(image, (HEIGHT, WIDTH, 3)))
    values = outputs.predicted_depth[0].numpy()
    low, high = np.quantile(values, [0.05, 0.95])
    t = np.clip((values - low) / (high - low), 0, 1)
    assert t.std() > 0.1
    made = depth(image, model=folders["depth"], near=0.8, far=0.3, percentile=5)
    close(made, 0.3 + 0.5 * enlarged(t.astype(np.float32)))


def ramp(**config: Any) -> tuple[Any, Any]:
    """A depth model that sees 0, 1, 2, ... from left to right, with a single outlier."""

    def script(pixels: Tensor) -> dict[str, Tensor]:
        columns = torch.arange(pixels.shape[3]).float().expand(pixels.shape[2:])
        return {"predicted_depth": columns[None] * 3 + 7}

    return scripted(script, **{"model_type": "dpt", **config})


@pytest.mark.parametrize(
    ("config", "nearer"),
    [
        ({"model_type": "dpt"}, True),
        ({"model_type": "depth_pro"}, True),
        ({"model_type": "depth_anything"}, True),
        ({"model_type": "depth_anything", "depth_estimation_type": "relative"}, True),
        ({"model_type": "depth_anything", "depth_estimation_type": "metric"}, False),
        ({"backbone_config": SimpleNamespace(model_type="dinov2")}, False),
        ({"model_type": "glpn"}, False),
        ({"model_type": "zoedepth"}, False),
    ],
    ids=str,
)
def test_depth_knows_what_larger_means(config: dict[str, Any], nearer: bool) -> None:
    t = np.arange(40) / 39 if nearer else 1 - np.arange(40) / 39
    made = depth(picture(32, 40), model=ramp(**config), near=0.9, far=0.2, percentile=0)
    close(made, np.tile(0.2 + 0.7 * t, (32, 1)))
    for larger, values in (("nearer", np.arange(40) / 39), ("farther", 1 - np.arange(40) / 39)):
        told = depth(picture(32, 40), model=ramp(**config), larger=larger, percentile=0)
        close(told, np.tile(values, (32, 1)))


def test_depth_of_an_unknown_type_must_be_told() -> None:
    model = ramp(model_type="sonar")
    refuse(lambda: depth(picture(32, 40), model=model), "sonar", "larger='nearer'")
    assert depth(picture(32, 40), model=model, larger="nearer").max == 1


def test_depth_takes_no_notice_of_outliers() -> None:
    def script(pixels: Tensor) -> dict[str, Tensor]:
        values = torch.linspace(0, 1, 1600).reshape(1, 40, 40)
        values[0, 0, 0], values[0, 39, 39] = -1e6, 1e6
        return {"predicted_depth": values}

    made = depth(picture(40, 40), model=scripted(script, model_type="dpt"))
    expected = np.clip((np.linspace(0, 1, 1600) - 0.02) / 0.96, 0, 1).reshape(40, 40)
    close(made, expected, atol=2e-3)


def test_a_flat_picture_is_midway() -> None:
    flat = scripted(lambda pixels: {"predicted_depth": pixels[:, 0] * 0 + 4}, model_type="dpt")
    close(depth(picture(32, 40), model=flat, near=0.8, far=0.2), 0.5)


# Segmentation


def colours(*names: str) -> tuple[Any, Any]:
    """A segmentation model: class 0 where red is low, else 1, as 90 % to 10 %."""

    def script(pixels: Tensor) -> dict[str, Tensor]:
        red = pixels[:, :1] > 0
        right, wrong = torch.tensor(0.9).log(), torch.tensor(0.1).log()
        logits = [torch.where(red, wrong, right), torch.where(red, right, wrong)]
        return {"logits": torch.cat(logits, 1) + 5}

    return scripted(script, id2label=dict(enumerate(names or ("sea", "land"))))


def red_at_the_right(height: int = 40, width: int = 50) -> Array:
    image = np.full((height, width, 3), [-1, 1, -0.5], np.float32)
    image[:, width // 2 :, 0] = 1
    return image


def test_strengths_are_mixed_by_probability() -> None:
    made = segmentation(red_at_the_right(), model=colours(), classes={"land": 0.8}, default=0.1)
    expected = np.repeat([0.9 * 0.1 + 0.1 * 0.8, 0.1 * 0.1 + 0.9 * 0.8], 25)
    close(made, np.tile(expected, (40, 1)))
    both = {"land": 0.8, "sea": 0.4}
    made = segmentation(red_at_the_right(), model=colours(), classes=both, default=1)
    expected = np.repeat([0.9 * 0.4 + 0.1 * 0.8, 0.1 * 0.4 + 0.9 * 0.8], 25)
    close(made, np.tile(expected, (40, 1)))


def test_strengths_of_the_likeliest_class() -> None:
    made = segmentation(
        red_at_the_right(), model=colours(), classes={"land": 0.8}, default=0.1, soft=False
    )
    close(made, np.tile(np.repeat([0.1, 0.8], 25), (40, 1)), atol=1e-7)


def test_one_class_alone_is_there_or_not() -> None:
    model = scripted(lambda pixels: {"logits": 2 * pixels[:, :1]}, id2label={0: "red"})
    image = red_at_the_right()
    p = 1 / (1 + np.exp(-2 * image[..., 0]))
    close(segmentation(image, model=model, classes={"red": 0.6}, default=0.1), 0.1 + 0.5 * p)
    hard = segmentation(image, model=model, classes={"red": 0.6}, default=0.1, soft=False)
    close(hard, np.where(p > 0.5, np.float32(0.6), np.float32(0.1)), atol=0)
    close(salient_object(image, model=model), p)


def test_segmentation_is_what_the_model_says(folders: dict[str, Path]) -> None:
    outputs, processor = looked_at("segmentation", picture())
    p = softmax(outputs.logits[0].numpy(), 0)
    model, classes = folders["segmentation"], {"sky": 0.9, "traffic light": 0.0}
    made = segmentation(picture(), model=model, classes=classes, default=0.4)
    assert made.array.std() > 0.02
    close(made, enlarged(0.9 * p[0] + 0.4 * p[1] + 0.0 * p[2]))
    likeliest = processor.post_process_semantic_segmentation(outputs, [(HEIGHT, WIDTH)])[0].numpy()
    assert len(np.unique(likeliest)) > 1
    hard = segmentation(picture(), model=model, classes=classes, default=0.4, soft=False)
    expected = np.array([0.9, 0.4, 0.0], np.float32)[likeliest]
    assert (hard.array != expected).mean() < 1e-3  # where two classes tie to the last digit


def test_classes_and_masks_of_queries(folders: dict[str, Path]) -> None:
    """Mask2Former: the sum over queries of class probability times mask, by hand."""
    outputs, processor = looked_at("queries", picture())
    of_class = softmax(outputs.class_queries_logits[0].numpy(), 1)[:, :3]
    masks = (1 + np.tanh(outputs.masks_queries_logits[0].numpy() / 2)) / 2
    scores = sum(row[:, None, None] * mask for row, mask in zip(of_class, masks, strict=True))
    p = scores / np.maximum(scores.sum(0), 1)
    made = segmentation(picture(), model=folders["queries"], classes={"sky": 1.0}, default=0.25)
    close(made, enlarged((0.25 + 0.75 * p[0]).astype(np.float32)))
    likeliest = processor.post_process_semantic_segmentation(outputs, [(HEIGHT, WIDTH)])[0]
    hard = segmentation(picture(), model=folders["queries"], classes={"sky": 1.0}, soft=False)
    # The library enlarges in two steps.
    assert (hard.array == (likeliest == 0).numpy()).mean() > 0.98


def test_what_no_query_claims_is_no_class() -> None:
    """One query, sure of class 0 with 3/4, and a mask of 4/5 where the picture is red."""

    def script(pixels: Tensor) -> dict[str, Tensor]:
        mask = torch.where(pixels[:, :1] > 0, torch.tensor(4.0).log(), torch.tensor(-50.0))
        classes = torch.tensor([[[3.0, 1e-9, 1.0]]]).log()
        return {"class_queries_logits": classes, "masks_queries_logits": mask}

    model = scripted(script, id2label={0: "red", 1: "blue"})
    made = segmentation(red_at_the_right(), model=model, classes={"red": 1.0}, default=0.5)
    close(made, np.tile(np.repeat([0.5, 0.5 + 0.5 * 0.6], 25), (40, 1)))
    hard = segmentation(red_at_the_right(), model=model, classes={"red": 1.0}, soft=False)
    assert hard.array[:, 25:].min() == 1


@pytest.mark.parametrize(
    ("name", "other"),
    [("SEA", "land"), (" sea ", "land"), ("ocean", "land"), ("open_Water", "land")],
)
def test_names_of_classes(name: str, other: str) -> None:
    model = colours("sea" if "sea" in name.casefold() else "ocean, open water; deep", other)
    made = segmentation(red_at_the_right(), model=model, classes={name: 1.0}, soft=False)
    assert made.array[:, :25].min() == 1
    assert made.array[:, 25:].max() == 0


def test_a_whole_label_goes_before_one_of_several_names() -> None:
    model = colours("sea, land", "land")
    made = segmentation(red_at_the_right(), model=model, classes={"land": 1.0}, soft=False)
    assert made.array[0].tolist() == [0] * 25 + [1] * 25
    everywhere = colours("land", "land")
    close(segmentation(red_at_the_right(), model=everywhere, classes={"land": 0.5}), 0.5)


@pytest.mark.parametrize(
    ("classes", "mentions"),
    [
        ({"persn": 0.5}, ["'persn'", "'person, individual, someone'"]),
        ({"light": 0.5}, ["'light'", "'Traffic_Light'"]),
        ({"zebra": 0.5}, ["'zebra'", "'sky'", "'Traffic_Light'"]),
        ({"": 0.5}, ["''"]),
        ({"sky": 1.5}, ["'sky'", "1.5"]),
        ({"sky": "much"}, ["'sky'", "'much'"]),
        ({"person": 0.5, "someone": 0.4}, ["'person'", "'someone'", "two strengths"]),
        ({}, ["classes", "'sky': 0.8"]),
        (["sky"], ["classes", "'sky': 0.8"]),
    ],
    ids=str,
)
def test_bad_classes(folders: dict[str, Path], classes: Any, mentions: list[str]) -> None:
    model = folders["segmentation"]
    refuse(lambda: segmentation(picture(), model=model, classes=classes), *mentions)


# Detection


def seen(*found: tuple[float, int, tuple[float, float, float, float]]) -> tuple[Any, Any]:
    """A detector of cats and dogs: score, class and box (left, top, right, bottom) in [0, 1]."""

    def script(pixels: Tensor) -> dict[str, Tensor]:
        logits, places = [], []
        for score, label, (left, top, right, bottom) in found:
            rest = torch.full((3,), (1 - score) / 2)
            rest[label] = score
            logits.append(rest.log())
            centre, size = ((left + right) / 2, (top + bottom) / 2), (right - left, bottom - top)
            places.append(torch.tensor([*centre, *size]))
        return {"logits": torch.stack(logits)[None], "pred_boxes": torch.stack(places)[None]}

    model = Scripted(script, id2label={0: "cat", 1: "dog"})
    return model, transformers.YolosImageProcessorPil(size=map_models.sides())


def test_boxes_of_what_is_detected() -> None:
    model = seen((0.9, 0, (0.1, 0.2, 0.35, 0.55)), (0.8, 1, (0.5, 0, 0.9, 1)))
    image = picture(40, 50)
    cat, dog = (5, 8, 17.5, 22), (25, 0, 45, 40)
    alone = detection(image, model=model, classes={"cat": 0.6})
    close(alone, boxes(40, 50, boxes=[cat], strength=0.6).array)
    both = detection(image, model=model, classes={"cat": 0.6, "dog": 0.9})
    expected = boxes(40, 50, boxes=[cat], strength=0.6) | boxes(
        40, 50, boxes=[dog], strength=np.float32(0.9)
    )
    close(both, expected.array)
    soft = detection(image, model=model, classes={"cat": 0.6, "dog": 0.9}, feather=3)
    close(soft, expected.feather(3).array)


def test_what_is_kept_in_a_box_of_fractions() -> None:
    """A box takes over by the part of a pixel that it covers."""
    model = seen((0.9, 0, (0.21, 0.25, 0.5, 0.75)))
    made = detection(picture(40, 50), model=model, classes={"cat": 0.0}, default=0.8)
    covered = boxes(40, 50, boxes=[(10.5, 10, 25, 30)]).array
    close(made, 0.8 * (1 - covered))


def test_a_detection_counts_from_the_threshold_on() -> None:
    model = seen((0.7, 0, (0, 0, 0.5, 1)), (0.4, 0, (0.5, 0, 1, 1)))
    for threshold, expected in ((0.9, [0, 0]), (0.5, [1, 0]), (0.2, [1, 1])):
        made = detection(picture(40, 50), model=model, classes={"cat": 1}, threshold=threshold)
        close(made, np.tile(np.repeat(expected, 25), (40, 1)))


@pytest.mark.parametrize("order", [1, -1])
def test_the_surer_detection_counts_where_boxes_overlap(order: int) -> None:
    found = [(0.9, 0, (0.0, 0.0, 0.6, 1.0)), (0.6, 1, (0.4, 0.0, 1.0, 1.0))]
    made = detection(picture(40, 50), model=seen(*found[::order]), classes={"cat": 0.2, "dog": 0.9})
    close(made, np.tile(np.repeat([0.2, 0.9], [30, 20]), (40, 1)))


def test_boxes_that_reach_outside_are_cut_off() -> None:
    model = seen((0.9, 0, (-0.5, -0.5, 0.2, 0.5)), (0.9, 1, (1.2, 1.2, 1.5, 1.5)))
    made = detection(picture(40, 50), model=model, classes={"cat": 1, "dog": 1})
    close(made, boxes(40, 50, boxes=[(-25, -20, 10, 20)]).array)


def test_detection_is_what_the_model_says(folders: dict[str, Path]) -> None:
    outputs, _ = looked_at("detection", picture())
    p = softmax(outputs.logits[0].numpy(), 1)[:, :2]
    centre, size = np.split(outputs.pred_boxes[0].numpy() * ([WIDTH, HEIGHT] * 2), 2, 1)
    expected = np.full((HEIGHT, WIDTH), 0.5)
    for query in np.argsort(p.max(1)):
        if p[query].max() > 0.2:
            box = [*(centre - size / 2)[query], *(centre + size / 2)[query]]
            covered = boxes(HEIGHT, WIDTH, boxes=[box]).array
            expected += ((0.9, 0.0)[p[query].argmax()] - expected) * covered
    assert expected.std() > 0.05
    settings = {"classes": {"cat": 0.9, "dog": 0.0}, "threshold": 0.2, "default": 0.5}
    close(detection(picture(), model=folders["detection"], **settings), expected, atol=1e-4)
    bad = {"classes": {"cow": 1}}
    refuse(lambda: detection(picture(), model=folders["detection"], **bad), "'cow'", "'dog'")


# Text


def test_text_is_what_the_model_says(folders: dict[str, Path]) -> None:
    model, expected = folders["text"], {}
    for text in ("the red car", "a tree"):
        outputs, _ = looked_at("text", picture(), text=text)
        p = 1 / (1 + np.exp(-outputs.logits.reshape(map_models.SIDE, -1).numpy()))
        expected[text] = enlarged(p)
        assert p.std() > 0.1
        close(text_region(picture(), model=model, text=text), expected[text])
    one, other = expected.values()
    assert np.abs(one - other).max() > 1e-3
    close(text_region(picture(), model=model, text=[*expected]), np.maximum(one, other))
    made = text_region(picture(), model=model, text="a tree", black=0.2, white=0.6)
    close(made, np.clip((other - 0.2) / 0.4, 0, 1), atol=1e-4)
    made = text_region(
        picture(), model=model, text="a tree", threshold=0.6, strength=0.3, default=1
    )
    close(made, np.where(other >= 0.6, 0.3, 1), atol=1e-6)


def test_bad_texts(folders: dict[str, Path]) -> None:
    model = folders["text"]
    for text in ("", "  ", [], ["a", ""], 3, None):
        refuse(lambda text=text: text_region(picture(), model=model, text=text), "text is")
    long = "a very long text indeed"
    refuse(lambda: text_region(picture(), model=model, text=long), "21 tokens", "20")
    net, processor = map_models.build("text")
    pair = (net, processor.image_processor)
    refuse(lambda: text_region(picture(), model=pair, text="a"), "no tokenizer")
    expected = text_region(picture(), model=model, text="a tree")
    close(text_region(picture(), model=(net, processor), text="a tree"), expected.array)


# Foreground


def test_the_foreground_is_what_is_not_background() -> None:
    image = red_at_the_right()
    expected = np.tile(np.repeat([0.1, 0.9], 25), (40, 1))
    close(salient_object(image, model=colours("background", "cat")), expected)
    close(salient_object(image, model=colours("cat", "BG")), 1 - expected)
    made = salient_object(image, model=colours("background", "cat"), strength=0.2, default=0.8)
    close(made, 0.8 - 0.6 * expected)
    close(salient_object(image, model=colours(), foreground="land"), expected)
    close(salient_object(image, model=colours(), foreground=["land", "sea"]), 1)


def test_a_model_without_a_background_must_be_told() -> None:
    image = red_at_the_right()
    refuse(lambda: salient_object(image, model=colours()), "'sea', 'land'", "foreground='name'")
    refuse(lambda: salient_object(image, model=colours(), foreground="lant"), "'land'")
    for bad in ([], 3):
        refuse(lambda bad=bad: salient_object(image, model=colours(), foreground=bad), "foreground")


def test_the_foreground_is_what_the_model_says(folders: dict[str, Path]) -> None:
    outputs, _ = looked_at("salient", picture())
    p = softmax(outputs.logits[0].numpy(), 0)
    assert p[1].std() > 0.01
    close(salient_object(picture(), model=folders["salient"]), enlarged(p[1]))


# What the model is shown


PROCESSORS = {
    "crops": lambda: transformers.MobileViTImageProcessorPil(
        size={"shortest_edge": 40}, crop_size=map_models.sides(), do_flip_channel_order=False
    ),
    "pads": lambda: transformers.ZoeDepthImageProcessorPil(size=map_models.sides(64)),
    "keeps the aspect": lambda: transformers.DPTImageProcessorPil(
        size=map_models.sides(56), keep_aspect_ratio=True, ensure_multiple_of=14
    ),
    "divides by 32": lambda: transformers.Mask2FormerImageProcessorPil(),
    "shortest and longest": lambda: transformers.DetrImageProcessorPil(
        size={"shortest_edge": 80, "longest_edge": 133}
    ),
    "leaves it": lambda: transformers.GLPNImageProcessorPil(),
}


@pytest.mark.parametrize("shape", [(120, 200), (200, 120), (64, 64), (5, 90), (1, 1)], ids=str)
@pytest.mark.parametrize("name", PROCESSORS)
def test_the_map_lines_up_with_the_picture(name: str, shape: tuple[int, int]) -> None:
    """A model that gives back what it sees: slopes across the picture arrive from edge to edge."""
    columns, rows = (np.arange(side, dtype=np.float32) / max(side - 1, 1) for side in shape[::-1])
    image = np.broadcast_to((columns + rows[:, None])[..., None] - 1, (*shape, 3))
    echo = Scripted(lambda pixels: {"predicted_depth": pixels[:, 1]}, model_type="dpt")
    made = depth(image, model=(echo, PROCESSORS[name]()), percentile=0)
    if shape == (1, 1):
        close(made, 0.5)
    else:
        span = (columns.max() + rows.max()) / 2
        close(made, image[..., 0] / 2 / span + 0.5 * (1 + 1 / span) - 0.5, atol=0.06)


def test_a_padded_picture_is_refused() -> None:
    processor = transformers.Mask2FormerImageProcessorPil(
        size=map_models.sides(64), pad_size=map_models.sides(96)
    )
    model = (map_models.build("queries")[0], processor)
    refuse(lambda: segmentation(picture(), model=model, classes={"sky": 1}), "pad_size")


def test_fit_is_bilinear_and_keeps_the_mean() -> None:
    values = np.random.default_rng(0).random((12, 18), dtype=np.float32)
    larger = fit(torch.from_numpy(values), 60, 50)
    np.testing.assert_allclose(larger, enlarged(values, 60, 50), rtol=0, atol=1e-5)
    lines = np.zeros((64, 64), np.float32)
    lines[:, ::8] = 1  # lines that fall between the points where plain bilinear looks
    inner = fit(torch.from_numpy(lines), 8, 8)[:, 1:-1]
    np.testing.assert_allclose(inner, 1 / 8, rtol=0, atol=1e-6)


# Where the model comes from


def sources_of(model: Any) -> dict[str, Callable[[], StrengthMap]]:
    image = picture(40, 50)
    return {
        name: lambda name=name, settings=settings: make_map(
            name, image, {**settings, "model": model}
        )
        for name, settings in map_models.SETTINGS.items()
    }


def test_a_model_is_loaded_once(folders: dict[str, Path], monkeypatch: Any) -> None:
    _load.cache_clear()
    monkeypatch.chdir(folders["depth"].parent)
    first = depth(picture(), model=folders["depth"])
    for same in (str(folders["depth"]), "depth", "./depth/", Path("depth/../depth")):
        assert depth(picture(), model=same, device="cpu") == first
    assert _load.cache_info().misses == 1
    assert _load.cache_info().hits == 4


def test_a_loaded_model_is_as_good_as_its_folder(folders: dict[str, Path]) -> None:
    folder = folders["depth"]
    expected = depth(picture(), model=folder)
    module, processor = map_models.build("depth")
    pipeline = transformers.pipeline("depth-estimation", model=module, image_processor=processor)
    for loaded in (pipeline, (module, processor)):
        close(depth(picture(), model=loaded), expected.array)
    alone = transformers.DPTForDepthEstimation.from_pretrained(folder)
    assert depth(picture(), model=alone) == expected
    refuse(lambda: depth(picture(), model=module), "DPTForDepthEstimation", "(model, processor)")
    refuse(lambda: depth(picture(), model=pipeline, device="cpu"), "device")
    refuse(lambda: depth(picture(), model=(module.train(), processor)), "training", "eval()")
    for bad in (3, None, (module,), (module, 3), (3, processor), object()):
        refuse(lambda bad=bad: depth(picture(), model=bad), "model is of the type")


def test_half_precision_weights(tmp_path: Path) -> None:
    """Files of 16 bits are computed with in 32."""
    module, processor = map_models.build("salient")
    module.half().save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    expected = salient_object(picture(), model=(module.float(), processor))
    close(salient_object(picture(), model=tmp_path), expected.array)
    pair = (module.bfloat16(), processor)  # a loaded model keeps its own
    close(salient_object(picture(), model=pair), expected.array, atol=5e-2)


def test_models_of_the_hub(folders: dict[str, Path], tmp_path: Path, monkeypatch: Any) -> None:
    """From the Hub's cache, offline."""
    stored, commit = tmp_path / "models--someone--tiny", "a" * 40
    (stored / "refs").mkdir(parents=True)
    (stored / "refs" / "main").write_text(commit)
    shutil.copytree(folders["depth"], stored / "snapshots" / commit)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    expected = depth(picture(), model=folders["depth"])
    assert depth(picture(), model="someone/tiny") == expected
    refuse(lambda: depth(picture(), model="someone/else"), "'someone/else'", "Hub", "name")
    (stored / "snapshots" / commit / "model.safetensors").unlink()
    torch.save(
        map_models.build("depth")[0].state_dict(),
        stored / "snapshots" / commit / "pytorch_model.bin",
    )
    _load.cache_clear()
    refuse(lambda: depth(picture(), model="someone/tiny"), "'someone/tiny'", "safetensors")


@pytest.mark.parametrize("source", map_models.SETTINGS)
def test_folders_that_hold_no_model(
    folders: dict[str, Path], tmp_path: Path, source: str, monkeypatch: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    refuse(sources_of("gone")[source], "'gone'", "save_pretrained")
    refuse(sources_of(str(tmp_path / "a" / "gone"))[source], "gone'", "save_pretrained")
    refuse(sources_of(".")[source], "'.'", "config.json")
    (tmp_path / "file").touch()
    refuse(sources_of("file")[source], "'file' is a file", "folder")

    shutil.copytree(folders[source], "copy")
    weights = Path("copy/model.safetensors")
    held = weights.read_bytes()
    weights.write_bytes(held[: len(held) // 2])
    refuse(sources_of("copy")[source], "copy'", "cannot be loaded")
    weights.unlink()
    refuse(sources_of("copy")[source], "'copy'", "no weights", "safetensors")
    torch.save({}, "copy/pytorch_model.bin")
    refuse(sources_of("copy")[source], "'copy'", "pickled", "pytorch_model.bin", "safetensors")
    weights.write_bytes(held)
    for name in ("preprocessor_config.json", "processor_config.json"):
        Path("copy", name).unlink(missing_ok=True)
    refuse(sources_of("copy")[source], "copy'", "processor", "save_pretrained")
    Path("copy/config.json").write_text("{")
    refuse(sources_of("copy")[source], "copy'", "cannot be loaded")


def test_models_of_another_kind(folders: dict[str, Path]) -> None:
    """By folder, where the files say it, and loaded, where the outputs do."""
    fits = {"salient": {"salient", "segmentation", "queries"}}
    fits["segmentation"] = fits["salient"]
    for name, folder in folders.items():
        loaded = map_models.build(name)
        for source in map_models.SETTINGS:
            if name not in fits.get(source, {source}):
                held = type(loaded[0]).__name__
                refuse(sources_of(str(folder))[source], held, "such as")
                refuse(sources_of(loaded)[source], type(loaded[0]).__name__)


def test_another_head_is_not_made_up(tmp_path: Path) -> None:
    """A classifier's folder would load as a segmentation model with a head of random numbers."""
    config = transformers.SegformerConfig(
        depths=[1] * 4, hidden_sizes=[8] * 4, num_attention_heads=[1] * 4, decoder_hidden_size=8
    )
    model = transformers.SegformerForImageClassification(config)
    model.save_pretrained(tmp_path)
    map_models.build("segmentation")[1].save_pretrained(tmp_path)
    ask = sources_of(str(tmp_path))["salient"]
    refuse(ask, "SegformerForImageClassification", "not a semantic segmentation model")
    told = json.loads((tmp_path / "config.json").read_text())
    told["architectures"] = ["SegformerForSemanticSegmentation"]
    (tmp_path / "config.json").write_text(json.dumps(told))
    refuse(
        lambda: salient_object(picture(), model=tmp_path, foreground="LABEL_1"),
        "lacks weights", "decode_head",
    )  # fmt: skip


def test_weights_that_no_output_needs_may_be_missing(
    folders: dict[str, Path], tmp_path: Path
) -> None:
    """DPT's first fusion layer has no residual to convolve; files may leave its weights out."""
    from safetensors.torch import load_file, save_file

    folder = shutil.copytree(folders["depth"], tmp_path / "copy")
    tensors = load_file(folder / "model.safetensors")
    unused = [name for name in tensors if "fusion_stage.layers.0.residual_layer1" in name]
    assert unused
    for name in unused:
        del tensors[name]
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    assert depth(picture(), model=folder) == depth(picture(), model=folders["depth"])


def test_code_that_comes_with_a_model_is_not_run(folders: dict[str, Path], tmp_path: Path) -> None:
    folder = shutil.copytree(folders["salient"], tmp_path / "copy")
    told = json.loads((folder / "config.json").read_text())
    (folder / "theirs.py").write_text("from pathlib import Path\nPath('ran').touch()\n")
    classes = ("AutoConfig", "AutoModelForSemanticSegmentation", "AutoImageProcessor")
    told |= {"auto_map": dict.fromkeys(classes, "theirs.Theirs")}
    (folder / "config.json").write_text(json.dumps(told))
    expected = salient_object(picture(), model=folders["salient"])
    assert salient_object(picture(), model=folder) == expected
    told["model_type"] = "theirs"
    (folder / "config.json").write_text(json.dumps(told))
    _load.cache_clear()
    refuse(lambda: salient_object(picture(), model=folder), "copy' cannot be loaded")
    assert not Path("ran").exists()


def test_outputs_that_are_not_finite_are_refused() -> None:
    model = scripted(lambda pixels: {"predicted_depth": pixels[:, 0] + torch.inf}, model_type="dpt")
    refuse(lambda: depth(picture(), model=model), "NaN or infinity")


@pytest.mark.parametrize("source", map_models.SETTINGS)
def test_without_transformers_the_extra_is_named(
    folders: dict[str, Path], source: str, monkeypatch: Any
) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(MissingExtraError, match=r"needs the extra 'maps'.*\[maps\]"):
        sources_of(str(folders[source]))[source]()


def test_a_device_that_is_not_here(folders: dict[str, Path]) -> None:
    model = folders["depth"]
    for device in ("cuda:99", "warp"):
        refuse(lambda device=device: depth(picture(), model=model, device=device), device)


# Requests and the command line


def test_a_request_names_the_model_by_its_path(folders: dict[str, Path]) -> None:
    settings = map_models.SETTINGS["segmentation"]
    params = {**settings, "model": str(folders["segmentation"])}
    request = build_request(
        EditRequest, image="photo.png", strength=MapSpec(source="segmentation", params=params)
    )
    again = EditRequest.model_validate_json(request.to_json()).strength
    made = make_map(again.source, picture(), again.params)
    assert made == segmentation(picture(), model=folders["segmentation"], **settings)


@pytest.mark.parametrize("source", map_models.SETTINGS)
def test_the_command_line(
    folders: dict[str, Path], tmp_path: Path, source: str, monkeypatch: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    pixels = np.rint((picture(40, 50) + 1) * 127.5).astype(np.uint8)
    Image.fromarray(pixels).save("photo.png")
    settings = {**map_models.SETTINGS[source], "model": str(folders[source])}
    params = [f"--param={key}={json.dumps(value)}" for key, value in settings.items()]
    done = CliRunner().invoke(app, ["map", source, "photo.png", "-o", "map.png", *params])
    assert done.exit_code == 0, done.output
    expected = make_map(source, (pixels / np.float32(127.5) - 1).astype(np.float32), settings)
    with Image.open("map.png") as written:
        close(expected, np.asarray(written) / 65535, atol=1e-5)
    done = CliRunner().invoke(app, ["map", source, "photo.png", "-o", "b.png", "-p", "model=gone"])
    assert done.exit_code == 2
