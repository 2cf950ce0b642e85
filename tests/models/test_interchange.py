"""Pipelines of Diffusers made of our checkpoints, and checkpoints made of them."""

from __future__ import annotations

import json
import os
import re
import subprocess
import venv
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from differential_diffusion.core import DDIM, sample, wait
from differential_diffusion.core.ladder import vp
from differential_diffusion.core.noise import PositionalNoise
from differential_diffusion.core.parametrization import BETAS, Parametrization
from differential_diffusion.core.plan import Plan
from differential_diffusion.errors import InputError
from differential_diffusion.models import (
    DenoiserModel,
    export_pipeline,
    import_pipeline,
    load_model,
)
from differential_diffusion.models.checkpoint import (
    CheckpointConfig,
    load_checkpoint,
    save_checkpoint,
)
from differential_diffusion.models.interchange import CLASSES_FILE
from differential_diffusion.models.network import UNet2D, UNet2DConfig, build_network
from differential_diffusion.nn import SigmaMapUNet, UNetConfig

from ..unet2d import OPTIONS

diffusers = pytest.importorskip("diffusers")

KINDS = [
    ("noise", "linear", 200),  # of the whole table, a random network's samples are black or white
    ("clean", "cosine", 1000),
    ("velocity", "cosine", 1000),
    ("velocity", "linear", 1000),
]
STEPS, SIDE = 20, 16


def checkpoint(
    folder: Path,
    prediction: str = "noise",
    schedule: str = "linear",
    *,
    classes: tuple[str, ...] = (),
    options: dict[str, Any] = OPTIONS,
    timesteps: int = 1000,
) -> Path:
    """A checkpoint of a small random network."""
    config = UNet2DConfig(options, 3, len(classes), SIDE)
    form = Parametrization(
        prediction,  # type: ignore[arg-type]
        "preserving",
        told="timestep",
        schedule=schedule,  # type: ignore[arg-type]
        timesteps=timesteps,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = build_network(config, timesteps=True)
    described = CheckpointConfig(
        config, form, 0.01, 150.0, maps=False, classes=classes, size=(SIDE, SIDE)
    )
    save_checkpoint(folder, network, described, torch.float32)
    return folder


def load(folder: Path) -> DenoiserModel:
    model = load_model(str(folder), precision="fp32", device="cpu")
    assert isinstance(model, DenoiserModel)
    return model


def ours(model: DenoiserModel, form: Parametrization, start: Tensor, steps: int = STEPS) -> Tensor:
    """DDIM samples of our sampler, from pure noise ε of the pipeline, x = ε sqrt(1 + σ²)."""
    ladder = vp(steps, BETAS[form.schedule](form.timesteps), "trailing")
    top = ladder[:1].view(1, 1, 1, 1).float()
    path = wait(top, None, ladder)
    x = start * (1 + top * top).sqrt()
    return (sample(model.denoiser, x, path, DDIM()) / 2 + 0.5).clamp(0, 1)


def theirs(folder: Path, seed: int = 5, steps: int = STEPS) -> tuple[Tensor, Tensor]:
    """The pipeline's starting noise and its pictures."""
    pipe = diffusers.DDIMPipeline.from_pretrained(folder)
    pipe.set_progress_bar_config(disable=True)
    rng = torch.Generator().manual_seed(seed)
    made = pipe(batch_size=2, generator=rng, num_inference_steps=steps, output_type="pt").images
    rng = torch.Generator().manual_seed(seed)
    return torch.randn(2, 3, SIDE, SIDE, generator=rng), made


@pytest.mark.parametrize(("prediction", "schedule", "timesteps"), KINDS)
def test_the_pipeline_draws_our_samples(
    tmp_path: Path, prediction: str, schedule: str, timesteps: int
) -> None:
    source = checkpoint(tmp_path / "ours", prediction, schedule, timesteps=timesteps)
    assert export_pipeline(source, tmp_path / "pipe") == ()
    start, expected = theirs(tmp_path / "pipe")
    _, described = load_checkpoint(source)
    assert ((expected > 0) & (expected < 1)).float().mean() > 0.2
    for folder in (source, tmp_path / "pipe"):
        made = ours(load(folder), described.form, start)
        torch.testing.assert_close(made, expected, rtol=0, atol=1e-4)


def test_a_run_of_the_loaded_pipeline_needs_no_ladder_by_hand(tmp_path: Path) -> None:
    """A folder of Diffusers walks its own table; only the last digit of the start is another."""
    source = checkpoint(tmp_path / "ours", "velocity", "cosine")
    export_pipeline(source, tmp_path / "pipe")
    start, expected = theirs(tmp_path / "pipe")
    blank, seeds = torch.zeros(1, 3, SIDE, SIDE), (0, 1)

    class Given(PositionalNoise):
        def __call__(self, k: int) -> Tensor:
            return start

    plan = Plan(blank, torch.ones(1, 1, 1, 1), seeds=seeds, steps=STEPS)
    made = load(tmp_path / "pipe").run(plan, Given(seeds, *blank.shape[1:]))
    torch.testing.assert_close((made / 2 + 0.5).clamp(0, 1), expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("schedule", ["linear", "cosine"])
@pytest.mark.parametrize("timesteps", [1000, 60])
def test_the_scheduler_has_our_betas_to_the_bit(
    tmp_path: Path, schedule: str, timesteps: int
) -> None:
    source = checkpoint(tmp_path / "ours", "clean", schedule, timesteps=timesteps)
    for sampler, kind in (("ddim", diffusers.DDIMScheduler), ("ddpm", diffusers.DDPMScheduler)):
        export_pipeline(source, tmp_path / sampler, sampler=sampler)  # type: ignore[arg-type]
        made = kind.from_pretrained(tmp_path / sampler, subfolder="scheduler")
        expected = BETAS[schedule](timesteps).float()  # type: ignore[index]
        assert torch.equal(made.betas, expected)
        assert made.config.clip_sample is False
        assert made.config.prediction_type == "sample"


def test_the_ddpm_pipeline_takes_our_steps_of_full_variance(tmp_path: Path) -> None:
    """Every timestep of a short table, with the posterior's variance: our DDIM at η = 1."""
    source = checkpoint(tmp_path / "ours", "velocity", "linear", timesteps=12)
    export_pipeline(source, tmp_path / "pipe", sampler="ddpm")
    pipe = diffusers.DDPMPipeline.from_pretrained(tmp_path / "pipe")
    assert type(pipe.scheduler) is diffusers.DDPMScheduler
    pipe.set_progress_bar_config(disable=True)
    rng = torch.Generator().manual_seed(7)
    expected = pipe(generator=rng, num_inference_steps=12, output_type="pt").images
    rng = torch.Generator().manual_seed(7)
    # The pipeline draws none for its last step, where ours has no weight.
    start, *draws = [torch.randn(1, 3, SIDE, SIDE, generator=rng) for _ in range(13)]
    ladder = vp(12, BETAS["linear"](12), "trailing")
    top = ladder[:1].view(1, 1, 1, 1).float()
    x = start * (1 + top * top).sqrt()

    def draw(k: int) -> Tensor:
        """Our draws are numbered from the last step on."""
        return draws[11 - k]

    made = sample(load(source).denoiser, x, wait(top, None, ladder), DDIM(eta=1.0), draw)
    torch.testing.assert_close((made / 2 + 0.5).clamp(0, 1), expected, rtol=0, atol=1e-4)


def test_labels_reach_the_parts_of_a_model_with_classes(tmp_path: Path) -> None:
    """The loop of the documentation, with classifier-free guidance."""
    source = checkpoint(tmp_path / "ours", classes=("cat", "dog"))
    (note,) = export_pipeline(source, tmp_path / "parts")
    assert "model_index.json" in note
    assert not (tmp_path / "parts" / "model_index.json").exists()
    assert json.loads((tmp_path / "parts" / CLASSES_FILE).read_text()) == ["cat", "dog"]
    unet = diffusers.UNet2DModel.from_pretrained(tmp_path / "parts", subfolder="unet")
    scheduler = diffusers.DDIMScheduler.from_pretrained(tmp_path / "parts", subfolder="scheduler")
    start = torch.randn(1, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(3))
    x_t, scale = start, 2.5
    scheduler.set_timesteps(STEPS)
    with torch.no_grad():
        for t in scheduler.timesteps:
            dog, unknown = unet(x_t.repeat(2, 1, 1, 1), t, torch.tensor([1, 2])).sample.chunk(2)
            x_t = scheduler.step(unknown + scale * (dog - unknown), t, x_t).prev_sample
    model = load(source)
    _, described = load_checkpoint(source)
    told = model.given(label="dog", guidance_scale=scale)
    expected = (x_t / 2 + 0.5).clamp(0, 1)
    torch.testing.assert_close(ours(told, described.form, start), expected, rtol=0, atol=2e-4)
    assert float((ours(model, described.form, start) - expected).abs().max()) > 1e-2


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_weights_are_the_rounded_ones(tmp_path: Path, dtype: torch.dtype) -> None:
    source = checkpoint(tmp_path / "ours")
    export_pipeline(source, tmp_path / "half", dtype=dtype)
    pipe = diffusers.DDIMPipeline.from_pretrained(tmp_path / "half", torch_dtype=torch.float32)
    network, _ = load_checkpoint(source)
    assert isinstance(network, UNet2D)
    for name, weight in network.unet.state_dict().items():
        assert torch.equal(pipe.unet.state_dict()[name], weight.to(dtype).float()), name
    whole = next(source.glob("*.safetensors")).stat().st_size
    half = next((tmp_path / "half" / "unet").glob("*.safetensors")).stat().st_size
    assert half < 0.7 * whole


@pytest.mark.parametrize(
    ("kind", "schedule"),
    [("epsilon", "linear"), ("sample", "squaredcos_cap_v2"), ("v_prediction", "linear")],
)
def test_an_imported_pipeline_draws_its_own_samples(
    tmp_path: Path, kind: str, schedule: str
) -> None:
    """The pipeline is made by Diffusers alone, and read by us."""
    torch.manual_seed(1)
    unet = diffusers.UNet2DModel(sample_size=SIDE, **{**OPTIONS, "norm_num_groups": 2})
    scheduler = diffusers.DDIMScheduler(
        beta_schedule=schedule,
        prediction_type=kind,
        clip_sample=False,
        timestep_spacing="trailing",
    )
    diffusers.DDIMPipeline(unet, scheduler).save_pretrained(tmp_path / "pipe")
    assert import_pipeline(tmp_path / "pipe", tmp_path / "ours") == ()
    start, expected = theirs(tmp_path / "pipe")
    _, described = load_checkpoint(tmp_path / "ours")
    assert isinstance(described.network, UNet2DConfig)
    assert described.network.options["norm_num_groups"] == 2
    assert described.size == (SIDE, SIDE)
    made = ours(load(tmp_path / "ours"), described.form, start)
    torch.testing.assert_close(made, expected, rtol=0, atol=1e-4)


def test_there_and_back_keeps_every_weight(tmp_path: Path) -> None:
    source = checkpoint(tmp_path / "ours", "velocity", "cosine")
    export_pipeline(source, tmp_path / "pipe")
    import_pipeline(tmp_path / "pipe", tmp_path / "again")
    (first, before), (second, after) = (
        load_checkpoint(folder) for folder in (source, tmp_path / "again")
    )
    assert after.form == before.form
    for name, weight in first.state_dict().items():
        assert torch.equal(second.state_dict()[name], weight), name


def test_a_learned_table_of_times_is_told_whole_ones(tmp_path: Path) -> None:
    options = OPTIONS | {"time_embedding_type": "learned", "num_train_timesteps": 40}
    source = checkpoint(tmp_path / "ours", "clean", "cosine", options=options, timesteps=40)
    export_pipeline(source, tmp_path / "pipe")
    start, expected = theirs(tmp_path / "pipe")
    _, described = load_checkpoint(source)
    made = ours(load(source), described.form, start)
    torch.testing.assert_close(made, expected, rtol=0, atol=1e-4)


def test_times_that_a_network_cannot_be_told_are_refused() -> None:
    """A Fourier embedding takes the logarithm of what it is told, and timesteps begin at 0."""
    for kind, timesteps in (("fourier", True), ("fourier", False), ("learned", False)):
        options = OPTIONS | {"time_embedding_type": kind, "num_train_timesteps": 40}
        with pytest.raises(InputError, match="time_embedding_type"):
            build_network(UNet2DConfig(options, 3, 0, SIDE), timesteps=timesteps)


def test_a_network_of_ours_is_no_pipeline(tmp_path: Path) -> None:
    config = UNetConfig(channels=(8, 8), blocks=(1, 1))
    save_checkpoint(
        tmp_path / "ours", SigmaMapUNet(config), CheckpointConfig(config), torch.float32
    )
    with pytest.raises(InputError, match=r"noise of every pixel.*network\.diffusers"):
        export_pipeline(tmp_path / "ours", tmp_path / "pipe")
    assert not (tmp_path / "pipe").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["ours"]


def test_a_network_told_levels_is_no_pipeline(tmp_path: Path) -> None:
    config = UNet2DConfig(OPTIONS, 3, 0, SIDE)
    described = CheckpointConfig(config, Parametrization("flow", "flow"), maps=False)
    save_checkpoint(tmp_path / "ours", build_network(config), described, torch.float32)
    with pytest.raises(InputError, match=r"'flow'.*ddpm, x0 or v"):
        export_pipeline(tmp_path / "ours", tmp_path / "pipe")


def test_an_output_that_exists_is_left_alone(tmp_path: Path) -> None:
    source = checkpoint(tmp_path / "ours")
    (tmp_path / "pipe").mkdir()
    (tmp_path / "pipe" / "mine.txt").write_text("mine")
    with pytest.raises(InputError, match="exists already"):
        export_pipeline(source, tmp_path / "pipe")
    assert [path.name for path in (tmp_path / "pipe").iterdir()] == ["mine.txt"]
    (tmp_path / "pipe" / "mine.txt").unlink()
    export_pipeline(source, tmp_path / "pipe")
    assert (tmp_path / "pipe" / "model_index.json").is_file()


@pytest.mark.parametrize(
    ("unet", "scheduler", "sentence"),
    [
        ({"num_class_embeds": 3}, {}, "takes classes"),
        ({"out_channels": 6}, {}, "a variance"),
        ({}, {"beta_end": 0.01}, "neither DDPM's linear betas nor cosine ones"),
        ({}, {"beta_schedule": "scaled_linear"}, "neither DDPM's linear betas"),
        ({}, {"rescale_betas_zero_snr": True}, "neither DDPM's linear betas"),
    ],
)
def test_what_a_checkpoint_cannot_say_is_not_imported(
    tmp_path: Path, unet: dict[str, Any], scheduler: dict[str, Any], sentence: str
) -> None:
    made = diffusers.UNet2DModel(sample_size=SIDE, **{**OPTIONS, **unet})
    pipe = diffusers.DDIMPipeline(made, diffusers.DDIMScheduler(**scheduler))
    pipe.save_pretrained(tmp_path / "pipe")
    with pytest.raises(InputError, match=sentence):
        import_pipeline(tmp_path / "pipe", tmp_path / "ours")
    assert not (tmp_path / "ours").exists()


def test_pipelines_of_other_kinds_are_not_imported(tmp_path: Path) -> None:
    """The U-Net of one that works on latents is a UNet2DModel too."""
    made = diffusers.UNet2DModel(sample_size=SIDE, **OPTIONS)
    pipe = diffusers.DDIMPipeline(made, diffusers.DDIMScheduler(clip_sample=False))
    pipe.save_pretrained(tmp_path / "pipe")
    index = tmp_path / "pipe" / "model_index.json"
    described = json.loads(index.read_text())
    index.write_text(json.dumps(described | {"_class_name": "LDMPipeline"}))
    with pytest.raises(InputError, match="holds a LDMPipeline, which does more"):
        import_pipeline(tmp_path / "pipe", tmp_path / "ours")
    index.write_text(json.dumps(described | {"_class_name": "PNDMPipeline"}))
    assert import_pipeline(tmp_path / "pipe", tmp_path / "ours") == ()


def test_limits_that_are_lost_are_told(tmp_path: Path) -> None:
    made = diffusers.UNet2DModel(sample_size=SIDE, **OPTIONS)
    diffusers.DDPMPipeline(made, diffusers.DDPMScheduler()).save_pretrained(tmp_path / "pipe")
    (note,) = import_pipeline(tmp_path / "pipe", tmp_path / "ours")
    assert "limits its estimates" in note


ALONE = """
import sys
import torch
from diffusers import DDIMPipeline
from safetensors.torch import load_file

assert "differential_diffusion" not in sys.modules
try:
    import differential_diffusion
    sys.exit("our package is installed here")
except ModuleNotFoundError:
    pass
torch.set_num_threads(1)
pipe = DDIMPipeline.from_pretrained("pipe")
pipe.set_progress_bar_config(disable=True)
rng = torch.Generator().manual_seed(5)
made = pipe(batch_size=2, generator=rng, num_inference_steps=20, output_type="pt").images
expected = load_file("expected.safetensors")["pictures"]
print(float((made - expected).abs().max()))
"""


def install(python: Path, repository: Path, *packages: str) -> None:
    """Install under the repository's constraints; skips where there is no index to ask."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
    constraints = ("-c", str(repository / "constraints.txt"))
    done = subprocess.run(
        [str(python), "-m", "pip", "install", "--quiet", *constraints, *packages],
        env=environment,
        capture_output=True,
        text=True,
    )
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        pytest.skip(f"{' '.join(packages)} cannot be installed here: {reason}")


@pytest.mark.slow
def test_the_pipeline_loads_where_we_are_not_installed(repository: Path, tmp_path: Path) -> None:
    from safetensors.torch import save_file

    source = checkpoint(tmp_path / "ours", "velocity", "cosine")
    export_pipeline(source, tmp_path / "pipe")
    start = torch.randn(2, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(5))
    _, described = load_checkpoint(source)
    made = ours(load(source), described.form, start)
    save_file({"pictures": made.contiguous()}, tmp_path / "expected.safetensors")

    venv.create(tmp_path / "alone", with_pip=True)
    (python,) = [p for p in (tmp_path / "alone").glob("*/python*") if p.stem == "python"]
    constraints = (repository / "constraints.txt").read_text("utf-8").split()
    (torch_pin,) = [line for line in constraints if line.startswith("torch==")]
    # torch by itself at its exact version: a range would let pip choose a much larger build.
    install(python, repository, torch_pin)
    install(python, repository, "diffusers", "safetensors")
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
    done = subprocess.run(
        [str(python), "-c", ALONE], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) < 1e-4


def blocks(repository: Path, heading: str) -> list[str]:
    """The Python blocks of the documentation under a heading."""
    page = (repository / "docs" / "interchange.md").read_text("utf-8")
    section = page.split(f"# {heading}\n", 1)[1].split("\n#", 1)[0]
    return re.findall(r"^```python\n(.*?)^```", section, re.DOTALL | re.MULTILINE)


def test_the_page_s_code_draws_the_pipeline_s_samples(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The page's pictures have 32 pixels a side, the network's 16: it takes any size."""
    monkeypatch.chdir(tmp_path)
    checkpoint(tmp_path / "runs/cifar/final", "velocity", "cosine")
    export_pipeline("runs/cifar/final", "pipeline")
    (loading,), (drawing,) = (
        blocks(repository, name) for name in ("To Diffusers", "The same samples")
    )
    said: dict[str, Any] = {}
    exec(loading, said)
    exec(drawing, said)
    said["pipe"].unet.register_to_config(sample_size=32)
    rng = torch.Generator().manual_seed(0)
    expected = said["pipe"](generator=rng, num_inference_steps=50, output_type="pt").images
    made = (said["x0"] / 2 + 0.5).clamp(0, 1)
    torch.testing.assert_close(made, expected, rtol=0, atol=1e-4)


def test_the_page_s_loop_draws_what_given_draws(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    source = checkpoint(tmp_path / "ours", "velocity", "cosine", classes=("cat", "dog"))
    export_pipeline(source, "parts")
    (loop,) = blocks(repository, "Classes")
    said: dict[str, Any] = {}
    exec(loop, said)
    _, described = load_checkpoint(source)
    start = torch.randn(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    told = load(source).given(label=1, guidance_scale=2.0)
    made = ours(told, described.form, start, steps=50)
    expected = (said["x_t"] / 2 + 0.5).clamp(0, 1)
    torch.testing.assert_close(made, expected, rtol=0, atol=1e-4)
