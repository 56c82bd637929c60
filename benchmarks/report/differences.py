"""Where two results differ most, list by list."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from unified_ranker.benchmarks.outcome import LOWER_IS_BETTER
from unified_ranker.benchmarks.report.load import Result

from unified_ranker.errors import DataError
from unified_ranker.schema.types import RankingExample


@dataclass(frozen=True, slots=True)
class Difference:
    """One list that two have ranked.

    Attributes:
        example: The list.
        task: Its task.
        first: The measure that the first reached.
        second: The second's.
        orders: The ids of both, best first; empty where there is no ranking.
        relevant: Ids of what counts as relevant.
    """

    example: RankingExample
    task: str
    first: float
    second: float
    orders: tuple[Sequence[str], Sequence[str]]
    relevant: frozenset[str] = frozenset()


def differences(one: Sequence[Result], other: Sequence[Result], *, metric: str = "RR") -> list[Difference]:
    """Return the lists that both ranked, from those that the first ranks better by most to those that it ranks worse.

    Raises:
        DataError: they share no task.
        OptionError: a task that they share does not know the measure.
    """
    theirs = {(result.task.edition, result.task.name): result for result in other}
    found = []
    for result in one:
        match = theirs.get((result.task.edition, result.task.name))
        if match is None:
            continue
        ours = result.measured(metric)
        sign = -1.0 if metric in LOWER_IS_BETTER else 1.0
        for place in range(min(len(result.examples), len(match.examples))):
            example = result.examples[place]
            orders = tuple(each.records.get(example.id, {}).get("ranking", []) for each in (result, match))
            found.append(
                (
                    sign * (ours[place] - match.values[metric][place]),
                    Difference(
                        example,
                        result.task.name,
                        ours[place],
                        match.values[metric][place],
                        (orders[0], orders[1]),
                        frozenset(result.task.relevant(example)),
                    ),
                )
            )
    if not found:
        raise DataError(f"{one[0].name} and {other[0].name} have no task in common")
    return [entry for _, entry in sorted(found, key=lambda pair: -pair[0])]
