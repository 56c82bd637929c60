from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import combinations, permutations
from pathlib import Path
from statistics import fmean

import pytest
from unified_ranker.tasks import ALL_TASKS, TASKS, BuildOptions, Built
from unified_ranker.tasks.card import make_card

from unified_ranker.schema.types import Candidate, RankingExample

COUNTS_AS = {"positive": lambda grade, best: grade > 0, "top": lambda grade, best: grade == best > 0}


def example(*grades: float, id: str = "1") -> RankingExample:
    candidates = tuple(Candidate(id=str(place), text="x") for place in range(len(grades)))
    relevance = {str(place): grade for place, grade in enumerate(grades)}
    return RankingExample(id=id, query="q", candidates=candidates, relevance=relevance, group=id)


def grades_of(example: RankingExample) -> list[float]:
    return [example.grade(candidate.id) for candidate in example.candidates]


def reciprocal_rank_over_all_orders(grades: list[float], binary: str) -> float:
    counts = COUNTS_AS.get(binary) or (lambda grade, best: grade >= float(binary))
    best = max(grades)
    total = 0.0
    orders = list(permutations(grades))
    for order in orders:
        total += next((1 / rank for rank, grade in enumerate(order, start=1) if counts(grade, best)), 0.0)
    return total / len(orders)


@pytest.mark.parametrize("edition", ["paper", "open"])
@pytest.mark.parametrize("name", ["router-performance", "router-balance", "router-cost", "passage-5"])
def test_random_order_of_short_lists_is_the_mean_over_all_orders(
    build: Callable[..., Built], name: str, edition: str
) -> None:
    built = build(name, edition)
    card = make_card(TASKS[name], built, BuildOptions(edition=edition))
    known: dict[tuple[float, ...], float] = {}
    for split, examples in built.splits.items():
        for found in examples:
            grades = grades_of(found)
            key = tuple(sorted(grades))
            if key not in known:
                known[key] = reciprocal_rank_over_all_orders(grades, TASKS[name].binary)
        expected = fmean(known[tuple(sorted(grades_of(found)))] for found in examples)
        assert card["splits"][split]["random_order_mrr"] == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(
    ("name", "size"), [("movie", 20), ("music", 20), ("game", 20), ("passage-7", 7), ("passage-9", 9)]
)
def test_random_order_with_one_relevant_is_the_mean_of_all_places(
    build: Callable[..., Built], name: str, size: int
) -> None:
    card = make_card(TASKS[name], build(name), BuildOptions())
    expected = sum(1 / place for place in range(1, size + 1)) / size
    assert card["splits"]["test"]["random_order_mrr"] == pytest.approx(expected, abs=1e-6)
    assert card["splits"]["test"]["candidates"] == size
    assert card["splits"]["test"]["shared_best"] == 0


@pytest.mark.parametrize(
    ("lists", "binary", "mrr", "tied", "shared"),
    [
        ([(1, 0, 0)], "positive", 11 / 18, 1 / 3, 0),
        ([(2, 2, 1)], "top", 5 / 6, 1 / 3, 1),
        ([(2, 2, 1), (3, 2, 1)], "top", (5 / 6 + 11 / 18) / 2, 1 / 6, 1 / 2),
        ([(3, 2, 1, 0)], "2", (6 / 12) * 1 + (4 / 12) / 2 + (2 / 12) / 3, 0, 0),
        ([(1, 1, 0, 0)], "2", 0, 1 / 3, 1),
        ([(0, 0)], "top", 0, 1, 0),
        ([(1, 0), (1, 1, 1, 0)], "positive", (3 / 4 + (3 / 4 + 1 / 8)) / 2, 3 / 7, 1 / 2),
    ],
)
def test_the_bar_and_the_ties_of_lists_by_hand(
    lists: list[tuple[float, ...]], binary: str, mrr: float, tied: float, shared: float
) -> None:
    examples = [example(*grades, id=str(number)) for number, grades in enumerate(lists)]
    task = replace(TASKS["movie"], binary=binary)
    card = make_card(task, Built({"test": examples}, (), "by hand"), BuildOptions())["splits"]["test"]
    assert card["random_order_mrr"] == pytest.approx(mrr, abs=1e-6)
    assert card["tied_pairs"] == pytest.approx(tied, abs=1e-6)
    assert card["shared_best"] == pytest.approx(shared, abs=1e-6)
    assert card["lists"] == card["groups"] == len(lists)


@pytest.mark.parametrize("name", ALL_TASKS)
def test_shares_of_ties_are_those_of_the_lists(build: Callable[..., Built], name: str) -> None:
    built = build(name)
    card = make_card(TASKS[name], built, BuildOptions())
    for split, examples in built.splits.items():
        if not examples:
            continue
        pairs = [pair for found in examples for pair in combinations(grades_of(found), 2)]
        best = [grades_of(found).count(max(grades_of(found))) > 1 for found in examples]
        assert card["splits"][split]["tied_pairs"] == pytest.approx(fmean(a == b for a, b in pairs), abs=1e-6)
        assert card["splits"][split]["shared_best"] == pytest.approx(fmean(best), abs=1e-6)


@pytest.mark.parametrize("edition", ["paper", "open"])
@pytest.mark.parametrize("name", ALL_TASKS)
def test_a_card_names_its_sources_their_terms_and_how_it_was_made(
    build: Callable[..., Built], data_dir: Path, name: str, edition: str
) -> None:
    card = make_card(TASKS[name], build(name, edition), BuildOptions(edition=edition, data_dir=data_dir))
    assert (card["task"], card["edition"], card["seed"]) == (name, edition, 42)
    assert all(source["title"] and source["url"] and source["licence"] for source in card["sources"])
    assert card["sampling"]
    assert card["counts"]
    assert str(data_dir) not in str(card)


@pytest.mark.parametrize("negatives", ["uniform", "popularity"])
def test_the_card_of_a_recommendation_says_which_negatives(build: Callable[..., Built], negatives: str) -> None:
    for edition in ("paper", "open"):
        built = build("movie", edition, negatives=negatives)
        card = make_card(TASKS["movie"], built, BuildOptions(edition=edition, negatives=negatives))
        assert card["negatives"] == negatives
        assert f"19 {negatives} negatives" in card["sampling"]


def test_the_card_of_other_domains_has_no_negatives_of_its_own(build: Callable[..., Built]) -> None:
    for name in ("router-cost", "passage-5", "trec-dl-2020"):
        assert make_card(TASKS[name], build(name), BuildOptions())["negatives"] is None
