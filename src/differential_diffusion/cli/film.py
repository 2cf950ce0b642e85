"""The sampling as it went: an animation, or a strip of pictures."""

from __future__ import annotations

import io
import math
from pathlib import Path

import numpy as np
from PIL import Image

from ..core.noise import Window
from ..core.types import Step
from ..files import write_atomically
from ..images import Picture
from .preview import Panel, Pixels, rgb, sheet

_LARGEST, _MOST, _STRIP = 480, 80, 8
_MILLISECONDS, _LAST_MILLISECONDS = 120, 1500


class Film:
    """Keeps what the model thinks the picture is after each step of the first sample.

    Args:
        source: the picture before.
    """

    def __init__(self, source: Picture) -> None:
        self.now = rgb(source)
        self.frames = [("before", self._small())]
        self._done: set[Window | None] = set()

    def __call__(self, step: Step) -> None:
        """An `on_step`: adds a frame, of a long run only every few."""
        if step.window in self._done:
            return  # a further sample
        every = math.ceil(step.count / _MOST)
        last = step.index == step.count - 1
        if step.index % every == 0 or last:
            self._place(step)
            self.frames.append((f"step {step.index + 1}", self._small()))
        if last:
            self._done.add(step.window)

    def _place(self, step: Step) -> None:
        estimate = step.denoised if step.decode is None else step.decode(step.denoised)
        height, width = self.now.shape[:2]
        top, left, bottom, right = step.window or Window(0, 0, height, width)
        levels = ((estimate[0].float().cpu() + 1) * 127.5).round().clamp(0, 255)
        pixels = levels.permute(1, 2, 0).numpy().astype(np.uint8)
        self.now = self.now.copy()
        self.now[top:bottom, left:right] = pixels[: bottom - top, : right - left]

    def end(self, result: Picture) -> None:
        """Adds what came of it in the end."""
        self.now = rgb(result)
        self.frames.append(("after", self._small()))

    def _small(self) -> Pixels:
        height, width = self.now.shape[:2]
        scale = min(1.0, _LARGEST / max(height, width))
        size = max(1, round(width * scale)), max(1, round(height * scale))
        return np.asarray(Image.fromarray(self.now).resize(size, Image.Resampling.BOX))

    def save(self, path: Path) -> None:
        """Write a .gif of all frames, or a .png with a few of them in a row, atomically."""
        path.parent.mkdir(parents=True, exist_ok=True)
        file = io.BytesIO()
        if path.suffix.lower() == ".gif":
            first, *rest = (Image.fromarray(pixels) for _, pixels in self.frames)
            durations = [_MILLISECONDS] * len(rest) + [_LAST_MILLISECONDS]
            options = {"append_images": rest, "duration": durations, "loop": 0}
            first.save(file, "GIF", save_all=True, **options)
        else:
            count = min(_STRIP, len(self.frames))
            chosen = np.linspace(0, len(self.frames) - 1, count).round().astype(int)
            sheet([Panel(*self.frames[k]) for k in chosen]).save(file, "PNG")
        write_atomically(path, file.getvalue())
