"""Run the benchmarks in order, each in a process of its own.

python -m benchmarks [NAME ...] [options that all of them take]
"""

from __future__ import annotations

import argparse
import subprocess
import sys

NAMES = ("denoise", "heterogeneous", "inpaint", "restore", "regions", "memory", "pipeline")


def main() -> int:
    """Run those named, or all; the exit status is that of the first to fail."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description=__doc__.splitlines()[0]
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(NAMES)}")
    named, options = parser.parse_known_args()
    unknown = sorted(set(named.names) - set(NAMES))
    if unknown:
        parser.error(f"no benchmark is called {', '.join(unknown)}: use {', '.join(NAMES)}")
    for name in named.names or NAMES:
        status = subprocess.run([sys.executable, "-m", f"benchmarks.{name}", *options]).returncode
        if status:
            return status
    return 0


if __name__ == "__main__":
    sys.exit(main())
