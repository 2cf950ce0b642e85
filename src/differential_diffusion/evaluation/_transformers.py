"""Vision models of the transformers library as extractors: safetensors alone, no code of theirs."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..errors import InputError, MissingExtraError
from ..models.computed import weights_digest

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


def load(reference: str, device: torch.device) -> tuple[Callable[[Tensor], Tensor], str]:
    """The features of uint8 pictures (B,3,H,W), and a text that tells the model from others.

    A picture's features are the model's pooled output where its files hold the weights of that;
    else its class token where it has one; else the mean over positions of its last layer. A model
    of pictures and texts gives what it compares with texts.

    Args:
        reference: a folder that `save_pretrained` wrote, or an id on the hub.
        device: where to put it.

    Raises:
        MissingExtraError: transformers is not installed.
        InputError: the reference stands for no such model, or its files lack weights.
    """
    try:
        import transformers
    except ModuleNotFoundError as error:
        if error.name != "transformers":
            raise
        raise MissingExtraError("an extractor of transformers", "maps") from None
    source = _source(reference)
    # Newer releases say by `backend` what older ones say by `use_fast`: no torchvision.
    newer = find_spec("transformers.image_processing_backends") is not None
    plain: dict[str, Any] = {"backend": "pil"} if newer else {"use_fast": False}
    try:
        processor = transformers.AutoImageProcessor.from_pretrained(
            source, trust_remote_code=False, **plain
        )
        model, told = transformers.AutoModel.from_pretrained(
            source, trust_remote_code=False, use_safetensors=True, output_loading_info=True
        )
    except Exception as error:  # its errors are of a dozen kinds
        raise InputError(
            f"'{reference}' cannot be loaded as a vision model of transformers "
            f"({_first_line(error)}): save the model and its image processor there with "
            "save_pretrained, or check the id"
        ) from None
    missing = [name for name in told["missing_keys"] if "pooler" not in name]
    if missing:
        raise InputError(
            f"the model '{reference}' lacks weights that it needs ({min(missing)}): save the "
            "whole model"
        )
    pooled = not told["missing_keys"]  # else random numbers stand in their place
    held = {k: v for k, v in model.state_dict().items() if k not in told["missing_keys"]}
    model = model.float().eval().requires_grad_(False).to(device)
    described = json.dumps(processor.to_dict(), sort_keys=True, default=str)
    return _Seen(
        reference, model, processor, pooled
    ), f"{pooled} {weights_digest(held)} {described}"


class _Seen:
    """What the model says of pictures."""

    def __init__(self, name: str, model: Any, processor: Any, pooled: bool) -> None:
        self.name, self.model, self.processor, self.pooled = name, model, processor, pooled
        names = [name for name, _ in model.named_parameters()]
        self.token = any(name.endswith(("cls_token", "class_embedding")) for name in names)

    def __call__(self, x: Tensor) -> Tensor:
        pictures = list(x.permute(0, 2, 3, 1).cpu().numpy())
        try:
            given = self.processor(
                images=pictures, return_tensors="pt", input_data_format="channels_last"
            )
            shown = given["pixel_values"].to(self.model.device)
            return self._whole(shown)
        except (AttributeError, KeyError, TypeError, ValueError, IndexError) as error:
            raise InputError(
                f"the model '{self.name}' cannot use the pictures ({_first_line(error)}): name a "
                "vision model with its own image processor"
            ) from error

    def _whole(self, shown: Tensor) -> Tensor:
        if hasattr(self.model, "get_image_features"):
            out = self.model.get_image_features(pixel_values=shown)
            return out if isinstance(out, Tensor) else torch.as_tensor(out.pooler_output)
        out = self.model(pixel_values=shown)
        pooled = getattr(out, "pooler_output", None)
        if self.pooled and pooled is not None:
            return torch.as_tensor(pooled).flatten(1)
        last: Tensor = out.last_hidden_state
        if last.ndim == 4:
            return last.mean((2, 3))
        return last[:, 0] if self.token else last.mean(1)


def _source(reference: str) -> str:
    folder = Path(reference).expanduser()
    if reference and folder.is_dir():
        if not (folder / "config.json").is_file() or not list(folder.glob("*.safetensors")):
            raise InputError(
                f"the folder '{reference}' holds no config.json and safetensors weights: name one "
                "that save_pretrained wrote"
            )
        return str(folder.resolve())
    if not reference or folder.exists() or not _HUB_ID.fullmatch(reference):
        raise InputError(
            f"'transformers:{reference}' names no model: put a folder that save_pretrained wrote "
            "after the colon, or an id on the hub such as facebook/dinov2-small"
        )
    return reference


def _first_line(error: Exception) -> str:
    text = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".: ")
    return text if len(text) <= 160 else text[:157] + "..."
