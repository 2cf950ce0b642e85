"""How a pipeline noises the picture it is given: overheard, and repeated at other levels."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from types import TracebackType
from typing import Any, Protocol

import torch
from torch import Tensor

from ..errors import InputError

__all__ = ["Noising", "noising_of"]

NOISE_FUNCTIONS = {
    "add_noise": ("original_samples", "noise", "timesteps"),
    "scale_noise": ("sample", "timestep", "noise"),
}
"""Those of schedulers, and how their arguments are called, in order."""


class Noising(Protocol):
    """A context around a pipeline's call."""

    @property
    def clean(self) -> Tensor:
        """The picture's latents.

        Raises:
            InputError: the pipeline did not noise it where it was listened to.
        """
        ...

    @property
    def timesteps(self) -> Tensor:
        """What the network is called with in this run's schedule."""
        ...

    def at(self, timestep: Tensor) -> Tensor:
        """The latents noised to this level, with the noise that the pipeline drew."""
        ...

    def __enter__(self) -> Noising: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None: ...


def noising_of(pipeline: Any) -> Noising:
    """What listens to a pipeline: to its scheduler, or to itself where that noises nothing."""
    if any(hasattr(pipeline.scheduler, name) for name in NOISE_FUNCTIONS):
        return _ByScheduler(pipeline)
    return _ByPreparation(pipeline)


def _not_noised(pipeline: Any) -> InputError:
    return InputError(
        f"{type(pipeline).__name__} does not noise the picture with its scheduler, so that no part "
        "of it can be held: use another image-to-image pipeline, or one strength for all"
    )


class _ByScheduler:
    """The scheduler's `add_noise` or `scale_noise`."""

    def __init__(self, pipeline: Any) -> None:
        self.pipeline, self.scheduler = pipeline, pipeline.scheduler
        self._given: dict[str, Any] = {}
        self._function: Callable[..., Tensor] | None = None
        self._before: dict[str, Any] = {}

    def __enter__(self) -> _ByScheduler:
        self._before = {n: f for n, f in vars(self.scheduler).items() if n in NOISE_FUNCTIONS}
        for name in NOISE_FUNCTIONS:
            if hasattr(self.scheduler, name):
                setattr(self.scheduler, name, self._listening(name))
        return self

    def __exit__(self, *_: object) -> None:
        for name in NOISE_FUNCTIONS:
            vars(self.scheduler).pop(name, None)
        vars(self.scheduler).update(self._before)

    def _listening(self, name: str) -> Callable[..., Tensor]:
        """The noise function, which remembers the first that it is given."""
        function: Callable[..., Tensor] = getattr(self.scheduler, name)

        def listening(*args: Any, **kwargs: Any) -> Tensor:
            if self._function is None:
                self._function = function
                self._given = dict(zip(NOISE_FUNCTIONS[name], args, strict=False)) | kwargs
            return function(*args, **kwargs)

        return listening

    @property
    def clean(self) -> Tensor:
        for name in ("original_samples", "sample"):
            if isinstance(clean := self._given.get(name), Tensor):
                return clean
        raise _not_noised(self.pipeline)

    @property
    def timesteps(self) -> Tensor:
        timesteps: Tensor = self.scheduler.timesteps
        return timesteps

    def at(self, timestep: Tensor) -> Tensor:
        """Schedulers that were told where to begin go by their own count, others by the time."""
        times = timestep.reshape(1).repeat(len(self.clean))
        if self._function is None:
            raise _not_noised(self.pipeline)
        given = {name: times if "timestep" in name else v for name, v in self._given.items()}
        order = next(names for names in NOISE_FUNCTIONS.values() if given.keys() == set(names))
        return self._function(*(given[name] for name in order))


def _nothing() -> None:
    """What a pipeline without `prepare_latents` prepares."""


class _ByPreparation:
    """The pipeline's `prepare_latents`, which noises a picture or latents by itself (SANA-Sprint).

    Such a pipeline decodes the last step's estimate, `denoised`: the callback is handed that too.
    """

    def __init__(self, pipeline: Any) -> None:
        self.pipeline = pipeline
        self._function: Callable[..., Any] = _nothing
        self._call: inspect.BoundArguments | None = None
        self._states: list[Tensor] = []
        self._clean: Tensor | None = None

    def __enter__(self) -> _ByPreparation:
        function: Callable[..., Any] = getattr(self.pipeline, "prepare_latents", _nothing)
        self._function, signature = function, inspect.signature(function)
        noises = {"image", "timestep", "generator"} <= signature.parameters.keys()

        def listening(*args: Any, **kwargs: Any) -> Any:
            if self._clean is not None or not noises:
                return function(*args, **kwargs)
            self._call = signature.bind(*args, **kwargs)
            self._states = [one.get_state() for one in self._generators()]
            timestep = self._call.arguments["timestep"]
            self._clean = self.at(torch.zeros_like(timestep))
            self._call.arguments["image"] = self._clean
            return function(*self._call.args, **self._call.kwargs)

        self.pipeline.prepare_latents = listening
        self.pipeline._callback_tensor_inputs = [
            *self.pipeline._callback_tensor_inputs,
            "denoised",
        ]
        return self

    def __exit__(self, *_: object) -> None:
        vars(self.pipeline).pop("prepare_latents", None)
        vars(self.pipeline).pop("_callback_tensor_inputs", None)

    def _generators(self) -> list[torch.Generator]:
        given = None if self._call is None else self._call.arguments.get("generator")
        return given if isinstance(given, list) else [given] if given is not None else []

    @property
    def clean(self) -> Tensor:
        if self._clean is None:
            raise _not_noised(self.pipeline)
        return self._clean

    @property
    def timesteps(self) -> Tensor:
        """The schedule ends with the 0 that is reached."""
        timesteps: Tensor = self.pipeline.scheduler.timesteps
        return timesteps[:-1]

    def at(self, timestep: Tensor) -> Tensor:
        """Called again with generators as they were, it draws the same noise."""
        if self._call is None:
            raise _not_noised(self.pipeline)
        again = []
        for generator, state in zip(self._generators(), self._states, strict=True):
            again.append(torch.Generator(generator.device))
            again[-1].set_state(state)
        repeated = {**self._call.arguments, "timestep": timestep.reshape(1), "generator": again}
        made: Tensor = self._function(**repeated)
        return made
