"""The public functions from end to end, on a tiny random model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

import differential_diffusion as dd
from differential_diffusion.core import SOLVERS
from differential_diffusion.core.types import Step
from differential_diffusion.engine.executor import Progress
from differential_diffusion.models import DenoiserModel
from differential_diffusion.models.checkpoint import CheckpointConfig, save_checkpoint
from differential_diffusion.nn import SigmaMapUNet, UNetConfig


def checkpoint(folder: Path) -> Path:
    """A tiny random checkpoint."""
    torch.manual_seed(1)
    network = SigmaMapUNet(UNetConfig(channels=(8, 8), blocks=(1, 1), embedding_channels=4))
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.06)
    save_checkpoint(folder, network, CheckpointConfig(network.config), torch.float32)
    return folder


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> DenoiserModel:
    folder = checkpoint(tmp_path_factory.mktemp("tiny"))
    model = dd.load_model(folder, device="cpu", precision="fp32")
    assert isinstance(model, DenoiserModel)
    return model


def call(task: str, image: Any, strength: np.ndarray[Any, Any], **settings: Any) -> dd.Result:
    """Each task with a request under which exactly the pixels of strength 0 are kept."""
    if task == "edit":
        return dd.edit(image, strength, **settings)
    if task == "inpaint":
        return dd.inpaint(image, strength, noise_level_8bit=8.0, **settings)
    if task == "denoise":
        return dd.denoise(image, 60 * strength, **settings)
    return dd.restore(image, noise_level_8bit=60 * strength, damage=strength > 0.7, **settings)


@given(
    data=st.data(),
    task=st.sampled_from(["edit", "inpaint", "denoise", "restore"]),
    solver=st.sampled_from(sorted(SOLVERS)),
    path=st.sampled_from(["wait", "together"]),
    height=st.integers(1, 40),
    width=st.integers(1, 40),
    kind=st.sampled_from(["uint8", "uint16", "float32", "grey", "alpha", "bool"]),
    seed=st.integers(0, 2**31),
)
def test_kept_pixels_are_bit_exact(
    tiny: DenoiserModel,
    data: st.DataObject,
    task: str,
    solver: str,
    path: str,
    height: int,
    width: int,
    kind: str,
    seed: int,
) -> None:
    rng = np.random.default_rng(seed)
    shape = {"grey": (height, width), "alpha": (height, width, 4), "bool": (height, width)}
    values = rng.random(shape.get(kind, (height, width, 3)))
    if kind == "float32":
        image = values.astype(np.float32)
    elif kind == "bool":
        image = values > 0.5
    else:
        dtype = np.dtype(np.uint16 if kind == "uint16" else np.uint8)
        image = (values * np.iinfo(dtype).max).astype(dtype)
    strength = rng.random((height, width)).astype(np.float32)
    strength *= rng.random((height, width)) < data.draw(st.sampled_from([0.0, 0.05, 0.5, 1.0]))
    result = call(
        task, image, strength, model=tiny, solver=solver, path=path, steps=3, seed=seed, tile=64
    )
    out, kept = np.asarray(result.image), strength == 0
    assert np.isfinite(out).all()
    assert np.array_equal(result.map == 0, kept)
    if kind == "bool":  # becomes 8-bit, since an edit needs grey levels
        image = image.astype(np.uint8) * np.uint8(255)
    assert out.dtype == image.dtype
    assert out.shape == image.shape
    assert np.array_equal(out[kept], image[kept])
    if kind == "alpha":
        assert np.array_equal(out[..., 3], image[..., 3])


@pytest.mark.parametrize("task", ["edit", "inpaint", "denoise", "restore"])
def test_same_seed_same_bytes_and_other_seeds_differ(tiny: DenoiserModel, task: str) -> None:
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (30, 41, 3), dtype=np.uint8)
    strength = rng.random((30, 41)).astype(np.float32)
    first, again = (call(task, image, strength, model=tiny, seed=5, steps=4) for _ in range(2))
    assert first.image.tobytes() == again.image.tobytes()
    assert first.seed == 5
    if task not in ("denoise", "restore"):  # the posterior mean draws nothing
        other = call(task, image, strength, model=tiny, seed=6, steps=4)
        assert not np.array_equal(first.image, other.image)


def test_samples_are_the_single_runs_and_std_is_theirs(tiny: DenoiserModel) -> None:
    image = np.random.default_rng(0).integers(0, 256, (24, 33, 3), dtype=np.uint8)
    three = dd.edit(image, 0.6, model=tiny, seed=10, samples=3, steps=4, estimate="mean")
    for k, sample in enumerate(three.images):
        alone = dd.edit(image, 0.6, model=tiny, seed=10 + k, steps=4)
        assert np.array_equal(sample, alone.image)
    assert three.std is not None
    stack = np.stack(three.images).astype(float)
    spread = stack.std(axis=0, ddof=1).mean(axis=-1)
    inside = ((stack > 0) & (stack < 255)).all(axis=(0, 3))
    assert np.abs(three.std - spread)[inside].max() < 1.0  # rounding to 8 bits
    assert np.abs(three.image - stack.mean(axis=0))[inside].max() <= 1.0


@pytest.mark.parametrize("task", ["edit", "inpaint", "denoise", "restore"])
@pytest.mark.parametrize("grey", [False, True])
def test_sample_k_is_what_seed_plus_k_gives(tiny: DenoiserModel, task: str, grey: bool) -> None:
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (20, 31) if grey else (20, 31, 3), dtype=np.uint8)
    strength = rng.random((20, 31)).astype(np.float32)
    settings = {"model": tiny, "steps": 4, "estimate": "sample"}
    both = call(task, image, strength, seed=10, samples=2, **settings)
    for k, sample in enumerate(both.images):
        alone = call(task, image, strength, seed=10 + k, **settings)
        assert np.array_equal(sample, alone.image)


def test_a_soft_rim_of_a_mask_on_a_noisy_photograph_is_told_its_noise() -> None:
    # The oracle of a flat picture knows what white noise of a stated level is, and no more:
    # told too little, it would leave noise in the rim.
    rng = np.random.default_rng(0)
    x = 0.5 + 0.1 * rng.normal(size=(64, 64, 3)).astype(np.float32)

    def flat(x: torch.Tensor, sigma: torch.Tensor, /) -> torch.Tensor:
        return x / (1 + (sigma / 0.01) ** 2)  # a white prior of deviation 0.01 about mid-grey

    model = DenoiserModel("flat", flat, 3, 1, 0, torch.device("cpu"))
    mask = np.zeros((64, 64), np.float32)
    mask[:, 16:48] = 0.2
    out = dd.inpaint(x.clip(0, 1), mask, noise_level_8bit=0.2 * 127.5, model=model).image
    assert out[:, 16:48].std() < 0.02
    assert out[:, :16].std() > 0.09


def test_steps_and_progress_are_reported(tiny: DenoiserModel) -> None:
    image = np.random.default_rng(0).integers(0, 256, (200, 180, 3), dtype=np.uint8)
    steps: list[Step] = []
    progress: list[Progress] = []
    result = dd.edit(
        image,
        0.5,
        model=tiny,
        steps=10,
        tile=64,
        on_step=steps.append,
        on_progress=progress.append,
    )
    assert [step.index for step in steps] == list(range(5))
    assert result.evaluations == 5
    fractions = [p.fraction for p in progress]
    assert fractions == sorted(fractions)
    assert fractions[-1] == 1.0
    assert len(set(fractions)) > 5 * 4  # tiles count too
    assert {p.run for p in progress} == {1}


def test_a_run_can_be_stopped_from_a_step(tiny: DenoiserModel) -> None:
    class Stop(Exception):
        pass

    def stop(step: Step) -> None:
        raise Stop

    with pytest.raises(Stop):
        dd.edit(np.zeros((9, 9, 3), np.uint8), 1.0, model=tiny, on_step=stop)


def test_files_in_files_out(tiny: DenoiserModel, tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    mask = np.zeros((20, 30), np.uint8)
    mask[5:9, 4:20] = 255
    Image.fromarray(pixels).save(tmp_path / "in.png")
    Image.fromarray(mask).save(tmp_path / "mask.png")
    result = dd.inpaint(tmp_path / "in.png", tmp_path / "mask.png", model=tiny, steps=3)
    assert isinstance(result.image, Image.Image)
    written = np.asarray(Image.open(result.save(tmp_path / "out.png")))
    assert np.array_equal(written, np.asarray(result.image))
    assert np.array_equal(written[mask == 0], pixels[mask == 0])
    assert (written[mask > 0] != pixels[mask > 0]).any()
    with pytest.raises(dd.InputError):
        result.save(tmp_path / "in.png")


def test_tensors_in_tensors_out(tiny: DenoiserModel) -> None:
    x = torch.rand(3, 12, 17)
    out = dd.edit(x, 0.0, model=tiny).image
    assert torch.equal(out, x)


def test_the_model_is_loaded_once(tmp_path: Path) -> None:
    folder = checkpoint(tmp_path / "model")
    assert dd.load_model(folder) is dd.load_model(folder)


def test_settings_of_loading_do_not_go_with_a_loaded_model(tiny: DenoiserModel) -> None:
    assert dd.load_model(tiny, device="cpu") is tiny
    for settings, name in (({"precision": "bf16"}, "precision"), ({"config": "a.json"}, "config")):
        with pytest.raises(dd.InputError, match=f"{name} was given with a model that is loaded"):
            dd.load_model(tiny, **settings)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16])
def test_the_denoiser_takes_any_float_and_gives_it_back(
    tiny: DenoiserModel, dtype: torch.dtype
) -> None:
    x, sigma = torch.rand(1, 3, 16, 16), torch.full((1, 1, 1, 1), 0.2)
    made = tiny.denoiser(x.to(dtype), sigma.to(dtype))
    assert made.dtype == dtype
    torch.testing.assert_close(made.float(), tiny.denoiser(x, sigma), atol=5e-3, rtol=0)


def test_deviation_is_withheld_where_samples_cannot_differ(tiny: DenoiserModel) -> None:
    """From noise that is there already, a deterministic solver draws one picture every time."""
    image = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    soft = {"noise_level_8bit": 25, "samples": 3, "steps": 4, "model": tiny}
    result = dd.inpaint(image, 0.1, **soft)
    np.testing.assert_array_equal(result.images[0], result.images[1])
    assert result.std is None
    assert any("no deviation" in note for note in result.notes)
    sampled = dd.inpaint(image, 0.1, solver="dpmpp_2m_sde", **soft | {"steps": 60})
    assert sampled.std is not None
    assert sampled.std.mean() > 0.1
    assert dd.restore(image, damage=np.eye(32), **soft).std is None
