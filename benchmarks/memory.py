"""Peak memory of denoising large photographs, from file to file, each in a process of its own.

The peak is of the process's resident set: the interpreter, libraries, model and pictures.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from rich.progress import track

from . import common

SIZES = {4: (2464, 1632), 12: (4240, 2832), 24: (6000, 4000)}
LIMIT_GIB = 3.0

ABOUT = (
    "`dd.denoise` of an 8-bit PNG and `Result.save`, the noise level given or estimated; the limit "
    f"for 24 megapixels is {LIMIT_GIB:g} GiB:"
)

CHILD = """
import json, sys, time
import torch
import differential_diffusion as dd
from benchmarks.memory import peak_bytes
source, target, model, threads, level, device, precision = sys.argv[1:]
torch.set_num_threads(int(threads))
level = level if level == "auto" else float(level)
started = time.perf_counter()
dd.denoise(source, level, model=model, device=device, precision=precision).save(target)
print(json.dumps({"peak": peak_bytes(), "seconds": time.perf_counter() - started}))
"""


class Row(NamedTuple):
    """One process."""

    megapixels: int
    level: str
    peak_gib: float
    seconds: float


def peak_bytes() -> int:
    """The largest resident set of this process so far."""
    import resource

    try:
        # Linux counts what a process was forked from into ru_maxrss, but not into VmHWM.
        status = Path("/proc/self/status").read_text(encoding="ascii")
        return 1024 * int(status.partition("VmHWM:")[2].split()[0])
    except (OSError, IndexError):
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else 1024 * peak


def write_noisy(path: Path, photo: common.Photo, width: int, height: int) -> None:
    """An enlarged photograph with white noise of level 25, as an 8-bit PNG."""
    enlarged = cv2.resize(photo.pixels, (width, height), interpolation=cv2.INTER_CUBIC)
    noisy = common.add_noise(
        common.Photo(photo.index, photo.name, common.as_array(enlarged)), 25, stream=0
    )
    pixels = np.round(np.clip(noisy[..., ::-1], 0, 1) * 255).astype(np.uint8)
    cv2.imwrite(str(path), pixels)


def measure(options: argparse.Namespace, photo: common.Photo) -> list[Row]:
    """Denoise each size in a process of its own, with the level given and estimated."""
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder) / "noisy.png", Path(folder) / "denoised.png"
        for megapixels in track(options.megapixels, "memory"):
            write_noisy(source, photo, *SIZES[megapixels])
            for level in ("25", "auto"):
                command = [sys.executable, "-c", CHILD, str(source), str(target), options.model]
                command += [str(options.threads), level, options.device, options.precision]
                done = subprocess.run(
                    command, cwd=common.REPOSITORY, check=True, stdout=subprocess.PIPE, text=True
                )
                said = json.loads(done.stdout)
                rows.append(Row(megapixels, level, said["peak"] / 2**30, said["seconds"]))
    return rows


def run(options: argparse.Namespace) -> None:
    """Measure, then write the report."""
    if options.model != "prior":
        options.model = str(Path(options.model).resolve())
    model = common.load(options)
    rows = measure(options, common.photographs(options)[0])
    draw(options, rows)
    table = common.table(
        ["picture", "noise level", "peak, GiB", "seconds"],
        [
            [f"{row.megapixels} MP", row.level, f"{row.peak_gib:.2f}", f"{row.seconds:.1f}"]
            for row in rows
        ],
    )
    sizes = f"--megapixels {' '.join(map(str, options.megapixels))}"
    extra = [sizes] if options.megapixels != list(SIZES) else []
    common.write_report(
        options,
        "memory",
        "Memory",
        [ABOUT, table],
        model=model,
        extra=extra,
        alt="peak memory against megapixels, below the limit",
    )
    worst = max(row.peak_gib for row in rows)
    if worst >= LIMIT_GIB:
        raise SystemExit(f"the peak is {worst:.2f} GiB: the limit is {LIMIT_GIB:g}")


def draw(options: argparse.Namespace, rows: list[Row]) -> None:
    """Plot the peak against the size."""
    import matplotlib.pyplot as plt

    figure, axis = plt.subplots(figsize=(6, 3), layout="constrained")
    for level, label in (("25", "level given"), ("auto", "level estimated")):
        mine = [row for row in rows if row.level == level]
        axis.plot(
            [row.megapixels for row in mine], [row.peak_gib for row in mine], "o-", label=label
        )
    axis.axhline(LIMIT_GIB, color="tab:red", linestyle="--", label="limit")
    axis.set(xlabel="megapixels", ylabel="peak, GiB", ylim=(0, None))
    axis.grid(alpha=0.3)
    axis.legend(fontsize=8)
    common.save_figure(options.output / "memory.png", figure)


def main(argv: list[str] | None = None) -> None:
    """Read the options and run."""
    parser = common.parser(__doc__)
    parser.add_argument(
        "--megapixels", type=int, nargs="+", choices=SIZES, default=list(SIZES), help="sizes"
    )
    run(parser.parse_args(argv))


if __name__ == "__main__":
    main()
