"""doctor: what is installed, on what it runs, and whether the model works."""

from __future__ import annotations

import json
import os
import platform
import time
from collections.abc import Callable, Mapping
from importlib import metadata
from typing import Annotated, Any

import typer

from .. import __version__
from ..errors import UNEXPECTED, explain

_NEEDED = (
    "torch", "numpy", "scipy", "pillow", "opencv-python-headless", "scikit-image", "tifffile",
    "safetensors", "pydantic",
)  # fmt: skip
_OPTIONAL = (
    "accelerate",
    "diffusers",
    "transformers",
    "peft",
    "lpips",
    "torch-fidelity",
    "bm3d",
    "matplotlib",
)


def doctor(
    json_output: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
    model: Annotated[str, typer.Option(help="The model to try.")] = "prior",
    device: Annotated[
        str | None,
        typer.Option(help="Where to try it [default: the best present].", show_default=False),
    ] = None,
) -> None:
    """Print versions and hardware, and try the model on a tiny picture.

    The exit code is 1 if something that every command needs does not work.
    """
    checks: dict[str, Callable[[], dict[str, Any]]] = {
        "versions": _versions,
        "machine": lambda: _machine(device),
        "model": lambda: _model(model, device),
        "registries": _registries,
    }
    report: dict[str, dict[str, Any]] = {}
    for name, check in checks.items():
        try:
            report[name] = check()
        except Exception as error:
            report[name] = {"error": explain(error)[0]}
    failed = [name for name, found in report.items() if "error" in found]
    if json_output:
        typer.echo(json.dumps({"ok": not failed, **report}, ensure_ascii=False, indent=2))
    else:
        _print(report)
        typer.echo(f"not working: {', '.join(failed)}" if failed else "all is well")
    if failed:
        raise typer.Exit(UNEXPECTED)


def _print(report: dict[str, dict[str, Any]]) -> None:
    for name, found in report.items():
        mark = "failed" if "error" in found else "ok"
        colour = "red" if "error" in found else "green"
        typer.echo(f"{typer.style(name, bold=True)}: {typer.style(mark, fg=colour)}")
        for key, value in found.items():
            text = ", ".join(map(str, value)) if isinstance(value, list) else value
            typer.echo(f"  {key.replace('_', ' '):<24}{'none' if text is None else text}")


def _versions() -> dict[str, Any]:
    """Versions of this package, Python, and what it builds on; None for what is not installed."""
    import numpy  # noqa: F401  # that it loads is what is checked
    import torch  # noqa: F401

    found: dict[str, Any] = {
        "differential-diffusion": __version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
    }
    for name in (*_NEEDED, *_OPTIONAL):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = None
    return found


def _machine(device: str | None) -> dict[str, Any]:
    import torch

    from ..models.device import bf16_is_fast, choose_device

    chosen = choose_device(device)
    found: dict[str, Any] = {
        "device": str(chosen),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "bf16_units": bf16_is_fast(chosen),
        "free_memory_gib": _gib(_free_memory()),
    }
    if chosen.type == "cuda":
        free, total = torch.cuda.mem_get_info(chosen)
        found["gpu"] = torch.cuda.get_device_name(chosen)
        found["gpu_memory_gib"] = f"{_gib(free)} free of {_gib(total)}"
    return found


def _free_memory() -> int | None:
    """Bytes that can be allocated without swapping, where the system tells."""
    try:
        with open("/proc/meminfo", encoding="ascii") as file:
            for line in file:
                if line.startswith("MemAvailable:"):
                    return int(line.split()[1]) * 1024
    except OSError:
        pass
    return None


def _gib(size: int | None) -> float | None:
    return None if size is None else round(size / 2**30, 1)


def _model(reference: str, device: str | None) -> dict[str, Any]:
    """Load the model and denoise a tiny picture, at σ = 25/255."""
    import numpy as np

    from ..engine import execute
    from ..models import DenoiserModel, load_model
    from ..schema import DenoiseRequest, build

    started = time.perf_counter()
    model = load_model(reference, device=device)
    loaded = time.perf_counter() - started
    ramp = np.linspace(0.2, 0.8, 64, dtype=np.float32) * np.ones((64, 1), np.float32)
    noisy = ramp + np.random.default_rng(0).normal(0, 25 / 255, ramp.shape).astype(np.float32)
    noisy = np.stack([noisy.clip(0, 1)] * 3, axis=-1)
    result = execute(build(DenoiseRequest, image=noisy, noise_level_8bit=25, model=model))
    if not np.isfinite(result.image).all():
        raise RuntimeError("the model's output is not finite")
    found: dict[str, Any] = {
        "model": model.name,
        "seconds_to_load": round(loaded, 2),
        "seconds_for_64x64": round(result.seconds, 3),
    }
    if isinstance(model, DenoiserModel):
        found["halo"] = model.halo
        found |= {f"card: {key}": value for key, value in _flat(model.card or {}).items()}
    return found


def _flat(card: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """The card's figures and words, those of inner mappings under dotted names."""
    flat: dict[str, Any] = {}
    for key, value in card.items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = value
    return flat


def _registries() -> dict[str, Any]:
    from ..core import PATHS, SOLVERS
    from ..evaluation import EXTRACTORS
    from ..maps import MAPS
    from ..models import MODELS
    from ..tasks import TASKS

    registries: dict[str, Mapping[str, object]] = {
        "tasks": TASKS, "solvers": SOLVERS, "paths": PATHS, "maps": MAPS, "models": MODELS,
        "extractors": EXTRACTORS,
    }  # fmt: skip
    return {name: list(registry) for name, registry in registries.items()}
