"""The training loop, on accelerate: resumable to the bit on one CPU."""

from __future__ import annotations

import hashlib
import json
import math
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import DataLoaderConfiguration, DistributedDataParallelKwargs
from torch import Tensor
from torch.optim.swa_utils import AveragedModel
from torch.utils.data import DataLoader, Subset

from ..core.noise import camera_noise, derive_seed, generator
from ..data.crops import RandomCrops
from ..data.images import NamedImage, load_images
from ..errors import InputError
from ..files import write_atomically
from ..models.checkpoint import CheckpointConfig, load_checkpoint, save_checkpoint
from ..models.device import bf16_is_fast
from ..nn import SigmaMapUNet, channels_last
from .config import OptimizerConfig, TrainingConfig, changed_key
from .loss import sigma_map_loss
from .muon import Muon
from .state import (
    checkpoint_folder,
    list_checkpoints,
    load_info,
    load_state,
    prune_checkpoints,
    save_state,
    whole_folder,
)
from .validation import draw_grid, validate

_STREAM_FIELDS, _STREAM_NOISE, _STREAM_COLOURS = 1, 2, 3
_DIVERGED = "the {} became {} at step {}: lower the optimizer's learning rates"


@dataclass
class Progress:
    """What the loop reports after each step; `metrics` is filled when validation has run."""

    step: int
    steps: int
    loss: float
    images_per_second: float
    learning_rate_factor: float
    metrics: dict[str, float] = field(default_factory=dict)


def learning_rate_factor(step: int, steps: int, config: OptimizerConfig) -> float:
    """Warm-up times plateau-and-cosine: 1 until the last `decay` share, then to zero at `steps`."""
    warmup = min(1.0, (step + 1) / max(1, config.warmup_steps))
    done = max(0.0, (step / steps - (1 - config.decay)) / config.decay)
    return warmup * 0.5 * (1 + math.cos(math.pi * min(1.0, done)))


def ema_decay(step: int, halflife: float) -> float:
    """Decay whose half-life is `halflife` steps, or a tenth of the steps done if that is less."""
    return float(0.5 ** (1 / max(1e-8, min(halflife, 0.1 * (step + 1)))))


def build_optimizers(network: SigmaMapUNet, config: OptimizerConfig) -> list[torch.optim.Optimizer]:
    """The optimizers of a run, each group with its `initial_lr`."""
    kernels = network.residual_kernels() if config.name == "muon" else []
    taken = {id(kernel) for kernel in kernels}
    rest = [parameter for parameter in network.parameters() if id(parameter) not in taken]
    optimizers: list[torch.optim.Optimizer] = [
        torch.optim.AdamW(
            rest,
            lr=config.learning_rate,
            betas=config.betas,
            weight_decay=config.weight_decay,
            fused=True,
        )
    ]
    if kernels:
        optimizers.append(
            Muon(kernels, lr=config.muon_learning_rate, weight_decay=config.muon_weight_decay)
        )
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["initial_lr"] = group["lr"]
    return optimizers


def train(
    config: TrainingConfig,
    *,
    resume: bool = True,
    on_step: Callable[[Progress], None] | None = None,
    on_note: Callable[[str], None] | None = None,
) -> Path:
    """Train a σ-map model; returns the folder of the finished checkpoint.

    Every random number is a function of (seed, step), and a checkpoint holds weights, EMA and
    optimizer state: killed at any moment and started again, the run ends in the weights of
    the uninterrupted one (bit for bit on a CPU in fp32 with the same number of threads).

    Args:
        config: the run; `config.output` receives checkpoints, metrics.jsonl, sample grids and
            `final/`, the model for `load_model`.
        resume: go on from the newest checkpoint in `config.output`.
        on_step: called after every optimizer step on the main process.
        on_note: called with a sentence about pictures that were left out, if there are any.

    Raises:
        InputError: for unusable data, an output folder that cannot be written, a checkpoint of
            another network or configuration, or `resume=False` where checkpoints exist.
        FloatingPointError: if the loss is no longer finite.
    """
    with _denormals_flushed():
        run = _Run(config, resume)
        if on_note is not None and run.skipped and run.accelerator.is_main_process:
            on_note(_describe_skipped(run.skipped))
        for progress in run.steps():
            if on_step is not None and run.accelerator.is_main_process:
                on_step(progress)
        return run.finish()


def _describe_skipped(skipped: dict[str, str]) -> str:
    name, why = next(iter(skipped.items()))
    return f"pictures left out: {len(skipped)}, the first is '{name}' ({why})."


def _digest(images: Sequence[NamedImage]) -> str:
    """What tells one set of training pictures from another: names and sizes."""
    listed = sorted(f"{image.name} {image.pixels.shape}" for image in images)
    return hashlib.sha256("\n".join(listed).encode()).hexdigest()


@contextmanager
def _denormals_flushed() -> Iterator[None]:
    """Numbers too small to count become 0: dying activations would slow a CPU a hundredfold."""
    before = float(torch.tensor(1e-40) * 1) == 0
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(before)


class _Run:
    """State of one training run."""

    def __init__(self, config: TrainingConfig, resume: bool) -> None:
        self.config = config
        self.accelerator = Accelerator(
            mixed_precision="no",
            dataloader_config=DataLoaderConfiguration(even_batches=False),
            # The network's one buffer is a constant; it need not be sent around.
            kwargs_handlers=[DistributedDataParallelKwargs(broadcast_buffers=False)],
        )
        device = self.accelerator.device
        if config.batch_size % self.accelerator.num_processes:
            raise InputError(
                f"batch_size {config.batch_size} is no multiple of the "
                f"{self.accelerator.num_processes} processes: change one of them"
            )
        self.autocast = config.precision == "bf16" or (
            config.precision == "auto" and bf16_is_fast(device)
        )
        existing = self._existing(resume)
        collection = load_images(config.data.path, min_size=config.data.patch_size)
        self.skipped = collection.skipped
        self.train_images, self.held_out = collection.split(config.data.validation)
        self.data_digest = _digest(self.train_images)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(derive_seed(config.seed))
            network = SigmaMapUNet(config.network.build())
        if config.init_from is not None and not existing:
            self._warm_start(network, config.init_from)
        network = channels_last(network.to(device))
        self.ema = AveragedModel(network, multi_avg_fn=self._average, use_buffers=False)
        self.ema.n_averaged.fill_(1)  # average from the start; at 0 it would copy, on resume too
        optimizers = build_optimizers(network, config.optimizer)
        self.bare, self.step, self.seconds = network, 0, 0.0
        if existing:
            self._resume(existing[-1], optimizers)
        self._forget_later_metrics()
        self.network = self.accelerator.prepare(network)
        self.optimizers = [self.accelerator.prepare(optimizer) for optimizer in optimizers]
        self.forward = torch.compile(self.network) if config.compile else self.network
        self.fields = config.noise.build()

    def _existing(self, resume: bool) -> list[Path]:
        """Checkpoints to go on from; makes the output folder, so that a run can save later."""
        output = self.config.output
        try:
            output.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(
                f"the output folder '{output}' cannot be made ({error.strerror}): choose another"
            ) from None
        if not os.access(output, os.W_OK):
            raise InputError(f"the output folder '{output}' is not writable: choose another")
        existing = list_checkpoints(output)
        if existing and not resume:
            raise InputError(
                f"'{output}' already holds checkpoints: resume, or choose another output"
            )
        return existing

    def _resume(self, folder: Path, optimizers: list[torch.optim.Optimizer]) -> None:
        info = load_info(folder)
        key = changed_key(info.get("config", {}), self.config)
        if key is not None:
            raise InputError(
                f"the run in '{self.config.output}' was started with another '{key}': set it "
                "back, or choose another output, with init_from to start from these weights"
            )
        if info.get("data", self.data_digest) != self.data_digest:
            raise InputError(
                f"the pictures in '{self.config.data.path}' are not those that the run in "
                f"'{self.config.output}' was started with: restore them, or choose another output"
            )
        load_state(folder, self.bare, self.ema.module, optimizers)
        self.step, self.seconds = int(info["step"]), float(info["seconds"])

    def _forget_later_metrics(self) -> None:
        """Drop the metrics of steps that are about to be run again."""
        path = self.config.output / "metrics.jsonl"
        if path.is_file() and self.accelerator.is_main_process:
            lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
            whole = [line for line in lines if line.endswith("\n")]
            kept = [line for line in whole if json.loads(line)["step"] <= self.step]
            write_atomically(path, "".join(kept).encode())

    @staticmethod
    def _warm_start(network: SigmaMapUNet, source: Path) -> None:
        """Take over weights; blocks that the source lacks stay as they begin, as identities."""
        loaded, _ = load_checkpoint(source)
        shape, wanted = loaded.config, network.config
        alike = shape.channels == wanted.channels and replace(wanted, blocks=shape.blocks) == shape
        if not alike or any(a > b for a, b in zip(shape.blocks, wanted.blocks, strict=True)):
            raise InputError(
                f"init_from '{source}' has another shape than the network of this configuration: "
                "only the numbers of blocks may grow"
            )
        network.load_state_dict(loaded.state_dict(), strict=False)

    @torch.no_grad()
    def _average(self, averaged: Any, current: Any, _count: Any) -> None:
        weight = 1 - ema_decay(self.step, self.config.optimizer.ema_halflife)
        torch._foreach_lerp_(averaged, current, weight)

    def _loader(self) -> Any:
        config = self.config
        crops = RandomCrops(
            self.train_images,
            config.data.patch_size,
            config.steps * config.batch_size,
            config.seed,
        )
        rest = Subset(crops, range(self.step * config.batch_size, len(crops)))
        loader = DataLoader(
            rest,
            batch_size=config.batch_size // self.accelerator.num_processes,
            num_workers=config.data.workers,
            persistent_workers=config.data.workers > 0,
            pin_memory=self.accelerator.device.type == "cuda",
        )
        return self.accelerator.prepare(loader)

    def steps(self) -> Iterator[Progress]:
        """Run to the end, yielding a `Progress` after every step."""
        config, started, mean_loss = self.config, time.monotonic() - self.seconds, math.nan
        recent = (time.monotonic(), self.step)
        for batch in self._loader():
            factor = learning_rate_factor(self.step, config.steps, config.optimizer)
            for optimizer in self.optimizers:
                for group in optimizer.param_groups:
                    group["lr"] = factor * group["initial_lr"]
            loss = self._update(batch)
            self.step += 1
            self.seconds = time.monotonic() - started
            mean_loss = loss if math.isnan(mean_loss) else 0.99 * mean_loss + 0.01 * loss
            now = time.monotonic()
            speed = (self.step - recent[1]) * config.batch_size / max(1e-9, now - recent[0])
            if now - recent[0] > 30:
                recent = (now, self.step)
            progress = Progress(self.step, config.steps, mean_loss, speed, factor)
            if self._due(config.validation.every):
                progress.metrics = self._validate(progress)
            if self._due(config.checkpoint.every, config.checkpoint.keep_steps):
                self._save()
            yield progress

    def _due(self, every: int, also: tuple[int, ...] = ()) -> bool:
        due = self.step % every == 0 or self.step in (self.config.steps, *also)
        return self.accelerator.is_main_process and due

    def _update(self, x0: Tensor) -> float:
        config, device = self.config, self.accelerator.device
        sigma, noise = self._draw(x0)
        x0 = x0.to(memory_format=torch.channels_last)
        for optimizer in self.optimizers:
            optimizer.zero_grad(set_to_none=True)
        with torch.autocast(device.type, torch.bfloat16, enabled=self.autocast):
            loss = sigma_map_loss(self.forward, x0, sigma, noise, config.sigma_data)
        self.accelerator.backward(loss)
        norm = self.accelerator.clip_grad_norm_(
            self.network.parameters(), config.optimizer.max_grad_norm
        )
        value = loss.item()
        for name, number in (("loss", value), ("gradient", float(norm or 0))):
            if not math.isfinite(number):
                raise FloatingPointError(_DIVERGED.format(name, number, self.step))
        for optimizer in self.optimizers:
            optimizer.step()
        self.ema.update_parameters(self.bare)
        return value

    def _draw(self, x0: Tensor) -> tuple[Tensor, Tensor]:
        """This step's σ fields and noise.

        Every process draws the whole batch's and takes its share: their number does not change
        the run.
        """
        config, device, share = self.config, self.accelerator.device, len(x0)
        processes, index = self.accelerator.num_processes, self.accelerator.process_index
        rng = generator(_STREAM_FIELDS, config.seed, self.step)
        sigma = self.fields.sample(share * processes, x0.shape[-2], x0.shape[-1], rng)
        kind = device.type if device.type == "cuda" else "cpu"
        rng = generator(_STREAM_NOISE, config.seed, self.step, device=kind)
        noise = torch.randn(share * processes, *x0.shape[1:], generator=rng, device=kind)
        rng = generator(_STREAM_COLOURS, config.seed, self.step)
        coloured = torch.rand(len(sigma), generator=rng) < config.noise.coloured
        coloured &= sigma.amax((1, 2, 3)) < 1
        if coloured.any() and noise.shape[1] == 3:
            noise[coloured] = camera_noise(noise[coloured].cpu(), rng).to(noise.device)
        mine = slice(index * share, (index + 1) * share)
        return sigma[mine].to(device), noise[mine].to(device)

    @property
    def averaged(self) -> SigmaMapUNet:
        module = self.ema.module
        assert isinstance(module, SigmaMapUNet)
        return module

    def _validate(self, progress: Progress) -> dict[str, float]:
        config = self.config
        metrics = validate(self.averaged, self.held_out, config.validation, config.sigma_data)
        record = {"step": self.step, "loss": progress.loss, "seconds": self.seconds, **metrics}
        with open(config.output / "metrics.jsonl", "a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")
        draw_grid(
            self.averaged,
            self.held_out,
            self.checkpoint_config(),
            config.validation,
            config.output / "samples" / f"step-{self.step:08d}.png",
        )
        return metrics

    def checkpoint_config(self, **card: Any) -> CheckpointConfig:
        noise = self.config.noise
        return CheckpointConfig(
            self.config.network.build(),
            self.config.sigma_data,
            noise.sigma_min,
            noise.sigma_max,
            card=card,
        )

    def _save(self) -> None:
        config = self.config
        info = {
            "step": self.step,
            "seconds": self.seconds,
            "data": self.data_digest,
            "config": config.model_dump(mode="json"),
        }
        model = self.checkpoint_config(step=self.step)
        with whole_folder(checkpoint_folder(config.output, self.step)) as temporary:
            save_state(temporary, self.bare, self.averaged, self.optimizers, info)
            save_checkpoint(temporary, self.averaged, model, torch.float32)
        prune_checkpoints(config.output, config.checkpoint.keep, config.checkpoint.keep_steps)

    def finish(self) -> Path:
        """Write the averaged model to `final/`, unless its weights are no numbers."""
        if not all(bool(p.isfinite().all()) for p in self.averaged.parameters()):
            raise FloatingPointError(_DIVERGED.format("average of the weights", "nan", self.step))
        final = self.config.output / "final"
        if self.accelerator.is_main_process:
            card = {"step": self.step, "seconds": round(self.seconds)}
            save_checkpoint(final, self.averaged, self.checkpoint_config(**card), torch.float32)
        self.accelerator.wait_for_everyone()
        return final
