"""What editors are told of the settings is what the requests take."""

from __future__ import annotations

import inspect
from typing import Any, get_type_hints

import pytest

from differential_diffusion import api, schema, settings

REQUESTS: dict[str, type[schema.Request]] = {
    "edit": schema.EditRequest,
    "inpaint": schema.InpaintRequest,
    "denoise": schema.DenoiseRequest,
    "restore": schema.RestoreRequest,
    "upscale": schema.UpscaleRequest,
    "demosaic": schema.DemosaicRequest,
    "enhance": schema.EnhanceRequest,
    "colorize": schema.ColorizeRequest,
    "deblock": schema.DeblockRequest,
    "deblur": schema.DeblurRequest,
    "generate": schema.GenerateRequest,
    "fan": schema.EditRequest,
    "edit_batch": schema.EditRequest,
}
APART = {  # settings that a function takes under another name, or not at all
    "edit_batch": {"image", "strength", "invert"},
    "generate": {"image"},
}
HINTS: dict[str, dict[str, Any]] = {
    name: get_type_hints(getattr(settings, name)) for name in settings.__all__
}


def settings_of(name: str) -> dict[str, Any]:
    """The settings that a function's last parameter names."""
    annotation = inspect.signature(getattr(api, name)).parameters["settings"].annotation
    return HINTS[annotation.removeprefix("Unpack[").removesuffix("]")]


@pytest.mark.parametrize("name", REQUESTS)
def test_settings_are_the_fields_of_the_request(name: str) -> None:
    named = set(inspect.signature(getattr(api, name)).parameters)
    fields = REQUESTS[name].model_fields.keys() - {"task"} - APART.get(name, set())
    assert settings_of(name).keys() == fields - named


@pytest.mark.parametrize("name", REQUESTS)
def test_settings_have_the_types_of_the_fields(name: str) -> None:
    for key, hint in settings_of(name).items():
        field = REQUESTS[name].model_fields[key]
        assert hint == field.annotation, key


def test_every_public_task_is_covered() -> None:
    assert set(api.__all__) - {"Result"} == set(REQUESTS)
