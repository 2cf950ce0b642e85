"""Our own checkpoints: a JSON description beside one safetensors file of weights.

A checkpoint is a folder holding `config.json` and `model.safetensors`, or a safetensors file
with its configuration named apart.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save

from ..core.parametrization import Parametrization
from ..errors import InputError
from ..files import write_atomically
from .network import Network, NetworkConfig, build_network, network_json, parse_network

CONFIG_FILE, WEIGHTS_FILE = "config.json", "model.safetensors"
FORMAT = "differential-diffusion/1"


@dataclass(frozen=True)
class LatentSpace:
    """How latents are normalised: z = σ_data (y - mean) / deviation, y being the codec's own.

    Attributes:
        mean, deviation: one number for each channel.
    """

    mean: tuple[float, ...]
    deviation: tuple[float, ...]

    def __post_init__(self) -> None:
        for name in ("mean", "deviation"):
            object.__setattr__(self, name, tuple(float(value) for value in getattr(self, name)))
        finite = all(abs(value) < float("inf") for value in (*self.mean, *self.deviation))
        if not finite or len(self.mean) != len(self.deviation) or min(self.deviation) <= 0:
            raise ValueError("the latents need a mean and a positive deviation for each channel")


@dataclass(frozen=True)
class CheckpointConfig:
    """What the weights need besides themselves.

    Attributes:
        network: shape of the network.
        form: what it is given and predicts.
        sigma_min, sigma_max, rho: the strength-to-σ scale.
        s_noise: scale of the noise that stochastic solvers renew, see `DenoiserModel`.
        maps: whether it was trained on maps of levels, or on one level for each picture.
        classes: names of its classes.
        size: height and width of the pictures that it was trained on, in pixels.
        latent: how the latents that it works on are normalised; None if it works on pixels. The
            codec lies in the folder `codec` beside the description.
        card: figures and provenance, free-form.
    """

    network: NetworkConfig
    form: Parametrization = field(default_factory=Parametrization)
    sigma_min: float = 0.002
    sigma_max: float = 20.0
    rho: float = 7.0
    s_noise: float = 1.0
    maps: bool = True
    classes: tuple[str, ...] = ()
    size: tuple[int, int] | None = None
    latent: LatentSpace | None = None
    card: dict[str, Any] = field(default_factory=dict)

    def to_json(self) -> str:
        """The description as text."""
        described = asdict(self) | {"network": network_json(self.network)}
        return json.dumps({"format": FORMAT, **described}, indent=2) + "\n"

    def _check(self) -> None:
        numbers = {
            name: getattr(self, name) for name in ("sigma_min", "sigma_max", "rho", "s_noise")
        }
        for name, value in {**numbers, "sigma_data": self.form.sigma_data}.items():
            if not isinstance(value, int | float) or not 0 < value < float("inf"):
                raise ValueError(f"{name} is {value!r}, not a positive number")
        if self.latent is not None and len(self.latent.mean) != self.network.in_channels:
            raise ValueError(
                f"the latents have {len(self.latent.mean)} channels, the network "
                f"{self.network.in_channels}"
            )
        if self.sigma_min >= self.sigma_max:
            raise ValueError(f"sigma_min {self.sigma_min} is not below sigma_max {self.sigma_max}")

    @classmethod
    def from_json(cls, text: str, source: Path) -> CheckpointConfig:
        """Parse; raises InputError naming `source` if it is not ours."""
        try:
            raw = json.loads(text)
            of_ours = raw.pop("format") == FORMAT
            config = cls._parse(raw) if of_ours else None
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise InputError(
                f"'{source}' is not a model description of ours ({error}): point to the "
                "config.json that was saved with the weights"
            ) from None
        if config is None:
            raise InputError(f"'{source}' is not of the format {FORMAT}: update the package")
        return config

    @classmethod
    def _parse(cls, raw: dict[str, Any]) -> CheckpointConfig:
        # Descriptions from before there was a choice are of EDM's form.
        form = raw.pop("form", None) or {"sigma_data": raw.pop("sigma_data", 0.5)}
        raw["network"], raw["form"] = parse_network(raw["network"]), Parametrization(**form)
        raw["classes"] = tuple(raw.get("classes", ()))
        raw["size"] = tuple(raw["size"]) if raw.get("size") else None
        raw["latent"] = LatentSpace(**raw["latent"]) if raw.get("latent") else None
        config = cls(**raw)
        config._check()
        return config


def save_checkpoint(
    folder: Path, network: Network, config: CheckpointConfig, dtype: torch.dtype
) -> None:
    """Write `config.json` and `model.safetensors` into `folder`, each atomically."""
    folder.mkdir(parents=True, exist_ok=True)
    weights = {k: v.detach().to("cpu", dtype).contiguous() for k, v in network.state_dict().items()}
    write_atomically(folder / WEIGHTS_FILE, save(weights))
    write_atomically(folder / CONFIG_FILE, config.to_json().encode())


def load_checkpoint(weights: Path, config: Path | None = None) -> tuple[Network, CheckpointConfig]:
    """Load a folder, or a safetensors file with its `config`, as an eval-mode float32 network.

    Raises:
        InputError: if a file is missing, damaged, or the two do not belong together.
    """
    if weights.is_dir():
        weights, config = weights / WEIGHTS_FILE, config or weights / CONFIG_FILE
    if config is None:
        config = weights.with_suffix(".json")
    for path in (weights, config):
        if not path.is_file():
            raise InputError(
                f"'{path}' does not exist: a checkpoint is a folder with {CONFIG_FILE} and "
                f"{WEIGHTS_FILE}, or a .safetensors file with config= (of a pipeline of Diffusers, "
                "a folder with its model_index.json)"
            )
    try:
        described = CheckpointConfig.from_json(config.read_text(encoding="utf-8"), config)
        tensors = load_file(weights)
    except (OSError, UnicodeDecodeError, SafetensorError) as error:
        raise InputError(f"'{weights}' cannot be read as safetensors weights ({error})") from None
    network = build_network(described.network, timesteps=described.form.told == "timestep")
    try:
        network.load_state_dict({k: v.float() for k, v in tensors.items()})
    except RuntimeError as error:
        reason = str(error).splitlines()[-1].strip()
        raise InputError(f"the weights '{weights}' do not fit '{config}' ({reason})") from None
    return network.eval(), described
