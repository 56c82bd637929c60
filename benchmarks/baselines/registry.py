"""Baselines by name, imported only when asked for."""

from __future__ import annotations

from importlib import import_module
from typing import Any, cast

from unified_ranker.benchmarks.baselines.base import Baseline

from unified_ranker.errors import OptionError, unknown_choice

_HOME = "unified_ranker.benchmarks.baselines"
BASELINES: dict[str, str] = {
    "bm25": f"{_HOME}.bm25:BM25",
    "tf-idf": f"{_HOME}.tf_idf:TfIdf",
    "minilm": f"{_HOME}.minilm:MiniLM",
    "cross-encoder": f"{_HOME}.cross_encoder:CrossEncoder",
    "first-stage": f"{_HOME}.first_stage:FirstStage",
    "popularity": f"{_HOME}.popularity:Popularity",
    "item-knn": f"{_HOME}.item_knn:ItemKNN",
    "recbole-itemknn": f"{_HOME}.recbole_models:RecBoleItemKNN",
    "recbole-bpr": f"{_HOME}.recbole_models:RecBoleBPR",
    "recbole-sasrec": f"{_HOME}.recbole_models:RecBoleSASRec",
    "recbole-lightgcn": f"{_HOME}.recbole_models:RecBoleLightGCN",
    "cheapest-llm": f"{_HOME}.single_llm:CheapestLLM",
    "best-llm": f"{_HOME}.single_llm:BestLLM",
    "knn-router": f"{_HOME}.knn_router:KNNRouter",
    "logistic-router": f"{_HOME}.logistic_router:LogisticRouter",
}
#: Those that need neither training nor anything that has to be installed or given besides the extra "bench".
UNTRAINED: tuple[str, ...] = ("bm25", "tf-idf", "minilm", "first-stage")
#: Those that count or fit a table in seconds.
QUICK: tuple[str, ...] = (
    *UNTRAINED,
    "popularity",
    "item-knn",
    "cheapest-llm",
    "best-llm",
    "knn-router",
    "logistic-router",
)
#: Sets by name.
SETS: dict[str, tuple[str, ...]] = {
    "untrained": UNTRAINED,
    "quick": QUICK,
    "all": tuple(name for name in BASELINES if name != "cross-encoder"),
}


def baseline_named(name: str, **options: Any) -> Baseline:
    """Return a baseline.

    Args:
        name: One of :data:`BASELINES`.
        **options: Its own options, such as ``model`` of ``cross-encoder``.

    Raises:
        OptionError: there is none of that name, or it does not take an option.
    """
    if name not in BASELINES:
        raise unknown_choice("baseline", name, (*BASELINES, *SETS))
    module, _, attribute = BASELINES[name].partition(":")
    make = getattr(import_module(module), attribute)
    try:
        return cast("Baseline", make(**options))
    except TypeError as error:
        raise OptionError(f"baseline {name!r}: {error}") from error
