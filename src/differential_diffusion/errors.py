"""Errors that name the input at fault and the remedy, in one sentence."""

from __future__ import annotations

__all__ = ["InputError", "MissingExtraError"]


class InputError(ValueError):
    """Bad input: the message is one sentence that names the input and the remedy."""


class MissingExtraError(ImportError):
    """An optional dependency is missing: the message names the extra to install."""

    def __init__(self, feature: str, extra: str) -> None:
        super().__init__(
            f"{feature} needs the extra '{extra}': pip install 'differential-diffusion[{extra}]'."
        )
