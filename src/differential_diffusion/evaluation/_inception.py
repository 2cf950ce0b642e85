"""Inception as FID is defined with it: the network of torch-fidelity, and the published weights."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from ..errors import InputError, MissingExtraError

WEIGHTS = "weights-inception-2015-12-05-6726825d.pth"
PUBLISHED = "6726825d"
"""What the SHA-256 of the published weights begins with."""


def load(path: str, device: torch.device) -> tuple[Callable[[Tensor], Tensor], str]:
    """The features, of uint8 pictures (B,3,H,W) to (B,2048), and the SHA-256 of the weights.

    torch-fidelity unpickles the weights, so that only a file with the published hash is given to
    it.

    Args:
        path: of the weights; "" for where torch's hub keeps them.
        device: where to put them.

    Raises:
        MissingExtraError: torch-fidelity, or torchvision under it, cannot be imported.
        InputError: no weights there, or others than the published ones.
    """
    try:
        from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3
    except ImportError as error:
        raise MissingExtraError("the extractor 'inception'", "fidelity") from error
    file = Path(path).expanduser() if path else Path(torch.hub.get_dir()) / "checkpoints" / WEIGHTS
    try:
        found = hashlib.sha256(file.read_bytes()).hexdigest()
    except OSError as error:
        raise InputError(
            f"Inception's weights '{file}' cannot be read ({error.strerror}): put torch-fidelity's "
            f"{WEIGHTS} there, or name the file as inception:PATH"
        ) from None
    if not found.startswith(PUBLISHED):
        raise InputError(
            f"'{file}' is not the Inception that FID is defined with: fetch torch-fidelity's "
            f"{WEIGHTS} anew"
        )
    network = FeatureExtractorInceptionV3(
        "inception-v3-compat", ["2048"], feature_extractor_weights_path=str(file)
    )
    network = network.to(device).eval()

    def features(x: Tensor) -> Tensor:
        (made,) = network(x.to(device))
        return torch.as_tensor(made)

    return features, found
