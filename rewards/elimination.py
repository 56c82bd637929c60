"""The reward of one elimination step.

- *Published* (R1-Ranker, arXiv 2506.21638, section 3): 1 if the excluded candidate is a negative, else 0.
- *The released code* adds -.5 for an answer that is no candidate, -1 for no answer, -1 for the format and -.25 for each
  wrong count of a tag, but hands the scorer prompt and response together. The prompt's own tags are parsed, so that the
  format penalty is constantly -1 and that of the tags -.5, and what is left is -.5 for a negative, -1.5 for the
  positive, -2 for no candidate and -2.25 for no answer: the format is never learned from it.
- *Ours* sees what the parser of inference made of the response, and nothing else. :func:`binary` is the published
  form with the penalties that the code meant, :func:`graded` pays what the removal leaves attainable.

Parts, the same for both and for every domain: ``choice`` (0 to 1), ``label`` (-.5 for a reply that names no candidate
in play, or several), ``answer`` (-1 for no answer at all) and ``format`` (-.25 unless the reply had exactly the form
that was asked for). A failed reply has no ``choice``. Totals lie between -1.25 and 1.
"""

from __future__ import annotations

from unified_ranker.rewards.gain import Measure, check_measure, cost_of_removal
from unified_ranker.rewards.reward import Removal, Reward

from unified_ranker.errors import DataError
from unified_ranker.parsing import ParsedLabel
from unified_ranker.schema.types import RankingExample

NOT_IN_PLAY = -0.5
NO_ANSWER = -1.0
MALFORMED = -0.25


def binary(example: RankingExample, step: Removal, parsed: ParsedLabel) -> Reward:
    """Reward the removal of a candidate that is not the best in play.

    Args:
        example: The whole list, with its grades.
        step: Who stood, and whom the reply removed.
        parsed: What the parser made of the reply.

    Returns:
        ``choice`` is 1 for a candidate below the best grade in play and 0 for one of the best grade. Where all in play
        are equal any removal is right.

    Raises:
        DataError: the removed candidate is not in play.
    """
    if step.removed is None:
        return _failed(parsed)
    grades = _grades(example, step)
    best, grade = max(grades), example.grade(step.removed)
    return _chosen(1.0 if grade < best or min(grades) == best else 0.0, parsed)


def graded(example: RankingExample, step: Removal, parsed: ParsedLabel, *, measure: Measure = "ndcg") -> Reward:
    """Reward a removal by what it leaves attainable.

    Args:
        example: The whole list, with its grades.
        step: Who stood, and whom the reply removed.
        parsed: What the parser made of the reply.
        measure: ``"ndcg"`` or ``"rr"``.

    Returns:
        ``choice`` is 1 minus the share of the list's nDCG (or RR) that the removal costs for good. Over an
        elimination of ``n`` candidates the choices add up to ``n - 2`` plus the nDCG (or RR) of the ranking, so that
        the policy with the largest sum is the one with the best ranking. The binary form lacks this: unless a single
        positive wins, its sum is ``n - 2`` wherever it falls.

    Raises:
        DataError: the removed candidate is not in play.
        OptionError: the measure is not known.
    """
    check_measure(measure)
    if step.removed is None:
        return _failed(parsed)
    among = [example.grade(candidate.id) for candidate in example.candidates]
    cost = cost_of_removal(example.grade(step.removed), in_play=_grades(example, step), among=among, measure=measure)
    return _chosen(1.0 - cost, parsed)


def _grades(example: RankingExample, step: Removal) -> list[float]:
    if step.removed not in step.in_play:
        raise DataError(f"example {example.id!r}: the removed candidate {step.removed!r} is not in play")
    return [example.grade(candidate) for candidate in step.in_play]


def _chosen(choice: float, parsed: ParsedLabel) -> Reward:
    return Reward.of(choice=choice, label=0.0, answer=0.0, format=0.0 if parsed.outcome == "ok" else MALFORMED)


def _failed(parsed: ParsedLabel) -> Reward:
    empty = parsed.reason.startswith(("empty", "no <answer>"))
    return Reward.of(
        choice=0.0, label=0.0 if empty else NOT_IN_PLAY, answer=NO_ANSWER if empty else 0.0, format=MALFORMED
    )
