"""One suite over OPERATORS, and over an operator that relies on the base class alone."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from scipy import ndimage
from torch import Tensor

from differential_diffusion.core import OPERATORS, LinearOperator, Mask
from differential_diffusion.core.operators import (
    BlockAverage,
    Blur,
    ChannelSum,
    Composition,
    CutBlur,
    DeepinvPhysics,
    FourierSampling,
    bayer,
    bicubic,
    gaussian_kernel,
    grey,
    motion_kernel,
)
from differential_diffusion.errors import InputError

from ..core.helpers import normal
from ..deepinv_physics import Averaging, Decomposed

SHAPE = (2, 2, 4, 6)


class Averages(LinearOperator):
    """Means of 2x2 blocks: only what an operator must define."""

    def forward(self, x: Tensor) -> Tensor:
        return F.avg_pool2d(x, 2)

    def adjoint(self, y: Tensor) -> Tensor:
        return F.interpolate(y, scale_factor=2) / 4


MASK = (normal(1, 1, 4, 6, seed=3) > 0).double()
KERNEL = torch.tensor([[0.0, 0.2, 0.1], [0.3, 1.0, 0.05], [0.1, 0.0, 0.15]], dtype=torch.float64)
FREQUENCIES = torch.zeros(4, 6)
FREQUENCIES[0, :] = FREQUENCIES[1, 1] = FREQUENCIES[3, 5] = 1
ONE_SIDED = torch.zeros(4, 6)
ONE_SIDED[0, :4] = ONE_SIDED[1, 2] = 1
EXAMPLES: dict[str, LinearOperator] = {
    "mask": Mask(MASK),
    "mask with gains": Mask(MASK * (1 + normal(1, 2, 4, 6, seed=4))),
    "averages by the base class": Averages(),
    "block average": BlockAverage(2),
    "separable": bicubic(4, 6, 2),
    "block average x8": BlockAverage(8),
    "bicubic x8": bicubic(8, 16, 8),
    "blur": Blur(KERNEL),
    "blur that goes round": Blur(KERNEL, circular=True),
    "cut blur": CutBlur(KERNEL),
    "channel sum": ChannelSum(torch.tensor([0.4, 0.7], dtype=torch.float64).view(1, 2, 1, 1)),
    "colour filter": ChannelSum(torch.cat([MASK, 1 - MASK], 1)),
    "fourier": FourierSampling(FREQUENCIES),
    "one-sided fourier": FourierSampling(ONE_SIDED),
    "composition": Composition(BlockAverage(2), Blur(KERNEL)),
    "deepinv physics": DeepinvPhysics(Decomposed(MASK)),
    "deepinv physics by iteration": DeepinvPhysics(Averaging()),
}


SIZES = {"block average x8": (8, 16), "bicubic x8": (8, 16)}


def shape(operator: LinearOperator) -> tuple[int, int, int, int]:
    """Of pictures that an example takes."""
    name = next(name for name, example in EXAMPLES.items() if example is operator)
    return *SHAPE[:2], *SIZES.get(name, SHAPE[2:])


def matrix(operator: LinearOperator) -> Tensor:
    """A as a dense matrix over one image, column by column."""
    each = shape(operator)[1:]
    d = math.prod(each)
    basis = torch.eye(d, dtype=torch.float64).view(d, *each)
    return operator.forward(basis).flatten(1).mT


def test_every_registered_operator_has_an_example() -> None:
    assert set(OPERATORS) <= set(EXAMPLES)
    assert all(isinstance(EXAMPLES[name], made) for name, made in OPERATORS.items())


@pytest.fixture(params=EXAMPLES)
def operator(request: pytest.FixtureRequest) -> LinearOperator:
    return EXAMPLES[request.param]


@pytest.mark.parametrize("name", EXAMPLES)
@given(seed=st.integers(0, 2**31))
def test_adjointness(name: str, seed: int) -> None:
    """<A x, y> = <x, Aᵀ y>."""
    a = EXAMPLES[name]
    x = normal(*shape(a), seed=seed)
    y = normal(*a.forward(x).shape, seed=seed + 1)
    left = (a.forward(x) * y).flatten(1).sum(1)
    right = (x * a.adjoint(y)).flatten(1).sum(1)
    torch.testing.assert_close(left, right, rtol=0, atol=1e-10)


def test_linearity(operator: LinearOperator) -> None:
    x, z = normal(*shape(operator)), normal(*shape(operator), seed=1)
    torch.testing.assert_close(
        operator.forward(2 * x - 3 * z), 2 * operator.forward(x) - 3 * operator.forward(z)
    )


def test_pseudo_inverse(operator: LinearOperator) -> None:
    """Least squares of least norm, for measurements in the range of A and out of it."""
    y = normal(*operator.forward(normal(*shape(operator))).shape, seed=2)
    expected = y.flatten(1) @ torch.linalg.pinv(matrix(operator), rtol=1e-9).mT
    found = operator.pseudo_inverse(y).flatten(1)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


def variances(seed: int, operator: LinearOperator) -> Tensor:
    batch, _, height, width = shape(operator)
    v = normal(batch, 1, height, width, seed=seed).square()
    return torch.where(v < 0.1, 0.0, v)  # some pixels are kept


@pytest.mark.parametrize("name", EXAMPLES)
@given(seed=st.integers(0, 2**31), noise=st.sampled_from([0.01, 0.3, 2.0]))
def test_prox_is_the_gaussian_posterior(name: str, seed: int, noise: float) -> None:
    """v + V Aᵀ (A V Aᵀ + R)⁻¹ (y - A v), densely, with noise that differs by measurement."""
    a = EXAMPLES[name]
    v, variance = normal(*shape(a), seed=seed), variances(seed + 1, a)
    y = normal(*a.forward(v).shape, seed=seed + 2)
    r = noise**2 * (0.5 + normal(*y.shape, seed=seed + 3).square())
    dense = matrix(a)
    for b in range(shape(a)[0]):
        big_v = torch.diag(variance[b].expand(shape(a)[1:]).flatten())
        system = dense @ big_v @ dense.mT + torch.diag(r[b].flatten())
        z = torch.linalg.solve(system, y[b].flatten() - dense @ v[b].flatten())
        expected = v[b].flatten() + big_v @ dense.mT @ z
        found = a.prox(v, y, variance, r)[b].flatten()
        torch.testing.assert_close(found, expected, rtol=1e-7, atol=1e-7)


def test_prox_is_the_minimum(operator: LinearOperator) -> None:
    """No step in any direction that leaves kept pixels alone lowers the objective."""
    v, variance = normal(*shape(operator)), variances(1, operator).clamp(min=0)
    y = normal(*operator.forward(v).shape, seed=2)

    def objective(x: Tensor) -> Tensor:
        fidelity = torch.where(variance > 0, (x - v) ** 2 / variance.clamp(min=1e-9), 0.0)
        return fidelity.flatten(1).sum(1) + ((operator.forward(x) - y) ** 2 / 0.09).flatten(1).sum(
            1
        )

    best = operator.prox(v, y, variance, 0.09)
    for seed in range(20):
        step = 0.01 * torch.where(variance > 0, normal(*shape(operator), seed=10 + seed), 0.0)
        assert bool((objective(best) < objective(best + step)).all())


def test_prox_keeps_kept_pixels_bit_for_bit(operator: LinearOperator) -> None:
    v, variance = normal(*shape(operator)), variances(1, operator)
    y = normal(*operator.forward(v).shape, seed=2)
    for noise in (0.0, 0.1):
        found = operator.prox(v, y, variance, noise)
        kept = (variance == 0).expand_as(v)
        assert torch.equal(found[kept], v[kept])
        assert bool(found.isfinite().all())


def test_prox_with_no_noise_holds_the_measurement(operator: LinearOperator) -> None:
    truth, v = normal(*shape(operator), seed=1), normal(*shape(operator))
    y = operator.forward(truth)
    found = operator.prox(v, y, torch.ones(1, 1, 1, 1, dtype=torch.float64))
    torch.testing.assert_close(operator.forward(found), y, rtol=0, atol=1e-5)


def test_prox_of_batches_is_that_of_images(operator: LinearOperator) -> None:
    v, variance = normal(*shape(operator)), variances(1, operator)
    y = normal(*operator.forward(v).shape, seed=2)
    whole = operator.prox(v, y, variance, 0.1)
    parts = [operator.prox(v[b : b + 1], y[b : b + 1], variance[b : b + 1], 0.1) for b in (0, 1)]
    torch.testing.assert_close(whole, torch.cat(parts), rtol=0, atol=1e-10)


@pytest.mark.parametrize("name", EXAMPLES)
@pytest.mark.parametrize("uniform", [True, False])
def test_closed_forms_equal_conjugate_gradients(name: str, uniform: bool) -> None:
    a = EXAMPLES[name]
    v = normal(*shape(a))
    variance = torch.tensor([0.3, 1.2]).double().view(2, 1, 1, 1) if uniform else variances(1, a)
    y = normal(*a.forward(v).shape, seed=2)
    for noise in (0.1, 2.0):
        torch.testing.assert_close(
            a.prox(v, y, variance, noise),
            LinearOperator.prox(a, v, y, variance, noise),
            rtol=1e-6,
            atol=1e-6,
        )
    torch.testing.assert_close(
        a.pseudo_inverse(y), LinearOperator.pseudo_inverse(a, y), rtol=1e-5, atol=1e-5
    )


@pytest.mark.parametrize("factor", [2, 3, 4, 8])
def test_bicubic_is_pillows_but_for_the_ends(factor: int) -> None:
    """The same kernel, widened and normalised alike; at the ends Pillow cuts it."""
    picture = normal(96, 144, seed=factor).float().numpy()
    small = Image.fromarray(picture, "F").resize(
        (144 // factor, 96 // factor), Image.Resampling.BICUBIC
    )
    found = bicubic(96, 144, factor).forward(torch.from_numpy(picture)[None, None])[0, 0]
    inner = np.s_[2:-2, 2:-2]
    np.testing.assert_allclose(found.numpy()[inner], np.asarray(small)[inner], atol=1e-5)


def test_bicubic_mirrors_at_the_ends() -> None:
    """As MATLAB's imresize: a constant stays, and so does a mirrored picture's own half."""
    picture = normal(1, 1, 16, 16)
    torch.testing.assert_close(
        bicubic(16, 16, 4).forward(torch.ones(1, 1, 16, 16)), torch.ones(1, 1, 4, 4)
    )
    double = torch.cat([picture.flip(-1), picture, picture.flip(-1)], -1)
    torch.testing.assert_close(
        bicubic(16, 48, 4).forward(double)[..., 4:8], bicubic(16, 16, 4).forward(picture)
    )


def test_grey_and_bayer_are_what_the_world_calls_so() -> None:
    colours = normal(1, 3, 4, 6).float()
    weights = np.array([0.299, 0.587, 0.114])
    expected = (colours[0].permute(1, 2, 0).numpy() * weights).sum(-1)
    np.testing.assert_allclose(grey().forward(colours)[0, 0].numpy(), expected, atol=1e-6)
    mosaic = bayer("GRBG", 4, 6).forward(colours)[0, 0]
    for y, x, channel in ((0, 0, 1), (0, 1, 0), (1, 0, 2), (1, 1, 1), (2, 3, 0)):
        assert mosaic[y, x] == colours[0, channel, y, x]


def test_blur_is_scipys() -> None:
    picture = normal(1, 2, 12, 9)
    kernel = normal(5, 3, seed=4)
    for circular, mode in ((False, "mirror"), (True, "wrap")):
        found = Blur(kernel, circular=circular).forward(picture)
        for channel in range(2):
            expected = ndimage.convolve(picture[0, channel].numpy(), kernel.numpy(), mode=mode)
            np.testing.assert_allclose(found[0, channel].numpy(), expected, atol=1e-12)


def test_kernels_are_centred_and_as_wide_as_they_say() -> None:
    line = torch.arange(-20, 21).double()
    for sigma in (0.7, 2.5):
        kernel = gaussian_kernel(sigma)
        reach = len(kernel) // 2
        spread = (kernel.sum(0) * line[20 - reach : 21 + reach].square()).sum().sqrt()
        assert float(spread) == pytest.approx(sigma, rel=0.01)
    kernel = motion_kernel(9, 30)
    reach = len(kernel) // 2
    y, x = torch.meshgrid(*2 * [torch.arange(-reach, reach + 1).double()], indexing="ij")
    assert float(kernel.sum()) == pytest.approx(1)
    assert abs(float((kernel * x).sum())) < 1e-9
    covariance = [[float((kernel * a * b).sum()) for a in (x, -y)] for b in (x, -y)]
    values, vectors = np.linalg.eigh(np.array(covariance))
    angle = np.degrees(np.arctan2(vectors[1, 1], vectors[0, 1])) % 180
    assert angle == pytest.approx(30, abs=1)
    assert values[1] == pytest.approx(8**2 / 12, rel=0.15)  # of an even line of length 8
    assert values[0] < 0.3


def test_bad_operators_are_refused_in_a_sentence() -> None:
    for make, said in (
        (lambda: Mask(torch.ones(4, 6)), "mask must be a finite tensor"),
        (lambda: BlockAverage(0), "factor is 0"),
        (lambda: bicubic(5, 6, 2), "no multiple of 2"),
        (lambda: Blur(torch.ones(2, 3)), "odd sides"),
        (lambda: gaussian_kernel(0), "sigma is 0"),
        (lambda: motion_kernel(0.5, 0), "length is 0.5"),
        (lambda: bayer("RGB", 4, 4), "the pattern 'RGB' is not known"),
        (lambda: FourierSampling(torch.full((4, 4), 0.5)), "zeros and ones"),
        (lambda: ChannelSum(torch.ones(3)), "weights must be finite"),
    ):
        with pytest.raises(InputError, match=said):
            make()


@pytest.mark.parametrize("circular", [False, True])
def test_large_kernels_blur_by_fourier_transforms_and_alike(circular: bool) -> None:
    picture, y, kernel = normal(1, 2, 23, 29), normal(1, 2, 23, 29, seed=1), normal(13, 15, seed=4)
    a = Blur(kernel / 20, circular=circular)
    found = a.forward(picture)
    for channel in range(2):
        mode = "wrap" if circular else "mirror"
        expected = ndimage.convolve(picture[0, channel].numpy(), kernel.numpy() / 20, mode=mode)
        np.testing.assert_allclose(found[0, channel].numpy(), expected, atol=1e-12)
    assert float((found * y).sum()) == pytest.approx(float((picture * a.adjoint(y)).sum()))
    variance = torch.full((1, 1, 1, 1), 0.7).double()
    for noise in (torch.tensor(0.3).double(), 0.2 + normal(1, 1, 23, 29, seed=5).square()):
        expected_prox = LinearOperator.prox(a, picture, y, variance, noise)
        torch.testing.assert_close(
            a.prox(picture, y, variance, noise), expected_prox, rtol=1e-4, atol=1e-4
        )


@pytest.mark.parametrize("side", [5, 15])
def test_a_cut_blur_is_the_middle_of_a_larger_one(side: int) -> None:
    """With a prox by small and large kernels, at one variance, that is the base class's."""
    kernel = normal(side, side - 2, seed=4) / 20
    a, wide = CutBlur(kernel), normal(1, 2, 31, 36)
    expected = ndimage.convolve(wide[0, 1].numpy(), kernel.numpy())
    rows, columns = side // 2, side // 2 - 1
    y = a.forward(wide)
    np.testing.assert_allclose(y[0, 1].numpy(), expected[rows:-rows, columns:-columns], atol=1e-12)
    assert a.cut(wide).shape == y.shape
    v, variance = normal(1, 2, 31, 36, seed=2), torch.full((1, 1, 1, 1), 0.7).double()
    for noise in (torch.tensor(0.3).double(), 0.2 + normal(*y.shape, seed=5).square()):
        expected_prox = LinearOperator.prox(a, v, y, variance, noise)
        torch.testing.assert_close(
            a.prox(v, y, variance, noise), expected_prox, rtol=1e-4, atol=1e-4
        )


def test_passed_noise_is_that_of_the_prox() -> None:
    """As the trace of the map from measurements to pictures, column by column."""
    a, like = Blur(normal(3, 3, seed=4), circular=True), torch.zeros(1, 1, 6, 5).double()
    units = torch.eye(30).double().view(30, 1, 6, 5)
    zero, variance = torch.zeros_like(units), torch.full((1, 1, 1, 1), 0.7).double()
    passed = a.prox(zero, units, variance, 0.3)
    expected = 0.3 * float(passed.square().sum()) / 30
    assert a.passed_noise(like, 0.7, 0.3) == pytest.approx(expected)
