"""What stands around a pipeline's call: its bars hidden, its complaints in a sentence."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from ..errors import InputError

__all__ = ["QuietBar", "carrying", "check_unflagged", "refused"]


class _Carried(Exception):  # it carries one
    """What a callback raised, on its way through the pipeline."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.error = error


def carrying(callback: Callable[..., Any]) -> Callable[..., Any]:
    """The callback; what it raises passes `refused` as it is."""

    def called(*args: Any, **kwargs: Any) -> Any:
        try:
            return callback(*args, **kwargs)
        except Exception as error:
            raise _Carried(error) from error

    return called


@contextmanager
def refused(pipeline: Any) -> Iterator[None]:
    """Inside, what the pipeline finds wrong with its arguments becomes one sentence.

    Raises:
        InputError: with the pipeline's reason.
    """
    try:
        yield
    except _Carried as carried:
        raise carried.error from None
    except NameError as error:
        if error.name != "ftfy":  # which Wan's uses whether or not it could be imported
            raise
        raise InputError(
            f"{type(pipeline).__name__} needs the package ftfy to read a prompt: pip install ftfy, "
            "or give prompt_embeds in pipeline_kwargs"
        ) from error
    except (ValueError, TypeError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else "no reason"
        raise InputError(
            f"{type(pipeline).__name__} refuses its arguments ({reason}): check the prompt and "
            "pipeline_kwargs"
        ) from error


def check_unflagged(out: Any, seeds: Sequence[int]) -> None:
    """That no safety checker put black in place of a picture.

    Raises:
        InputError: if one did.
    """
    flagged = getattr(out, "nsfw_content_detected", None)
    if flagged and any(flagged):
        raise InputError(
            f"the pipeline's safety checker blacked out the result of seed "
            f"{seeds[list(flagged).index(True)]}: use another seed or prompt, or load the pipeline "
            "without its checker"
        )


class QuietBar:
    """No progress bar of the pipeline's own: ours is there."""

    def __init__(self, pipeline: Any) -> None:
        parts = (getattr(pipeline, name, None) for name in ("prior_pipe", "decoder_pipe"))
        self.pipelines = [part for part in parts if part is not None] or [pipeline]

    def __enter__(self) -> None:
        self.before = [dict(getattr(one, "_progress_bar_config", {})) for one in self.pipelines]
        for one, config in zip(self.pipelines, self.before, strict=True):
            one.set_progress_bar_config(**{**config, "disable": True})

    def __exit__(self, *_: object) -> None:
        for one, config in zip(self.pipelines, self.before, strict=True):
            one.set_progress_bar_config(**config)
