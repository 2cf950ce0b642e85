"""Extractors for tests: a tiny vision transformer, a stand-in for Inception, functions of ours."""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor, nn

SIDE = 32


def vision_model(folder: Path, *, seed: int = 0, head: bool = False, pooler: bool = True) -> Path:
    """A folder with a randomly initialised ViT and its processor."""
    from transformers import ViTConfig, ViTForImageClassification, ViTImageProcessorPil, ViTModel

    config = ViTConfig(
        hidden_size=12, num_hidden_layers=2, num_attention_heads=2, intermediate_size=16,
        image_size=SIDE, patch_size=8,
    )  # fmt: skip
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(seed)
        model: Any = ViTForImageClassification(config) if head else ViTModel(config, pooler)
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape), alpha=0.2)
    model.eval().save_pretrained(folder)
    ViTImageProcessorPil(size={"height": SIDE, "width": SIDE}).save_pretrained(folder)
    return folder


class Inception(nn.Module):
    """Stands for torch-fidelity's: says how it was made, and gives means of uint8 pictures."""

    made: tuple[Any, ...]

    def __init__(self, name: str, features: list[str], feature_extractor_weights_path: str) -> None:
        super().__init__()
        type(self).made = name, features, feature_extractor_weights_path

    def forward(self, x: Tensor) -> tuple[Tensor]:
        assert x.dtype == torch.uint8
        assert x.shape[1] == 3
        return (x.float().mean((2, 3)),)


def fake_inception(folder: Path, patch: pytest.MonkeyPatch) -> Path:
    """A file that passes for the published weights, with the stand-in to load it."""
    from differential_diffusion.evaluation import _inception

    weights = folder / "inception.pth"
    weights.write_bytes(b"weights")
    outer, inner = (
        ModuleType("torch_fidelity"),
        ModuleType("torch_fidelity.feature_extractor_inceptionv3"),
    )
    inner.FeatureExtractorInceptionV3 = Inception  # type: ignore[attr-defined]
    patch.setitem(sys.modules, outer.__name__, outer)
    patch.setitem(sys.modules, inner.__name__, inner)
    published = hashlib.sha256(b"weights").hexdigest()[:8]
    patch.setattr(_inception, "PUBLISHED", published)
    return weights


OWN = """
def brightness(x):
    return x.mean((2, 3))

def spoiled(x):
    return x.mean((2, 3)) / 0

def wrong(x):
    return x

number = 3
"""


def own_module(folder: Path, patch: pytest.MonkeyPatch, text: str = OWN, name: str = "mine") -> str:
    """A module with functions of a user's own, which Python finds."""
    (folder / f"{name}.py").write_text(text)
    patch.syspath_prepend(str(folder))
    patch.delitem(sys.modules, name, raising=False)
    return name
