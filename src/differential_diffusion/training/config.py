"""The training configuration: one typed tree, and what a run builds of it."""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PositiveFloat,
    PositiveInt,
    field_validator,
    model_validator,
)
from typing_extensions import Self

from ..core.noise import SigmaFields
from ..core.parametrization import Schedule
from ..data.crops import Cut, Symmetries
from ..data.images import Labels
from ..errors import InputError, on_one_line
from ..models.network import UNet2DConfig
from ..nn import UNetConfig
from .objectives import (
    OBJECTIVES,
    RANGES,
    WEIGHTS,
    Betas,
    FlowTimes,
    Levels,
    LinearSDE,
    LogNormal,
    LogUniform,
    Loss,
    Objective,
    squared_error,
)

Precision = Literal["auto", "fp32", "bf16", "fp64"]
Shape = UNetConfig | UNet2DConfig
Decay = Annotated[float, Field(ge=0, lt=1)]


class Section(BaseModel):
    """A part of a configuration: unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class DataConfig(Section):
    """Where the pictures are, how they are cut, and what the network is told of them.

    `path` is a folder, a tar file, a folder of tar shards, a folder that `datasets` saved, or
    "hub:organisation/name"; relative to the working directory. `validation` pictures are held out
    by the hash of their names, or that share of them if it is below 1. `cut` takes squares of
    `patch_size` pixels out of the pictures ("crop"), or brings pictures to that size first ("fit").
    `unlabelled` is the folder, or class, of pictures whose class is not known. `vectors` is a CSV
    file with the name of each picture and numbers; `pictures` a folder with a picture of the same
    name and size for each, of `picture_channels` channels. `workers` processes read ahead.
    """

    path: str
    split: str = "train"
    validation: float = Field(16, gt=0)
    patch_size: int = Field(64, ge=4)
    cut: Cut = "crop"
    channels: int = Field(3, ge=1)
    labels: Labels = "none"
    unlabelled: str | None = None
    symmetries: Symmetries = "all"
    augmentation: float = Field(0.0, ge=0, le=1)
    vectors: Path | None = None
    pictures: Path | None = None
    picture_channels: int = Field(3, ge=1)
    max_skipped: float = Field(0.1, ge=0, le=1)
    workers: int = Field(0, ge=0)

    @field_validator("validation")
    @classmethod
    def _number_or_share(cls, value: float) -> float:
        if value < 1:
            return value
        if value != int(value):
            raise ValueError("give a whole number of pictures, or a share below 1")
        return int(value)


class NetworkConfig(Section):
    """Shape of the U-Net, see `nn.UNetConfig`; or the arguments of a `UNet2DModel` of Diffusers."""

    channels: tuple[int, ...] = (64, 128, 160)
    blocks: tuple[int, ...] = (2, 2, 4)
    patch: int = Field(2, ge=1)
    embedding_channels: int = Field(32, ge=1)
    sigma_features: int = Field(8, ge=1)
    attention: tuple[int, ...] = ()
    context: bool = False
    dropout: float = Field(0.0, ge=0, lt=1)
    diffusers: dict[str, Any] | None = None

    def build(self, **of_data: Any) -> Shape:
        """As the network takes it.

        Args:
            of_data: what follows from the data: in_channels, classes, and so on.
        """
        own = self.model_dump(exclude={"diffusers"})
        return UNetConfig(**own, **of_data)


class ObjectiveConfig(Section):
    """What is learnt, see `training.objectives`.

    `maps` has the level vary over a picture, as strength maps need it; without, there is one level
    for each. `weight` is one of `WEIGHTS`, by default that of the objective's paper ("balanced" for
    EDM). `loss` is a function of yours, "package.module:function", given a `Regression` and giving
    a loss for each picture. `condition_dropout` is how often class, numbers and picture are
    withheld, so that samples can be guided.

    What is left out of the rest is as in the objective's paper: `schedule` and the number of
    `timesteps` are those of a table of betas ("ddpm", "x0", "v"); `betas` β_min and β_max of an SDE
    ("vp", "sub-vp"); `levels` the number of levels of "dsm"; `times` the law of t in "flow",
    whose logit then has `noise.mean` and `noise.deviation`, or 0 and 1.
    """

    name: Literal["ddpm", "x0", "v", "dsm", "ve", "vp", "sub-vp", "edm", "flow"] = "edm"
    maps: bool = True
    weight: str | None = None
    loss: str | None = None
    condition_dropout: float = Field(0.1, ge=0, le=1)
    schedule: Schedule | None = None
    timesteps: int | None = Field(None, ge=2, le=100_000)
    betas: tuple[PositiveFloat, PositiveFloat] | None = None
    levels: int | None = Field(None, ge=2)
    times: Literal["uniform", "logit-normal"] | None = None

    @field_validator("weight")
    @classmethod
    def _known_weight(cls, value: str | None) -> str | None:
        if value is not None and value not in WEIGHTS:
            raise ValueError(f"the weight must be one of {', '.join(WEIGHTS)}")
        return value

    @field_validator("betas")
    @classmethod
    def _rising_betas(cls, value: tuple[float, float] | None) -> tuple[float, float] | None:
        if value is not None and value[0] >= value[1]:
            raise ValueError("the first of betas must be below the second")
        return value


class NoiseConfig(Section):
    """The law of levels and σ fields, see `core.noise.SigmaFields`.

    `mean` and `deviation` are those of ln σ in EDM, by default -1.4 and 1.2; other objectives have
    laws of their own.
    `sigma_min` and `sigma_max` are by default those of the objective (0.002 and 20 for EDM).
    `coloured` is the probability that a picture of noise below σ = 1 carries noise such as
    cameras leave, see `core.noise.CameraNoise`, in place of white noise; by default 0.25 for EDM
    with maps of pixels, which restores photographs, else 0.
    """

    uniform: float = Field(0.5, ge=0)
    smooth: float = Field(0.2, ge=0)
    holes: float = Field(0.2, ge=0)
    paths: float = Field(0.1, ge=0)
    mean: float | None = None
    deviation: float | None = Field(None, ge=0)
    spread: float = Field(1.2, ge=0)
    sigma_min: float | None = Field(None, gt=0)
    sigma_max: float | None = Field(None, gt=0)
    coloured: float | None = Field(None, ge=0, le=1)


class OptimizerConfig(Section):
    """Optimizer and schedule: warm-up, a plateau, and a cosine to zero over the last `decay`.

    "muon" moves the 3x3 kernels of the residual blocks by orthogonalised momentum and the rest
    by AdamW; "adamw" moves all by AdamW. ``decay: 1`` is the plain warm-up and cosine.
    `ema_halflife` is counted in steps; it grows from zero (at most a tenth of the steps done).
    """

    name: Literal["muon", "adamw"] = "muon"
    learning_rate: float = Field(1e-3, gt=0)
    betas: tuple[Decay, Decay] = (0.9, 0.99)
    weight_decay: float = Field(0.01, ge=0)
    muon_learning_rate: float = Field(0.005, gt=0)
    muon_weight_decay: float = Field(0.1, ge=0)
    warmup_steps: int = Field(200, ge=0)
    decay: float = Field(1.0, gt=0, le=1)
    max_grad_norm: float = Field(1.0, gt=0)
    ema_halflife: float = Field(500.0, gt=0)


class JudgingConfig(Section):
    """How a run judges itself, every so many steps.

    `pictures` is how many of the held-out pictures, and of the training pictures for comparison,
    are looked at. Training ends early when the loss on held-out pictures has not fallen for
    `patience` validations (0: never), and the weights that had the least of it are the result.
    """

    every: int = Field(1000, ge=1)
    pictures: int = Field(256, ge=1)
    patience: int = Field(0, ge=0)


class ValidationConfig(JudgingConfig):
    """The loss and denoising PSNR on held-out pictures, and samples.

    A model of latents has no PSNR, since its noise is not that of pictures.
    """

    noise_levels_8bit: tuple[PositiveFloat, ...] = (15.0, 25.0, 50.0)
    crop: int = Field(256, ge=4)
    sample_steps: int = Field(20, ge=1)


class CheckpointConfig(Section):
    """A checkpoint every so many steps; the newest `keep` stay, and those at `keep_steps`."""

    every: int = Field(500, ge=1)
    keep: int = Field(2, ge=1)
    keep_steps: tuple[PositiveInt, ...] = ()


class TrackingConfig(Section):
    """Where the figures of a run go besides metrics.jsonl."""

    trackers: tuple[Literal["tensorboard", "wandb"], ...] = ()
    project: str = "differential-diffusion"


class LatentConfig(Section):
    """Train on the latents of a codec in place of pixels, see `training.latents`.

    `codec` is a folder of an `AutoencoderKL`, such as `final` of a run of `kind: codec`, or an id
    on the hub. `cache` is where latents are kept, by default the folder `latents` of the output;
    several runs may share one.
    """

    codec: str
    cache: Path | None = None


class RunConfig(Section):
    """What every run depends on.

    `batch_size` counts the pictures of a step, over all processes and `accumulation` turns.
    """

    output: Path
    data: DataConfig
    steps: int = Field(ge=1)
    batch_size: int = Field(16, ge=1)
    accumulation: int = Field(1, ge=1)
    seed: int = Field(0, ge=0)
    precision: Precision = "auto"
    compile: bool = False
    gradient_checkpointing: bool = False
    init_from: Path | None = None
    optimizer: OptimizerConfig = OptimizerConfig()
    validation: JudgingConfig = JudgingConfig()
    checkpoint: CheckpointConfig = CheckpointConfig()
    tracking: TrackingConfig = TrackingConfig()

    @model_validator(mode="after")
    def _check_turns(self) -> Self:
        if self.batch_size % self.accumulation:
            raise ValueError(
                f"batch_size {self.batch_size} is no multiple of accumulation {self.accumulation}"
            )
        return self


class TrainingConfig(RunConfig):
    """Everything that training a denoiser depends on."""

    kind: Literal["denoiser"] = "denoiser"
    latent: LatentConfig | None = None
    sigma_data: float = Field(0.5, gt=0)
    network: NetworkConfig = NetworkConfig()
    objective: ObjectiveConfig = ObjectiveConfig()
    noise: NoiseConfig = NoiseConfig()
    validation: ValidationConfig = ValidationConfig()

    @model_validator(mode="after")
    def _check_built(self) -> TrainingConfig:
        self.goal()
        self.fields()
        self.shape()
        refused = {
            "data.augmentation": self.data.augmentation > 0,
            "data.pictures": self.data.pictures is not None,
            "noise.coloured": bool(self.noise.coloured),
        }
        for name, given in refused.items():
            if given and self.latent is not None:
                raise ValueError(f"{name} is not for latents: leave it out")
        for name, why in self._without_effect().items():
            section, key = name.split(".")
            chosen = getattr(self, section)
            if getattr(chosen, key) != type(chosen).model_fields[key].default:
                raise ValueError(f"{name} is without effect {why}: leave it out")
        self._check_range()
        return self

    def _without_effect(self) -> dict[str, str]:
        """Settings that nothing heeds, and why."""
        name, levels = self.objective.name, OBJECTIVES[self.objective.name].levels
        normal = name == "edm" or self.objective.times == "logit-normal"
        of_objective = {
            "schedule": Betas, "timesteps": Betas, "betas": LinearSDE, "times": FlowTimes,
        }  # fmt: skip
        unused = {
            f"objective.{key}": f"on the objective '{name}'"
            for key, kind in of_objective.items()
            if not isinstance(levels, kind)
        }
        if not (isinstance(levels, LogUniform) and levels.levels):
            unused["objective.levels"] = f"on the objective '{name}'"
        if not normal:
            law = f"on the objective '{name}', which has a law of its own"
            unused |= {"noise.mean": law, "noise.deviation": law}
        if not self.objective.maps:
            fields = ("uniform", "smooth", "holes", "paths", "spread")
            unused |= {f"noise.{key}": "without objective.maps" for key in fields}
        if self.optimizer.name == "adamw":
            muon = ("muon_learning_rate", "muon_weight_decay")
            unused |= {f"optimizer.{key}": "on adamw" for key in muon}
        if self.data.augmentation > 0:
            unused["data.symmetries"] = "beside data.augmentation, which replaces it"
        if self.data.labels == "none":
            unused["data.unlabelled"] = "without data.labels"
        if self.data.pictures is None:
            unused["data.picture_channels"] = "without data.pictures"
        if self.data.channels != 3 and self.noise.coloured != 0:
            unused["noise.coloured"] = "where data.channels is not 3"
        return unused

    def _check_range(self) -> None:
        """That a model of one level a picture is sampled from levels that it learns."""
        reach, (_, high) = self.goal().levels.reach, self.sigma_range
        if not self.objective.maps and high > 1.001 * reach:
            raise ValueError(
                f"noise.sigma_max {high:g} is beyond the largest level that "
                f"'{self.objective.name}' learns, {reach:.4g}: lower it"
            )

    def shape(
        self,
        classes: int = 0,
        vector: int = 0,
        condition_channels: int = 0,
        channels: int | None = None,
        cell: int = 1,
    ) -> Shape:
        """The network, given what the data tell.

        Args:
            classes, vector, condition_channels: see `nn.UNetConfig`.
            channels: of latents; those of the pictures by default.
            cell: pixels a side of what the network takes for a pixel.

        Raises:
            ValueError: if the network cannot be told that, or squares are no multiple of its
                stride.
        """
        shape = self._shape(classes, vector, condition_channels, channels, cell)
        if self.data.patch_size % (shape.stride * cell):
            raise ValueError(
                f"data.patch_size {self.data.patch_size} is no multiple of {shape.stride * cell}"
            )
        return shape

    def _shape(
        self, classes: int, vector: int, condition_channels: int, channels: int | None, cell: int
    ) -> Shape:
        data, diffusers = self.data, self.network.diffusers
        channels = data.channels if channels is None else channels
        if diffusers is None:
            return self.network.build(
                in_channels=channels,
                classes=classes,
                vector=vector,
                condition_channels=condition_channels,
                augmented=data.augmentation > 0,
            )
        own = NetworkConfig(diffusers=diffusers)
        for name in NetworkConfig.model_fields:
            if getattr(own, name) != getattr(self.network, name):
                raise ValueError(f"network.{name} is not for a network of Diffusers: leave it out")
        refused = {
            "objective.maps": self.objective.maps,
            "data.augmentation": data.augmentation > 0,
            "data.vectors": data.vectors is not None,
            "data.pictures": data.pictures is not None,
        }
        for name, given in refused.items():
            if given:
                off = "false" if name == "objective.maps" else "out"
                verb = "set it to" if off == "false" else "leave it"
                raise ValueError(f"a network of Diffusers cannot be told of {name}: {verb} {off}")
        return UNet2DConfig(diffusers, channels, classes, data.patch_size // cell)

    @property
    def coloured(self) -> float:
        """How often noise is such as cameras leave."""
        restores = self.objective.name == "edm" and self.objective.maps and self.latent is None
        given = self.noise.coloured
        return given if given is not None else 0.25 * restores

    @property
    def sigma_range(self) -> tuple[float, float]:
        """The least and the largest level of the model."""
        low, high = RANGES[self.objective.name]
        levels = self._levels()
        if not isinstance(levels, LogUniform):
            high = min(high, levels.reach)
        return self.noise.sigma_min or low, self.noise.sigma_max or high

    def _levels(self) -> Levels:
        """The law of levels, with what the configuration sets of it."""
        levels, own = OBJECTIVES[self.objective.name].levels, self.objective
        given: dict[str, Any] = {}
        match levels:
            case Betas():
                given = {"schedule": own.schedule, "timesteps": own.timesteps}
            case LinearSDE() if own.betas is not None:
                given = {"beta_min": own.betas[0], "beta_max": own.betas[1]}
            case LogUniform():
                given = {"levels": own.levels}
            case LogNormal():
                given = {"mean": self.mean, "deviation": self.deviation}
            case FlowTimes():
                given = {
                    "law": own.times, "mean": self.noise.mean, "deviation": self.noise.deviation,
                }  # fmt: skip
        changed: Levels = replace(  # type: ignore[type-var]
            levels, **{key: value for key, value in given.items() if value is not None}
        )
        return changed

    @property
    def mean(self) -> float:
        """Of ln σ, in EDM."""
        return -1.4 if self.noise.mean is None else self.noise.mean

    @property
    def deviation(self) -> float:
        """Of ln σ, in EDM."""
        return 1.2 if self.noise.deviation is None else self.noise.deviation

    def goal(self) -> Objective:
        """The objective, with what the configuration sets of it.

        Raises:
            InputError: a loss that cannot be imported.
        """
        chosen, name = OBJECTIVES[self.objective.name], self.objective.name
        form = replace(chosen.form, sigma_data=self.sigma_data)
        levels = self._levels()
        if isinstance(levels, Betas):
            form = replace(form, schedule=levels.schedule, timesteps=levels.timesteps)
        if self.network.diffusers is not None and form.scaling == "preserving":
            form = replace(form, told="timestep")
        if isinstance(levels, LogUniform):
            low, high = self.sigma_range
            levels = replace(levels, sigma_min=low, sigma_max=high)
        weight = chosen.weight
        wanted = self.objective.weight or ("balanced" if name == "edm" else None)
        if wanted in ("balanced", "edm"):
            weight = partial(WEIGHTS[wanted], sigma_data=self.sigma_data)  # type: ignore[call-arg]
        elif wanted is not None:
            weight = WEIGHTS[wanted]
        error = squared_error if self.objective.loss is None else _imported(self.objective.loss)
        return Objective(form, levels, weight, error)

    def fields(self) -> SigmaFields:
        """The law of σ fields."""
        low, high = self.sigma_range
        own = self.noise.model_dump(include={"uniform", "smooth", "holes", "paths", "spread"})
        own |= {"mean": self.mean, "deviation": self.deviation}
        law = None if self.objective.name == "edm" else self.goal().levels.sample
        return SigmaFields(**own, sigma_min=low, sigma_max=high, law=law)


def _imported(path: str) -> Loss:
    """A function by its import path."""
    module, _, name = path.partition(":")
    if os.getcwd() not in sys.path:  # where commands are installed they do not look here
        sys.path.append(os.getcwd())
    try:
        found = getattr(import_module(module), name)
    except Exception as error:  # whatever a module may raise
        reason = on_one_line(f"{type(error).__name__}: {error}").rstrip(".")
        raise InputError(
            f"objective.loss '{path}' cannot be imported ({reason}): give "
            "'package.module:function' of an installed package or the working directory"
        ) from None
    if not callable(found):
        raise InputError(f"objective.loss '{path}' is no function: name one")
    loss: Loss = found
    return loss
