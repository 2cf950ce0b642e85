"""Diffusion in a dozen lines, for learning it: noise a picture, learn to undo it, sample.

    model = DiffusionModel(channels=1, size=8)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    for epoch in range(num_epochs):
        for x in batches:                        # (B,1,8,8) in [-1,1]
            t = model.timesteps_for(x)           # a random timestep for each picture
            noisy_x = forward_diffusion(x, t)
            loss = model.loss(noisy_x, t)
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
    noise = torch.randn(16, 1, 8, 8)
    generated_image = model.reverse_diffuse(noise, steps=1000)

A thin face over `core`, `nn` and `training.objectives`; `training` does the same at full size.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from .core.parametrization import Parametrization, Schedule, table_of_sigmas
from .core.path import wait
from .core.sample import sample
from .core.solvers import SOLVERS
from .errors import InputError
from .models.checkpoint import CheckpointConfig, save_checkpoint
from .nn import Conditions, SigmaMapUNet, UNetConfig
from .training.objectives import Betas, Objective

__all__ = ["DiffusionModel", "NoisyPictures", "forward_diffusion", "noise_schedule"]

TIMESTEPS = 1000


_KEEPS_PICTURES = {
    Tensor.to, Tensor.cpu, Tensor.cuda, Tensor.float, Tensor.double, Tensor.clone, Tensor.detach,
}  # fmt: skip


class NoisyPictures(Tensor):
    """Noisy pictures that remember what they were made of: `.clean`, `.noise`, `.timesteps`.

    So do copies of them, on another device or of another type, and slices of the batch; what is
    computed from them is an ordinary tensor.
    """

    clean: Tensor
    noise: Tensor
    timesteps: Tensor
    sigma: Tensor

    def _remember(self, clean: Tensor, noise: Tensor, timesteps: Tensor, sigma: Tensor) -> None:
        self.clean, self.noise, self.timesteps, self.sigma = clean, noise, timesteps, sigma

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """See the class."""
        made: Any = super().__torch_function__(func, types, args, kwargs or {})  # type: ignore[no-untyped-call]
        of = args[0] if args else None
        if not isinstance(made, NoisyPictures) or made is of:
            return made
        if isinstance(of, NoisyPictures) and hasattr(of, "clean"):
            if func in _KEEPS_PICTURES:
                clean, noise = (func(x, *args[1:], **(kwargs or {})) for x in (of.clean, of.noise))
                made._remember(clean, noise, of.timesteps.to(made.device), of.sigma.to(made))
                return made
            if func is Tensor.__getitem__ and isinstance(args[1], slice | Tensor):
                k = args[1]
                made._remember(of.clean[k], of.noise[k], of.timesteps[k], of.sigma[k])
                return made
        return made.as_subclass(Tensor)


def noise_schedule(
    t: Tensor | int, *, schedule: Schedule = "linear", timesteps: int = TIMESTEPS
) -> Tensor:
    """σ of a timestep: how much noise is on a picture in [-1,1].

        σ_t = sqrt((1 - ᾱ_t) / ᾱ_t)    (Ho et al., 2020, in pictures x = x0 + σ ε)

    Args:
        t: timesteps from 0 to `timesteps` - 1, of any shape.
        schedule: "linear" or "cosine".
        timesteps: how many there are.

    Raises:
        InputError: a timestep beyond them.
    """
    t = torch.as_tensor(t)
    if t.is_floating_point() or not bool(((t >= 0) & (t < timesteps)).all()):
        raise InputError(f"t must hold whole numbers from 0 to {timesteps - 1}: clip them.")
    return table_of_sigmas(schedule, timesteps).to(t.device)[t].float()


def forward_diffusion(
    x: Tensor,
    t: Tensor | int,
    *,
    noise: Tensor | None = None,
    schedule: Schedule = "linear",
    timesteps: int = TIMESTEPS,
) -> NoisyPictures:
    """Pictures with the noise of their timesteps: x + σ_t ε.

    Args:
        x: (B,C,H,W) in [-1,1].
        t: a timestep, or one for each picture, (B,).
        noise: ε, like x; by default drawn from torch's generator, see `torch.manual_seed`.
        schedule, timesteps: as in `noise_schedule`.

    Raises:
        InputError: pictures of another shape, or a timestep beyond the schedule.
    """
    if x.ndim != 4:
        raise InputError(f"x has the shape {tuple(x.shape)}: give pictures (B,C,H,W).")
    each = torch.as_tensor(t, device=x.device).expand(len(x))
    noise = torch.randn_like(x) if noise is None else noise
    sigma = noise_schedule(each, schedule=schedule, timesteps=timesteps).view(-1, 1, 1, 1)
    noisy = (x + sigma.to(x) * noise).as_subclass(NoisyPictures)
    noisy._remember(x, noise, each, sigma.to(x))
    return noisy


class DiffusionModel(nn.Module):
    """A small U-Net that learns to undo `forward_diffusion`.

    Args:
        channels: of the pictures.
        size: their side in pixels.
        predicts: what the network predicts, "noise" (DDPM), "clean" or "velocity".
        schedule, timesteps: as in `noise_schedule`.
        width: channels of the finest scale.
        classes: number of classes to condition on, 0 for none.
        seed: of the weights.
    """

    def __init__(
        self,
        channels: int = 3,
        size: int = 32,
        *,
        predicts: Literal["noise", "clean", "velocity"] = "noise",
        schedule: Schedule = "linear",
        timesteps: int = TIMESTEPS,
        width: int = 64,
        classes: int = 0,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.size, self.schedule, self.timesteps = size, schedule, timesteps
        shape = UNetConfig(
            in_channels=channels,
            channels=(width, 2 * width),
            blocks=(2, 2),
            patch=1 if size < 32 else 2,
            attention=(1,),
            embedding_channels=width,
            classes=classes,
        )
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.network = SigmaMapUNet(shape)
        form = Parametrization(predicts, "preserving", schedule=schedule, timesteps=timesteps)
        self.objective = Objective(form, Betas(schedule, timesteps))

    def timesteps_for(self, x: Tensor) -> Tensor:
        """A random timestep for each picture, (B,), from torch's generator."""
        return torch.randint(self.timesteps, (len(x),), device=x.device)

    def forward_diffusion(self, x: Tensor, t: Tensor | int) -> NoisyPictures:
        """As the function of that name, with this model's schedule."""
        return forward_diffusion(x, t, schedule=self.schedule, timesteps=self.timesteps)

    def loss(
        self, x: Tensor, t: Tensor | int | None = None, labels: Tensor | None = None
    ) -> Tensor:
        """Mean squared error of what the network predicts.

        Args:
            x: what `forward_diffusion` gave, or clean pictures, which are noised here.
            t: timesteps, which noisy pictures know themselves; random ones by default.
            labels: the class of each picture, (B,).

        Raises:
            InputError: noisy pictures with other timesteps, or of another schedule, than they were
                made with.
        """
        if not isinstance(x, NoisyPictures):
            x = self.forward_diffusion(x, self.timesteps_for(x) if t is None else t)
        elif t is not None and not bool((torch.as_tensor(t, device=x.device) == x.timesteps).all()):
            raise InputError("t is not what the noisy pictures were made with: give the same.")
        sigma = noise_schedule(x.timesteps, schedule=self.schedule, timesteps=self.timesteps)
        sigma = sigma.view(-1, 1, 1, 1).to(x.clean)
        if not torch.allclose(sigma, x.sigma.to(sigma), rtol=1e-3):
            raise InputError(
                "the noisy pictures were made with another schedule than the model's: use its own "
                "forward_diffusion."
            )
        told = Conditions(labels=labels)
        return self.objective.loss(
            lambda seen, level: self.network(seen, level, told),
            x.clean,
            sigma,
            x.noise,
        ).mean()

    @torch.no_grad()
    def reverse_diffuse(
        self,
        noise: Tensor,
        steps: int = TIMESTEPS,
        *,
        solver: str = "ancestral",
        labels: Tensor | None = None,
        seed: int = 0,
    ) -> Tensor:
        """Pictures from noise, (B,C,H,W) in [-1,1] give or take.

        Args:
            noise: standard normal, (B,C,H,W).
            steps: from 1 to the number of timesteps.
            solver: a name in `SOLVERS`; "ancestral" is DDPM's own, "ddim" draws no noise.
            labels: classes, (B,).
            seed: of the noise that a solver adds on the way.

        Raises:
            InputError: steps out of range or an unknown solver.
        """
        if not 1 <= steps <= self.timesteps:
            raise InputError(f"steps is {steps}: give 1 to {self.timesteps}.")
        if solver not in SOLVERS:
            raise InputError(f"solver '{solver}' is not known: use one of {', '.join(SOLVERS)}.")
        t = torch.linspace(self.timesteps - 1, 0, steps).round().long()
        sigmas = noise_schedule(t, schedule=self.schedule, timesteps=self.timesteps)
        ladder = torch.cat([sigmas, torch.zeros(1)]).double()
        start = ladder[:1].float().view(1, 1, 1, 1).to(noise)
        path = wait(start, torch.zeros_like(start), ladder)
        told = Conditions(labels=labels)
        denoise = self.objective.form.denoiser(lambda x, level: self.network(x, level, told))
        rng = torch.Generator().manual_seed(seed)

        def drawn(k: int) -> Tensor:
            return torch.randn(noise.shape, generator=rng).to(noise)

        training = self.network.training
        self.network.eval()
        made = sample(denoise, start * noise, path, SOLVERS[solver](), drawn)
        self.network.train(training)
        return made

    def save(self, folder: str | Path) -> Path:
        """Write the model to a folder that `load_model` reads; returns the folder."""
        sigmas = table_of_sigmas(self.schedule, self.timesteps)
        described = CheckpointConfig(
            self.network.config,
            self.objective.form,
            float(sigmas[0]),
            float(sigmas[-1].clamp(max=150)),
            maps=False,
            classes=tuple(str(k) for k in range(self.network.config.classes)),
            size=(self.size, self.size),
        )
        save_checkpoint(Path(folder), self.network, described, torch.float32)
        return Path(folder)
