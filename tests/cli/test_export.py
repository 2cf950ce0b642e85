"""export: what is written, what is said of it, and where it goes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from safetensors.torch import load_file
from typer.testing import Result

from differential_diffusion.cli.export import ExportSettings, perform
from differential_diffusion.errors import InputError
from differential_diffusion.models.checkpoint import (
    CheckpointConfig,
    load_checkpoint,
    save_checkpoint,
)
from differential_diffusion.models.compress import prune, rounded
from differential_diffusion.nn import SigmaMapUNet, UNetConfig

Command = Callable[..., Result]


@pytest.fixture
def trained(folder: Path) -> Path:
    """What a training run leaves behind, with random weights in every layer."""
    config = UNetConfig(channels=(8, 8), blocks=(1, 1))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = SigmaMapUNet(config).eval().requires_grad_(False)
        for parameter in network.parameters():
            parameter.copy_(0.05 * torch.randn_like(parameter))
    for place, step in (("final", 20), ("checkpoints/step-00000010", 10)):
        described = CheckpointConfig(config, size=(16, 16), card={"step": step})
        save_checkpoint(folder / "runs/mine" / place, network, described, torch.float32)
    records = [{"step": step, "psnr_25": 20.0 + step} for step in (10, 20)]
    lines = "".join(json.dumps(record) + "\n" for record in records)
    (folder / "runs/mine/metrics.jsonl").write_text(lines + '{"step": 3')  # killed while writing
    return Path("runs/mine")


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")


def test_a_run_is_exported_smaller(run: Command, folder: Path, trained: Path) -> None:
    done = run(
        "export", str(trained), "-o", "out", "--dtype", "float16", "--prune", "0.3",
        "--check", "photo.png", "--json",
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    network, _ = load_checkpoint(trained / "final")
    expected = rounded(prune(network, 0.3), torch.float16).state_dict()
    stored = weights(folder / "out")
    for name, value in stored.items():
        assert value.dtype == torch.float16
        assert torch.equal(value.float(), expected[name]), name
    record = json.loads(done.stdout)
    assert record["output"] == "out"
    assert record["checked_on"] == "1 picture"
    assert record["zeros"] == pytest.approx(0.3, abs=1e-3)
    shares = [row["pruned"] for row in record["table"]]
    assert shares == [0.1, 0.3, 0.5, 0.7, 0.9]
    assert record["table"][1]["quality"] == record["quality"]
    packed = [row["packed"] for row in record["table"]]
    assert packed == sorted(packed, reverse=True)
    largest = [row["quality"][0]["largest"] for row in record["table"]]
    assert largest == sorted(largest)
    _, described = load_checkpoint(folder / "out")
    assert described.card == {"step": 20, "dtype": "float16", "zeros": record["zeros"]}


def test_quality_is_that_of_the_exported_model(run: Command, folder: Path, trained: Path) -> None:
    """Measured again from the files, with the package's own denoising."""
    from differential_diffusion.core.metrics import psnr
    from differential_diffusion.core.noise import PositionalNoise
    from differential_diffusion.images import read
    from differential_diffusion.models import load_model

    done = run("export", str(trained), "-o", "out", "--dtype", "bfloat16", "--check", "photo.png",
               "--json")  # fmt: skip
    row = next(r for r in json.loads(done.stdout)["quality"] if r["level_8bit"] == 25)
    x0 = read("photo.png").tensor()
    sigma = torch.full((1, 1, 1, 1), 25 / 127.5)
    x = x0 + sigma * PositionalNoise([4711], *x0.shape[1:])(0)
    made = [
        load_model(path, device="cpu", precision="fp32").denoiser(x, sigma)
        for path in (trained / "final", folder / "out")
    ]
    assert row["before"] == pytest.approx(float(psnr(made[0].clamp(-1, 1), x0)), abs=1e-3)
    assert row["after"] == pytest.approx(float(psnr(made[1].clamp(-1, 1), x0)), abs=1e-3)
    largest = float((made[0] - made[1]).abs().max()) * 127.5
    assert row["largest"] == pytest.approx(largest, rel=1e-3)
    assert largest > 0


def test_a_grey_model_is_checked_on_the_luma_of_colours(run: Command, folder: Path) -> None:
    """As it was trained."""
    from differential_diffusion.images import read

    network = SigmaMapUNet(UNetConfig(in_channels=1, channels=(8,), blocks=(1,)))
    torch.nn.init.normal_(network.head.weight, std=0.2)
    save_checkpoint(folder / "grey", network, CheckpointConfig(network.config), torch.float32)
    np.save(folder / "luma.npy", read("photo.png").luminance())
    figures = []
    for name in ("photo.png", "luma.npy"):
        done = run("export", "grey", "-o", f"of-{name}", "--check", name, "--json")
        assert done.exit_code == 0, done.output
        figures.append([row["before"] for row in json.loads(done.stdout)["quality"]])
    assert figures[0] == pytest.approx(figures[1], abs=1e-4)


def test_the_table_is_shown(run: Command, trained: Path) -> None:
    done = run("export", str(trained), "-o", "out", "--prune", "0.25", "--structured")
    assert done.exit_code == 0, done.output
    assert "pictures of noise" in done.stderr
    assert "     25%" in done.stderr
    assert "the model is in out" in done.stdout


def test_a_plain_export_is_the_same_weights(run: Command, folder: Path, trained: Path) -> None:
    done = run("export", str(trained), "-o", "out")
    assert done.exit_code == 0, done.output
    assert (folder / "out/model.safetensors").read_bytes() == (
        trained / "final/model.safetensors"
    ).read_bytes()
    assert done.stderr == ""


def test_a_run_that_was_stopped_gives_its_newest_checkpoint(
    run: Command, folder: Path, trained: Path
) -> None:
    (trained / "final/config.json").unlink()
    done = run("export", str(trained), "-o", "out", "--card", "--license", "other")
    assert done.exit_code == 0, done.output
    _, described = load_checkpoint(folder / "out")
    assert described.card == {"step": 10}
    card = (folder / "out/README.md").read_text("utf-8")
    assert "| of the last validation | psnr_25 | 30 |" in card
    assert "license: other" in card
    assert "# mine\n" in card


def test_the_card_alone_goes_beside_the_model(run: Command, folder: Path, trained: Path) -> None:
    before = {path: path.read_bytes() for path in trained.rglob("*") if path.is_file()}
    assert run("export", str(trained), "--card").exit_code == 0
    card = trained / "final/README.md"
    assert "| of the last validation | psnr_25 | 40 |" in card.read_text("utf-8")
    now = {path: path.read_bytes() for path in trained.rglob("*") if path.is_file()}
    assert now.pop(card)
    assert now == before
    again = run("export", str(trained), "--card")
    assert again.exit_code == 2
    assert "exists already" in again.stderr


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ([], "give --output, --push or --card"),
        (["-o", "out", "--structured"], "give --prune"),
        (["--card", "--dtype", "float16"], "give --output or --push"),
        (["--push", "org/name"], "--push needs --license"),
        (["-o", "out", "--prune", "1.5"], "must lie in [0, 1)"),
        (["-o", "out", "--to", "diffusers"], "noise of every pixel"),
        (["-o", "out", "--check", "missing.png"], "does not exist"),
        (["-o", "runs"], "exists already"),
    ],
)
def test_wrong_options_are_refused_and_leave_nothing(
    run: Command, folder: Path, trained: Path, arguments: list[str], sentence: str
) -> None:
    before = sorted(folder.rglob("*"))
    done = run("export", str(trained), *arguments)
    assert done.exit_code == 2, done.output
    assert sentence in done.stderr
    assert done.stderr.count("\n") == 1
    assert sorted(folder.rglob("*")) == before


@pytest.mark.parametrize("source", ["nothing", "."])
def test_a_folder_without_a_model_is_refused(run: Command, source: str) -> None:
    done = run("export", source, "-o", "out")
    assert done.exit_code == 2
    assert f"'{source}" in done.stderr


class Fake:
    """The hub, written down."""

    def __init__(self, error: Exception | None = None) -> None:
        self.sent: dict[str, str] = {}
        self.private: bool | None = None
        self.error = error

    def create_repo(self, repo_id: str, *, private: bool | None, exist_ok: bool) -> None:
        self.private = private

    def upload_folder(self, *, repo_id: str, folder_path: Path, commit_message: str) -> str:
        if self.error is not None:
            raise self.error
        for path in Path(folder_path).iterdir():
            self.sent[path.name] = path.read_text("utf-8") if path.suffix == ".md" else ""
        return f"hub/{repo_id}"


def test_a_push_sends_model_and_card(
    folder: Path, trained: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    hub = Fake()
    settings = ExportSettings(push="org/mine", private=True, license="cc0-1.0", dtype="float16")
    perform(str(trained), settings, hub)
    assert set(hub.sent) == {"README.md", "config.json", "model.safetensors"}
    assert hub.private is True
    card = hub.sent["README.md"]
    assert yaml.safe_load(card.split("---\n")[1])["license"] == "cc0-1.0"
    assert 'snapshot_download("org/mine")' in card
    assert "pictures of noise" in card
    assert "the model is in hub/org/mine" in capsys.readouterr().out
    assert not list(folder.glob("*out*"))


def test_a_push_that_fails_keeps_the_folder(folder: Path, trained: Path) -> None:
    hub = Fake(ConnectionError("no route"))
    settings = ExportSettings(output="out", push="org/mine", license="other")
    with pytest.raises(InputError, match="cannot be reached"):
        perform(str(trained), settings, hub)
    assert (folder / "out/README.md").is_file()


def test_the_bundled_prior_goes_with_its_notice(run: Command, folder: Path) -> None:
    assert run("export", "prior", "-o", "out").exit_code == 0
    assert "non-commercial" in (folder / "out/NOTICE").read_text("utf-8")


@pytest.mark.slow
def test_a_trained_network_of_diffusers_goes_there_and_comes_back(
    run: Command, folder: Path
) -> None:
    """Trained by the loop, exported, loaded by Diffusers; and its samples are ours."""
    diffusers = pytest.importorskip("diffusers")
    from differential_diffusion.core import DDIM, sample, wait
    from differential_diffusion.core.ladder import vp_cosine
    from differential_diffusion.models import DenoiserModel, load_model

    (folder / "pictures").mkdir()
    rng = np.random.default_rng(0)
    for k in range(4):
        picture = np.kron(rng.integers(0, 256, (4, 4, 3)), np.ones((6, 6, 1))).astype(np.uint8)
        Image.fromarray(picture).save(folder / "pictures" / f"{k}.png")
    options = {
        "block_out_channels": [8, 16],
        "norm_num_groups": 4,
        "layers_per_block": 1,
        "down_block_types": ["DownBlock2D", "DownBlock2D"],
        "up_block_types": ["UpBlock2D", "UpBlock2D"],
    }
    config: dict[str, Any] = {
        "output": "run",
        "data": {"path": "pictures", "validation": 1, "patch_size": 16},
        "steps": 100,
        "batch_size": 8,
        "precision": "fp32",
        "network": {"diffusers": options},
        "objective": {"name": "v", "maps": False},
        "optimizer": {"name": "adamw", "learning_rate": 0.003, "warmup_steps": 5},
        "validation": {"every": 100, "crop": 16, "sample_steps": 2, "noise_levels_8bit": [25]},
        "checkpoint": {"every": 100},
    }
    (folder / "run.yaml").write_text(yaml.safe_dump(config))
    assert run("train", "run.yaml").exit_code == 0
    done = run("export", "run", "-o", "pipe", "--to", "diffusers", "--card")
    assert done.exit_code == 0, done.output
    assert "DDIMPipeline.from_pretrained" in (folder / "pipe/README.md").read_text("utf-8")

    pipe = diffusers.DDIMPipeline.from_pretrained("pipe")
    pipe.set_progress_bar_config(disable=True)
    generator = torch.Generator().manual_seed(5)
    theirs = pipe(generator=generator, num_inference_steps=50, output_type="pt").images
    assert ((theirs > 0) & (theirs < 1)).float().mean() > 0.3
    ladder = vp_cosine(50)
    top = ladder[:1].view(1, 1, 1, 1).float()
    start = torch.randn(1, 3, 16, 16, generator=torch.Generator().manual_seed(5))
    assert run("export", "pipe", "-o", "back", "--to", "checkpoint").exit_code == 0
    for place in ("run/final", "pipe", "back"):
        model = load_model(place, device="cpu", precision="fp32")
        assert isinstance(model, DenoiserModel)
        x = start * (1 + top * top).sqrt()
        ours = sample(model.denoiser, x, wait(top, None, ladder), DDIM())
        torch.testing.assert_close((ours / 2 + 0.5).clamp(0, 1), theirs, rtol=0, atol=1e-4)
