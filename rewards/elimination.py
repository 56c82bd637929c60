"""The reward of one elimination step.

Published (R1-Ranker, arXiv 2506.21638, section 3): 1 if the excluded candidate is a negative, else 0. The released
code adds penalties (-.5 for an answer that is no candidate, -1 for none, -1 for the format, -.25 for each wrong count
of a tag), but hands the scorer prompt and response together, so that the format penalty is constantly -1 and the
tags' -.5: the format is never learned from it. Here the reward sees what the parser made of the response, and nothing
else.
"""

from __future__ import annotations

from unified_ranker.rewards.reward import Reward

from unified_ranker.parsing import ParsedLabel
from unified_ranker.schema.types import RankingExample

NOT_IN_PLAY = -0.5
NO_ANSWER = -1.0
MALFORMED = -0.25


def binary(example: RankingExample, eliminated: str | None, parsed: ParsedLabel) -> Reward:
    """Reward the removal of a candidate that is not relevant.

    Args:
        example: The list, restricted to the candidates in play.
        eliminated: Id of the candidate that the reply removed; None where the reply failed.
        parsed: What the parser made of the reply.

    Returns:
        Parts ``choice`` (1 for a candidate of less than the best grade in play, 0 for one of the best grade; -.5 for
        a label that is not in play, -1 for no answer) and ``format`` (-.25 unless the reply had the form that was
        asked for). Where all grades in play are equal any removal is right.
    """
    form = 0.0 if parsed.outcome == "ok" else MALFORMED
    if eliminated is None:
        empty = parsed.reason.startswith(("empty", "no <answer>"))
        return Reward.of(choice=NO_ANSWER if empty else NOT_IN_PLAY, format=form)
    grades = [example.grade(candidate.id) for candidate in example.candidates]
    best, grade = max(grades), example.grade(eliminated)
    right = grade < best or min(grades) == best
    return Reward.of(choice=1.0 if right else 0.0, format=form)
