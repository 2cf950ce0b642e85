"""Is the deviation between samples the deviation of the truth?

Posterior samples by the tasks themselves: their mean misses the truth by the posterior's deviation,
widened by √(1 + 1/n) as the mean of n samples is no exact mean. The share of values within one
and within two such deviations should be a normal law's 68 and 95 %. Nothing is fitted: neither a
scale nor a temperature. Photographs are new to the prior; Gaussian pictures, whose denoiser is
known in closed form, tell what is the sampler's error and what the network's.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from rich.progress import track
from scipy import stats
from torch import Tensor

from differential_diffusion.core import Plan
from differential_diffusion.core.operators import bicubic
from differential_diffusion.core.oracle import Gaussian
from differential_diffusion.engine import run_plan
from differential_diffusion.models import DenoiserModel
from differential_diffusion.schema import build
from differential_diffusion.tasks import TASKS, TaskInput

from . import common
from .common import Photo

DEVIATIONS = np.linspace(0.1, 3, 30)
NOISE_8BIT, HOLES, FACTOR = 25, 0.5, 2
ORACLE_SIDE, ORACLE_LENGTH, DEVIATION = 8, 4.0, 0.25
ABOUT = (
    "{samples} samples of each of {pictures} crops of {crop} x {crop} pixels and {oracles} "
    "Gaussian pictures of {side} x {side} (deviation 0.25, falling as exp(-distance/{length:g}), "
    "channels correlated by 0.8). White noise of σ 25; half of the pixels missing at random, the "
    "others given; bicubic down-sampling by 2, rounded to 8 bits. Coverage is over unknown values "
    "alone, in per cent, beside what {samples} samples of an exact normal posterior would show. "
    "Error and deviation are roots of mean squares on the 8-bit scale:"
)


@dataclass(frozen=True)
class Case:
    """A task with something unknown.

    Attributes:
        task: its name.
        settings: of its request.
        measure: from the truth (1,C,H,W) and a generator to what the task is given, and its own
            settings.
    """

    task: str
    settings: dict[str, Any]
    measure: Callable[[Tensor, torch.Generator], tuple[Tensor, dict[str, Any]]]


def _noisy(truth: Tensor, draw: torch.Generator) -> tuple[Tensor, dict[str, Any]]:
    noise = torch.randn(truth.shape, generator=draw)
    return truth + NOISE_8BIT / 127.5 * noise, {"noise_level_8bit": NOISE_8BIT}


def _with_holes(truth: Tensor, draw: torch.Generator) -> tuple[Tensor, dict[str, Any]]:
    hole = torch.rand(truth.shape[-2:], generator=draw) < HOLES
    return torch.where(hole, 0.0, truth), {"mask": hole.float().numpy()}


def _small(truth: Tensor, draw: torch.Generator) -> tuple[Tensor, dict[str, Any]]:
    del draw
    small = bicubic(*truth.shape[-2:], FACTOR).forward(truth)
    return (small * 127.5).round() / 127.5, {"factor": FACTOR}


SDE = {"solver": "dpmpp_2m_sde"}
CASES = {
    "denoising, σ 25": Case("denoise", SDE | {"steps": 150}, _noisy),
    "inpainting, half of the pixels": Case("inpaint", SDE | {"steps": 50}, _with_holes),
    "upscaling, x2": Case("upscale", SDE | {"steps": 50}, _small),
}


@dataclass(frozen=True)
class Spread:
    """How far the truth lies from the mean of samples, at the unknown values of one picture.

    Attributes:
        error: |truth - mean|, on the 8-bit scale.
        deviation: of the truth about the mean, likewise.
    """

    error: NDArray[np.float64]
    deviation: NDArray[np.float64]

    def coverage(self) -> NDArray[np.float64]:
        """Share of values within each number of deviations."""
        return np.array([(self.error <= k * self.deviation).mean() for k in DEVIATIONS])

    def within(self, k: float) -> float:
        """Per cent of values within k deviations."""
        return 100 * float((self.error <= k * self.deviation).mean())


def spread(
    case: Case, truth: Tensor, run: Callable[[Plan], Tensor], samples: int, seed: int, steps: int
) -> Spread:
    """Draw the samples of one picture and compare them with the truth."""
    given, own = case.measure(truth, generator(seed, 1))
    fields = case.settings | own | {"samples": samples, "seed": seed, "steps": steps}
    request = build(TASKS[case.task].request, image="truth", estimate="sample", **fields)
    with torch.no_grad():
        output = TASKS[case.task].perform(request, TaskInput(given), run)
    unknown = ~output.keep.expand_as(truth)
    mean, deviation = output.samples.mean(0, keepdim=True), output.samples.std(0, keepdim=True)
    # As in a result: one deviation a pixel, the mean of those of its channels.
    deviation = deviation.mean(1, keepdim=True).expand_as(truth) * (1 + 1 / samples) ** 0.5
    return Spread(
        *((x[unknown] * 127.5).double().numpy() for x in ((truth - mean).abs(), deviation))
    )


def generator(*key: int) -> torch.Generator:
    """Random numbers that depend on `key` alone."""
    return torch.Generator().manual_seed(int(common.random(*key).integers(2**63)))


def joined(spreads: list[Spread]) -> Spread:
    """All values of several pictures."""
    errors, deviations = zip(*((s.error, s.deviation) for s in spreads), strict=True)
    return Spread(np.concatenate(errors), np.concatenate(deviations))


def gaussian(side: int, length: float) -> Gaussian:
    """Pictures (3,side,side) with exponentially falling covariance in space."""
    y, x = torch.meshgrid(*2 * [torch.arange(side, dtype=torch.float64)], indexing="ij")
    place = torch.stack([y.flatten(), x.flatten()], 1)
    space = torch.exp(-torch.cdist(place, place) / length)
    colour = torch.full((3, 3), 0.8, dtype=torch.float64).fill_diagonal_(1.0)
    return Gaussian(torch.zeros(3, side, side), DEVIATION**2 * torch.kron(colour, space).float())


def oracle_spread(
    case: Case, model: DenoiserModel, options: argparse.Namespace, steps: int
) -> Spread:
    """The same for pictures drawn from a Gaussian, by its own denoiser."""
    oracle = gaussian(ORACLE_SIDE, ORACLE_LENGTH)
    exact = replace(
        model, denoiser=oracle, halo=None, stride=1, device=torch.device("cpu"), s_noise=1.0
    )
    factor = torch.linalg.cholesky(oracle.covariance)
    spreads = []
    for index in range(options.oracles):
        white = torch.randn(len(factor), generator=generator(index, 0))
        truth = (factor @ white).view(1, *oracle.mean.shape)
        run = partial(run_plan, model=exact)
        spreads.append(spread(case, truth, run, options.samples, index, steps))
    return joined(spreads)


def photo_spread(
    case: Case, model: DenoiserModel, photos: list[Photo], options: argparse.Namespace, name: str
) -> Spread:
    """The same for photographs."""
    run = partial(run_plan, model=model)
    spreads = []
    for photo in track(photos, name):
        truth = common.to_tensor(common.centre(photo.pixels, options.crop, options.crop))
        steps = case.settings["steps"]
        spreads.append(spread(case, truth, run, options.samples, photo.index, steps))
    return joined(spreads)


def expected(samples: int, k: float) -> float:
    """Per cent of values within k deviations for an exact normal posterior (Student's t)."""
    return 100 * float(2 * stats.t.cdf(k, samples - 1) - 1)


def _row(name: str, data: str, steps: int, s: Spread) -> list[str]:
    error, deviation = (float(np.sqrt(np.mean(v**2))) for v in (s.error, s.deviation))
    figures = [s.within(1), s.within(2), error, deviation]
    return [name, data, str(steps), *(f"{value:.1f}" for value in figures)]


def run(options: argparse.Namespace) -> None:
    """Measure, then write the report."""
    model = common.load(options)
    photos = common.photographs(options)
    rows, curves = [], {}
    for name, case in CASES.items():
        steps = case.settings["steps"]
        found = photo_spread(case, model, photos, options, name)
        rows.append(_row(name, "photographs", steps, found))
        curves[name] = found.coverage()
        for count in (20, 50, 150):
            rows.append(_row(name, "Gaussian", count, oracle_spread(case, model, options, count)))
    exact = [
        "exact normal posterior",
        "",
        "",
        *(f"{expected(options.samples, k):.1f}" for k in (1, 2)),
    ]
    rows.append([*exact, "–", "–"])
    figure(options, curves)
    header = ["task", "data", "steps", "±1, %", "±2, %", "error", "deviation"]
    about = ABOUT.format(
        samples=options.samples,
        pictures=len(photos),
        crop=options.crop,
        oracles=options.oracles,
        side=ORACLE_SIDE,
        length=ORACLE_LENGTH,
    )
    common.write_report(
        options,
        "calibration",
        "Calibration of the deviation map",
        [about, common.table(header, rows)],
        model=model,
        alt="share of true values within so many deviations, beside a normal law's",
    )


def figure(options: argparse.Namespace, curves: dict[str, NDArray[np.float64]]) -> None:
    """Coverage against the number of deviations."""
    import matplotlib.pyplot as plt

    drawn, axes = plt.subplots(figsize=(6, 4), layout="constrained")
    for name, curve in curves.items():
        axes.plot(DEVIATIONS, 100 * curve, label=name)
    axes.plot(
        DEVIATIONS,
        [expected(options.samples, k) for k in DEVIATIONS],
        "k--",
        label=f"{options.samples} exact normal samples",
    )
    axes.set(xlabel="deviations from the mean", ylabel="true values within, %", ylim=(0, 100))
    axes.legend()
    axes.grid(alpha=0.3)
    common.save_figure(options.output / "calibration.png", drawn)


def options(description: str | None) -> argparse.ArgumentParser:
    """What one can choose."""
    parser = common.parser(description)
    parser.add_argument("--samples", type=int, default=16, help="of each picture")
    parser.add_argument("--crop", type=int, default=96, help="side of the crops in pixels")
    parser.add_argument("--oracles", type=int, default=20, help="Gaussian pictures")
    return parser


def main(argv: list[str] | None = None) -> None:
    """Read the options and run."""
    run(options(__doc__).parse_args(argv))


if __name__ == "__main__":
    main()
