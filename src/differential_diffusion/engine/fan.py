"""One edit at several strengths."""

from __future__ import annotations

from collections.abc import Sequence

from ..errors import InputError
from ..images import read
from ..schema import EditRequest
from ..tasks import TaskInput
from ..tasks.base import strength_tensor
from .batch import execute_batch
from .executor import OnProgress, model_of
from .result import Result

__all__ = ["fan_out"]


def fan_out(
    request: EditRequest, factors: Sequence[float], on_progress: OnProgress | None = None
) -> list[Result]:
    """The edit with its map times each factor, all from the same noise.

    Args:
        request: the edit.
        factors: in [0, 1].
        on_progress: called with a `Progress`; each edit is a run, but of a pipeline all are one.

    Raises:
        InputError: as `execute`, and for factors that are none.
    """
    if not factors or not all(0 <= factor <= 1 for factor in factors):
        raise InputError(f"strengths is {list(factors)}: give numbers in [0, 1]")
    picture = read(request.image)
    source = TaskInput(picture.tensor(), picture.is_grey)
    whole = strength_tensor(request.strength, source, invert=request.invert)[0, 0].numpy()
    loaded = {"model": model_of(request), "config": None, "device": None, "precision": "auto"}
    fixed = {**loaded, "image": picture, "invert": False}
    requests = [
        request.model_copy(update={**fixed, "strength": factor * whole}) for factor in factors
    ]
    return execute_batch(requests, request.batch_size, on_progress)
