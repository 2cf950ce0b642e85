"""The training loop, on accelerate: resumable to the bit on one CPU."""

from __future__ import annotations

import json
import math
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import DataLoaderConfiguration, DistributedDataParallelKwargs
from torch import Tensor
from torch.optim.swa_utils import AveragedModel
from torch.utils.data import DataLoader, Subset

from ..core.noise import derive_seed
from ..errors import InputError
from ..models.checkpoint import CheckpointConfig, save_checkpoint
from ..models.device import bf16_is_fast
from ..models.network import Network, build_network
from ..nn import Conditions
from .config import TrainingConfig, changed_key
from .feed import Draws, Pictures
from .guards import denormals_flushed, signals_noted
from .optimizers import build_optimizers, ema_decay, learning_rate_factor
from .overfitting import report_overfitting
from .state import (
    METRICS_FILE,
    checkpoint_folder,
    forget_later,
    list_checkpoints,
    load_info,
    load_state,
    prune_checkpoints,
    save_state,
    warm_start,
    whole_folder,
)
from .tracking import Trackers
from .validation import Validator

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


class TrainingStopped(Exception):
    """A signal asked the run to stop; it has saved its state.

    Attributes:
        step: where it stopped.
        signal: which signal.
    """

    def __init__(self, step: int, number: int) -> None:
        super().__init__(f"stopped after step {step}; the same run goes on from there")
        self.step, self.signal = step, number


def train(
    config: TrainingConfig,
    *,
    resume: bool = True,
    on_step: Callable[[Progress], None] | None = None,
    on_note: Callable[[str], None] | None = None,
) -> Path:
    """Train a model; returns the folder of the finished checkpoint.

    Every random number is a function of (seed, step), and a checkpoint holds weights, EMA and
    optimizer state: killed at any moment and started again, the run ends in the weights of
    the uninterrupted one (bit for bit on a CPU in fp32 with the same number of threads). At
    SIGTERM or SIGINT it saves after the step at hand and stops; at a second one at once.

    Args:
        config: the run; `config.output` receives checkpoints, metrics.jsonl, pictures and
            `final/`, the model for `load_model`.
        resume: go on from the newest checkpoint in `config.output`.
        on_step: called after every optimizer step on the main process.
        on_note: called with a sentence about pictures that were left out, an early stop, and so on.

    Raises:
        InputError: for unusable data, an output folder that cannot be written, a checkpoint of
            another network or configuration, or `resume=False` where checkpoints exist.
        FloatingPointError: if the loss is no longer finite.
        TrainingStopped: after a signal.
    """
    with denormals_flushed(), torch.random.fork_rng(), signals_noted() as stopping:
        run = _Run(config, resume, stopping)
        note = on_note if on_note and run.accelerator.is_main_process else lambda text: None
        if run.pictures.skipped:
            note(run.pictures.describe_skipped())
        for progress in run.steps():
            if on_step is not None and run.accelerator.is_main_process:
                on_step(progress)
        if run.stale:
            note(f"stopped early after step {run.step}: {run.stale}.")
        final = run.finish()
        if run.validator is not None:
            note(run.judge(run.validator))
        return final


class _Run:
    """State of one training run."""

    def __init__(self, config: TrainingConfig, resume: bool, stopping: list[int]) -> None:
        self.config, self.stopping = config, stopping
        self.accelerator = Accelerator(
            mixed_precision="no",
            dataloader_config=DataLoaderConfiguration(even_batches=False),
            # The network's one buffer is a constant; it need not be sent around.
            kwargs_handlers=[DistributedDataParallelKwargs(broadcast_buffers=False)],
        )
        self.device = device = self.accelerator.device
        self.dtype = torch.float64 if config.precision == "fp64" else torch.float32
        self.turns = config.accumulation
        self.part = self._part()
        self.autocast = config.precision == "bf16" or (
            config.precision == "auto" and bf16_is_fast(device)
        )
        existing = self._existing(resume)
        self.pictures = Pictures(config.data)
        self.draws = Draws(config, len(self.pictures.classes))
        self.objective = config.goal()
        self.shape = self._shape()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(derive_seed(config.seed))
            network = build_network(self.shape, timesteps=self.objective.form.told == "timestep")
        if config.init_from is not None and not existing:
            warm_start(network, config.init_from)
        network = network.to(device, self.dtype)
        if config.gradient_checkpointing:
            network.checkpoint_gradients()
        self.ema = AveragedModel(network, multi_avg_fn=self._average, use_buffers=False)
        self.ema.n_averaged.fill_(1)  # average from the start; at 0 it would copy, on resume too
        self.ema.eval()
        optimizers = build_optimizers(network, config.optimizer)
        self.bare, self.step, self.seconds = network.train(), 0, 0.0
        self.best, self.waited, self.stale = math.inf, 0, ""
        if existing:
            self._resume(existing[-1], optimizers)
        if self.accelerator.is_main_process:
            forget_later(config.output / METRICS_FILE, self.step)
        self.network = self.accelerator.prepare(network)
        self.optimizers = [self.accelerator.prepare(optimizer) for optimizer in optimizers]
        self.forward = torch.compile(self.network) if config.compile else self.network
        main = self.accelerator.is_main_process
        self.validator = Validator(config, self.pictures, self.objective) if main else None
        self.trackers = Trackers(config, resumed=bool(existing)) if main else None

    def _part(self) -> int:
        """Pictures of a step that one process takes in one turn."""
        parts = self.accelerator.num_processes * self.turns
        if self.config.batch_size % parts:
            raise InputError(
                f"batch_size {self.config.batch_size} is no multiple of the {parts} parts that "
                f"{self.accelerator.num_processes} processes and accumulation {self.turns} make: "
                "change one of them"
            )
        return int(self.config.batch_size // parts)

    def _shape(self) -> Any:
        try:
            return self.config.shape(**self.pictures.told)
        except ValueError as error:
            raise InputError(str(error)) from None

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
        if info.get("data", self.pictures.digest) != self.pictures.digest:
            raise InputError(
                f"the pictures in '{self.config.data.path}' are not those that the run in "
                f"'{self.config.output}' was started with: restore them, or choose another output"
            )
        load_state(folder, self.bare, self.ema.module, optimizers)
        self.step, self.seconds = int(info["step"]), float(info["seconds"])
        self.best, self.waited = info.get("best", math.inf), info.get("waited", 0)

    @torch.no_grad()
    def _average(self, averaged: Any, current: Any, _count: Any) -> None:
        weight = 1 - ema_decay(self.step, self.config.optimizer.ema_halflife)
        torch._foreach_lerp_(averaged, current, weight)

    def _loader(self) -> Any:
        config = self.config
        items = self.pictures.items(config.steps * config.batch_size, config.seed)
        rest = Subset(items, range(self.step * config.batch_size, len(items)))
        loader = DataLoader(
            rest,
            batch_size=self.part,
            num_workers=config.data.workers,
            persistent_workers=config.data.workers > 0,
            pin_memory=self.device.type == "cuda",
        )
        return iter(self.accelerator.prepare(loader))

    def steps(self) -> Iterator[Progress]:
        """Run to the end, yielding a `Progress` after every step.

        Raises:
            TrainingStopped: after a signal.
        """
        config, started, mean_loss = self.config, time.monotonic() - self.seconds, math.nan
        recent = (time.monotonic(), self.step)
        batches = self._loader()
        while self.step < config.steps and not self.stale:
            factor = learning_rate_factor(self.step, config.steps, config.optimizer)
            for optimizer in self.optimizers:
                for group in optimizer.param_groups:
                    group["lr"] = factor * group["initial_lr"]
            loss = self._update(batches)
            self.step += 1
            self.seconds = time.monotonic() - started
            mean_loss = loss if math.isnan(mean_loss) else 0.99 * mean_loss + 0.01 * loss
            now = time.monotonic()
            speed = (self.step - recent[1]) * config.batch_size / max(1e-9, now - recent[0])
            if now - recent[0] > 30:
                recent = (now, self.step)
            progress = Progress(self.step, config.steps, mean_loss, speed, factor)
            stopped = self._agreed(bool(self.stopping))
            if self._due(config.validation.every):
                self._validate(progress)
            if self._due(config.checkpoint.every, config.checkpoint.keep_steps) or stopped:
                self._save()
            yield progress
            if stopped:
                raise TrainingStopped(self.step, next(iter(self.stopping), signal.SIGTERM))

    def _agreed(self, flag: bool) -> bool:
        """Whether any process raises the flag."""
        if self.accelerator.num_processes == 1:
            return flag
        total = self.accelerator.reduce(torch.tensor(float(flag), device=self.device))
        return bool(total > 0)

    def _due(self, every: int, also: tuple[int, ...] = ()) -> bool:
        return self.step % every == 0 or self.step in (self.config.steps, *also)

    def _update(self, batches: Iterator[dict[str, Tensor]]) -> float:
        """One step of the optimizers; this process's loss."""
        config, device, turns = self.config, self.device, self.turns
        for optimizer in self.optimizers:
            optimizer.zero_grad(set_to_none=True)
        drawn: tuple[Tensor, Tensor] | None = None
        value = torch.zeros((), device=device)
        for turn in range(turns):
            batch = next(batches)
            drawn = drawn or self.draws.noise(self.step, batch["x0"].shape[1:], device)
            part = turn * self.accelerator.num_processes + self.accelerator.process_index
            mine = slice(part * self.part, (part + 1) * self.part)
            sigma, noise = (tensor[mine].to(self.dtype) for tensor in drawn)
            x0 = batch["x0"].to(device, self.dtype, memory_format=torch.channels_last)
            conditions = self.draws.conditions(batch, self.step, mine, device)
            if config.network.dropout > 0 or config.network.diffusers is not None:
                self.draws.seed_dropout(self.step, part)
            last = turn == turns - 1
            with nullcontext() if last else self.accelerator.no_sync(self.network):
                loss = self._loss(x0, sigma, noise, conditions) / turns
                self.accelerator.backward(loss)
            value += loss.detach()
        norm = self.accelerator.clip_grad_norm_(
            self.network.parameters(), config.optimizer.max_grad_norm
        )
        number = float(value)
        for name, figure in (("loss", number), ("gradient", float(norm or 0))):
            if not math.isfinite(figure):
                raise FloatingPointError(_DIVERGED.format(name, figure, self.step))
        for optimizer in self.optimizers:
            optimizer.step()
        self.ema.update_parameters(self.bare)
        return number

    def _loss(self, x0: Tensor, sigma: Tensor, noise: Tensor, conditions: Conditions) -> Tensor:
        def network(x: Tensor, c_noise: Tensor) -> Tensor:
            out: Tensor = self.forward(x, c_noise, conditions)
            return out

        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.autocast):
            return self.objective.loss(network, x0, sigma, noise).mean()

    @property
    def averaged(self) -> Network:
        module: Network = self.ema.module  # type: ignore[assignment]
        return module

    def _validate(self, progress: Progress) -> None:
        """Judge the averaged weights, on the main process; all learn whether to stop."""
        if self.validator is not None and self.trackers is not None:
            model = self.checkpoint_config()
            metrics = self.validator.measure(self.averaged, self.autocast)
            progress.metrics = metrics
            record = {"step": self.step, "loss": progress.loss, "seconds": self.seconds, **metrics}
            with open(self.config.output / METRICS_FILE, "a", encoding="utf-8") as file:
                file.write(json.dumps(record) + "\n")
            picture = self.config.output / "samples" / f"step-{self.step:08d}.png"
            self.validator.draw(self.averaged, model, picture, self.autocast)
            self.trackers.log(record, picture)
            loss = metrics["loss_held_out"]
            self.waited = 0 if loss < self.best else self.waited + 1
            self.best = min(self.best, loss)
        patience = self.config.validation.patience
        if patience and self._agreed(self.waited >= patience):
            self.stale = f"the loss on held-out pictures has not fallen for {patience} validations"

    def checkpoint_config(self, **card: Any) -> CheckpointConfig:
        """The description of the model as it is."""
        low, high = self.config.sigma_range
        side = self.config.data.patch_size
        return CheckpointConfig(
            self.shape,
            self.objective.form,
            low,
            high,
            maps=self.config.objective.maps,
            classes=self.pictures.classes,
            size=(side, side),
            card=card,
        )

    def _save(self) -> None:
        if not self.accelerator.is_main_process:
            return
        config = self.config
        info = {
            "step": self.step,
            "seconds": self.seconds,
            "best": self.best,
            "waited": self.waited,
            "data": self.pictures.digest,
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
            if self.trackers is not None:
                self.trackers.close()
        self.accelerator.wait_for_everyone()
        return final

    def judge(self, validator: Validator) -> str:
        """Whether the model over-fits, in a sentence; see `report_overfitting`."""
        model, output = self.checkpoint_config(), self.config.output
        found = report_overfitting(
            validator, self.averaged, model, output, step=self.step, bf16=self.autocast
        )
        return f"{found.sentence()}."
