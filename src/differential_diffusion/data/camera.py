"""A camera between the scene and the file: noise as photographs really carry it.

The pipeline, for a picture whose encoded values are taken as the scene:

1. decode sRGB to linear light and undo the white balance, so that red and blue are dimmer;
2. blur as lens and pixels do: Gaussian of 0.6 pixels, half contrast at 0.3 cycles a pixel.
   Without it a picture as sharp as its pixels aliases behind the colour filter, and demosaicing
   leaves false colours that outweigh the noise;
3. sample through an RGGB colour filter array, one channel at each pixel;
4. add shot and read noise, `y ~ N(x, shot * x + read)` (Foi et al., "Practical
   Poissonian-Gaussian noise modeling and fitting", IEEE TIP 2008, eq. 1-3);
5. clip at full well, quantise to `bits` above a black level that keeps negative values;
6. demosaic (Malvar, He and Cutler, ICASSP 2004, or bilinear), which correlates the noise;
7. white balance, clip, encode to sRGB, which makes the noise strongest in the shadows;
8. round to 8 bits and, unless `jpeg_quality` is None, compress to JPEG and read it back.

The noise parameters follow ISO as in Brooks et al., "Unprocessing Images for Learned Raw
Denoising", CVPR 2019, sec. 3.1: shot from 1e-4 to 1.2e-2, log(read) = 2.18 log(shot) + 1.2.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from ..errors import InputError

__all__ = ["Camera", "decode_srgb", "demosaic", "encode_srgb", "simulate_camera"]

Array = NDArray[np.float32]


@dataclass(frozen=True)
class Camera:
    """What the simulated camera does to a scene.

    Attributes:
        shot: variance of the shot noise per unit of linear signal (full well = 1), >= 0.
        read: variance of the read noise in linear units, >= 0.
        red_gain: white-balance gain of red, >= 1.
        blue_gain: white-balance gain of blue, >= 1.
        optics: deviation of the Gaussian blur of lens and pixels, in pixels, >= 0.
        bits: bits of the analogue-digital converter, 1 to 16.
        demosaic: "malvar" or "bilinear".
        jpeg_quality: 1 to 100, or None for no JPEG step.
        subsample_chroma: JPEG 4:2:0 in place of 4:4:4.
    """

    shot: float = 2e-3
    read: float = 4.3e-6
    red_gain: float = 2.0
    blue_gain: float = 1.6
    optics: float = 0.6
    bits: int = 12
    demosaic: str = "malvar"
    jpeg_quality: int | None = 92
    subsample_chroma: bool = False

    def __post_init__(self) -> None:
        if not (math.isfinite(self.shot) and self.shot >= 0):
            raise InputError(f"shot is {self.shot}: give a finite variance of 0 or more.")
        if not (math.isfinite(self.read) and self.read >= 0):
            raise InputError(f"read is {self.read}: give a finite variance of 0 or more.")
        if not (self.red_gain >= 1 and self.blue_gain >= 1):
            raise InputError(
                f"red_gain {self.red_gain} and blue_gain {self.blue_gain} must be 1 or more."
            )
        if not 0 <= self.optics <= 100:
            raise InputError(f"optics is {self.optics}: give a blur of 0 to 100 pixels.")
        if not 1 <= self.bits <= 16:
            raise InputError(f"bits is {self.bits}: give 1 to 16.")
        if self.demosaic not in ("malvar", "bilinear"):
            raise InputError(f"demosaic is {self.demosaic!r}: give 'malvar' or 'bilinear'.")
        if self.jpeg_quality is not None and not 1 <= self.jpeg_quality <= 100:
            raise InputError(f"jpeg_quality is {self.jpeg_quality}: give 1 to 100, or None.")

    @classmethod
    def at_iso(
        cls, iso: float, *, jpeg_quality: int | None = 92, demosaic: str = "malvar"
    ) -> Camera:
        """A camera at a sensitivity: ISO 100 is shot 1e-4 and ISO 12000 is shot 1.2e-2.

        Raises:
            InputError: the ISO is not a positive finite number, or another field is bad.
        """
        if not (math.isfinite(iso) and iso > 0):
            raise InputError(f"iso is {iso}: give a positive number such as 1600.")
        shot = 1e-6 * iso
        read = math.exp(2.18 * math.log(shot) + 1.2)
        return cls(shot=shot, read=read, jpeg_quality=jpeg_quality, demosaic=demosaic)

    def without_noise(self) -> Camera:
        """The same camera with neither noise nor JPEG: what a perfect denoiser would return."""
        return replace(self, shot=0.0, read=0.0, bits=16, jpeg_quality=None)


def decode_srgb(encoded: Array) -> Array:
    """sRGB-encoded values in [0, 1] to linear light in [0, 1] (IEC 61966-2-1)."""
    low = encoded <= 0.04045
    return np.where(low, encoded / 12.92, ((np.maximum(encoded, 0) + 0.055) / 1.055) ** 2.4).astype(
        np.float32
    )


def encode_srgb(linear: Array) -> Array:
    """Linear light in [0, 1] to sRGB-encoded values in [0, 1] (IEC 61966-2-1)."""
    low = linear <= 0.0031308
    return np.where(
        low, linear * 12.92, 1.055 * np.maximum(linear, 0.0031308) ** (1 / 2.4) - 0.055
    ).astype(np.float32)


_MALVAR_GREEN = (
    np.array(
        [[0, 0, -1, 0, 0], [0, 0, 2, 0, 0], [-1, 2, 4, 2, -1], [0, 0, 2, 0, 0], [0, 0, -1, 0, 0]],
        np.float32,
    )
    / 8
)
_MALVAR_ROW = (
    np.array(
        [
            [0, 0, 1, 0, 0],
            [0, -2, 0, -2, 0],
            [-2, 8, 10, 8, -2],
            [0, -2, 0, -2, 0],
            [0, 0, 1, 0, 0],
        ],
        np.float32,
    )
    / 16
)
_MALVAR_CROSS = (
    np.array(
        [[0, 0, -3, 0, 0], [0, 4, 0, 4, 0], [-3, 0, 12, 0, -3], [0, 4, 0, 4, 0], [0, 0, -3, 0, 0]],
        np.float32,
    )
    / 16
)
_BILINEAR = np.array([[1, 2, 1], [2, 4, 2], [1, 2, 1]], np.float32) / 4
_BILINEAR_GREEN = np.array([[0, 1, 0], [1, 4, 1], [0, 1, 0]], np.float32) / 4


def _bayer_sites(height: int, width: int) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Where an RGGB array of this size has red and where it has blue."""
    even_row = (np.arange(height) % 2 == 0)[:, None]
    even_col = (np.arange(width) % 2 == 0)[None, :]
    return even_row & even_col, ~even_row & ~even_col


def demosaic(mosaic: Array, method: str = "malvar") -> Array:
    """RGGB mosaic (H,W) to linear RGB (H,W,3).

    "malvar" is the 5x5 gradient-corrected interpolation of Malvar, He and Cutler (ICASSP
    2004, fig. 2); "bilinear" averages the nearest samples of each colour.
    """
    red, blue = _bayer_sites(*mosaic.shape)
    green = ~(red | blue)

    def correlate(plane: Array, kernel: NDArray[np.float64]) -> Array:
        out = cv2.filter2D(plane, cv2.CV_32F, kernel, borderType=cv2.BORDER_REFLECT_101)
        return np.asarray(out, np.float32)

    if method == "bilinear":
        planes = [
            correlate(mosaic * red, _BILINEAR),
            correlate(mosaic * green, _BILINEAR_GREEN),
            correlate(mosaic * blue, _BILINEAR),
        ]
        return np.stack(planes, axis=-1)

    red_row = (np.arange(mosaic.shape[0]) % 2 == 0)[:, None]
    along_row = correlate(mosaic, _MALVAR_ROW)
    along_col = correlate(mosaic, _MALVAR_ROW.T.copy())
    across = correlate(mosaic, _MALVAR_CROSS)
    red_plane = np.where(
        red, mosaic, np.where(blue, across, np.where(red_row, along_row, along_col))
    )
    blue_plane = np.where(
        blue, mosaic, np.where(red, across, np.where(red_row, along_col, along_row))
    )
    green_plane = np.where(green, mosaic, correlate(mosaic, _MALVAR_GREEN))
    return np.stack([red_plane, green_plane, blue_plane], axis=-1).astype(np.float32)


def simulate_camera(rgb: NDArray[np.floating], camera: Camera | None = None, *, seed: int) -> Array:
    """The picture a noisy camera would have written of this scene.

    Args:
        rgb: scene (H,W,3), sRGB-encoded values in [-1, 1].
        camera: noise and processing; the default is `Camera()`, about ISO 2000.
        seed: of the noise; the same seed gives the same picture.

    Returns:
        (H,W,3) float32 in [-1, 1], on the 8-bit lattice.

    Raises:
        InputError: the picture is not (H,W,3) or not finite.
    """
    camera = camera or Camera()
    rgb = np.asarray(rgb, np.float32)
    if rgb.ndim != 3 or rgb.shape[2] != 3 or 0 in rgb.shape:
        raise InputError(f"rgb has shape {rgb.shape}: give a colour picture (height, width, 3).")
    if not np.isfinite(rgb).all():
        raise InputError("rgb holds NaN or infinity: give finite values in [-1, 1].")

    gains = np.array([camera.red_gain, 1.0, camera.blue_gain], np.float32)
    scene = decode_srgb(np.clip((rgb + 1) / 2, 0, 1)) / gains
    if camera.optics > 0:
        blurred = cv2.GaussianBlur(scene, (0, 0), camera.optics, borderType=cv2.BORDER_REFLECT_101)
        scene = np.asarray(blurred, np.float32)
    red, blue = _bayer_sites(*rgb.shape[:2])
    mosaic = np.where(red, scene[..., 0], np.where(blue, scene[..., 2], scene[..., 1]))

    rng = np.random.default_rng(seed)
    deviation = np.sqrt(camera.shot * mosaic + camera.read)
    mosaic = mosaic + deviation * rng.standard_normal(mosaic.shape, np.float32)
    levels = 2**camera.bits - 1
    mosaic = (np.round(np.minimum(mosaic, 1) * levels) / levels).astype(np.float32)

    developed = encode_srgb(np.clip(demosaic(mosaic, camera.demosaic) * gains, 0, 1))
    pixels = np.round(developed * 255).astype(np.uint8)
    if camera.jpeg_quality is not None:
        pixels = _through_jpeg(pixels, camera.jpeg_quality, camera.subsample_chroma)
    return pixels.astype(np.float32) / 127.5 - 1


def _through_jpeg(rgb: NDArray[np.uint8], quality: int, subsample: bool) -> NDArray[np.uint8]:
    factor = (
        cv2.IMWRITE_JPEG_SAMPLING_FACTOR_420 if subsample else cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444
    )
    options = [cv2.IMWRITE_JPEG_QUALITY, quality, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, factor]
    _, buffer = cv2.imencode(".jpg", cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR), options)
    decoded = cv2.imdecode(buffer, cv2.IMREAD_COLOR)
    assert decoded is not None  # it was encoded a line above
    return np.asarray(cv2.cvtColor(decoded, cv2.COLOR_BGR2RGB), np.uint8)
