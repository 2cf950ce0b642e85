"""The engine: requests in, results out; regions, tiles and batches on the way."""

from .executor import Progress, execute
from .fan import fan_out
from .regions import RegionalDenoiser, windows_over
from .result import Result
from .run import run_plan

__all__ = [
    "Progress",
    "RegionalDenoiser",
    "Result",
    "execute",
    "fan_out",
    "run_plan",
    "windows_over",
]
