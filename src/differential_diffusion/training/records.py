"""The figures of a run in metrics.jsonl: one line for each validation, each step once."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError

from ..errors import InputError
from ..files import write_atomically

METRICS_FILE = "metrics.jsonl"


def append_record(output: Path, record: dict[str, float]) -> None:
    """Add the figures of a validation."""
    with open(output / METRICS_FILE, "a", encoding="utf-8") as file:
        file.write(json.dumps(record) + "\n")


def forget_later(output: Path, step: int) -> None:
    """Drop the figures of steps after this one, and a line that was cut off."""
    path = output / METRICS_FILE
    if not path.is_file():
        return
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines(keepends=True)
    kept = [line for line in lines if line.endswith("\n") and _step(line) <= step]
    write_atomically(path, "".join(kept).encode())


def _step(line: str) -> float:
    try:
        return float(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError):
        return float("inf")


def remove_drafts(output: Path) -> None:
    """Remove the half-written files that a killed run left behind."""
    for folder in (output, output / "final", output / "samples"):
        for draft in folder.glob(".*.part"):
            draft.unlink(missing_ok=True)


@contextmanager
def written(what: str) -> Iterator[None]:
    """Failing writes as one sentence.

    Raises:
        InputError: if what is written inside cannot be.
    """
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
    except SafetensorError as error:  # what it raises for a full disk
        reason = str(error)
    except InputError as error:
        cause = error.__cause__
        if not isinstance(cause, OSError):
            raise
        reason = cause.strerror or str(cause)
    else:
        return
    raise InputError(
        f"{what} cannot be written ({reason}): make room or choose another output; what was saved "
        "before is whole"
    )
