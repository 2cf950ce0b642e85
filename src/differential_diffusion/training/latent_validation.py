"""What a run on latents shows of itself: its loss, and pictures decoded."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..core.grid import mirrored
from ..data.crops import Items
from ..models.checkpoint import CheckpointConfig
from ..models.denoiser import as_model
from ..models.latent_model import LatentModel
from ..models.network import Network
from .config import TrainingConfig
from .feed import Pictures
from .latents import LatentPictures
from .objectives import Objective
from .validation import Validator, centre, shown


class LatentValidator(Validator):
    """Judges weights of a denoiser of latents.

    Args:
        config: the run.
        pictures: its pictures and their latents.
        objective: what it learns.
    """

    def __init__(
        self, config: TrainingConfig, pictures: LatentPictures, objective: Objective
    ) -> None:
        super().__init__(config, pictures, objective)
        self.codec = pictures.codec

    def psnr(self, network: Network, bf16: bool) -> dict[str, float]:
        """None: noise levels of pictures say nothing of latents."""
        return {}

    def model(self, network: Network, described: CheckpointConfig, bf16: bool) -> Any:
        """See `Validator.model`."""
        inner = as_model(network, described, name="trained", bf16=bf16)
        return LatentModel(inner, self.codec, described.size)

    def restored(self, model: Any) -> Tensor:
        """For four pictures clean, decoded, holed and inpainted, and a sample, (3,H,W)."""
        cell, side = self.codec.cell, self.config.data.patch_size
        rows = []
        for index, image in enumerate(self.pictures.held_out[:4]):
            x0 = centre(image, side)
            height, width = x0.shape[-2:]
            whole = mirrored(x0, *(-(-size // cell) * cell for size in (height, width)))
            decoded = self.codec.decode(self.codec.encode(whole))[..., :height, :width]
            strip = [x0, decoded, *self.filled(model, x0, index)]
            rows.append(torch.cat([shown(t[0], side) for t in strip], dim=-1))
        return torch.cat(rows, dim=-2)

    def squares(self, side: str) -> Items:
        """See `Validator.squares`: of pixels, which samples are compared with."""
        images = self.pictures.training if side == "training" else self.pictures.held_out
        return Pictures.plain_items(self.pictures, images, len(images))
