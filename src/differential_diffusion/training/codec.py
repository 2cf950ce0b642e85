"""Training of codecs: an `AutoencoderKL` that takes pictures to latents and back.

    loss = |x̂ - x| + β KL(N(μ, s²) | N(0, 1)) / values,    x̂ = decode(μ + s ε)

(Kingma and Welling, 2014, with the weight of Rombach et al., 2022.)
"""

from __future__ import annotations

import os
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils.data import default_collate

from ..core.metrics import psnr
from ..core.noise import derive_seed, generator
from ..errors import InputError
from ..models.autoencoder import AutoencoderNetwork, build_autoencoder, load_autoencoder
from ..nn import channels_last
from .codec_config import CodecConfig, CodecLossConfig
from .feed import Pictures
from .run import Note, Run
from .validation import save_grid, shown

_STREAM_LATENTS = 6
_SEED = 20241
_BATCH = 16
_SHOWN = 8


def codec_loss(
    made: Tensor, x: Tensor, mean: Tensor, logvar: Tensor, config: CodecLossConfig
) -> Tensor:
    """The loss of each picture, (B,).

    Args:
        made, x: x̂ and x, (B,C,H,W) in [-1,1].
        mean, logvar: μ and ln s² of the latents, (B,c,h,w).
        config: the weights.
    """
    error = (made - x).abs() if config.reconstruction == "l1" else (made - x).square()
    values = x[0].numel()
    total: Tensor = error.mean((1, 2, 3)) + config.kl * divergence(mean, logvar) / values
    return total


def divergence(mean: Tensor, logvar: Tensor) -> Tensor:
    """KL(N(μ, s²) | N(0, 1)) = ½ Σ (μ² + s² - 1 - ln s²) of each picture in nats, (B,)."""
    total: Tensor = 0.5 * (mean.square() + logvar.exp() - 1 - logvar).sum((1, 2, 3))
    return total


class _Batch(NamedTuple):
    """What a part of a step is computed from."""

    x: Tensor
    noise: Tensor


class CodecRun(Run[CodecConfig, _Batch]):
    """State of the training of one codec."""

    def __init__(self, config: CodecConfig, resume: bool, stopping: list[int], note: Note) -> None:
        super().__init__(config, resume, stopping, note)
        self.pictures = Pictures(config.data)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(derive_seed(config.seed))
            shape = config.network.build(config.data.channels, config.data.patch_size)
            network = channels_last(AutoencoderNetwork(build_autoencoder(**shape)))
        if config.init_from is not None and not self.existing:
            self._warm_start(network, config.init_from)
        self.begin(network)
        count = min(config.validation.pictures, len(self.pictures.held_out))
        count = min(count, len(self.pictures.training))
        self.sides = {
            "held_out": self.pictures.plain_items(self.pictures.held_out, count),
            "training": self.pictures.plain_items(self.pictures.training, count),
        }

    def _warm_start(self, network: AutoencoderNetwork, source: Path) -> None:
        try:
            network.vae.load_state_dict(load_autoencoder(source).state_dict())
        except RuntimeError as error:
            reason = str(error).splitlines()[-1].strip()
            raise InputError(
                f"init_from '{source}' has another shape than network ({reason}): make them alike"
            ) from None

    def prepare(self, batch: dict[str, Tensor], step: int, part: slice) -> _Batch:
        """See `Run.prepare`."""
        x = batch["x0"].to(self.device, self.dtype, memory_format=torch.channels_last)
        # Each picture's own, so that a part of the batch is drawn as in the whole.
        noise = [
            torch.randn(
                self._latent_shape(x),
                generator=generator(_STREAM_LATENTS, self.config.seed, step, index),
            )
            for index in range(part.start, part.stop)
        ]
        return _Batch(x, torch.stack(noise).to(x))

    def loss(self, batch: _Batch, part: int) -> Tensor:
        """See `Run.loss`."""
        x, noise = batch
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.autocast):
            made, mean, logvar = self.forward(x, noise)
        made, mean, logvar = (out.to(self.dtype) for out in (made, mean, logvar))
        return codec_loss(made, x, mean, logvar, self.config.loss).mean()

    def _latent_shape(self, x: Tensor) -> tuple[int, int, int]:
        rows, columns = (side // self.config.cell for side in x.shape[-2:])
        return self.config.network.latent_channels, rows, columns

    @torch.no_grad()
    def measure(self) -> dict[str, float]:
        """The loss on held-out and training squares; PSNR in dB of held-out squares decoded from μ.

        "kl" is in nats for each number of the latents.
        """
        metrics: dict[str, float] = {}
        for side in self.sides:
            losses, scores, nats = [], [], []
            for start in range(0, len(self.sides[side]), _BATCH):
                x = self._squares(side, start, start + _BATCH)
                made, mean, logvar = self._decoded(x)
                losses.append(codec_loss(made, x, mean, logvar, self.config.loss))
                scores.append(psnr(made.clamp(-1, 1), x, data_range=2.0))
                nats.append(divergence(mean, logvar) / mean[0].numel())
            metrics[f"loss_{side}"] = float(torch.cat(losses).mean())
            if side == "held_out":
                metrics["psnr"] = float(torch.cat(scores).mean())
                metrics["kl"] = float(torch.cat(nats).mean())
        return metrics

    def draw(self, path: Path) -> None:
        """Write held-out squares, and below each its reconstruction."""
        x = self._squares("held_out", 0, _SHOWN)
        with torch.no_grad():
            made = self._decoded(x)[0]
        side = self.config.data.patch_size
        rows = [torch.cat([shown(one, side) for one in row], dim=-1) for row in (x, made)]
        save_grid(torch.cat(rows, dim=-2), path)

    def _squares(self, side: str, start: int, end: int) -> Tensor:
        items = self.sides[side]
        chosen = [items[index] for index in range(start, min(end, len(items)))]
        x: Tensor = default_collate(chosen)["x0"]
        return x

    def _decoded(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Pixels decoded from μ, μ and ln s², float32 on the CPU."""
        x = x.to(self.device, self.dtype)
        nothing = x.new_zeros(len(x), *self._latent_shape(x))
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.autocast):
            made, mean, logvar = self.averaged(x, nothing)
        return made.float().cpu(), mean.float().cpu(), logvar.float().cpu()

    def save_model(self, folder: Path, **card: Any) -> None:
        """Write the averaged autoencoder as Diffusers does, its latents' scale with it."""
        vae = self.averaged.vae
        vae.register_to_config(scaling_factor=self._scaling_factor())
        folder.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=folder, prefix=".codec.") as draft:
            vae.save_pretrained(draft, safe_serialization=True)
            for file in Path(draft).iterdir():
                os.replace(file, folder / file.name)

    @torch.no_grad()
    def _scaling_factor(self) -> float:
        """What brings held-out latents to the deviation 1, as pipelines of Diffusers want them."""
        _, mean, logvar = self._decoded(self._squares("held_out", 0, _BATCH))
        total = mean.square().mean() + logvar.exp().mean() - mean.mean().square()
        return float(total.clamp(min=1e-12).rsqrt())
