"""Blocks that look at the whole picture, against other code for the same."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from differential_diffusion.nn import SigmaMapUNet, UNetConfig
from differential_diffusion.nn.blocks import GlobalContext, ResidualBlock, SelfAttention


def randomized(module: nn.Module, std: float = 0.3) -> Any:
    """Without zero weights, so that everything counts."""
    generator = torch.Generator().manual_seed(0)
    module = module.double()
    for parameter in module.parameters():
        parameter.data = std * torch.randn(
            parameter.shape, generator=generator, dtype=torch.float64
        )
    return module


def features(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def unit_square(x: Tensor, dim: int) -> Tensor:
    return x / (x.square().mean(dim, keepdim=True) + 1e-6).sqrt()


@pytest.mark.parametrize(("channels", "head"), [(32, 32), (64, 32), (16, 32), (24, 8)])
def test_attention_is_softmax_of_products(channels: int, head: int) -> None:
    """Written out for each picture, head and position."""
    attention = randomized(SelfAttention(channels, head))
    x = features(2, channels, 3, 5)
    made = attention(x)
    head = min(head, channels)
    weight = attention.qkv.weight[:, :, 0, 0]
    for b in range(2):
        flat = unit_square(x[b].reshape(channels, 15), 0)
        q, k, v = (weight @ flat + attention.qkv.bias[:, None]).chunk(3)
        attended = torch.zeros(channels, 15, dtype=torch.float64)
        for first in range(0, channels, head):
            one = slice(first, first + head)
            queries, keys = unit_square(q[one], 0), unit_square(k[one], 0)
            share = torch.softmax(queries.T @ keys / head**0.5, dim=1)
            attended[one] = v[one] @ share.T
        out = attention.project.weight[:, :, 0, 0] @ attended
        expected = x[b] + (out + attention.project.bias[:, None]).view(channels, 3, 5)
        torch.testing.assert_close(made[b], expected, rtol=0, atol=1e-11)


def test_attention_against_that_of_torch() -> None:
    """With queries and keys of unit square, which those of the one are made to be by scaling."""
    channels, x = 32, features(2, 32, 4, 4)
    ours = randomized(SelfAttention(channels))
    flat = unit_square(x.flatten(2), 1).transpose(1, 2)  # (B,positions,C)
    q, k, v = ours.qkv(unit_square(x, 1)).flatten(2).transpose(1, 2).chunk(3, dim=-1)
    theirs = nn.MultiheadAttention(channels, 1, batch_first=True, dtype=torch.float64)
    with torch.no_grad():
        theirs.in_proj_weight.copy_(torch.eye(channels).repeat(3, 1))
        theirs.in_proj_bias.zero_()
        theirs.out_proj.weight.copy_(ours.project.weight[:, :, 0, 0])
        theirs.out_proj.bias.copy_(ours.project.bias)
    out = theirs(unit_square(q, -1), unit_square(k, -1), v, need_weights=False)[0]
    expected = x + out.transpose(1, 2).reshape(x.shape)
    torch.testing.assert_close(ours(x), expected, rtol=0, atol=1e-11)
    assert flat.shape == q.shape


def test_attention_knows_no_order_and_no_other_picture() -> None:
    attention, x = randomized(SelfAttention(32)), features(3, 32, 4, 4)
    order = torch.randperm(16, generator=torch.Generator().manual_seed(2))
    shuffled = x.flatten(2)[..., order].view(x.shape)
    made = attention(x)
    torch.testing.assert_close(attention(shuffled).flatten(2), made.flatten(2)[..., order])
    torch.testing.assert_close(attention(x[1:2]), made[1:2])
    far = x.clone()
    far[..., 3, 3] += 1
    assert (attention(far) - made)[..., 0, 0].abs().max() > 1e-6


def test_context_is_gates_of_an_attended_mean() -> None:
    context, x = randomized(GlobalContext(12)).requires_grad_(False), features(2, 12, 3, 4)
    made = context(x)
    for b in range(2):
        scores = [
            float(context.attend.weight[0, :, 0, 0] @ x[b, :, i, j])
            for i in range(3)
            for j in range(4)
        ]
        share = torch.tensor(scores, dtype=torch.float64).exp()
        share /= share.sum()
        mean = sum(share[4 * i + j] * x[b, :, i, j] for i in range(3) for j in range(4))
        inner = context.inner.weight @ mean + context.inner.bias
        gates = context.gate.weight @ (inner * torch.sigmoid(inner)) + context.gate.bias
        expected = x[b] * (1 + gates[:, None, None])
        torch.testing.assert_close(made[b], expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("make", [SelfAttention, GlobalContext])
def test_begins_as_the_identity(make: type[nn.Module]) -> None:
    x = torch.randn(2, 32, 4, 4)
    assert torch.equal(make(32)(x), x)  # type: ignore[call-arg]


def test_dropout_leaves_out_its_share_in_training_alone() -> None:
    torch.manual_seed(0)
    block = ResidualBlock(64, 4, dropout=0.4)
    nn.init.dirac_(block.conv2.weight)
    nn.init.ones_(block.conv1.bias)
    nn.init.zeros_(block.conv1.weight)
    x, embedding = torch.zeros(4, 64, 8, 8), torch.zeros(4, 4, 1, 1)
    inner = torch.nn.functional.silu(torch.ones(()))
    block.eval()
    torch.testing.assert_close(block(x, embedding), inner.expand_as(x))
    block.train()
    out = block(x, embedding)
    assert float((out == 0).float().mean()) == pytest.approx(0.4, abs=0.02)
    torch.testing.assert_close(out.max(), inner / 0.6)


CONFIG = UNetConfig(channels=(8, 8), blocks=(1, 1), embedding_channels=4)


@pytest.mark.parametrize(
    ("shape", "local"),
    [
        ({}, True),
        ({"classes": 3, "vector": 2, "condition_channels": 1, "augmented": True}, True),
        ({"dropout": 0.5}, True),
        ({"attention": (1,)}, False),
        ({"attention": (0, 1)}, False),
        ({"context": True}, False),
    ],
)
def test_a_network_says_whether_it_is_local(shape: dict[str, object], local: bool) -> None:
    """What a distant pixel changes: nothing, or all."""
    network = SigmaMapUNet(UNetConfig(**(vars(CONFIG) | shape)))
    randomized(network, 0.15)
    network.eval().requires_grad_(False)
    assert network.config.local is local
    assert (network.halo is None) is not local
    side = 2 * network.receptive_radius + 2 * network.config.stride
    x, level = features(1, 3, side, side), features(1, 1, 1, 1)
    before = network(x, level)
    x[..., 0, 0] += 1
    changed = (network(x, level) - before).abs().amax((0, 1))
    assert changed[0, 0] > 0
    reach = network.receptive_radius
    outside = torch.ones_like(changed, dtype=torch.bool)
    outside[: reach + 1, : reach + 1] = False
    if local:
        assert torch.equal(changed[outside], torch.zeros_like(changed[outside]))
    else:
        assert (changed[outside] > 0).float().mean() > 0.99
    with_halo = network.halo
    assert with_halo is None or (with_halo >= reach and with_halo % network.config.stride == 0)


@pytest.mark.parametrize("shape", [{}, {"attention": (1,), "context": True, "dropout": 0.3}])
def test_activations_computed_anew_give_the_same_gradients(shape: dict[str, object]) -> None:
    network = SigmaMapUNet(UNetConfig(**(vars(CONFIG) | shape)))
    randomized(network)
    network.train()
    calls = []
    for module in network.modules():
        if isinstance(module, ResidualBlock):
            module.register_forward_pre_hook(lambda *_: calls.append(1))
    gradients, counts = [], []
    for anew in (False, True):
        if anew:
            network.checkpoint_gradients()
        calls.clear()
        torch.manual_seed(3)
        network.zero_grad()
        network(features(2, 3, 8, 8), features(2, 1, 8, 8)).square().sum().backward()
        counts.append(len(calls))
        gradients.append(
            {n: p.grad.clone() for n, p in network.named_parameters() if p.grad is not None}
        )
    assert counts == [3, 6]
    assert gradients[0].keys() == gradients[1].keys()
    assert len(gradients[0]) == len(list(network.parameters()))
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], gradient, rtol=1e-12, atol=1e-12, msg=name)
