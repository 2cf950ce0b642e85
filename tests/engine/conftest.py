"""A tiny random prior: local and nonlinear, quick to run."""

from __future__ import annotations

import pytest
import torch

from differential_diffusion.core.precondition import edm
from differential_diffusion.models import DenoiserModel
from differential_diffusion.nn import SigmaMapUNet, UNetConfig


@pytest.fixture(scope="session")
def tiny() -> DenoiserModel:
    torch.manual_seed(3)
    network = SigmaMapUNet(UNetConfig(channels=(8, 8, 8), blocks=(1, 1, 1), embedding_channels=4))
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.06)
    network.eval().requires_grad_(False)
    return DenoiserModel(
        "tiny", edm(network), 3, network.config.stride, network.halo, torch.device("cpu")
    )
