"""Smaller weights: torch's own pruning, closed forms of what they cost, and their storage."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import prune as torchs

from differential_diffusion.errors import InputError
from differential_diffusion.models.checkpoint import (
    CheckpointConfig,
    load_checkpoint,
    save_checkpoint,
)
from differential_diffusion.models.compress import (
    compare,
    noise_pictures,
    packed_share,
    prune,
    rounded,
    zero_share,
)
from differential_diffusion.nn import SigmaMapUNet, UNetConfig

CONFIG = UNetConfig(channels=(8, 16), blocks=(1, 1), classes=3)


@pytest.fixture
def network() -> SigmaMapUNet:
    """One with random weights in every layer."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        made = SigmaMapUNet(CONFIG).eval().requires_grad_(False)
        for parameter in made.parameters():
            parameter.copy_(torch.randn_like(parameter))
    return made


def layers(network: nn.Module) -> list[tuple[str, nn.Module]]:
    kinds = (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)
    return [(name, m) for name, m in network.named_modules() if isinstance(m, kinds)]


@pytest.mark.parametrize("share", [0.0, 0.3, 0.95])
def test_the_smallest_weights_are_those_that_torch_finds(
    network: SigmaMapUNet, share: float
) -> None:
    made = prune(network, share)
    count = sum(layer.weight.numel() for _, layer in layers(network))
    amount = int(share * count)
    assert zero_share(made) == pytest.approx(amount / count)
    if amount:
        parameters = [(layer, "weight") for _, layer in layers(network)]
        torchs.global_unstructured(parameters, torchs.L1Unstructured, amount=amount)
    for (name, ours), (_, theirs) in zip(layers(made), layers(network), strict=True):
        assert torch.equal(ours.weight, theirs.weight), name


def test_whole_channels_are_those_that_torch_finds(network: SigmaMapUNet) -> None:
    made, kept = prune(network, 0.5, structured=True), network.head.weight.clone()
    for (name, ours), (_, theirs) in zip(layers(made), layers(network), strict=True):
        if name == "head":
            continue
        dim = 1 if isinstance(theirs, nn.ConvTranspose2d) else 0
        torchs.ln_structured(theirs, "weight", amount=0.5, n=2, dim=dim)
        assert torch.equal(ours.weight, theirs.weight), name
        silent = (theirs.weight.transpose(0, dim).flatten(1) == 0).all(1)
        assert int(silent.sum()) == len(silent) // 2
        assert not ours.bias[silent].any()
        assert ours.bias[~silent].all()
    assert torch.equal(made.head.weight, kept)


def test_pruning_leaves_the_network_alone(network: SigmaMapUNet) -> None:
    before = {name: value.clone() for name, value in network.state_dict().items()}
    prune(network, 0.7)
    prune(network, 0.7, structured=True)
    rounded(network, torch.bfloat16)
    for name, value in network.state_dict().items():
        assert torch.equal(value, before[name]), name


@pytest.mark.parametrize("share", [-0.1, 1.0, math.nan])
def test_a_share_that_leaves_nothing_is_refused(network: SigmaMapUNet, share: float) -> None:
    with pytest.raises(InputError, match=r"\[0, 1\)"):
        prune(network, share)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_rounding_is_what_storing_does(
    network: SigmaMapUNet, tmp_path: Path, dtype: torch.dtype
) -> None:
    save_checkpoint(tmp_path, network, CheckpointConfig(CONFIG), dtype)
    stored, _ = load_checkpoint(tmp_path)
    made = rounded(network, dtype).state_dict()
    for name, value in stored.state_dict().items():
        assert torch.equal(made[name], value), name
        assert not torch.equal(value, network.state_dict()[name]), name


def test_numbers_too_large_for_float16_are_refused(network: SigmaMapUNet) -> None:
    network.stem.weight[0, 0, 0, 0] = 1e5
    with pytest.raises(InputError, match=r"'stem\.weight'.*float16.*bfloat16"):
        rounded(network, torch.float16)
    assert rounded(network, torch.bfloat16).state_dict()["stem.weight"].isfinite().all()


def test_quality_of_constant_errors() -> None:
    """Estimates off by 0.01, 0.02 and 0.04 in [-1,1]: PSNR 20 log10(2/error)."""
    pictures = [torch.zeros(1, 3, 20, 300), torch.full((1, 3, 9, 7), 0.5)]

    def off(by: float) -> object:
        def denoise(x: Tensor, sigma: Tensor) -> Tensor:
            truth = 0.5 if x.shape[-1] == 7 else 0.0
            return torch.full_like(x, truth + by)

        return denoise

    first, second = compare(off(0.01), [off(-0.02), off(0.04)], pictures, [5.0, 50.0])
    for rows, error, largest in ((first, 0.02, 0.03), (second, 0.04, 0.03)):
        assert [row.level_8bit for row in rows] == [5.0, 50.0]
        for row in rows:
            assert row.before == pytest.approx(20 * math.log10(2 / 0.01), abs=1e-3)
            assert row.after == pytest.approx(20 * math.log10(2 / error), abs=1e-3)
            assert row.largest == pytest.approx(largest * 127.5, rel=1e-4)


def test_the_noise_is_of_the_level_that_is_told() -> None:
    """What comes back as it is has the noise's own PSNR, 20 log10(255/σ)."""
    ((row,),) = compare(lambda x, s: x, [lambda x, s: x], [torch.zeros(1, 3, 128, 128)], [10.0])
    assert row.before == pytest.approx(20 * math.log10(255 / 10), abs=0.05)
    assert (row.after, row.largest) == (row.before, 0)


def test_no_picture_is_an_error() -> None:
    with pytest.raises(InputError, match="no picture"):
        compare(lambda x, s: x, [lambda x, s: x], [])


def test_pictures_of_noise_have_coarse_structure() -> None:
    """Means over 8 x 8 pixels keep about half the variance; of white noise 1/64."""
    pictures = torch.cat(noise_pictures(3))
    assert torch.equal(pictures, torch.cat(noise_pictures(3)))
    assert pictures.shape == (4, 3, 64, 64)
    assert pictures.abs().max() <= 1
    coarse = nn.functional.avg_pool2d(pictures, 8)
    assert 0.25 < float(coarse.var() / pictures.var()) < 0.75


def test_zeros_pack_and_random_weights_do_not(network: SigmaMapUNet) -> None:
    assert 0.85 < packed_share(network, torch.float32) < 1.05
    assert packed_share(network, torch.float16) < 0.55
    packed = packed_share(prune(network, 0.9), torch.float32)
    # A tenth of the weights, and at least the entropy of where they are, 0.47 bits of 32 each.
    assert 0.1 < packed < 0.35
