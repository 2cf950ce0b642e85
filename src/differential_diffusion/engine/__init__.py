"""The engine: requests in, results out; regions, tiles and batches on the way."""

from .anomaly import Anomaly, anomaly_map
from .batch import execute_batch
from .executor import Progress, execute, source_of
from .fan import fan_out
from .regions import RegionalDenoiser, windows_over
from .result import Result
from .run import run_plan
from .samples import Sample, SampleSettings, draw_samples, interpolate, labels_asked, sample_grid
from .variants import protecting_map, vary

__all__ = [
    "Anomaly",
    "Progress",
    "RegionalDenoiser",
    "Result",
    "Sample",
    "SampleSettings",
    "anomaly_map",
    "draw_samples",
    "execute",
    "execute_batch",
    "fan_out",
    "interpolate",
    "labels_asked",
    "protecting_map",
    "run_plan",
    "sample_grid",
    "source_of",
    "vary",
    "windows_over",
]
