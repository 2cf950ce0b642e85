"""The wheel works by itself: installed into a fresh environment and used from another folder."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import differential_diffusion as dd

pytestmark = pytest.mark.slow

PYTHON_EDIT = """
import json, pathlib, sys
import numpy as np
from PIL import Image
import differential_diffusion as dd

photo, strength = Image.open("photo.png"), np.asarray(Image.open("map.png"), np.float32) / 255
result = dd.edit(photo, strength, seed=3, steps=4)
result.save("python.png")
print(json.dumps({"file": dd.__file__, "version": dd.__version__}))
"""


def run(*command: str | Path, cwd: Path) -> str:
    """Standard output of a command that must succeed and must not see the source tree."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
    done = subprocess.run(
        [str(part) for part in command], cwd=cwd, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr + done.stdout
    return done.stdout


@pytest.fixture(scope="module")
def wheel(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from the checkout without touching it."""
    folder = tmp_path_factory.mktemp("wheel")
    build = (sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder)
    run(*build, repository, cwd=folder)
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def environment(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of executables of a fresh environment that holds nothing but the wheel.

    Dependencies come from the running environment's site-packages through a .pth line. Python
    does not follow the .pth files of a folder added that way, so an editable install there stays
    out of sight.
    """
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, with_pip=False)
    (python,) = [path for path in folder.glob("*/python*") if path.stem == "python"]
    purelib = run(
        python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=folder
    )
    borrowed = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
    (Path(purelib.strip()) / "borrowed.pth").write_text("\n".join(sorted(borrowed)) + "\n")
    pip = (sys.executable, "-m", "pip", "--python", python, "install")
    run(*pip, "--no-deps", "--no-index", "--ignore-installed", wheel, cwd=folder)
    return python.parent


@pytest.fixture
def elsewhere(tmp_path: Path) -> Path:
    """A folder outside the checkout with a photograph and a map: kept, half, free."""
    rng = np.random.default_rng(0)
    photo = rng.integers(0, 256, (40, 56, 3), dtype=np.uint8)
    strength = np.zeros((40, 56), np.uint8)
    strength[:, 20:40], strength[:, 40:] = 128, 255
    Image.fromarray(photo).save(tmp_path / "photo.png")
    Image.fromarray(strength).save(tmp_path / "map.png")
    return tmp_path


def assert_edited(folder: Path, name: str) -> None:
    """Strength-0 pixels are identical, and the free ones are not."""
    before = np.asarray(Image.open(folder / "photo.png"))
    after = np.asarray(Image.open(folder / name))
    kept = np.asarray(Image.open(folder / "map.png")) == 0
    assert after.dtype == before.dtype
    np.testing.assert_array_equal(after[kept], before[kept])
    assert (after[:, 40:] != before[:, 40:]).mean() > 0.5


def test_the_wheel_holds_the_package_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    inside = {name.removeprefix("differential_diffusion/") for name in names}
    assert {"py.typed", "__init__.py", "cli/__init__.py"} <= inside
    for ending in (".safetensors", ".json", ".md", "NOTICE"):
        assert any(n.startswith("weights/") and n.endswith(ending) for n in inside), ending
    licences = [name for name in names if "/licenses/" in name]
    assert {Path(name).name for name in licences} == {"LICENSE", "NOTICE"}
    top = {name.split("/")[0] for name in names}
    assert top == {
        "differential_diffusion",
        f"differential_diffusion-{dd.__version__}.dist-info",
    }


def test_python_edits_from_another_folder(environment: Path, elsewhere: Path) -> None:
    said = json.loads(run(environment / "python", "-c", PYTHON_EDIT, cwd=elsewhere))
    assert Path(said["file"]).is_relative_to(environment.parent), "not the wheel's package"
    assert said["version"] == dd.__version__
    assert_edited(elsewhere, "python.png")


def test_the_command_edits_from_another_folder(environment: Path, elsewhere: Path) -> None:
    options = ["--strength", "map.png", "--output", "cli.png", "--seed", "3", "--steps", "4"]
    run(environment / "diffdiff", "edit", "photo.png", *options, cwd=elsewhere)
    assert_edited(elsewhere, "cli.png")


def test_the_wheel_s_metadata(environment: Path, elsewhere: Path) -> None:
    code = (
        "import importlib.metadata as m; d = m.distribution('differential-diffusion');"
        "print(d.locate_file('')); print(d.version); print(d.metadata['License-Expression'])"
    )
    where, version, licence = run(environment / "python", "-c", code, cwd=elsewhere).splitlines()
    assert Path(where).is_relative_to(environment.parent)
    assert (version, licence) == (dd.__version__, "Apache-2.0")
