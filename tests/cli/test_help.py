"""Help and version: every command has examples that its own options accept."""

from __future__ import annotations

import re
import shlex

import pytest
from typer.main import get_command
from typer.testing import CliRunner

import differential_diffusion as dd
from differential_diffusion.cli import app
from differential_diffusion.cli.common import Settings
from differential_diffusion.schema import DenoiseRequest, Request
from differential_diffusion.tasks import TASKS, Task

COMMANDS = (
    "edit", "inpaint", "denoise", "restore", "upscale", "demosaic", "deblur", "deblock", "enhance",
    "colorize", "generate", "fan", "task", "map", "adherence", "evaluate", "train", "sample",
    "augment", "export", "doctor",
)  # fmt: skip


def examples(command: str) -> list[str]:
    """The command lines in a command's epilog."""
    text = get_command(app).commands[command].epilog
    return re.findall(r"`diffdiff (.+?)`", text)


def test_version() -> None:
    done = CliRunner().invoke(app, ["--version"])
    assert done.stdout == f"diffdiff {dd.__version__}\n"


def test_the_commands_are_all_there_is() -> None:
    assert tuple(get_command(app).commands) == COMMANDS


@pytest.mark.parametrize("command", COMMANDS)
def test_examples_can_be_read_by_the_command(command: str) -> None:
    assert len(examples(command)) >= 2
    for line in examples(command):
        name, *arguments = shlex.split(line)
        assert name == command
        with get_command(app).commands[command].make_context(name, arguments) as context:
            assert context.params


@pytest.mark.parametrize("command", COMMANDS)
def test_every_option_is_explained(command: str) -> None:
    for parameter in get_command(app).commands[command].params:
        assert parameter.help, f"{command} {parameter.name}"


def test_every_setting_of_a_request_has_an_option() -> None:
    """One that is added to the requests must be added here, or left out on purpose."""
    shared = set(Request.model_fields) - {"task", "image"}
    assert shared <= set(Settings.__dataclass_fields__)
    for name, request in ((name, task.request) for name, task in TASKS.items()):
        own = {key.replace("noise_level_8bit", "noise") for key in request.model_fields}
        options = {parameter.name for parameter in get_command(app).commands[name].params}
        assert own - {"task", "image"} <= options


def default_of(task: Task, name: str) -> object:
    return task.request.model_fields[name].default


def test_the_defaults_that_help_names_are_the_requests() -> None:
    """They cannot be read from the requests: that would load pydantic for `--help`."""
    said = {
        parameter.name: parameter.help
        for parameter in get_command(app).commands["edit"].params
        if parameter.name in Request.model_fields
    }
    for name in ("seed", "steps", "path", "samples", "estimate", "views", "tile"):
        default = Request.model_fields[name].default
        assert re.search(rf"\[default: {default}\W", said[name]), name
    assert str(DenoiseRequest.model_fields["steps"].default) in said["steps"]
    drawn = [name for name, task in TASKS.items() if default_of(task, "estimate") == "sample"]
    assert drawn == ["edit", "inpaint", "generate"]
    assert "sample for edit, inpaint and generate, else mean" in said["estimate"]
