"""Run a plan on a model, in regions and tiles where the model is local."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from torch import Tensor

from ..core.noise import PositionalNoise, Window
from ..core.plan import OnStep, Plan
from ..core.types import Step
from ..models import DenoiserModel, Model, PipelineModel
from .pipelines import Part, run_on_pipeline, steps_of
from .regions import RegionalDenoiser, bounding, crop_map, cropped, windows_over, with_halo


@dataclass
class Counter:
    """Model evaluations so far, over all runs of a request."""

    evaluations: int = 0
    _last: int = 0

    def add(self, step: Step) -> None:
        """Count what a step added; each run's steps count from its own start."""
        self.evaluations += step.evaluations - (self._last if step.index else 0)
        self._last = step.evaluations


OnFraction = Callable[[float], None]


class _Meter:
    """Share of a run of several samples that is done, from steps and the pieces within them."""

    def __init__(self, samples: int, report: OnFraction | None) -> None:
        self.samples, self.report = samples, report
        self.sample, self.step, self.steps, self.last = 0, 0, 1, 0.0

    def begin(self, sample: int, steps: int) -> None:
        self.sample, self.step, self.steps = sample, 0, max(1, steps)

    def finish(self) -> None:
        """The sample in hand is done, whether or not anything had to move."""
        self._tell(self.steps)

    def piece(self, done: int, count: int) -> None:
        self._tell(self.step + done / count)

    def stepped(self, step: Step) -> None:
        self.step, self.steps = step.index + 1, step.count
        self._tell(self.step)

    def _tell(self, steps_done: float) -> None:
        # A solver with two evaluations a step goes over its pieces twice: never step back.
        within = min(1.0, steps_done / self.steps)
        self.last = max(self.last, (self.sample + within) / self.samples)
        if self.report is not None:
            self.report(self.last)


def run_plan(
    plan: Plan,
    model: Model,
    *,
    tile: int = 1024,
    on_step: OnStep | None = None,
    on_fraction: OnFraction | None = None,
    counter: Counter | None = None,
) -> Tensor:
    """Samples of the plan, (n,C,H,W), one for each seed, drawn one after the other.

    With a local `DenoiserModel` the state and the network are cut to the pixels that move and
    their halo; the numbers equal the whole-picture run's up to rounding. Other models run
    whole.

    Args:
        plan: what to do.
        model: what does it.
        tile: largest side of what the network is given at once, halo not counted.
        on_step: called after each step with the record of the (cropped) state.
        on_fraction: called with the share of the work that is done, as often as it grows.
        counter: adds up evaluations.
    """
    counter = counter or Counter()
    if isinstance(model, PipelineModel):

        def heard(parts: Sequence[Part], step: Step) -> None:
            counter.add(step)
            if on_step is not None:
                for one in steps_of(parts, step):
                    on_step(one)

        size = plan.options.get("batch_size", 1)
        return run_on_pipeline([plan], model, size, heard, on_fraction)[0]
    meter = _Meter(len(plan.seeds), on_fraction)

    def stepped(step: Step) -> None:
        counter.add(step)
        meter.stepped(step)
        if on_step is not None:
            on_step(replace(step, window=box))

    height, width = plan.image.shape[-2:]
    box = Window(0, 0, height, width)
    part = plan
    if isinstance(model, DenoiserModel) and model.halo is not None:
        windows = _active_windows(plan, model, model.halo, tile)
        if not windows:
            meter.begin(len(plan.seeds) - 1, 1)
            meter.finish()
            return plan.image.repeat(len(plan.seeds), 1, 1, 1)
        # The network needs the halo around every window; the state, nothing beyond that.
        if plan.guide is None:  # which sees the whole picture
            box = with_halo(bounding(windows), model.halo, height, width)
        part = cropped(plan, box)
        model = model.with_denoiser(
            RegionalDenoiser(
                model.denoiser, [_within(w, box) for w in windows], model.halo, meter.piece
            )
        )
    # Empty, so that it takes up memory sample by sample, each after its run and that run's peak.
    results = plan.image.new_empty(len(plan.seeds), *plan.image.shape[1:])
    steps = len(model.path(part)) if isinstance(model, DenoiserModel) else 1
    for sample, seed in enumerate(plan.seeds):
        meter.begin(sample, steps)
        noise = PositionalNoise((seed,), model.channels, height, width, box)
        moved = model.run(replace(part, seeds=(seed,)), noise, stepped)
        results[sample] = plan.image[0]
        crop_map(results, box)[sample] = moved[0]
        meter.finish()
    return results


def _active_windows(plan: Plan, model: DenoiserModel, halo: int, tile: int) -> list[Window]:
    """Windows over the pixels that the plan moves."""
    active = (plan.start(model.sigma) > plan.target).expand(1, 1, *plan.image.shape[-2:])[0, 0]
    return windows_over(active, stride=model.stride, halo=halo, tile=tile)


def _within(window: Window, box: Window) -> Window:
    """A window of the picture in the coordinates of a box around it."""
    top, left = window.top - box.top, window.left - box.left
    return Window(top, left, top + window.height, left + window.width)
