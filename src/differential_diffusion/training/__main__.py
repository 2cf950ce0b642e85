"""`python -m differential_diffusion.training CONFIG`: for launchers of several processes."""

from __future__ import annotations

import argparse
import sys
import time
import traceback

from ..errors import INTERRUPTED, UNEXPECTED, explain
from .config_file import load_config, overrides
from .loop import Progress, TrainingStopped, train

_LOG_SECONDS = 60.0


def main(arguments: list[str] | None = None) -> int:
    """Train by a YAML file; the exit code: 2 for bad input, 128 and the number after a signal."""
    parser = argparse.ArgumentParser(
        prog="python -m differential_diffusion.training",
        description="Train a model; run it again to go on after a stop.",
        epilog="for two processes: torchrun --nproc_per_node 2 -m differential_diffusion.training "
        "run.yaml",
    )
    parser.add_argument("config", metavar="CONFIG", help="a YAML file; see the documentation")
    parser.add_argument(
        "--set",
        dest="settings",
        metavar="KEY=VALUE",
        action="append",
        default=[],
        help="replace a setting, dots between sections; may be given several times",
    )
    given = parser.parse_args(arguments)
    try:
        config = load_config(given.config, overrides(given.config, given.settings))
        final = train(config, on_step=_Log(), on_note=_say)
    except TrainingStopped as stop:
        _say(f"{stop}.")
        return 128 + stop.signal
    except KeyboardInterrupt:
        _say("interrupted: the same command goes on from the last checkpoint.")
        return INTERRUPTED
    except Exception as error:
        sentence, code = explain(error)
        if code == UNEXPECTED:
            traceback.print_exc()
        _say(f"error: {sentence}")
        return code
    _say(f"the model is in {final}.")
    return 0


def _say(sentence: str) -> None:
    sys.stderr.write(sentence + "\n")
    sys.stderr.flush()


class _Log:
    """A line now and then, and at every validation."""

    def __init__(self) -> None:
        self.logged = time.monotonic()

    def __call__(self, progress: Progress) -> None:
        if not progress.metrics and time.monotonic() - self.logged < _LOG_SECONDS:
            return
        self.logged = time.monotonic()
        _say(progress.line())


if __name__ == "__main__":
    sys.exit(main())
