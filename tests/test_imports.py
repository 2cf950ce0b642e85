"""Who imports whom, and what an import may load.

Imports are read from the syntax tree, those inside functions and `TYPE_CHECKING` blocks too: a
lazy import is an arrow between layers like any other.
"""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

PACKAGE = "differential_diffusion"
ROOT = Path(__file__).resolve().parents[1]
SOURCE = ROOT / "src" / PACKAGE

# Each part of the package, and the parts it may import beside itself and `errors`.
MAY_IMPORT: dict[str, set[str]] = {
    "errors": set(),
    "files": set(),
    "keyvalue": set(),
    "core": set(),
    "schema": {"core", "maps"},
    "settings": set(),
    "nn": {"core"},
    "maps": {"core", "images"},
    "data": {"core"},
    "images": {"core", "files"},
    "models": {"core", "files", "nn"},
    "tasks": {"core", "maps", "schema"},
    "engine": {"core", "images", "maps", "models", "schema", "tasks"},
    "training": {"core", "data", "files", "keyvalue", "models", "nn"},
    # Models, for a network's inner activations and for the checkpoints of a run.
    "evaluation": {"core", "data", "engine", "files", "models"},
    "serving": {"engine", "images", "schema"},
    "weights": set(),
}
TOP = {
    "",
    "__main__",
    "api",
    "cli",
    "facade",
    "teaching",
}  # these sit above all layers; "" is the package's __init__

# Packages whose conventions stop at one part (and at the command line, which may report on them).
HOME = {
    "diffusers": "models",
    "transformers": "models",
    "accelerate": "training",
    "jpeglib": "images",
    "lpips": "evaluation",
    "torch_fidelity": "evaluation",
    "datasets": "data",
    "huggingface_hub": "models",
    "wandb": "training",
    "typer": "cli",
}
# Single files of other parts that may import one of these: maps made by models of transformers, and
# features that they find, are no backends.
EXCEPT = {
    "maps/_transformers.py": "transformers",
    "evaluation/_transformers.py": "transformers",
}

DISTRIBUTION = {
    "PIL": "pillow",
    "cv2": "opencv-python-headless",
    "skimage": "scikit-image",
    "typing_extensions": "typing-extensions",
    "yaml": "pyyaml",
}

# Modules that an import may add to a bare interpreter's: a budget that holds on any machine,
# unlike one in seconds. Measured 31 and 378 when it was set.
PACKAGE_BUDGET = 60
HELP_BUDGET = 500
HEAVY = {"torch", "numpy", "diffusers", "PIL", "cv2", "skimage", "scipy", "transformers"}


@dataclass(frozen=True)
class Import:
    """One import statement's target, as an absolute dotted name."""

    path: Path
    line: int
    target: str

    def __str__(self) -> str:
        return f"{self.path.relative_to(SOURCE)}:{self.line} imports {self.target}"


def part_of(path: Path) -> str:
    """The part a file belongs to: its first folder or module name below the package."""
    first = path.relative_to(SOURCE).parts[0].removesuffix(".py")
    return "" if first == "__init__" else first


def package_of(path: Path) -> list[str]:
    """The dotted package that relative imports in a file start from."""
    return [PACKAGE, *path.relative_to(SOURCE).parts[:-1]]


def imports_in(path: Path, text: str) -> Iterator[Import]:
    """Every module that a file imports, at any depth, relative names resolved.

    `from . import a` may name a module or an attribute; it counts as the module.
    """
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(path, node.lineno, alias.name)
        elif isinstance(node, ast.ImportFrom):
            base = package_of(path)[: -(node.level - 1) or None] if node.level else []
            module = [*base, *(node.module.split(".") if node.module else [])]
            for alias in node.names:
                inside = module == [PACKAGE] or (node.level and not node.module)
                yield Import(
                    path, node.lineno, ".".join([*module, alias.name] if inside else module)
                )
        elif is_import_call(node):
            yield from called_import(path, node)


def is_import_call(node: ast.AST) -> bool:
    """Whether a node is `import_module(...)` or `__import__(...)`."""
    if not isinstance(node, ast.Call):
        return False
    name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
    return name in {"import_module", "__import__"}


def called_import(path: Path, node: ast.AST) -> Iterator[Import]:
    """The target of `import_module("literal")`; names known only at run time give nothing."""
    assert isinstance(node, ast.Call)
    first = node.args[0] if node.args else None
    if isinstance(first, ast.Constant) and isinstance(first.value, str):
        name = first.value.lstrip(".")
        dots = len(first.value) - len(name)
        base = package_of(path)[: -(dots - 1) or None] if dots else []
        yield Import(path, node.lineno, ".".join([*base, name]))


def violations(imports: list[Import]) -> list[str]:
    """The imports that cross the layers in a direction `MAY_IMPORT` does not list.

    A foreign package belongs to the part that `HOME` names, and to the files in `EXCEPT`.
    """
    found = []
    for item in imports:
        source = part_of(item.path)
        names = item.target.split(".")
        if names[0] == PACKAGE:
            target = names[1] if len(names) > 1 else ""
            allowed = source in TOP or target in MAY_IMPORT[source] | {source, "errors"}
            wrong = not allowed or (target == "cli" and source not in {"cli", "__main__"})
        elif source == "core":
            wrong = names[0] != "torch" and names[0] not in sys.stdlib_module_names
        else:
            wrong = (
                source not in {HOME.get(names[0], source), "cli"}
                and EXCEPT.get(item.path.relative_to(SOURCE).as_posix()) != names[0]
            )
        if wrong:
            found.append(str(item))
    return found


def source_imports() -> list[Import]:
    files = sorted(SOURCE.rglob("*.py"))
    assert files, f"no source below {SOURCE}"
    return [item for path in files for item in imports_in(path, path.read_text("utf-8"))]


def test_every_part_has_a_rule() -> None:
    parts = {part_of(path) for path in SOURCE.rglob("*.py")}
    assert parts <= set(MAY_IMPORT) | TOP, "add the new part to MAY_IMPORT, and to the docs"


def test_imports_follow_the_layers() -> None:
    assert violations(source_imports()) == []


@pytest.mark.parametrize(
    ("file", "text", "wrong"),
    [
        ("core/a.py", "from ..nn import unet", True),
        ("core/a.py", "def f():\n    import numpy", True),
        ("core/a.py", "import torch.nn\nimport math\nfrom ..errors import InputError", False),
        ("core/operators/a.py", "from ..noise import draw", False),
        ("core/operators/a.py", "from ...maps import x", True),
        ("nn/a.py", "from differential_diffusion.models import prior", True),
        ("nn/a.py", "from differential_diffusion import models", True),
        ("nn/a.py", "import differential_diffusion.core.types", False),
        ("tasks/a.py", "if TYPE_CHECKING:\n    from ..engine import run", True),
        ("tasks/a.py", "from .. import maps, models", True),
        ("tasks/a.py", "from .. import maps", False),
        ("maps/a.py", "import importlib\nimportlib.import_module('..models', __package__)", True),
        ("engine/a.py", "from ..cli import main", True),
        ("api.py", "from .cli import main", True),
        ("api.py", "from .engine import run", False),
        ("cli/a.py", "def f():\n    from ..training import train\n    import diffusers", False),
        ("engine/a.py", "import diffusers", True),
        ("maps/a.py", "def f():\n    import transformers", True),
        ("maps/_transformers.py", "def f():\n    from transformers.utils import logging", False),
        ("maps/_transformers.py", "import diffusers", True),
        ("training/a.py", "from accelerate import Accelerator", False),
        ("serving/a.py", "from differential_diffusion import edit", True),
    ],
)  # fmt: skip
def test_the_rule_sees_each_kind_of_import(file: str, text: str, wrong: bool) -> None:
    assert bool(violations(list(imports_in(SOURCE / file, text)))) is wrong


def test_third_party_imports_are_declared() -> None:
    """What is imported is a dependency, or comes with an extra and stays in the part it is for."""
    toml = (ROOT / "pyproject.toml").read_text("utf-8")
    base = toml.split("\ndependencies = [")[1].split("]")[0]
    declared = set(re.findall(r'"([A-Za-z0-9-]+)', base))
    known = {*sys.stdlib_module_names, *HOME, PACKAGE}
    missing = [
        str(item)
        for item in source_imports()
        if (name := item.target.split(".")[0]) not in known
        and DISTRIBUTION.get(name, name) not in declared
    ]
    assert missing == []


def modules_loaded_by(code: str) -> set[str]:
    """Names of the modules that `code` adds to those of a bare interpreter."""
    script = (
        "import contextlib, io, json, sys\n"
        "before = set(sys.modules)\n"
        "try:\n"
        "    with contextlib.redirect_stdout(io.StringIO()):\n"
        f"        {code}\n"
        "except SystemExit as stop:\n"
        "    assert not stop.code, stop.code\n"
        "print(json.dumps(sorted(set(sys.modules) - before)))\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stdout))


def test_importing_the_package_is_cheap() -> None:
    loaded = modules_loaded_by(f"import {PACKAGE}")
    assert PACKAGE in loaded
    assert not loaded & (HEAVY | {"pydantic", "typer", "rich"})
    assert len(loaded) <= PACKAGE_BUDGET, sorted(loaded)


def test_a_name_loads_what_it_needs_and_no_more() -> None:
    loaded = modules_loaded_by(f"from {PACKAGE} import InputError, MissingExtraError")
    assert not loaded & HEAVY


@pytest.mark.parametrize("arguments", [["--help"], ["edit", "--help"], ["train", "--help"]])
def test_help_loads_nothing_heavy(arguments: list[str]) -> None:
    code = f"sys.argv = ['diffdiff', *{arguments}]; from {PACKAGE}.cli import main; main()"
    loaded = modules_loaded_by(code)
    assert f"{PACKAGE}.cli" in loaded
    assert not loaded & HEAVY
    assert len(loaded) <= HELP_BUDGET, len(loaded)
