"""What a run shows of itself: its loss and denoising PSNR on held-out pictures, and samples."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from io import BytesIO
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import default_collate

from ..core.metrics import psnr
from ..core.noise import PositionalNoise, derive_seed
from ..core.plan import Plan
from ..data.crops import SYMMETRIES, Items, to_tensor
from ..data.images import NamedImage
from ..files import write_atomically
from ..models.checkpoint import CheckpointConfig
from ..models.denoiser import as_model
from ..models.network import Network
from ..nn import Conditions
from .config import TrainingConfig
from .feed import Pictures
from .objectives import Objective

_SEED = 20240
_BATCH = 64
BANDS = 4
"""Bands of noise levels, from low to high, in which the loss is told."""


class Validator:
    """Judges weights, on pictures and noise that stay the same over a run.

    Args:
        config: the run.
        pictures: its pictures.
        objective: what it learns.
    """

    def __init__(self, config: TrainingConfig, pictures: Pictures, objective: Objective) -> None:
        self.config, self.pictures, self.objective = config, pictures, objective
        count = min(config.validation.pictures, len(pictures.held_out), len(pictures.training))
        self.sides = {
            "held_out": pictures.plain_items(pictures.held_out, count),
            "training": pictures.plain_items(pictures.training, count),
        }

    def measure(self, network: Network, bf16: bool = False) -> dict[str, float]:
        """The loss on held-out and training pictures, by bands of noise levels, and PSNR in dB."""
        metrics: dict[str, float] = {}
        bands = {side: self.losses(network, side, bf16) for side in self.sides}
        for side, losses in bands.items():
            metrics[f"loss_{side}"] = float(losses.mean())
        for band, (held_out, training) in enumerate(zip(*bands.values(), strict=True), 1):
            metrics[f"gap_{band}"] = float(held_out.mean() - training.mean())
        return metrics | self.psnr(network, bf16)

    @torch.no_grad()
    def losses(self, network: Network, side: str, bf16: bool = False) -> Tensor:
        """The loss of every picture in every band, (BANDS,pictures) float64.

        Both sides get the same levels and noise. There is one level for each picture, whether the
        network is trained on maps or not.
        """
        device, dtype = _where(network)
        items = self.sides[side]
        rng = torch.Generator().manual_seed(derive_seed(_SEED))
        low, high = self.config.sigma_range
        levels = self.objective.levels.sample(BANDS * len(items), rng).clamp(low, high)
        # Each picture meets every band once.
        levels = levels.sort().values.view(BANDS, -1)[:, torch.randperm(len(items), generator=rng)]
        made: list[Tensor] = []
        for start in range(0, len(items), _BATCH):
            batch = default_collate(
                [items[i] for i in range(start, min(start + _BATCH, len(items)))]
            )
            x0 = batch["x0"].to(device, dtype)
            told = Conditions(*(_given(batch, name, device) for name in _TOLD))
            row = []
            for band in range(BANDS):
                sigma = levels[band, start : start + len(x0)].view(-1, 1, 1, 1).to(device, dtype)
                seeds = [_SEED + start + k for k in range(len(x0))]
                noise = PositionalNoise(seeds, *x0.shape[1:])(band).to(x0)
                with _autocast(device, bf16):
                    row.append(self.objective.loss(_telling(network, told), x0, sigma, noise))
            made.append(torch.stack(row).double().cpu())
        return torch.cat(made, dim=1)

    @torch.no_grad()
    def psnr(self, network: Network, bf16: bool) -> dict[str, float]:
        """Mean PSNR in dB of one-step denoising at each noise level, noise not clipped."""
        device, dtype = _where(network)
        denoise = self.objective.form.denoiser(network)
        metrics = {}
        for level in self.config.validation.noise_levels_8bit:
            sigma = torch.full((1, 1, 1, 1), level / 127.5, device=device, dtype=dtype)
            scores = []
            looked_at = islice(self.pictures.held_out, self.config.validation.pictures)
            for index, image in enumerate(looked_at):
                x0 = centre(image, self.config.validation.crop)
                noise = PositionalNoise([_SEED + index], *x0.shape[1:])(0)
                x = (x0 + sigma.cpu() * noise).to(device, dtype, memory_format=torch.channels_last)
                with _autocast(device, bf16):
                    estimate = denoise(x, sigma).float().clamp(-1, 1).cpu()
                scores.append(float(psnr(estimate, x0, data_range=2.0).mean()))
            metrics[f"psnr_{level:g}"] = sum(scores) / len(scores)
        return metrics

    def draw(
        self, network: Network, described: CheckpointConfig, path: Path, bf16: bool = False
    ) -> None:
        """Write a PNG: restorations of held-out pictures, or samples of every class."""
        model = self.model(network, described, bf16)
        if described.maps and not described.classes:
            grid = self.restored(model)
        else:
            grid = self._samples(model, described)
        save_grid(grid, path)

    def model(self, network: Network, described: CheckpointConfig, bf16: bool) -> Any:
        """A model of pictures."""
        return as_model(network, described, name="trained", bf16=bf16)

    def restored(self, model: Any) -> Tensor:
        """For four pictures clean, noisy, denoised, holed and inpainted, and a sample, (3,H,W)."""
        side = min(self.config.validation.crop, 128)
        sigma = torch.full((1, 1, 1, 1), 50 / 127.5)
        rows = []
        for index, image in enumerate(self.pictures.held_out[:4]):
            x0 = centre(image, side)
            noise = PositionalNoise([_SEED + index], *x0.shape[1:])
            noisy = x0 + sigma * noise(0)
            with torch.no_grad():
                denoised = model.denoiser(noisy, sigma)
            strip = [x0, noisy, denoised, *self.filled(model, x0, index)]
            rows.append([shown(t[0], side) for t in strip])
        return torch.cat([torch.cat(row, dim=-1) for row in rows], dim=-2)

    def filled(self, model: Any, x0: Tensor, index: int) -> list[Tensor]:
        """A picture (1,C,H,W) with a hole, filled, and a sample of its size."""
        hole = torch.zeros(1, 1, *x0.shape[-2:])
        h, w = x0.shape[-2:]
        hole[..., h // 3 : h // 2, w // 4 : 3 * w // 4] = 1
        plans = (Plan(x0, m, steps=self._steps) for m in (hole, torch.ones_like(hole)))
        fresh = PositionalNoise([_SEED - 1 - index], *x0.shape[1:])
        return [x0 * (1 - hole), *(model.run(plan, fresh) for plan in plans)]

    def _samples(self, model: Any, described: CheckpointConfig) -> Tensor:
        """Eight samples, or eight of each of the first ten classes in a row, (3,H,W)."""
        side = self.config.data.patch_size
        labels: Sequence[int | None] = range(min(10, len(described.classes))) or [None]
        rows = [self._drawn(model, label, range(8)) for label in labels]
        return torch.cat(
            [torch.cat([shown(one, side) for one in row], dim=-1) for row in rows], dim=-2
        )

    def _drawn(self, model: Any, label: int | None, seeds: Sequence[int]) -> Tensor:
        """Samples of a class, (n,C,H,W)."""
        side = self.config.data.patch_size
        blank = torch.zeros(1, model.channels, side, side)
        told = model if label is None else model.given(label=label)
        plan = Plan(blank, torch.ones(1, 1, 1, 1), seeds=tuple(seeds), steps=self._steps)
        made: Tensor = told.run(plan, PositionalNoise(plan.seeds, *blank.shape[1:]))
        return made

    def samples(
        self, network: Network, described: CheckpointConfig, count: int, bf16: bool = False
    ) -> Tensor:
        """Samples of all classes in turn, (count,C,H,W)."""
        model = self.model(network, described, bf16)
        kinds: Sequence[int | None] = range(len(described.classes)) or [None]
        kinds = kinds[:count]
        drawn = [self._drawn(model, k, range(i, count, len(kinds))) for i, k in enumerate(kinds)]
        return torch.cat(drawn)

    @property
    def whole_pictures(self) -> bool:
        """Whether the squares that are learnt are whole pictures, or nearly."""
        side = self.config.data.patch_size
        small = all(max(image.pixels.shape[:2]) <= 2 * side for image in self.pictures.training)
        return self.config.data.cut == "fit" or small

    def squares(self, side: str) -> Items:
        """The squares of all training pictures, or of the held-out ones."""
        images = self.pictures.training if side == "training" else self.pictures.held_out
        return self.pictures.plain_items(images, len(images))

    @property
    def symmetries(self) -> tuple[int, ...]:
        """Those under which a sample may copy a picture; with augmentation the mirror's."""
        data = self.config.data
        return SYMMETRIES["mirror" if data.augmentation > 0 else data.symmetries]

    @property
    def _steps(self) -> int:
        return self.config.validation.sample_steps


_TOLD = ("label", "vector", "picture")


def _given(batch: dict[str, Tensor], name: str, device: torch.device) -> Tensor | None:
    return batch[name].to(device) if name in batch else None


def _telling(network: Network, told: Conditions) -> Any:
    return lambda x, c_noise: network(x, c_noise, told)


def _where(network: Network) -> tuple[torch.device, torch.dtype]:
    parameter = next(network.parameters())
    return parameter.device, parameter.dtype


def _autocast(device: torch.device, enabled: bool) -> AbstractContextManager[Any]:
    return torch.autocast(device.type, torch.bfloat16, enabled=enabled)


def centre(image: NamedImage, side: int) -> Tensor:
    """The middle of a picture as (1,C,h,w) in [-1,1], at most `side` pixels a side."""
    h, w = image.pixels.shape[:2]
    top, left = max(0, (h - side) // 2), max(0, (w - side) // 2)
    return to_tensor(image.pixels[top : top + side, left : left + side])[None]


def shown(picture: Tensor, side: int) -> Tensor:
    """A picture (C,h,w) of any number of channels in colour on a white canvas, (3,side,side)."""
    picture = picture[:3] if len(picture) >= 3 else picture[:1].expand(3, -1, -1)
    h, w = picture.shape[-2:]
    return torch.nn.functional.pad(picture, (0, side - w, 0, side - h), value=1.0)


def save_grid(grid: Tensor, path: Path) -> None:
    """Write a picture (3,H,W) in [-1,1] as PNG."""
    pixels = ((grid.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).permute(1, 2, 0).numpy()
    path.parent.mkdir(parents=True, exist_ok=True)
    file = BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(file, "PNG")
    write_atomically(path, file.getvalue())
