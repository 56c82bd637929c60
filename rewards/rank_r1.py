"""The reward of Rank-R1 (arXiv 2503.06034, section 3): 1 if the format holds and the best of the set was named, else 0.

- *Published*: the whole reply has to match ``<think>…</think> <answer>[label]</answer>``, and the label has to be that
  of the one relevant passage among twenty.
- *Ours* is the same for any number of relevant candidates: the label of one of the best grade in the set is right. "The
  format holds" where the parser of inference finds nothing to repair, with thoughts or without.

Parts: ``choice`` (1 for the best) and ``format`` (minus that, where the format does not hold). Totals are 0 or 1.
"""

from __future__ import annotations

from unified_ranker.rewards.reward import Choice, Reward

from unified_ranker.errors import DataError
from unified_ranker.parsing import ParsedLabel
from unified_ranker.schema.types import RankingExample


def rank_r1(example: RankingExample, step: Choice, parsed: ParsedLabel) -> Reward:
    """Reward the choice of the best of a set.

    Args:
        example: The whole list, with its grades.
        step: The set, and whom the reply named.
        parsed: What the parser made of the reply.

    Raises:
        DataError: whom it named is not in the set.
    """
    if step.chosen is None:
        return Reward.of(choice=0.0, format=0.0)
    if step.chosen not in step.in_play:
        raise DataError(f"example {example.id!r}: the chosen candidate {step.chosen!r} is not in the set")
    best = max(example.grade(candidate) for candidate in step.in_play)
    choice = 1.0 if example.grade(step.chosen) == best else 0.0
    return Reward.of(choice=choice, format=0.0 if parsed.outcome == "ok" or not choice else -choice)
