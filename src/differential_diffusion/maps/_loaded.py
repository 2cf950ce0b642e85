"""A loaded vision model with what prepares its input: run on a picture, outputs checked."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from ..errors import InputError

__all__ = ["Kind", "Loaded", "first_line", "fit"]

_MIN_SIDE, _MAX_ASPECT = 32, 8


@dataclass(frozen=True, eq=False)
class Kind:
    """A kind of model: how messages call it, and the library's classes that are of it.

    Attributes:
        words: what it is.
        such_as: a few that are.
        tables: names of the library's tables from the type of a model to its class.
        classes: more of these, type to class.
    """

    words: str
    such_as: str
    tables: tuple[str, ...] = ()
    classes: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Loaded:
    """A model in eval mode, with what prepares its input.

    Attributes:
        kind: what it is used as.
        name: what messages call it.
        model: the module.
        processor: the image processor.
        tokenizer: the tokenizer, where texts are asked about.
        missing: parameters that the files did not hold; they are NaN.
    """

    kind: Kind
    name: str
    model: Any
    processor: Any
    tokenizer: Any = None
    missing: tuple[str, ...] = ()

    @property
    def labels(self) -> dict[int, str]:
        """The names of the model's classes."""
        names = getattr(self.model.config, "id2label", None) or {}
        return {int(index): str(name) for index, name in names.items()}

    def run(self, image: NDArray[np.float32], **more: Tensor) -> Any:
        """The model's outputs for a picture (H,W,C) in [-1, 1], the whole of it.

        Raises:
            InputError: the model or its processor cannot use the picture.
        """
        first = next(iter(self.model.parameters()), torch.zeros(()))
        try:
            given = self.processor(
                images=_rgb(image), return_tensors="pt", **_uncropped(self.processor)
            )
            shown = given.get("pixel_mask")
            inputs = {
                name: value.to(first.device, first.dtype if value.is_floating_point() else None)
                for name, value in {**given, **more}.items()
            }
            with torch.no_grad():
                outputs = self.model(**inputs)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise InputError(
                f"the model {self.name} cannot use the picture ({first_line(error)}): "
                f"name {self.kind.words} with its own image processor."
            ) from error
        if shown is not None and not bool(shown.all()):
            raise InputError(
                f"the image processor of {self.name} pads the picture, so that no map would line "
                "up with it: set pad_size to null in its preprocessor_config.json."
            )
        return outputs

    def tensor(self, outputs: Any, name: str, *dimensions: int) -> Tensor:
        """One of the outputs by name, for one picture, float32 on the CPU.

        Raises:
            InputError: there is none of that name and number of dimensions, or it is not finite.
        """
        value = getattr(outputs, name, None)
        if not isinstance(value, Tensor) or value.ndim not in dimensions:
            raise self.wrong_kind()
        if value.ndim > 2 and len(value) != 1:  # the processor cut the picture into several
            raise self.wrong_kind()
        value = value.detach().to("cpu", torch.float32)
        if bool(torch.isfinite(value).all()):
            return value
        if self.missing:
            shown = ", ".join(self.missing[:2])
            raise InputError(
                f"the model {self.name} lacks weights that it needs ({shown}): "
                f"name the folder of {self.kind.words} that is trained."
            )
        raise InputError(
            f"the model {self.name} gives NaN or infinity: use another model or device."
        )

    def boxes(
        self, outputs: Any, threshold: float, height: int, width: int
    ) -> list[tuple[float, int, tuple[float, float, float, float]]]:
        """What a detector found: score, class and box (left, top, right, bottom) in pixels."""
        for name in ("logits", "pred_boxes"):
            self.tensor(outputs, name, 3)
        process = getattr(self.processor, "post_process_object_detection", None)
        if process is None:
            raise self.wrong_kind()
        size = torch.tensor([[height, width]])
        (found,) = process(outputs, threshold=threshold, target_sizes=size)
        scores, labels = found["scores"].tolist(), found["labels"].tolist()
        return list(zip(scores, labels, map(tuple, found["boxes"].tolist()), strict=True))

    def tokens(self, text: str) -> dict[str, Tensor]:
        """A text as the model reads it.

        Raises:
            InputError: a text longer than the model reads.
        """
        if self.tokenizer is None:
            raise InputError(
                f"the model {self.name} has no tokenizer beside it: give the pair "
                "(model, processor) with a processor that holds one."
            )
        tokens = dict(self.tokenizer([text], return_tensors="pt", verbose=False))
        count, most = tokens["input_ids"].shape[1], self._longest_text()
        if count > most:
            raise InputError(
                f"the text is {count} tokens long and the model {self.name} reads {most}: "
                "give a shorter one."
            )
        return {name: tokens[name] for name in ("input_ids", "attention_mask")}

    def _longest_text(self) -> int:
        config = getattr(self.model.config, "text_config", None)
        return int(getattr(config, "max_position_embeddings", 77))

    def wrong_kind(self) -> InputError:
        """The error for a model that is of another kind."""
        return InputError(
            f"the model {self.name} is {type(self.model).__name__}, not {self.kind.words}: "
            f"name one such as {self.kind.such_as}."
        )


def fit(values: Tensor, height: int, width: int) -> NDArray[np.float32]:
    """Values (h,w) at a picture's size: bilinear, and antialiased where they shrink."""
    if values.shape == (height, width):
        return np.asarray(values.numpy(), np.float32)
    resized = F.interpolate(
        values[None, None], (height, width), mode="bilinear", align_corners=False, antialias=True
    )
    return np.asarray(resized[0, 0].numpy(), np.float32)


def first_line(error: Exception) -> str:
    """The first line of a foreign error, cut where it is long."""
    text = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".: ")
    return text if len(text) <= 160 else text[:157] + "..."


def _rgb(image: NDArray[np.float32]) -> Image.Image:
    """The picture in 8-bit RGB; small and narrow ones stretched to what models can take."""
    levels = np.rint((np.clip(image, -1, 1) + 1) * 127.5).astype(np.uint8)
    picture = Image.fromarray(np.repeat(levels, 3, 2) if levels.shape[2] == 1 else levels)
    width, height = picture.size
    size = (
        max(width, _MIN_SIDE, math.ceil(height / _MAX_ASPECT)),
        max(height, _MIN_SIDE, math.ceil(width / _MAX_ASPECT)),
    )
    return picture if size == picture.size else picture.resize(size, Image.Resampling.BICUBIC)


def _uncropped(processor: Any) -> dict[str, Any]:
    """Options by which a processor neither crops nor pads, so that maps line up with pictures."""
    options: dict[str, Any] = {}
    if getattr(processor, "do_center_crop", False):
        size = {side: int(processor.crop_size[side]) for side in ("height", "width")}
        options = {"do_center_crop": False, "do_resize": True, "size": size}
    if getattr(processor, "do_pad", False):
        options["do_pad"] = False
    return options
