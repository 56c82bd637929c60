"""The listwise-derived reward of ERank (arXiv 2509.00520, section 3): a grade is judged by the ranking it makes.

- *Published*: all candidates of a query are graded; a relevant one earns the reciprocal of its rank among all, an
  irrelevant one that is ranked above a relevant one is penalised, and the others earn by how near their grade is to
  that of the supervised model. The constants are not public.
- *Ours*: the rank of a relevant candidate is the worst it can have among less relevant ones of the same grade, so that
  giving everybody the same grade earns the reciprocal of their number. The penalty is -1. The others earn ``1 - |grade
  - reference| / top``, the reference being the candidate's relevance on the scale of the grades. Relevant are the
  candidates of the list's best grade.

Parts: ``rank`` (0 to 1), ``inversion`` (-1 or 0), ``distance`` (0 to 1) and ``format`` (-1 for no grade, -.25 for one
that had to be repaired). Totals lie between -1.25 and 1.
"""

from __future__ import annotations

from unified_ranker.rewards.grade import check_grading, format_of
from unified_ranker.rewards.reward import Grading, Reward

from unified_ranker.parsing import ParsedLabel
from unified_ranker.schema.types import RankingExample


def erank(example: RankingExample, step: Grading, parsed: ParsedLabel) -> Reward:
    """Reward one grade by where it puts its candidate among all that were graded.

    Args:
        example: The whole list, with its relevance.
        step: The grade, and those that the other candidates got.
        parsed: What the parser made of the reply.

    Raises:
        DataError: the grade is not on the scale, or the candidate is not in the list.
    """
    check_grading(example, step)
    if step.grade is None:
        return Reward.of(rank=0.0, inversion=0.0, distance=0.0, format=format_of(parsed))
    best = max(example.grade(candidate.id) for candidate in example.candidates)
    winners = {c.id for c in example.candidates if example.grade(c.id) == best} if best > 0 else set()
    # Nobody is ranked below one who got no grade at all.
    others = {name: -1 if grade is None else grade for name, grade in step.grades.items() if name != step.candidate}
    form = format_of(parsed)
    if step.candidate in winners:
        rank = 1 + sum(grade >= step.grade for name, grade in others.items() if name not in winners)
        rank += sum(grade > step.grade for name, grade in others.items() if name in winners)
        return Reward.of(rank=1 / rank, inversion=0.0, distance=0.0, format=form)
    if any(step.grade > grade for name, grade in others.items() if name in winners):
        return Reward.of(rank=0.0, inversion=-1.0, distance=0.0, format=form)
    reference = step.top * example.grade(step.candidate) / best if best > 0 else 0.0
    return Reward.of(rank=0.0, inversion=0.0, distance=1 - abs(step.grade - reference) / step.top, format=form)
