"""What a run asks of its process: how to treat tiny numbers, freed memory, and signals."""

from __future__ import annotations

import ctypes
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def denormals_flushed() -> Iterator[None]:
    """Numbers too small to count become 0: dying activations would slow a CPU a hundredfold."""
    before = float(torch.tensor(1e-40) * 1) == 0
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(before)


# Of malloc.h in glibc.
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD = -1, -2, -3


def freed_memory_kept() -> bool:
    """Have freed memory stay with the process, to be used again; whether that could be asked.

    glibc gives large blocks back to the system and asks anew, and each page is cleared and mapped
    once more: with activations of megabytes, a good part of a step on a CPU. The process
    then holds what it held at its peak; there is no way to learn the setting, so none back.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is None:
        return False
    # Older versions take no threshold above 32 MiB.
    large = mallopt(_MMAP_THRESHOLD, 1 << 30) or mallopt(_MMAP_THRESHOLD, 1 << 25)
    kept = mallopt(_TRIM_THRESHOLD, 2**31 - 1) and mallopt(_TOP_PAD, 1 << 26)
    return bool(large and kept)


def signals_left_to_parent(_worker: int) -> None:
    """Have a process that reads data ignore what asks a group to stop; its parent ends it."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)


@contextmanager
def signals_noted() -> Iterator[list[int]]:
    """A list that receives the first signal to stop; the second interrupts at once."""
    received: list[int] = []

    def note(number: int, _frame: object) -> None:
        if received:
            raise KeyboardInterrupt
        received.append(number)

    if threading.current_thread() is not threading.main_thread():
        yield received  # only the main thread may listen
        return
    before = {number: signal.signal(number, note) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
