"""What a request returns."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..schema import Request

if TYPE_CHECKING:
    from ..images import Picture


@dataclass(frozen=True)
class Result:
    """The outcome of one request.

    Attributes:
        request: what was asked.
        picture: the outcome with its metadata, alpha and profile.
        pictures: all samples.
        map: (H,W) float32 in [0,1], how much each pixel was allowed to change.
        seed: of the first sample.
        seconds: wall time without loading the model.
        evaluations: network evaluations, over all samples.
        std: (H,W) float32, standard deviation over the samples on the 8-bit scale, mean over
            channels; None with fewer than two samples, or where these do not spread as the
            posterior does.
        noise_level_8bit: (H,W) float32, the noise found or given, where the task has one.
        damage: (H,W) float32 in [0,1], the damage found or given, where the task has one.
        notes: sentences on what was found or converted.
    """

    request: Request
    picture: Picture
    pictures: tuple[Picture, ...]
    map: NDArray[np.float32]
    seed: int
    seconds: float
    evaluations: int
    std: NDArray[np.float32] | None = None
    noise_level_8bit: NDArray[np.float32] | None = None
    damage: NDArray[np.float32] | None = None
    notes: tuple[str, ...] = field(default_factory=tuple)

    @property
    def image(self) -> Any:
        """The outcome as the kind that went in: PIL (also for a path), array or tensor."""
        return self.picture.native()

    @property
    def images(self) -> list[Any]:
        """All samples, each as the kind that went in."""
        return [picture.native() for picture in self.pictures]

    def save(self, path: str | Path) -> Path:
        """Write the outcome atomically; PNG, TIFF and WebP keep every pixel.

        Raises:
            InputError: for an unwritable place, an unknown suffix, or the input's own path.
        """
        return self.picture.save(path)
