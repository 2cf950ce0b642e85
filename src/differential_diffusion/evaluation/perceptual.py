"""LPIPS, as a map and of whole pictures: change in the eyes of a trained network."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ..errors import InputError, MissingExtraError

__all__ = ["lpips_change", "lpips_distance"]

_SMALLEST = 32  # AlexNet's features need 31 pixels a side


def lpips_change(net: str = "alex") -> Callable[[Tensor, Tensor], Tensor]:
    """The spatial form of LPIPS (Zhang et al., 2018), from the package `lpips`.

    The package brings its own calibration, and has torchvision fetch the network's ImageNet
    weights the first time. Both are .pth files, which `lpips` and torchvision load, not we.

    Args:
        net: "alex" (as the authors advise for measuring), "vgg" or "squeeze".

    Returns: a function of two batches of pictures (B,C,H,W) in [-1,1], C = 1 or 3, at least 32
        pixels a side, to (B,1,H,W), at least 0 and 0 for equal pictures; it raises InputError
        for others.

    Raises:
        MissingExtraError: lpips, or torchvision under it, cannot be imported.
        InputError: an unknown net, or weights that cannot be fetched.
    """
    return _measure(net, spatial=True)


def lpips_distance(net: str = "alex") -> Callable[[Tensor, Tensor], Tensor]:
    """LPIPS of whole pictures (Zhang et al., 2018), as it is published: see `lpips_change`.

    Returns: a function of two batches as for `lpips_change`, to (B,).

    Raises:
        MissingExtraError: lpips, or torchvision under it, cannot be imported.
        InputError: an unknown net, or weights that cannot be fetched.
    """
    measure = _measure(net, spatial=False)
    return lambda a, b: measure(a, b).flatten()


def _measure(net: str, *, spatial: bool) -> Callable[[Tensor, Tensor], Tensor]:
    if net not in ("alex", "vgg", "squeeze"):
        raise InputError(f"'{net}' is no network of LPIPS: use alex, vgg or squeeze.")
    try:
        import lpips
    except ImportError as error:
        raise MissingExtraError("the measure 'lpips'", "evaluation") from error
    try:
        model = lpips.LPIPS(net=net, spatial=spatial, verbose=False).eval()
    except OSError as error:
        raise InputError(
            f"LPIPS cannot fetch the weights of '{net}' ({error}): connect once, or put them into "
            "torch's hub folder."
        ) from error

    @torch.no_grad()
    def change(a: Tensor, b: Tensor) -> Tensor:
        if a.ndim != 4 or a.shape != b.shape or a.shape[1] not in (1, 3):
            raise InputError(
                f"the pictures must both have the shape (B,1 or 3,H,W), not {tuple(a.shape)} and"
                f" {tuple(b.shape)}."
            )
        if min(a.shape[2:]) < _SMALLEST:
            raise InputError(
                f"LPIPS needs pictures of at least {_SMALLEST}x{_SMALLEST} pixels, not"
                f" {a.shape[2]}x{a.shape[3]}."
            )
        made: Tensor = model.to(a.device)(*(x.float().expand(-1, 3, -1, -1) for x in (a, b)))
        return made

    return change
