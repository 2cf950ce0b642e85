"""The engine: requests in, results out; regions, tiles and batches on the way."""

from .executor import Progress, execute
from .regions import RegionalDenoiser, windows_over
from .result import Result
from .run import run_plan

__all__ = ["Progress", "RegionalDenoiser", "Result", "execute", "run_plan", "windows_over"]
