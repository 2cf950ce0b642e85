"""export: a trained model as a checkpoint or a pipeline of Diffusers, smaller, with a card."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from ..errors import InputError
from .common import Quiet, Reporter, with_settings

if TYPE_CHECKING:
    from torch import Tensor

    from ..models.compress import Quality
    from ..models.export import Source
    from ..models.network import Network
    from ..models.publish import Form, Hub

_SHARES = (0.1, 0.3, 0.5, 0.7, 0.9)
_PICTURES = 16
_SMALLER, _CARD = "Smaller weights", "Card and hub"


@dataclass(frozen=True)
class ExportSettings:
    """The options of `export`."""

    output: Annotated[
        str | None, typer.Option("--output", "-o", help="A new folder.", show_default=False)
    ] = None
    to: Annotated[
        Literal["checkpoint", "diffusers"],
        typer.Option(help="What to write: a checkpoint of ours, or a pipeline of Diffusers."),
    ] = "checkpoint"
    sampler: Annotated[
        Literal["ddim", "ddpm"], typer.Option(help="The scheduler of a pipeline of Diffusers.")
    ] = "ddim"
    dtype: Annotated[
        Literal["float32", "float16", "bfloat16"],
        typer.Option(help="What the weights are stored in.", rich_help_panel=_SMALLER),
    ] = "float32"
    prune: Annotated[
        float | None,
        typer.Option(
            help="Set this share of the weights to zero, the smallest, in [0,1).",
            rich_help_panel=_SMALLER,
            show_default=False,
        ),
    ] = None
    structured: Annotated[
        bool,
        typer.Option(
            "--structured",
            help="Set whole output channels to zero, that share of each layer's.",
            rich_help_panel=_SMALLER,
        ),
    ] = False
    check: Annotated[
        list[str] | None,
        typer.Option(
            help="A picture, a folder or a pattern to measure the loss of quality on, the first "
            f"{_PICTURES}; may be given several times [default: pictures of noise].",
            rich_help_panel=_SMALLER,
            show_default=False,
        ),
    ] = None
    card: Annotated[
        bool,
        typer.Option(
            "--card",
            help="Write a model card, README.md; without an output, beside the model.",
            rich_help_panel=_CARD,
        ),
    ] = False
    license: Annotated[
        str | None,
        typer.Option(
            help="The licence of the weights as the hub names it, such as apache-2.0 or other.",
            rich_help_panel=_CARD,
            show_default=False,
        ),
    ] = None
    push: Annotated[
        str | None,
        typer.Option(
            metavar="ORG/NAME",
            help="Send the folder, with its card, to a repository of the hub.",
            rich_help_panel=_CARD,
            show_default=False,
        ),
    ] = None
    private: Annotated[
        bool,
        typer.Option(
            "--private",
            help="A repository that is made is seen by its owners alone.",
            rich_help_panel=_CARD,
        ),
    ] = False
    json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")] = False
    quiet: Quiet = False


@with_settings
def export(
    run: Annotated[
        str,
        typer.Argument(
            help="The output of a training run, a checkpoint, a DDPM or DDIM pipeline of "
            "Diffusers, or 'prior'.",
            show_default=False,
        ),
    ],
    settings: ExportSettings,
) -> None:
    """Write a trained model for others: as a checkpoint or for Diffusers, smaller, with a card."""
    perform(run, settings)


def perform(run: str, settings: ExportSettings, hub: Hub | None = None) -> None:
    """What `export` does, with a connection to the hub that tests may choose.

    Raises:
        InputError: for anything wrong with the model or an option.
    """
    from ..files import new_folder
    from ..models.compress import DTYPES
    from ..models.export import read_source, write_model
    from ..models.interchange import exportable
    from ..models.publish import CARD_FILE, push

    _check(settings)
    report = Reporter(json_lines=settings.json, quiet=settings.quiet)
    source = read_source(run)
    if settings.to == "diffusers":
        exportable(source.network, source.described, source.name)
    network, made = _smaller(source, settings, report)
    record: dict[str, Any] = {"model": source.name, **made.record()}
    if settings.output is None and settings.push is None:
        beside = _card_beside(source, settings, made)
        report.record(record | {"card": str(beside)}, f"the card is in {beside}")
        return
    notes = list(source.notes)
    with tempfile.TemporaryDirectory() as temporary:
        target = Path(settings.output or f"{temporary}/model")
        with new_folder(target) as folder:
            form, more = write_model(
                source,
                network,
                folder,
                to=settings.to,
                sampler=settings.sampler,
                dtype=DTYPES[settings.dtype],
                pruned=made.zeros,
            )
            if settings.card or settings.push:
                text = _card(source, settings, made, form)
                (folder / CARD_FILE).write_text(text, encoding="utf-8")
        if settings.output is not None:
            record["output"] = settings.output
        if settings.push is not None:
            record["pushed"] = push(target, settings.push, private=settings.private, hub=hub)
    notes += more
    for note in notes:
        report.note(f"note: {note}.")
    where = [record[key] for key in ("output", "pushed") if key in record]
    report.record(record | {"notes": notes}, f"the model is in {' and '.join(where)}")


def _check(settings: ExportSettings) -> None:
    """That the options say what to do, before anything is read."""
    from ..files import check_new

    if settings.output is None and settings.push is None and not settings.card:
        raise InputError("nothing says where the model goes: give --output, --push or --card")
    if settings.push is not None and settings.license is None:
        raise InputError(
            "--push needs --license, the licence of the weights: apache-2.0, other ..."
        )
    if settings.structured and settings.prune is None:
        raise InputError("--structured says how to prune: give --prune with a share, such as 0.3")
    if settings.output is not None:
        check_new(Path(settings.output))
    changed = settings.dtype != "float32" or settings.prune is not None
    if settings.output is None and settings.push is None and changed:
        raise InputError("--dtype and --prune make other weights: give --output or --push")


class _Made:
    """What became of the weights.

    Attributes:
        pictures: what the quality was measured on, in words; empty if it was not.
        quality: a row for each level of noise.
        table: the same for other shares of zeros, with the size after compression.
        zeros: share of zeros.
    """

    def __init__(self) -> None:
        self.pictures = ""
        self.quality: list[Quality] = []
        self.table: list[tuple[float, float, list[Quality]]] = []
        self.zeros = 0.0

    def record(self) -> dict[str, Any]:
        """As JSON."""
        if not self.quality:
            return {}
        rows = [
            {"pruned": share, "packed": packed, "quality": [q._asdict() for q in quality]}
            for share, packed, quality in self.table
        ]
        return {
            "checked_on": self.pictures,
            "zeros": self.zeros,
            "quality": [q._asdict() for q in self.quality],
            "table": rows,
        }


def _smaller(source: Source, settings: ExportSettings, report: Reporter) -> tuple[Network, _Made]:
    """The network as it will be stored, and what that costs."""
    from ..models.compress import DTYPES, compare, packed_share, prune, rounded, zero_share

    dtype, made = DTYPES[settings.dtype], _Made()
    share = settings.prune or 0.0

    def stored(share: float) -> Network:
        return rounded(prune(source.network, share, structured=settings.structured), dtype)

    network = stored(share)
    if settings.dtype == "float32" and settings.prune is None and not settings.check:
        return network, made
    made.zeros = zero_share(network) if share else 0.0
    if settings.check and source.described.latent is not None:
        raise InputError("--check takes pictures and the model works on latents: leave it out")
    pictures, made.pictures = _pictures(settings.check, source.described.network.in_channels)
    shares = sorted({*_SHARES, share}) if share else [share]
    networks = [network if s == share else stored(s) for s in shares]
    rows = compare(
        source.denoiser(source.network), [source.denoiser(net) for net in networks], pictures
    )
    made.quality = rows[shares.index(share)]
    packed = [packed_share(net, dtype) for net in networks]
    made.table = list(zip(shares, packed, rows, strict=True))
    _print(made, settings, report)
    return network, made


def _pictures(names: list[str] | None, channels: int) -> tuple[list[Tensor], str]:
    """Pictures to denoise, and what they are."""
    from ..models.compress import noise_pictures

    if not names:
        return noise_pictures(channels), "pictures of noise"
    if channels not in (1, 3):
        raise InputError(f"--check reads colour and grey and the model has {channels} channels")
    from ..images import expand, read

    read_in = [read(path).tensor(channels) for path in expand(names)[:_PICTURES]]
    count = len(read_in)
    return read_in, f"{count} picture{'s' if count > 1 else ''}"


def _print(made: _Made, settings: ExportSettings, report: Reporter) -> None:
    """The cost, and the table of shares, on stderr."""
    report.note(
        f"denoising {made.pictures} with weights in {settings.dtype}"
        + (f", {made.zeros:.1%} of them zero:" if made.zeros else ":")
    )
    for q in made.quality:
        report.note(
            f"  noise {q.level_8bit:g}/255: PSNR {q.before:.2f} dB before, {q.after:.2f} dB after, "
            f"largest difference {q.largest:.3g}/255"
        )
    if len(made.table) == 1:
        return
    levels = "".join(f"{f'PSNR {q.level_8bit:g}':>10}" for q in made.quality)
    report.note(f"  {'pruned':>8}{'zipped':>8}{levels}")
    for share, packed, quality in made.table:
        figures = "".join(f"{q.after:10.2f}" for q in quality)
        report.note(f"  {share:8.0%}{packed:8.0%}{figures}")


def _card(source: Source, settings: ExportSettings, made: _Made, form: Form) -> str:
    from ..models.publish import Card, model_card

    name = source.name if settings.push is None else settings.push.rpartition("/")[2]
    return model_card(
        source.described,
        Card(
            name,
            form,
            settings.license,
            source.figures,
            (made.pictures, made.quality) if made.quality else None,
            settings.push,
        ),
    )


def _card_beside(source: Source, settings: ExportSettings, made: _Made) -> Path:
    """Write the card beside the model.

    Raises:
        InputError: where there is one, or the model has no folder of its own.
    """
    from ..files import write_atomically
    from ..models.interchange import is_pipeline
    from ..models.publish import CARD_FILE

    if source.folder is None:
        raise InputError(f"the model '{source.name}' has no folder of its own: give --output")
    file = source.folder / CARD_FILE
    if file.exists():
        raise InputError(f"'{file}' exists already: remove it, or give --output")
    form: Form = "diffusers" if is_pipeline(source.folder) else "checkpoint"
    write_atomically(file, _card(source, settings, made, form).encode())
    return file
