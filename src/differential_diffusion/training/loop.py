"""Training of denoisers, of pictures or of their latents."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..core.noise import derive_seed
from ..errors import InputError
from ..models.checkpoint import CheckpointConfig, save_checkpoint
from ..models.network import build_network
from ..nn import Conditions
from .codec import CodecRun
from .codec_config import CodecConfig
from .config import TrainingConfig
from .feed import Draws, Pictures
from .latent_validation import LatentValidator
from .latents import LatentPictures
from .optimizers import ema_decay, learning_rate_factor
from .overfitting import report_overfitting
from .run import Note, Progress, Run, TrainingStopped, carried_out
from .state import warm_start
from .validation import Validator

__all__ = ["Progress", "TrainingStopped", "ema_decay", "learning_rate_factor", "train"]


def train(
    config: TrainingConfig | CodecConfig,
    *,
    resume: bool = True,
    on_step: Callable[[Progress], None] | None = None,
    on_note: Callable[[str], None] | None = None,
) -> Path:
    """Train a model, or a codec for one; returns the folder of the finished checkpoint.

    Every random number is a function of (seed, step), and a checkpoint holds weights, EMA and
    optimizer state: killed at any moment and started again, the run ends in the weights of
    the uninterrupted one (bit for bit on a CPU in fp32 with the same number of threads). At
    SIGTERM or SIGINT it saves after the step at hand and stops; at a second one at once.

    Args:
        config: the run; `config.output` receives checkpoints, metrics.jsonl, pictures and
            `final/`, the model for `load_model`, or the codec for `latent.codec` and
            `AutoencoderKL.from_pretrained`.
        resume: go on from the newest checkpoint in `config.output`.
        on_step: called after every optimizer step on the main process.
        on_note: called with a sentence about pictures that were left out, an early stop, and so on.

    Raises:
        InputError: for unusable data, an output folder that cannot be written, a checkpoint of
            another network or configuration, or `resume=False` where checkpoints exist.
        FloatingPointError: if the loss is no longer finite.
        MissingExtraError: for a codec, without Diffusers.
        TrainingStopped: after a signal.
    """
    make: Any = CodecRun if isinstance(config, CodecConfig) else _Run
    return carried_out(partial(make, config, resume), on_step, on_note)


class _Batch(NamedTuple):
    """What a part of a step is computed from."""

    x0: Tensor
    sigma: Tensor
    noise: Tensor
    conditions: Conditions


class _Run(Run[TrainingConfig, _Batch]):
    """State of the training of one denoiser."""

    def __init__(
        self, config: TrainingConfig, resume: bool, stopping: list[int], note: Note
    ) -> None:
        super().__init__(config, resume, stopping, note)
        self.pictures = self._pictures()
        self.draws = Draws(config, len(self.pictures.classes))
        self.objective = config.goal()
        self.shape = self._shape()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(derive_seed(config.seed))
            network = build_network(self.shape, timesteps=self.objective.form.told == "timestep")
        if config.init_from is not None and not self.existing:
            warm_start(network, config.init_from, self.objective.form)
        self.begin(network)
        judge = LatentValidator if isinstance(self.pictures, LatentPictures) else Validator
        self.validator = judge(config, self.pictures, self.objective)  # type: ignore[arg-type]

    def _pictures(self) -> Pictures:
        if self.config.latent is None:
            return Pictures(self.config.data)

        def told(text: str) -> None:
            if self.stopping:
                raise TrainingStopped(0, self.stopping[0])
            if text:
                self.note(text)

        with self.accelerator.main_process_first():  # the others find them in the cache
            pictures = LatentPictures(self.config, self.device, told)
        if self.main:
            pictures.save_codec(self.config.output / "final")
        self.accelerator.wait_for_everyone()
        return pictures

    def _shape(self) -> Any:
        try:
            return self.config.shape(**self.pictures.told)
        except ValueError as error:
            raise InputError(str(error)) from None

    def prepare(self, batch: dict[str, Tensor], step: int, part: slice) -> _Batch:
        """See `Run.prepare`."""
        device = self.device
        sigma, noise = self.draws.noise(step, part, batch["x0"].shape[1:], device)
        x0 = batch["x0"].to(device, self.dtype, memory_format=torch.channels_last)
        conditions = self.draws.conditions(batch, step, part, device)
        return _Batch(x0, sigma.to(self.dtype), noise.to(self.dtype), conditions)

    def loss(self, batch: _Batch, part: int) -> Tensor:
        """See `Run.loss`."""
        network = self.config.network
        if network.dropout > 0 or network.diffusers is not None:
            self.draws.seed_dropout(self.step, part)
        return self._loss(*batch)

    def _loss(self, x0: Tensor, sigma: Tensor, noise: Tensor, conditions: Conditions) -> Tensor:
        def network(x: Tensor, c_noise: Tensor) -> Tensor:
            out: Tensor = self.forward(x, c_noise, conditions)
            return out

        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.autocast):
            return self.objective.loss(network, x0, sigma, noise).mean()

    def measure(self) -> dict[str, float]:
        """See `Run.measure`."""
        return self.validator.measure(self.averaged, self.autocast)

    def draw(self, path: Path) -> None:
        """See `Run.draw`."""
        self.validator.draw(self.averaged, self.checkpoint_config(), path, self.autocast)

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
            latent=self.pictures.space,
            card=card,
        )

    def save_model(self, folder: Path, **card: Any) -> None:
        """See `Run.save_model`."""
        save_checkpoint(folder, self.averaged, self.checkpoint_config(**card), torch.float32)

    def judge(self) -> str:
        """Whether the model over-fits, see `report_overfitting`."""
        model, output = self.checkpoint_config(), self.config.output
        found = report_overfitting(
            self.validator, self.averaged, model, output, step=self.step, bf16=self.autocast
        )
        return f"{found.sentence()}."
