"""One contract for every task: a request type of its own, kept pixels, sizes, serialisation."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from differential_diffusion.core.plan import Plan
from differential_diffusion.errors import InputError
from differential_diffusion.schema import EditRequest, MapSpec, Request, build
from differential_diffusion.tasks import TASKS, TaskInput

HALF = np.zeros((20, 32), dtype=np.float32)
HALF[:, 16:] = 1
NEEDS: dict[str, dict[str, Any]] = {
    "edit": {"strength": HALF},
    "inpaint": {"mask": HALF},
    "denoise": {"noise_level_8bit": 20 * HALF},
    "generate": {},
    "upscale": {"factor": 3},
    "demosaic": {},
    "enhance": {"level": "high", "strength": HALF},
    "colorize": {"strength": HALF},
    "deblock": {"quality": 20, "strength": HALF},
    "deblur": {"sigma": 1, "strength": HALF, "noise_level_8bit": 3},
    "restore": {"noise_level_8bit": 20 * HALF, "damage": HALF},
}


def run(plan: Plan) -> Tensor:
    """A model that paints everything grey: the engine, not the task, restores kept pixels."""
    return torch.zeros(len(plan.seeds), *plan.image.shape[1:])


def test_every_task_has_a_request_and_the_other_way_round() -> None:
    for name, task in TASKS.items():
        assert task.request.model_fields["task"].default == name
    assert NEEDS.keys() == TASKS.keys()
    assert all(task.description for task in TASKS.values())


@pytest.mark.parametrize("samples", [1, 3])
@pytest.mark.parametrize("grey", [False, True])
@pytest.mark.parametrize("name", TASKS)
def test_outputs_have_the_stated_shapes(name: str, grey: bool, samples: int) -> None:
    if name == "demosaic" and not grey:
        pytest.skip("a raw picture has one channel")
    if name == "deblock" and samples > 1:
        pytest.skip("deblocking draws no samples")
    request = build(TASKS[name].request, image="x.png", samples=samples, **NEEDS[name])
    given = TaskInput(torch.rand(1, 1, 20, 32).expand(1, 3, 20, 32).contiguous(), grey)
    output = TASKS[name].perform(request, given, run)
    height, width = (NEEDS[name].get("factor", 1) * side for side in (20, 32))
    assert output.samples.shape == (samples, 3, height, width)
    assert output.keep.shape == output.map.shape == (1, 1, height, width)
    assert output.keep.dtype == torch.bool
    nothing = torch.zeros(height, width, dtype=torch.bool)
    kept = nothing if name in ("generate", "upscale", "demosaic") else HALF == 0
    assert torch.equal(output.keep[0, 0], torch.as_tensor(kept))
    assert bool((output.map[output.keep] == 0).all())
    assert 0 <= float(output.map.min()) <= float(output.map.max()) <= 1


@pytest.mark.parametrize("name", TASKS)
def test_requests_travel_as_json_unless_they_hold_objects(name: str) -> None:
    paths: dict[str, Any] = {
        key: value if isinstance(value, int | str) else "map.png"
        for key, value in NEEDS[name].items()
    }
    if name in ("denoise", "restore"):
        paths["noise_level_8bit"] = 12.5
    request: Request = build(TASKS[name].request, image="x.png", seed=7, **paths)
    assert TASKS[name].request.model_validate_json(request.to_json()) == request
    with pytest.raises(InputError, match="JSON cannot"):
        build(TASKS[name].request, image=np.zeros((2, 2)), **paths).to_json()


@pytest.mark.parametrize("name", TASKS)
def test_unknown_settings_are_refused_by_name(name: str) -> None:
    with pytest.raises(InputError, match="'step' is no setting of"):
        build(TASKS[name].request, image="x.png", step=3, **NEEDS[name])


def test_a_named_map_travels_as_json() -> None:
    spec = MapSpec(source="linear", params={"angle": 90})
    request = build(EditRequest, image="x.png", strength=spec)
    assert EditRequest.model_validate_json(request.to_json()) == request
    assert build(EditRequest, image="x.png", strength=spec.model_dump()) == request
    odd = MapSpec(source="boxes", params={"boxes": object()})
    with pytest.raises(InputError, match="JSON cannot"):
        build(EditRequest, image="x.png", strength=odd).to_json()


def test_a_missing_field_is_named_alone() -> None:
    with pytest.raises(InputError, match=r"^EditRequest needs 'strength': give it$"):
        build(EditRequest, image=np.zeros((2, 2)))
