"""Whatever goes wrong becomes one sentence on stderr and an exit code."""

from __future__ import annotations

import errno
import os
from typing import Any

import typer
from typer.core import TyperGroup

from ..errors import InputError, MissingExtraError

UNEXPECTED, BAD_INPUT, INTERRUPTED = 1, 2, 130

_MEMORY = ("out of memory", "not enough memory", "can't allocate memory")


def debugging() -> bool:
    """Whether DIFFDIFF_DEBUG asks for tracebacks of unexpected errors."""
    return os.environ.get("DIFFDIFF_DEBUG", "") not in ("", "0")


def explain(error: Exception) -> tuple[str, int]:
    """One sentence for the user, on one line, and the exit code that goes with it."""
    if isinstance(error, InputError | MissingExtraError | FloatingPointError):
        return _one_line(str(error)), BAD_INPUT
    if isinstance(error, MemoryError) or any(word in str(error).lower() for word in _MEMORY):
        return "there is not enough memory: lower --tile, or shrink the picture.", BAD_INPUT
    if isinstance(error, OSError):
        what = f"'{error.filename}'" if error.filename else "a file"
        reason = error.strerror or _one_line(str(error)) or type(error).__name__
        return f"{what} cannot be read or written ({reason}): check its place.", BAD_INPUT
    what = _one_line(f"{type(error).__name__}: {error}").rstrip(": ")
    remedy = "please report it, with what DIFFDIFF_DEBUG=1 shows."
    return f"something unexpected went wrong ({what}): {remedy}", UNEXPECTED


def complain(sentence: str) -> None:
    """Print an error on stderr."""
    typer.echo(f"{typer.style('error:', fg='red', bold=True)} {sentence}", err=True)


class Commands(TyperGroup):
    """A group of commands that reports every error as one sentence."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command named on the command line.

        Raises:
            typer.Exit: with 2 for bad input, 1 for what should not happen, 130 for Ctrl-C.
        """
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            typer.echo("interrupted.", err=True)
            raise typer.Exit(INTERRUPTED) from None
        except (typer.Exit, typer.Abort):
            raise
        except Exception as error:
            if isinstance(error, OSError) and error.errno == errno.EPIPE:
                raise  # whoever read stdout has left: Typer ends quietly
            sentence, code = _usage(error) or explain(error)
            if code == UNEXPECTED and debugging():
                raise
            complain(sentence)
            raise typer.Exit(code) from None


def _usage(error: Exception) -> tuple[str, int] | None:
    """The sentence for a command line that Typer could not read, if that is what it is."""
    if not hasattr(error, "format_message"):
        return None
    sentence = _one_line(error.format_message())
    where = getattr(getattr(error, "ctx", None), "command_path", "diffdiff")
    return f"{sentence.rstrip('.?')}: see '{where} --help'.", BAD_INPUT


def _one_line(text: str) -> str:
    return " ".join(text.split())
