"""Pipelines from folders, ids, files and objects; what cannot work is said in a sentence."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import differential_diffusion as dd
from differential_diffusion.errors import InputError
from differential_diffusion.models import PipelineModel

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


def test_pipelines_without_strength_are_refused_with_the_reason() -> None:
    class Upscaler:
        def __call__(self, image: Any) -> Any:
            return image

    kind = type("DiffusionPipeline", (Upscaler,), {"__module__": "diffusers.pretend"})
    with pytest.raises(InputError, match="does not take strength and num_inference_steps"):
        dd.load_model(kind())
