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
from .distances import (
    KernelDistance,
    Moments,
    Neighbours,
    frechet_distance,
    kernel_distance,
    neighbours,
)
from .perceptual import lpips_change

__all__ = [
    "MEASURES",
    "Adherence",
    "AdherenceReport",
    "AdherenceTally",
    "KernelDistance",
    "Measure",
    "Moments",
    "Neighbours",
    "frechet_distance",
    "heat_maps",
    "kernel_distance",
    "lpips_change",
    "mean_change",
    "neighbours",
    "report",
]
