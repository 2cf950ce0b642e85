"""The `diffdiff` command: thin commands over the library, heavy imports inside them."""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

from .. import __version__
from .adherence import adherence
from .augment import augment
from .doctor import doctor
from .errors import Commands
from .evaluate import evaluate
from .export import export
from .generate import fan, generate
from .map import make
from .restoration import colorize, deblock, deblur, demosaic, denoise, enhance, restore, upscale
from .run import edit, inpaint, task
from .sample import sample
from .train import train

__all__ = ["app", "main"]

app = typer.Typer(
    cls=Commands,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _examples(*lines: str) -> str:
    return "\n\n".join(["Examples:", *(f"`{line}`" for line in lines)])


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"diffdiff {__version__}")
        raise typer.Exit


@app.callback(
    epilog=_examples(
        "diffdiff restore old-photo.jpg --preview before-after.png",
        "diffdiff denoise photos/ -o clean",
        "diffdiff edit photo.png --strength map.png --seed 3",
    )
)
def diffdiff(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_version, is_eager=True, help="Print the version."),
    ] = False,
) -> None:
    """Edit, inpaint, denoise and restore pictures: a pixel's strength is its noise level.

    Set DIFFDIFF_DEBUG=1 to see the traceback of an unexpected error.
    """


app.command(
    epilog=_examples(
        "diffdiff edit photo.png --strength 0.4",
        "diffdiff edit photo.png --strength map.png -o out.png --seed 3 --steps 40",
        "diffdiff edit photos/*.tif --strength keep.png --invert -o edited --json",
        "diffdiff edit photo.png --strength map.png --samples 4 --preview sheet.png",
    )
)(edit)
app.command(
    epilog=_examples(
        "diffdiff inpaint photo.jpg --mask hole.png",
        "diffdiff inpaint photo.jpg --mask lost-pixels.png --estimate mean",
        "diffdiff inpaint noisy.png --mask hole.png --noise auto --samples 8 --estimate mean",
    )
)(inpaint)
app.command(
    epilog=_examples(
        "diffdiff denoise photo.jpg",
        "diffdiff denoise photos/ --noise 25 -o clean",
        "diffdiff denoise photo.png --noise levels.png --preview sheet.png",
    )
)(denoise)
app.command(
    epilog=_examples(
        "diffdiff restore old-photo.jpg -o mended.png --preview sheet.png",
        "diffdiff restore scans/ --mode light -o mended",
        "diffdiff restore old-photo.jpg --mode deep --strength keep-faces.png -o mended.png",
        "diffdiff restore scan.png --damage scratches.png --noise 12",
    )
)(restore)
app.command(
    epilog=_examples(
        "diffdiff upscale small.png --factor 4 -o large.png",
        "diffdiff upscale photos/ --noise 3 --samples 8 -o large",
    )
)(upscale)
app.command(
    epilog=_examples(
        "diffdiff demosaic raw.png --pattern GRBG -o colours.png",
        "diffdiff demosaic frames/ --noise 4 -o colours",
    )
)(demosaic)
app.command(
    epilog=_examples(
        "diffdiff deblur soft.jpg -o sharp.png",
        "diffdiff deblur soft.png --sigma 1.6 --noise 3",
        "diffdiff deblur moved.png --kernel motion --length 15 --angle 30 --preview sheet.png",
    )
)(deblur)
app.command(
    epilog=_examples(
        "diffdiff deblock photo.jpg -o smooth.png --preview sheet.png",
        "diffdiff deblock screenshots/*.png --quality 30 --sampling 4:4:4 -o smooth",
        "diffdiff deblock photo.jpg --strength map.png",
    )
)(deblock)
app.command(
    epilog=_examples(
        "diffdiff enhance photo.jpg --level high -o better.png --preview sheet.png",
        "diffdiff enhance photos/ --strength background.png --noise 4 -o better",
    )
)(enhance)
app.command(
    epilog=_examples(
        "diffdiff colorize photo.png --hints hints.png -o colours.png",
        "diffdiff colorize photo.png --hints hints.png --strength map.png",
    )
)(colorize)
app.command(
    epilog=_examples(
        "diffdiff generate --prompt 'a red barn in the snow' --model models/sd15 -o barn.png",
        "diffdiff generate --width 256 --height 256 --seed 3 --save-steps texture.gif",
    )
)(generate)
app.command(
    epilog=_examples(
        "diffdiff fan photo.png -o fan.png",
        "diffdiff fan photo.png --map map.png --strengths 0.3,0.5,0.7 --prompt 'in winter' "
        "--model models/sd15",
    )
)(fan)
app.command(
    epilog=_examples(
        "diffdiff task restore old-photo.jpg --set mode=light -o mended.png",
        "diffdiff task denoise photos/ --set noise_level_8bit=25 -o clean --json",
    )
)(task)
app.command(
    "map",
    epilog=_examples(
        "diffdiff map --list",
        "diffdiff map linear photo.jpg -o map.png --preview sheet.png",
        "diffdiff map damage scan.png -o scratches.png --feather 2",
        "diffdiff map anomaly part.png -o unexplained.png --preview sheet.png",
    ),
)(make)
app.command(
    epilog=_examples(
        "diffdiff adherence photo.png photo-edit.png --strength map.png --preview followed.png",
        "diffdiff adherence photos/ edited/ --strength map.png --json",
        "diffdiff adherence photos/ edited/ --strength map.png --full remade/ --preview mean.png",
    )
)(adherence)
app.command(
    epilog=_examples(
        "diffdiff evaluate samples/ photographs/ --report report.html -o results.json",
        "diffdiff evaluate samples/ photographs.tar -e pixels -e prior --count 1000",
        "diffdiff evaluate restored/ originals/ --paired",
        "diffdiff evaluate --model runs/mine/final photographs/ --steps 5,10,20 "
        "--solvers ddim,heun --report curves.html",
        "diffdiff evaluate --run runs/mine photographs/ --count 500 --report training.html",
    )
)(evaluate)
app.command(
    epilog=_examples(
        "diffdiff train run.yaml",
        "diffdiff train codec.yaml",
        "diffdiff train run.yaml --set steps=500 --set optimizer.learning_rate=0.0005",
    )
)(train)
app.command(
    epilog=_examples(
        "diffdiff sample runs/mine/final --count 64 -o grid.png",
        "diffdiff sample runs/mine/final --label each --guidance 2 --count 1000 -o samples",
        "diffdiff sample runs/mine/final --from sketch.png --strength 0.7 --count 8 -o ideas.png",
        "diffdiff sample runs/mine/final --between 3,7 --count 9 --columns 9 -o way.png",
    )
)(sample)
app.command(
    epilog=_examples(
        "diffdiff augment labelled/ -o more --model runs/mine/final --variants 8 --strength 0.5",
        "diffdiff augment labelled/ -o more --protect saliency --strength 0.6",
    )
)(augment)
app.command(
    epilog=_examples(
        "diffdiff export runs/mine -o mine --dtype float16 --prune 0.3 --check pictures/",
        "diffdiff export runs/cifar -o pipeline --to diffusers --card",
        "diffdiff export pipeline -o mine --to checkpoint",
        "diffdiff export runs/mine --push org/name --private --license apache-2.0",
    )
)(export)
app.command(epilog=_examples("diffdiff doctor", "diffdiff doctor --json"))(doctor)


def main() -> None:
    """Run the command line; the console entry point."""
    _quieten(sys.argv[1:])
    app(prog_name="diffdiff", args=sys.argv[1:])


def _quieten(arguments: list[str]) -> None:
    """Have the libraries that load models say what is wrong, and show bars to people alone."""
    os.environ.setdefault("DIFFUSERS_VERBOSITY", "error")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    if not sys.stderr.isatty() or {"--quiet", "-q"} & set(arguments):
        os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
