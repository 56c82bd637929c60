"""Several rankings of one list become one.

- ``rrf``, reciprocal rank fusion (Cormack et al., SIGIR 2009): a candidate gets the sum of ``1 / (60 + rank)``; one
  that is high in a few rankings goes far.
- ``borda``: the mean rank; one that is low anywhere pays for it.

Candidates of equal sum keep the order of the list. Both are a line of arithmetic over complete permutations; a library
for fusing runs would bring its own run files, and a compiler, for that line.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from unified_ranker.errors import DataError, unknown_choice
from unified_ranker.schema.types import Candidate, Ranking
from unified_ranker.strategies.scores import decreasing

Fusion = Literal["rrf", "borda"]
FUSIONS = ("rrf", "borda")
# The constant of the paper, which found it good on all of its collections.
RRF_CONSTANT = 60


def check_fusion(fusion: str) -> None:
    """Check the name of a rule.

    Raises:
        OptionError: it is none of :data:`FUSIONS`.
    """
    if fusion not in FUSIONS:
        raise unknown_choice("fusion", fusion, FUSIONS)


def fuse(
    listed: Sequence[Candidate], rankings: Sequence[Ranking], *, fusion: Fusion
) -> tuple[tuple[Candidate, ...], tuple[float, ...]]:
    """Join rankings.

    Args:
        listed: The list, in its order.
        rankings: Rankings of all of it.
        fusion: ``"rrf"`` or ``"borda"``.

    Returns:
        The order, and each candidate's score: the sum (``rrf``), or the mean number of candidates below it (``borda``).

    Raises:
        DataError: a ranking is not one of the list.
        OptionError: the rule is not known.
    """
    check_fusion(fusion)
    ids = {candidate.id for candidate in listed}
    totals = dict.fromkeys((candidate.id for candidate in listed), 0.0)
    for ranking in rankings:
        if {candidate.id for candidate in ranking.order} != ids:
            raise DataError(
                f"ranking of {ranking.example_id!r}: it does not hold the candidates of the list it is joined for"
            )
        for place, candidate in enumerate(ranking.order, start=1):
            worth = 1 / (RRF_CONSTANT + place) if fusion == "rrf" else (len(ids) - place) / len(rankings)
            totals[candidate.id] += worth
    order = tuple(sorted(listed, key=lambda candidate: -_exact(totals[candidate.id])))
    return order, decreasing([_exact(totals[candidate.id]) for candidate in order])


def _exact(total: float) -> float:
    # Sums of the same numbers in another order differ in their last bits, which must not decide.
    return round(total, 12)
