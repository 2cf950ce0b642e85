"""Training speed: our loop beside a plain loop on accelerate, and our U-Net beside Diffusers'.

Two questions. With one and the same `UNet2DModel`, how many pictures a second do the two loops do?
The plain loop is what Diffusers' example of unconditional training does, written anew: pictures
opened and flipped one by one, `DDPMScheduler.add_noise`, the error of the noise, clipped gradients,
AdamW, a cosine schedule, `EMAModel`. Each loop runs in processes of its own, in turn.

And how long does our U-Net take to the loss on held-out pictures that the `UNet2DModel` ends with?
Both are trained by our loop on the same objective (ddpm, one level a picture), ours for two thirds
of the other's time, each with its own recipe and its schedule run to the end.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from . import common

SIDE, BATCH = 32, 64
DIFFUSERS: dict[str, Any] = {
    "block_out_channels": [64, 128, 128],
    "down_block_types": ["DownBlock2D", "AttnDownBlock2D", "DownBlock2D"],
    "up_block_types": ["UpBlock2D", "AttnUpBlock2D", "UpBlock2D"],
    "layers_per_block": 2,
}
OURS = {
    "channels": [48, 96, 192],
    "blocks": [1, 2, 2],
    "patch": 1,
    "attention": [2],
    "embedding_channels": 64,
}
ADAM = {"name": "adamw", "learning_rate": 2e-4, "betas": [0.95, 0.999], "weight_decay": 1e-6}
MUON = {"name": "muon", "muon_learning_rate": 0.02}


def config(options: argparse.Namespace, output: Path, steps: int, network: str) -> Any:
    """A run of our loop."""
    from differential_diffusion.training import TrainingConfig

    of_diffusers = network == "diffusers"
    return TrainingConfig.model_validate(
        {
            "output": str(output),
            "data": {
                "path": str(options.data / "cifar10-train.tar.gz"),
                "cut": "fit",
                "patch_size": SIDE,
                "symmetries": "mirror",
                "validation": 512,
            },
            "steps": steps,
            "batch_size": BATCH,
            "precision": options.precision,
            "network": {"diffusers": DIFFUSERS} if of_diffusers else OURS,
            "objective": {"name": "ddpm", "maps": False},
            "noise": {"coloured": 0},
            "optimizer": {
                **(ADAM if of_diffusers else MUON),
                "warmup_steps": min(100, steps // 10),
                "ema_halflife": 100,
            },
            "validation": {
                "every": max(1, steps // 6),
                "pictures": 512,
                "crop": SIDE,
                "sample_steps": 10,
            },
            "checkpoint": {"every": steps},
        }
    )


def our_loop(options: argparse.Namespace, steps: int) -> float:
    """Pictures a second of our loop with the `UNet2DModel`."""
    from differential_diffusion.training import train

    times: list[float] = []

    class Enough(Exception):
        pass

    def stop(progress: Any) -> None:
        times.append(time.perf_counter())
        if progress.step == steps:
            raise Enough

    with tempfile.TemporaryDirectory() as folder, contextlib.suppress(Enough):
        train(config(options, Path(folder), 1000, "diffusers"), on_step=stop)
    return rate(times)


def plain_loop(options: argparse.Namespace, steps: int) -> float:
    """Pictures a second of the plain loop."""
    from accelerate import Accelerator
    from diffusers import DDPMScheduler, UNet2DModel
    from diffusers.optimization import get_scheduler
    from diffusers.training_utils import EMAModel

    from differential_diffusion.data.images import load_images

    images = [image.pixels for image in load_images(options.data / "cifar10-train.tar.gz").images]
    accelerator = Accelerator(mixed_precision="bf16" if options.precision == "bf16" else "no")
    torch.manual_seed(0)
    unet = UNet2DModel(sample_size=SIDE, in_channels=3, out_channels=3, **DIFFUSERS)
    scheduler = DDPMScheduler(num_train_timesteps=1000)
    optimizer = torch.optim.AdamW(
        unet.parameters(), lr=2e-4, betas=(0.95, 0.999), weight_decay=1e-6
    )
    average = EMAModel(unet.parameters(), use_ema_warmup=True, model_cls=UNet2DModel)
    loader = torch.utils.data.DataLoader(Pictures(images), batch_size=BATCH, shuffle=True)
    rates = get_scheduler("cosine", optimizer, num_warmup_steps=100, num_training_steps=1000)
    unet, optimizer, loader, rates = accelerator.prepare(unet, optimizer, loader, rates)
    times = []
    for clean in loader:
        noise = torch.randn_like(clean)
        t = torch.randint(0, 1000, (len(clean),), device=clean.device)
        with accelerator.accumulate(unet):
            predicted = unet(scheduler.add_noise(clean, noise, t), t).sample
            loss = torch.nn.functional.mse_loss(predicted, noise)
            accelerator.backward(loss)
            accelerator.clip_grad_norm_(unet.parameters(), 1.0)
            optimizer.step()
            rates.step()
            optimizer.zero_grad()
        average.step(unet.parameters())
        loss.detach().item()
        times.append(time.perf_counter())
        if len(times) == steps:
            break
    return rate(times)


class Pictures(torch.utils.data.Dataset[torch.Tensor]):
    """Pictures in [-1,1], half of them mirrored, by way of Pillow as transforms do it."""

    def __init__(self, images: list[Any]) -> None:
        self.images = images

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> torch.Tensor:
        from PIL import Image, ImageOps

        picture = Image.fromarray(self.images[index]).resize(
            (SIDE, SIDE), Image.Resampling.BILINEAR
        )
        if torch.rand(()) < 0.5:
            picture = ImageOps.mirror(picture)
        pixels = torch.from_numpy(np.array(picture)).permute(2, 0, 1).float() / 255
        return (pixels - 0.5) / 0.5


def rate(times: list[float]) -> float:
    """Pictures a second after the first fifth of the steps: the median over steps."""
    steps = np.diff(times[len(times) // 5 :])
    return float(BATCH / np.median(steps))


def flops(network: str) -> float:
    """Floating-point operations of a forward and backward pass for each picture, in 10⁹."""
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from torch.utils.flop_counter import FlopCounterMode

    from differential_diffusion.models.network import UNet2DConfig, build_network
    from differential_diffusion.nn import UNetConfig

    shape = UNet2DConfig(DIFFUSERS, 3, 0, SIDE) if network == "diffusers" else UNetConfig(**OURS)
    net = build_network(shape, timesteps=True)
    # The counter knows attention in this form alone.
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        net(torch.zeros(1, 3, SIDE, SIDE), torch.zeros(1, 1, 1, 1)).sum().backward()
    return counter.get_total_flops() / 1e9


def to_loss(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Train both networks, ours for two thirds of the time; their losses on held-out pictures."""
    rows: list[dict[str, Any]] = []
    for network in ("diffusers", "ours"):
        steps = options.steps if not rows else steps_within(options, 2 / 3 * rows[0]["seconds"])
        with tempfile.TemporaryDirectory() as folder:
            said = child(options, network, steps, Path(folder))
        rows.append({"network": network, "steps": steps, "flops": flops(network), **said})
        print(rows[-1], flush=True)
    return rows


def steps_within(options: argparse.Namespace, seconds: float) -> int:
    """How many steps our network does in so many seconds."""
    with tempfile.TemporaryDirectory() as folder:
        tried = child(options, "ours", 40, Path(folder))
    return int(40 * seconds / tried["seconds"])


def child(options: argparse.Namespace, kind: str, steps: int, folder: Path) -> dict[str, Any]:
    """What a process of its own says."""
    command = [sys.executable, "-m", "benchmarks.training", "--child", kind, "--steps", str(steps)]
    command += ["--data", str(options.data), "--threads", str(options.threads)]
    command += ["--precision", options.precision, "--output", str(folder)]
    done = subprocess.run(
        command, cwd=common.REPOSITORY, check=True, stdout=subprocess.PIPE, text=True
    )
    said: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return said


def trained(options: argparse.Namespace) -> dict[str, Any]:
    """Seconds that a run's steps took, and its losses on held-out pictures by step.

    A step is counted at the median of all, so that neither validations nor what else the machine
    does are.
    """
    from differential_diffusion.training import train

    times, curve = [], []

    def note(progress: Any) -> None:
        times.append(time.perf_counter())
        if progress.metrics:
            curve.append((progress.step, progress.metrics["loss_held_out"]))

    train(config(options, options.output, options.steps, options.child), on_step=note)
    step = float(np.median(np.diff(times)))
    return {"seconds": step * options.steps, "curve": [(n * step, loss) for n, loss in curve]}


def run(options: argparse.Namespace) -> None:
    """Measure, then write the report."""
    torch.set_num_threads(options.threads)
    if options.child in ("plain", "loop"):
        loop = plain_loop if options.child == "plain" else our_loop
        print(json.dumps({"rate": loop(options, options.steps)}))
        return
    if options.child:
        print(json.dumps(trained(options)))
        return
    speeds = []
    for precision in ("fp32", "bf16"):
        chosen = argparse.Namespace(**vars(options) | {"precision": precision})
        rates: dict[str, list[float]] = {"plain": [], "loop": []}
        for turn in range(options.turns):
            for kind in sorted(rates, reverse=bool(turn % 2)):
                rates[kind].append(child(chosen, kind, options.speed_steps, Path())["rate"])
                print(precision, kind, f"{rates[kind][-1]:.1f} pictures/s", flush=True)
        ratios = [ours / plain for ours, plain in zip(rates["loop"], rates["plain"], strict=True)]
        speeds.append(
            [
                precision,
                *(statistics.median(of) for of in rates.values()),
                statistics.median(ratios),
            ]
        )
    losses = to_loss(options)
    parts = [
        " ".join((__doc__ or "").split("\n\n", 1)[1].split()),
        common.table(
            ["precision", "plain loop, pictures/s", "our loop, pictures/s", "ratio"],
            [[name, f"{a:.1f}", f"{b:.1f}", f"{ratio:.2f}"] for name, a, b, ratio in speeds],
        ),
        common.table(
            ["network", "GFLOP a picture", "steps", "seconds", "loss on held-out pictures"],
            [
                [
                    {"diffusers": "`UNet2DModel`, adamw", "ours": "**our U-Net, muon**"}[
                        row["network"]
                    ],
                    f"{row['flops']:.2f}",
                    str(row["steps"]),
                    f"{row['seconds']:.0f}",
                    f"{row['curve'][-1][1]:.4f}",
                ]
                for row in losses
            ],
        ),
    ]
    save_curves(options.output / "training.png", losses)
    common.write_report(
        options,
        "training",
        "Training",
        parts,
        model="Pictures of CIFAR-10, batches of 64",
        extra=[f"--steps {options.steps}"],
        alt="the loss on held-out pictures by time, of both networks",
    )


def save_curves(path: Path, losses: list[dict[str, Any]]) -> None:
    """Losses by time."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(6, 4), layout="constrained")
    for row in losses:
        axes.plot(*zip(*row["curve"], strict=True), "o-", label=row["network"])
    axes.axhline(losses[0]["curve"][-1][1], color="grey", linewidth=0.8)
    axes.set(xlabel="seconds of training", ylabel="loss on held-out pictures", yscale="log")
    axes.legend()
    common.save_figure(path, figure)


def main(argv: list[str] | None = None) -> None:
    """Read the options and run."""
    parser = common.parser(__doc__)
    parser.add_argument("--steps", type=int, default=2000, help="of Diffusers' network")
    parser.add_argument("--speed-steps", type=int, default=30, help="of each turn of the loops")
    parser.add_argument("--turns", type=int, default=3, help="of each loop and precision")
    parser.add_argument("--child", default="", help=argparse.SUPPRESS)
    run(parser.parse_args(argv))


if __name__ == "__main__":
    main()
