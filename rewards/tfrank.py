"""The rewards of TFRank (arXiv 2508.09539): a grade is judged on its own, or with the whole list.

- *Published*, from the released code: rank reward + 0.5 · format. The rank reward of a single grade is
  ``(accuracy + 1 - |p - t| / 4) / 2``; that of a list is the mean of its accuracy, of
  ``(nDCG - nDCG₀) / (1 - nDCG₀)``, and of ``1 - rmse``. Grades go from 0 to 4.
- *Ours*: the same on a scale 0 … top. The target t is the candidate's relevance on that scale, rounded. nDCG₀ is that
  of the list as shown; its gain is bounded by -1, and 1 where both are ideal. The error is divided by top. Equal grades
  stand in the order of the list. In the list's view a candidate without a grade is taken for 0 in the order and
  in the error, and counts as not accurate.

Parts: ``accuracy``, ``nearness`` and, in the list's view, ``gain`` (each already divided by how many there are), and
``format`` (.5 where it holds). Totals lie between 0 and 1.5, in the list's view between -1/3 and 1.5.
"""

from __future__ import annotations

import math

from unified_ranker.rewards.gain import worth
from unified_ranker.rewards.grade import check_grading, whole_grade
from unified_ranker.rewards.reward import Grading, Reward

from unified_ranker.parsing import ParsedLabel
from unified_ranker.schema.types import RankingExample

FORMAT = 0.5


def tfrank(example: RankingExample, step: Grading, parsed: ParsedLabel) -> Reward:
    """Reward one grade on its own.

    Args:
        example: The whole list, with its relevance.
        step: The grade.
        parsed: What the parser made of the reply.

    Raises:
        DataError: the grade is not on the scale, or the candidate is not in the list.
    """
    check_grading(example, step)
    if step.grade is None:
        return Reward.of(accuracy=0.0, nearness=0.0, format=0.0)
    target = whole_grade(example, step.candidate, top=step.top)
    return Reward.of(
        accuracy=0.5 if step.grade == target else 0.0,
        nearness=0.5 * (1 - abs(step.grade - target) / step.top),
        format=FORMAT if parsed.outcome == "ok" else 0.0,
    )


def tfrank_list(example: RankingExample, step: Grading, parsed: ParsedLabel) -> Reward:
    """Reward one grade by the grades of the whole list; all of a list earn the same but for the format.

    Arguments and errors are those of :func:`tfrank`; ``step.grades`` has to hold the grade of every candidate.
    """
    check_grading(example, step, whole=True)
    grades = {name: grade or 0 for name, grade in step.grades.items()}
    targets = {c.id: whole_grade(example, c.id, top=step.top) for c in example.candidates}
    count = len(example.candidates)
    accuracy = sum(step.grades[name] == target for name, target in targets.items()) / count
    error = math.sqrt(sum((grades[name] - target) ** 2 for name, target in targets.items()) / count) / step.top
    among = [example.grade(candidate.id) for candidate in example.candidates]
    ranked = sorted(example.candidates, key=lambda candidate: -grades[candidate.id])
    reached = worth([example.grade(candidate.id) for candidate in ranked], among=among, measure="ndcg")
    before = worth(among, among=among, measure="ndcg")
    gain = max(-1.0, (reached - before) / (1 - before)) if before < 1 else (1.0 if reached == 1 else -1.0)
    return Reward.of(
        accuracy=accuracy / 3,
        gain=gain / 3,
        nearness=(1 - error) / 3,
        format=FORMAT if parsed.outcome == "ok" else 0.0,
    )
