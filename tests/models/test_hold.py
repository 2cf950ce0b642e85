"""Pitfalls of intervening in a scheduler's loop; each test fails without its handling."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from diffusers import (
    DDIMScheduler,
    DPMSolverMultistepScheduler,
    EulerDiscreteScheduler,
    HeunDiscreteScheduler,
    PNDMScheduler,
    UniPCMultistepScheduler,
)
from torch import Tensor

from differential_diffusion.errors import InputError
from differential_diffusion.models.codec import pack, unpack
from differential_diffusion.models.hold import Hold
from differential_diffusion.models.latent_plan import LatentPlan
from differential_diffusion.models.pipeline import PipelineModel, PipelineSettings

from ..pipelines import FAMILIES, arguments

STEPS = 6
PROMPT = {"prompt": "a red barn in the snow"}


def pipeline(scheduler: Any) -> Any:
    built = FAMILIES["sd1"]()
    built.scheduler = scheduler.from_config(built.scheduler.config)
    return built


def picture() -> Tensor:
    row, column = torch.meshgrid(torch.arange(64), torch.arange(64), indexing="ij")
    waves = torch.stack([(row / 9).sin(), (column / 7).sin(), ((row + column) / 5).sin()])
    return (0.8 * waves)[None].float()


def halves(left: float, right: float) -> Tensor:
    strength = torch.full((1, 1, 64, 64), left)
    strength[..., 32:] = right
    return strength


class Latents:
    """A user's callback that keeps the latents, as they are before anything is held."""

    def __init__(self) -> None:
        self.seen: list[Tensor] = []

    def __call__(self, pipe: Any, step: int, t: Any, tensors: dict[str, Any]) -> dict[str, Any]:
        self.seen.append(tensors["latents"].clone())
        return {}


def run(built: Any, strength: Tensor, **given: Any) -> list[Tensor]:
    """The latents after each call of the network."""
    latents = Latents()
    kwargs = {**PROMPT, "callback_on_step_end": latents}
    chosen = PipelineSettings(pipeline_kwargs=kwargs, **given)
    PipelineModel("sd", built).sample(picture(), strength, (4,), STEPS, chosen)
    return latents.seen


@pytest.mark.parametrize(
    "scheduler", [DDIMScheduler, EulerDiscreteScheduler, DPMSolverMultistepScheduler]
)
def test_every_level_is_its_own(scheduler: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Schedulers that were told where to begin ignore the timestep they are asked for."""
    built, set_to = pipeline(scheduler), []
    hold = Hold._hold

    def watched(self: Hold, tensors: dict[str, Any], index: int) -> None:
        hold(self, tensors, index)
        set_to.append((tensors["latents"] - self.noising.clean)[..., :4].std().item())

    monkeypatch.setattr(Hold, "_hold", watched)
    run(built, halves(0, 1))
    fresh = scheduler.from_config(built.scheduler.config)
    fresh.set_timesteps(STEPS)
    clean = torch.zeros(1, 4, 64, 64)
    noise = torch.randn(clean.shape, generator=torch.Generator().manual_seed(0))
    expected = [
        fresh.add_noise(clean, noise, t.reshape(1)).std().item() for t in fresh.timesteps[1:]
    ]
    assert len(set_to) == STEPS - 1
    assert set_to == sorted(set_to, reverse=True)
    if scheduler is EulerDiscreteScheduler:  # where the picture itself is not scaled
        assert set_to == pytest.approx(expected, rel=0.25)


def test_unipc_does_not_undo_what_is_held() -> None:
    """Its corrector would rebuild the cells from the sample before they were set."""
    built = pipeline(UniPCMultistepScheduler)
    strong = run(built, halves(0.5, 1))
    alone = run(built, halves(0.5, 0.5))
    held_until = len(strong) - len(alone)
    assert held_until == 3
    # The left half, far from the border, starts at its step as it would have alone.
    first = strong[held_until][..., :1] - alone[0][..., :1]
    assert first.abs().max() < 0.35 * alone[0].abs().max()
    assert built.scheduler.disable_corrector == []


def test_heun_is_held_after_whole_steps_only() -> None:
    """Between the two halves of a step the scheduler holds a derivative of the same sample."""
    built, touched = pipeline(HeunDiscreteScheduler), []
    kept = Hold._hold

    class Watched(Hold):
        def _hold(self, tensors: dict[str, Any], index: int) -> None:
            touched.append(self.scheduler.state_in_first_order)
            kept(self, tensors, index)

    plan = LatentPlan.of(halves(0, 1)[..., ::8, ::8], STEPS)
    hold = Watched(built, plan)
    with hold:
        built(
            **PROMPT,
            image=(picture() + 1) / 2,
            strength=plan.strength,
            num_inference_steps=STEPS,
            generator=torch.Generator().manual_seed(0),
            callback_on_step_end=hold,
        )
    assert touched == [True] * (STEPS - 1)


def test_pndm_repeats_timesteps_and_each_keeps_its_level() -> None:
    built = pipeline(PNDMScheduler)
    built.scheduler.register_to_config(skip_prk_steps=True)
    built.scheduler.set_timesteps(STEPS)
    assert len(built.scheduler.timesteps) == STEPS + 1
    latents = run(built, halves(0, 1))
    assert len(latents) == STEPS + 1
    assert torch.isfinite(latents[-1]).all()
    constant = run(built, halves(0.5, 0.5))
    expected = built(
        **PROMPT,
        image=(picture() + 1) / 2,
        strength=0.5,
        num_inference_steps=STEPS,
        generator=torch.Generator().manual_seed(4),
        output_type="latent",
    ).images
    assert torch.equal(constant[-1], expected)


def test_timesteps_may_be_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    """Flow schedules cut to whole numbers: shifted by 12, the first two of 100 are 999."""
    built, asked = FAMILIES["sd1"](), []
    built.scheduler = UniPCMultistepScheduler(
        prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=12.0
    )
    held = LatentPlan.held
    monkeypatch.setattr(LatentPlan, "held", lambda self, k: asked.append(k) or held(self, k))
    PipelineModel("sd", built).sample(
        picture(), halves(0.02, 0.04), (4,), 100, PipelineSettings(**PROMPT)
    )
    timesteps = built.scheduler.timesteps.tolist()
    assert len(timesteps) == 100 > len(set(timesteps))
    assert asked == [97, 98, 99]


def test_the_last_step_is_pinned_where_strength_is_0() -> None:
    """The published loop lets kept cells drift in the last step."""
    built, strength = pipeline(DDIMScheduler), halves(0, 1)
    ended: dict[bool, Tensor] = {}
    for exact in (True, False):
        hold = Hold(built, LatentPlan.of(strength[..., ::8, ::8], STEPS, pin=exact))
        with hold:
            out = built(
                **PROMPT,
                image=(picture() + 1) / 2,
                strength=1.0,
                num_inference_steps=STEPS,
                generator=torch.Generator().manual_seed(0),
                callback_on_step_end=hold,
                output_type="latent",
            )
            ended[exact] = (out.images - hold.noising.clean)[..., :4].abs().max()
    assert ended[True] == 0
    assert ended[False] > 0.01


def test_lcm_decodes_what_is_pinned() -> None:
    """Its decoder is given `denoised`, not the latents."""
    built = FAMILIES["lcm"]()
    strength = halves(0, 1)
    hold = Hold(built, LatentPlan.of(strength[..., ::8, ::8], 4))
    with hold:
        out = built(
            **PROMPT,
            image=(picture() + 1) / 2,
            strength=1.0,
            num_inference_steps=4,
            generator=torch.Generator().manual_seed(0),
            callback_on_step_end=hold,
            callback_on_step_end_tensor_inputs=["latents", "denoised"],
            output_type="latent",
        )
    assert torch.equal(out.images[..., :4], hold.noising.clean[..., :4])


def sana_sprint(hold: Hold, strength: float = 1.0) -> Tensor:
    """Its latents at the end of a run of four steps, as they are decoded."""
    image = (picture() + 1) / 2
    made: Tensor = hold.pipeline(
        **arguments("sana_sprint", image),
        strength=strength,
        num_inference_steps=4,
        generator=torch.Generator().manual_seed(0),
        callback_on_step_end=hold,
        callback_on_step_end_tensor_inputs=["latents", "denoised"],
        output_type="latent",
    ).images
    return made


def test_noise_that_the_pipeline_adds_itself_is_repeated_at_each_level() -> None:
    """SANA-Sprint's latents are cos(t) clean + sin(t) noise, with one noise."""
    built = FAMILIES["sana_sprint"]()
    held: list[Tensor] = []

    def keep(pipe: Any, step: int, t: Any, tensors: dict[str, Any]) -> dict[str, Any]:
        return {}

    # One cell of 32 pixels moves in all steps, the other in the last alone.
    strength = torch.tensor([[1.0, 0.25], [1.0, 0.25]])[None, None]
    hold = Hold(built, LatentPlan.of(strength, 4), None, keep, lambda *of: held.append(of[-1]))
    with hold:
        sana_sprint(hold)
    t = built.scheduler.timesteps
    sigma_data = built.scheduler.config.sigma_data
    drawn = [
        (x - t[k + 1].cos() * hold.noising.clean)[..., 1:] / t[k + 1].sin() / sigma_data
        for k, x in enumerate(held[:3])
    ]
    own = torch.randn(hold.noising.clean.shape, generator=torch.Generator().manual_seed(0))
    for noise in drawn:  # the pipeline's own
        torch.testing.assert_close(noise, own[..., 1:], rtol=0, atol=1e-4)
    encoded = built.vae.encode(picture()).latent * built.vae.config.scaling_factor
    torch.testing.assert_close(hold.noising.clean, encoded * sigma_data, rtol=0, atol=1e-6)
    assert not {"prepare_latents", "_callback_tensor_inputs"} & vars(built).keys()


def test_sana_sprint_decodes_what_is_pinned() -> None:
    """Its decoder is given `denoised`, whatever the callback returns."""
    built = FAMILIES["sana_sprint"]()
    strength = torch.tensor([[1.0, 0.0], [1.0, 0.0]])[None, None]
    for pin in (True, False):
        hold = Hold(built, LatentPlan.of(strength, 4, pin=pin))
        with hold:
            ended = sana_sprint(hold)
        clean = hold.noising.clean / built.scheduler.config.sigma_data
        assert torch.equal(ended[..., 1:], clean[..., 1:]) is pin


def test_packed_cells_are_held_where_they_are() -> None:
    """Tokens are 2 x 2 cells: each of the four keeps to its own strength."""
    built = FAMILIES["flux"]()
    kept = torch.randint(0, 2, (1, 1, 8, 8), generator=torch.Generator().manual_seed(1)).bool()
    hold = Hold(built, LatentPlan.of((~kept).float(), 4))
    with hold:
        out = built(
            **arguments("flux", (picture() + 1) / 2),
            strength=1.0,
            num_inference_steps=4,
            generator=torch.Generator().manual_seed(0),
            callback_on_step_end=hold,
            output_type="latent",
        ).images
    ended, clean = unpack(out, 8, 8), hold.noising.clean
    kept = kept.expand_as(clean)
    assert torch.equal(ended[kept], clean[kept])
    assert ((ended - clean)[~kept].abs() > 1e-3).float().mean() > 0.95


@pytest.mark.parametrize("family", ["flux", "qwen_image"])
def test_packing_is_the_pipelines_own(family: str) -> None:
    built = FAMILIES[family]()
    x = torch.arange(2 * 4 * 6 * 8, dtype=torch.float32).view(2, 4, 6, 8)
    assert torch.equal(pack(x), built._pack_latents(x, 2, 4, 6, 8))


def test_the_scheduler_is_as_it_was_even_after_a_failure() -> None:
    built = pipeline(UniPCMultistepScheduler)
    built.scheduler.disable_corrector = [0]

    def stop(pipe: Any, step: int, t: Any, tensors: dict[str, Any]) -> dict[str, Any]:
        built.scheduler.disable_corrector.append(5)
        raise RuntimeError("stop")

    kwargs = {**PROMPT, "callback_on_step_end": stop}
    with pytest.raises(RuntimeError, match="stop"):
        PipelineModel("sd", built).sample(
            picture(), halves(0, 1), (0,), STEPS, PipelineSettings(pipeline_kwargs=kwargs)
        )
    assert not {"add_noise", "scale_noise"} & vars(built.scheduler).keys()
    assert built.scheduler.disable_corrector == [0]


def test_noise_that_the_scheduler_does_not_add_is_said_and_harms_no_constant_map() -> None:
    built = pipeline(DDIMScheduler)
    built.prepare_latents = lambda *_, **__: torch.zeros(1, 4, 8, 8)
    with pytest.raises(InputError, match="does not noise the picture with its scheduler"):
        run(built, halves(0.5, 1))
    assert len(run(built, halves(0.5, 0.5))) == 3
