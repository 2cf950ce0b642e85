"""Diffusers, where it is installed."""

from __future__ import annotations

from typing import Any

from ..errors import MissingExtraError


def diffusers_for(feature: str) -> Any:
    """The package, imported when it is asked for.

    Args:
        feature: what needs it, for the error.

    Raises:
        MissingExtraError: if it is not installed.
    """
    try:
        import diffusers
    except ModuleNotFoundError as error:
        if error.name != "diffusers":
            raise
        raise MissingExtraError(feature, "diffusers") from None
    return diffusers
