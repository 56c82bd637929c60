from __future__ import annotations

import math
import random
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from invented_files import ALL_RIGHT, ASKED_IN_NQ_AND_TEST, ASKED_IN_TRAIN_AND_TEST
from scipy.stats import spearmanr
from unified_ranker.tasks import BuildOptions, Built, Source, routing
from unified_ranker.tasks.routing import SCENARIOS, Pool, Question, cost_scale, group_of, utilities

from unified_ranker.errors import DataError
from unified_ranker.schema.types import SPLITS, Candidate, RankingExample

ROUTERS = tuple(SCENARIOS)
LONG_BEGINNING = "A row of houses stands on a hill, each of another colour, and in each lives somebody else. " * 4
SOURCE = Source(folder="none", title="Invented", url="http://invalid", licence="none")


def pool(*questions: Question, name: str = "pool") -> Pool:
    models = sorted({model for question in questions for model in (*question.quality, *question.cost)})
    return Pool(name, SOURCE, {model: Candidate(id=model, title=model, text="") for model in models}, questions)


def question(id: str, text: str, quality: Mapping[str, float] | None = None, *, split: str = "") -> Question:
    graded = quality or {"a": 1.0, "b": 0.0}
    return Question(id, text, graded, dict.fromkeys(graded, 1.0), split)


def every(built: Built) -> list[RankingExample]:
    return [example for examples in built.splits.values() for example in examples]


@pytest.mark.parametrize("edition", ["paper", "open"])
def test_scenarios_differ_in_query_and_labels(build: Callable[..., Built], edition: str) -> None:
    by_group: dict[str, list[RankingExample]] = {}
    for name in ROUTERS:
        for example in every(build(name, edition)):
            assert example.query.startswith(SCENARIOS[name].query + " ")
            by_group.setdefault(example.group, []).append(example)
    threes = [found for found in by_group.values() if len(found) == 3]
    assert len(threes) > 15
    for found in threes:
        assert len({example.query for example in found}) == 3
        assert len({example.query.removeprefix(SCENARIOS[example.task].query) for example in found}) == 1
        assert len({tuple(sorted(example.relevance.items())) for example in found}) == 3


@pytest.mark.parametrize("name", ROUTERS)
def test_relevance_is_graded_in_whole_numbers_from_0_to_100_for_every_candidate(
    build: Callable[..., Built], name: str
) -> None:
    grades = set()
    for example in every(build(name)):
        assert set(example.relevance) == {candidate.id for candidate in example.candidates}
        grades |= set(example.relevance.values())
    assert all(grade == int(grade) and 0 <= grade <= 100 for grade in grades)
    assert len(grades) > 2


@pytest.mark.parametrize("name", ROUTERS)
def test_equal_utility_is_equal_relevance_whatever_the_column(name: str) -> None:
    quality = {"a": 1.0, "b": 0.0, "c": 1.0, "d": 0.5}
    cost = {"a": 2.0, "b": 1.0, "c": 2.0, "d": 8.0}
    forward = utilities(Question("1", "q", quality, cost), SCENARIOS[name])
    assert forward["a"] == forward["c"]
    for seed in range(5):
        names = random.Random(seed).sample(sorted(quality), 4)
        turned = Question("1", "q", {model: quality[model] for model in names}, cost)
        assert utilities(turned, SCENARIOS[name]) == forward


@pytest.mark.parametrize("name", ROUTERS)
def test_the_order_of_columns_does_not_change_the_order_in_which_models_are_shown(name: str) -> None:
    quality = {"a": 1.0, "b": 0.0, "c": 0.6, "d": 0.5, "e": 0.2}
    cost = {"a": 2.0, "b": 1.0, "c": 2.0, "d": 8.0, "e": 3.0}
    turned = Question("1", "q", dict(reversed(quality.items())), dict(reversed(cost.items())))
    (first,) = every(routing.build(name, [pool(Question("1", "q", quality, cost))], BuildOptions()))
    (second,) = every(routing.build(name, [pool(turned)], BuildOptions()))
    assert [candidate.id for candidate in second.candidates] == [candidate.id for candidate in first.candidates]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("router-performance", {"good": 100.0, "fair": 50.0, "cheap": 0.0}),
        ("router-balance", {"good": 50.0, "fair": 50.0, "cheap": 50.0}),
        ("router-cost", {"good": 20.0, "fair": 50.0, "cheap": 80.0}),
    ],
)
def test_utility_weighs_quality_and_cost_as_published(name: str, expected: dict[str, float]) -> None:
    asked = Question("1", "q", {"good": 1.0, "fair": 0.5, "cheap": 0.0}, {"good": 100.0, "fair": 10.0, "cheap": 1.0})
    assert utilities(asked, SCENARIOS[name]) == expected


def test_a_tie_half_way_between_two_grades_stays_a_tie() -> None:
    cost = {"a": 1.0, "b": 10.0, "c": 100.0, "d": 1000.0, "e": 10000.0}
    quality = {"a": 0.05, "b": 0.3, "c": 0.55, "d": 0.8, "e": 0.0}
    grades = utilities(Question("1", "q", quality, cost), SCENARIOS["router-balance"])
    assert len({grades[model] for model in "abcd"}) == 1, "each has the utility 0.525"


@pytest.mark.parametrize("factor", [1e-6, 1.0, 1e6])
def test_the_cost_scale_does_not_depend_on_the_unit(factor: float) -> None:
    scale = cost_scale({model: cost * factor for model, cost in {"a": 0.1, "b": 1.0, "c": 10.0}.items()})
    assert scale == pytest.approx({"a": 0.0, "b": 0.5, "c": 1.0})


def test_equal_costs_are_all_zero_on_the_scale() -> None:
    assert cost_scale({"a": 3.0, "b": 3.0}) == {"a": 0.0, "b": 0.0}


def test_balance_and_cost_are_different_rankings_where_quality_and_cost_spread() -> None:
    rng = random.Random(7)
    correlations = []
    for number in range(200):
        quality = {str(model): rng.random() for model in range(9)}
        cost = {str(model): 10 ** rng.uniform(-3, 1) for model in range(9)}
        asked = Question(str(number), "q", quality, cost)
        balance, cheap = (utilities(asked, SCENARIOS[name]) for name in ("router-balance", "router-cost"))
        correlations.append(spearmanr([balance[m] for m in quality], [cheap[m] for m in quality]).statistic)
    assert sum(correlations) / len(correlations) < 0.9
    assert min(correlations) < 0.6


def test_lists_whose_models_are_all_equal_are_left_out_and_counted(build: Callable[..., Built]) -> None:
    performance, balance = build("router-performance"), build("router-balance")
    assert performance.counts["dropped, all models equal"] > 0
    groups = {example.group for example in every(performance)}
    assert group_of(ALL_RIGHT) not in groups
    assert group_of(ALL_RIGHT) in {example.group for example in every(balance)}, "costs still tell the models apart"


@pytest.mark.parametrize("name", ROUTERS)
@pytest.mark.parametrize("edition", ["paper", "open"])
def test_every_question_is_in_a_list_or_counted_as_dropped(
    build: Callable[..., Built], name: str, edition: str
) -> None:
    built = build(name, edition)
    dropped = sum(count for reason, count in built.counts.items() if reason.startswith("dropped"))
    assert built.counts["questions"] == len(every(built)) + dropped


def test_a_test_question_that_is_also_in_training_is_dropped_from_test_and_counted(build: Callable[..., Built]) -> None:
    built = build("router-balance")
    assert built.counts["dropped from test, also in training"] == 1
    assert built.counts["dropped, asked twice in its pool"] == 1
    group = group_of(ASKED_IN_TRAIN_AND_TEST)
    assert [example.split for example in every(built) if example.group == group] in (["train"], ["validation"])


def test_a_question_of_another_pool_follows_the_published_split(build: Callable[..., Built]) -> None:
    group = group_of(ASKED_IN_NQ_AND_TEST)
    found = [example for example in every(build("router-cost")) if example.group == group]
    assert [example.split for example in found] == ["test", "test"]
    assert {example.id.split("-")[2] for example in found} == {"llmrouter", "nq"}


def test_training_wins_over_test_across_pools() -> None:
    first = pool(question("1", "Why is the sky green?", split="test"), name="first")
    second = pool(question("1", "why is the SKY green", split="train"), name="second")
    built = routing.build("router-performance", [first, second], BuildOptions())
    assert [len(built.splits[split]) for split in SPLITS] in ([1, 0, 0], [0, 1, 0])
    assert built.counts["dropped from test, also in training"] == 1


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (f"{LONG_BEGINNING} Who lives in the first?", f"{LONG_BEGINNING} Who owns the fish?"),
        ("What is 2 + 3?", "What is 2 - 3?"),
        ("天空为什么是蓝色的？", "海有多深？"),
        ("Почему трава зелёная?", "Сколько ног у паука?"),
    ],
    ids=["a long shared beginning", "another operator", "Chinese", "Russian"],
)
def test_different_questions_are_different_groups(first: str, second: str) -> None:
    assert group_of(first) != group_of(second)


@pytest.mark.parametrize("printing", ["Who is  Ann?", "who is ann", "WHO IS ANN ?\n", "“Who is Ann?”"])
def test_two_printings_of_a_question_are_one_group(printing: str) -> None:
    assert group_of(printing) == group_of("Who is Ann?")


@pytest.mark.parametrize("value", [-0.01, 1.01, math.nan, math.inf])
def test_a_quality_out_of_range_names_the_question_and_the_model(value: float) -> None:
    asked = Question("7", "q", {"wise": value, "quick": 0.0}, {"wise": 1.0, "quick": 1.0})
    with pytest.raises(DataError, match=r"Invented, question '7': quality of 'wise'"):
        routing.build("router-performance", [pool(asked)], BuildOptions())


@pytest.mark.parametrize("value", [0.0, -1.0, math.nan, math.inf])
def test_a_cost_out_of_range_names_the_question_and_the_model(value: float) -> None:
    asked = Question("7", "q", {"wise": 1.0, "quick": 0.0}, {"wise": value, "quick": 1.0})
    with pytest.raises(DataError, match=r"Invented, question '7': cost of 'wise'"):
        routing.build("router-balance", [pool(asked)], BuildOptions())


@pytest.mark.parametrize("cost", [{"wise": 1.0}, {"wise": 1.0, "other": 1.0}, {}])
def test_quality_and_cost_of_different_models_are_refused(cost: dict[str, float]) -> None:
    with pytest.raises(DataError, match="name different models"):
        routing.build("router-cost", [pool(Question("1", "q", {"wise": 1.0, "quick": 0.0}, cost))], BuildOptions())


def test_a_question_without_any_model_is_refused_by_name() -> None:
    with pytest.raises(DataError, match="'9'"):
        routing.build("router-cost", [pool(Question("9", "q", {}, {}))], BuildOptions())


def test_the_paper_edition_leaves_multi_news_out(build: Callable[..., Built], data_dir: Path) -> None:
    assert "multi_news" in (data_dir / "graphrouter" / "router_data.csv").read_text(encoding="utf-8")
    assert all("multi_news" not in example.query for name in ROUTERS for example in every(build(name, "paper")))
