"""JPEG: pictures to quantised coefficients, and the pictures that share them (ITU-T T.81)."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ...errors import InputError

__all__ = ["SAMPLINGS", "Coefficients", "Jpeg", "JpegFormat", "as_stored"]

Coefficients = tuple[Tensor, ...]
"""Of each component, (B,R,C,8,8): rows and columns of blocks, then of frequencies, in steps."""

SAMPLINGS = {"4:4:4": (1, 1), "4:2:2": (1, 2), "4:2:0": (2, 2), "4:4:0": (2, 1), "4:1:1": (1, 4)}
"""Rows and columns of pixels that a sample of colour is the mean of, by name."""

# T.81, tables K.1 and K.2: steps of brightness and of colour at quality 50.
_LUMA = (
    (16, 11, 10, 16, 24, 40, 51, 61),
    (12, 12, 14, 19, 26, 58, 60, 55),
    (14, 13, 16, 24, 40, 57, 69, 56),
    (14, 17, 22, 29, 51, 87, 80, 62),
    (18, 22, 37, 56, 68, 109, 103, 77),
    (24, 35, 55, 64, 81, 104, 113, 92),
    (49, 64, 78, 87, 103, 121, 120, 101),
    (72, 92, 95, 98, 112, 100, 103, 99),
)
_CHROMA = (
    (17, 18, 24, 47, 99, 99, 99, 99),
    (18, 21, 26, 66, 99, 99, 99, 99),
    (24, 26, 56, 99, 99, 99, 99, 99),
    (47, 66, 99, 99, 99, 99, 99, 99),
    *[(99,) * 8] * 4,
)
_FULL, _CENTRE = 255 / 2, 128.0
_FAR = 30.0
_ROUNDS, _ITERATIONS, _NEARLY = 40, 25, 1e-6


@dataclass(frozen=True)
class JpegFormat:
    """How a JPEG file holds a picture.

    Attributes:
        tables: of each component (one if it is grey, else Y, Cb, Cr) the steps q of its
            coefficients, (8,8), row and column of frequencies.
        factors: of each component, the rows and columns of pixels that a sample is the mean of.
        orientation: EXIF's, 1 to 8: how the picture is turned to stand upright.

    Raises:
        InputError: other numbers of components, steps that are not positive, or factors or an
            orientation that are none.
    """

    tables: tuple[Tensor, ...]
    factors: tuple[tuple[int, int], ...]
    orientation: int = 1

    def __post_init__(self) -> None:
        if len(self.tables) not in (1, 3) or len(self.factors) != len(self.tables):
            raise InputError(f"{len(self.tables)} tables of steps: give one, or three of colours.")
        if any(q.shape != (8, 8) or not bool((q > 0).all()) for q in self.tables):
            raise InputError("a table of steps must be (8,8) of positive numbers: check the file.")
        if any(f not in (1, 2, 3, 4) for pair in self.factors for f in pair):
            raise InputError(f"factors are {self.factors}: a sample is the mean of 1 to 4 pixels.")
        if not 1 <= self.orientation <= 8:
            raise InputError(f"orientation is {self.orientation}: EXIF knows 1 to 8.")

    @classmethod
    def of_quality(cls, quality: int, sampling: str = "4:2:0", *, grey: bool = False) -> JpegFormat:
        """The format of the Independent JPEG Group's encoder, which most programs use.

        Args:
            quality: 1 to 100.
            sampling: in `SAMPLINGS`.
            grey: whether there is brightness alone.

        Raises:
            InputError: another quality or sampling.
        """
        if not 1 <= quality <= 100:
            raise InputError(f"quality is {quality}: give a number from 1 to 100.")
        if sampling not in SAMPLINGS:
            raise InputError(f"sampling is '{sampling}': use one of {', '.join(SAMPLINGS)}.")
        scale = 5000 // quality if quality < 50 else 200 - 2 * quality
        luma, chroma = (
            ((torch.tensor(table, dtype=torch.float64) * scale + 50) / 100).floor().clamp(1, 255)
            for table in (_LUMA, _CHROMA)
        )
        if grey:
            return cls((luma,), ((1, 1),))
        return cls((luma, chroma, chroma), ((1, 1), SAMPLINGS[sampling], SAMPLINGS[sampling]))


class Jpeg:
    """Quantisation k = round(F T x / q), and the cells of pictures that give the same k.

    T takes pictures (B,C,H,W) in [-1,1] to brightness and colour on the 8-bit scale (JFIF), colour
    to the means of blocks of pixels, and both to blocks of 8 x 8 samples, F is the orthonormal
    cosine transform of a block, and q its table of steps. What a block lacks at the right and at
    the bottom repeats the last column and row, as libjpeg does it. The encoder's own roundings on
    the way (of colours and means, to whole numbers) are not repeated.

    Args:
        form: how the file holds the picture; one table for pictures of one channel.
        height, width: of the upright picture.
    """

    def __init__(self, form: JpegFormat, height: int, width: int) -> None:
        self.form = form
        self.shape = height, width
        if form.orientation >= 5:
            height, width = width, height
        self._rows = [_Axis(height, f, repeats_samples=True) for f, _ in form.factors]
        self._columns = [_Axis(width, f) for _, f in form.factors]

    def steps(self, x: Tensor) -> Coefficients:
        """F T x / q, before it is rounded, in float64."""
        return self.steps_of(self.planes(x))

    def steps_of(self, planes: list[Tensor]) -> Coefficients:
        """F T x / q, given brightness and colour as `planes` has them."""
        return tuple(
            _transform(_blocks(self._sampled(plane, c))) / self.form.tables[c].to(plane)
            for c, plane in enumerate(planes)
        )

    def forward(self, x: Tensor) -> Coefficients:
        """Round F T x / q to k, in float64."""
        return tuple(steps.round() for steps in self.steps(x))

    def decode(self, k: Coefficients) -> Tensor:
        """The picture in the middle of the cells, colours repeated over their blocks, in float64.

        It is neither rounded nor clipped.
        """
        planes = [
            self._repeated(
                _joined(_inverse(k[c].double() * self.form.tables[c].to(k[c].device))), c
            )
            for c in range(len(k))
        ]
        return self._picture(planes)

    def project(self, x: Tensor, k: Coefficients) -> Tensor:
        """The picture nearest to x of which each coefficient is within half a step of k.

            argmin_z ‖T (z - x)‖    with |F T z / q - k| <= 1/2

        Distances are those of brightness and colour, and in blocks that the picture does not fill
        those of the filled blocks. It is a clipping of coefficients; only in blocks that are not
        filled it takes iterations (Boyle and Dykstra, 1986).

        Args:
            x: (B,C,H,W).
            k: like ``forward(x)``.

        Returns: like x, in float64.
        """
        return self._moved(x, k, lambda c, low, high, factor: c.clamp(low, high))

    def expected(self, x: Tensor, k: Coefficients, deviation: float) -> Tensor:
        """The mean of the picture where it is believed to be x, give or take, and known to be k.

        Each coefficient c is normal around that of x, and lies within half a step of k: its mean is
        that of the normal distribution cut at both ends. The belief in means of n pixels is √n
        times as firm. In blocks that the picture does not fill, the nearest picture inside.

        Args:
            x: (B,C,H,W).
            k: like ``forward(x)``.
            deviation: of the belief, on the scale of x.

        Returns: like x, inside the cells, in float64.
        """
        return self._moved(
            x, k, lambda c, low, high, n: _cut_mean(c, deviation * _FULL / n**0.5, low, high)
        )

    def _moved(
        self,
        x: Tensor,
        k: Coefficients,
        move: Callable[[Tensor, Tensor, Tensor, int], Tensor],
    ) -> Tensor:
        """Move the coefficients of x between the bounds of their cells."""
        planes = []
        for c, plane in enumerate(self.planes(x)):
            blocks = _blocks(self._sampled(plane, c))
            step = self.form.tables[c].to(plane)
            low, high = (step * (k[c].to(plane) + side).expand_as(blocks) for side in (-0.5, 0.5))
            moved = _inverse(move(_transform(blocks), low, high, math.prod(self.form.factors[c])))
            rows, columns = self._filled(c, blocks)
            short = (rows[1] | columns[1]).expand(blocks.shape[:3])
            if bool(short.any()):
                fits = [m.expand_as(blocks)[short] for m in (rows[0], columns[0])]
                of_short = (moved[short], low[short], high[short])
                moved[short] = _nearest_of_both(*of_short, fits[0], fits[1])
            planes.append(plane + self._spread(_joined(moved - blocks), c))
        return self._picture(planes)

    def distance(self, x: Tensor, k: Coefficients) -> Tensor:
        """How many steps x lies from the middle of its cells where it is farthest, (B,).

        At most 0.5 where x is inside.
        """
        far = [
            (a - b.to(a)).abs().flatten(1).amax(1) for a, b in zip(self.steps(x), k, strict=True)
        ]
        return torch.stack(far).amax(0)

    def planes(self, x: Tensor) -> list[Tensor]:
        """Brightness and colour of x on the 8-bit scale around 0, (B,H,W) each, as stored.

        Raises:
            InputError: x has another number of channels than the format has tables.
        """
        v = as_stored(x.double(), self.form.orientation) * _FULL
        if len(self.form.tables) != v.shape[1]:
            raise InputError(
                f"the picture has {v.shape[1]} channels and the JPEG format "
                f"{len(self.form.tables)}: convert it."
            )
        if v.shape[1] == 1:
            return [v[:, 0] + (_FULL - _CENTRE)]
        red, green, blue = v.unbind(1)
        y = 0.299 * red + 0.587 * green + 0.114 * blue
        return [y + (_FULL - _CENTRE), (blue - y) / 1.772, (red - y) / 1.402]

    def _picture(self, planes: list[Tensor]) -> Tensor:
        """The inverse of `_planes`."""
        y = planes[0] - (_FULL - _CENTRE)
        if len(planes) == 1:
            v = y[:, None]
        else:
            blue, red = y + 1.772 * planes[1], y + 1.402 * planes[2]
            v = torch.stack([red, (y - 0.299 * red - 0.114 * blue) / 0.587, blue], 1)
        return _upright(v / _FULL, self.form.orientation)

    def _sampled(self, plane: Tensor, c: int) -> Tensor:
        return self._columns[c].down(self._rows[c].down(plane.mT).mT)

    def _spread(self, samples: Tensor, c: int) -> Tensor:
        return self._columns[c].up(self._rows[c].up(samples.mT).mT)

    def _repeated(self, samples: Tensor, c: int) -> Tensor:
        return self._columns[c].repeat(self._rows[c].repeat(samples.mT).mT)

    def _filled(self, c: int, like: Tensor) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
        """Along rows and columns: the matrices that make blocks repeat, and where they count."""
        pairs = []
        for axis, shape in ((self._rows[c], (-1, 1)), (self._columns[c], (1, -1))):
            count = axis.samples // 8
            fits = torch.eye(8).to(like).repeat(count, 1, 1)
            fits[-1] = axis.fit.to(like)
            short = torch.zeros(count, dtype=torch.bool, device=like.device)
            short[-1] = axis.is_short
            pairs.append((fits.view(*shape, 8, 8), short.view(*shape)))
        return pairs[0], pairs[1]


class _Axis:
    """Samples along one axis: means of so many pixels, the last ones repeated to fill a block.

    Args:
        pixels: how many there are.
        factor: how many a sample is the mean of.
        repeats_samples: whether it is the last sample that is repeated (once its own pixels are
            complete), as libjpeg does it down the picture, or the last pixel.
    """

    def __init__(self, pixels: int, factor: int, *, repeats_samples: bool = False) -> None:
        self.pixels, self.factor = pixels, factor
        self.samples = 8 * math.ceil(pixels / (8 * factor))
        self._whole = pixels // (8 * factor) * 8
        rest = pixels - self._whole * factor
        self.is_short = rest > 0
        if self.is_short:
            real = math.ceil(rest / factor) if repeats_samples else 8
            taken = torch.arange(real * factor).clamp(max=rest - 1)
            means = torch.eye(rest, dtype=torch.float64)[taken].view(real, factor, rest).mean(1)
            self._last = means[torch.arange(8).clamp(max=real - 1)]
            self._back = torch.linalg.pinv(self._last)
            self.fit = self._last @ self._back
        else:
            self.fit = torch.eye(8, dtype=torch.float64)

    def down(self, x: Tensor) -> Tensor:
        """(...,pixels) to (...,samples)."""
        end = self._whole * self.factor
        whole = x[..., :end].reshape(*x.shape[:-1], self._whole, self.factor).mean(-1)
        return (
            torch.cat([whole, x[..., end:] @ self._last.to(x).mT], -1) if self.is_short else whole
        )

    def repeat(self, s: Tensor) -> Tensor:
        """(...,samples) to (...,pixels): each sample where it is the mean of."""
        return s.repeat_interleave(self.factor, -1)[..., : self.pixels]

    def up(self, s: Tensor) -> Tensor:
        """(...,samples) to (...,pixels): the pseudo-inverse of `down`."""
        whole = s[..., : self._whole].repeat_interleave(self.factor, -1)
        if not self.is_short:
            return whole
        return torch.cat([whole, s[..., self._whole :] @ self._back.to(s).mT], -1)


def _cosines(like: Tensor) -> Tensor:
    """F of one axis (T.81, A.3.3): sqrt(2/8) c_u cos((2 x + 1) u π / 16), (8,8) over u and x."""
    u, x = torch.arange(8, dtype=torch.float64)[:, None], torch.arange(8, dtype=torch.float64)
    f = 0.5 * torch.cos((2 * x + 1) * u * (math.pi / 16))
    f[0] /= math.sqrt(2)
    return f.to(like)


def _transform(blocks: Tensor) -> Tensor:
    f = _cosines(blocks)
    return f @ blocks @ f.mT


def _inverse(coefficients: Tensor) -> Tensor:
    f = _cosines(coefficients)
    return f.mT @ coefficients @ f


def _blocks(samples: Tensor) -> Tensor:
    """(B,8 R,8 C) to (B,R,C,8,8)."""
    batch, height, width = samples.shape
    return samples.reshape(batch, height // 8, 8, width // 8, 8).transpose(2, 3)


def _joined(blocks: Tensor) -> Tensor:
    """The inverse of `_blocks`."""
    return blocks.transpose(2, 3).flatten(3, 4).flatten(1, 2)


def _cut_mean(mean: Tensor, deviation: float, low: Tensor, high: Tensor) -> Tensor:
    """The mean of a normal distribution that is cut at low and high (low < high).

        m + s (φ(a) - φ(b)) / (Φ(b) - Φ(a)),    a = (low - m)/s,    b = (high - m)/s

    written with erfcx and mirrored so that |a| <= b, which loses nothing far from the mean.
    """
    above = mean > (low + high) / 2
    a = torch.where(above, mean - high, low - mean) / deviation
    b = torch.where(above, mean - low, high - mean) / deviation
    falls = (a.square() - b.square()) / 2
    under = torch.special.erfcx(a.clamp(min=-_FAR) / math.sqrt(2))
    beyond = torch.exp(falls) * torch.special.erfcx(b / math.sqrt(2))
    shift = math.sqrt(2 / math.pi) * -torch.expm1(falls) / (under - beyond)
    shift = torch.where(a < -_FAR, 0.0, deviation * shift)
    return torch.where(above, mean - shift, mean + shift).clamp(low, high)


def _nearest_of_both(
    blocks: Tensor, low: Tensor, high: Tensor, rows: Tensor, columns: Tensor
) -> Tensor:
    """The nearest blocks that also repeat themselves, as the matrices of both axes have it."""
    found = blocks.clone()
    going = torch.arange(len(blocks), device=blocks.device)
    x, rest = blocks, torch.zeros_like(blocks)
    for _ in range(_ROUNDS):
        for _ in range(_ITERATIONS):
            inside = _inverse(_transform(x + rest).clamp(low, high))
            rest = x + rest - inside
            x = rows @ inside @ columns.mT
        found[going] = x
        open_ = (x - inside).abs().amax((1, 2)) > _NEARLY
        if not bool(open_.any()):
            break
        x, rest, low, high, rows, columns, going = (
            t[open_] for t in (x, rest, low, high, rows, columns, going)
        )
    return found


def as_stored(x: Tensor, orientation: int) -> Tensor:
    """An upright picture as its file holds it (EXIF 2.32, section 4.6.4, orientation)."""
    x = x.flip(_turned(orientation))
    return x.mT if orientation >= 5 else x


def _upright(x: Tensor, orientation: int) -> Tensor:
    """The inverse of `_stored`."""
    x = x.mT if orientation >= 5 else x
    return x.flip(_turned(orientation))


def _turned(orientation: int) -> list[int]:
    return [d for d, of in ((-2, (3, 4, 7, 8)), (-1, (2, 3, 6, 7))) if orientation in of]
