"""One language model ranks everything: recommendation, LLM routing and passages in one candidate-list format."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from unified_ranker.compose import AggregateRanker, CascadeRanker
    from unified_ranker.errors import UnifiedRankerError
    from unified_ranker.ranker import Ranker
    from unified_ranker.schema import Candidate, RankedCandidate, Ranking, RankingExample, Step, Usage

__version__ = "0.1.0"

__all__ = [
    "AggregateRanker",
    "Candidate",
    "CascadeRanker",
    "RankedCandidate",
    "Ranker",
    "Ranking",
    "RankingExample",
    "Step",
    "UnifiedRankerError",
    "Usage",
    "__version__",
]

_HOMES = {
    "AggregateRanker": "unified_ranker.compose",
    "CascadeRanker": "unified_ranker.compose",
    "Ranker": "unified_ranker.ranker",
    "UnifiedRankerError": "unified_ranker.errors",
    **dict.fromkeys(
        ("Candidate", "RankedCandidate", "Ranking", "RankingExample", "Step", "Usage"), "unified_ranker.schema"
    ),
}


def __getattr__(name: str) -> Any:
    # Names are imported when first used, so that ``import unified_ranker`` stays quick.
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOMES[name]), name)
