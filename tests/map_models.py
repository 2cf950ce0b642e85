"""Tiny models with random weights for the sources of maps that look through one.

Every part is made here, tokenizers too, so nothing is downloaded. Weights are drawn wide, or else
the outputs of such small models would hardly differ from pixel to pixel.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

SIDE = 32
CLASSES = ("sky", "person, individual, someone", "Traffic_Light")


def sides(pixels: int = SIDE) -> dict[str, int]:
    return {"height": pixels, "width": pixels}


def labels(*names: str) -> dict[str, Any]:
    return {"id2label": dict(enumerate(names)), "label2id": {n: k for k, n in enumerate(names)}}


def depth_model() -> tuple[Any, Any]:
    from transformers import DPTConfig, DPTForDepthEstimation, DPTImageProcessorPil

    config = DPTConfig(
        hidden_size=16, num_hidden_layers=4, num_attention_heads=2, intermediate_size=16,
        image_size=SIDE, patch_size=8, backbone_out_indices=[0, 1, 2, 3], is_hybrid=False,
        neck_hidden_sizes=[8] * 4, fusion_hidden_size=8, reassemble_factors=[4, 2, 1, 0.5],
    )  # fmt: skip
    return DPTForDepthEstimation(config), DPTImageProcessorPil(size=sides())


def segmentation_model(*names: str) -> tuple[Any, Any]:
    from transformers import (
        SegformerConfig,
        SegformerForSemanticSegmentation,
        SegformerImageProcessorPil,
    )

    config = SegformerConfig(
        depths=[1] * 4, hidden_sizes=[8] * 4, num_attention_heads=[1] * 4, decoder_hidden_size=8,
        **labels(*names or CLASSES),
    )  # fmt: skip
    return SegformerForSemanticSegmentation(config), SegformerImageProcessorPil(size=sides())


def queries_model() -> tuple[Any, Any]:
    from transformers import (
        Mask2FormerConfig,
        Mask2FormerForUniversalSegmentation,
        Mask2FormerImageProcessorPil,
        SwinConfig,
    )

    backbone = SwinConfig(
        embed_dim=8, depths=[1] * 4, num_heads=[1] * 4, window_size=2, image_size=SIDE,
        out_features=["stage1", "stage2", "stage3", "stage4"],
    )  # fmt: skip
    config = Mask2FormerConfig(
        backbone_config=backbone, hidden_dim=32, feature_size=32, mask_feature_size=32,
        encoder_layers=1, decoder_layers=2, num_attention_heads=2, dim_feedforward=16,
        encoder_feedforward_dim=16, num_queries=5, **labels(*CLASSES),
    )  # fmt: skip
    return Mask2FormerForUniversalSegmentation(config), Mask2FormerImageProcessorPil(size=sides(64))


def detection_model() -> tuple[Any, Any]:
    from transformers import YolosConfig, YolosForObjectDetection, YolosImageProcessorPil

    config = YolosConfig(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16,
        image_size=[SIDE, SIDE], patch_size=8, num_detection_tokens=9, **labels("cat", "dog"),
    )  # fmt: skip
    return YolosForObjectDetection(config), YolosImageProcessorPil(size=sides())


def text_model() -> tuple[Any, Any]:
    from transformers import (
        CLIPSegConfig,
        CLIPSegForImageSegmentation,
        CLIPSegProcessor,
        CLIPTokenizer,
        ViTImageProcessorPil,
    )

    letters = [chr(code) for code in range(ord("a"), ord("z") + 1)]
    pieces = [
        *letters,
        *(f"{letter}</w>" for letter in letters),
        "<|startoftext|>",
        "<|endoftext|>",
    ]
    ids = {piece: index for index, piece in enumerate(pieces)}
    first, last = len(ids) - 2, len(ids) - 1
    layers = {
        "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 3,
        "num_attention_heads": 2,
    }  # fmt: skip
    config = CLIPSegConfig(
        text_config={
            **layers, "vocab_size": len(ids), "max_position_embeddings": 20,
            "bos_token_id": first, "eos_token_id": last, "pad_token_id": last,
        },
        vision_config={**layers, "image_size": SIDE, "patch_size": 8},
        projection_dim=8, extract_layers=[0, 1], reduce_dim=8, decoder_num_attention_heads=2,
        decoder_intermediate_size=16,
    )  # fmt: skip
    tokenizer = CLIPTokenizer(vocab=ids, merges=[], model_max_length=20)
    processor = CLIPSegProcessor(ViTImageProcessorPil(size=sides()), tokenizer)
    return CLIPSegForImageSegmentation(config), processor


BUILDERS: dict[str, Callable[[], tuple[Any, Any]]] = {
    "depth": depth_model,
    "segmentation": segmentation_model,
    "queries": queries_model,
    "detection": detection_model,
    "text": text_model,
    "salient": lambda: segmentation_model("Background", "thing"),
}

SETTINGS: dict[str, dict[str, Any]] = {
    "depth": {"near": 0.9, "far": 0.1},
    "segmentation": {"classes": {"sky": 0.8, "person": 0.1}, "default": 0.3},
    "detection": {"classes": {"cat": 0.8, "dog": 0.4}, "threshold": 0.1, "feather": 1},
    "text": {"text": "the red car", "white": 0.5},
    "salient": {"strength": 0.2, "default": 1},
}
"""What to ask of the sources, beside `model`."""


def build(name: str) -> tuple[Any, Any]:
    """A model in eval mode and its processor."""
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(len(name))
        model, processor = BUILDERS[name]()
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape), alpha=0.4)
    return model.eval(), processor


def save(name: str, folder: Path) -> Path:
    """The folder below `folder` with a model and its processor."""
    model, processor = build(name)
    model.save_pretrained(folder / name)
    processor.save_pretrained(folder / name)
    return folder / name
