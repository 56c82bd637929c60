"""Rank the lists of tasks by models and baselines, and keep what was ranked: resumable, cell by cell."""

from unified_ranker.benchmarks.runner.arms import Arm, BaselineArm, ModelArm, RankedList
from unified_ranker.benchmarks.runner.cell import Cell
from unified_ranker.benchmarks.runner.estimate import Estimate
from unified_ranker.benchmarks.runner.run import run_benchmark

__all__ = ["Arm", "BaselineArm", "Cell", "Estimate", "ModelArm", "RankedList", "run_benchmark"]
