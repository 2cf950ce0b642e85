"""The networks that are trained here: our U-Net, and that of Diffusers behind the same face."""

from __future__ import annotations

import difflib
import inspect
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from torch import Tensor, nn

from ..core.grid import to_whole_strides
from ..errors import InputError
from ..nn import Conditions, SigmaMapUNet, UNetConfig, channels_last
from .optional import diffusers_for

__all__ = ["Network", "NetworkConfig", "UNet2D", "UNet2DConfig", "build_network", "parse_network"]

OF_DATA = frozenset(
    {"in_channels", "out_channels", "sample_size", "num_class_embeds", "class_embed_type"}
)
"""Arguments of a `UNet2DModel` that follow from the data."""


@dataclass(frozen=True)
class UNet2DConfig:
    """Shape of a Diffusers `UNet2DModel`.

    Attributes:
        options: its arguments, but for those that follow from the data.
        in_channels: image channels.
        classes: number of classes to condition on, 0 for none.
        sample_size: side of the training pictures, in pixels.

    Raises:
        InputError: for options that it does not know.
    """

    options: dict[str, Any] = field(default_factory=dict)
    in_channels: int = 3
    classes: int = 0
    sample_size: int = 32

    def __post_init__(self) -> None:
        kind = diffusers_for("a UNet2DModel").UNet2DModel
        known = set(inspect.signature(kind.__init__).parameters) - {"self"} - OF_DATA
        for name in self.options:
            if name not in known:
                near = difflib.get_close_matches(name, known, n=1)
                hint = f"did you mean '{near[0]}'?" if near else "see its documentation"
                raise InputError(f"UNet2DModel knows no '{name}' that may be set here: {hint}")

    @property
    def stride(self) -> int:
        """Pixels per cell of the coarsest scale."""
        scales = self.options.get("block_out_channels", (0, 0, 0, 0))
        return int(2 ** (len(scales) - 1))

    @property
    def local(self) -> bool:
        """Its normalisation looks at the whole picture."""
        return False


NetworkConfig = UNetConfig | UNet2DConfig


class UNet2D(nn.Module):
    """A `UNet2DModel` called as our networks are, with one level for each picture.

    Raises:
        InputError: options that Diffusers refuses.
    """

    LEVEL_SCALE = 1000.0
    """Its embedding tells numbers of the size of timesteps apart: levels are told times this."""

    def __init__(self, config: UNet2DConfig, *, timesteps: bool = False) -> None:
        super().__init__()
        self.config = config
        self.scale = 1.0 if timesteps else self.LEVEL_SCALE
        time = config.options.get("time_embedding_type", "positional")
        if time == "fourier" or (time == "learned" and not timesteps):
            what = "noise levels" if time == "fourier" else "timesteps of a table"
            raise InputError(
                f"a UNet2DModel of time_embedding_type '{time}' is told {what}, which this one is "
                "not: leave time_embedding_type out of network.diffusers"
            )
        self.whole_times = time == "learned"
        try:
            self.unet = diffusers_for("a UNet2DModel").UNet2DModel(
                **config.options,
                in_channels=config.in_channels,
                out_channels=config.in_channels,
                sample_size=config.sample_size,
                # One more for "not known", where guidance needs it.
                num_class_embeds=config.classes + 1 if config.classes else None,
            )
        except (TypeError, ValueError) as error:
            raise InputError(
                f"UNet2DModel cannot be made of {config.options} ({error}): mend network.diffusers"
            ) from None

    def forward(
        self,
        x: Tensor,
        c_noise: Tensor,
        conditions: Conditions = Conditions(),  # noqa: B008 (immutable)
    ) -> Tensor:
        """As `SigmaMapUNet.forward`, but for one level a picture.

        Raises:
            InputError: a map of levels.
        """
        low, high = c_noise.amin((1, 2, 3)), c_noise.amax((1, 2, 3))
        if c_noise.shape[2:] != (1, 1) and not bool((low == high).all()):
            raise InputError(
                "this network takes one noise level for each picture but the σ-map varies within "
                "one: wrap its denoiser in core.lift"
            )
        labels = conditions.labels
        if self.config.classes and labels is None:
            labels = c_noise.new_full((len(x),), self.config.classes).long()
        height, width = x.shape[-2:]
        whole = to_whole_strides(x, self.config.stride)
        told = (self.scale * high).expand(len(x))
        told = told.round().long() if self.whole_times else told
        named = {"class_labels": labels.expand(len(x))} if labels is not None else {}
        out: Tensor = self.unet(whole, told, return_dict=False, **named)[0]
        return out[..., :height, :width]

    def residual_kernels(self) -> list[Tensor]:
        """None: the optimizer of its authors' recipes moves all weights alike."""
        return []

    def checkpoint_gradients(self) -> None:
        """Compute activations anew when going back, for less memory."""
        self.unet.enable_gradient_checkpointing()

    @property
    def halo(self) -> int | None:
        """None: it is not local."""
        return None


Network = SigmaMapUNet | UNet2D


def build_network(config: NetworkConfig, *, timesteps: bool = False) -> Network:
    """A fresh network.

    Args:
        config: its shape.
        timesteps: whether it is told timesteps, see `Parametrization.told`.
    """
    if isinstance(config, UNetConfig):
        return channels_last(SigmaMapUNet(config))
    return channels_last(UNet2D(config, timesteps=timesteps))


def network_json(config: NetworkConfig) -> dict[str, Any]:
    """The shape for a model description."""
    kind = {} if isinstance(config, UNetConfig) else {"kind": "UNet2DModel"}
    return kind | asdict(config)


def parse_network(raw: dict[str, Any]) -> NetworkConfig:
    """What `network_json` gave; raises TypeError or ValueError for anything else."""
    raw = dict(raw)
    kind = raw.pop("kind", "SigmaMapUNet")
    if kind == "UNet2DModel":
        return UNet2DConfig(**raw)
    if kind != "SigmaMapUNet":
        raise ValueError(f"the network is a {kind!r}, which is not known")
    unknown = raw.keys() - {entry.name for entry in fields(UNetConfig)}
    if unknown:
        raise ValueError(f"the network has an unknown '{min(unknown)}'")
    return UNetConfig(**raw)
