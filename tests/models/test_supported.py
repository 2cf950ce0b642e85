"""The table of pipelines in the documentation is what is measured here."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch

from differential_diffusion.models.pipeline import PipelineModel, PipelineSettings
from differential_diffusion.models.pipeline_load import wrap_pipeline

from ..pipelines import CALLS, FAMILIES, VIDEOS, arguments

START, END = "<!-- table -->\n", "<!-- end of table -->\n"
HEAD = """\
| pipeline | latents in the callback | sides, multiples of | of 4 steps at 0.5 | as the pipeline |
| --- | --- | ---: | ---: | --- |
"""
LAYOUTS = {3: "tokens of 2 x 2 cells", 4: "pictures", 5: "videos"}
OURS = ("image", "mask_image", "height", "width", "use_resolution_binning")


def row(family: str) -> str:
    model: PipelineModel = wrap_pipeline(FAMILIES[family]())
    image = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0)) * 2 - 1
    call = arguments(family, (image + 1) / 2)
    seen: list[torch.Tensor] = []

    def keep(_: Any, step: int, t: Any, tensors: dict[str, Any]) -> dict[str, Any]:
        seen.append(tensors["latents"])
        return {}

    kwargs = {name: value for name, value in call.items() if name not in OURS}
    chosen = PipelineSettings(pipeline_kwargs={**kwargs, "callback_on_step_end": keep})
    ours = model.sample(image, torch.full((1, 1, 1, 1), 0.5), (1,), 4, chosen)
    if "mask_image" in call:
        call["mask_image"] = torch.ones(1, 1, 64, 64)
    plain = model.pipeline(
        **call,
        strength=0.5,
        num_inference_steps=4,
        generator=torch.Generator().manual_seed(1),
        output_type="pt",
    ).images
    same = "yes" if torch.equal(ours, plain * 2 - 1) else "no"
    name = type(model.pipeline).__name__.removesuffix("Pipeline")
    layout = LAYOUTS[seen[0].ndim]
    return f"| {name} | {layout} | {model.multiple} | {len(seen)} | {same} |\n"


def test_the_documented_table_is_what_is_measured(repository: Path) -> None:
    rows = {row(f) for f, call in CALLS.items() if call.strength and f not in VIDEOS}
    table = HEAD + "".join(sorted(rows))
    page = repository / "docs" / "pipelines.md"
    text = page.read_text("utf-8")
    before, rest = text.split(START)
    documented, after = rest.split(END)
    if os.environ.get("DIFFDIFF_WRITE_DOCS"):
        page.write_text(before + START + table + END + after, "utf-8")
    else:
        assert documented == table
