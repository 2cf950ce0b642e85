"""Pipelines in one .safetensors file, with a folder that describes them, as users download them."""

from __future__ import annotations

import json
import re
import shutil
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

import differential_diffusion as dd
from differential_diffusion.cli import app
from differential_diffusion.errors import InputError
from differential_diffusion.models import PipelineModel

from ..pipelines import FAMILIES, realigned
from ..pipelines.original import save_original, two_width_sdxl

IMAGE = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
MAP = np.tile(np.linspace(0, 1, 64, dtype=np.float32), (64, 1))

BUILDERS: dict[str, Callable[[], Any]] = {**FAMILIES, "sdxl": two_width_sdxl}


@dataclass(frozen=True)
class Saved:
    """A family's pipeline in one file, in a folder, and that folder without weights."""

    family: str
    file: Path
    folder: Path
    bare: Path


@pytest.fixture(autouse=True)
def _no_network(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Fail where anything tries the network, even if it takes no for an answer."""
    tried: list[Any] = []

    def refuse(*args: Any, **_: Any) -> None:
        tried.append(args)
        raise OSError("no network in these tests")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    yield
    assert not tried


@pytest.fixture(scope="module")
def save(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Saved]:
    made: dict[str, Saved] = {}

    def saved(family: str) -> Saved:
        if family not in made:
            root = tmp_path_factory.mktemp(family)
            pipe = BUILDERS[family]()
            pipe.save_pretrained(root / "whole")
            shutil.copytree(
                root / "whole", root / "bare", ignore=shutil.ignore_patterns("*.safetensors")
            )
            file = save_original(pipe, root / f"{family}.safetensors")
            made[family] = Saved(family, file, root / "whole", root / "bare")
        return made[family]

    return saved


@pytest.fixture
def sd1(save: Callable[[str], Saved], tmp_path: Path) -> Saved:
    """Copies that a test may change."""
    saved = save("sd1")
    shutil.copy(saved.file, tmp_path)
    shutil.copytree(saved.bare, tmp_path / "bare")
    return Saved("sd1", tmp_path / saved.file.name, saved.folder, tmp_path / "bare")


def loaded(file: Path, folder: Path, precision: str = "fp32") -> PipelineModel:
    model = dd.load_model(file, config=folder, precision=precision)
    assert isinstance(model, PipelineModel)
    realigned(model.pipeline)
    return model


def edited(model: Any) -> np.ndarray:
    made: np.ndarray = dd.edit(IMAGE, MAP, model=model, prompt="a barn", steps=4, seed=3).image
    return made


def change_json(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def leave_out(file: Path, *prefixes: str) -> None:
    weights = load_file(file)
    kept = {name: tensor for name, tensor in weights.items() if not name.startswith(prefixes)}
    assert len(kept) < len(weights)
    save_file(kept, file)


@pytest.mark.parametrize("family", ["sd1", "sdxl", "inpaint"])
def test_a_file_is_the_pipeline_that_was_saved(save: Callable[[str], Saved], family: str) -> None:
    saved, pipe = save(family), BUILDERS[family]()
    expected = edited(pipe)
    for folder in (saved.folder, saved.bare):
        model = loaded(saved.file, folder)
        assert type(model.pipeline) is type(pipe)
        assert model.is_inpainting == (family == "inpaint")
        np.testing.assert_array_equal(edited(model), expected)


@pytest.mark.parametrize(
    ("family", "part", "weight"),
    [
        ("sd1", "unet", "conv_out.bias"),
        ("sd1", "vae", "decoder.conv_out.bias"),
        ("sd1", "text_encoder", "position_embedding.weight"),
        ("sdxl", "text_encoder", "position_embedding.weight"),
        ("sdxl", "text_encoder_2", "text_projection.weight"),
    ],
)
def test_weights_come_from_the_file(
    save: Callable[[str], Saved], tmp_path: Path, family: str, part: str, weight: str
) -> None:
    saved, pipe = save(family), BUILDERS[family]()
    before = edited(pipe)
    (changed,) = (
        parameter
        for name, parameter in getattr(pipe, part).named_parameters()
        if name.endswith(weight)
    )
    changed.view(-1)[0] += 1
    file = save_original(pipe, tmp_path / "changed.safetensors")
    after = edited(pipe)
    assert (after != before).any()
    np.testing.assert_array_equal(edited(loaded(file, saved.folder)), after)


def test_a_file_written_anew_is_loaded_anew(sd1: Saved) -> None:
    before = edited(loaded(sd1.file, sd1.bare))
    weights = load_file(sd1.file)
    weights["model.diffusion_model.out.2.bias"][0] += 1
    save_file(weights, sd1.file)
    assert (edited(loaded(sd1.file, sd1.bare)) != before).any()


@pytest.mark.parametrize(
    ("precision", "dtype"), [("fp32", torch.float32), ("bf16", torch.bfloat16)]
)
def test_precision_is_that_of_every_part(sd1: Saved, precision: str, dtype: torch.dtype) -> None:
    """Of a file in half precision, as most are."""
    halves = {name: tensor.half() for name, tensor in load_file(sd1.file).items()}
    save_file(halves, sd1.file)
    model = loaded(sd1.file, sd1.bare, precision)
    for part in ("unet", "vae", "text_encoder"):
        assert {p.dtype for p in getattr(model.pipeline, part).parameters()} == {dtype}
    bias = halves["model.diffusion_model.out.2.bias"].to(dtype)
    assert torch.equal(model.pipeline.unet.conv_out.bias, bias)


@pytest.mark.parametrize(
    ("family", "twin"),
    [
        ("sd1_text", "StableDiffusionImg2ImgPipeline"),
        ("sdxl_text", "StableDiffusionXLImg2ImgPipeline"),
        ("inpaint", "StableDiffusionInpaintPipeline"),
    ],
)
def test_a_text_to_image_folder_gives_the_twin(
    save: Callable[[str], Saved], tmp_path: Path, family: str, twin: str
) -> None:
    """Also where the U-Net takes nine channels: its twin is the inpainting pipeline."""
    saved = save({"sd1_text": "sd1", "sdxl_text": "sdxl"}.get(family, family))
    folder = tmp_path / "bare"
    shutil.copytree(saved.bare, folder)
    text = twin.replace("Img2Img", "").replace("Inpaint", "")
    change_json(folder / "model_index.json", _class_name=text)
    model = loaded(saved.file, folder)
    assert type(model.pipeline).__name__ == twin
    np.testing.assert_array_equal(edited(model), edited(BUILDERS[saved.family]()))


def test_a_safety_checker_in_the_description_is_left_out(sd1: Saved) -> None:
    """The published folder of SD 1.5 names one, the files do not hold it."""
    from transformers import CLIPImageProcessor

    change_json(
        sd1.bare / "model_index.json",
        safety_checker=["stable_diffusion", "StableDiffusionSafetyChecker"],
        feature_extractor=["transformers", "CLIPImageProcessor"],
        requires_safety_checker=True,
    )
    CLIPImageProcessor().save_pretrained(sd1.bare / "feature_extractor")
    model = loaded(sd1.file, sd1.bare)
    assert model.pipeline.safety_checker is None
    np.testing.assert_array_equal(edited(model), edited(FAMILIES["sd1"]()))


TEXT = "cond_stage_model.transformer.text_model."
FAULTS: dict[str, tuple[Callable[[Saved], object], str]] = {
    "no U-Net": (lambda s: leave_out(s.file, "model."), "Failed to load UNet2DConditionModel"),
    "no autoencoder": (lambda s: leave_out(s.file, "first_"), "Failed to load AutoencoderKL"),
    "no text encoder": (lambda s: leave_out(s.file, "cond_"), "Failed to load CLIPTextModel"),
    "a weight of the U-Net": (
        lambda s: leave_out(s.file, "model.diffusion_model.out.2.bias"),
        "weights are missing",
    ),
    "a weight of the text encoder": (
        lambda s: leave_out(s.file, f"{TEXT}final_layer_norm.bias"),
        "weights of the text_encoder are missing",
    ),
    "a deeper U-Net": (
        lambda s: change_json(s.bare / "unet/config.json", layers_per_block=2),
        "expected shape",
    ),
    "less attention": (
        lambda s: change_json(s.bare / "unet/config.json", up_block_types=["UpBlock2D"] * 2),
        "it holds more weights of the unet",
    ),
    "a deeper text encoder": (
        lambda s: change_json(s.bare / "text_encoder/config.json", num_hidden_layers=3),
        "weights of the text_encoder are missing",
    ),
    "no vocabulary": (
        lambda s: (s.bare / "tokenizer/tokenizer.json").unlink(),
        "the tokenizer in .* has no vocabulary",
    ),
    "no scheduler": (
        lambda s: shutil.rmtree(s.bare / "scheduler"),
        "no file named scheduler_config.json",
    ),
    "unknown class": (
        lambda s: change_json(s.bare / "model_index.json", _class_name="MakeBelievePipeline"),
        "is a MakeBelievePipeline, which Diffusers .* does not load from a single file",
    ),
    "class without files": (
        lambda s: change_json(s.bare / "model_index.json", _class_name="DDPMPipeline"),
        "is a DDPMPipeline, which Diffusers .* does not load from a single file",
    ),
}


def refused(file: Path, folder: Path) -> str:
    with pytest.raises(InputError) as caught:
        dd.load_model(file, config=folder, precision="fp32")
    message = str(caught.value)
    assert "\n" not in message
    assert len(message) < 700
    return message


@pytest.mark.parametrize("fault", FAULTS)
def test_what_is_missing_or_damaged_is_said_in_a_sentence(sd1: Saved, fault: str) -> None:
    damage, said = FAULTS[fault]
    damage(sd1)
    message = refused(sd1.file, sd1.bare)
    assert re.search(said, message), message
    assert str(sd1.bare) in message


@pytest.mark.parametrize(
    ("file", "folder"),
    [("sd1", "sdxl"), ("sdxl", "sd1"), ("sd1", "inpaint"), ("inpaint", "sd1")],
)
def test_another_architecture_does_not_fit(
    save: Callable[[str], Saved], file: str, folder: str
) -> None:
    given, described = save(file).file, save(folder).bare
    message = refused(given, described)
    kind = type(BUILDERS[folder]()).__name__
    assert message.startswith(f"'{given}' does not fit the {kind} that '{described}' describes (")


def test_on_the_command_line(
    sd1: Saved, save: Callable[[str], Saved], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(sd1.file.parent)
    Image.fromarray(IMAGE).save("photo.png")
    run = partial(CliRunner().invoke, app, prog_name="diffdiff")
    given = {"strength": "0.5", "steps": "4", "seed": "3", "precision": "fp32", "prompt": "a barn"}
    options = [text for name, value in given.items() for text in (f"--{name}", value)]
    command = ["edit", "photo.png", *options, "--model", "sd1.safetensors", "--config"]
    done = run([*command, "bare"])
    assert done.exit_code == 0, done.output
    with Image.open("photo-edit.png") as image:
        made = np.asarray(image).astype(int)
    settings: Any = {"prompt": "a barn", "steps": 4, "seed": 3}
    file: Any = {"model": "sd1.safetensors", "config": "bare", "precision": "fp32"}
    same = dd.edit("photo.png", 0.5, **file, **settings)
    np.testing.assert_array_equal(made, same.image)
    # Bits differ where loaded weights are not aligned as fresh ones are: see `realigned`.
    fresh = dd.edit("photo.png", 0.5, model=FAMILIES["sd1"](), **settings)
    np.testing.assert_allclose(made, fresh.image, atol=1)

    refusal = run([*command, str(save("sdxl").bare), "--force"])
    assert refusal.exit_code == 2
    assert "does not fit the StableDiffusionXLImg2ImgPipeline" in refusal.stderr
