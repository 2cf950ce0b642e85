"""StrengthMap: its values, and what a user may give in its place."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from differential_diffusion.errors import InputError
from differential_diffusion.maps import StrengthMap

SHAPES = hnp.array_shapes(min_dims=2, max_dims=2, max_side=6)
FLOATS = hnp.arrays(np.float32, SHAPES, elements=st.floats(0, 1, width=32))
BYTES = np.arange(256, dtype=np.uint8).reshape(8, 32)
WORDS = np.linspace(0, 65535, 256).astype(np.uint16).reshape(8, 32)


@given(FLOATS)
def test_values_are_kept_bit_for_bit(values: np.ndarray) -> None:
    made = StrengthMap(values)
    assert made.array.dtype == np.float32
    np.testing.assert_array_equal(made.array, values)
    assert (made.height, made.width) == values.shape
    assert made.max == values.max()
    np.testing.assert_array_equal(made.active, values != 0)
    assert made.tensor().shape == (1, 1, *values.shape)
    np.testing.assert_array_equal(made.tensor()[0, 0].numpy(), values)


def test_the_map_is_immutable_and_a_copy() -> None:
    source = np.full((2, 3), 0.25, np.float32)
    made = StrengthMap(source)
    source[:] = 1
    made.tensor().fill_(1)
    np.array(made)[:] = 1
    assert made.array.tolist() == [[0.25] * 3] * 2
    with pytest.raises(ValueError, match="read-only"):
        made.array[0, 0] = 1
    with pytest.raises(ValueError, match="read-only"):
        np.asarray(made)[0, 0] = 1
    for attribute in ("_array", "array", "anything"):
        with pytest.raises(AttributeError, match="immutable"):
            setattr(made, attribute, source)


@given(FLOATS)
def test_equality_hash_copies_and_pickles_go_by_content(values: np.ndarray) -> None:
    made = StrengthMap(values)
    for twin in (StrengthMap(values.copy()), pickle.loads(pickle.dumps(made)), copy.deepcopy(made)):
        assert twin == made
        assert hash(twin) == hash(made)
        assert not twin.array.flags.writeable
    changed = values.copy()
    changed[0, 0] = 1 - np.round(changed[0, 0])
    assert StrengthMap(changed) != made
    assert made != values.tolist()


def test_minus_zero_is_zero() -> None:
    negative, positive = StrengthMap(np.full((1, 2), -0.0)), StrengthMap(np.zeros((1, 2)))
    assert not np.signbit(negative.array).any()
    assert hash(negative) == hash(positive)


def test_maps_of_one_size_in_bytes_but_another_shape_differ() -> None:
    assert StrengthMap(np.zeros((2, 3))) != StrengthMap(np.zeros((3, 2)))


def test_numpy_reads_it() -> None:
    made = StrengthMap.constant(0.5, 2, 3)
    assert np.asarray(made).dtype == np.float32
    assert np.asarray(made, np.float64).dtype == np.float64
    assert np.mean(made) == 0.5  # type: ignore[call-overload]


def test_repr_tells_size_and_values() -> None:
    values = np.array([[0, 0.25], [0.5, 1]])
    assert repr(StrengthMap(values)) == "StrengthMap(2x2, 0 to 1, 75 % active)"


@pytest.mark.parametrize(
    ("value", "strength"),
    [
        (0, 0.0), (1, 1.0), (0.25, 0.25), (True, 1.0), (False, 0.0),
        (np.float32(0.25), 0.25), (np.float64(1), 1.0), (np.int64(1), 1.0), (np.bool_(True), 1.0),
        (np.array(0.25), 0.25), (torch.tensor(0.25), 0.25), (torch.tensor(1), 1.0),
    ],
    ids=repr,
)  # fmt: skip
def test_of_a_number(value: Any, strength: float) -> None:
    made = StrengthMap.of(value, 3, 5)
    np.testing.assert_array_equal(made.array, np.full((3, 5), strength, np.float32))


@pytest.mark.parametrize("value", [-0.1, 1.001, 2, float("nan"), float("inf"), np.float32("nan")])
def test_of_a_number_out_of_range(value: Any) -> None:
    with pytest.raises(InputError, match=r"^strength is .*: give .*\.$"):
        StrengthMap.of(value, 3, 5)


def test_of_a_map_is_that_map() -> None:
    made = StrengthMap.constant(0.5, 3, 5)
    assert StrengthMap.of(made, 3, 5) is made


ARRAYS = {
    "uint8": (BYTES, BYTES / 255),
    "uint16": (WORDS, WORDS / 65535),
    "bool": (BYTES > 99, (BYTES > 99) * 1.0),
    "float16": ((BYTES / 256).astype(np.float16), BYTES / 256),
    "float64": (BYTES / 255, BYTES / 255),
    "one channel": (BYTES[..., None], BYTES / 255),
    "not contiguous": (BYTES[::-1, ::-1], BYTES[::-1, ::-1] / 255),
    "list": ((BYTES / 256).tolist(), BYTES / 256),
    "tensor": (torch.from_numpy(BYTES / 255), BYTES / 255),
    "tensor of a batch": (torch.from_numpy(BYTES / 255)[None, None], BYTES / 255),
    "tensor that is needed by autograd": (
        torch.from_numpy(BYTES / 255).requires_grad_(),
        BYTES / 255,
    ),
    "uint8 tensor": (torch.from_numpy(BYTES), BYTES / 255),
    "bool tensor": (torch.from_numpy(BYTES > 99), (BYTES > 99) * 1.0),
    "bfloat16 tensor": (torch.from_numpy(BYTES / 128).clamp(max=1).bfloat16(),
                        np.minimum(BYTES / 128, 1)),
    "half tensor": (torch.from_numpy(BYTES / 256).half(), BYTES / 256),
}  # fmt: skip


@pytest.mark.parametrize("name", ARRAYS)
def test_of_an_array_is_scaled_by_its_type(name: str) -> None:
    value, expected = ARRAYS[name]
    made = StrengthMap.of(value, 8, 32)
    np.testing.assert_allclose(made.array, expected, rtol=0, atol=6e-8)
    assert made.array[expected == 1].tolist() == [1.0] * int((expected == 1).sum())
    assert made.active.tolist() == (expected > 0).tolist()


def test_of_an_array_of_the_other_byte_order() -> None:
    made = StrengthMap.of(WORDS.astype(">u2"), 8, 32)
    np.testing.assert_allclose(made.array, WORDS / 65535, rtol=0, atol=6e-8)


def test_of_an_image_or_a_path(tmp_path: Path) -> None:
    image = Image.fromarray(BYTES)
    path = tmp_path / "map.png"
    image.save(path)
    for value in (image, path, str(path)):
        np.testing.assert_allclose(StrengthMap.of(value, 8, 32).array, BYTES / 255, atol=6e-8)


@pytest.mark.parametrize(
    ("value", "says"),
    [
        (np.zeros((3, 4)), "4x3 .* 5x3: make it fit with StrengthMap.resize\\(3, 5\\)"),
        (StrengthMap.constant(1, 5, 3), "3x5 .* 5x3"),
        (Image.new("L", (3, 5)), "3x5 .* 5x3"),
        (np.zeros((3, 5, 3)), "shape \\(height, width\\), not \\(3, 5, 3\\)"),
        (np.zeros(5), "shape"),
        (np.zeros((0, 5)), "shape"),
        (torch.zeros(2, 1, 3, 5), "shape"),
        (np.full((3, 5), np.nan), "NaN or infinity"),
        (np.full((3, 5), np.inf), "NaN or infinity"),
        (np.full((3, 5), 1.5), "runs from 1.5 to 1.5"),
        (np.full((3, 5), -0.5), "runs from -0.5"),
        (np.full((3, 5), 255.0), "scale it to"),
        (np.zeros((3, 5), np.int64), "int64, whose range is unclear"),
        (np.zeros((3, 5), complex), "complex128"),
        (np.full((3, 5), "a"), "type <U1"),
        ([[0, 1], [0]], "rows of equal length"),
        ([["a"]], "no table of numbers"),
        (None, "NoneType"),
        ({"a": 1}, "dict"),
        (object(), "object"),
        ("there-is-no-such-file.png", "does not exist"),
    ],
    ids=str,
)
def test_what_is_no_map_is_refused_in_one_sentence(value: Any, says: str) -> None:
    with pytest.raises(InputError, match=says) as caught:
        StrengthMap.of(value, 3, 5)
    assert "\n" not in str(caught.value)
    assert str(caught.value).endswith(".")


@pytest.mark.parametrize(
    "value",
    [
        10**400,
        [[10**400] * 5] * 3,
        np.complex64(1j),
        torch.tensor(1j),
        np.array("a"),
        torch.zeros(3, 5).to_sparse(),
    ],
    ids=lambda value: str(value)[:20],
)
def test_what_has_no_plain_float_is_refused(value: Any) -> None:
    with pytest.raises(InputError):
        StrengthMap.of(value, 3, 5)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float8_e4m3fn])
def test_floats_that_numpy_lacks_are_taken(dtype: torch.dtype) -> None:
    assert StrengthMap.of(torch.full((3, 5), 0.25).to(dtype), 3, 5) == StrengthMap.constant(
        0.25, 3, 5
    )


@pytest.mark.parametrize("size", [(0, 5), (5, -1), (2.5, 3), (True, 3), ("3", 3), (2**20, 2**20)])
def test_bad_sizes_are_refused(size: tuple[Any, Any]) -> None:
    for make in (StrengthMap.of, StrengthMap.constant):
        with pytest.raises(InputError):
            make(0.5, *size)


def test_the_constructor_takes_no_integers() -> None:
    with pytest.raises(InputError, match=r"uint8: .*StrengthMap\.of"):
        StrengthMap(BYTES)


def test_operators_take_maps_alone() -> None:
    made = StrengthMap.constant(0.5, 2, 2)
    for operate in (lambda: made | 1, lambda: made & 1, lambda: made * 0.5):
        with pytest.raises(TypeError):
            operate()
