from __future__ import annotations

import sys
from math import log2
from random import Random

import pytest
from unified_ranker.benchmarks.measures import per_query, with_interval

from unified_ranker.errors import MissingExtraError, OptionError
from unified_ranker.schema.types import Candidate, Ranking, RankingExample


def example(grades: dict[str, float], *, id: str = "q") -> RankingExample:
    return RankingExample(
        id=id, query="query", candidates=tuple(Candidate(key, "text") for key in grades), relevance=grades
    )


def ranking(order: list[str], *, id: str = "q", scores: tuple[float, ...] = ()) -> Ranking:
    places = scores or tuple(float(-place) for place in range(len(order)))
    return Ranking(example_id=id, order=tuple(Candidate(key, "text") for key in order), scores=places)


def measure(grades: dict[str, float], order: list[str], *, binary: str = "positive") -> tuple[float, float]:
    values = per_query([example(grades)], {"q": ranking(order)}, binary=binary)
    (rr,), (ndcg,) = values["RR"], values["nDCG@10"]
    return rr, ndcg


@pytest.mark.parametrize(
    ("binary", "rr"),
    [("positive", 1 / 2), ("top", 1 / 4), ("2", 1 / 3), ("1", 1 / 2), ("3", 1 / 4), ("0.5", 1 / 2), ("4", 0.0)],
)
def test_reciprocal_rank_counts_as_relevant_what_the_task_calls_so(binary: str, rr: float) -> None:
    grades = {"a": 0.0, "b": 1.0, "c": 2.0, "d": 3.0}
    assert measure(grades, ["a", "b", "c", "d"], binary=binary)[0] == pytest.approx(rr)


@pytest.mark.parametrize("place", range(1, 13))
def test_reciprocal_rank_knows_no_cutoff(place: int) -> None:
    names = [f"d{n}" for n in range(1, 13)]
    grades = {name: float(name == f"d{place}") for name in names}
    assert measure(grades, names)[0] == pytest.approx(1 / place)


@pytest.mark.parametrize("binary", ["positive", "top", "2"])
def test_a_list_with_nothing_relevant_gives_0(binary: str) -> None:
    assert measure({"a": 0.0, "b": 0.0}, ["a", "b"], binary=binary) == (0.0, 0.0)


@pytest.mark.parametrize(("order", "rr"), [("abc", 1.0), ("bac", 1.0), ("cab", 1 / 2), ("cba", 1 / 2)])
def test_all_that_share_the_best_grade_are_relevant_under_top(order: str, rr: float) -> None:
    assert measure({"a": 50.0, "b": 50.0, "c": 10.0}, list(order), binary="top")[0] == pytest.approx(rr)


@pytest.mark.parametrize("binary", ["positive", "top", "2"])
def test_ndcg_takes_the_grades_with_linear_gain_whatever_is_relevant(binary: str) -> None:
    found = measure({"a": 3.0, "b": 1.0, "c": 0.0, "d": 2.0}, ["c", "d", "b", "a"], binary=binary)[1]
    gained = 2 / log2(3) + 1 / log2(4) + 3 / log2(5)
    ideal = 3 / log2(2) + 2 / log2(3) + 1 / log2(4)
    assert found == pytest.approx(gained / ideal)
    exponential = (3 / log2(3) + 1 / log2(4) + 7 / log2(5)) / (7 / log2(2) + 3 / log2(3) + 1 / log2(4))
    assert found != pytest.approx(exponential)


def test_ndcg_stops_after_ten_places() -> None:
    names = [f"d{n:02d}" for n in range(12)]
    grades = dict.fromkeys(names, 0.0) | {"d10": 5.0, "d11": 3.0}
    assert measure(grades, names)[1] == 0.0
    assert measure(grades, [*names[:9], "d11", "d09", "d10"])[1] == pytest.approx(3 / log2(11) / (5 + 3 / log2(3)))


@pytest.mark.parametrize(("order", "ndcg"), [("abc", 1.0), ("acb", 1.0), ("cab", 1 / log2(3))])
def test_one_relevant_candidate_gives_the_discount_of_its_place(order: str, ndcg: float) -> None:
    assert measure({"a": 1.0, "b": 0.0, "c": 0.0}, list(order))[1] == pytest.approx(ndcg)


def test_a_candidate_that_was_not_judged_counts_as_0() -> None:
    judged = RankingExample(
        id="q", query="query", candidates=(Candidate("a", "x"), Candidate("b", "x")), relevance={"b": 1}
    )
    assert per_query([judged], {"q": ranking(["a", "b"])}, binary="positive")["RR"] == [pytest.approx(1 / 2)]


def test_a_missing_ranking_counts_as_0_and_keeps_its_place() -> None:
    examples = [example({"a": 1.0, "b": 0.0}, id=f"q{n}") for n in range(3)]
    rankings = {name: ranking(["a", "b"], id=name) for name in ("q0", "q2")}
    assert per_query(examples, rankings, binary="positive") == {"RR": [1.0, 0.0, 1.0], "nDCG@10": [1.0, 0.0, 1.0]}


def test_without_any_ranking_every_query_counts_as_0() -> None:
    examples = [example({"a": 1.0, "b": 0.0}, id=f"q{n}") for n in range(2)]
    assert per_query(examples, {}, binary="positive") == {"RR": [0.0, 0.0], "nDCG@10": [0.0, 0.0]}


def test_a_ranking_of_another_query_is_not_measured() -> None:
    values = per_query([example({"a": 1.0})], {"q": ranking(["a"]), "other": ranking(["z"])}, binary="positive")
    assert values["RR"] == [1.0]


def test_only_the_places_that_are_shown_count() -> None:
    shown = Ranking(example_id="q", order=(Candidate("b", "x"), Candidate("a", "x")), scores=(1.0, 0.0), top_k=1)
    assert per_query([example({"a": 1.0, "b": 0.0})], {"q": shown}, binary="positive")["RR"] == [0.0]


def test_values_come_in_the_order_of_the_examples() -> None:
    names = [f"q{n}" for n in (7, 10, 9, 1, 33, 2)]
    examples = [example({"a": 1.0, "b": 0.0, "c": 0.0}, id=name) for name in names]
    orders = [["a", "b", "c"], ["b", "a", "c"], ["b", "c", "a"]] * 2
    rankings = {name: ranking(order, id=name) for name, order in zip(names, orders, strict=True)}
    values = per_query(examples, dict(reversed(rankings.items())), binary="positive")["RR"]
    assert values == pytest.approx([1, 1 / 2, 1 / 3] * 2)


@pytest.mark.parametrize(
    "odd", ["two words", "tab\tbed", "é ü 漢字", '"quoted"', "a\nb", "#1", "-0", "<|im_end|>", "🙂"]
)
def test_ids_may_hold_any_character(odd: str) -> None:
    asked = example({odd: 1.0, "x": 0.0, f"{odd} ": 0.0}, id=odd)
    values = per_query([asked], {odd: ranking(["x", odd, f"{odd} "], id=odd)}, binary="positive")
    assert values["RR"] == [pytest.approx(1 / 2)]
    assert values["nDCG@10"] == [pytest.approx(1 / log2(3))]


@pytest.mark.parametrize("order", [["a", "z"], ["z", "a"]])
@pytest.mark.parametrize("scores", [(1.0, 0.0), (1.0, 1.0 - 1e-12), (1e12 + 1, 1e12), (1e-300, 0.0)])
def test_the_order_of_a_ranking_counts_however_near_its_scores_are(order: list[str], scores: tuple[float, ...]) -> None:
    rankings = {"q": ranking(order, scores=scores)}
    values = per_query([example({"a": 1.0, "z": 0.0})], rankings, binary="positive")
    assert values["RR"] == [pytest.approx(1 / (1 + order.index("a")))]


def test_other_measures_may_be_asked_for() -> None:
    values = per_query(
        [example({"a": 0.0, "b": 2.0})],
        {"q": ranking(["a", "b"])},
        binary="positive",
        measures=("Success@1", "Success@2"),
    )
    assert values == {"Success@1": [0.0], "Success@2": [1.0]}


def test_an_unknown_kind_of_relevance_is_refused() -> None:
    with pytest.raises(OptionError, match="binary='best'"):
        measure({"a": 1.0}, ["a"], binary="best")


def test_the_interval_holds_the_mean_and_narrows_with_more_queries() -> None:
    rng = Random(0)
    values = [rng.random() for _ in range(400)]
    few, many = with_interval(values[:20]), with_interval(values)
    for figure, given in ((few, values[:20]), (many, values)):
        assert figure.mean == pytest.approx(sum(given) / len(given))
        assert min(given) <= figure.low < figure.mean < figure.high <= max(given)
        assert figure.queries == len(given)
    assert many.high - many.low < few.high - few.low


def test_the_interval_is_that_of_the_normal_law_for_many_queries() -> None:
    values = [0.0, 1.0] * 200
    figure = with_interval(values)
    half = 1.96 * 0.5 / 20
    assert figure.low == pytest.approx(0.5 - half, abs=0.01)
    assert figure.high == pytest.approx(0.5 + half, abs=0.01)


def test_the_interval_depends_on_the_seed_alone() -> None:
    values = [0.1, 0.5, 0.25, 1.0, 0.0, 0.33]
    assert with_interval(values) == with_interval(list(values))
    assert with_interval(values, seed=1) == with_interval(values, seed=1)
    assert with_interval(values, seed=1, resamples=50) != with_interval(values, seed=2, resamples=50)


@pytest.mark.parametrize("values", [[0.25], [0.25, 0.25], [0.0] * 30, [1.0] * 30])
def test_values_that_do_not_differ_have_an_interval_of_one_point(values: list[float]) -> None:
    figure = with_interval(values)
    assert (figure.mean, figure.low, figure.high, figure.queries) == (values[0], values[0], values[0], len(values))


def test_without_scipy_the_message_names_the_extra_and_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.split(".")[0] == "scipy"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "scipy", None)
    with pytest.raises(MissingExtraError, match=r"'scipy'.*extra 'bench': pip install 'unified-ranker\[bench\]'"):
        with_interval([0.0, 1.0])
