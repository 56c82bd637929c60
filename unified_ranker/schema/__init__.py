"""The one candidate-list format: its types, its validation, and the files it is read from and written to."""

from __future__ import annotations

from unified_ranker.schema.types import (
    DOMAINS,
    SPLITS,
    Candidate,
    Outcome,
    RankedCandidate,
    Ranking,
    RankingExample,
    Step,
    Usage,
)
from unified_ranker.schema.validate import check_example

__all__ = [
    "DOMAINS",
    "SPLITS",
    "Candidate",
    "Outcome",
    "RankedCandidate",
    "Ranking",
    "RankingExample",
    "Step",
    "Usage",
    "check_example",
]
