"""Whole strides by mirroring, against NumPy's."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from differential_diffusion.core.grid import to_whole_strides

from .helpers import normal


@given(
    size=st.tuples(st.integers(1, 20), st.integers(1, 20)),
    stride=st.sampled_from([1, 2, 3, 8, 16]),
)
def test_sides_grow_to_multiples_by_reflection(size: tuple[int, int], stride: int) -> None:
    x = normal(2, 3, *size)
    extra = [(0, -side % stride) for side in size]
    expected = np.pad(x.numpy(), [(0, 0), (0, 0), *extra], mode="reflect")
    assert torch.equal(to_whole_strides(x, stride), torch.from_numpy(expected))
