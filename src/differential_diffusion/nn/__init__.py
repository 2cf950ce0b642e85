"""Networks: residual blocks, the σ-map embedding, conditions, and the U-Net."""

from .blocks import ResidualBlock, SigmaEmbedding
from .conditions import AUGMENTATIONS, Conditions
from .unet import SigmaMapUNet, UNetConfig, channels_last

__all__ = [
    "AUGMENTATIONS",
    "Conditions",
    "ResidualBlock",
    "SigmaEmbedding",
    "SigmaMapUNet",
    "UNetConfig",
    "channels_last",
]
