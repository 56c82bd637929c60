"""The reward of a whole ranking in one reply (DRanker).

- *Published* (R1-Ranker, arXiv 2506.21638, section 3): MRR of the ranking plus a penalty for a wrong composition.
- *The released code* computes nDCG@20 plus (Jaccard - 1) plus format and tags, but walks over the characters of the
  first answer line instead of its entries: on random permutations its correlation with nDCG is about .13.
- *Ours* scores the order that the reply itself named. A candidate that it left out earns nothing, wherever a repair
  puts it: else a model could earn the listed order by saying little.

Parts: ``ranking`` (nDCG or RR of what was named, 0 to 1), ``composition`` (Jaccard index of entries and candidates,
each repetition an entry more, minus 1: -1 to 0), ``answer`` (-1 where nothing could be read) and ``format`` (-.25 for
words around labels in brackets, a wrong case or wrong tags; without brackets other words count as entries). Totals
lie between -2.25 and 1.
"""

from __future__ import annotations

from unified_ranker.rewards.gain import Measure, check_measure, worth
from unified_ranker.rewards.order import check_named
from unified_ranker.rewards.reward import Order, Reward

from unified_ranker.parsing import ParsedOrder
from unified_ranker.schema.types import RankingExample

NO_ANSWER = -1.0
MALFORMED = -0.25


def permutation(example: RankingExample, step: Order, parsed: ParsedOrder, *, measure: Measure = "rr") -> Reward:
    """Reward a ranking by its measure, less what is wrong with its composition.

    Args:
        example: The whole list, with its grades.
        step: What the reply named.
        parsed: What the parser made of the reply.
        measure: ``"rr"``, as published, or ``"ndcg"``.

    Raises:
        DataError: an id was named twice, or is no candidate.
        OptionError: the measure is not known.
    """
    check_measure(measure)
    check_named(example, step)
    ids = [candidate.id for candidate in example.candidates]
    if not step.named:
        return Reward.of(ranking=0.0, composition=-1.0, answer=NO_ANSWER, format=MALFORMED)
    among = [example.grade(name) for name in ids]
    ranking = worth([example.grade(name) for name in step.named], among=among, measure=measure)
    composition = len(step.named) / (len(ids) + parsed.repeated + parsed.unknown) - 1
    # What is missing, repeated or unknown is paid for under composition; the rest is form.
    form = 0.0 if parsed.well_formed else MALFORMED
    return Reward.of(ranking=ranking, composition=composition, answer=0.0, format=form)
