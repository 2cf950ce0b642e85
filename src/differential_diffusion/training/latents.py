"""Pictures as latents of a codec: encoded once, kept on disk, drawn anew at each look.

    y ~ N(μ, s²) of the codec's posterior,    z = σ_data (y - mean) / deviation

with mean and deviation of each channel of y over the training pictures, so that z has the deviation
that the objective is told of.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..data.crops import SYMMETRIES, Items, symmetry, to_tensor
from ..data.images import NamedImage
from ..errors import InputError
from ..models.autoencoder import cell_of, fingerprint, load_autoencoder
from ..models.checkpoint import LatentSpace
from ..models.codec import posterior
from ..models.latent_model import CODEC_FOLDER, Codec
from .config import TrainingConfig
from .feed import Pictures
from .latent_cache import Identity, LatentCache
from .state import whole_folder

_BATCH = 8
_LEAST = 1e-6  # deviation of a channel that says nothing


class LatentItems(Items):
    """Item i is a square of latents, drawn from the codec's posterior, with what else is told.

    Args:
        images: (h,w,2C) float32, μ and s beside one another.
        space, sigma_data: the normalisation.
        settings: as `Items` takes them.
    """

    def __init__(
        self,
        images: Sequence[NamedImage],
        *settings: Any,
        space: LatentSpace,
        sigma_data: float,
        **named: Any,
    ) -> None:
        super().__init__(images, *settings, **named)
        self.mean = np.array(space.mean, np.float32)
        self.scale = np.float32(sigma_data) / np.array(space.deviation, np.float32)

    def tensor(self, pixels: NDArray[Any], rng: np.random.Generator) -> Tensor:
        """z, (C,h,w), of a square of μ and s."""
        mean, deviation = np.split(pixels, 2, axis=2)
        y = mean + deviation * rng.standard_normal(mean.shape, dtype=np.float32)
        z = (y - self.mean) * self.scale
        return torch.from_numpy(np.ascontiguousarray(z.transpose(2, 0, 1)))


class LatentPictures(Pictures):
    """The pictures of a run on latents.

    Each is encoded under the symmetries that the run shows: once, with its mirror image, or all
    eight.

    Args:
        config: the run.
        device: where to encode.
        told: called with a sentence, or with nothing now and then; may raise to stop.

    Attributes:
        codec: to latents and back.
        space: mean and deviation of the training latents.

    Raises:
        InputError: for unusable data, a codec that cannot be loaded or fits neither pictures nor
            squares, or a cache of something else.
    """

    def __init__(
        self,
        config: TrainingConfig,
        device: torch.device,
        told: Callable[[str], None] = lambda text: None,
    ) -> None:
        super().__init__(config.data)
        assert config.latent is not None
        vae = load_autoencoder(config.latent.codec).to(device)
        self.cell, self.latent_channels = cell_of(vae), int(vae.config.latent_channels)
        self._check(config, vae)
        data = config.data
        identity = Identity(
            fingerprint(vae),
            _content([*self.training, *self.held_out]),
            data.patch_size if data.cut == "fit" else None,
            data.symmetries,
        )
        cache = LatentCache(config.latent.cache or config.output / "latents", identity)
        cache.fill(self._encoded(vae, cache, told))
        self.latents = cache.load()
        self.digests = tuple(f"{identity.digest} {digest}" for digest in self.digests)
        self.space = _statistics(
            [self.latents[key(image.name, k)] for image in self.training for k in self.versions]
        )
        self.codec = Codec(vae, self.space, config.sigma_data)

    def _check(self, config: TrainingConfig, vae: Any) -> None:
        name = config.latent.codec if config.latent is not None else ""
        if int(vae.config.in_channels) != config.data.channels:
            raise InputError(
                f"the codec '{name}' takes {vae.config.in_channels} channels and data.channels is "
                f"{config.data.channels}: change one of them"
            )
        if config.data.patch_size % self.cell:
            raise InputError(
                f"data.patch_size {config.data.patch_size} is no multiple of the {self.cell} "
                f"pixels of a cell of the codec '{name}': change it"
            )

    @property
    def versions(self) -> tuple[int, ...]:
        """The symmetries that are shown, as numbers."""
        return SYMMETRIES[self.config.symmetries]

    @property
    def told(self) -> dict[str, int]:
        """See `Pictures.told`."""
        return super().told | {"channels": self.latent_channels, "cell": self.cell}

    def items(self, length: int, seed: int) -> Items:
        """Training items."""
        return self._latent_items(self.training, self.versions, length, seed)

    def plain_items(self, images: Sequence[NamedImage], count: int) -> Items:
        """See `Pictures.plain_items`."""
        length = min(count, len(images))
        return self._latent_items(images[:count], (0,), length, 0, in_turn=True)

    def _latent_items(
        self,
        images: Sequence[NamedImage],
        versions: Sequence[int],
        length: int,
        seed: int,
        *,
        in_turn: bool = False,
    ) -> Items:
        """Each version counts as a picture of its own."""
        assert self.space is not None
        return LatentItems(
            [
                image._replace(pixels=self.latents[key(image.name, k)].permute(1, 2, 0).numpy())
                for image in images
                for k in versions
            ],
            self.config.patch_size // self.cell,
            length,
            seed,
            cut=self.config.cut,
            in_turn=in_turn,
            symmetries="none",
            classes=self.classes,
            vectors=self.vectors,
            space=self.space,
            sigma_data=self.codec.sigma_data,
        )

    def save_codec(self, folder: Path) -> None:
        """Put the codec into a model's folder."""
        with whole_folder(folder / CODEC_FOLDER) as temporary:
            self.codec.vae.save_pretrained(temporary, safe_serialization=True)

    def _encoded(self, vae: Any, cache: LatentCache, told: Callable[[str], None]) -> Any:
        """Batches of latents by their keys, of what the cache lacks."""
        images = sorted([*self.training, *self.held_out], key=lambda image: image.name)
        wanted = [
            (image, k) for image in images for k in self.versions if key(image.name, k) not in cache
        ]
        if wanted:
            told(f"encoding {len(wanted)} pictures into '{cache.folder}'.")
        waiting: dict[str, Tensor] = {}
        for image, k in wanted:
            told("")
            pixels = self._prepared(image.pixels, k)
            if waiting and (
                len(waiting) == _BATCH or next(iter(waiting.values())).shape != pixels.shape
            ):
                yield _latents(vae, waiting)
                waiting = {}
            waiting[key(image.name, k)] = pixels
        if waiting:
            yield _latents(vae, waiting)

    def _prepared(self, pixels: NDArray[Any], which: int) -> Tensor:
        """A whole picture as it is encoded, (C,H,W), its sides cut to whole cells."""
        height, width = (side // self.cell * self.cell for side in pixels.shape[:2])
        top, left = (pixels.shape[0] - height) // 2, (pixels.shape[1] - width) // 2
        return to_tensor(symmetry(pixels[top : top + height, left : left + width], which))


def key(name: str, which: int) -> str:
    """What a picture's latents under a symmetry are called in the cache."""
    return f"{which}/{name}"


def _latents(vae: Any, pixels: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """μ and s, (2C,h,w) float32, of pictures of one size."""
    law = posterior(vae, torch.stack(list(pixels.values())))
    both = torch.cat([law.mean, law.std], dim=1).float().cpu()
    return {name: one.clone() for name, one in zip(pixels, both, strict=True)}


def _statistics(latents: Sequence[Tensor]) -> LatentSpace:
    """Mean and deviation of y over all cells: E[μ], and E[μ²] + E[s²] - E[μ]² for the variance."""
    parts = [one.double().view(2, -1, *one.shape[1:]) for one in latents]
    cells = sum(part[0, 0].numel() for part in parts)
    mean = torch.stack([part[0].sum((1, 2)) for part in parts]).sum(0) / cells
    square = torch.stack([part.square().sum((0, 2, 3)) for part in parts]).sum(0) / cells
    deviation = (square - mean.square()).clamp(min=_LEAST**2).sqrt()
    return LatentSpace(tuple(mean.tolist()), tuple(deviation.tolist()))


def _content(images: Sequence[NamedImage]) -> str:
    """What tells one set of pictures from another: names, sizes and pixels."""
    digest = hashlib.blake2b(digest_size=32)
    for image in sorted(images, key=lambda image: image.name):
        digest.update(f"{image.name} {image.pixels.shape} {image.pixels.dtype}".encode())
        digest.update(np.ascontiguousarray(image.pixels).data)
    return digest.hexdigest()
