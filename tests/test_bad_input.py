"""Bad input of every kind: one sentence that names it, from Python and from the command line.

Each kind is tried in a folder whose files must be the same afterwards, with none added.
"""

from __future__ import annotations

import hashlib
import io
import json
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

import differential_diffusion as dd
from differential_diffusion.cli import app
from differential_diffusion.models.checkpoint import CheckpointConfig, save_checkpoint
from differential_diffusion.nn import SigmaMapUNet, UNetConfig
from differential_diffusion.schema import EditRequest, build
from differential_diffusion.training import load_config, train

HEIGHT, WIDTH = 16, 24
TASKS = {"edit", "inpaint", "denoise", "restore"}
MODEL = "tiny"

Python = Callable[[], Any]


@dataclass(frozen=True)
class Bad:
    """A kind of bad input.

    Attributes:
        kind: what is wrong.
        names: what the message must contain: the thing at fault.
        python: a call that must raise InputError.
        command: a command line that must end with exit code 2.
        files: what to put into the folder first, by name.
    """

    kind: str
    names: str
    python: Python | None = None
    command: str | None = None
    files: dict[str, bytes] | None = None


def array(fill: float = 0.5, dtype: Any = np.float32, shape: Any = (HEIGHT, WIDTH, 3)) -> Any:
    return np.full(shape, fill, dtype)


def encoded(pixels: Any, form: str = "PNG") -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, form)
    return stream.getvalue()


def noise(channels: int = 3, height: int = HEIGHT, width: int = WIDTH) -> Any:
    shape = (height, width) if channels == 1 else (height, width, channels)
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


def chunk(name: bytes, content: bytes) -> bytes:
    return (
        struct.pack(">I", len(content)) + name + content
        + struct.pack(">I", zlib.crc32(name + content))
    )  # fmt: skip


def bomb(width: int, height: int) -> bytes:
    """A PNG of a hundred bytes that claims width x height pixels."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 16)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def pickled() -> bytes:
    stream = io.BytesIO()
    np.save(stream, np.array([{"a": 1}], dtype=object), allow_pickle=True)
    return stream.getvalue()


def yaml(**changes: str) -> bytes:
    """A small valid training configuration with lines replaced or added; None removes one."""
    lines = {
        "output": "output: out",
        "data": "data: {path: pictures, patch_size: 16, validation: 1}",
        "steps": "steps: 1",
        "network": "network: {channels: [8, 8], blocks: [1, 1]}",
    }
    return "\n".join((lines | changes).values()).encode() + b"\n"


def picture(name: str, content: bytes, names: str | None = None) -> dict[str, Any]:
    """A bad picture file, given to Python and to the command line."""
    return {
        "names": names or name,
        "files": {name: content},
        "python": lambda: dd.denoise(name, 25, model=MODEL),
        "command": f"denoise {name} --noise 25",
    }


def in_memory(image: Any) -> Python:
    return lambda: dd.denoise(image, 25, model=MODEL)


def strength(value: Any) -> Python:
    return lambda: dd.edit("photo.png", value, model=MODEL)


def level(value: Any) -> Python:
    return lambda: dd.denoise("photo.png", value, model=MODEL)


def setting(**settings: Any) -> Python:
    return lambda: dd.edit("photo.png", 0.5, **({"model": MODEL} | settings))


def option(text: str) -> str:
    return f"edit photo.png --strength 0.5 {text}"


def saved(name: str, source: str = "photo.png") -> Python:
    return lambda: dd.denoise(source, 0, model=MODEL).save(name)


def config(**changes: str) -> dict[str, Any]:
    """A bad training configuration, given to Python and to the command line."""
    return {
        "files": {"run.yaml": yaml(**changes)},
        "python": lambda: train(load_config("run.yaml")),
        "command": "train run.yaml",
    }


PNG, JPEG = encoded(noise(height=64, width=64)), encoded(noise(height=64, width=64), "JPEG")
SMALL_MAP = encoded(noise(1, 5, 7))
DESCRIPTION = json.dumps(
    {"format": "differential-diffusion/1", "network": {"channels": [8, 8], "blocks": [1, 1]}}
)
PHOTO_LINE = "edit photo.png --strength 0.5"

PICTURES = [
    Bad("truncated PNG", **picture("cut.png", PNG[: len(PNG) // 2])),
    Bad("truncated JPEG", **picture("cut.jpg", JPEG[: len(JPEG) // 2])),
    Bad("damaged PNG", **picture("bad.png", PNG[:60] + b"\xff" * 40 + PNG[100:])),
    Bad("truncated TIFF", **picture("cut.tif", encoded(noise(), "TIFF")[:200])),
    Bad("empty file", **picture("empty.png", b"")),
    Bad("text renamed .png", **picture("text.png", b"this is no picture\n")),
    Bad("a format that is not read", **picture("doc.png", b"%PDF-1.7 and more")),
    Bad("PNG header alone", **picture("head.png", PNG[:8])),
    Bad("decompression bomb", **picture("bomb.png", bomb(60_000, 60_000))),
    Bad("PNG without pixels", **picture("zero.png", bomb(0, 10))),
    Bad("pickled .npy", **picture("objects.npy", pickled())),
    Bad("missing file", "gone.png", lambda: dd.restore("gone.png"), "restore gone.png"),
    Bad("folder as a picture", "'pictures'", in_memory("pictures")),
    Bad("folder without pictures", "'nothing'", None, "denoise nothing"),
    Bad("pattern that matches nothing", "'*.webp'", None, "denoise *.webp"),
    Bad("device as a picture", "/dev/zero", in_memory("/dev/zero"), "denoise /dev/zero"),
    Bad("array without pixels", "no pixels", in_memory(array(shape=(0, 24, 3)))),
    Bad("NaN in the picture", "NaN", in_memory(array(np.nan))),
    Bad("infinity in the picture", "infinite", in_memory(array(np.inf))),
    Bad("floats in 0..255", "255", in_memory(array(255.0))),
    Bad("floats in -1..1", "-1", in_memory(array(-1.0))),
    Bad("integers of 64 bits", "int64", in_memory(array(3, np.int64))),
    Bad("array of objects", "object", in_memory(np.array([[None, {}]], dtype=object))),
    Bad("five channels", "(16, 24, 5)", in_memory(array(shape=(16, 24, 5)))),
    Bad("channels first in numpy", "(3, 16, 24)", in_memory(array(shape=(3, 16, 24)))),
    Bad("four dimensions", "(2, 3, 16, 24)", in_memory(torch.zeros(2, 3, 16, 24))),
    Bad("complex tensor", "complex", in_memory(torch.zeros(3, 4, 4, dtype=torch.complex64))),
    Bad("no picture at all", "NoneType", in_memory(None)),
    Bad("a picture of a rare mode", "LAB", in_memory(Image.new("LAB", (8, 8)))),
]

MAPS = [
    Bad("NaN in the map", "NaN", strength(array(np.nan, shape=(HEIGHT, WIDTH)))),
    Bad("negative map", "-0.5", strength(array(-0.5, shape=(HEIGHT, WIDTH)))),
    Bad("map above 1", "1.5", strength(array(1.5, shape=(HEIGHT, WIDTH)))),
    Bad("strength NaN", "nan", strength(float("nan")), "edit photo.png --strength nan"),
    Bad("negative strength", "-0.25", strength(-0.25), "edit photo.png --strength -0.25"),
    Bad("strength above 1", "1.25", strength(1.25), "edit photo.png --strength 1.25"),
    Bad("map of three dimensions", "(16, 24, 2)", strength(array(shape=(16, 24, 2)))),
    Bad("map of integers without range", "int64", strength(array(1, np.int64, (HEIGHT, WIDTH)))),
    Bad("map of another kind", "map", strength({"a": 1})),
    Bad(
        "map of another size", "7x5", strength("small.png"),
        "edit photo.png --strength small.png", {"small.png": SMALL_MAP},
    ),
    Bad(
        "text renamed as a map", "text.png", strength("text.png"),
        "edit photo.png --strength text.png", {"text.png": b"no map"},
    ),
    Bad("missing map", "gone.png", strength("gone.png"), "edit photo.png --strength gone.png"),
    Bad(
        "missing mask", "gone.png", lambda: dd.inpaint("photo.png", "gone.png", model=MODEL),
        "inpaint photo.png --mask gone.png",
    ),
    Bad(
        "missing damage map", "gone.png",
        lambda: dd.restore("photo.png", damage="gone.png", noise_level_8bit=0, model=MODEL),
        "restore photo.png --noise 0 --damage gone.png",
    ),
]  # fmt: skip

NOISE = [
    Bad("negative σ", "noise_level_8bit", level(-1), "denoise photo.png --noise -1"),
    Bad("NaN σ", "noise_level_8bit", level(float("nan")), "denoise photo.png --noise nan"),
    Bad("infinite σ", "noise_level_8bit", level(float("inf")), "denoise photo.png --noise inf"),
    Bad("σ above 255", "255", level(300), "denoise photo.png --noise 300"),
    Bad("σ as text", "'much'", level("much"), "denoise photo.png --noise much"),
    Bad("σ of another kind", "dict", level({"sigma": 25})),
    Bad("NaN in a σ-map", "noise_level_8bit", level(array(np.nan, shape=(HEIGHT, WIDTH)))),
    Bad(
        "σ-map of another size", "(5, 7)", level(array(shape=(5, 7))),
        "denoise photo.png --noise small.png", {"small.png": SMALL_MAP},
    ),
    Bad(
        "posterior samples of a marginal solver", "'heun'",
        lambda: dd.denoise("photo.png", 25, samples=2, solver="heun", model=MODEL),
        "denoise photo.png --noise 25 --samples 2 --solver heun",
    ),
]  # fmt: skip

SETTINGS = [
    Bad("zero steps", "steps is 0", setting(steps=0), option("--steps 0")),
    Bad("negative steps", "steps is -4", setting(steps=-4), option("--steps -4")),
    Bad("too many steps", "steps", setting(steps=10**9), option("--steps 1000000000")),
    Bad("steps that are no number", "steps", setting(steps="many"), option("--steps many")),
    Bad("half a step", "steps", setting(steps=2.5), option("--steps 2.5")),
    Bad("unknown solver", "'eulr'", setting(solver="eulr"), option("--solver eulr")),
    Bad("unknown path", "'later'", setting(path="later"), option("--path later")),
    Bad("no samples", "samples is 0", setting(samples=0), option("--samples 0")),
    Bad("unknown estimate", "'mode'", setting(estimate="mode"), option("--estimate mode")),
    Bad("unknown precision", "'fp8'", setting(precision="fp8"), option("--precision fp8")),
    Bad("tile too small", "tile is 3", setting(tile=3), option("--tile 3")),
    Bad("no view", "views is 0", setting(views=0), option("--views 0")),
    Bad("more views than there are", "views is 9", setting(views=9), option("--views 9")),
    Bad("seed too large", "seed", setting(seed=2**70), option(f"--seed {2**70}")),
    Bad("misspelt setting", "step", setting(step=3), option("--step 3")),
    Bad(
        "unknown mode", "'heavy'", lambda: dd.restore("photo.png", mode="heavy", model=MODEL),
        "restore photo.png --mode heavy",
    ),
    Bad(
        "damage for a mode that mends none", "mode 'light', which mends none",
        lambda: dd.restore("photo.png", mode="light", damage="photo.png", model=MODEL),
        "restore photo.png --mode light --damage photo.png",
    ),
    Bad("unknown device", "'abacus'", setting(device="abacus"), option("--device abacus")),
    Bad("missing device", "cuda:99", setting(device="cuda:99"), option("--device cuda:99")),
    Bad("an object in JSON", "ndarray",
        lambda: build(EditRequest, image=array(), strength=0.5).to_json()),
    Bad("unknown command", "'edti'", None, "edti photo.png"),
    Bad("missing option", "--strength", None, "edit photo.png"),
    Bad("no pictures named", "images", None, "edit --strength 1"),
]  # fmt: skip

OUTPUTS = [
    Bad(
        "output below a file", "photo.png", saved("photo.png/out.png"),
        f"{PHOTO_LINE} -o photo.png/out.png",
    ),
    Bad("output in a system folder", "/proc/out.png", saved("/proc/out.png"),
        f"{PHOTO_LINE} -o /proc/out.png"),
    Bad("output is the input", "photo.png", saved("photo.png"), f"{PHOTO_LINE} -o photo.png"),
    Bad("output without a format", "out.xyz", saved("out.xyz"), f"{PHOTO_LINE} -o out.xyz"),
    Bad("output is a folder", "nothing/photo.png", saved("nothing/photo.png"),
        f"{PHOTO_LINE} -o nothing --force"),
    Bad("output exists", "other.png", None, f"{PHOTO_LINE} -o other.png"),
    Bad("one output for two pictures", "one.png", None,
        "edit photo.png other.png --strength 0.5 -o one.png"),
    Bad(
        "alpha in a JPEG", "alpha", saved("out.jpg", "alpha.png"),
        "denoise alpha.png --noise 0 -o out.jpg", {"alpha.png": encoded(noise(4))},
    ),
    Bad("preview that is no PNG", "sheet.txt", None, f"{PHOTO_LINE} --preview sheet.txt"),
    Bad("preview over the input", "photo.png", None, f"{PHOTO_LINE} --preview photo.png --force"),
    Bad("preview over the output", "same.png", None,
        f"{PHOTO_LINE} -o same.png --preview same.png"),
]  # fmt: skip

MODELS = [
    Bad("unknown model", "'pryor'", setting(model="pryor"), option("--model pryor")),
    Bad(
        "damaged weights", "bad.safetensors", setting(model="bad.safetensors"),
        option("--model bad.safetensors"),
        {"bad.safetensors": b"\x10\0\0\0\0\0\0\0{broken", "bad.json": DESCRIPTION.encode()},
    ),
    Bad(
        "weights without a description", "alone.json", setting(model="alone.safetensors"),
        option("--model alone.safetensors"), {"alone.safetensors": b"\0" * 64},
    ),
    Bad(
        "description of another format", "other.json", setting(model="other.safetensors"),
        option("--model other.safetensors"),
        {"other.safetensors": b"\0" * 64, "other.json": b'{"format": "another/9"}'},
    ),
    Bad(
        "description that is no JSON", "text.json", setting(model="text.safetensors"),
        option("--model text.safetensors"),
        {"text.safetensors": b"\0" * 64, "text.json": b"no JSON"},
    ),
    Bad(
        "description of another network", "wide.json",
        lambda: dd.edit(
            "photo.png", 0.5, model=dd.load_model("tiny/model.safetensors", config="wide.json")
        ),
        option("--model tiny/model.safetensors --config wide.json"),
        {"wide.json": json.dumps(
            {"format": "differential-diffusion/1",
             "network": {"channels": [16, 16], "blocks": [1, 1]}}
        ).encode()},
    ),
    Bad("folder that is no model", "'pictures'", setting(model="pictures"),
        option("--model pictures")),
    Bad("an object that is no model", "dict", setting(model={"a": 1})),
]  # fmt: skip

TRAINING = [
    Bad("missing configuration", "gone.yaml", lambda: load_config("gone.yaml"), "train gone.yaml"),
    Bad("YAML that cannot be read", "line 2", lambda: load_config("run.yaml"), "train run.yaml",
        {"run.yaml": b"steps: 3\n  data: [1\n"}),
    Bad("configuration that is a list", "run.yaml", lambda: load_config("run.yaml"),
        "train run.yaml", {"run.yaml": b"- 1\n"}),
    Bad("configuration that is no text", "photo.png", lambda: load_config("photo.png"),
        "train photo.png"),
    Bad("misspelt key", "batch_size", **config(batch="batchsize: 4")),
    Bad("misspelt key in a section", "learning_rate",
        **config(optimizer="optimizer: {learning_rte: 0.1}")),
    Bad("missing key", "steps", **config(steps="")),
    Bad("negative learning rate", "learning_rate",
        **config(optimizer="optimizer: {learning_rate: -0.1}")),
    Bad("patch that is no multiple of the stride", "patch_size",
        **config(data="data: {path: pictures, patch_size: 13, validation: 1}")),
    Bad("missing data", "'elsewhere'", **config(data="data: {path: elsewhere, patch_size: 16}")),
    Bad("data without pictures", "'nothing'", **config(data="data: {path: nothing}")),
    Bad("data that is no archive", "run.yaml", **config(data="data: {path: run.yaml}")),
    Bad("override without a value", "'steps'", None, "train run.yaml --set steps",
        {"run.yaml": yaml()}),
    Bad("override of an unknown key", "optimizer.lr", None, "train run.yaml --set optimizer.lr=1",
        {"run.yaml": yaml()}),
]  # fmt: skip

KINDS = [*PICTURES, *MAPS, *NOISE, *SETTINGS, *OUTPUTS, *MODELS, *TRAINING]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of a small network with random weights."""
    folder = tmp_path_factory.mktemp("models") / MODEL
    config = UNetConfig(channels=(8, 8), blocks=(1, 1))
    save_checkpoint(folder, SigmaMapUNet(config), CheckpointConfig(config), torch.float32)
    return folder


@pytest.fixture
def folder(tmp_path: Path, tiny: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory: two photographs, folders with and without pictures, the model."""
    for name in ("photo.png", "other.png", "pictures/a.png", "pictures/b.png"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(encoded(noise()))
    (tmp_path / "nothing" / "photo.png").mkdir(parents=True)
    (tmp_path / MODEL).symlink_to(tiny)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def contents(folder: Path) -> dict[str, str]:
    """Every file below a folder, hidden ones too, by name, with a digest."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file()
    }


def prepare(bad: Bad, folder: Path) -> dict[str, str]:
    for name, content in (bad.files or {}).items():
        (folder / name).write_bytes(content)
    return contents(folder)


def check_sentence(message: str, names: str) -> None:
    assert message
    assert len(message.splitlines()) == 1, message
    assert names in message
    assert "Traceback" not in message


def ids(bad: Bad) -> str:
    return bad.kind


def test_there_are_forty_kinds_or_more() -> None:
    assert len({bad.kind for bad in KINDS}) == len(KINDS) >= 40


@pytest.mark.parametrize("bad", [bad for bad in KINDS if bad.python], ids=ids)
def test_python_raises_one_sentence(bad: Bad, folder: Path) -> None:
    before = prepare(bad, folder)
    assert bad.python
    with pytest.raises(dd.InputError) as caught:
        bad.python()
    check_sentence(str(caught.value), bad.names)
    assert contents(folder) == before


@pytest.mark.parametrize("bad", [bad for bad in KINDS if bad.command], ids=ids)
def test_the_command_prints_one_sentence(bad: Bad, folder: Path) -> None:
    before = prepare(bad, folder)
    assert bad.command
    arguments = bad.command.split()
    if arguments[0] in TASKS and "--model" not in arguments:
        arguments += ["--model", MODEL]
    done = CliRunner().invoke(app, arguments, prog_name="diffdiff")
    assert done.exit_code == 2, done.output
    assert done.stderr.startswith("error: ")
    check_sentence(done.stderr, bad.names)
    assert done.stdout == ""
    assert contents(folder) == before


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["truncated PNG", "zero steps", "misspelt key", "unknown command"])
def test_a_process_ends_with_two_and_one_line(kind: str, folder: Path) -> None:
    """The same through the console entry point, in a process of its own."""
    (bad,) = [bad for bad in KINDS if bad.kind == kind]
    before = prepare(bad, folder)
    assert bad.command
    entry = [sys.executable, "-c", "from differential_diffusion.cli import main; main()"]
    arguments = bad.command.split()
    model = ["--model", MODEL] if arguments[0] in TASKS else []
    done = subprocess.run([*entry, *arguments, *model], capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stdout == ""
    check_sentence(done.stderr, bad.names)
    assert contents(folder) == before
