"""What every run has: processes, checkpoints, the average of the weights, the walk over steps.

Resumable to the bit on one CPU.
"""

from __future__ import annotations

import math
import signal
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, nullcontext
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any, Generic, TypeVar

import torch
from accelerate import Accelerator
from accelerate.utils import (
    DataLoaderConfiguration,
    DistributedDataParallelKwargs,
    InitProcessGroupKwargs,
    gather_object,
)
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel
from torch.utils.data import DataLoader, Subset

from ..errors import InputError, out_of_memory
from ..models.device import bf16_is_fast
from .config import RunConfig
from .feed import Pictures, fetched_ahead
from .guards import denormals_flushed, freed_memory_kept, signals_left_to_parent, signals_noted
from .optimizers import build_optimizers, ema_decay, learning_rate_factor
from .records import append_record, forget_later, written
from .resume import changed_key
from .state import (
    checkpoint_folder,
    existing_checkpoints,
    load_best,
    load_info,
    load_state,
    prune_checkpoints,
    remove_stale,
    save_best,
    save_state,
    whole_folder,
)
from .tracking import Trackers

_DIVERGED = "the {} became {} at step {}: lower the optimizer's learning rates"

Note = Callable[[str], None]
C = TypeVar("C", bound=RunConfig)
B = TypeVar("B")


@dataclass
class Progress:
    """What the loop reports after each step; `metrics` is filled when validation has run."""

    step: int
    steps: int
    loss: float
    images_per_second: float
    learning_rate_factor: float
    metrics: dict[str, float] = field(default_factory=dict)

    @property
    def label(self) -> str:
        """The step and the loss."""
        return f"step {self.step}/{self.steps}  loss {self.loss:.4f}"

    @property
    def speed(self) -> str:
        """Pictures a second."""
        return f"{self.images_per_second:.0f} images/s"

    def line(self) -> str:
        """All of it, for a log."""
        figures = [f"{name} {value:.2f}" for name, value in self.metrics.items()]
        return "  ".join([self.label, self.speed, *figures])


class TrainingStopped(Exception):
    """A signal asked the run to stop; it has saved its state.

    Attributes:
        step: where it stopped.
        signal: which signal.
    """

    def __init__(self, step: int, number: int) -> None:
        super().__init__(f"stopped after step {step}; the same run goes on from there")
        self.step, self.signal = step, number


class Run(ABC, Generic[C, B]):
    """State of one training run.

    A subclass reads its pictures, builds its network, hands it to `begin`, and says what a step
    needs, what is lost, judged and saved.

    Args:
        config: the run.
        resume: go on from the newest checkpoint.
        stopping: receives signals to stop, see `guards.signals_noted`.
        note: told sentences about what happens, on the main process.
    """

    pictures: Pictures

    def __init__(self, config: C, resume: bool, stopping: list[int], note: Note) -> None:
        self.config, self.stopping = config, stopping
        self.accelerator = Accelerator(
            mixed_precision="no",
            dataloader_config=DataLoaderConfiguration(even_batches=False),
            # The network's buffers are constants; they need not be sent around.
            kwargs_handlers=[
                DistributedDataParallelKwargs(broadcast_buffers=False),
                # The others wait while the main process validates, or encodes a data set.
                InitProcessGroupKwargs(timeout=timedelta(hours=12)),
            ],
        )
        self.accelerator.wait_for_everyone()  # so that what one refuses all get to see
        self.device = device = self.accelerator.device
        if device.type == "cpu":
            freed_memory_kept()
        self.main = self.accelerator.is_main_process
        self.note: Note = note if self.main else lambda text: None
        self.dtype = torch.float64 if config.precision == "fp64" else torch.float32
        self.turns = config.accumulation
        self.part = self._part()
        self.autocast = config.precision == "bf16" or (
            config.precision == "auto" and bf16_is_fast(device)
        )
        self.existing = existing_checkpoints(config.output, resume)
        self.step, self.seconds = 0, 0.0
        self.best, self.waited, self.stale = math.inf, 0, ""

    @abstractmethod
    def prepare(self, batch: dict[str, Tensor], step: int, part: slice) -> B:
        """What the loss of a part of a step's batch needs, on the device; steps count from 0.

        On a GPU it is called in another thread, while the step before is computed.
        """

    @abstractmethod
    def loss(self, batch: B, part: int) -> Tensor:
        """The mean loss of a part of this step's batch, `part` counting from 0 over all turns."""

    @abstractmethod
    def measure(self) -> dict[str, float]:
        """Figures of the averaged weights, "loss_held_out" among them; on the main process."""

    @abstractmethod
    def draw(self, path: Path) -> None:
        """Write a picture of what the averaged weights do; on the main process."""

    @abstractmethod
    def save_model(self, folder: Path, **card: Any) -> None:
        """Write the averaged weights as others load them."""

    def judge(self) -> str:
        """What is to be said of the finished model, in a sentence; on the main process."""
        return ""

    def begin(self, network: Any) -> None:
        """Take over the network, and what a checkpoint holds, if there is one to go on from."""
        config = self.config
        self._check_agreement()
        network = network.to(self.device, self.dtype)
        if config.gradient_checkpointing:
            network.checkpoint_gradients()
        self.ema = AveragedModel(network, multi_avg_fn=self._average, use_buffers=False)
        self.ema.n_averaged.fill_(1)  # average from the start; at 0 it would copy, on resume too
        self.ema.eval()
        optimizers = build_optimizers(network, config.optimizer)
        self.bare: nn.Module = network.train()
        if self.existing:
            self._resume(self.existing[-1], optimizers)
        if self.main:
            with written(f"the output folder '{config.output}'"):
                remove_stale(config.output)
                forget_later(config.output, self.step)
        self.network = self.accelerator.prepare(network)
        self.optimizers = [self.accelerator.prepare(optimizer) for optimizer in optimizers]
        self.forward = torch.compile(self.network) if config.compile else self.network
        self.trackers = Trackers(config, step=self.step) if self.main else None

    @property
    def fetches_ahead(self) -> bool:
        """Whether what a step needs is fetched during the one before; a CPU has no time for it."""
        return bool(self.device.type != "cpu")

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

    def _check_agreement(self) -> None:
        """That all processes go on from one checkpoint, with the same pictures."""
        begun = self.existing[-1].name if self.existing else "no checkpoint"
        found = gather_object([(begun, self.pictures.digest)])
        for what, said in zip(("checkpoints", "pictures"), zip(*found, strict=True), strict=True):
            if len(set(said)) > 1:
                raise InputError(
                    f"the processes find different {what} ({', '.join(sorted(set(said)))}): have "
                    "output and data.path be the same folders for all, on storage that they share"
                )

    def _resume(self, folder: Path, optimizers: list[torch.optim.Optimizer]) -> None:
        info = load_info(folder)
        key = changed_key(info.get("config", {}), self.config)
        if key is not None:
            raise InputError(
                f"the run in '{self.config.output}' was started with another '{key}': set it "
                "back, or choose another output, with init_from to start from these weights"
            )
        if info["step"] > self.config.steps:
            raise InputError(
                f"the run in '{self.config.output}' has done {info['step']} steps already and "
                f"'steps' is {self.config.steps}: raise it, or choose another output"
            )
        if info.get("data", self.pictures.digest) not in self.pictures.digests:
            raise InputError(
                f"the pictures in '{self.config.data.path}', or what is told of them, are not "
                f"those that the run in '{self.config.output}' was started with: restore them, or "
                "choose another output"
            )
        load_state(folder, self.bare, self.ema.module, optimizers)
        self.step, self.seconds = info["step"], info["seconds"]
        self.best, self.waited = info.get("best", math.inf), info.get("waited", 0)
        self._give_up()

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
            worker_init_fn=signals_left_to_parent,
            persistent_workers=config.data.workers > 0,
            pin_memory=self.device.type == "cuda",
        )
        return self.accelerator.prepare(loader)

    def _parts(self) -> Iterator[tuple[int, B]]:
        """What each turn of the coming steps computes: which part of the batch, and its data."""
        processes, index = self.accelerator.num_processes, self.accelerator.process_index
        first = self.step * self.turns
        for turn, batch in enumerate(self._loader(), first):
            step, turn_of_step = divmod(turn, self.turns)
            part = turn_of_step * processes + index
            mine = slice(part * self.part, (part + 1) * self.part)
            yield part, self.prepare(batch, step, mine)

    def steps(self) -> Iterator[Progress]:
        """Run to the end, yielding a `Progress` after every step.

        Raises:
            TrainingStopped: after a signal.
        """
        config, started, mean_loss = self.config, time.monotonic() - self.seconds, math.nan
        recent = (time.monotonic(), self.step)
        parts = fetched_ahead(self._parts()) if self.fetches_ahead else self._parts()
        while self.step < config.steps and not self.stale:
            factor = learning_rate_factor(self.step, config.steps, config.optimizer)
            for optimizer in self.optimizers:
                for group in optimizer.param_groups:
                    group["lr"] = factor * group["initial_lr"]
            loss = self._update(parts)
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
            due = self._due(config.checkpoint.every, config.checkpoint.keep_steps)
            if due or stopped or self.stale:
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

    def _update(self, parts: Iterator[tuple[int, B]]) -> float:
        """One step of the optimizers; this process's loss."""
        for optimizer in self.optimizers:
            optimizer.zero_grad(set_to_none=True)
        value = torch.zeros((), device=self.device)
        for turn in range(self.turns):
            part, batch = next(parts)
            last = turn == self.turns - 1
            with nullcontext() if last else self.accelerator.no_sync(self.network):
                loss = self.loss(batch, part) / self.turns
                self.accelerator.backward(loss)
            value += loss.detach()
        norm = self.accelerator.clip_grad_norm_(
            self.network.parameters(), self.config.optimizer.max_grad_norm
        )
        length = value.new_zeros(()) if norm is None else norm.to(value)
        number, length = torch.stack([value, length]).tolist()  # waits for the device once
        for name, figure in (("loss", number), ("gradient", length)):
            if not math.isfinite(figure):
                raise FloatingPointError(_DIVERGED.format(name, figure, self.step))
        for optimizer in self.optimizers:
            optimizer.step()
        self.ema.update_parameters(self.bare)
        return float(number)

    @property
    def averaged(self) -> Any:
        """The averaged network."""
        return self.ema.module

    def _validate(self, progress: Progress) -> None:
        """Judge the averaged weights, on the main process; all learn whether to stop."""
        if self.trackers is not None:
            metrics = self.measure()
            progress.metrics = metrics
            record = {"step": self.step, "loss": progress.loss, "seconds": self.seconds, **metrics}
            picture = self.config.output / "samples" / f"step-{self.step:08d}.png"
            with written(f"the figures in '{self.config.output}'"):
                append_record(self.config.output, record)
                self.draw(picture)
                self.trackers.log(record, picture)
            better = metrics["loss_held_out"] < self.best
            self.waited = 0 if better else self.waited + 1
            self.best = min(self.best, metrics["loss_held_out"])
            if better and self.config.validation.patience:
                with written(f"the best weights in '{self.config.output}'"):
                    save_best(self.config.output, self.averaged, self.step)
        self._give_up()

    def _give_up(self) -> None:
        """End the run early if the main process has waited for long enough."""
        patience = self.config.validation.patience
        if patience and self._agreed(self.waited >= patience):
            self.stale = f"the loss on held-out pictures has not fallen for {patience} validations"

    def _save(self) -> None:
        if not self.main:
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
        with whole_folder(checkpoint_folder(config.output, self.step)) as temporary:
            save_state(temporary, self.bare, self.averaged, self.optimizers, info)
            self.save_model(temporary, step=self.step)
        prune_checkpoints(config.output, config.checkpoint.keep, config.checkpoint.keep_steps)

    def finish(self) -> Path:
        """Write the averaged model to `final/`, unless its weights are no numbers.

        Where the loss on held-out pictures may end the run, the weights that had the least of it:
        the card's `step` is theirs, and `trained_steps` is where the run ended.
        """
        if not all(bool(p.isfinite().all()) for p in self.averaged.parameters()):
            raise FloatingPointError(_DIVERGED.format("average of the weights", "nan", self.step))
        output = self.config.output
        final = output / "final"
        if self.main:
            best = load_best(output, self.averaged) if self.config.validation.patience else None
            with written(f"the model '{final}'"):
                card = {"trained_steps": self.step, "seconds": round(self.seconds)}
                self.save_model(final, step=best or self.step, **card)
        self.accelerator.wait_for_everyone()
        return final

    def close(self) -> None:
        """Let go of the trackers."""
        if self.trackers is not None:
            self.trackers.close()


@contextmanager
def _memory_asked_for() -> Iterator[None]:
    """Out of memory as one sentence."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not out_of_memory(error):
            raise
        raise InputError(
            "there is not enough memory: raise accumulation, set gradient_checkpointing, or lower "
            "batch_size, data.patch_size or the network's channels"
        ) from error


def carried_out(
    make: Callable[[list[int], Note], Run[Any, Any]],
    on_step: Callable[[Progress], None] | None,
    on_note: Note | None,
) -> Path:
    """Make a run and walk it to its end; returns the folder of the finished model.

    Args:
        make: given the list of signals to stop, and what to tell of it to.
        on_step, on_note: see `train`.
    """
    with denormals_flushed(), torch.random.fork_rng(), signals_noted() as stopping:
        run = make(stopping, on_note or (lambda text: None))
        if run.pictures.skipped:
            run.note(run.pictures.describe_skipped())
        with closing(run):
            with _memory_asked_for():
                for progress in run.steps():
                    if on_step is not None and run.main:
                        on_step(progress)
            if run.stale:
                run.note(f"stopped early after step {run.step}: {run.stale}.")
            final = run.finish()
            if run.main and (found := run.judge()):
                run.note(found)
        return final
