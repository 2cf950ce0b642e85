"""The training configuration: one typed tree, read from YAML, with errors that name the key."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, ValidationError, model_validator

from ..core.noise import SigmaFields
from ..errors import InputError
from ..nn import UNetConfig

Precision = Literal["auto", "fp32", "bf16"]
Decay = Annotated[float, Field(ge=0, lt=1)]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class DataConfig(_Section):
    """Where the pictures are and how they are cut.

    `path` is a folder or a tar file, relative to the working directory; `validation` pictures
    are held out by the hash of their names.
    """

    path: Path
    validation: int = Field(16, ge=1)
    patch_size: int = Field(64, ge=8)
    workers: int = Field(0, ge=0)


class NetworkConfig(_Section):
    """Shape of the U-Net, see `nn.UNetConfig`."""

    channels: tuple[int, ...] = (64, 128, 160)
    blocks: tuple[int, ...] = (2, 2, 4)
    patch: int = Field(2, ge=1)
    embedding_channels: int = Field(32, ge=1)
    sigma_features: int = Field(8, ge=1)

    def build(self) -> UNetConfig:
        """As the network takes it."""
        return UNetConfig(**self.model_dump())


class NoiseConfig(_Section):
    """The law of σ fields, see `core.noise.SigmaFields`.

    `coloured` is the probability that a picture of noise below σ = 1 carries noise such as
    cameras leave, see `core.noise.camera_noise`, in place of white noise.
    """

    uniform: float = Field(0.5, ge=0)
    smooth: float = Field(0.2, ge=0)
    holes: float = Field(0.2, ge=0)
    paths: float = Field(0.1, ge=0)
    mean: float = -1.4
    deviation: float = Field(1.2, ge=0)
    spread: float = Field(1.2, ge=0)
    sigma_min: float = Field(0.002, gt=0)
    sigma_max: float = Field(20.0, gt=0)
    coloured: float = Field(0.25, ge=0, le=1)

    def build(self) -> SigmaFields:
        """As the sampler of fields."""
        return SigmaFields(**self.model_dump(exclude={"coloured"}))


class OptimizerConfig(_Section):
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


class ValidationConfig(_Section):
    """Denoising PSNR on the held-out pictures, and a grid of samples, every so many steps."""

    every: int = Field(1000, ge=1)
    noise_levels_8bit: tuple[PositiveFloat, ...] = (15.0, 25.0, 50.0)
    crop: int = Field(256, ge=16)
    sample_steps: int = Field(20, ge=1)


class CheckpointConfig(_Section):
    """A checkpoint every so many steps; the newest `keep` stay, and those at `keep_steps`."""

    every: int = Field(500, ge=1)
    keep: int = Field(2, ge=1)
    keep_steps: tuple[int, ...] = ()


class TrainingConfig(_Section):
    """Everything a training run depends on."""

    output: Path
    data: DataConfig
    steps: int = Field(ge=1)
    batch_size: int = Field(16, ge=1)
    seed: int = Field(0, ge=0)
    precision: Precision = "auto"
    compile: bool = False
    sigma_data: float = Field(0.5, gt=0)
    init_from: Path | None = None
    network: NetworkConfig = NetworkConfig()
    noise: NoiseConfig = NoiseConfig()
    optimizer: OptimizerConfig = OptimizerConfig()
    validation: ValidationConfig = ValidationConfig()
    checkpoint: CheckpointConfig = CheckpointConfig()

    @model_validator(mode="after")
    def _check_built(self) -> TrainingConfig:
        self.noise.build()
        stride = self.network.build().stride
        if self.data.patch_size % stride:
            raise ValueError(f"data.patch_size {self.data.patch_size} is no multiple of {stride}")
        return self


# What a resumed run may change: nothing of it decides what a step computes, but for `steps`
# (training longer) and the schedule that ends with them.
_FREE = {"output", "steps", "compile", "init_from", "validation", "checkpoint"}
_FREE_KEYS = {"data.path", "data.workers", "optimizer.decay"}


def changed_key(stored: dict[str, Any], config: TrainingConfig) -> str | None:
    """The first setting in which a run's stored configuration differs, as 'section.key'.

    Settings that a resumed run may change do not count; neither do keys that `stored` lacks.
    """
    now = config.model_dump(mode="json", exclude=_FREE)
    for section, value in now.items():
        before = stored.get(section, value)
        if not (isinstance(value, dict) and isinstance(before, dict)):
            if before != value:
                return section
            continue
        for name, entry in value.items():
            key = f"{section}.{name}"
            if key not in _FREE_KEYS and before.get(name, entry) != entry:
                return key
    return None


def load_config(path: str | Path, overrides: dict[str, Any] | None = None) -> TrainingConfig:
    """Read a YAML file as a `TrainingConfig`; `overrides` replace top-level keys.

    Raises:
        InputError: for a missing file, bad YAML, an unknown key (with the nearest known one)
            or a value out of range; one sentence that names the key.
    """
    path = Path(path)
    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not text"
        raise InputError(f"cannot read the configuration '{path}': {reason}") from None
    except (yaml.YAMLError, ValueError) as error:
        where = getattr(error, "problem_mark", None)
        line = f" at line {where.line + 1}" if where else ""
        raise InputError(
            f"'{path}' is not valid YAML{line}: check indentation and colons"
        ) from None
    if not isinstance(raw, dict):
        raise InputError(f"'{path}' must hold a mapping of settings such as 'steps: 1000'")
    try:
        return TrainingConfig.model_validate(raw | (overrides or {}))
    except ValidationError as error:
        raise InputError(f"in '{path}', {_explain(error)}") from None


def _explain(error: ValidationError) -> str:
    first = error.errors(include_url=False)[0]
    key = ".".join(str(part) for part in first["loc"]) or "the whole"
    if first["type"] == "extra_forbidden":
        section = _section(first["loc"][:-1])
        near = difflib.get_close_matches(str(first["loc"][-1]), section, n=1)
        hint = f"did you mean '{near[0]}'?" if near else f"known keys are {', '.join(section)}"
        return f"the key '{key}' is not known: {hint}"
    if first["type"] == "missing":
        return f"the key '{key}' is missing: add it"
    message = first["msg"].removeprefix("Value error, ")
    return (
        f"'{key}' is {first['input']!r}: {message[0].lower()}{message[1:]}"
        if first["loc"]
        else message
    )


def _section(location: tuple[int | str, ...]) -> list[str]:
    model: Any = TrainingConfig
    for part in location:
        model = model.model_fields[str(part)].annotation
    return list(model.model_fields)
