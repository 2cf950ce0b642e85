"""What every test shares: the photographs' folder, threads, and Hypothesis's profile."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, settings

REPOSITORY = Path(__file__).resolve().parents[1]

settings.register_profile(
    "ci",
    derandomize=True,
    max_examples=25,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.register_profile("thorough", parent=settings.get_profile("ci"), max_examples=500)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))


@pytest.fixture(scope="session", autouse=True)
def _few_threads() -> None:
    """Small convolutions gain nothing from many threads, and lose to them on large machines."""
    torch.set_num_threads(min(4, torch.get_num_threads()))


@pytest.fixture(scope="session")
def repository() -> Path:
    """The folder of the checkout."""
    return REPOSITORY


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder with the published photographs (cbsd68.tar and others); skips without it."""
    named = os.environ.get("DIFFDIFF_TEST_DATA")
    folder = Path(named) if named else REPOSITORY.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"no photographs at '{folder}': name their folder in DIFFDIFF_TEST_DATA")
    return folder
