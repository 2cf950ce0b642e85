"""Small `UNet2DModel`s for tests."""

from __future__ import annotations

from typing import Any

OPTIONS: dict[str, Any] = {
    "block_out_channels": [8, 16],
    "norm_num_groups": 4,
    "layers_per_block": 1,
    "attention_head_dim": 4,
    "down_block_types": ["DownBlock2D", "AttnDownBlock2D"],
    "up_block_types": ["AttnUpBlock2D", "UpBlock2D"],
}
