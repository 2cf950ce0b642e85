"""Pipelines from folders, ids, files and objects; what cannot work is said in a sentence."""

from __future__ import annotations

import importlib
import inspect
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import differential_diffusion as dd
from differential_diffusion.errors import InputError
from differential_diffusion.models import PipelineModel
from differential_diffusion.models.video_pipeline import VideoPipelineModel

from ..pipelines import FAMILIES, realigned

IMAGE = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pipelines") / "sd"
    FAMILIES["sd1_text"]().save_pretrained(folder)
    return folder


def edited(model: Any, **settings: Any) -> np.ndarray:
    made: np.ndarray = dd.edit(
        IMAGE, 0.6, model=model, prompt="a barn", steps=4, seed=3, **settings
    ).image
    return made


def test_a_folder_an_object_and_its_twin_are_the_same_model(saved: Path) -> None:
    loaded = dd.load_model(saved, precision="fp32")
    assert isinstance(loaded, PipelineModel)
    assert type(loaded.pipeline).__name__ == "StableDiffusionImg2ImgPipeline"
    realigned(loaded.pipeline)
    expected = edited(FAMILIES["sd1"]())
    np.testing.assert_array_equal(edited(loaded), expected)
    np.testing.assert_array_equal(edited(FAMILIES["sd1_text"]()), expected)
    assert dd.load_model(saved, precision="fp32") is loaded


def test_parts_are_shared_with_the_object_given() -> None:
    text = FAMILIES["sd1_text"]()
    model = dd.load_model(text)
    assert isinstance(model, PipelineModel)
    assert model.pipeline.unet is text.unet


def test_precision_is_the_weights(saved: Path) -> None:
    for precision, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16)):
        model = dd.load_model(saved, precision=precision)
        assert isinstance(model, PipelineModel)
        assert model.pipeline.unet.dtype == dtype
        assert edited(model).shape == IMAGE.shape


def test_four_channel_inpainting_becomes_image_to_image_and_nine_channels_stay() -> None:
    from diffusers import StableDiffusionInpaintPipeline

    four = StableDiffusionInpaintPipeline(
        **FAMILIES["sd1"]().components, requires_safety_checker=False
    )
    model = dd.load_model(four)
    assert isinstance(model, PipelineModel)
    assert not model.is_inpainting
    nine = dd.load_model(FAMILIES["inpaint"]())
    assert isinstance(nine, PipelineModel)
    assert nine.is_inpainting


def damaged(folder: Path, change: str) -> Path:
    index = folder / "model_index.json"
    if change == "unknown class":
        index.write_text(json.dumps({"_class_name": "MakeBelievePipeline"}))
    elif change == "no unet":
        for file in (folder / "unet").iterdir():
            file.unlink()
    elif change == "truncated":
        weights = folder / "unet" / "diffusion_pytorch_model.safetensors"
        weights.write_bytes(weights.read_bytes()[:1000])
    elif change == "pickled":
        weights = folder / "unet" / "diffusion_pytorch_model.safetensors"
        weights.rename(weights.with_suffix(".bin"))
    return folder


@pytest.mark.parametrize("change", ["unknown class", "no unet", "truncated", "pickled"])
def test_damaged_folders_are_refused_in_a_sentence(tmp_path: Path, change: str) -> None:
    folder = tmp_path / "sd"
    FAMILIES["sd1"]().save_pretrained(folder)
    with pytest.raises(InputError) as caught:
        dd.load_model(damaged(folder, change))
    message = str(caught.value)
    assert str(folder) in message
    assert "\n" not in message
    assert len(message) < 700


def test_single_files_and_ids_say_what_they_need(
    tmp_path: Path, saved: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    file = tmp_path / "sd.safetensors"
    file.write_bytes(b"\0" * 64)
    for reference, config, said in (
        (f"diffusers:{file}", None, "give config= a local folder"),
        (f"diffusers:{file}", saved, "cannot be loaded as a pipeline"),
        (f"diffusers:{tmp_path / 'gone.safetensors'}", saved, "does not exist"),
        (str(saved), saved, "takes no config="),
    ):
        with pytest.raises(InputError, match=said):
            dd.load_model(reference, config=config)


def pretended(call: Any, **attributes: Any) -> Any:
    """An object of Diffusers with a call of its own."""
    kind = type(
        "DiffusionPipeline", (), {"__module__": "diffusers.pretend", "__call__": call, **attributes}
    )
    return kind()


def upscaler(self: Any, image: Any) -> None: ...


def old(self: Any, image: Any, strength: float, num_inference_steps: int, callback: Any) -> None:
    """Kandinsky 2.1, DeepFloyd IF and the ONNX pipelines: what their callback returns is lost."""


def conditioned(
    self: Any,
    image: Any,
    video: Any,
    strength: float,
    denoise_strength: float,
    num_inference_steps: int,
    callback_on_step_end: Any,
) -> None:
    """LTX: strength is how much a condition counts."""


def masked_video(
    self: Any,
    video: Any,
    mask_video: Any,
    strength: float,
    num_inference_steps: int,
    callback_on_step_end: Any,
) -> None: ...


def edited_picture(
    self: Any, image: Any, strength: float, num_inference_steps: int, callback_on_step_end: Any
) -> None: ...


def masked(
    self: Any,
    image: Any,
    mask_image: Any,
    strength: float,
    num_inference_steps: int,
    callback_on_step_end: Any,
) -> None: ...


@pytest.mark.parametrize(
    ("pipeline", "said"),
    [
        (pretended(upscaler), "does not take strength and num_inference_steps and callback_on_st"),
        (pretended(old), "does not take callback_on_step_end, so that"),
        (pretended(conditioned), "means by strength how much its conditions count"),
        (pretended(masked_video), "goes by masks of 0 and 1"),
        (pretended(masked), "goes by masks of 0 and 1"),
        (pretended(edited_picture, motion_adapter=None), "makes a video of a picture"),
    ],
)
def test_pipelines_that_cannot_work_are_refused_with_the_reason(pipeline: Any, said: str) -> None:
    with pytest.raises(InputError, match=said):
        dd.load_model(pipeline)


def test_flux_fill_is_refused() -> None:
    import diffusers

    parts = dict(FAMILIES["flux"]().components)
    for name in ("image_encoder", "feature_extractor"):
        parts.pop(name)
    with pytest.raises(InputError, match="FluxFillPipeline goes by masks of 0 and 1"):
        dd.load_model(diffusers.FluxFillPipeline(**parts))


@pytest.mark.parametrize(
    "module", ["kandinsky.pipeline_kandinsky_img2img", "deepfloyd_if.pipeline_if_img2img"]
)
def test_old_pipelines_are_as_they_are_pretended(module: str) -> None:
    name = "KandinskyImg2ImgPipeline" if "kandinsky" in module else "IFImg2ImgPipeline"
    kind = getattr(importlib.import_module(f"diffusers.pipelines.{module}"), name)
    known = inspect.signature(kind.__call__).parameters
    assert "strength" in known
    assert "callback_on_step_end" not in known


def test_a_folder_of_a_video_pipeline_is_one(tmp_path: Path) -> None:
    FAMILIES["animatediff"]().save_pretrained(tmp_path)
    assert isinstance(dd.load_model(tmp_path), VideoPipelineModel)
