"""The ranking methods: generators that ask for completions and return a ranking, and do no I/O themselves."""

from __future__ import annotations

from unified_ranker.strategies.base import Asking, Sampling, Strategy
from unified_ranker.strategies.elimination import Elimination
from unified_ranker.strategies.one_shot import OneShot
from unified_ranker.strategies.registry import METHODS, make_strategy

__all__ = ["METHODS", "Asking", "Elimination", "OneShot", "Sampling", "Strategy", "make_strategy"]
