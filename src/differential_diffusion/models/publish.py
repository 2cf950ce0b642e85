"""A model's card, and its way to the hub."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol

import yaml

from ..errors import InputError, MissingExtraError
from .checkpoint import CheckpointConfig
from .compress import Quality

__all__ = ["CARD_FILE", "Card", "Form", "Hub", "check_repository", "model_card", "push"]

CARD_FILE = "README.md"

Form = Literal["checkpoint", "diffusers", "parts"]
"""What a folder holds: a checkpoint of ours, a pipeline, or a U-Net with its scheduler alone."""

_REPOSITORY = re.compile(r"(?!.*(--|\.\.|\.git$))\b[\w.-]{1,96}\b/\b[\w.-]{1,96}\b", re.ASCII)


class Card(NamedTuple):
    """What a model card tells besides the checkpoint's own description.

    Attributes:
        name: of the model.
        form: what lies beside the card.
        license: the licence of the weights, as the hub names it, or None for none given.
        figures: the last line of the run's metrics.jsonl.
        quality: what storing and pruning cost, and on what pictures that was measured.
        repository: its id on the hub.
        notice: whether a NOTICE goes with the weights.
    """

    name: str
    form: Form = "checkpoint"
    license: str | None = None
    figures: Mapping[str, Any] | None = None
    quality: tuple[str, Sequence[Quality]] | None = None
    repository: str | None = None
    notice: bool = False


def model_card(described: CheckpointConfig, card: Card) -> str:
    """The text of README.md, with metadata that the hub reads, for one model.

    Args:
        described: the checkpoint's description.
        card: the rest.
    """
    library = "differential-diffusion" if card.form == "checkpoint" else "diffusers"
    tags = ["differential-diffusion", "diffusion", "image-denoising"]
    if described.classes:
        tags.append("class-conditional")
    metadata = {
        "license": card.license,
        "library_name": library,
        "pipeline_tag": "unconditional-image-generation",
        "tags": tags,
    }
    metadata = {key: value for key, value in metadata.items() if value is not None}
    parts = [
        "---\n" + yaml.safe_dump(metadata, sort_keys=False) + "---",
        f"# {card.name}",
        _what(described),
        "## How to load it\n\n" + _loading(described, card),
        "## Training\n\n" + _training(described, card),
        "## Limits\n\n" + _limits(described, card),
    ]
    return "\n\n".join(parts) + "\n"


def _what(described: CheckpointConfig) -> str:
    network, form = described.network, described.form
    kind = type(network).__name__.removesuffix("Config")
    told = (
        f"one of {form.timesteps} timesteps of {form.schedule} betas"
        if form.told == "timestep"
        else "the noise level"
    )
    taken = "pictures" if described.latent is None else "latents"
    of = "of every pixel" if described.maps else "of the whole picture"
    lines = [
        "A denoising diffusion model, made with differential-diffusion.",
        "",
        f"- {taken}: {network.in_channels} channels",
        f"- network: {kind}, told {told} {of}",
        f"- predicts: {form.prediction}",
        f"- σ: from {described.sigma_min:g} to {described.sigma_max:g}, on data in [-1, 1]",
    ]
    if described.size is not None:
        height, width = described.size
        lines.append(f"- trained on: pictures of {height} x {width} pixels")
    if described.classes:
        lines.append(f"- classes: {len(described.classes)} ({_shown(described.classes)})")
    return "\n".join(lines)


def _shown(names: Sequence[str]) -> str:
    return ", ".join(names[:20]) + (", ..." if len(names) > 20 else "")


def _loading(described: CheckpointConfig, card: Card) -> str:
    """Code that loads the model and draws from it."""
    fetched = [f'folder = "{card.name}"  # the folder of this file']
    if card.repository is not None:
        fetched = [
            "from huggingface_hub import snapshot_download",
            "",
            f'folder = snapshot_download("{card.repository}")',
        ]
    if card.form == "diffusers":
        code = [
            "from diffusers import DDIMPipeline",
            *fetched,
            "pipe = DDIMPipeline.from_pretrained(folder)",
            "picture = pipe(num_inference_steps=50).images[0]",
        ]
    elif card.form == "parts":
        code = [
            "from diffusers import DDIMScheduler, UNet2DModel",
            *fetched,
            'unet = UNet2DModel.from_pretrained(folder, subfolder="unet")',
            'scheduler = DDIMScheduler.from_pretrained(folder, subfolder="scheduler")',
            "# unet(x_t, t, class_labels=labels); classes.json names the labels in order, and the",
            f'# label {len(described.classes)} stands for "not known".',
        ]
    else:
        side = (described.size or (64, 64))[0]
        code = [
            "import differential_diffusion as dd",
            *fetched,
            "model = dd.load_model(folder)",
            *(
                [f'model = model.given(label="{described.classes[0]}")']
                if described.classes
                else []
            ),
            f"result = dd.generate(width={side}, height={side}, model=model)",
        ]
    return "```python\n" + "\n".join(code) + "\n```"


def _training(described: CheckpointConfig, card: Card) -> str:
    told = {key: value for key, value in described.card.items() if not isinstance(value, dict)}
    rows = [("of the checkpoint", key, value) for key, value in told.items()]
    rows += [("of the last validation", key, value) for key, value in (card.figures or {}).items()]
    if not rows:
        return "No figures were kept with these weights."
    lines = ["| | | |", "| --- | --- | --- |"]
    lines += [f"| {where} | {key} | {_number(value)} |" for where, key, value in rows]
    text = "\n".join(lines)
    if card.figures is not None:
        text += (
            "\n\nPSNR is in dB, of one-step denoising of held-out pictures at σ on the 0-255 scale."
        )
    return text


def _number(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _limits(described: CheckpointConfig, card: Card) -> str:
    limits = []
    if described.size is not None:
        limits.append("Pictures much larger than those of training were not seen in training.")
    if not described.maps:
        limits.append(
            "The network knows one noise level for the whole picture; strength maps are lifted to "
            "it, which is less exact than a network that is told every pixel's."
        )
    limits.append("Its samples resemble its training pictures, and share what is wrong with them.")
    if card.notice:
        limits.append("A notice goes with the weights, in the file NOTICE: heed it, and keep it.")
    elif card.license is None:
        limits.append("No licence was given: ask before using the weights.")
    text = "\n".join(f"- {limit}" for limit in limits)
    return text if card.quality is None else f"{text}\n\n{_cost(*card.quality)}"


def _cost(pictures: str, quality: Sequence[Quality]) -> str:
    lines = [
        f"What the smaller weights cost, in one-step denoising of {pictures}:",
        "",
        "| σ of the noise | PSNR before | after | largest difference |",
        "| ---: | ---: | ---: | ---: |",
    ]
    lines += [
        f"| {q.level_8bit:g} | {q.before:.2f} dB | {q.after:.2f} dB | {q.largest:.3g} of 255 |"
        for q in quality
    ]
    return "\n".join(lines)


class Hub(Protocol):
    """What is used of `huggingface_hub.HfApi`."""

    def create_repo(self, repo_id: str, *, private: bool | None, exist_ok: bool) -> Any:
        """Make the repository unless it exists."""
        ...

    def upload_folder(self, *, repo_id: str, folder_path: Path, commit_message: str) -> Any:
        """Send the files of a folder in one commit."""
        ...


def check_repository(repository: str) -> None:
    """That this is an id which the hub takes, "org/name".

    Raises:
        InputError: if not.
    """
    if not _REPOSITORY.fullmatch(repository):
        raise InputError(
            f"'{repository}' is no id on the hub: give 'organisation/name', of letters, digits and "
            "single - . or _ between them"
        )


def push(folder: Path, repository: str, *, private: bool = False, hub: Hub | None = None) -> str:
    """Send a folder to a model repository of the hub, made unless it exists.

    Args:
        folder: with a model and its card.
        repository: "org/name".
        private: whether a repository that is made is seen by its owners alone; one that exists
            stays as it is.
        hub: the connection; by default that of huggingface_hub, with the token of its login.

    Returns: what the upload answered, an address.

    Raises:
        InputError: for an id of another form, without access, or when the hub cannot be reached.
        MissingExtraError: without huggingface_hub.
    """
    check_repository(repository)
    if hub is None:
        try:
            from huggingface_hub import HfApi
        except ModuleNotFoundError as error:
            if error.name != "huggingface_hub":
                raise
            raise MissingExtraError("pushing to the hub", "hub") from None
        hub = HfApi()
    try:
        hub.create_repo(repository, private=private or None, exist_ok=True)
        sent = hub.upload_folder(
            repo_id=repository, folder_path=folder, commit_message="Upload the model and its card"
        )
    except Exception as error:
        sentence = _explained(error, repository)
        if sentence is None:
            raise
        raise InputError(sentence) from error
    return str(sent)


def _explained(error: Exception, repository: str) -> str | None:
    """One sentence for what the hub's library raises; None for what it is not known for."""
    names = {cls.__name__ for cls in type(error).__mro__}
    status = getattr(getattr(error, "response", None), "status_code", None)
    if status in (401, 403) or "LocalTokenNotFoundError" in names:
        return (
            f"the hub does not let you write to '{repository}': sign in with 'hf auth login', "
            "with a token that may write there"
        )
    if status is not None:
        return f"the hub refused '{repository}' (HTTP {status}): check its name, or try again later"
    if names & _UNREACHED or isinstance(error, ConnectionError | TimeoutError):
        return (
            f"the hub cannot be reached to push '{repository}': go online and unset "
            "HF_HUB_OFFLINE, or keep the folder and push it later"
        )
    return None


_UNREACHED = {"OfflineModeIsEnabled", "TransportError", "ConnectionError", "Timeout"}
"""Of huggingface_hub, httpx and requests, which different versions of it use."""
