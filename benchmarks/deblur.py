"""Blur with noise on CBSD68, beside Wiener's filter, Richardson-Lucy and total variation.

The photograph is blurred, mirrored at its borders, and gets noise of level 2.55, neither clipped
nor rounded. That suits the others, which take it to be mirrored; `deblur` takes what lies beyond
the borders to be unknown, as it is of real photographs. Each of the others has the setting that is
best for each picture by the truth.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from rich.progress import track
from scipy import fft, ndimage

from differential_diffusion.core.operators import Blur, CutBlur, gaussian_kernel, motion_kernel
from differential_diffusion.core.plan import Plan
from differential_diffusion.engine import run_plan
from differential_diffusion.models import DenoiserModel
from differential_diffusion.schema import DeblurRequest
from differential_diffusion.tasks import TaskInput
from differential_diffusion.tasks.deblur import deblur

from . import common
from .common import Array, Photo, Score, Scores

NOISE = 2.55
OURS, BLIND = "prior, kernel known", "prior, width estimated"
WIENER, LUCY, TV, UNSHARP = "Wiener", "Richardson-Lucy", "total variation", "unsharp mask"
AS_GIVEN = "blurred"

WIENER_GRID = tuple(0.003 * 1.6**k for k in range(14))
LUCY_GRID = (3, 5, 7, 10, 14, 20, 28, 40, 56, 80)
TV_GRID = tuple(250 * 2**k for k in range(7))
UNSHARP_GRID = tuple((radius, amount) for radius in (1, 2, 4) for amount in (0.3, 0.6, 1.2, 2.4))
MARGIN = 28
"""Least mirrored pixels around what Wiener's filter and total variation take to go round."""

SHOWN = 14  # a tiger
SHOWN_CASES, UNSHOWN = ("Gaussian 1.6", "motion 15 px"), (BLIND, UNSHARP)
ABOUT = (
    "Wiener and Richardson-Lucy: scikit-image's, on the picture continued by {margin} mirrored "
    "pixels or a few more, as the first goes round. Total variation: μ/2 ‖A x - y‖² + TV(x) by 30 "
    "steps of ADMM, likewise. Unsharp mask: x + a (x - G x). Each has, for each picture, the best "
    "setting by the truth, and its time is that of one try. The residual is that of the result, "
    "blurred again, against the blurred picture, root mean square, in units of the noise: 1 is "
    "what the noise explains."
)


@dataclass(frozen=True)
class Case:
    """A kind of blur, and what our task is told of it."""

    name: str
    kernel: torch.Tensor
    told: dict[str, object]

    @property
    def gaussian(self) -> bool:
        """Whether its width can be estimated."""
        return "sigma" in self.told


CASES = (
    Case("Gaussian 1.6", gaussian_kernel(1.6), {"sigma": 1.6}),
    Case("Gaussian 3", gaussian_kernel(3), {"sigma": 3}),
    Case(
        "motion 15 px",
        motion_kernel(15, 30),
        {"kernel": "motion", "length": 15, "angle": 30},
    ),
)


def blurred(photo: Photo, case: Case, stream: int) -> Array:
    """The photograph, blurred and noisy."""
    soft = common.to_array(Blur(case.kernel).forward(common.to_tensor(photo.pixels)))
    return common.add_noise(replace(photo, pixels=soft), NOISE, stream)


def ours(model: DenoiserModel, told: dict[str, object]) -> Callable[[Array], Array]:
    """The task itself, on pictures that are neither clipped nor rounded."""

    def run(plan: Plan) -> torch.Tensor:
        return run_plan(plan, model)

    def restore(noisy: Array) -> Array:
        request = DeblurRequest(image=None, noise_level_8bit=NOISE, **told)  # type: ignore[arg-type]
        output = deblur(request, TaskInput(common.to_tensor(noisy)), run)
        return common.to_array(output.samples)

    return restore


def mirrored(noisy: Array) -> NDArray[np.float64]:
    """The picture with its mirrored surroundings, of a size that transforms are quick at."""
    more = (fft.next_fast_len(side + 2 * MARGIN) - side - MARGIN for side in noisy.shape[:2])
    around = (*((MARGIN, after) for after in more), (0, 0))
    return np.pad(noisy.astype(np.float64), around, "reflect")


def inside(picture: NDArray[np.float64], noisy: Array) -> Array:
    """What `mirrored` was made of."""
    height, width = noisy.shape[:2]
    return common.as_array(picture[MARGIN : MARGIN + height, MARGIN : MARGIN + width])


def wiener(noisy: Array, case: Case, balance: float) -> Array:
    """scikit-image's Wiener filter, regularised by a Laplacian."""
    from skimage.restoration import wiener as filtered

    wide = mirrored(noisy)
    channels = [filtered(wide[..., c], case.kernel.numpy(), balance, clip=False) for c in range(3)]
    return inside(np.stack(channels, -1), noisy)


def richardson_lucy(noisy: Array, case: Case, iterations: float) -> Array:
    """scikit-image's Richardson-Lucy (1972, 1974)."""
    from skimage.restoration import richardson_lucy as iterate

    wide = mirrored(np.clip(noisy, 1e-3, None))
    channels = [
        iterate(wide[..., c], case.kernel.numpy(), int(iterations), clip=False) for c in range(3)
    ]
    return inside(np.stack(channels, -1), noisy)


def unsharp(noisy: Array, case: Case, setting: tuple[float, float]) -> Array:
    """Sharpens: x + a (x - G x), G a Gaussian of a radius; it knows no kernel."""
    radius, amount = setting
    return common.as_array(
        noisy + amount * (noisy - ndimage.gaussian_filter(noisy, (radius, radius, 0)))
    )


def total_variation(noisy: Array, case: Case, fidelity: float) -> Array:
    """μ/2 ‖A x - y‖² + TV(x), isotropic, by ADMM in Fourier space (Wang et al., 2008)."""
    y = torch.from_numpy(mirrored(noisy)).permute(2, 0, 1)[None].float()
    size = (y.shape[-2], y.shape[-1])
    transfer = Blur(case.kernel, circular=True).transfer(y)
    steps = [torch.zeros(size), torch.zeros(size)]
    for dim, step in enumerate(steps):
        step[0, 0] = -1
        step[(-1, 0) if dim == 0 else (0, -1)] = 1
    slopes = [torch.fft.rfft2(step) for step in steps]
    penalty = 10.0
    power = fidelity * transfer.abs().square() + penalty * sum(s.abs().square() for s in slopes)
    seen = fidelity * transfer.conj() * torch.fft.rfft2(y)
    split = [torch.zeros_like(y) for _ in slopes]
    scaled = [torch.zeros_like(y) for _ in slopes]
    x = y
    for _ in range(30):
        pulled = sum(
            s.conj() * torch.fft.rfft2(d - u) for s, d, u in zip(slopes, split, scaled, strict=True)
        )
        spectrum = (seen + penalty * pulled) / power
        x = torch.fft.irfft2(spectrum, s=size)
        changes = [torch.fft.irfft2(s * spectrum, s=size) for s in slopes]
        moved = [c + u for c, u in zip(changes, scaled, strict=True)]
        length = sum(m.square() for m in moved).sqrt()  # type: ignore[union-attr]
        shrunk = (1 - 1 / (penalty * length.clamp(min=1e-9))).clamp(min=0)
        split = [shrunk * m for m in moved]
        scaled = [m - d for m, d in zip(moved, split, strict=True)]
    return inside(x[0].permute(1, 2, 0).double().numpy(), noisy)


PEERS: dict[str, tuple[Callable[..., Array], Sequence[object]]] = {
    WIENER: (wiener, WIENER_GRID),
    LUCY: (richardson_lucy, LUCY_GRID),
    TV: (total_variation, TV_GRID),
    UNSHARP: (unsharp, UNSHARP_GRID),
}


def best(
    method: Callable[..., Array], grid: Sequence[object], noisy: Array, case: Case, clean: Array
) -> tuple[Array, float]:
    """The estimate of the best setting, and the seconds of one try.

    Settings go up; two in a row that do worse than the best end the search, unless they come in
    pairs.
    """
    found: tuple[float, Array, float, int] | None = None
    for place, setting in enumerate(grid):
        estimate, seconds = common.timed(method, noisy, case, setting)
        quality = common.psnr(estimate, clean)
        if found is None or quality > found[0]:
            found = quality, estimate, seconds, place
        elif place - found[3] >= 2 and not isinstance(setting, tuple):
            break
    assert found is not None
    return found[1], found[2]


def residual(estimate: Array, noisy: Array, case: Case) -> float:
    """RMS of k * x - y in units of the noise, where the kernel stays inside."""
    operator = CutBlur(case.kernel)
    again = common.to_array(operator.forward(common.to_tensor(estimate)))
    seen = common.to_array(operator.cut(common.to_tensor(noisy)))
    return float(np.sqrt(np.mean((again - seen).astype(np.float64) ** 2)) * 255 / NOISE)


def estimates(
    model: DenoiserModel, case: Case, noisy: Array, clean: Array
) -> Iterator[tuple[str, Array, float]]:
    """What each method makes of a picture, and the seconds it took."""
    yield AS_GIVEN, noisy, float("nan")
    yield OURS, *common.timed(ours(model, case.told), noisy)
    if case.gaussian:
        yield BLIND, *common.timed(ours(model, {}), noisy)
    for name, (method, grid) in PEERS.items():
        yield name, *best(method, grid, noisy, case, clean)


def run(options: argparse.Namespace) -> None:
    """Measure, then write the report."""
    model = common.load(options)
    photos = common.photographs(options)
    first = common.centre(photos[0].pixels, 64, 64)
    ours(model, CASES[0].told)(first)  # the first call loads things
    shown = common.nearest(photos, SHOWN)
    scores, cells = Scores(), []
    left: dict[tuple[str, str], list[float]] = {}
    for photo in track(photos, "deblur"):
        for stream, case in enumerate(CASES):
            noisy = blurred(photo, case, 100 + stream)
            row: list[common.Cell] = []
            for name, estimate, seconds in estimates(model, case, noisy, photo.pixels):
                quality = common.psnr(estimate, photo.pixels)
                similarity = common.ssim(estimate, photo.pixels)
                score = Score(photo.index, case.name, name, quality, seconds, similarity)
                scores.rows.append(score)
                left.setdefault((name, case.name), []).append(residual(estimate, noisy, case))
                if name not in UNSHOWN:
                    row.append((f"{case.name}: {name}\n{quality:.2f} dB", estimate))
            if photo is shown and case.name in SHOWN_CASES:
                row.append(("sharp", photo.pixels))
                cells.append([(text, common.centre(picture, 112, 112)) for text, picture in row])
    common.save_grid(options.output / "deblur.png", cells)
    report(options, model, scores, left)


def report(
    options: argparse.Namespace,
    model: DenoiserModel,
    scores: Scores,
    left: dict[tuple[str, str], list[float]],
) -> None:
    """Write the tables."""
    names = [case.name for case in CASES]
    methods = [OURS, BLIND, *PEERS, AS_GIVEN]

    def row(name: str, cell: Callable[[str], str]) -> list[object]:
        return [
            f"**{name}**" if name in (OURS, BLIND) else name,
            *(cell(case) if scores.pictures(name, case) else "–" for case in names),
        ]

    quality = [
        [
            *row(
                name,
                lambda case, name=name: (  # type: ignore[misc]
                    f"{scores.mean('psnr', name, case):.2f} / {scores.mean('ssim', name, case):.3f}"
                ),
            ),
            common.number(scores.mean("seconds", name)),
        ]
        for name in methods
    ]
    gains = [
        row(name, lambda case, name=name: f"{scores.gain(OURS, name, case):+.2f}")  # type: ignore[misc]
        for name in methods[1:]
    ]
    residuals = [
        row(name, lambda case, name=name: f"{np.mean(left[name, case]):.3f}")  # type: ignore[misc]
        for name in methods
    ]
    pictures = len({row.picture for row in scores.rows})
    parts = [
        f"Noise of level {NOISE}, {pictures} pictures. PSNR in dB / SSIM, seconds a picture:",
        common.table(["method", *names, "seconds"], quality),
        f"The gain of {OURS}, in dB, over each:",
        common.table(["beside", *names], gains),
        "Residual of the result, blurred again, in units of the noise:",
        common.table(["method", *names], residuals),
        ABOUT.format(margin=MARGIN),
    ]
    common.write_report(
        options,
        "deblur",
        "Deblurring",
        parts,
        model=model,
        alt="crops that are blurred, as each method sharpens them, and sharp",
    )


def main(argv: list[str] | None = None) -> None:
    """Read the options and run."""
    run(common.parser(__doc__).parse_args(argv))


if __name__ == "__main__":
    main()
