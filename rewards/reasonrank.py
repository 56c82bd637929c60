"""The multi-view reward of ReasonRank (arXiv 2508.07050, section 3.3): nDCG, recall and rank-biased overlap.

- *Published*: ``R = nDCG@10 + 0.2 · Recall@10 + 0.1 · RBO`` where both formats hold; 0 where the tags are there, but
  the list is not in its form; -1 where the tags are missing. ``RBO = (1 - p) · Σ_d p^(d-1) · |y'_{1:d} ∩ y_{1:d}| /
  d``. The paper leaves p open.
- *The released code* calls a library with its default, p = 1, in which case the library returns the average overlap
  ``1/D · Σ_d |y'_{1:d} ∩ y_{1:d}| / d``.
- *Ours*: p = 1 and the average overlap by default; any other p in (0, 1) is the paper's sum over the places of the
  list, divided by ``1 - p^D``, so that equal rankings have 1. The ideal ranking y is by grade; equal grades stand as
  the reply put them, so that no order among equals is better than another. Depths go to the length of the list; a
  candidate that the reply left out overlaps with nothing. Recall@10 counts grades above 0. The list is in its form
  where the parser finds labels and nothing else between them; labels left out or repeated cost what they cost in the
  three measures.

Parts: ``ranking`` (nDCG@10), ``recall`` (0 to .2), ``overlap`` (0 to .1) and ``format`` (-1 for missing tags). Totals
lie between -1 and 1.3.
"""

from __future__ import annotations

from collections.abc import Sequence

from unified_ranker.rewards.gain import worth
from unified_ranker.rewards.order import check_named
from unified_ranker.rewards.reward import Order, Reward

from unified_ranker.errors import OptionError
from unified_ranker.parsing import ParsedOrder
from unified_ranker.schema.types import RankingExample

DEPTH = 10
RECALL, OVERLAP = 0.2, 0.1


def reasonrank(example: RankingExample, step: Order, parsed: ParsedOrder, *, persistence: float = 1.0) -> Reward:
    """Reward a ranking from three sides.

    Args:
        example: The whole list, with its grades.
        step: What the reply named.
        parsed: What the parser made of the reply.
        persistence: The p of RBO, in (0, 1]; 1 for the average overlap.

    Raises:
        DataError: an id was named twice, or is no candidate.
        OptionError: ``persistence`` is out of range.
    """
    check_named(example, step)
    check_persistence(persistence)
    if not parsed.tagged:
        return Reward.of(ranking=0.0, recall=0.0, overlap=0.0, format=-1.0)
    if not step.named or not parsed.well_formed or parsed.unknown:
        return Reward.of(ranking=0.0, recall=0.0, overlap=0.0, format=0.0)
    among = [example.grade(candidate.id) for candidate in example.candidates]
    grades = [example.grade(name) for name in step.named]
    relevant = sum(grade > 0 for grade in among)
    found = sum(grade > 0 for grade in grades[:DEPTH])
    rest = [c.id for c in example.candidates if c.id not in set(step.named)]
    ideal = sorted([*step.named, *rest], key=lambda name: -example.grade(name))
    return Reward.of(
        ranking=worth(grades, among=among, measure="ndcg", depth=DEPTH),
        recall=RECALL * (found / relevant if relevant else 1.0),
        overlap=OVERLAP * rank_biased_overlap(step.named, ideal, persistence=persistence),
        format=0.0,
    )


def check_persistence(persistence: float) -> None:
    """Check the p of RBO.

    Raises:
        OptionError: it is not in (0, 1].
    """
    if not 0 < persistence <= 1:
        raise OptionError(f"persistence={persistence} must be in (0, 1]")


def rank_biased_overlap(ranking: Sequence[str], ideal: Sequence[str], *, persistence: float = 1.0) -> float:
    """Return how much two rankings agree from the top, in [0, 1].

    Args:
        ranking: Ids, best first; may be shorter than ``ideal``.
        ideal: Ids, best first.
        persistence: p, in (0, 1]: how far down a reader goes; 1 for the plain average over all depths.

    Raises:
        OptionError: ``persistence`` is out of range.

    Example:
        >>> rank_biased_overlap(["b", "a"], ["a", "b"])
        0.5
    """
    check_persistence(persistence)
    weights = [persistence**place for place in range(len(ideal))]
    seen, wanted, total = set[str](), set[str](), 0.0
    for depth, weight in enumerate(weights, start=1):
        seen.update(ranking[depth - 1 : depth])
        wanted.add(ideal[depth - 1])
        total += weight * len(seen & wanted) / depth
    return total / sum(weights) if weights else 1.0
