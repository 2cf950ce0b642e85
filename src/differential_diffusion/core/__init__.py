"""The theory: σ-maps, ladders, paths, solvers and guidance, on torch alone."""

from __future__ import annotations

from . import ladder, oracle, precondition
from .guidance import classifier_free, data_consistency, ddnm, loss_guidance, pigdm
from .ladder import LADDERS, sigma_to_strength, strength_to_sigma
from .lift import lift
from .likelihood import bits_per_dimension, log_likelihood
from .metrics import cam, dam, psnr, spatial_change, ssim
from .noise import PositionalNoise, SigmaFields, Window
from .operators import OPERATORS, LinearOperator, Mask
from .path import PATHS, Path, together, wait
from .plan import Plan, Run
from .precondition import edm, edm_inputs, edm_target
from .sample import sample, sample_steps
from .solvers import DDIM, SOLVERS, Churn, DPMpp2M, Heun, PredictorCorrector
from .types import Denoiser, Law, Noise, Solver, Step
from .views import average_views

__all__ = [
    "DDIM",
    "LADDERS",
    "OPERATORS",
    "PATHS",
    "SOLVERS",
    "Churn",
    "DPMpp2M",
    "Denoiser",
    "Heun",
    "Law",
    "LinearOperator",
    "Mask",
    "Noise",
    "Path",
    "Plan",
    "PositionalNoise",
    "PredictorCorrector",
    "Run",
    "SigmaFields",
    "Solver",
    "Step",
    "Window",
    "average_views",
    "bits_per_dimension",
    "cam",
    "classifier_free",
    "dam",
    "data_consistency",
    "ddnm",
    "edm",
    "edm_inputs",
    "edm_target",
    "ladder",
    "lift",
    "log_likelihood",
    "loss_guidance",
    "oracle",
    "pigdm",
    "precondition",
    "psnr",
    "sample",
    "sample_steps",
    "sigma_to_strength",
    "spatial_change",
    "ssim",
    "strength_to_sigma",
    "together",
    "wait",
]
