"""Where the figures of a run go besides its own files: TensorBoard, Weights & Biases."""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import Any

from ..errors import MissingExtraError
from ..files import write_atomically
from .config import RunConfig


class Trackers:
    """The trackers that a configuration names.

    Args:
        config: the run.
        step: where it goes on from, 0 for a new run; what a tracker has of later steps is dropped.

    Raises:
        MissingExtraError: for a tracker that is not installed.
    """

    def __init__(self, config: RunConfig, *, step: int) -> None:
        self.board: Any = None
        self.run: Any = None
        for name in config.tracking.trackers:
            if name == "tensorboard":
                self.board = _tensorboard(config.output / "tensorboard", step)
            else:
                self.run = _wandb(config)

    def log(self, record: dict[str, float], picture: Path) -> None:
        """Send the figures of a validation and its picture."""
        step = int(record["step"])
        figures = {name: value for name, value in record.items() if name != "step"}
        if self.board is not None:
            import numpy as np
            from PIL import Image

            for name, value in figures.items():
                self.board.add_scalar(name, value, step)
            if picture.is_file():
                self.board.add_image("samples", np.asarray(Image.open(picture)), step, None, "HWC")
            self.board.flush()
        if self.run is not None:
            import wandb

            shown = {"samples": wandb.Image(str(picture))} if picture.is_file() else {}
            self.run.log(figures | shown, step=step)

    def close(self) -> None:
        """Write what is waiting."""
        if self.board is not None:
            self.board.close()
        if self.run is not None:
            self.run.finish()


def _tensorboard(folder: Path, step: int) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ModuleNotFoundError:
        raise MissingExtraError("the tracker tensorboard", "tracking") from None
    return SummaryWriter(str(folder), purge_step=step + 1)


def _wandb(config: RunConfig) -> Any:
    """The run at Weights & Biases, by an id that the output folder keeps: resumed, the same one."""
    try:
        import wandb
    except ModuleNotFoundError:
        raise MissingExtraError("the tracker wandb", "tracking") from None
    kept = config.output / "wandb-id"
    if not kept.is_file():
        write_atomically(kept, secrets.token_hex(8).encode())
    return wandb.init(
        id=kept.read_text("utf-8"),
        project=config.tracking.project,
        name=config.output.name,
        dir=str(config.output),
        config=config.model_dump(mode="json"),
        resume="allow",
    )
