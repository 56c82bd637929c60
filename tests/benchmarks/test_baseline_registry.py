from __future__ import annotations

from typing import Any

import pytest
from unified_ranker.benchmarks.baselines import baseline_named
from unified_ranker.benchmarks.baselines.registry import BASELINES, QUICK, SETS, UNTRAINED

from unified_ranker.errors import OptionError
from unified_ranker.schema.types import DOMAINS

OPTIONS: dict[str, dict[str, Any]] = {"cross-encoder": {"model": "folder"}}


@pytest.mark.parametrize("name", BASELINES)
def test_each_baseline_is_called_what_the_registry_calls_it(name: str) -> None:
    baseline = baseline_named(name, **OPTIONS.get(name, {}))
    assert baseline.name == name
    assert baseline.domains and set(baseline.domains) <= set(DOMAINS)


@pytest.mark.parametrize("name", BASELINES)
def test_what_is_untrained_says_so(name: str) -> None:
    baseline = baseline_named(name, **OPTIONS.get(name, {}))
    assert baseline.trained == (name not in (*UNTRAINED, "cross-encoder"))


def test_each_domain_has_a_specialist() -> None:
    found = {name: baseline_named(name, **OPTIONS.get(name, {})) for name in BASELINES}
    alone = {domain: [name for name, made in found.items() if made.domains == (domain,)] for domain in DOMAINS}
    assert alone["passage"] == ["first-stage"]
    assert alone["recommendation"] == [
        "popularity",
        "item-knn",
        "recbole-itemknn",
        "recbole-bpr",
        "recbole-sasrec",
        "recbole-lightgcn",
    ]
    assert alone["routing"] == ["cheapest-llm", "best-llm", "knn-router", "logistic-router"]


def test_the_sets_grow_from_untrained_over_quick_to_all() -> None:
    assert SETS["untrained"] == UNTRAINED == ("bm25", "tf-idf", "minilm", "first-stage")
    assert set(UNTRAINED) < set(QUICK) < set(SETS["all"]) < set(BASELINES)
    assert SETS["quick"] == QUICK


def test_all_leaves_out_only_what_needs_a_model() -> None:
    assert set(BASELINES) - set(SETS["all"]) == {"cross-encoder"}


def test_quick_needs_no_environment_of_its_own() -> None:
    assert not [name for name in QUICK if name.startswith("recbole-") or name == "cross-encoder"]


def test_no_set_is_called_like_a_baseline_or_names_one_twice() -> None:
    assert not set(SETS) & set(BASELINES)
    assert all(len(set(names)) == len(names) for names in SETS.values())


@pytest.mark.parametrize(
    ("name", "meant"),
    [("bm-25", "bm25"), ("tfidf", "tf-idf"), ("itemknn", "item-knn"), ("knn-routr", "knn-router")],
)
def test_an_unknown_baseline_names_the_nearest_one(name: str, meant: str) -> None:
    with pytest.raises(OptionError, match=f"baseline='{name}' is not known; did you mean '{meant}'"):
        baseline_named(name)


@pytest.mark.parametrize(
    "name", ["bm25", "tf-idf", "popularity", "item-knn", "knn-router", "recbole-bpr", "best-llm", "cross-encoder"]
)
def test_an_option_that_a_baseline_does_not_take_is_refused_by_both_names(name: str) -> None:
    with pytest.raises(OptionError, match=f"baseline '{name}': "):
        baseline_named(name, colour="red", **OPTIONS.get(name, {}))


def test_options_reach_the_baseline() -> None:
    made: Any = baseline_named("knn-router", vectors=["tf-idf"], neighbours=[3])
    assert (made.vectors, made.neighbours) == (("tf-idf",), (3,))
    assert baseline_named("logistic-router", inverse_penalties=[1.0]).inverse_penalties == (1.0,)  # type: ignore[attr-defined]
