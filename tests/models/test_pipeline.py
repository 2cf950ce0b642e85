"""Strength for each pixel in Diffusers' own pipelines, against the pipelines themselves."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.stats import spearmanr
from torch import Tensor

import differential_diffusion as dd
from differential_diffusion.core import Plan, PositionalNoise, Step
from differential_diffusion.errors import InputError
from differential_diffusion.models.codec import pack
from differential_diffusion.models.latent_plan import LatentPlan
from differential_diffusion.models.pipeline import PipelineModel, PipelineSettings
from differential_diffusion.models.pipeline_load import wrap_pipeline

from ..pipelines import CALLS, FAMILIES, VIDEOS, arguments

STEPS = 4
EDITING = [name for name, call in CALLS.items() if call.strength and name not in VIDEOS]
SHORTENED = [name for name in EDITING if name != "lcm"]
OURS = ("image", "mask_image", "height", "width", "use_resolution_binning")


def picture(height: int = 64, width: int = 64, seed: int = 0) -> Tensor:
    row, column = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    waves = torch.stack([(row / 9).sin(), (column / 7 + seed).sin(), ((row + column) / 5).sin()])
    return (0.8 * waves)[None].float()


@cache
def model(family: str) -> PipelineModel:
    return wrap_pipeline(FAMILIES[family]())


def settings(family: str, image: Tensor | None = None, **given: Any) -> PipelineSettings:
    image = picture() if image is None else image
    kwargs = arguments(family, (image + 1) / 2)
    return PipelineSettings(
        pipeline_kwargs={k: v for k, v in kwargs.items() if k not in OURS}, **given
    )


def constant(value: float) -> Tensor:
    return torch.full((1, 1, 1, 1), value)


def ramp(height: int = 64, width: int = 64) -> Tensor:
    return torch.linspace(0, 1, width).expand(1, 1, height, width)


def network(pipeline: Any) -> Any:
    return pipeline.unet if hasattr(pipeline, "unet") else pipeline.transformer


class Calls:
    """Counts calls of the network inside a with statement."""

    def __init__(self, family: str) -> None:
        self.network, self.count = network(model(family).worker), 0

    def __enter__(self) -> Calls:
        self.hook = self.network.register_forward_hook(self._count)
        return self

    def _count(self, *_: Any) -> None:
        self.count += 1

    def __exit__(self, *_: object) -> None:
        self.hook.remove()


def plain(family: str, strength: float, seed: int) -> Tensor:
    """The pipeline, called as its users call it."""
    image = (picture() + 1) / 2
    call = {**arguments(family, image), "strength": strength, "num_inference_steps": STEPS}
    if "mask_image" in call:
        call["mask_image"] = torch.ones(1, 1, *image.shape[-2:])
    generator = torch.Generator().manual_seed(seed)
    pipeline = model(family).pipeline
    made: Tensor = pipeline(**call, generator=generator, output_type="pt").images
    return made * 2 - 1


@pytest.mark.parametrize("family", EDITING)
def test_strength_0_returns_the_picture_without_a_call(family: str) -> None:
    image = picture(51, 70)
    with Calls(family) as calls:
        made = model(family).sample(
            image, torch.zeros(1, 1, 51, 70), (3,), STEPS, settings(family, image)
        )
    assert torch.equal(made, image)
    assert calls.count == 0


@pytest.mark.parametrize("family", EDITING)
@pytest.mark.parametrize("strength", [0.5, 1.0])
def test_one_strength_for_all_is_the_pipeline_itself(family: str, strength: float) -> None:
    made = model(family).sample(picture(), constant(strength), (5,), STEPS, settings(family))
    assert torch.equal(made, plain(family, strength, seed=5))


@pytest.mark.parametrize("strength", [0.05, 0.3, 1.0])
def test_one_strength_for_all_is_the_pipeline_through_edit_too(strength: float) -> None:
    """Where nothing is kept there is nothing to fade into."""
    pixels = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    pipe = model("sd1").pipeline
    prompt = {"prompt": "a red barn"}
    made = dd.edit(pixels, strength, model=pipe, steps=20, seed=5, **prompt).image
    expected = pipe(
        **prompt,
        image=torch.from_numpy(pixels).permute(2, 0, 1)[None] / 255,
        strength=strength,
        num_inference_steps=20,
        generator=torch.Generator().manual_seed(5),
        output_type="np",
    ).images[0]
    assert np.abs(made.astype(int) - np.rint(255 * expected).astype(int)).max() <= 1


@pytest.mark.parametrize("family", SHORTENED)
def test_calls_follow_the_largest_strength(family: str) -> None:
    for largest, expected in ((0.25, 1), (0.5, 2), (0.75, 3), (1.0, 4)):
        with Calls(family) as calls:
            model(family).sample(picture(), largest * ramp(), (0,), STEPS, settings(family))
        # Some families call the network once more for the negative prompt.
        assert calls.count in (expected, 2 * expected), largest


@pytest.mark.parametrize("family", EDITING)
def test_kept_pixels_are_kept_and_a_batch_is_its_parts(family: str) -> None:
    image, strength = picture(60, 70), ramp(60, 70).clone()
    strength[..., 20:30, :] = 0
    two = [
        model(family).sample(image, strength, (seed,), STEPS, settings(family, image))
        for seed in (7, 8)
    ]
    assert not torch.equal(two[0], two[1])
    for made in two:
        kept = (strength == 0).expand_as(made)
        assert torch.equal(made[kept], image[kept])
    both = model(family).sample(
        image.expand(2, -1, -1, -1),
        strength.expand(2, -1, -1, -1),
        (7, 8),
        STEPS,
        settings(family, image),
    )
    torch.testing.assert_close(both, torch.cat(two), rtol=0, atol=2 / 255)


@pytest.mark.parametrize(
    ("family", "largest"),
    [
        ("sd1", 0.5),
        ("flux", 0.5),
        ("inpaint", 1.0),
        ("kandinsky22", 1.0),
        ("kandinsky22_combined", 1.0),
        ("kandinsky3", 1.0),
    ],
)
def test_a_batch_may_have_a_map_for_each_picture(family: str, largest: float) -> None:
    """Inpainting draws what it is first told, Kandinsky in each step: their maps begin alike."""
    images = torch.cat([picture(seed=0), picture(seed=1)])
    strength = torch.cat([largest * ramp(), ramp().flip(-1)])
    both = model(family).sample(images, strength, (1, 2), STEPS, settings(family))
    for index in range(2):
        alone = model(family).sample(
            images[index : index + 1],
            strength[index : index + 1],
            (index + 1,),
            STEPS,
            settings(family),
        )
        torch.testing.assert_close(both[index : index + 1], alone, rtol=0, atol=2 / 255)


def test_an_inpainting_unet_is_told_what_moves_in_each_step() -> None:
    """Its extra channels: a mask of what is to be made, and the picture without it."""
    seen = []
    target = model("inpaint")

    def watch(module: Any, inputs: tuple[Any, ...]) -> None:
        seen.append(inputs[0][:1, 4:].clone())

    hook = target.worker.unet.register_forward_pre_hook(watch)
    try:
        strength = torch.zeros(1, 1, 64, 64)
        for column, value in enumerate((1.0, 0.75, 0.5, 0.25)):
            strength[..., 16 * column : 16 * (column + 1)] = value
        target.sample(picture(), strength, (0,), STEPS, settings("inpaint"))
    finally:
        hook.remove()
    assert len(seen) == STEPS
    for step, told in enumerate(seen):
        mask = told[0, 0]
        assert torch.equal(mask, (torch.arange(8) < 2 * (step + 1)).float().expand(8, 8)), step
        vae = target.worker.vae
        known = picture().clone()
        known[..., : 16 * (step + 1)] = 0
        expected = vae.encode(known).latent_dist.mode() * vae.config.scaling_factor
        if step:  # the pipeline's own first draw is a sample
            torch.testing.assert_close(told[:, 1:], expected, rtol=0, atol=1e-5)


@pytest.mark.filterwarnings("ignore:In CPU autocast")
def test_depth_is_estimated_from_the_picture_as_it_is() -> None:
    """The pipeline's own feature extractor takes a tensor's [0, 1] for 0 to 255: for black."""
    target = model("depth")
    bytes_ = ((picture()[0] + 1) * 127.5).round().byte()
    given = {
        "prompt": "a barn",
        "strength": 0.5,
        "num_inference_steps": STEPS,
        "output_type": "pt",
    }

    def drawn(image: Any) -> Tensor:
        generator = torch.Generator().manual_seed(5)
        made: Tensor = target.pipeline(**given, image=image, generator=generator).images
        return made * 2 - 1

    as_file = drawn(Image.fromarray(bytes_.permute(1, 2, 0).numpy()))
    dark = drawn(bytes_[None] / 255)
    image = bytes_[None] / 127.5 - 1
    made = target.sample(image, constant(0.5), (5,), STEPS, PipelineSettings(prompt="a barn"))
    torch.testing.assert_close(made, as_file, rtol=0, atol=1e-4)
    assert (dark - as_file).abs().max() > 0.01


def test_the_bars_of_a_combined_pipeline_are_as_they_were() -> None:
    pipe = FAMILIES["kandinsky22_combined"]()
    pipe.set_progress_bar_config(disable=True, desc="mine")
    prompt = PipelineSettings(prompt="a barn", pipeline_kwargs={"prior_num_inference_steps": 2})
    wrap_pipeline(pipe).sample(picture(), constant(0.25), (0,), STEPS, prompt)
    for part in (pipe.prior_pipe, pipe.decoder_pipe):
        assert part._progress_bar_config == {"disable": True, "desc": "mine"}


def test_latent_consistency_spreads_its_steps_over_the_largest_strength() -> None:
    """It takes all its steps whatever the strength, which says where they begin."""
    target = model("lcm")
    plain("lcm", 0.5, seed=0)
    expected = target.worker.scheduler.timesteps.tolist()
    strength = torch.full((1, 1, 64, 64), 0.5)
    strength[..., 32:] = 0.25

    with Calls("lcm") as calls:
        target.sample(picture(), strength, (0,), STEPS, settings("lcm"))
    assert calls.count == STEPS
    assert target.worker.scheduler.timesteps.tolist() == expected
    plan = LatentPlan.of(strength[..., ::8, ::8] / 0.5, STEPS)
    assert plan.first.unique().tolist() == [0, 2]


def latent_change(family: str, strength: Tensor, seeds: tuple[int, ...]) -> Tensor:
    """How far the latents end from the picture's, in each column: mean over all else."""
    target, image = model(family), picture(64, 128)
    clean, ended = [], []
    scheduler = target.worker.scheduler
    name = "scale_noise" if hasattr(scheduler, "scale_noise") else "add_noise"
    if noised := getattr(scheduler, name, None):

        def listen(original: Tensor, *rest: Any) -> Tensor:
            clean.append(original)
            result: Tensor = noised(original, *rest)
            return result

        setattr(scheduler, name, listen)
    else:  # SANA-Sprint, whose encoder has no law to draw from
        vae = target.worker.vae
        clean.append(vae.encode(image).latent * vae.config.scaling_factor)
        clean[0] = clean[0] * scheduler.config.sigma_data

    def keep(_: Any, step: int, t: Any, tensors: dict[str, Any]) -> dict[str, Any]:
        ended.append(tensors["latents"])
        return {}

    given = settings(family, image)
    kwargs = {**given.pipeline_kwargs, "callback_on_step_end": keep}
    try:
        target.sample(
            image.expand(len(seeds), -1, -1, -1),
            strength.expand(len(seeds), -1, -1, -1),
            seeds,
            8,
            PipelineSettings(pipeline_kwargs=kwargs, exact=False),
        )
    finally:
        vars(scheduler).pop(name, None)
    before = clean[0]
    if ended[-1].ndim == 3:
        before = pack(before.reshape(len(seeds), -1, *before.shape[-2:]))
        return (ended[-1] - before).abs().mean((0, 2)).view(-1, 8).mean(0)[:8]
    change = (ended[-1] - before).abs().flatten(0, -2).mean(0)
    return change[: image.shape[-1] // target.cell]


@pytest.mark.slow
@pytest.mark.parametrize("family", EDITING)
def test_change_grows_with_strength_along_a_ramp(family: str) -> None:
    change = latent_change(family, ramp(64, 128), tuple(range(20)))
    correlation = float(spearmanr(range(len(change)), change.tolist()).statistic)
    assert correlation > 0.9, change


def test_what_the_pipeline_does_not_take_is_said() -> None:
    sd = model("sd1")
    for given, said in (
        ({"pipeline_kwargs": {"prompt": "a", "stength": 1}}, "sets 'stength', which"),
        ({"pipeline_kwargs": {"prompt": "a", "generator": 1}}, "sets 'generator', which the req"),
        ({}, "refuses its arguments"),
    ):
        with pytest.raises(InputError, match=said):
            sd.sample(picture(), ramp(), (0,), STEPS, PipelineSettings(**given))
    with pytest.raises(InputError, match="prompt was given, and KandinskyV22Img2ImgPipeline"):
        model("kandinsky22").sample(
            picture(), ramp(), (0,), STEPS, PipelineSettings(prompt="a barn")
        )
    with pytest.raises(InputError, match="cannot be told of noise"):
        sd.run(Plan(picture(), ramp(), noise=constant(0.1)), PositionalNoise((0,), 3, 64, 64))


def test_the_users_callback_still_runs_and_can_stop() -> None:
    seen = []

    def watch(pipe: Any, step: int, t: Any, tensors: dict[str, Any]) -> dict[str, Any]:
        assert set(tensors) >= {"latents", "prompt_embeds"}
        seen.append(step)
        if len(seen) == 6:
            raise KeyboardInterrupt
        return {}

    kwargs = {
        "prompt": "a barn",
        "callback_on_step_end": watch,
        "callback_on_step_end_tensor_inputs": ["prompt_embeds"],
    }
    sd = model("sd1")
    chosen = PipelineSettings(pipeline_kwargs=kwargs)
    sd.sample(picture(), ramp(), (0,), STEPS, chosen)
    assert seen == [0, 1, 2, 3]
    with pytest.raises(KeyboardInterrupt):
        sd.sample(picture(), ramp(), (0,), STEPS, chosen)
    assert not {"add_noise", "scale_noise"} & vars(sd.pipeline.scheduler).keys()


@pytest.mark.parametrize("family", EDITING)
def test_a_steps_latents_decode_to_the_picture(family: str) -> None:
    steps: list[Step] = []
    image = picture(64, 128)
    made = model(family).sample(
        image, constant(1.0), (2,), STEPS, settings(family, image), steps.append
    )
    decode = steps[-1].decode
    assert decode is not None
    if family in ("lcm", "sana_sprint"):
        return  # their last latents are not what is decoded
    seen = decode(steps[-1].x).clamp(-1, 1)[..., :64, :128]
    torch.testing.assert_close(seen, made, rtol=0, atol=1e-4)


def test_steps_are_reported() -> None:
    steps: list[Step] = []
    plan = Plan(picture(), 0.5 * ramp(), steps=STEPS, options={"prompt": "a barn"})
    model("sd1").run(plan, PositionalNoise((0,), 3, 64, 64), steps.append)
    assert [(s.index, s.count, s.evaluations) for s in steps] == [(0, 2, 1), (1, 2, 2)]
    assert [float(s.sigma) for s in steps] == [0.5, 0.25]
