from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy
import pytest
from built_tasks import by_id, costs, question, turned, write_task
from scipy.optimize import minimize
from unified_ranker.benchmarks.baselines.base import Scorer
from unified_ranker.benchmarks.baselines.knn_router import KNNRouter
from unified_ranker.benchmarks.baselines.logistic_router import LogisticRouter
from unified_ranker.benchmarks.baselines.single_llm import BestLLM, CheapestLLM, pool_of
from unified_ranker.tasks.beside import Beside

from unified_ranker.embedding import Embedder
from unified_ranker.errors import MissingSourceError, OptionError
from unified_ranker.schema.types import RankingExample

#: Two pools: red questions are for a, blue ones for b; c is in the second pool alone.
LISTS = [
    question("t1", "red", {"a": 90.0, "b": 10.0}),
    question("t2", "red", {"b": 20.0, "a": 80.0}),
    question("t3", "blue", {"a": 0.0, "b": 100.0}),
    question("t4", "blue", {"a": 10.0, "b": 90.0}),
    question("t5", "blue", {"a": 20.0, "b": 80.0}),
    question("t6", "green", {"a": 50.0, "c": 60.0}),
    question("v1", "red", {"a": 70.0, "b": 30.0}, split="validation"),
    question("s1", "blue", {"a": 0.0, "b": 0.0}, split="test"),
]
COSTS = costs(
    t1={"a": 1.0, "b": 4.0},
    t2={"a": 3.0, "b": 5.0},
    t3={"a": 2.0, "b": 0.1},
    t4={"a": 2.0, "b": 0.2},
    t5={"a": 2.0, "b": 0.2},
    t6={"a": 9.0, "c": 0.5},
    v1={"a": 0.001, "b": 99.0},
    s1={"a": 99.0, "b": 0.001},
)
ROUTERS: tuple[Any, ...] = (
    CheapestLLM,
    BestLLM,
    lambda: KNNRouter(vectors=["tf-idf"]),
    lambda: LogisticRouter(vectors=["tf-idf"]),
)
READERS: tuple[Any, ...] = (KNNRouter, LogisticRouter)


def prepared(baseline: Any, folder: Path, lists: list[RankingExample] | None = None, beside: Beside = COSTS) -> Scorer:
    task = write_task(folder, "router-balance", lists or LISTS, beside=beside)
    scorer: Scorer = baseline.prepare(task, seed=0, scratch=folder)
    return scorer


def near(count: int) -> KNNRouter:
    return KNNRouter(vectors=["tf-idf"], neighbours=[count])


def asked(text: str, names: str = "ab") -> RankingExample:
    return question("asked", text, dict.fromkeys(names, 0.0), split="test")


def test_lists_with_the_same_llms_share_a_pool_in_whatever_order() -> None:
    assert pool_of(asked("red", "ba")) == pool_of(asked("blue", "ab")) == ("a", "b")
    assert pool_of(asked("red", "abc")) != pool_of(asked("red", "ab"))


def test_the_cheapest_llm_is_that_of_the_least_mean_cost_in_training(tmp_path: Path) -> None:
    scorer = prepared(CheapestLLM(), tmp_path)
    assert by_id(scorer, asked("red")) == pytest.approx({"a": -(1 + 3 + 2 + 2 + 2) / 5, "b": -(4 + 5 + 0.5) / 5})
    assert by_id(scorer, asked("red", "ac")) == {"a": -9.0, "c": -0.5}


def test_without_costs_the_cheapest_llm_says_how_to_build_them(tmp_path: Path) -> None:
    with pytest.raises(MissingSourceError, match="unified-ranker data build router-balance"):
        prepared(CheapestLLM(), tmp_path, beside=Beside())


def test_the_best_llm_is_that_of_the_greatest_mean_relevance_in_training(tmp_path: Path) -> None:
    scorer = prepared(BestLLM(), tmp_path, beside=Beside())
    assert by_id(scorer, asked("red")) == {"a": 200 / 5, "b": 300 / 5}
    assert by_id(scorer, asked("red", "ca")) == {"c": 60.0, "a": 50.0}


def test_an_llm_without_a_grade_counts_as_0_in_the_mean(tmp_path: Path) -> None:
    lists = [replace(LISTS[0], relevance={"a": 90.0}), LISTS[1]]
    assert by_id(prepared(BestLLM(), tmp_path, lists), asked("red")) == {"a": 85.0, "b": 10.0}


@pytest.mark.parametrize("make", ROUTERS)
@pytest.mark.parametrize("names", ["abc", "a", "xyz"])
def test_a_pool_that_was_not_trained_on_gets_no_order(tmp_path: Path, make: Any, names: str) -> None:
    assert prepared(make(), tmp_path).score(asked("red", names)) == [0.0] * len(names)


@pytest.mark.parametrize("make", ROUTERS)
def test_scores_go_with_their_candidates_and_grades_are_not_looked_at(tmp_path: Path, make: Any) -> None:
    scorer = prepared(make(), tmp_path)
    found = by_id(scorer, asked("red"))
    assert found["a"] != found["b"]
    assert by_id(scorer, turned(asked("red"))) == found


@pytest.mark.parametrize("make", ROUTERS)
def test_what_is_known_of_test_changes_nothing(tmp_path: Path, make: Any) -> None:
    other = [*LISTS[:-1], question("s1", "red", {"a": 100.0, "b": 0.0}, split="test")]
    first, second = (prepared(make(), tmp_path / str(n), lists) for n, lists in enumerate((LISTS, other)))
    assert by_id(second, asked("red")) == by_id(first, asked("red"))
    assert make().settings(second) == make().settings(first)


@pytest.mark.parametrize("make", ROUTERS)
def test_all_are_trained_and_for_routing_alone(make: Any) -> None:
    assert (make().trained, make().domains) == (True, ("routing",))


@pytest.mark.parametrize(
    ("text", "count", "scores"),
    [
        ("red", 2, {"a": (90 + 80) / 2, "b": (10 + 20) / 2}),
        ("blue", 3, {"a": (0 + 10 + 20) / 3, "b": (100 + 90 + 80) / 3}),
        ("red", 5, {"a": 40, "b": 60}),
        ("red", 99, {"a": 40, "b": 60}),
    ],
)
def test_an_llm_scores_its_mean_relevance_over_the_nearest_questions(
    tmp_path: Path, text: str, count: int, scores: dict[str, float]
) -> None:
    scorer = prepared(near(count), tmp_path)
    assert by_id(scorer, asked(text)) == pytest.approx(scores, abs=1e-3)


def test_the_nearest_question_is_that_of_its_own_pool(tmp_path: Path) -> None:
    assert by_id(prepared(near(1), tmp_path), asked("red", "ac")) == pytest.approx({"a": 50, "c": 60}, abs=1e-3)


def test_the_nearest_is_by_the_angle_of_the_words(tmp_path: Path) -> None:
    lists = [
        question("t1", "apple pear", {"a": 100.0, "b": 0.0}),
        question("t2", "apple plum quince medlar", {"a": 0.0, "b": 100.0}),
        question("v1", "pear", {"a": 1.0, "b": 0.0}, split="validation"),
    ]
    scorer = prepared(near(1), tmp_path, lists)
    assert by_id(scorer, asked("apple"))["a"] == pytest.approx(100, abs=1e-3)
    assert by_id(scorer, asked("apple quince"))["b"] == pytest.approx(100, abs=1e-3)


@pytest.mark.parametrize(("rare", "first"), [({"a": 60.0, "b": 40.0}, "b"), ({"a": 100.0, "b": 0.0}, "a")])
def test_a_tie_of_the_neighbours_goes_to_the_better_llm_overall(
    tmp_path: Path, rare: dict[str, float], first: str
) -> None:
    lists = [
        question("t1", "red", {"a": 50.0, "b": 50.0}),
        question("t2", "blue", {"a": 20.0, "b": 70.0}),
        question("t3", "green", rare),
        LISTS[6],
    ]
    found = by_id(prepared(near(1), tmp_path, lists), asked("red"))
    assert max(found, key=found.__getitem__) == first
    assert found["a"] == pytest.approx(found["b"], abs=1e-3)


@pytest.mark.parametrize(("validation", "count"), [({"a": 1.0, "b": 0.0}, 2), ({"a": 0.0, "b": 1.0}, 5)])
def test_the_number_of_neighbours_is_that_which_ranks_the_validation_lists_best(
    tmp_path: Path, validation: dict[str, float], count: int
) -> None:
    router = KNNRouter(vectors=["tf-idf"], neighbours=[2, 5])
    scorer = prepared(router, tmp_path, [*LISTS[:5], replace(LISTS[6], relevance=validation)])
    assert router.settings(scorer) == {"vectors": "tf-idf", "neighbours": count}


def test_of_equal_settings_the_first_is_taken(tmp_path: Path) -> None:
    router = KNNRouter(vectors=["tf-idf"], neighbours=[2, 1])
    assert router.settings(prepared(router, tmp_path))["neighbours"] == 2
    logistic = LogisticRouter(vectors=["tf-idf"], inverse_penalties=[3.0, 30.0])
    assert logistic.settings(prepared(logistic, tmp_path / "logistic"))["inverse_penalty"] == 3.0


@pytest.mark.parametrize("make", READERS)
@pytest.mark.parametrize(("validation", "kind"), [({"a": 1.0, "b": 0.0}, "tf-idf"), ({"a": 0.0, "b": 1.0}, "minilm")])
def test_the_vectors_are_those_that_rank_the_validation_lists_best(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make: Any, validation: dict[str, float], kind: str
) -> None:
    def upside_down(texts: list[str]) -> Any:
        # Red where a question of training says blue, and blue where it says red; asked ones are as they are.
        vectors = numpy.array([[1.0, 0.0] if "red" in text else [0.0, 1.0] for text in texts])
        return vectors if len(texts) == 1 else vectors[:, ::-1]

    monkeypatch.setattr(Embedder, "load", staticmethod(lambda: upside_down))
    router = make(**({"neighbours": [2]} if make is KNNRouter else {"inverse_penalties": [3.0]}))
    scorer = prepared(router, tmp_path, [*LISTS[:5], replace(LISTS[6], relevance=validation)])
    assert router.settings(scorer)["vectors"] == kind


def test_the_best_of_a_list_are_all_that_share_its_top_grade(tmp_path: Path) -> None:
    lists = [
        question("t1", "red", {"a": 50.0, "b": 50.0}),
        question("t2", "blue", {"a": 50.0, "b": 40.0}),
        LISTS[6],
    ]
    scorer = prepared(LogisticRouter(vectors=["tf-idf"]), tmp_path, lists)
    found = by_id(scorer, asked("blue"))
    assert found["a"] == 1.0, "always the best"
    assert 0 < found["b"] < 0.5
    assert by_id(scorer, asked("red"))["b"] > 0.5


def test_an_llm_that_is_never_the_best_scores_0(tmp_path: Path) -> None:
    lists = [question("t1", "red", {"a": 9.0, "b": 5.0}), question("t2", "blue", {"a": 9.0, "b": 8.0}), LISTS[6]]
    assert by_id(prepared(LogisticRouter(vectors=["tf-idf"]), tmp_path, lists), asked("red")) == {"a": 1.0, "b": 0.0}


@pytest.mark.parametrize("inverse", [0.03, 3.0])
def test_the_probability_is_that_of_a_regression_with_a_penalty(tmp_path: Path, inverse: float) -> None:
    words = ["red", "red", "red", "blue", "blue"]
    best = ["a", "a", "b", "b", "b"]
    lists = [
        question(f"t{n}", word, {"a": 5.0 + (name == "a"), "b": 5.5})
        for n, (word, name) in enumerate(zip(words, best, strict=True))
    ]
    scorer = prepared(LogisticRouter(vectors=["tf-idf"], inverse_penalties=[inverse]), tmp_path, [*lists, LISTS[6]])
    inputs = numpy.array([[word == "red", word == "blue"] for word in words], dtype=float)
    signs = numpy.array([1.0 if name == "a" else -1.0 for name in best])

    def loss(weights: Any) -> float:
        margins = signs * (inputs @ weights[:2] + weights[2])
        return float(0.5 * weights[:2] @ weights[:2] + inverse * numpy.log1p(numpy.exp(-margins)).sum())

    red, blue, bias = minimize(loss, numpy.zeros(3), tol=1e-10).x
    for word, weight in (("red", red), ("blue", blue)):
        found = by_id(scorer, asked(word))
        assert found["a"] == pytest.approx(1 / (1 + numpy.exp(-(weight + bias))), abs=1e-3)
        assert found["a"] + found["b"] == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize(("validation", "inverse"), [({"a": 1.0, "b": 0.0}, 1000.0), ({"a": 0.0, "b": 1.0}, 1e-4)])
def test_the_penalty_is_that_which_ranks_the_validation_lists_best(
    tmp_path: Path, validation: dict[str, float], inverse: float
) -> None:
    # So strong a penalty that words count nothing leaves b, which is the best of three in five.
    router = LogisticRouter(vectors=["tf-idf"], inverse_penalties=[1000.0, 1e-4])
    scorer = prepared(router, tmp_path, [*LISTS[:5], replace(LISTS[6], relevance=validation)])
    assert router.settings(scorer) == {"vectors": "tf-idf", "inverse_penalty": inverse}


@pytest.mark.parametrize("make", READERS)
def test_words_that_training_never_saw_still_get_an_order(tmp_path: Path, make: Any) -> None:
    found = prepared(make(vectors=["tf-idf"]), tmp_path).score(asked("unheard"))
    assert len(found) == 2
    assert all(value == value for value in found)


@pytest.mark.parametrize("make", READERS)
@pytest.mark.parametrize("vectors", ["minilm", ["word2vec"], ["tf-idf", "mini-lm"], []])
def test_vectors_that_are_not_known_are_refused(make: Any, vectors: Any) -> None:
    with pytest.raises(OptionError, match="vectors"):
        make(vectors=vectors)


@pytest.mark.parametrize(
    ("make", "option", "values"),
    [
        (KNNRouter, "neighbours", []),
        (KNNRouter, "neighbours", [0]),
        (KNNRouter, "neighbours", [2.5]),
        (KNNRouter, "neighbours", ["5"]),
        (LogisticRouter, "inverse_penalties", []),
        (LogisticRouter, "inverse_penalties", [0.0]),
        (LogisticRouter, "inverse_penalties", [-1.0]),
    ],
)
def test_a_number_that_cannot_be_used_is_refused_by_its_option(make: Any, option: str, values: list[Any]) -> None:
    with pytest.raises(OptionError, match=option):
        make(**{option: values})
