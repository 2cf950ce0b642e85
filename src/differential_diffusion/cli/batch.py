"""One picture after the other: names and patterns become files, and failures become exit codes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol, TypeVar

import typer

from ..errors import BAD_INPUT, UNEXPECTED, InputError, explain
from .common import Reporter
from .errors import debugging

__all__ = ["expanded", "run_each"]


class Source(Protocol):
    """What one round of work is about: a path, or something else with a name."""

    @property
    def name(self) -> str:
        """What the progress bar calls it; error records use `str`."""


S = TypeVar("S", bound=Source)
Work = Callable[[S, Callable[[Any], None]], tuple[dict[str, Any], str]]


def expanded(images: list[str], report: Reporter) -> tuple[list[Path], int]:
    """The pictures that the arguments stand for, and how many arguments stand for none."""
    from ..images import expand

    found: dict[Path, None] = {}
    failed = 0
    for name in images:
        try:
            found |= dict.fromkeys(expand([name]))
        except InputError as error:
            report.error(explain(error)[0], name)
            failed += 1
    return list(found), failed


def run_each(sources: list[S], work: Work[S], report: Reporter, *, unmatched: int = 0) -> None:
    """Do the work for every picture, with a progress bar, and report each.

    Args:
        sources: the pictures.
        work: given a picture and what to call with its progress, returns its record, and a line
            that says it.
        report: says what was done and what failed.
        unmatched: arguments that stood for no picture, and count as failed.

    Raises:
        typer.Exit: if any failed, after all the others were done.
    """
    codes = []
    with report.progress() as bar:
        whole = bar.add_task("all", total=len(sources), visible=len(sources) > 1)
        task = bar.add_task("", total=1.0)
        for index, source in enumerate(sources):
            label = f"{index + 1}/{len(sources)} {source.name}"
            bar.reset(task, description=label)

            def show(progress: Any, label: str = label) -> None:
                passes = f", pass {progress.run}" if progress.run > 1 else ""
                bar.update(task, completed=progress.fraction, description=label + passes)

            try:
                report.record(*work(source, show))
            except Exception as error:
                sentence, code = explain(error)
                if code == UNEXPECTED and debugging():
                    raise
                report.error(sentence, str(source))
                codes.append(code)
            bar.update(whole, completed=index + 1)
    total, failed = len(sources) + unmatched, unmatched + len(codes)
    if total > 1:
        report.note(f"{total - failed} of {total} pictures done, {failed} failed.")
    if failed:
        raise typer.Exit(UNEXPECTED if UNEXPECTED in codes else BAD_INPUT)
