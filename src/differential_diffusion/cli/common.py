"""What the commands share: the options of every task, and what is said on stdout and stderr."""

from __future__ import annotations

import inspect
import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import typer

from ..errors import InputError
from ..keyvalue import key_value
from .errors import complain

_HOW, _OUT, _MODEL = "How to sample", "What comes out", "Model and machine"
_PIPELINE = "With a pipeline of Diffusers"

Images = Annotated[
    list[str], typer.Argument(help="Image files, folders or patterns.", show_default=False)
]
Noise = Annotated[
    str | None,
    typer.Option(
        help="σ of the picture's own noise on the 0-255 scale: a number, 'auto' to estimate it, "
        "or a grey picture of the levels (black 0, white 255).",
        show_default=False,
    ),
]
Invert = Annotated[bool, typer.Option("--invert", help="Read the map as white = keep.")]
Quiet = Annotated[
    bool, typer.Option("--quiet", "-q", help="Say nothing but errors.", rich_help_panel=_OUT)
]


@dataclass(frozen=True)
class Settings:
    """The options that every task takes; None leaves a setting to the task."""

    seed: Annotated[
        int | None, typer.Option(help="Seed of all randomness [default: 0].", rich_help_panel=_HOW)
    ] = None
    steps: Annotated[
        int | None,
        typer.Option(
            help="Length of the whole noise ladder [default: 20; denoise, enhance: 150].",
            rich_help_panel=_HOW,
        ),
    ] = None
    solver: Annotated[
        str | None,
        typer.Option(
            help="A solver by name; `diffdiff doctor` lists them.",
            rich_help_panel=_HOW,
        ),
    ] = None
    path: Annotated[
        str | None,
        typer.Option(
            help="'wait' (a pixel starts when the ladder reaches its level) or 'together' "
            "[default: wait].",
            rich_help_panel=_HOW,
        ),
    ] = None
    samples: Annotated[
        int | None,
        typer.Option(help="How many results to draw [default: 1].", rich_help_panel=_HOW),
    ] = None
    estimate: Annotated[
        str | None,
        typer.Option(
            help="Of several samples, write each as NAME-1, NAME-2 ... ('sample') or their 'mean' "
            "[default: sample for edit, inpaint and generate, else mean].",
            rich_help_panel=_HOW,
        ),
    ] = None
    views: Annotated[
        int | None,
        typer.Option(
            help="Turned and mirrored views, up to 8, that each estimate is the mean of: less "
            "error, as many times the work [default: 1].",
            rich_help_panel=_HOW,
        ),
    ] = None
    output: Annotated[
        str | None,
        typer.Option(
            "--output",
            "-o",
            help="A file for one picture, else a folder [default: NAME-TASK beside the picture].",
            rich_help_panel=_OUT,
        ),
    ] = None
    force: Annotated[
        bool,
        typer.Option(
            "--force", help="Replace outputs that exist; never an input.", rich_help_panel=_OUT
        ),
    ] = False
    preview: Annotated[
        str | None,
        typer.Option(
            help="Write a PNG of input, map, output and difference side by side; a folder for "
            "several pictures.",
            rich_help_panel=_OUT,
        ),
    ] = None
    map_out: Annotated[
        str | None,
        typer.Option(
            help="Write the map that was used as a 16-bit PNG; a folder for several pictures.",
            rich_help_panel=_OUT,
        ),
    ] = None
    save_steps: Annotated[
        str | None,
        typer.Option(
            help="Write the sampling as it went: a .gif, or a .png with a few steps in a row; a "
            "folder, of GIFs, for several pictures.",
            rich_help_panel=_OUT,
        ),
    ] = None
    json: Annotated[
        bool,
        typer.Option("--json", help="One JSON object a picture on stdout.", rich_help_panel=_OUT),
    ] = False
    quiet: Quiet = False
    model: Annotated[
        str,
        typer.Option(
            help="'prior' (bundled), a checkpoint folder, a .safetensors file, or a Diffusers "
            "pipeline: its folder or its id on the hub.",
            rich_help_panel=_MODEL,
        ),
    ] = "prior"
    config: Annotated[
        str | None,
        typer.Option(
            help="The description of a .safetensors file [default: beside it].",
            rich_help_panel=_MODEL,
        ),
    ] = None
    device: Annotated[
        str | None,
        typer.Option(
            help="cpu, cuda, cuda:N or mps [default: the best present].", rich_help_panel=_MODEL
        ),
    ] = None
    precision: Annotated[
        str | None,
        typer.Option(help="auto, fp32 or bf16 [default: auto].", rich_help_panel=_MODEL),
    ] = None
    tile: Annotated[
        int | None,
        typer.Option(
            help="Largest side in pixels of a piece given to the network at once [default: 1024].",
            rich_help_panel=_MODEL,
        ),
    ] = None

    def request_fields(self) -> dict[str, Any]:
        """What was set of a request's fields; the rest is left to the task."""
        names = (
            "seed", "steps", "solver", "path", "samples", "estimate", "views",
            "model", "config", "device", "precision", "tile",
        )  # fmt: skip
        chosen = {name: getattr(self, name) for name in names}
        return {name: value for name, value in chosen.items() if value is not None}


@dataclass(frozen=True)
class PromptedSettings(Settings):
    """What the tasks take besides that a Diffusers pipeline can do."""

    prompt: Annotated[
        str | None,
        typer.Option("--prompt", "-p", help="What to make of it.", rich_help_panel=_PIPELINE),
    ] = None
    negative_prompt: Annotated[
        str | None, typer.Option(help="What to keep away from.", rich_help_panel=_PIPELINE)
    ] = None
    guidance_scale: Annotated[
        float | None,
        typer.Option(help="How much the prompt counts.", rich_help_panel=_PIPELINE),
    ] = None
    pipeline_kwargs: Annotated[
        list[str] | None,
        typer.Option(
            "--pipeline",
            metavar="KEY=VALUE",
            help="Any other argument of the pipeline, its value as YAML; an image's as its file.",
            rich_help_panel=_PIPELINE,
        ),
    ] = None
    region: Annotated[
        str | None,
        typer.Option(
            help="'auto' gives the pipeline what changes and --context around it, 'whole' the "
            "whole picture [default: auto].",
            rich_help_panel=_PIPELINE,
        ),
    ] = None
    context: Annotated[
        int | None,
        typer.Option(
            help="Pixels to show around what changes [default: 64].", rich_help_panel=_PIPELINE
        ),
    ] = None
    crop_size: Annotated[
        int | None,
        typer.Option(
            help="Pixels a side of what it is shown, at least [default: the model's own size].",
            rich_help_panel=_PIPELINE,
        ),
    ] = None
    prefill: Annotated[
        str | None,
        typer.Option(
            help="What to put where strength is 1 before the pipeline sees it: 'mean', 'noise', "
            "'coarse' or the 'prior'; the original would overpower the prompt [default: none].",
            rich_help_panel=_PIPELINE,
        ),
    ] = None
    fade_below: Annotated[
        float | None,
        typer.Option(
            help="Strength below which the result fades into the original [default: 0.1].",
            rich_help_panel=_PIPELINE,
        ),
    ] = None
    border: Annotated[
        int | None,
        typer.Option(
            help="Pixels over which it fades into what is kept, 0 for a hard border [default: 4].",
            rich_help_panel=_PIPELINE,
        ),
    ] = None
    exact: Annotated[
        bool | None,
        typer.Option(
            "--exact/--no-exact",
            help="Keep what has strength 0 bit for bit [default: exact].",
            rich_help_panel=_PIPELINE,
        ),
    ] = None
    compat: Annotated[
        str | None,
        typer.Option(
            help="'published' for the loop of the paper's code, with one step more.",
            rich_help_panel=_PIPELINE,
        ),
    ] = None
    skip_idle: Annotated[
        bool | None,
        typer.Option(
            "--skip-idle/--no-skip-idle",
            help="Leave out steps in which nothing moves [default: skip-idle].",
            rich_help_panel=_PIPELINE,
        ),
    ] = None
    warmup_steps: Annotated[
        int | None,
        typer.Option(
            help="Idle steps to do all the same, for schedulers with a memory [default: 0].",
            rich_help_panel=_PIPELINE,
        ),
    ] = None
    batch_size: Annotated[
        int | None,
        typer.Option(help="Samples to draw at once [default: 1].", rich_help_panel=_PIPELINE),
    ] = None

    def request_fields(self) -> dict[str, Any]:
        """What was set of a request's fields; the rest is left to the task."""
        own = {f.name for f in fields(PromptedSettings)} - {f.name for f in fields(Settings)}
        chosen = {name: getattr(self, name) for name in sorted(own)}
        if self.pipeline_kwargs is not None:
            pairs = (key_value("--pipeline", text) for text in self.pipeline_kwargs)
            chosen["pipeline_kwargs"] = dict(pairs)
        given = {name: value for name, value in chosen.items() if value is not None}
        return super().request_fields() | given


def with_settings(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command one option for each field of its last parameter's `Settings`."""
    *own, last = inspect.signature(command, eval_str=True).parameters.values()
    kind: type[Settings] = last.annotation
    hints = get_type_hints(kind, include_extras=True)
    keyword = inspect.Parameter.KEYWORD_ONLY
    options = [
        inspect.Parameter(f.name, keyword, default=f.default, annotation=hints[f.name])
        for f in fields(kind)
    ]
    parameters = [*(p.replace(kind=keyword) for p in own), *options]

    def call(**given: Any) -> None:
        chosen = {f.name: given.pop(f.name) for f in fields(kind)}
        command(**given, settings=kind(**chosen))

    call.__name__, call.__doc__ = command.__name__, command.__doc__
    call.__annotations__ = {p.name: p.annotation for p in parameters}
    call.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    return call


def number_or_file(option: str, text: str) -> float | str:
    """The number that an option's text says, or the path of a file that exists.

    Raises:
        InputError: It is neither.
    """
    try:
        return float(text)
    except ValueError:
        pass
    if not Path(text).expanduser().is_file():
        raise InputError(f"{option} '{text}' is neither a number nor a file: check it.")
    return text


def refuse(*idle: tuple[bool, str]) -> None:
    """Refuse options that would do nothing.

    Args:
        idle: whether an option would, and what to say then.

    Raises:
        InputError: for the first.
    """
    for is_idle, sentence in idle:
        if is_idle:
            raise InputError(sentence)


class Reporter:
    """Says what was done on stdout, and how it goes and what failed on stderr.

    Args:
        json_lines: stdout gets JSON objects, one a line, and nothing else.
        quiet: nothing but errors and JSON.
    """

    def __init__(self, *, json_lines: bool = False, quiet: bool = False) -> None:
        from rich.console import Console

        self.json_lines, self.quiet = json_lines, quiet
        self._stderr = Console(stderr=True, soft_wrap=True, highlight=False, markup=False)

    def record(self, record: dict[str, Any], sentence: str) -> None:
        """Report a finished picture."""
        if self.json_lines:
            sys.stdout.write(json.dumps(record, ensure_ascii=False) + "\n")
            sys.stdout.flush()
        elif not self.quiet:
            typer.echo(sentence)

    def error(self, sentence: str, source: str | None = None) -> None:
        """Report a failure, of a picture if `source` names one."""
        complain(sentence)
        if self.json_lines and source is not None:
            self.record({"input": source, "error": sentence}, "")

    def note(self, sentence: str) -> None:
        """Say something beside the results."""
        if not self.quiet:
            self._stderr.print(sentence)

    @contextmanager
    def progress(self, *columns: str) -> Iterator[Any]:
        """A rich progress bar on stderr, seen only on a terminal and unless quiet.

        `columns` are formats of a task's fields, shown between the fraction and the times.
        """
        from rich import progress as bars

        layout = (
            bars.TextColumn("{task.description}", markup=False),
            bars.BarColumn(),
            bars.TaskProgressColumn(),
            *(bars.TextColumn(column) for column in columns),
            bars.TimeElapsedColumn(),
            bars.TextColumn("left"),
            bars.TimeRemainingColumn(),
        )
        with bars.Progress(
            *layout,
            console=self._stderr,
            transient=True,
            redirect_stdout=sys.stdout.isatty(),  # else what goes to a pipe would go to stderr
            disable=self.quiet or not self._stderr.is_terminal,
        ) as shown:
            yield shown
