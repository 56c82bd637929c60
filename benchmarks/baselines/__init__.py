"""Specialists and simple orders, one a file, that rank the very lists a language model ranks."""

from unified_ranker.benchmarks.baselines.base import Baseline, Scorer
from unified_ranker.benchmarks.baselines.registry import BASELINES, UNTRAINED, baseline_named

__all__ = ["BASELINES", "UNTRAINED", "Baseline", "Scorer", "baseline_named"]
