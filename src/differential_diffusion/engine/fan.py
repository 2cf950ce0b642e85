"""One edit at several strengths."""

from __future__ import annotations

from collections.abc import Sequence

from ..errors import InputError
from ..images import read
from ..schema import EditRequest
from ..tasks.edit import plan_edit
from .batch import execute_batch
from .executor import OnProgress, as_loaded, model_of, source_of, with_holes_filled
from .result import Result

__all__ = ["fan_out"]


def fan_out(
    request: EditRequest, factors: Sequence[float], on_progress: OnProgress | None = None
) -> list[Result]:
    """The edit with its map times each factor, all from the same noise.

    Args:
        request: the edit.
        factors: in (0, 1].
        on_progress: called with a `Progress`; each edit is a run, but of a pipeline all are one.

    Raises:
        InputError: as `execute`, and for factors that are none.
    """
    if not factors or not all(0 < factor <= 1 for factor in factors):
        raise InputError(f"strengths is {list(factors)}: give numbers in (0, 1]")
    picture, model = read(request.image), model_of(request)
    source = source_of(picture, model)
    plan = plan_edit(request, source)
    filled = with_holes_filled(plan, model).image
    fixed = {**as_loaded(model), "invert": False, "image": picture}
    if filled is not plan.image:  # a weaker edit would leave the hole as it is
        unchanged = (filled == plan.image).all(1)[0].numpy()
        fixed |= {"image": picture.replaced(filled[0], unchanged), "prefill": "none"}
    whole = plan.strength[0, 0].numpy()
    requests = [
        request.model_copy(update={**fixed, "strength": factor * whole}) for factor in factors
    ]
    return execute_batch(requests, request.batch_size, on_progress)
