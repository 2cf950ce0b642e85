"""What is said to a pipeline, and what it says back: ladders, embeddings, checkers, callbacks."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from diffusers import EulerDiscreteScheduler, PNDMScheduler
from torch import Tensor

from differential_diffusion.core import Step
from differential_diffusion.errors import InputError
from differential_diffusion.models.codec import decoded, encoded
from differential_diffusion.models.pipeline import PipelineSettings
from differential_diffusion.models.pipeline_load import wrap_pipeline

from ..pipelines import FAMILIES

PROMPT = "a red barn in the snow"


def picture(width: int = 64, seed: int = 0) -> Tensor:
    row, column = torch.meshgrid(torch.arange(64), torch.arange(width), indexing="ij")
    waves = torch.stack([(row / 9).sin(), (column / 7 + seed).sin(), ((row + column) / 5).sin()])
    return (0.8 * waves)[None].float()


def halves(left: float, right: float) -> Tensor:
    strength = torch.full((1, 1, 64, 64), float(left))
    strength[..., 32:] = right
    return strength


def edited(
    pipe: Any, strength: Tensor, steps: int = 4, seeds: tuple[int, ...] = (5,), **given: Any
) -> Tensor:
    kwargs = given.pop("pipeline_kwargs", {})
    prompt = given.pop("prompt", PROMPT)
    on_step = given.pop("on_step", None)
    settings = PipelineSettings(prompt=prompt, pipeline_kwargs=kwargs, **given)
    count = len(seeds)
    return wrap_pipeline(pipe).sample(
        picture().expand(count, -1, -1, -1),
        strength.expand(count, -1, -1, -1),
        seeds,
        steps,
        settings,
        on_step,
    )


def plain(pipe: Any, strength: float, **kwargs: Any) -> Tensor:
    made: Tensor = pipe(
        PROMPT,
        image=(picture() + 1) / 2,
        strength=strength,
        generator=torch.Generator().manual_seed(5),
        output_type="pt",
        **kwargs,
    ).images
    return made * 2 - 1


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("height", "leave it out, and give a picture of the size"),
        ("num_images_per_prompt", "give samples and batch_size"),
        ("padding_mask_crop", "give region and context"),
        ("denoising_end", "leave it out; strength says how many"),
        ("latents", "leave it out"),
        ("num_inference_steps", "give steps"),
    ],
)
def test_arguments_that_the_request_sets_are_refused_with_the_remedy(name: str, said: str) -> None:
    with pytest.raises(InputError, match=f"sets '{name}', which the request sets: {said}"):
        edited(FAMILIES["sdxl"](), halves(0, 1), pipeline_kwargs={name: 1})


@pytest.mark.parametrize("name", ["timesteps", "sigmas"])
def test_a_ladder_of_ones_own_is_as_long_as_it_is(name: str) -> None:
    pipe = FAMILIES["sd1"]()
    pipe.scheduler = EulerDiscreteScheduler.from_config(pipe.scheduler.config)
    pipe.scheduler.set_timesteps(8)
    ladder = {
        "timesteps": [900, 800, 600, 500, 300, 200, 100, 50],
        "sigmas": [14.0, 9.0, 5.0, 3.0, 2.0, 1.0, 0.5, 0.1],
    }[name]
    if name == "sigmas":
        ladder = [*ladder, 0.0]  # Euler's end with the 0 that is reached
    kwargs = {name: ladder}
    steps: list[Step] = []
    made = edited(
        pipe, torch.full((1, 1, 1, 1), 0.5), 20, pipeline_kwargs=kwargs, on_step=steps.append
    )
    assert len(steps) == 4
    assert torch.equal(made, plain(pipe, 0.5, num_inference_steps=20, **kwargs))
    # The left half starts at the fifth of eight steps, as it would alone.
    seen: list[Tensor] = []

    def keep(pipe: Any, step: int, t: Any, tensors: dict[str, Any]) -> dict[str, Any]:
        seen.append(tensors["latents"].clone())
        return {}

    kwargs["callback_on_step_end"] = keep  # type: ignore[assignment]
    edited(pipe, halves(0.5, 1), 20, pipeline_kwargs=kwargs)
    together, seen = seen, []
    edited(pipe, halves(0.5, 0.5), 20, pipeline_kwargs=kwargs)
    assert (len(together), len(seen)) == (8, 4)
    near = (together[4] - seen[0])[..., :1].abs().mean()
    assert near < 0.5 * (together[3] - seen[0])[..., :1].abs().mean()


def test_pndm_holds_each_level_that_it_repeats() -> None:
    """It does the second of its levels twice: what is held then stays at that level."""
    pipe = FAMILIES["sd1"]()
    pipe.scheduler = PNDMScheduler.from_config(pipe.scheduler.config, skip_prk_steps=True)
    asked: list[float] = []
    add_noise = pipe.scheduler.add_noise

    def listen(clean: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        asked.append(float(t[0]))
        noised: Tensor = add_noise(clean, noise, t)
        return noised

    listen.__name__ = "add_noise"
    pipe.scheduler.add_noise = listen
    edited(pipe, halves(0, 1))
    timesteps = pipe.scheduler.timesteps.tolist()
    assert len(timesteps) == 5
    assert timesteps[1] == timesteps[2]
    assert asked == timesteps
    # A cell of three quarters starts at the second level, whichever of its two calls it is.
    asked.clear()
    edited(pipe, halves(0.75, 1))
    assert asked == timesteps[:2] + timesteps[2:3]


def test_schedules_with_levels_between_their_steps_are_refused() -> None:
    pipe = FAMILIES["sd1"]()
    pipe.scheduler = PNDMScheduler.from_config(pipe.scheduler.config, skip_prk_steps=False)
    with pytest.raises(InputError, match="skip_prk_steps=True"):
        edited(pipe, halves(0.5, 1))
    edited(pipe, torch.full((1, 1, 1, 1), 0.5))  # one strength needs no holding


@pytest.mark.parametrize("family", ["sd1", "sdxl", "sd3", "flux", "z_image"])
def test_embeddings_serve_several_seeds(family: str) -> None:
    pipe = FAMILIES[family]()
    call: dict[str, Any] = {"prompt": PROMPT, "device": torch.device("cpu")}
    if family in ("sd3", "flux"):
        call["prompt_2"] = PROMPT
    if family == "sd3":
        call["prompt_3"] = PROMPT
    if family == "sd1":
        call["num_images_per_prompt"] = 1
    if family != "flux":
        call["do_classifier_free_guidance"] = True
    names = {
        "flux": ("prompt_embeds", "pooled_prompt_embeds"),
        "sd1": ("prompt_embeds", "negative_prompt_embeds"),
        "z_image": ("prompt_embeds", "negative_prompt_embeds"),
    }.get(
        family,
        (
            "prompt_embeds",
            "negative_prompt_embeds",
            "pooled_prompt_embeds",
            "negative_pooled_prompt_embeds",
        ),
    )
    given = dict(zip(names, pipe.encode_prompt(**call), strict=False))
    both = edited(pipe, halves(0.5, 1), seeds=(1, 2), prompt=None, pipeline_kwargs=given)
    for index, seed in enumerate((1, 2)):
        alone = edited(pipe, halves(0.5, 1), seeds=(seed,), prompt=None, pipeline_kwargs=given)
        torch.testing.assert_close(both[index : index + 1], alone, rtol=0, atol=2 / 255)


def test_a_blacked_out_result_is_said() -> None:
    pipe = FAMILIES["sd1"]()
    pipe.run_safety_checker = lambda image, *_: (image, [False, True])
    with pytest.raises(InputError, match="blacked out the result of seed 8"):
        edited(pipe, halves(0, 1), seeds=(7, 8))


@pytest.mark.parametrize("where", ["on_step", "callback"])
def test_what_a_callback_raises_comes_out_as_it_is(where: str) -> None:
    def stop(*_: Any) -> Any:
        raise ValueError("enough")

    given: dict[str, Any] = (
        {"on_step": stop}
        if where == "on_step"
        else {"pipeline_kwargs": {"callback_on_step_end": stop}}
    )
    with pytest.raises(ValueError, match="enough") as caught:
        edited(FAMILIES["sd1"](), halves(0, 1), **given)
    assert not isinstance(caught.value, InputError)


def test_latent_consistency_models_say_how_many_steps_they_have() -> None:
    pipe = FAMILIES["lcm"]()
    with pytest.raises(
        InputError, match=r"at strength 0\.2 .* has 10 levels to go to: give steps of"
    ):
        edited(pipe, halves(0, 0.2), steps=20)
    edited(pipe, halves(0, 0.2), steps=10)


@pytest.mark.parametrize("family", ["inpaint", "sdxl_inpaint"])
def test_nine_channels_with_an_offloaded_autoencoder(family: str) -> None:
    import accelerate

    expected = edited(FAMILIES[family](), halves(0.5, 1))
    pipe = FAMILIES[family]()
    for name in ("unet", "vae"):
        accelerate.cpu_offload(getattr(pipe, name), torch.device("cpu"))
    assert pipe.vae.device.type == "meta"
    torch.testing.assert_close(edited(pipe, halves(0.5, 1)), expected, rtol=0, atol=1e-4)


def test_an_autoencoder_that_asks_for_it_works_in_full_precision() -> None:
    """SDXL's overflows in half precision; the pipeline upcasts it, and so must we."""
    pipe = FAMILIES["sdxl_inpaint"]().to(torch.bfloat16)
    pipe.vae.register_to_config(force_upcast=True)
    dtypes: list[torch.dtype] = []
    for part in (pipe.vae.encoder, pipe.vae.decoder):
        part.register_forward_pre_hook(lambda _, inputs: dtypes.append(inputs[0].dtype))
    latents = encoded(pipe, picture())
    decoded(pipe, latents, (8, 8))
    assert dtypes == [torch.float32, torch.float32]
    assert pipe.vae.dtype == torch.bfloat16


def test_latents_with_a_mean_of_their_own_decode_as_in_the_pipeline() -> None:
    pipe = FAMILIES["sdxl"]()
    pipe.vae.register_to_config(
        latents_mean=[0.5, -1.0, 0.2, 0.1], latents_std=[2.0, 1.5, 3.0, 1.0]
    )
    steps: list[Step] = []
    made = edited(pipe, torch.full((1, 1, 1, 1), 1.0), on_step=steps.append)
    last = decoded(pipe, steps[-1].x, (8, 8)).clamp(-1, 1)
    torch.testing.assert_close(last, made, rtol=0, atol=1e-4)
