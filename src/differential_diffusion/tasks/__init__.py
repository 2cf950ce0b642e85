"""Tasks: each turns a request into plans for an injected `run` and returns what came out."""

from . import (
    colorize,
    deblock,
    deblur,
    demosaic,
    denoise,
    edit,
    enhance,
    generate,
    inpaint,
    restore,
    upscale,
)
from .base import Task, TaskInput, TaskOutput

TASKS: dict[str, Task] = {
    "edit": edit.TASK,
    "inpaint": inpaint.TASK,
    "denoise": denoise.TASK,
    "restore": restore.TASK,
    "generate": generate.TASK,
    "upscale": upscale.TASK,
    "demosaic": demosaic.TASK,
    "deblur": deblur.TASK,
    "deblock": deblock.TASK,
    "enhance": enhance.TASK,
    "colorize": colorize.TASK,
}
"""Every task by name; a new one is one module and one entry here."""

__all__ = ["TASKS", "Task", "TaskInput", "TaskOutput"]
