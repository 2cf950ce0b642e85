"""The teaching face: its loop as written, and that its parts are those of the theory."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import differential_diffusion as dd
from differential_diffusion.core.ladder import cosine_betas, linear_betas
from differential_diffusion.errors import InputError
from differential_diffusion.teaching import DiffusionModel, forward_diffusion, noise_schedule


def bars(count: int, seed: int) -> torch.Tensor:
    """Pictures of 4 x 4 pixels, half of them dark above and bright below, half the reverse."""
    draw = torch.Generator().manual_seed(seed)
    sign = torch.randint(0, 2, (count, 1, 1, 1), generator=draw) * 2.0 - 1
    rows = torch.tensor([-0.6, -0.6, 0.6, 0.6]).view(1, 1, 4, 1)
    return sign * rows.expand(-1, -1, -1, 4) + 0.05 * torch.randn(count, 1, 4, 4, generator=draw)


def test_the_noise_is_that_of_the_schedule() -> None:
    for name, betas in (("linear", linear_betas(1000)), ("cosine", cosine_betas(1000))):
        alphas = (1 - betas).cumprod(0)[[0, 500, 999]]
        expected = ((1 - alphas) / alphas).sqrt().float()
        found = noise_schedule(torch.tensor([0, 500, 999]), schedule=name)  # type: ignore[arg-type]
        torch.testing.assert_close(found, expected)
    x = bars(2, 0)
    noise = torch.randn(x.shape)
    noisy = forward_diffusion(x, torch.tensor([10, 900]), noise=noise)
    sigma = noise_schedule(torch.tensor([10, 900])).view(-1, 1, 1, 1)
    torch.testing.assert_close(torch.Tensor(noisy), x + sigma * noise)
    assert torch.equal(noisy.clean, x)


def test_noisy_pictures_and_clean_ones_give_one_loss() -> None:
    model = DiffusionModel(channels=1, size=4, width=8)
    torch.nn.init.normal_(model.network.head.weight)
    x, t = bars(6, 0), torch.arange(0, 900, 150)
    torch.manual_seed(3)
    noisy = forward_diffusion(x, t)
    from_noisy = model.loss(noisy, t)
    torch.manual_seed(3)
    torch.testing.assert_close(model.loss(x, t), from_noisy)
    sigma = noise_schedule(t).view(-1, 1, 1, 1)
    alpha = (1 + sigma**2).rsqrt()
    predicted = model.network(alpha * torch.Tensor(noisy), (sigma.log() / 4).clamp(min=-1.554))
    torch.testing.assert_close(from_noisy, (predicted - noisy.noise).square().mean())


@pytest.mark.slow
@pytest.mark.parametrize("predicts", ["noise", "velocity"])
def test_the_loop_as_written_learns_two_kinds_of_pictures(predicts: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    num_epochs = 40
    batches = bars(1024, 1).split(64)
    model = DiffusionModel(channels=1, size=4, width=16, predicts=predicts)  # type: ignore[arg-type]
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    losses = []
    for _epoch in range(num_epochs):
        for x in batches:
            t = model.timesteps_for(x)
            noisy_x = model.forward_diffusion(x, t)
            loss = model.loss(noisy_x, t)
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            losses.append(float(loss.detach()))
    assert sum(losses[-50:]) < 0.7 * sum(losses[:50])
    noise = torch.randn(100, 1, 4, 4)
    made = model.reverse_diffuse(noise, steps=200)
    sign = made[:, :, 2:].mean((1, 2, 3)).sign()
    assert 0.3 < float((sign > 0).float().mean()) < 0.7
    sharp = (made * sign.view(-1, 1, 1, 1))[:, :, 2:]
    assert float(sharp.mean()) == pytest.approx(0.6, abs=0.06)
    assert float(sharp.std()) < 0.2
    loaded = dd.load_model(model.save(tmp_path / "bars"), device="cpu", precision="fp32")
    assert loaded.size == (4, 4)  # type: ignore[attr-defined]
    x, sigma = torch.randn(2, 1, 4, 4), torch.full((1, 1, 1, 1), 0.7)
    own = model.objective.form.denoiser(model.network)(x, sigma)
    torch.testing.assert_close(loaded.denoiser(x, sigma), own.detach())  # type: ignore[attr-defined]


def test_copies_and_slices_remember_what_they_were_made_of() -> None:
    model = DiffusionModel(channels=1, size=4, width=8)
    torch.nn.init.normal_(model.network.head.weight)
    noisy = forward_diffusion(bars(4, 0), torch.tensor([10, 200, 500, 900]))
    expected = model.loss(noisy)
    for same in (noisy.clone(), noisy.to("cpu"), noisy.detach(), noisy[:], noisy.double().float()):
        torch.testing.assert_close(model.loss(same), expected)
    each = [model.loss(noisy[k : k + 1], noisy.timesteps[k : k + 1]) for k in range(4)]
    torch.testing.assert_close(torch.stack(each).mean(), expected)
    chosen = noisy[torch.tensor([3, 1])]
    assert chosen.timesteps.tolist() == [900, 200]
    torch.testing.assert_close(model.loss(chosen), (each[3] + each[1]) / 2)
    for computed in (noisy + 1, noisy.mean(), noisy[:, :, :2], noisy.flatten(1)):
        assert type(computed) is torch.Tensor
    assert type(model.double().loss(noisy.double())) is torch.Tensor


def test_pictures_of_another_schedule_are_refused() -> None:
    model = DiffusionModel(channels=1, size=4, width=8, schedule="cosine")
    t = torch.tensor([500, 500])
    with pytest.raises(InputError, match="another schedule than the model's: use its own"):
        model.loss(forward_diffusion(bars(2, 0), t), t)
    assert model.loss(model.forward_diffusion(bars(2, 0), t), t) > 0


def test_what_makes_no_sense_is_refused() -> None:
    model, x = DiffusionModel(channels=1, size=4, width=8), bars(2, 0)
    for t in (1000, -1, 0.5):
        with pytest.raises(InputError, match="t must hold whole numbers from 0 to 999"):
            forward_diffusion(x, torch.tensor(t))
    with pytest.raises(InputError, match="t is not what the noisy pictures were made with"):
        model.loss(forward_diffusion(x, 5), 6)
    with pytest.raises(InputError, match=r"x has the shape \(1, 4, 4\)"):
        forward_diffusion(x[0], 5)
    with pytest.raises(InputError, match="steps is 0: give 1 to 1000"):
        model.reverse_diffuse(x, steps=0)
    with pytest.raises(InputError, match="solver 'x' is not known"):
        model.reverse_diffuse(x, steps=2, solver="x")
