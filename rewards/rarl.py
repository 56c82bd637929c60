"""The reward of RARL (arXiv 2601.20585): regression and ranking of an ordinal answer at once.

- *Published*: ``r_reg = 1 - |ỹ - y|² / δ²`` within δ of the truth and 0 beyond, plus a ranking reward and one for the
  format. δ and the weights are not public.
- *Ours*: δ is half of the scale. The ranking reward is the share of the list's pairs with this candidate, of different
  relevance, that the grades put in the right order; a tie is half right. The format is worth .1.

Its *response mutation*, which puts variants of the reference among a group's replies so that a group of equals has
something to learn from, is an option of the rollout: ``mutation`` in a recipe.

Parts: ``regression`` (0 to 1), ``agreement`` (0 to 1), ``format`` (0 or .1). Totals lie between 0 and 2.1.
"""

from __future__ import annotations

from unified_ranker.rewards.grade import check_grading
from unified_ranker.rewards.reward import Grading, Reward

from unified_ranker.errors import OptionError
from unified_ranker.parsing import ParsedLabel
from unified_ranker.schema.types import RankingExample

FORMAT = 0.1
DELTA = 0.5


def rarl(example: RankingExample, step: Grading, parsed: ParsedLabel, *, delta: float = DELTA) -> Reward:
    """Reward one grade by its distance from the truth, and by the order it makes.

    Args:
        example: The whole list, with its relevance.
        step: The grade, and those that the other candidates got.
        parsed: What the parser made of the reply.
        delta: Distance beyond which nothing is earned, as a share of the scale, above 0.

    Raises:
        DataError: the grade is not on the scale, or the candidate is not in the list.
        OptionError: ``delta`` is not above 0.
    """
    check_grading(example, step)
    if not delta > 0:
        raise OptionError(f"delta={delta} must be above 0")
    if step.grade is None:
        return Reward.of(regression=0.0, agreement=0.0, format=0.0)
    best = max(example.grade(candidate.id) for candidate in example.candidates)
    truth = example.grade(step.candidate)
    away = abs(step.grade / step.top - (truth / best if best > 0 else 0.0))
    regression = 1 - (away / delta) ** 2 if away <= delta else 0.0
    pairs = [
        (example.grade(name) - truth, (-1 if grade is None else grade) - step.grade)
        for name, grade in step.grades.items()
        if name != step.candidate and example.grade(name) != truth
    ]
    right = sum(0.5 if not given else float((given > 0) == (true > 0)) for true, given in pairs)
    agreement = right / len(pairs) if pairs else 1.0
    return Reward.of(regression=regression, agreement=agreement, format=FORMAT if parsed.outcome == "ok" else 0.0)
