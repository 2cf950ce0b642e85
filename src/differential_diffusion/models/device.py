"""Where to compute and in what precision."""

from __future__ import annotations

import torch

from ..errors import InputError


def choose_device(name: str | None = None) -> torch.device:
    """The named device, or the best present: CUDA, then MPS, then the CPU.

    Raises:
        InputError: for an unknown name or a device that this machine does not have.
    """
    if name in (None, "auto"):
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(str(name))
    except RuntimeError:
        raise InputError(f"'{name}' is no device: use cpu, cuda, cuda:N or mps") from None
    present = {
        "cpu": True,
        "cuda": torch.cuda.is_available() and (device.index or 0) < torch.cuda.device_count(),
        "mps": torch.backends.mps.is_available(),
    }
    if not present.get(device.type, False):
        raise InputError(f"the device '{name}' is not present here: leave it out to choose one")
    return device


def uses_bf16(precision: str, device: torch.device) -> bool:
    """Whether to compute in bfloat16: "bf16", or "auto" where the device has units for it.

    Raises:
        InputError: for a precision that is not "auto", "fp32" or "bf16".
    """
    if precision not in ("auto", "fp32", "bf16"):
        raise InputError(f"precision '{precision}' is not known: use auto, fp32 or bf16")
    return precision == "bf16" or (precision == "auto" and bf16_is_fast(device))


def bf16_is_fast(device: torch.device) -> bool:
    """Whether bfloat16 has hardware units on `device`; without them it is slower than float32."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    if device.type == "cpu":
        return bool(_cpu_flags() & {"amx_bf16", "avx512_bf16", "bf16"})
    return False


def _cpu_flags() -> frozenset[str]:
    try:
        with open("/proc/cpuinfo", encoding="ascii", errors="ignore") as file:
            for line in file:
                if line.lower().startswith(("flags", "features")):
                    return frozenset(line.split(":", 1)[1].split())
    except OSError:
        pass
    return frozenset()
