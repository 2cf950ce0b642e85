"""Evaluation: whether results do as they were asked, and how like a reference samples are."""

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
from .compare import (
    Evaluation,
    Figures,
    Gallery,
    against,
    compare_sets,
    load_results,
    paired_against,
    save_results,
)
from .curves import quality_curve, run_checkpoints, run_metrics, training_curve
from .distances import (
    KernelDistance,
    Moments,
    Neighbours,
    frechet_distance,
    kernel_distance,
    nearest,
    neighbours,
)
from .extractors import EXTRACTORS, Extractor, load_extractor
from .page import report_page
from .paired import Pair, PairedFigures, compare_pairs
from .perceptual import lpips_change, lpips_distance
from .protocol import PairedProtocol, Protocol, comparable
from .sets import FeatureSet, collect, load_features, save_features

__all__ = [
    "EXTRACTORS",
    "MEASURES",
    "Adherence",
    "AdherenceReport",
    "AdherenceTally",
    "Evaluation",
    "Extractor",
    "FeatureSet",
    "Figures",
    "Gallery",
    "KernelDistance",
    "Measure",
    "Moments",
    "Neighbours",
    "Pair",
    "PairedFigures",
    "PairedProtocol",
    "Protocol",
    "against",
    "collect",
    "comparable",
    "compare_pairs",
    "compare_sets",
    "frechet_distance",
    "heat_maps",
    "kernel_distance",
    "load_extractor",
    "load_features",
    "load_results",
    "lpips_change",
    "lpips_distance",
    "mean_change",
    "nearest",
    "neighbours",
    "paired_against",
    "quality_curve",
    "report",
    "report_page",
    "run_checkpoints",
    "run_metrics",
    "save_features",
    "save_results",
    "training_curve",
]
