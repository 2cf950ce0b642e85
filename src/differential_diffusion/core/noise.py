"""Seeded noise by position, and the random σ fields that training draws.

Every draw is a pure function of integers (seed, step, ...), never of what was drawn before:
a run resumed at step k, a crop of the picture, or one image of a batch sees the same numbers.
"""

from __future__ import annotations

import hashlib
import math
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import InputError
from .ladder import strength_to_sigma

_BLOCK_ROWS = 64


def derive_seed(*keys: int) -> int:
    """A 32-bit seed that depends on every key (BLAKE2b of their 64-bit two's complements)."""
    packed = b"".join(struct.pack("<q", _signed64(key)) for key in keys)
    return int.from_bytes(hashlib.blake2b(packed, digest_size=4).digest(), "little")


def _signed64(key: int) -> int:
    return (int(key) + 2**63) % 2**64 - 2**63


def generator(*keys: int, device: torch.device | str = "cpu") -> torch.Generator:
    """A generator seeded by all `keys`."""
    return torch.Generator(device).manual_seed(derive_seed(*keys))


class Window(NamedTuple):
    """A rectangle of the picture: rows top..bottom and columns left..right, ends excluded."""

    top: int
    left: int
    bottom: int
    right: int

    @property
    def height(self) -> int:
        """Rows."""
        return self.bottom - self.top

    @property
    def width(self) -> int:
        """Columns."""
        return self.right - self.left


class PositionalNoise:
    """Standard normal noise that belongs to positions of the full picture.

    ``noise(k)`` is the k-th draw, (B,C,h,w) float32 on the CPU, cropped to `window`. Image b
    of the batch uses ``seeds[b]`` alone, so batching does not change it; blocks of rows have
    generators of their own, so that a window costs its own rows and sees the whole's values.

    Args:
        seeds: one integer an image.
        channels, height, width: of the full picture.
        window: the part to return; the whole picture by default.
    """

    def __init__(
        self,
        seeds: Sequence[int],
        channels: int,
        height: int,
        width: int,
        window: Window | None = None,
    ) -> None:
        self.seeds = tuple(int(seed) for seed in seeds)
        self.channels, self.height, self.width = channels, height, width
        self.window = window or Window(0, 0, height, width)

    def __call__(self, k: int) -> Tensor:
        """Draw k (k >= 0) of every image: (B,C,h,w), float32, CPU."""
        return torch.stack([self._draw(seed, k) for seed in self.seeds])

    def _draw(self, seed: int, k: int) -> Tensor:
        w = self.window
        out = torch.empty(self.channels, w.height, w.width)
        for block in range(w.top // _BLOCK_ROWS, math.ceil(w.bottom / _BLOCK_ROWS)):
            first = block * _BLOCK_ROWS
            rows = min(_BLOCK_ROWS, self.height - first)
            values = torch.randn(
                self.channels, rows, self.width, generator=generator(seed, k, block)
            )
            top, bottom = max(first, w.top), min(first + rows, w.bottom)
            out[:, top - w.top : bottom - w.top] = values[
                :, top - first : bottom - first, w.left : w.right
            ]
        return out

    def crop(self, window: Window) -> PositionalNoise:
        """The same noise seen through another window of the full picture."""
        return PositionalNoise(self.seeds, self.channels, self.height, self.width, window)

    def on_grid(self, channels: int, height: int, width: int) -> PositionalNoise:
        """Noise of the same seeds on another grid, such as that of a picture's latents."""
        return PositionalNoise(self.seeds, channels, height, width)


@dataclass(frozen=True)
class SigmaFields:
    """The law of σ-maps in training: what the model will be asked for later, in proportion.

    Each image of a batch gets one of four kinds of field:

    * `uniform`: one level, ln σ ~ N(mean, deviation²);
    * `smooth`: ln σ varies smoothly over the picture, with a spread drawn per picture;
    * `holes`: pixels known (σ = 0, or a low level, as in a noisy photograph) beside holes whose
      level is spread over the whole ladder, σ_max included, where inpainting starts;
    * `paths`: min(σ(strength map), σ_i), the maps that a soft edit walks through.

    Mean level and spread are controlled apart because levels drawn independently per region
    under-train homogeneous maps (AsyncPatch Diffusion, 2026).

    Attributes:
        uniform, smooth, holes, paths: weights of the kinds, at least 0 with a positive sum.
        mean, deviation: of ln σ, on [-1,1] data.
        spread: largest standard deviation of ln σ within a smooth field.
        sigma_min, sigma_max: the range of σ, other than 0.
        law: (count, rng) -> levels (count,), in place of the normal.
    """

    uniform: float = 0.5
    smooth: float = 0.2
    holes: float = 0.2
    paths: float = 0.1
    mean: float = -1.4
    deviation: float = 1.2
    spread: float = 1.2
    sigma_min: float = 0.002
    sigma_max: float = 20.0
    law: Callable[[int, torch.Generator], Tensor] | None = None

    def __post_init__(self) -> None:
        weights = (self.uniform, self.smooth, self.holes, self.paths)
        if min(weights) < 0 or sum(weights) <= 0:
            raise InputError(
                f"the weights of the noise fields are {weights}: none may be negative and their "
                "sum must be positive"
            )
        if not 0 < self.sigma_min < self.sigma_max:
            raise InputError(
                f"sigma_min {self.sigma_min} and sigma_max {self.sigma_max} must satisfy "
                "0 < sigma_min < sigma_max"
            )
        if self.deviation < 0 or self.spread < 0:
            raise InputError("deviation and spread of the noise fields must not be negative")

    def sample(self, batch: int, height: int, width: int, rng: torch.Generator) -> Tensor:
        """Draw σ-maps (batch,1,height,width), float32 on the generator's device."""
        kinds = self.kinds(batch, rng)
        return torch.stack([self.draw(kind, height, width, rng) for kind in kinds])

    def kinds(self, batch: int, rng: torch.Generator) -> list[int]:
        """The kind of each image of a batch, as `draw` takes it."""
        weights = torch.tensor([self.uniform, self.smooth, self.holes, self.paths])
        # Stratified: image b takes the kind at a jittered b-th quantile, so that every batch
        # holds nearly the stated proportions.
        jitter = torch.rand((), generator=rng, device=rng.device)
        quantile = (torch.arange(batch, device=rng.device) + jitter) / batch
        edges = (weights.cumsum(0) / weights.sum()).to(rng.device)
        kinds = torch.bucketize(quantile, edges[:-1], right=True)
        shuffled: list[int] = kinds[
            torch.randperm(batch, generator=rng, device=rng.device)
        ].tolist()
        return shuffled

    def draw(self, kind: int, height: int, width: int, rng: torch.Generator) -> Tensor:
        """Draw a σ-map (1,height,width) of a kind, counted in the order of the weights."""
        drawn = (self._uniform, self._smooth, self._holes, self._paths)[kind]
        return drawn(height, width, rng)

    def _log_level(self, rng: torch.Generator) -> Tensor:
        """Ln σ of one level."""
        if self.law is not None:
            return self.law(1, rng)[0].log()
        return self.mean + self.deviation * torch.randn((), generator=rng, device=rng.device)

    def _level(self, rng: torch.Generator) -> Tensor:
        """One level, clamped to the range."""
        return self._log_level(rng).exp().clamp(self.sigma_min, self.sigma_max)

    def _ladder_level(self, rng: torch.Generator) -> Tensor:
        """One level uniform on the strength scale, with σ_max itself a tenth of the time."""
        u = (torch.rand((), generator=rng, device=rng.device) * 1.1).clamp(0.05, 1.0)
        return strength_to_sigma(u, self.sigma_min, self.sigma_max)

    def _uniform(self, height: int, width: int, rng: torch.Generator) -> Tensor:
        return self._level(rng).expand(1, height, width)

    def _smooth(self, height: int, width: int, rng: torch.Generator) -> Tensor:
        level = self._log_level(rng)
        spread = self.spread * torch.rand((), generator=rng, device=rng.device)
        log_sigma = level + spread * _smooth_field(height, width, rng)
        return log_sigma.exp().clamp(self.sigma_min, self.sigma_max)

    def _holes(self, height: int, width: int, rng: torch.Generator) -> Tensor:
        hole = random_mask(height, width, rng)
        clean = torch.rand((), generator=rng, device=rng.device) < 0.75
        known = torch.where(clean, 0.0, self._level(rng).clamp(max=0.5))
        return torch.where(hole, torch.maximum(self._ladder_level(rng), known), known)

    def _paths(self, height: int, width: int, rng: torch.Generator) -> Tensor:
        offset, gain = torch.rand(2, generator=rng, device=rng.device).unbind()
        strength = (offset + 0.5 * gain * _smooth_field(height, width, rng)).clamp(0, 1)
        sigma = strength_to_sigma(strength, self.sigma_min, self.sigma_max)
        return torch.minimum(sigma, self._ladder_level(rng))


class CameraNoise(NamedTuple):
    """How cameras shape the noise of each picture, see `shape_noise`.

    Demosaicing and smoothing in the camera take high frequencies from luma and more of them from
    chroma, and white balance makes channels unequally noisy.
    """

    gain: Tensor
    chroma_gain: Tensor
    luma_blur: Tensor
    chroma_blur: Tensor

    @classmethod
    def draw(cls, batch: int, rng: torch.Generator) -> CameraNoise:
        """Draw that of each picture.

        Gains of the channels are log-normal (0.4) and so is that of chroma (0.3); luma is blurred
        by a Gaussian of up to 0.7 pixels, chroma by up to 1.2 more.
        """
        device = rng.device
        gain = torch.exp(0.4 * torch.randn(batch, 3, 1, 1, generator=rng, device=device))
        chroma_gain = torch.exp(0.3 * torch.randn(batch, 1, 1, 1, generator=rng, device=device))
        blur = torch.rand(2, batch, 1, 1, 1, generator=rng, device=device)
        luma_blur = 0.7 * blur[0]
        return cls(gain, chroma_gain, luma_blur, luma_blur + 1.2 * blur[1])

    def of(self, pictures: slice | Tensor) -> CameraNoise:
        """Of some of the pictures."""
        return CameraNoise(*(each[pictures] for each in self))

    def shape(self, noise: Tensor) -> Tensor:
        """White noise (B,3,H,W) made into such noise, of the same mean variance."""
        made = shape_noise(noise, *(each.to(noise.device) for each in self))
        return made / made.square().mean((1, 2, 3), keepdim=True).sqrt()


def shape_noise(
    noise: Tensor, gain: Tensor, chroma_gain: Tensor, luma_blur: Tensor, chroma_blur: Tensor
) -> Tensor:
    """Noise with its luma (the channels' mean) and chroma (the rest) blurred, then its gains.

    Args:
        noise: (B,3,H,W).
        gain: (B,3,1,1), of the channels.
        chroma_gain: (B,1,1,1).
        luma_blur, chroma_blur: (B,1,1,1), deviations of periodic Gaussians in pixels.
    """
    height, width = noise.shape[-2:]
    rows = torch.fft.fftfreq(height, device=noise.device)[:, None]
    columns = torch.fft.rfftfreq(width, device=noise.device)
    decay = -2 * math.pi**2 * (rows.square() + columns.square())
    spectrum = torch.fft.rfft2(noise)
    luma = spectrum.mean(1, keepdim=True)
    chroma = chroma_gain * (spectrum - luma) * torch.exp(decay * chroma_blur.square())
    luma = luma * torch.exp(decay * luma_blur.square())
    shaped: Tensor = torch.fft.irfft2(luma + chroma, s=(height, width))
    return gain * shaped


def _smooth_field(height: int, width: int, rng: torch.Generator) -> Tensor:
    """A random field (1,height,width) of about unit variance, smooth at a random scale."""
    cells = int(torch.randint(2, 9, (), generator=rng, device=rng.device))
    coarse = torch.randn(1, 1, cells, cells, generator=rng, device=rng.device)
    return F.interpolate(coarse, size=(height, width), mode="bicubic", align_corners=True)[0]


def random_mask(height: int, width: int, rng: torch.Generator) -> Tensor:
    """A random boolean mask (1,height,width): blobs, boxes, strokes, or scattered pixels."""
    kind = int(torch.randint(0, 4, (), generator=rng, device=rng.device))
    if kind == 0:
        threshold = torch.rand((), generator=rng, device=rng.device) - 0.2
        return _smooth_field(height, width, rng) > threshold
    if kind == 1:
        return _random_box(height, width, rng)
    if kind == 2:
        # The zero set of a smooth field is a family of curves: |f| < w |∇f| has even width.
        f = _smooth_field(height, width, rng)[None]
        slope = _gradient_norm(f).clamp(min=1e-6)
        half_width = 0.5 + 4 * torch.rand((), generator=rng, device=rng.device)
        return (f.abs() < half_width * slope)[0]
    share = torch.rand((), generator=rng, device=rng.device)
    return torch.rand(1, height, width, generator=rng, device=rng.device) < share


def _gradient_norm(f: Tensor) -> Tensor:
    padded = F.pad(f, (1, 1, 1, 1), mode="replicate")
    dx = (padded[..., 1:-1, 2:] - padded[..., 1:-1, :-2]) / 2
    dy = (padded[..., 2:, 1:-1] - padded[..., :-2, 1:-1]) / 2
    return (dx * dx + dy * dy).sqrt()


def _random_box(height: int, width: int, rng: torch.Generator) -> Tensor:
    u = torch.rand(4, generator=rng, device=rng.device).tolist()
    h, w = max(1, int(height * (0.1 + 0.6 * u[0]))), max(1, int(width * (0.1 + 0.6 * u[1])))
    top, left = int((height - h) * u[2]), int((width - w) * u[3])
    mask = torch.zeros(1, height, width, dtype=torch.bool, device=rng.device)
    mask[:, top : top + h, left : left + w] = True
    return mask
