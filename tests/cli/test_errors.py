"""What went wrong becomes a sentence and an exit code."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import typer
from typer.testing import CliRunner

from differential_diffusion.cli.errors import Commands
from differential_diffusion.errors import InputError, MissingExtraError, explain


def out_of_memory() -> None:
    torch.empty(1 << 60, dtype=torch.uint8)


def full_disk() -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "out.png")


def bad_input() -> None:
    raise InputError("the map is\nblue: make it grey.")


def missing_extra() -> None:
    raise MissingExtraError("training", "train")


def bug() -> None:
    [][0]


def interrupt() -> None:
    raise KeyboardInterrupt


RAISED = [
    (out_of_memory, 2, "not enough memory"),
    (full_disk, 2, "'out.png' cannot be read or written (No space left on device)"),
    (bad_input, 2, "the map is blue: make it grey."),
    (missing_extra, 2, "pip install 'differential-diffusion[train]'"),
    (bug, 1, "IndexError: list index out of range"),
]


@pytest.fixture
def app() -> typer.Typer:
    made = typer.Typer(cls=Commands, pretty_exceptions_enable=False)
    for command in (out_of_memory, full_disk, bad_input, missing_extra, bug, interrupt):
        made.command(command.__name__)(command)
    return made


@pytest.mark.parametrize(("command", "code", "words"), RAISED)
def test_every_error_is_one_line(app: typer.Typer, command: object, code: int, words: str) -> None:
    done = CliRunner().invoke(app, [command.__name__])
    assert done.exit_code == code
    assert done.stdout == ""
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1
    assert words in done.stderr


def test_a_bug_asks_to_be_reported(app: typer.Typer) -> None:
    said = CliRunner().invoke(app, ["bug"]).stderr
    assert "report" in said
    assert "DIFFDIFF_DEBUG=1" in said


def test_debugging_keeps_the_traceback_of_bugs_alone(
    app: typer.Typer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DIFFDIFF_DEBUG", "1")
    assert isinstance(CliRunner().invoke(app, ["bug"]).exception, IndexError)
    assert CliRunner().invoke(app, ["bad-input"]).exit_code == 2


def test_ctrl_c_is_130(app: typer.Typer) -> None:
    done = CliRunner().invoke(app, ["interrupt"])
    assert (done.exit_code, done.stderr) == (130, "interrupted.\n")


def test_an_error_without_words_is_named_by_its_type() -> None:
    assert "(RuntimeError)" in explain(RuntimeError())[0]
    assert "TimeoutError" in explain(TimeoutError())[0]


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX pipes")
def test_a_reader_that_leaves_is_no_error(tmp_path: Path) -> None:
    """As in `diffdiff map --list | head -1`."""
    code = (
        "import typer\n"
        "from differential_diffusion.cli.errors import Commands\n"
        "app = typer.Typer(cls=Commands)\n"
        "@app.command()\n"
        "def talk():\n"
        "    for _ in range(100_000): typer.echo('x' * 100)\n"
        "@app.command()\n"
        "def other(): pass\n"
        "app(['talk'])\n"
    )
    talker = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert talker.stdout
    assert talker.stderr
    talker.stdout.readline()
    talker.stdout.close()
    assert talker.stderr.read() == b""
    assert talker.wait(timeout=60) == 1
    talker.stderr.close()
