"""numpy arrays and tensors: to the model's numbers and back to their own kind."""

from __future__ import annotations

import tracemalloc
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from differential_diffusion.images import read

Array = npt.NDArray[Any]
PEAK = {"bool": 1, "uint8": 255, "uint16": 65535, "float16": 1, "float32": 1, "float64": 1}
HALF_LEVEL = {"uint8": 0.5 / 255, "uint16": 0.5 / 65535, "float16": 5e-4}

sides = st.integers(1, 9)
shapes = st.tuples(sides, sides, st.sampled_from([None, 1, 2, 3, 4])).map(
    lambda s: s[:2] if s[2] is None else s
)


def values(dtype: str) -> st.SearchStrategy[Any]:
    if dtype == "bool":
        return st.booleans()
    if dtype.startswith("float"):
        return st.floats(0, 1, width=int(dtype[5:]))  # type: ignore[arg-type]
    return st.integers(0, PEAK[dtype])


@st.composite
def arrays(draw: st.DrawFn, dtypes: tuple[str, ...] = tuple(PEAK)) -> Array:
    dtype = draw(st.sampled_from(dtypes))
    return draw(hnp.arrays(dtype, draw(shapes), elements=values(dtype)))


@st.composite
def edits(draw: st.DrawFn) -> tuple[Array, Array, Array]:
    """An array, a new picture (3, H, W) that may overshoot, and what to keep."""
    array = draw(arrays())
    size = array.shape[:2]
    x = draw(hnp.arrays(np.float32, (3, *size), elements=st.floats(-1.5, 1.5, width=32)))
    return array, x, draw(hnp.arrays(bool, size))


def identical(a: Array, b: Array) -> bool:
    return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()


def colours(array: Array) -> Array:
    """The colour channels (H, W, 1 or 3), alpha left out."""
    channels = array.reshape(*array.shape[:2], -1)
    return channels[..., :1] if channels.shape[2] < 3 else channels[..., :3]


@given(arrays())
def test_arrays_come_back_to_the_byte(array: Array) -> None:
    native = read(array).native()
    assert identical(native, array)
    assert not np.shares_memory(native, array)


@given(arrays(("uint16", "float32", "float64")))
def test_other_byte_orders_and_strides_come_back(array: Array) -> None:
    swapped = np.asfortranarray(array.astype(array.dtype.newbyteorder()))
    native = read(swapped).native()
    assert native.dtype == swapped.dtype
    np.testing.assert_array_equal(native, swapped)


@given(arrays(("bool", "uint8", "float16", "float32", "float64")), st.booleans())
def test_tensors_come_back_to_the_byte(array: Array, batched: bool) -> None:
    tensor = torch.from_numpy(array if array.ndim == 2 else array.transpose(2, 0, 1))
    tensor = tensor[None] if batched and tensor.ndim == 3 else tensor
    native = read(tensor).native()
    assert native.dtype == tensor.dtype
    assert native.shape == tensor.shape
    assert torch.equal(native, tensor)


def test_bfloat16_tensors_come_back() -> None:
    tensor = torch.rand(1, 4, 5, 6, generator=torch.Generator().manual_seed(0)).bfloat16()
    picture = read(tensor)
    kept = picture.replaced(picture.tensor(), np.ones((5, 6), bool))
    assert kept.native().dtype == torch.bfloat16
    assert torch.equal(kept.native(), tensor)


@given(arrays())
def test_the_model_sees_the_encoded_values_from_minus_one_to_one(array: Array) -> None:
    x = read(array).tensor()
    assert x.dtype == torch.float32
    expected = colours(array).astype(np.float64) / PEAK[array.dtype.name] * 2 - 1
    expected = np.broadcast_to(expected, (*array.shape[:2], 3)).transpose(2, 0, 1)
    np.testing.assert_allclose(x.numpy(), expected[None], rtol=0, atol=2e-7)


@given(edits())
def test_kept_pixels_are_copied_and_others_are_the_nearest_sample(
    edit: tuple[Array, Array, Array],
) -> None:
    array, x, keep = edit
    before = array.copy()
    result = read(array).replaced(torch.from_numpy(x)[None], keep).native()
    assert identical(array, before)
    if array.dtype == bool:  # grey levels need a finer type
        array = array.astype(np.uint8) * np.uint8(255)
    assert result.shape == array.shape
    assert identical(result[keep], array[keep])
    layers = array.reshape(*array.shape[:2], -1).shape[2]
    if layers in (2, 4):
        assert identical(result[..., -1], array[..., -1])
    wanted = np.clip((x.astype(np.float64) + 1) / 2, 0, 1).transpose(1, 2, 0)
    if layers < 3:
        wanted = wanted.mean(axis=2, keepdims=True)
    got = colours(result).astype(np.float64) / PEAK[result.dtype.name]
    error = np.abs(got - wanted)[~keep]
    assert error.max(initial=0) <= HALF_LEVEL.get(result.dtype.name, 0) + 2e-7


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
@pytest.mark.parametrize("channels", [1, 3])
def test_every_integer_value_survives_the_model_s_scale(dtype: str, channels: int) -> None:
    ramp = np.arange(PEAK[dtype] + 1, dtype=dtype).reshape(16, -1, 1).repeat(channels, axis=2)
    picture = read(ramp)
    again = picture.replaced(picture.tensor(), np.zeros(ramp.shape[:2], bool))
    assert identical(again.native(), ramp)


def test_bilevel_arrays_say_that_an_edit_makes_them_grey() -> None:
    picture = read(np.eye(3, dtype=bool))
    assert picture.notes == ()
    edited = picture.replaced(torch.zeros(3, 3, 3), np.eye(3, dtype=bool))
    np.testing.assert_array_equal(edited.native(), np.where(np.eye(3), 255, 128))
    assert edited.notes == ("The bilevel picture became 8-bit.",)


def test_edited_tensors_of_bool_become_uint8() -> None:
    edited = read(torch.eye(2, dtype=torch.bool)).replaced(torch.ones(3, 2, 2), np.eye(2) > 0)
    assert torch.equal(edited.native(), torch.full((2, 2), 255, dtype=torch.uint8))


@given(arrays())
def test_luminance_is_exact_for_grey_and_rec_601_for_colour(array: Array) -> None:
    got = read(array).luminance()
    np.testing.assert_array_equal(read(array).tensor(1)[0, 0].numpy(), 2 * got - 1)
    channels = colours(array).astype(np.float64) / PEAK[array.dtype.name]
    expected = channels @ ([0.299, 0.587, 0.114] if channels.shape[2] == 3 else [1.0])
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, expected, rtol=0, atol=2e-7)
    grey = (channels == channels[..., :1]).all(axis=2)
    np.testing.assert_array_equal(got[grey], channels[..., 0][grey].astype(np.float32))


def test_a_map_s_ends_are_exactly_zero_and_one() -> None:
    for dtype, peak in PEAK.items():
        ends = np.array([[0, peak]], dtype=dtype)
        for shape in ((1, 2), (1, 2, 1), (1, 2, 3)):
            stacked = np.broadcast_to(ends.reshape(1, 2, *(1,) * (len(shape) - 2)), shape)
            assert read(stacked).luminance().tolist() == [[0.0, 1.0]]


def test_pictures_describe_themselves() -> None:
    picture = read(np.zeros((4, 6, 4), np.uint16))
    described = (picture.height, picture.width, picture.channels, picture.is_grey, picture.colour)
    assert described == (4, 6, 3, False, "rgb")
    assert picture.value_range == (0, 65535)
    assert picture.kind == "numpy"
    assert picture.path is None
    assert read(torch.zeros(2, 4, 6)).is_grey
    assert read(picture) is picture


def test_a_picture_cannot_be_written_to() -> None:
    array = np.zeros((4, 6, 4), np.uint8)
    picture = read(array)
    with pytest.raises(ValueError, match="read-only"):
        picture.pixels[0, 0] = 1
    with pytest.raises(ValueError, match="read-only"):
        picture.alpha[0, 0] = 1
    array[0, 0] = 1  # the caller's own array stays writable
    assert picture.native().flags.writeable


@pytest.mark.parametrize("dtype", ["uint8", "float64"])
def test_conversions_need_little_memory_beside_their_result(dtype: str) -> None:
    size = (2000, 2000)
    picture = read(np.zeros((*size, 3), dtype))
    keep = np.zeros(size, bool)
    tracemalloc.start()
    try:
        x = picture.tensor()
        assert tracemalloc.get_traced_memory()[1] < x.nbytes + 24e6
        tracemalloc.reset_peak()
        result = picture.replaced(x, keep)
        assert tracemalloc.get_traced_memory()[1] < x.nbytes + result.pixels.nbytes + 24e6
    finally:
        tracemalloc.stop()
