"""Strengths by the names of a model's classes."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from typing import Any

from ..errors import InputError
from . import _check

__all__ = ["find_class", "strengths_of"]

_SHOWN = 6


def strengths_of(classes: Any, labels: Mapping[int, str], model: str) -> dict[int, float]:
    """The strength of each class that is named, by the class's number.

    Args:
        classes: strengths in [0, 1] by the names of classes, see `find_class`.
        labels: the model's own names, by number.
        model: what messages call the model.

    Raises:
        InputError: no mapping, nothing in it, a name that the model does not know, a strength out
            of range, or two for one class.
    """
    if not isinstance(classes, Mapping) or not classes:
        raise InputError(
            f"classes is {classes!r}: give a strength for each name, such as {{'sky': 0.8}}."
        )
    chosen: dict[int, float] = {}
    names: dict[int, str] = {}
    for name, value in classes.items():
        strength = _check.number(f"the strength of class '{name}'", value, 0, 1)
        for index in find_class(name, labels, model):
            if chosen.setdefault(index, strength) != strength:
                raise InputError(
                    f"'{names[index]}' and '{name}' are one class of the model {model}, with two "
                    "strengths: give one."
                )
            names.setdefault(index, str(name))
    return chosen


def find_class(name: Any, labels: Mapping[int, str], model: str) -> list[int]:
    """The numbers of the classes that a name stands for, whatever its case.

    A class is called by its whole label, or, where none is called so, by one of several names
    that a label lists ("person, individual, someone").

    Raises:
        InputError: there is none; the message lists those with similar names.
    """
    wanted = _plain(str(name))
    whole = [index for index, label in labels.items() if _plain(label) == wanted]
    found = whole or [index for index, label in labels.items() if wanted in _names(label)]
    if not wanted or not found:
        raise InputError(
            f"'{name}' is no class of the model {model}: use {_similar(wanted, labels)}."
        )
    return found


def _plain(name: str) -> str:
    return " ".join(name.casefold().replace("_", " ").split())


def _names(label: str) -> list[str]:
    return [_plain(part) for part in re.split("[,;]", label)]


def _similar(wanted: str, labels: Mapping[int, str]) -> str:
    """The model's names that look like one, else its first."""
    known = {part: label for label in labels.values() for part in (*_names(label), _plain(label))}
    near = difflib.get_close_matches(wanted, known, _SHOWN, 0.6)
    near += [part for part in known if wanted and (wanted in part or (part and part in wanted))]
    close = list(dict.fromkeys(known[part] for part in near))[:_SHOWN]
    shown = close or list(dict.fromkeys(labels.values()))[:_SHOWN]
    others = len(set(labels.values())) - len(shown)
    more = f", or one of {others} others" if others and not close else ""
    return (", ".join(f"'{label}'" for label in shown) or "a model that names classes") + more
