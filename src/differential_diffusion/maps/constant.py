"""The same strength everywhere."""

from __future__ import annotations

from .strength import StrengthMap

__all__ = ["constant_map"]


def constant_map(height: int, width: int, *, strength: float = 1.0) -> StrengthMap:
    """The same strength everywhere: 1 generates, less is image-to-image.

    Args:
        height: rows.
        width: columns.
        strength: in [0, 1].

    Raises:
        InputError: a strength outside [0, 1], or a bad size.
    """
    return StrengthMap.constant(strength, height, width)
