from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from scipy.stats import spearmanr
from toy_runs import build_task, graded, result, write_cell
from unified_ranker.benchmarks.report.bias import Bias, biases
from unified_ranker.benchmarks.report.load import ORACLE, RANDOM, Result, load_results, named

from unified_ranker.errors import DataError, OptionError
from unified_ranker.schema.types import Candidate, RankingExample

# The relevant one stands first, in the middle, and last.
LISTS = {f"q{place}": {name: float(name == relevant) for name in "abc"} for place, relevant in enumerate("abc")}


def ranked(data: Path, examples: list[RankingExample], orders: dict[str, str]) -> list[Result]:
    """Return what a run has that ranked lists in these orders, a letter for each candidate."""
    task = build_task(data / "data", examples[0].task, examples)
    write_cell(data / "run", task, {id: list(order) for id, order in orders.items()})
    return named(load_results([data / "run"]), "toy/one")


def of(found: list[Bias], trait: str) -> Bias:
    return next(entry for entry in found if entry.trait == trait)


def test_a_ranker_that_leaves_lists_as_they_stand_favours_the_first_place(tmp_path: Path) -> None:
    examples = [graded(id, grades) for id, grades in LISTS.items()]
    place = of(biases(ranked(tmp_path, examples, dict.fromkeys(LISTS, "abc"))), "place")
    assert (place.task, place.edition, place.lists) == ("passage-5", "open", 3)
    assert (place.first, place.relevant, place.all) == (0.0, 0.5, 0.5)
    assert place.parts == ((1, 1.0), (1, 0.5), (1, pytest.approx(1 / 3)))
    assert place.correlation == pytest.approx(-1.0)


def test_a_ranker_that_is_always_right_favours_nothing(tmp_path: Path) -> None:
    examples = [graded(id, grades) for id, grades in LISTS.items()]
    place = of(biases(ranked(tmp_path, examples, {"q0": "abc", "q1": "bac", "q2": "cab"})), "place")
    assert place.first == place.relevant == 0.5
    assert (place.correlation, place.p) == (None, None)


def test_the_correlation_is_spearmans(tmp_path: Path) -> None:
    grades = [{"a": 0.0, "b": 0.0, "c": 0.0, "d": 0.0, name: 1.0} for name in "abcdab"]
    orders = ["abcd", "bacd", "dcba", "adbc", "dcba", "abcd"]
    examples = [graded(f"q{n}", found) for n, found in enumerate(grades)]
    (place, *_) = biases(ranked(tmp_path, examples, {f"q{n}": order for n, order in enumerate(orders)}))
    places = ["abcd".index(name) / 3 for name in "abcdab"]
    values = [1 / (1 + order.index(name)) for name, order in zip("abcdab", orders, strict=True)]
    expected = spearmanr(places, values)
    assert place.correlation == pytest.approx(float(expected.statistic))
    assert place.p == pytest.approx(float(expected.pvalue))


def test_equal_values_stay_in_one_part(tmp_path: Path) -> None:
    examples = [graded(f"q{n}", LISTS["q0"]) for n in range(4)]
    place = of(biases(ranked(tmp_path, examples, {f"q{n}": "abc" for n in range(4)})), "place")
    assert place.parts == ((0, None), (4, 1.0), (0, None))


def test_length_is_that_of_title_and_text(tmp_path: Path) -> None:
    candidates = (Candidate("a", "three words long", "a title"), Candidate("b", "one"))
    example = replace(graded("q0", {"a": 0.0, "b": 1.0}), candidates=candidates)
    length = of(biases(ranked(tmp_path, [example], {"q0": "ab"})), "length")
    assert (length.first, length.relevant, length.all) == (5.0, 1.0, 3.0)


def test_popularity_counts_training_lists_alone(tmp_path: Path) -> None:
    training = [graded(f"t{n}", LISTS["q1"], split="train") for n in range(3)]
    training.append(graded("t3", LISTS["q2"], split="train"))
    examples = [graded(id, grades) for id, grades in LISTS.items()]
    popularity = of(biases(ranked(tmp_path, [*training, *examples], dict.fromkeys(LISTS, "bca"))), "popularity")
    assert popularity.first == 3.0
    assert popularity.relevant == popularity.all == pytest.approx(4 / 3)
    # a was never relevant, c once, b three times.
    assert popularity.parts == ((1, pytest.approx(1 / 3)), (1, 0.5), (1, 1.0))


def test_what_no_list_has_is_left_out(tmp_path: Path) -> None:
    found = biases(ranked(tmp_path, [graded("q0", LISTS["q1"])], {"q0": "abc"}))
    assert [entry.trait for entry in found] == ["place", "length", "query"]


def test_a_history_counts_its_entries(tmp_path: Path) -> None:
    lists = [
        replace(graded(f"u{n}", LISTS["q0"], task="movie"), context=tuple("xyz"[: n + 1]), query="which one next")
        for n in range(3)
    ]
    found = biases(ranked(tmp_path, lists, {f"u{n}": "abc" for n in range(3)}))
    history, query = of(found, "history"), of(found, "query")
    assert (history.first, history.relevant, history.all) == (2.0, 2.0, 2.0)
    assert [count for count, _ in history.parts] == [1, 1, 1]
    assert query.all == 3.0


def test_lists_without_a_ranking_or_anything_relevant_do_not_count(tmp_path: Path) -> None:
    examples = [graded("q0", LISTS["q1"]), graded("q1", dict.fromkeys("abc", 0.0)), graded("q2", LISTS["q1"])]
    place = of(biases(ranked(tmp_path, examples, {"q0": "abc", "q1": "abc"})), "place")
    assert (place.lists, place.parts[1]) == (1, (1, 0.5))


def test_another_measure_is_taken(tmp_path: Path) -> None:
    examples = [graded(id, grades) for id, grades in LISTS.items()]
    place = of(biases(ranked(tmp_path, examples, dict.fromkeys(LISTS, "abc")), metric="Success@1"), "place")
    assert [mean for _, mean in place.parts] == [1.0, 0.0, 0.0]


@pytest.mark.parametrize("name", [RANDOM, ORACLE])
def test_what_is_computed_has_no_rankings(name: str) -> None:
    with pytest.raises(OptionError, match=f"name='{name}' is computed"):
        biases([result(name, [1.0])])


def test_an_unknown_measure_is_told() -> None:
    with pytest.raises(OptionError, match=r"did you mean 'nDCG@10'"):
        biases([result("toy/one", [1.0])], metric="nDCG@1")


def test_nothing_to_count_is_told(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="toy/one has no ranking of a list of 'passage-5'"):
        biases(ranked(tmp_path, [graded("q0", dict.fromkeys("abc", 0.0))], {"q0": "abc"}))
