"""evaluate: a set of samples, or what a model draws, against a reference set."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import InputError
from .common import Quiet, Reporter, numbers
from .evaluated import FEATURES, Options, Others, compare_with, evaluated, note_skipped, sentence
from .outputs import check_output

if TYPE_CHECKING:
    from ..evaluation.compare import Evaluation

_WHAT, _HOW, _OUT = "What to compare", "How to draw samples", "What comes out"
_DRAWN = {
    "steps": "30", "solvers": "heun", "label": None, "guidance": 1.0, "vector": None,
    "picture": None, "precision": "auto",
}  # fmt: skip


def evaluate(
    sources: Annotated[
        list[str],
        typer.Argument(
            metavar="[SAMPLES] REFERENCE",
            help="Folders, tar files, shards, or sets as hub:organisation/name; the reference also "
            "as a file that --save-reference wrote. With --model or --run, the reference alone.",
            show_default=False,
        ),
    ],
    extractor: Annotated[
        list[str] | None,
        typer.Option(
            "--extractor",
            "-e",
            help="What finds features: prior, pixels, pixels:SIDE, inception (for FID), "
            "transformers:MODEL, or package.module:function; may be given several times "
            "[default: prior, or those of the reference's file; with --paired none].",
            rich_help_panel=_WHAT,
        ),
    ] = None,
    paired: Annotated[
        bool,
        typer.Option(
            "--paired",
            help="PSNR and SSIM of each sample against the reference picture of its name.",
            rich_help_panel=_WHAT,
        ),
    ] = False,
    lpips: Annotated[
        bool,
        typer.Option(
            "--lpips",
            help="LPIPS of each pair as well; needs the extra 'evaluation'.",
            rich_help_panel=_WHAT,
        ),
    ] = False,
    count: Annotated[
        int | None,
        typer.Option(
            "--count",
            "-n",
            help="Pictures of each set, those with the smallest hashes of their names, and how "
            "many samples to draw [default: all, and as many as the reference has].",
            rich_help_panel=_WHAT,
        ),
    ] = None,
    samples_count: Annotated[
        int | None,
        typer.Option(
            help="Samples to take or draw, where they are not to be as many as --count says.",
            rich_help_panel=_WHAT,
        ),
    ] = None,
    size: Annotated[
        int | None,
        typer.Option(
            help="Bring the middle square of every picture to this side first, in pixels.",
            rich_help_panel=_WHAT,
        ),
    ] = None,
    channels: Annotated[
        int,
        typer.Option(
            help="3 for colour, 1 for grey, or as many as the files have.", rich_help_panel=_WHAT
        ),
    ] = 3,
    split: Annotated[
        str, typer.Option(help="Of a set of Hugging Face that has several.", rich_help_panel=_WHAT)
    ] = "train",
    model: Annotated[
        str | None,
        typer.Option(
            help="Draw samples of this model: a checkpoint folder, or 'prior'.",
            rich_help_panel=_HOW,
        ),
    ] = None,
    run: Annotated[
        str | None,
        typer.Option(
            help="Draw samples of every checkpoint that this training run kept.",
            rich_help_panel=_HOW,
        ),
    ] = None,
    steps: Annotated[
        str, typer.Option(help="Lengths of the noise ladder, with commas.", rich_help_panel=_HOW)
    ] = "30",
    solvers: Annotated[
        str,
        typer.Option(
            help="Solvers, with commas; `diffdiff doctor` lists them.", rich_help_panel=_HOW
        ),
    ] = "heun",
    label: Annotated[
        list[str] | None,
        typer.Option(
            help="A class by name or number; several in turn; 'each' for all classes in turn.",
            rich_help_panel=_HOW,
        ),
    ] = None,
    guidance: Annotated[
        float,
        typer.Option(help="1 follows what was learnt, see `sample`.", rich_help_panel=_HOW),
    ] = 1.0,
    vector: Annotated[
        str | None,
        typer.Option(help="Numbers that the model takes, with commas.", rich_help_panel=_HOW),
    ] = None,
    picture: Annotated[
        str | None,
        typer.Option(
            metavar="IMAGE",
            help="The picture that the model is told, for all samples; they are of its size.",
            rich_help_panel=_HOW,
        ),
    ] = None,
    seed: Annotated[
        int, typer.Option(help="Of the samples and the kernel distance.", rich_help_panel=_HOW)
    ] = 0,
    batch_size: Annotated[int, typer.Option(help="Pictures at once.", rich_help_panel=_HOW)] = 64,
    device: Annotated[
        str | None,
        typer.Option(help="cpu, cuda, cuda:N or mps [default: best].", rich_help_panel=_HOW),
    ] = None,
    precision: Annotated[
        str, typer.Option(help="Of the model: auto, fp32 or bf16.", rich_help_panel=_HOW)
    ] = "auto",
    output: Annotated[
        str | None,
        typer.Option(
            "--output",
            "-o",
            help="Write the results as .json, each as soon as it is there.",
            rich_help_panel=_OUT,
        ),
    ] = None,
    resume: Annotated[
        bool,
        typer.Option(
            "--resume",
            help="Go on with the file of -o: what it holds with the same settings and protocol is "
            "not drawn again, and the rest of it stays, with --force too.",
            rich_help_panel=_OUT,
        ),
    ] = False,
    report: Annotated[
        str | None,
        typer.Option(
            help="Write a page that shows them, .html, with all that it needs inside.",
            rich_help_panel=_OUT,
        ),
    ] = None,
    save_reference: Annotated[
        str | None,
        typer.Option(
            help="Write the reference's features, .safetensors, to be named as REFERENCE again.",
            rich_help_panel=_OUT,
        ),
    ] = None,
    compare: Annotated[
        str | None,
        typer.Option(
            metavar="RESULTS",
            help="Tell the figures beside those that -o wrote; refused where the protocols differ.",
            rich_help_panel=_OUT,
        ),
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Replace outputs that exist.", rich_help_panel=_OUT)
    ] = False,
    json: Annotated[
        bool,
        typer.Option("--json", help="One JSON object a result on stdout.", rich_help_panel=_OUT),
    ] = False,
    quiet: Quiet = False,
) -> None:
    """Measure how like a reference set of pictures a set of samples is.

    Fréchet and kernel distance, precision, recall, density and coverage, by the features that each
    extractor finds. Figures compare only where their protocols, which are told with them, agree.
    """
    from ..evaluation.compare import load_results, save_results
    from ..evaluation.curves import run_metrics

    samples, reference = _sources(sources, model, run)
    drawn = {
        "steps": steps, "solvers": solvers, "label": label, "guidance": guidance, "vector": vector,
        "picture": picture, "precision": precision,
    }  # fmt: skip
    _check(samples, drawn, paired, lpips, extractor, (count, samples_count, size))
    _check_read({"--batch-size": batch_size, "--size": size}, split, (samples, reference))
    _check_resume(resume, force, samples, output)
    inputs = [Path(each) for each in (samples, reference, compare) if each is not None]
    places = _places(
        {"--output": output, "--report": report, "--save-reference": save_reference},
        inputs,
        force=force,
        resume=resume,
    )
    begun = places["--output"] if resume else None
    others = Others(
        load_results(begun) if begun is not None and begun.exists() else (),
        () if compare is None else load_results(Path(compare).expanduser()),
        str(compare),
    )
    names = _extractors(extractor, reference, paired)
    if save_reference is not None and not names:
        raise InputError("--save-reference keeps features: name what finds them with --extractor.")
    options = Options(
        samples, reference, model, run, names, paired, lpips, count, samples_count, size, channels,
        split, seed, device, precision, _whole("--steps", steps), _words("--solvers", solvers),
        label, guidance, None if vector is None else numbers("--vector", vector), picture,
        batch_size, report is not None,
    )  # fmt: skip
    say = Reporter(json_lines=json, quiet=quiet)
    results: list[Evaluation] = []
    path = places["--output"]
    for result in evaluated(options, places["--save-reference"], others, say):
        results.append(result)
        if path is not None:
            save_results(_with(results, others.known), path, complete=False)
        say.record(result.as_dict(), sentence(result))
    note_skipped(results[-1], say)
    if path is not None:
        save_results(_with(results, others.known), path)
        say.note(f"results -> {path}")
    if (path := places["--report"]) is not None:
        from ..evaluation.page import report_page
        from ..files import write_atomically

        metrics = [] if run is None else run_metrics(Path(run).expanduser())
        write_atomically(path, report_page(results, metrics=metrics).encode())
        say.note(f"report -> {path}")
    if others.compared:
        compare_with(results, others.compared, others.path, say)


def _with(results: Sequence[Evaluation], known: Sequence[Evaluation]) -> list[Evaluation]:
    """Results, after those that were known and are not among them."""
    return [*(each for each in known if each not in results), *results]


def _sources(sources: list[str], model: str | None, run: str | None) -> tuple[str | None, str]:
    if model is not None and run is not None:
        raise InputError("--model and --run were both given: draw from one of them.")
    if model is None and run is None:
        if len(sources) != 2:
            raise InputError(
                f"{len(sources)} set{'s were' if len(sources) > 1 else ' was'} named: name SAMPLES "
                "and REFERENCE, or the reference alone with --model or --run."
            )
        return sources[0], sources[1]
    if len(sources) != 1:
        given = "--model" if model is not None else "--run"
        raise InputError(f"{given} draws the samples: name the reference alone.")
    return None, sources[0]


def _check(
    samples: str | None,
    drawn: dict[str, Any],
    paired: bool,
    lpips: bool,
    extractor: list[str] | None,
    of_sets: Sequence[object],
) -> None:
    """Refuse options that would do nothing."""
    for name, value in drawn.items() if samples is not None else ():
        if value != _DRAWN[name]:
            raise InputError(f"--{name} says how to draw samples: give --model or --run as well.")
    if paired and not extractor and any(value is not None for value in of_sets):
        raise InputError(
            "--count, --samples-count and --size are for sets, and pairs are compared as they are: "
            "leave them out, or name an --extractor as well."
        )
    if lpips and not paired:
        raise InputError("--lpips measures pairs: give --paired as well.")
    if paired and samples is None:
        raise InputError("--paired is for pictures of the same names: name SAMPLES and REFERENCE.")


def _check_read(sides: dict[str, int | None], split: str, sources: Sequence[str | None]) -> None:
    """Refuse ways to read pictures that there are not."""
    from ..data.sources import is_set

    for name, value in sides.items():
        if value is not None and value < 1:
            raise InputError(f"{name} is {value}: give at least 1.")
    if split != "train" and not any(each is not None and is_set(each) for each in sources):
        raise InputError("--split is of a set of Hugging Face, and none was named: leave it out.")


def _check_resume(resume: bool, force: bool, samples: str | None, output: str | None) -> None:
    """Refuse to replace drawn results unasked, and to go on with nothing."""
    exists = output is not None and Path(output).expanduser().is_file()
    if samples is None and exists and not resume and not force:
        raise InputError(
            f"'{output}' exists: go on with it by --resume, choose another name, or replace it by "
            "--force."
        )
    if resume and samples is not None:
        raise InputError("--resume goes on with samples to draw: give --model or --run as well.")
    if resume and output is None:
        raise InputError("--resume goes on with a file of results: name it with --output.")


def _places(
    given: dict[str, str | None], inputs: list[Path], *, force: bool, resume: bool
) -> dict[str, Path | None]:
    """Where the outputs go, after refusing to destroy."""
    suffixes = {"--output": ".json", "--report": ".html", "--save-reference": FEATURES}
    places: dict[str, Path | None] = {}
    for option, text in given.items():
        path = None if text is None else Path(text).expanduser()
        if path is not None:
            if path.suffix.lower() != suffixes[option]:
                raise InputError(f"{option} '{path}' does not end in {suffixes[option]}: let it.")
            check_output(path, inputs, force=force or (resume and option == "--output"))
            if not path.resolve().parent.is_dir():
                raise InputError(f"the folder '{path.parent}' does not exist: create it.")
        places[option] = path
    return places


def _extractors(given: list[str] | None, reference: str, paired: bool) -> list[str]:
    if given:
        for name in given:
            if ":" in name and os.getcwd() not in sys.path:
                sys.path.append(os.getcwd())  # where a function of the user's own is looked for
        return given
    if reference.lower().endswith(FEATURES):
        from ..evaluation.sets import stored_extractors

        return stored_extractors(Path(reference).expanduser())
    return [] if paired else ["prior"]


def _whole(option: str, text: str) -> list[int]:
    words = _words(option, text)
    if not all(word.isdecimal() and int(word) > 0 for word in words):
        raise InputError(f"{option} '{text}' is no list of whole numbers: give such as 5,10,20.")
    return [int(word) for word in words]


def _words(option: str, text: str) -> list[str]:
    words = [word.strip() for word in text.split(",")]
    if not all(words) or len(set(words)) < len(words):
        raise InputError(f"{option} '{text}' names nothing, or something twice: name each once.")
    return words
