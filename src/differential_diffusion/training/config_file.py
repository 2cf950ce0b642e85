"""Training configurations as YAML files, with errors that name the key."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import ValidationError

from ..errors import InputError
from ..keyvalue import key_value
from .codec_config import CodecConfig
from .config import RunConfig, TrainingConfig

KINDS: dict[str, type[TrainingConfig] | type[CodecConfig]] = {
    "denoiser": TrainingConfig,
    "codec": CodecConfig,
}
"""What a run trains, by its `kind`."""


def load_config(
    path: str | Path, overrides: dict[str, Any] | None = None
) -> TrainingConfig | CodecConfig:
    """Read a YAML file as a `TrainingConfig`, or a `CodecConfig` if it says `kind: codec`.

    Args:
        path: the file.
        overrides: replace its top-level keys.

    Raises:
        InputError: for a missing file, bad YAML, an unknown key (with the nearest known one)
            or a value out of range; one sentence that names the key.
    """
    path = Path(path)
    try:
        raw = yaml.load(path.read_text(encoding="utf-8"), _Loader)
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not text"
        raise InputError(f"cannot read the configuration '{path}': {reason}") from None
    except (yaml.YAMLError, ValueError) as error:
        where = getattr(error, "problem_mark", None)
        line = f" at line {where.line + 1}" if where else ""
        why = str(error.problem) if isinstance(error, _Twice) else "check indentation and colons"
        raise InputError(f"'{path}' is not valid YAML{line}: {why}") from None
    if not isinstance(raw, dict):
        raise InputError(f"'{path}' must hold a mapping of settings such as 'steps: 1000'")
    raw |= overrides or {}
    kind = raw.get("kind", "denoiser")
    if not isinstance(kind, str) or kind not in KINDS:
        raise InputError(f"in '{path}', 'kind' is {kind!r}: it must be one of {', '.join(KINDS)}")
    try:
        return KINDS[kind].model_validate(raw)
    except ValidationError as error:
        raise InputError(f"in '{path}', {_explain(error, KINDS[kind])}") from None


def overrides(path: str | Path, settings: Iterable[str]) -> dict[str, Any]:
    """Top-level keys of a configuration with `key.key=value` settings put in; values are YAML.

    Args:
        path: the YAML file.
        settings: such as "steps=500" and "optimizer.learning_rate=0.001".

    Returns: what `load_config` takes as overrides.

    Raises:
        InputError: a setting of another form.
    """
    pairs = [key_value("--set", setting) for setting in settings]
    tree = _tree(Path(path)) if pairs else {}
    changed: dict[str, Any] = {}
    for key, value in pairs:
        *parents, last = key.split(".")
        section = tree
        for parent in parents:
            if not isinstance(section.get(parent), dict):
                section[parent] = {}
            section = section[parent]
        section[last] = value
        top = key.split(".")[0]
        changed[top] = tree[top]
    return changed


class _Twice(yaml.constructor.ConstructorError):
    """A key that a mapping holds twice, of which YAML would take the last."""


class _Loader(yaml.SafeLoader):
    """Plain YAML without keys that stand twice."""

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        """A mapping of distinct keys."""
        seen = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                continue
            if key.value in seen:
                why = f"the key '{key.value}' stands there for the second time: join them"
                raise _Twice(None, None, why, key.start_mark)
            seen.add(key.value)
        made: dict[Any, Any] = super().construct_mapping(node, deep=deep)
        return made


def _tree(path: Path) -> dict[str, Any]:
    """The YAML file's mapping, or nothing where it has none, which `load_config` reports."""
    try:
        tree = yaml.load(path.read_text(encoding="utf-8"), _Loader)
    except (OSError, ValueError, yaml.YAMLError):
        return {}
    return tree if isinstance(tree, dict) else {}


def _explain(error: ValidationError, model: type[RunConfig]) -> str:
    first = error.errors(include_url=False)[0]
    key = ".".join(str(part) for part in first["loc"]) or "the whole"
    if first["type"] == "extra_forbidden":
        section = _section(first["loc"][:-1], model)
        near = difflib.get_close_matches(str(first["loc"][-1]), section, n=1)
        hint = f"did you mean '{near[0]}'?" if near else f"known keys are {', '.join(section)}"
        return f"the key '{key}' is not known: {hint}"
    if first["type"] == "missing":
        return f"the key '{key}' is missing: add it"
    if first["type"] == "model_type":
        return f"'{key}' is {first['input']!r}: input should be a mapping of settings"
    message = first["msg"].removeprefix("Value error, ")
    return (
        f"'{key}' is {first['input']!r}: {message[0].lower()}{message[1:]}"
        if first["loc"]
        else message
    )


def _section(location: tuple[int | str, ...], model: Any) -> list[str]:
    for part in location:
        found = model.model_fields[str(part)].annotation
        # A section that may be left out stands beside None.
        model = next((m for m in get_args(found) if hasattr(m, "model_fields")), found)
    return list(model.model_fields)
