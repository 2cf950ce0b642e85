"""Where the figures of a run go besides its own files: TensorBoard, Weights & Biases."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..errors import MissingExtraError
from .config import TrainingConfig


class Trackers:
    """The trackers that a configuration names.

    Args:
        config: the run.
        resumed: whether it goes on from a checkpoint.

    Raises:
        MissingExtraError: for a tracker that is not installed.
    """

    def __init__(self, config: TrainingConfig, *, resumed: bool) -> None:
        self.board: Any = None
        self.run: Any = None
        for name in config.tracking.trackers:
            if name == "tensorboard":
                self.board = _tensorboard(config.output / "tensorboard")
            else:
                self.run = _wandb(config, resumed)

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


def _tensorboard(folder: Path) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ModuleNotFoundError:
        raise MissingExtraError("the tracker tensorboard", "tracking") from None
    return SummaryWriter(str(folder))


def _wandb(config: TrainingConfig, resumed: bool) -> Any:
    try:
        import wandb
    except ModuleNotFoundError:
        raise MissingExtraError("the tracker wandb", "tracking") from None
    return wandb.init(
        project=config.tracking.project,
        name=config.output.name,
        dir=str(config.output),
        config=config.model_dump(mode="json"),
        resume="allow" if resumed else None,
    )
