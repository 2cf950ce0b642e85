"""Training configurations as YAML files, with errors that name the key."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from ..errors import InputError
from .config import TrainingConfig


def load_config(path: str | Path, overrides: dict[str, Any] | None = None) -> TrainingConfig:
    """Read a YAML file as a `TrainingConfig`; `overrides` replace top-level keys.

    Raises:
        InputError: for a missing file, bad YAML, an unknown key (with the nearest known one)
            or a value out of range; one sentence that names the key.
    """
    path = Path(path)
    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not text"
        raise InputError(f"cannot read the configuration '{path}': {reason}") from None
    except (yaml.YAMLError, ValueError) as error:
        where = getattr(error, "problem_mark", None)
        line = f" at line {where.line + 1}" if where else ""
        raise InputError(
            f"'{path}' is not valid YAML{line}: check indentation and colons"
        ) from None
    if not isinstance(raw, dict):
        raise InputError(f"'{path}' must hold a mapping of settings such as 'steps: 1000'")
    try:
        return TrainingConfig.model_validate(raw | (overrides or {}))
    except ValidationError as error:
        raise InputError(f"in '{path}', {_explain(error)}") from None


def _explain(error: ValidationError) -> str:
    first = error.errors(include_url=False)[0]
    key = ".".join(str(part) for part in first["loc"]) or "the whole"
    if first["type"] == "extra_forbidden":
        section = _section(first["loc"][:-1])
        near = difflib.get_close_matches(str(first["loc"][-1]), section, n=1)
        hint = f"did you mean '{near[0]}'?" if near else f"known keys are {', '.join(section)}"
        return f"the key '{key}' is not known: {hint}"
    if first["type"] == "missing":
        return f"the key '{key}' is missing: add it"
    message = first["msg"].removeprefix("Value error, ")
    return (
        f"'{key}' is {first['input']!r}: {message[0].lower()}{message[1:]}"
        if first["loc"]
        else message
    )


def _section(location: tuple[int | str, ...]) -> list[str]:
    model: Any = TrainingConfig
    for part in location:
        model = model.model_fields[str(part)].annotation
    return list(model.model_fields)
