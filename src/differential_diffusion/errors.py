"""Errors that name the input at fault and the remedy, in one sentence."""

from __future__ import annotations

__all__ = [
    "BAD_INPUT",
    "INTERRUPTED",
    "UNEXPECTED",
    "InputError",
    "MissingExtraError",
    "explain",
    "on_one_line",
    "out_of_memory",
]

UNEXPECTED, BAD_INPUT, INTERRUPTED = 1, 2, 130
"""Exit codes."""

_MEMORY = ("out of memory", "not enough memory", "can't allocate memory")


class InputError(ValueError):
    """Bad input: the message is one sentence that names the input and the remedy."""


class MissingExtraError(ImportError):
    """An optional dependency is missing: the message names the extra to install."""

    def __init__(self, feature: str, extra: str) -> None:
        super().__init__(
            f"{feature} needs the extra '{extra}': pip install 'differential-diffusion[{extra}]'."
        )


def explain(error: Exception) -> tuple[str, int]:
    """One sentence for the user, on one line, and the exit code that goes with it."""
    if isinstance(error, InputError | MissingExtraError | FloatingPointError):
        return on_one_line(str(error)), BAD_INPUT
    if out_of_memory(error):
        return "there is not enough memory: lower --tile, or shrink the picture.", BAD_INPUT
    if isinstance(error, OSError):
        what = f"'{error.filename}'" if error.filename else "a file"
        reason = error.strerror or on_one_line(str(error)) or type(error).__name__
        return f"{what} cannot be read or written ({reason}): check its place.", BAD_INPUT
    what = on_one_line(f"{type(error).__name__}: {error}").rstrip(": ")
    remedy = "please report it, with what DIFFDIFF_DEBUG=1 shows."
    return f"something unexpected went wrong ({what}): {remedy}", UNEXPECTED


def out_of_memory(error: Exception) -> bool:
    """Whether a computation found no room."""
    words = str(error).lower()
    return isinstance(error, MemoryError) or any(word in words for word in _MEMORY)


def on_one_line(text: str) -> str:
    """The text without line breaks."""
    return " ".join(text.split())
