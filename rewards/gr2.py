"""The reward of GR2 (arXiv 2602.07774): rank promotion, and the format paid for only where the ranking improves.

- *Published*: a reward for moving what is relevant up, and one for the format that is granted only if the ranking
  improves on the order shown, since models learn to copy that order in perfect form. The constants are not public.
- *Ours*: promotion is the nDCG of the ranking less that of the list as shown, as a share of what could be won (or
  lost): 1 for an ideal order, 0 for the order shown, -1 for the worst that keeps the form. The format is worth .2, a
  constant of ours.

Parts: ``promotion`` (-1 to 1), ``format`` (0 or .2). Totals lie between -1 and 1.2.
"""

from __future__ import annotations

from unified_ranker.rewards.gain import worth
from unified_ranker.rewards.order import check_named, ndcg_of
from unified_ranker.rewards.reward import Order, Reward

from unified_ranker.parsing import ParsedOrder
from unified_ranker.schema.types import RankingExample

FORMAT = 0.2


def gr2(example: RankingExample, step: Order, parsed: ParsedOrder) -> Reward:
    """Reward a ranking by how far it promotes what is relevant.

    Args:
        example: The whole list as it was shown, with its grades.
        step: What the reply named.
        parsed: What the parser made of the reply.

    Raises:
        DataError: an id was named twice, or is no candidate.
    """
    check_named(example, step)
    if not step.named:
        return Reward.of(promotion=-1.0, format=0.0)
    reached, before = ndcg_of(example, step, depth=None)
    among = sorted(example.grade(candidate.id) for candidate in example.candidates)
    worst = worth(among, among=among, measure="ndcg")
    if reached >= before:
        promotion = (reached - before) / (1 - before) if before < 1 else 0.0
    else:
        # What was left out earns less than the worst order of all.
        promotion = max(-1.0, (reached - before) / (before - worst)) if before > worst else -1.0
    # Orders of equal nDCG can differ in its last bit.
    promotion = 0.0 if abs(promotion) < 1e-9 else promotion
    return Reward.of(promotion=promotion, format=FORMAT if promotion > 0 and parsed.outcome == "ok" else 0.0)
