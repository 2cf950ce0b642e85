"""Autoencoders of Diffusers (`AutoencoderKL`): loading, building, and training their weights.

(Kingma and Welling, "Auto-Encoding Variational Bayes", 2014; Rombach et al., "High-Resolution Image
Synthesis with Latent Diffusion Models", 2022, for this network.)
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from ..errors import InputError, on_one_line
from .diffusers import CONFIG_FILE, check_weights
from .optional import diffusers_for

__all__ = [
    "AutoencoderNetwork",
    "build_autoencoder",
    "cell_of",
    "fingerprint",
    "load_autoencoder",
]

KIND = "AutoencoderKL"
PARTS = ("", "vae", "codec")
"""Folders that may hold an autoencoder: its own, a pipeline's, and a latent checkpoint's."""

_HUB_ID = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*")


def load_autoencoder(reference: str | Path) -> Any:
    """An `AutoencoderKL`, in float32 on the CPU, not to be trained.

    Args:
        reference: a folder that `save_pretrained` wrote, one of a pipeline or of a latent
            checkpoint, which hold one; or an id on the hub such as "org/name".

    Raises:
        InputError: if there is none, it is of another kind, or its files are damaged.
        MissingExtraError: without Diffusers.
    """
    kind, path = diffusers_for("a codec").AutoencoderKL, Path(reference).expanduser()
    if path.is_dir():
        folder = _folder_of(path)
        check_weights(folder)
        places: list[dict[str, Any]] = [{"local_files_only": True}]
        reference = folder
    elif _HUB_ID.fullmatch(str(reference)) and not path.exists():
        places = [{}, {"subfolder": "vae"}]
    else:
        raise InputError(
            f"the codec '{reference}' does not exist: give a folder of an {KIND}, or an id on the "
            "hub such as 'org/name'"
        )
    reason = ""
    for place in places:
        try:
            vae, found = kind.from_pretrained(
                str(reference), use_safetensors=True, output_loading_info=True, **place
            )
        except Exception as error:  # of the hub, of files, of shapes: a dozen kinds
            reason = reason or on_one_line(str(error))[:300]
            continue
        wrong = [*found["missing_keys"], *found["unexpected_keys"]]
        if not wrong:
            return vae.float().eval().requires_grad_(False)
        reason = f"'{wrong[0]}' is missing or not known"
    raise InputError(f"the codec '{reference}' cannot be loaded ({reason}): check its files")


def _folder_of(path: Path) -> Path:
    """The folder that holds the autoencoder itself."""
    found = ""
    for folder in (path / part for part in PARTS):
        try:
            described = json.loads((folder / CONFIG_FILE).read_text(encoding="utf-8"))
            found = found or str(described.get("_class_name", ""))
            if described.get("_class_name") == KIND:
                return folder
        except (OSError, ValueError, AttributeError):
            continue
    held = f"a {found}" if found else f"no {CONFIG_FILE} of an {KIND}"
    raise InputError(f"the codec '{path}' holds {held}: give a folder of an {KIND}")


def build_autoencoder(
    *,
    channels: Sequence[int],
    blocks: int,
    latent_channels: int,
    norm_groups: int,
    attention: bool,
    pixel_channels: int,
    side: int,
) -> Any:
    """A fresh `AutoencoderKL`, whose cells are 2^(scales - 1) pixels a side.

    Args:
        channels: width at each scale, finest first.
        blocks: residual blocks at each scale on the way down; one more on the way up.
        latent_channels: numbers in each cell.
        norm_groups: groups that its normalisation takes; all widths are multiples of it.
        attention: look at the whole picture at the coarsest scale.
        pixel_channels: of the pictures.
        side: of the training pictures, in pixels.

    Raises:
        InputError: for a shape that Diffusers refuses.
        MissingExtraError: without Diffusers.
    """
    try:
        return diffusers_for("a codec").AutoencoderKL(
            in_channels=pixel_channels,
            out_channels=pixel_channels,
            block_out_channels=tuple(channels),
            down_block_types=("DownEncoderBlock2D",) * len(channels),
            up_block_types=("UpDecoderBlock2D",) * len(channels),
            layers_per_block=blocks,
            latent_channels=latent_channels,
            norm_num_groups=norm_groups,
            mid_block_add_attention=attention,
            sample_size=side,
            force_upcast=False,
        )
    except (TypeError, ValueError) as error:
        raise InputError(f"no {KIND} of this shape can be made ({error}): mend network") from None


def cell_of(vae: Any) -> int:
    """Pixels a side of a latent cell."""
    return int(2 ** (len(vae.config.block_out_channels) - 1))


def fingerprint(vae: Any) -> str:
    """What tells one autoencoder from another: its weights, wherever they were read from."""
    digest = hashlib.sha256()
    for name, weights in sorted(vae.state_dict().items()):
        digest.update(f"{name} {tuple(weights.shape)}".encode())
        digest.update(weights.detach().cpu().float().contiguous().numpy().tobytes())
    return digest.hexdigest()


class AutoencoderNetwork(nn.Module):
    """An `AutoencoderKL` as training calls it.

    Attributes:
        vae: the autoencoder.
    """

    def __init__(self, vae: Any) -> None:
        super().__init__()
        self.vae = vae

    def forward(self, x: Tensor, noise: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Pixels decoded from y = μ + s ε, and μ and ln s² of the posterior.

        Args:
            x: (B,C,H,W) in [-1,1].
            noise: ε, of the shape of the latents; 0 for their mean.
        """
        law = self.vae.encode(x).latent_dist
        made: Tensor = self.vae.decode(law.mean + law.std * noise).sample
        return made, law.mean, law.logvar

    def residual_kernels(self) -> list[Tensor]:
        """The 3x3 kernels of all residual blocks: the bulk of the weights."""
        blocks: list[Any] = [
            module for module in self.modules() if type(module).__name__ == "ResnetBlock2D"
        ]
        return [conv.weight for block in blocks for conv in (block.conv1, block.conv2)]

    def checkpoint_gradients(self) -> None:
        """Compute activations anew when going back, for less memory."""
        self.vae.enable_gradient_checkpointing()
