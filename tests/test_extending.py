"""The examples of docs/extending.md do what the page says."""

from __future__ import annotations

import itertools
import math
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from differential_diffusion.core.path import wait
from differential_diffusion.core.plan import Plan
from differential_diffusion.core.sample import sample
from differential_diffusion.tasks.base import TaskInput


def example(repository: Path, heading: str, block: int = 1) -> dict[str, Any]:
    """What a Python block below a heading of the page defines, by default the first."""
    page = (repository / "docs" / "extending.md").read_text("utf-8")
    section = page.split(f"\n## {heading}", 1)[1]
    found = re.findall(r"^```python\n(.*?)^```", section, re.DOTALL | re.MULTILINE)
    names: dict[str, Any] = {"__name__": "docs_extending"}
    exec(compile(found[block - 1], f"extending.md: {heading}", "exec", dont_inherit=True), names)
    return names


def unit_gaussian(x: Tensor, sigma: Tensor) -> Tensor:
    """E[x0 | x] for x0 ~ N(0, 1)."""
    return x / (1 + sigma * sigma)


def test_the_solver_is_of_the_order_it_declares(repository: Path) -> None:
    """The flow of N(0, 1) is x(s) = x sqrt((1 + s²) / (1 + σ²)), pixel by pixel."""
    solver = example(repository, "A solver")["Ralston"]()
    start = torch.tensor([[0.0, 0.5], [2.0, 8.0]], dtype=torch.float64).view(1, 1, 2, 2)
    x = torch.tensor([[0.3, -1.0], [2.0, -7.0]], dtype=torch.float64).view(1, 1, 2, 2)
    end = 0.05
    exact = x * ((1 + start.clamp(max=end) ** 2) / (1 + start**2)).sqrt()
    errors = []
    for steps in (40, 80, 160):
        ladder = torch.linspace(math.log(8.0), math.log(end), steps + 1, dtype=torch.float64).exp()
        result = sample(unit_gaussian, x, wait(start, steps=ladder), solver)
        assert result[0, 0, 0, 0] == x[0, 0, 0, 0]
        errors.append(float((result - exact)[0, 0, 1, 1].abs()))
    for coarse, fine in itertools.pairwise(errors):
        assert math.log2(coarse / fine) == pytest.approx(solver.order, abs=0.2)


def test_the_map_is_what_it_says(repository: Path) -> None:
    checkerboard = example(repository, "A map source")["checkerboard"]
    values = checkerboard(5, 7, cell=2).array
    assert values.shape == (5, 7)
    assert values[0, 0] == values[1, 1] == values[2, 2] == values[4, 0] == 0
    assert values[0, 2] == values[2, 0] == values[4, 6] == 1


def test_the_task_plans_what_was_asked(repository: Path) -> None:
    task = example(repository, "A task")["TASK"]
    image = torch.linspace(-1, 1, 3 * 4 * 5).view(1, 3, 4, 5)
    plans: list[Plan] = []

    def run(plan: Plan) -> Tensor:
        plans.append(plan)
        return -plan.image

    request = task.request(image=image, amount=0.25, seed=7, steps=9)
    output = task.perform(request, TaskInput(image), run)
    (plan,) = plans
    assert torch.equal(plan.image, image)
    assert torch.equal(plan.strength, torch.full((1, 1, 4, 5), 0.25))
    assert (plan.seeds, plan.steps) == ((7,), 9)
    assert torch.equal(output.samples, -image)
    assert not output.keep.any()


def test_the_measurement_s_adjoint_and_pseudo_inverse(repository: Path) -> None:
    """Against dense linear algebra: A as a matrix from its columns."""
    operator = example(repository, "A measurement")["BlockMean"]()
    basis = torch.eye(16, dtype=torch.float64).view(16, 1, 4, 4)
    matrix = operator.forward(basis).flatten(1).T
    measured = torch.eye(4, dtype=torch.float64).view(4, 1, 2, 2)
    assert torch.allclose(operator.adjoint(measured).flatten(1).T, matrix.T)
    inverse = operator.pseudo_inverse(measured).flatten(1).T
    assert torch.allclose(inverse, torch.linalg.pinv(matrix), atol=1e-9)
