"""Evaluation: whether results do what they were asked for."""

from __future__ import annotations

from .adherence import (
    MEASURES,
    Adherence,
    AdherenceReport,
    AdherenceTally,
    Measure,
    heat_maps,
    mean_change,
    report,
)
from .perceptual import lpips_change

__all__ = [
    "MEASURES",
    "Adherence",
    "AdherenceReport",
    "AdherenceTally",
    "Measure",
    "heat_maps",
    "lpips_change",
    "mean_change",
    "report",
]
