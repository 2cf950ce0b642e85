"""Encoders that the package does not use, so that reading is tested against independent bytes."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest

COLOUR_TYPE = {1: 0, 2: 4, 3: 2, 4: 6}


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def encode(
    samples: npt.NDArray[np.integer],
    *,
    depth: int | None = None,
    before: dict[bytes, bytes] | None = None,
    after: dict[bytes, bytes] | None = None,
) -> bytes:
    """PNG without filters; `depth` under 8 packs grey samples, chunks go around the data."""
    height, width = samples.shape[:2]
    channels = 1 if samples.ndim == 2 else samples.shape[2]
    depth = depth or 8 * samples.dtype.itemsize
    if depth < 8:
        bits = np.unpackbits(samples.astype(np.uint8)[..., None], axis=-1)[..., -depth:]
        rows = np.packbits(bits.reshape(height, -1), axis=1)
    else:
        rows = samples.reshape(height, -1)
    lines = b"".join(b"\0" + row.astype(f">u{max(1, depth // 8)}").tobytes() for row in rows)
    header = struct.pack(">IIBBBBB", width, height, depth, COLOUR_TYPE[channels], 0, 0, 0)
    parts = [(b"IHDR", header), *(before or {}).items(), (b"IDAT", zlib.compress(lines))]
    parts += [*(after or {}).items(), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in parts)


@pytest.fixture(scope="session")
def png() -> Callable[..., bytes]:
    return encode


@pytest.fixture(scope="session")
def samples() -> Callable[..., npt.NDArray[np.generic]]:
    """Random samples over the whole range, both ends among them."""

    def draw(dtype: str, *shape: int, seed: int = 0) -> npt.NDArray[np.generic]:
        rng = np.random.default_rng(seed)
        if dtype == "bool":
            return rng.random(shape) < 0.5
        if dtype.startswith("float"):
            values = rng.random(shape).astype(dtype)
            values.flat[0], values.flat[-1] = 0, 1
            return values
        values = rng.integers(0, np.iinfo(dtype).max + 1, shape, dtype=dtype)
        values.flat[0], values.flat[-1] = 0, np.iinfo(dtype).max
        return values

    return draw
