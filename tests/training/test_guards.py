"""What a run asks of its process."""

from __future__ import annotations

import subprocess
import sys

import pytest

FAULTS = """
import resource, sys
import torch
from differential_diffusion.training.guards import freed_memory_kept

if sys.argv[1] == "kept" and not freed_memory_kept():
    sys.exit(77)

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(4):
        torch.ones(1 << 24)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

for _ in range(3):
    faults()
print(faults())
"""


def faults(how: str) -> int:
    """Pages that a new process is given anew for four blocks of 64 MiB, after four others."""
    done = subprocess.run([sys.executable, "-c", FAULTS, how], stdout=subprocess.PIPE, text=True)
    if done.returncode == 77:
        pytest.skip("the C library is not glibc")
    assert done.returncode == 0
    return int(done.stdout)


def test_freed_memory_is_used_again() -> None:
    assert faults("kept") < 0.01 * faults("given back")
