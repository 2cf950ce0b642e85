"""Run the benchmarks in order, each in a process of its own.

python -m benchmarks [NAME ...] [options that all of them take]
"""

from __future__ import annotations

import argparse
import subprocess
import sys

NAMES = (
    "denoise", "heterogeneous", "inpaint", "calibration", "upscale", "demosaic", "colorize",
    "deblur", "jpeg", "enhance", "restore", "regions", "memory", "pipeline", "training",
    "augmentation",
)  # fmt: skip
NAMED = ("classifier", "generation")
"""Run by name alone: they take what `diffdiff train configs/cifar10.yaml` made."""


def main() -> int:
    """Run those named, or all of `NAMES`; the exit status is that of the first to fail."""
    known = (*NAMES, *NAMED)
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description=__doc__.splitlines()[0]
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(known)}")
    named, options = parser.parse_known_args()
    unknown = sorted(set(named.names) - set(known))
    if unknown:
        parser.error(f"no benchmark is called {', '.join(unknown)}: use {', '.join(known)}")
    for name in named.names or NAMES:
        status = subprocess.run([sys.executable, "-m", f"benchmarks.{name}", *options]).returncode
        if status:
            return status
    return 0


if __name__ == "__main__":
    sys.exit(main())
