"""Where a ranker errs: what it puts first beside what is relevant, and what its measure goes with.

A ranker that favours early places, long texts or popular items has more of that in first place than relevance accounts
for; one that fails where the right candidate stands late, is short or is rare has a lower measure there.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from unified_ranker.benchmarks.built import BuiltTask
from unified_ranker.benchmarks.report.load import Result

from unified_ranker.errors import DataError, OptionError
from unified_ranker.schema.types import RankingExample

#: What candidates differ in. The place is that of the built list, which a ranker is shown unless it shuffles; with one
#: label for each place it is also the label.
TRAITS = ("place", "length", "popularity")
#: What lists differ in.
OF_LISTS = ("query", "history")
#: Into how many parts of the same size lists are split by a trait.
PARTS = 3


@dataclass(frozen=True, slots=True)
class Bias:
    """One trait of the lists of one task.

    Attributes:
        task: The task.
        edition: Its edition.
        trait: ``place`` (0 for the first of the list, 1 for the last), ``length`` of a candidate (words),
            ``popularity`` (training lists of the task in which it is relevant), ``query`` (words) or ``history``
            (entries).
        lists: How many lists there are: those that have a ranking, something relevant, and more than one candidate.
        first: Mean of the trait over the candidates in first place.
        relevant: Mean over the relevant candidates, each list counted once.
        all: Mean over all candidates, each list counted once.
        parts: Lists and mean of the measure where the relevant have least of it, and so on to where they have most;
            equal values stay together, so that a part may have no lists and no mean.
        correlation: Spearman's, of the trait of the relevant with the measure; None where either is the same
            everywhere, and of less than three lists.
        p: Its two-sided p-value, not corrected for that of any other; None as above.
    """

    task: str
    edition: str
    trait: str
    lists: int
    first: float
    relevant: float
    all: float
    parts: tuple[tuple[int, float | None], ...]
    correlation: float | None
    p: float | None


def biases(results: Sequence[Result], *, metric: str = "RR") -> list[Bias]:
    """Return the traits of each task, but for those that no candidate and no list of it has.

    Args:
        results: Results of one ranker, one a task.
        metric: What is measured; every task has to know it.

    Raises:
        OptionError: the ranker is computed (random order, the oracle), or a task does not know the measure.
        DataError: no list of a task has a ranking and something relevant.
    """
    found = []
    for result in results:
        if result.computed:
            raise OptionError(f"name={result.name!r} is computed and has no rankings; choose one that ranked")
        found += _of_task(result, metric)
    return found


def _of_task(result: Result, metric: str) -> list[Bias]:
    measured, chosen = result.measured(metric), _chosen(result.task)
    first, relevant, everyone, values = [], [], [], list[float]()
    for example, value in zip(result.examples, measured, strict=True):
        best = result.task.relevant(example)
        if example.id not in result.records or not best or len(example.candidates) < 2:
            continue
        traits = _traits(example, chosen)
        top = result.records[example.id]["ranking"][0]
        first.append(_means(traits, [top]))
        relevant.append(_means(traits, best))
        everyone.append(_means(traits, traits))
        values.append(value)
    if not values:
        raise DataError(
            f"{result.name} has no ranking of a list of {result.task.name!r} in which something is relevant"
        )
    found = []
    for trait in (*TRAITS, *OF_LISTS):
        if not any(entry[trait] for entry in everyone):
            continue
        of_relevant = [entry[trait] for entry in relevant]
        correlation, p = _correlation(of_relevant, values)
        found.append(
            Bias(
                task=result.task.name,
                edition=result.task.edition,
                trait=trait,
                lists=len(values),
                first=fmean(entry[trait] for entry in first),
                relevant=fmean(of_relevant),
                all=fmean(entry[trait] for entry in everyone),
                parts=_parts(of_relevant, values),
                correlation=correlation,
                p=p,
            )
        )
    return found


def _chosen(task: BuiltTask) -> Counter[str]:
    """Return in how many training lists each candidate is relevant; a task that is for testing alone has none."""
    if not task.card["splits"]["train"]["lists"]:
        return Counter()
    return Counter(id for example in task.lists("train") for id in task.relevant(example))


def _traits(example: RankingExample, chosen: Mapping[str, int]) -> dict[str, dict[str, float]]:
    """Return the traits of each candidate; a list's are the same for all of its candidates."""
    of_list = {"query": float(len(example.query.split())), "history": float(len(example.context))}
    last = len(example.candidates) - 1
    return {
        candidate.id: {
            "place": place / last,
            "length": float(len(f"{candidate.title} {candidate.text}".split())),
            "popularity": float(chosen.get(candidate.id, 0)),
            **of_list,
        }
        for place, candidate in enumerate(example.candidates)
    }


def _means(traits: Mapping[str, Mapping[str, float]], ids: Iterable[str]) -> dict[str, float]:
    chosen = list(ids)
    return {trait: fmean(traits[id][trait] for id in chosen) for trait in (*TRAITS, *OF_LISTS)}


def _parts(trait: Sequence[float], values: Sequence[float]) -> tuple[tuple[int, float | None], ...]:
    from scipy.stats import rankdata

    parts: list[list[float]] = [[] for _ in range(PARTS)]
    # Equal values share the mean of their ranks, and so a part.
    for rank, value in zip(rankdata(trait), values, strict=True):
        parts[int(PARTS * (float(rank) - 0.5) / len(values))].append(value)
    return tuple((len(part), fmean(part) if part else None) for part in parts)


def _correlation(trait: Sequence[float], values: Sequence[float]) -> tuple[float | None, float | None]:
    from scipy.stats import spearmanr

    # Of two lists any correlation is whole.
    if len(values) < 3 or len(set(trait)) == 1 or len(set(values)) == 1:
        return None, None
    found = spearmanr(trait, values)
    return float(found.statistic), float(found.pvalue)
