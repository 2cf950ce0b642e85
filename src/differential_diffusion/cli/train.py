"""train: a model, or a codec for one, from a folder or archive of pictures."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import INTERRUPTED, MissingExtraError
from .common import Quiet, Reporter

if TYPE_CHECKING:
    from ..training.loop import Progress

_LOG_SECONDS = 60.0


def train(
    config: Annotated[
        Path, typer.Argument(help="A YAML file; see the documentation.", show_default=False)
    ],
    resume: Annotated[
        bool, typer.Option("--resume/--no-resume", help="Go on from the newest checkpoint.")
    ] = True,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            help="Replace a setting, dots between sections; may be given several times.",
        ),
    ] = None,
    quiet: Quiet = False,
) -> None:
    """Train a model, or a codec for one, on your pictures; run it again to go on after a stop."""
    try:
        from ..training import TrainingStopped, load_config, overrides
        from ..training import train as run
    except ModuleNotFoundError as error:
        if error.name != "accelerate":
            raise
        raise MissingExtraError("training", "train") from None

    chosen = load_config(config, overrides(config, settings or []))
    report = Reporter(quiet=quiet)
    try:
        with report.progress("{task.fields[speed]}") as bar:
            final = run(chosen, resume=resume, on_step=_Display(bar, report), on_note=report.note)
    except TrainingStopped as stop:
        typer.echo(f"{stop}.", err=True)
        raise typer.Exit(128 + stop.signal) from None
    except KeyboardInterrupt:
        typer.echo("interrupted: the same command goes on from the last checkpoint.", err=True)
        raise typer.Exit(INTERRUPTED) from None
    if not quiet:
        what = "codec" if chosen.kind == "codec" else "model"
        use = f"latent: {{codec: {final}}}" if what == "codec" else f"--model {final}"
        typer.echo(f"the {what} is in {final}; use it with {use}")


class _Display:
    """Shows the steps of a run: a bar on a terminal, a line now and then in a log."""

    def __init__(self, bar: Any, report: Reporter) -> None:
        self.bar, self.report = bar, report
        self.task: Any = None
        self.logged = time.monotonic()

    def __call__(self, progress: Progress) -> None:
        speed, label = progress.speed, progress.label
        if self.task is None:
            if progress.step > 1:
                self.report.note(f"going on from step {progress.step - 1}.")
            self.task = self.bar.add_task(label, total=progress.steps, speed=speed)
        self.bar.update(self.task, completed=progress.step, description=label, speed=speed)
        due = self.bar.disable and time.monotonic() - self.logged > _LOG_SECONDS
        if progress.metrics or due:
            self.logged = time.monotonic()
            self.report.note(progress.line())
