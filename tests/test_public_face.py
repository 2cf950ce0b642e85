"""The public face is what the documentation says it is."""

from __future__ import annotations

import inspect
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

import differential_diffusion as dd

DOCUMENTED = re.compile(r"^::: differential_diffusion\.([A-Za-z_]\w*)\s*$", re.MULTILINE)
CALLABLES = sorted(set(dd.__all__) - {"__version__", "maps"})


def test_all_is_what_the_reference_documents(repository: Path) -> None:
    page = (repository / "docs" / "api.md").read_text("utf-8")
    assert sorted(DOCUMENTED.findall(page)) == sorted(dd.__all__)


def test_all_is_sorted_and_without_repeats() -> None:
    assert list(dd.__all__) == sorted(set(dd.__all__))


@pytest.mark.parametrize("name", dd.__all__)
def test_every_name_resolves_and_is_listed(name: str) -> None:
    assert getattr(dd, name) is getattr(dd, name)
    assert name in dir(dd)


def test_dir_needs_no_heavy_import() -> None:
    code = "import sys, differential_diffusion as dd; dir(dd); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'edti'"):
        dd.edti  # noqa: B018


@pytest.mark.parametrize("name", CALLABLES)
def test_every_name_has_a_docstring_of_its_own(name: str) -> None:
    text = getattr(dd, name).__doc__
    assert text
    assert text.strip().splitlines()[0].rstrip().endswith((".", ":", ";")), "one line of what"
    assert not text.startswith(f"{name}("), "a dataclass's generated docstring says nothing"


@pytest.mark.parametrize("name", CALLABLES)
def test_every_callable_is_annotated(name: str) -> None:
    member = getattr(dd, name)
    functions = [member] if inspect.isfunction(member) else public_methods(member)
    for function in functions:
        signature = inspect.signature(function)
        bare = [
            parameter.name
            for parameter in signature.parameters.values()
            if parameter.annotation is parameter.empty and parameter.name not in {"self", "cls"}
        ]
        assert bare == [], f"{function.__qualname__} leaves {bare} without a type"
        assert signature.return_annotation is not signature.empty, function.__qualname__


def public_methods(cls: type) -> list[object]:
    """Functions that a class of ours defines itself under a public name."""
    assert inspect.isclass(cls)
    return [
        member
        for name, member in vars(cls).items()
        if inspect.isfunction(member) and not name.startswith("_")
    ]


def test_maps_is_the_module_of_map_sources() -> None:
    assert isinstance(dd.maps, ModuleType)
    assert dd.maps.StrengthMap is dd.StrengthMap


def test_errors_are_the_builtin_kinds_callers_expect() -> None:
    assert issubclass(dd.InputError, ValueError)
    assert issubclass(dd.MissingExtraError, ImportError)


def test_the_version_is_the_distribution_s() -> None:
    from importlib.metadata import version

    assert re.fullmatch(r"\d+\.\d+\.\d+", dd.__version__)
    assert version("differential-diffusion") == dd.__version__
