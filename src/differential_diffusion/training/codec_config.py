"""The configuration of a codec's training, `kind: codec`."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, model_validator

from .config import JudgingConfig, RunConfig, Section


class CodecNetworkConfig(Section):
    """Shape of an `AutoencoderKL`, see `models.autoencoder.build_autoencoder`.

    Each scale after the first halves the sides: three give cells of 4 x 4 pixels.
    """

    channels: tuple[int, ...] = Field((64, 128, 128), min_length=1)
    blocks: int = Field(1, ge=1)
    latent_channels: int = Field(4, ge=1)
    norm_groups: int = Field(32, ge=1)
    attention: bool = False

    @model_validator(mode="after")
    def _check_groups(self) -> CodecNetworkConfig:
        for width in self.channels:
            if width < 1 or width % self.norm_groups:
                raise ValueError(
                    f"network.channels has {width}, no multiple of norm_groups {self.norm_groups}"
                )
        return self

    def build(self, pixel_channels: int, side: int) -> dict[str, Any]:
        """The arguments of `build_autoencoder`.

        Args:
            pixel_channels: of the pictures.
            side: of the training squares, in pixels.
        """
        return {**self.model_dump(), "pixel_channels": pixel_channels, "side": side}


class CodecLossConfig(Section):
    """What a codec learns: the error of its pictures, and how little latents may tell.

    `reconstruction` is the mean absolute ("l1") or squared ("l2") error of a value in [-1,1].
    `kl` weighs the divergence of the posterior from N(0,1), summed over the latents of a picture
    and divided by its values; 1e-6 is that of Rombach et al. (2022).
    """

    reconstruction: Literal["l1", "l2"] = "l1"
    kl: float = Field(1e-6, ge=0)


class CodecConfig(RunConfig):
    """Everything that training a codec depends on.

    `init_from` is a folder of an `AutoencoderKL` of the same shape, or an id on the hub.
    """

    kind: Literal["codec"]
    network: CodecNetworkConfig = CodecNetworkConfig()
    loss: CodecLossConfig = CodecLossConfig()
    validation: JudgingConfig = JudgingConfig()

    @model_validator(mode="after")
    def _check_data(self) -> CodecConfig:
        data = self.data
        if data.patch_size % self.cell:
            raise ValueError(f"data.patch_size {data.patch_size} is no multiple of {self.cell}")
        given = {
            "labels": data.labels != "none",
            "unlabelled": data.unlabelled is not None,
            "augmentation": data.augmentation > 0,
            "vectors": data.vectors is not None,
            "pictures": data.pictures is not None,
        }
        for name, is_given in given.items():
            if is_given:
                raise ValueError(f"data.{name} is not for a codec: leave it out")
        return self

    @property
    def cell(self) -> int:
        """Pixels a side of a latent cell."""
        return int(2 ** (len(self.network.channels) - 1))
