"""One edit at several strengths."""

from __future__ import annotations

from collections.abc import Sequence

from ..errors import InputError
from ..images import read
from ..models import load_model
from ..schema import EditRequest
from ..tasks import TaskInput
from ..tasks.base import strength_tensor
from .executor import OnProgress, Progress, execute
from .result import Result

__all__ = ["fan_out"]


def fan_out(
    request: EditRequest, factors: Sequence[float], on_progress: OnProgress | None = None
) -> list[Result]:
    """The edit with its map times each factor, all from the same noise.

    Args:
        request: the edit.
        factors: in [0, 1].
        on_progress: called with a `Progress`, each edit a run.

    Raises:
        InputError: as `execute`, and for factors that are none.
    """
    if not factors or not all(0 <= factor <= 1 for factor in factors):
        raise InputError(f"strengths is {list(factors)}: give numbers in [0, 1]")
    picture = read(request.image)
    source = TaskInput(picture.tensor(), picture.is_grey)
    whole = strength_tensor(request.strength, source, invert=request.invert)[0, 0].numpy()
    model = load_model(request.model, device=request.device, precision=request.precision)
    loaded = {"model": model, "device": None, "precision": "auto", "image": picture}
    results: list[Result] = []
    for factor in factors:

        def report(progress: Progress, run: int = len(results) + 1) -> None:
            if on_progress is not None:
                on_progress(Progress(run, progress.fraction))

        scaled = loaded | {"strength": factor * whole, "invert": False}
        results.append(execute(request.model_copy(update=scaled), on_progress=report))
    return results
