"""The reward of Rearank (lezhang7/Rearank): the gain over the list as shown, relative to the best attainable.

- *Published*: ``0.8 · (nDCG@10 - nDCG@10 of the list as shown) / (best nDCG@10 - that) + 0.1 + 0.1``, the last two for
  the tags and for the form of the list.
- *Ours* is the same. The best attainable is 1 on our nDCG, which is normalised by the list's own ideal. A list that is
  shown in an ideal order leaves no gain: it pays 1 for an order as good and falls with what is lost. Below the list as
  shown the gain is negative, and is bounded by -1.

Parts: ``gain`` (-.8 to .8), ``tags`` and ``format`` (0 or .1). Totals lie between -.8 and 1.
"""

from __future__ import annotations

from unified_ranker.rewards.order import check_named, ndcg_of
from unified_ranker.rewards.reward import Order, Reward

from unified_ranker.parsing import ParsedOrder
from unified_ranker.schema.types import RankingExample

DEPTH = 10
GAIN, FORMAT = 0.8, 0.1


def rearank(example: RankingExample, step: Order, parsed: ParsedOrder) -> Reward:
    """Reward a ranking by what it makes better.

    Args:
        example: The whole list as it was shown, with its grades.
        step: What the reply named.
        parsed: What the parser made of the reply.

    Raises:
        DataError: an id was named twice, or is no candidate.
    """
    check_named(example, step)
    tags = FORMAT if parsed.tagged else 0.0
    if not step.named:
        return Reward.of(gain=-GAIN, tags=tags, format=0.0)
    reached, before = ndcg_of(example, step, depth=DEPTH)
    gain = (reached - before) / (1 - before) if before < 1 else reached
    form = FORMAT if parsed.well_formed and not parsed.unknown else 0.0
    return Reward.of(gain=GAIN * max(-1.0, gain), tags=tags, format=form)
