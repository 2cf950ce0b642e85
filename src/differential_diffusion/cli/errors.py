"""Whatever goes wrong becomes one sentence on stderr and an exit code."""

from __future__ import annotations

import errno
import os
from typing import Any

import typer
from typer.core import TyperGroup

from ..errors import BAD_INPUT, INTERRUPTED, UNEXPECTED, explain, on_one_line


def debugging() -> bool:
    """Whether DIFFDIFF_DEBUG asks for tracebacks of unexpected errors."""
    return os.environ.get("DIFFDIFF_DEBUG", "") not in ("", "0")


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
    sentence = on_one_line(error.format_message())
    where = getattr(getattr(error, "ctx", None), "command_path", "diffdiff")
    return f"{sentence.rstrip('.?')}: see '{where} --help'.", BAD_INPUT
