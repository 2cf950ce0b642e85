"""Settings as they are given on a command line, `key=value`."""

from __future__ import annotations

from typing import Any

from .errors import InputError

__all__ = ["key_value"]


def key_value(option: str, text: str) -> tuple[str, Any]:
    """The key and the value, read as YAML, of an option's ``key=value``.

    Raises:
        InputError: It has another form.
    """
    import yaml

    key, equals, value = text.partition("=")
    if not equals or not all(key.split(".")):
        raise InputError(f"{option} '{text}' is not KEY=VALUE, such as {option} steps=20.")
    try:
        return key, yaml.safe_load(value)
    except (yaml.YAMLError, ValueError):  # ValueError: a date that does not exist
        raise InputError(
            f"{option} '{text}' has a value that is not valid YAML: check brackets and quotes."
        ) from None
