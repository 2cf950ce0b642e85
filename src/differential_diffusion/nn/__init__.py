"""Networks: residual blocks, the σ-map embedding, and the local U-Net."""

from .blocks import ResidualBlock, SigmaEmbedding
from .unet import SigmaMapUNet, UNetConfig, channels_last

__all__ = ["ResidualBlock", "SigmaEmbedding", "SigmaMapUNet", "UNetConfig", "channels_last"]
