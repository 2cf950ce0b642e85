"""Tasks: each turns a request into plans for an injected `run` and returns what came out."""

from . import deblur, demosaic, denoise, edit, generate, inpaint, restore, upscale
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
}
"""Every task by name; a new one is one module and one entry here."""

__all__ = ["TASKS", "Task", "TaskInput", "TaskOutput"]
