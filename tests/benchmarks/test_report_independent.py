from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from math import log2
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest
from toy_runs import build_task, graded, write_cell
from unified_ranker.tasks.beside import LLMOutcome

from unified_ranker.cli import main as door

GradesByList = Mapping[str, Mapping[str, int]]
#: Lists with their grades in the order in which the candidates stand, and the order in which they were ranked.
MOVIE: GradesByList = {
    "u1": {"a": 0, "b": 1, "c": 0, "d": 0},
    "u2": {"a": 1, "b": 0, "c": 0, "d": 0},
    "u3": {"a": 0, "b": 0, "c": 0, "d": 1},
    "u4": {"a": 0, "b": 0, "c": 1, "d": 0},
}
ROUTER: GradesByList = {
    "r1": {"small": 80, "middle": 60, "large": 20, "other": 20, "slow": 10},
    "r2": {"small": 30, "middle": 70, "large": 70, "other": 20, "slow": 10},
    "r3": {"small": 5, "middle": 4, "large": 3, "other": 2, "slow": 1},
}
TREC: GradesByList = {
    "t1": {f"p{n}": grade for n, grade in enumerate([0, 3, 1, 0, 2, 0, 0, 1, 0, 0, 3, 2])},
    "t2": {f"p{n}": grade for n, grade in enumerate([1, 1, 0, 0, 0])},
    "t3": {f"p{n}": grade for n, grade in enumerate([0, 0, 2])},
}
OUTSIDE = {"t1": {"x1": 3, "x2": 1}, "t3": {"x3": 2}}
ORDERS = {
    "u1": "bacd",
    "u2": "dcba",
    "u3": "abdc",
    # u4 was never ranked.
    "r1": ["large", "other", "middle", "small", "slow"],
    "r2": ["small", "other", "large", "middle", "slow"],
    "r3": ["small", "middle", "large", "other", "slow"],
    "t1": [f"p{n}" for n in (10, 0, 2, 3, 5, 6, 8, 9, 7, 11, 4, 1)],
    "t2": [f"p{n}" for n in range(5)],
    "t3": ["p0", "p2", "p1"],
}
#: Which grades count as relevant, by the rule of each task.
RELEVANT = {
    "movie": {id: {name for name, grade in grades.items() if grade > 0} for id, grades in MOVIE.items()},
    "router-balance": {
        id: {name for name, grade in grades.items() if grade == max(grades.values())} for id, grades in ROUTER.items()
    },
    "trec-dl-2019": {id: {name for name, grade in grades.items() if grade >= 2} for id, grades in TREC.items()},
}
LISTS = {"movie": MOVIE, "router-balance": ROUTER, "trec-dl-2019": TREC}
BY_HAND = {
    ("movie", "RR"): (1 + 1 / 4 + 1 / 3 + 0) / 4,
    ("movie", "nDCG@10"): (1 + 1 / log2(5) + 1 / log2(4) + 0) / 4,
    ("movie", "Success@3"): (1 + 0 + 1 + 0) / 4,
    ("router-balance", "RR"): (1 / 4 + 1 / 3 + 1) / 3,
    ("router-balance", "Success@3"): (0 + 1 + 1) / 3,
    ("router-balance", "reward"): (20 + 30 + 5) / 300,
    ("router-balance", "regret"): (60 + 40 + 0) / 300,
    ("router-balance", "performance"): (0.9 + 0.5 + 0.5) / 3,
    ("router-balance", "cost"): (1 + 0 + 0) / 3,
    ("trec-dl-2019", "RR"): (1 + 0 + 1 / 2) / 3,
    ("trec-dl-2019", "Success@3"): 2 / 3,
    ("trec-dl-2019", "nDCG@10"): (
        # Ranked: 3 0 1 0 0 0 0 0 1 2. Could have been: 3 3 3 2 2 1 1 1, with the two outside the list.
        (3 + 1 / 2 + 1 / log2(10) + 2 / log2(11))
        / (3 + 3 / log2(3) + 3 / 2 + 2 / log2(5) + 2 / log2(6) + 1 / log2(7) + 1 / log2(8) + 1 / log2(9))
        + 1
        + (2 / log2(3)) / (2 + 2 / log2(3))
    )
    / 3,
}


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """Return what the command writes of a run on one task of each domain."""
    folder = tmp_path_factory.mktemp("independent")
    data, run, written = folder / "data", folder / "run", folder / "rows.json"
    outcomes = {
        id: {
            "small": LLMOutcome(0.5, 0.25),
            "middle": LLMOutcome(0.6, 0.5),
            "large": LLMOutcome(0.9, 4.0),
            "other": LLMOutcome(0.2, 1.0),
            "slow": LLMOutcome(0.1, 2.0),
        }
        for id in ROUTER
    }
    for name, lists in LISTS.items():
        examples = [graded(id, dict(grades), task=name) for id, grades in lists.items()]
        task = build_task(
            data,
            name,
            examples,
            outcomes=outcomes if name == "router-balance" else None,
            judged=OUTSIDE if name == "trec-dl-2019" else None,
        )
        write_cell(run, task, {id: list(ORDERS[id]) for id in lists if id in ORDERS})
    _report(run, written)
    found: list[dict[str, Any]] = json.loads(written.read_text(encoding="utf-8"))
    return found


def _report(run: Path, written: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["unified-ranker", "bench", "report", str(run), "--json", str(written)])
        with pytest.raises(SystemExit) as stop:
            door.main()
    assert not stop.value.code


def cell(rows: list[dict[str, Any]], task: str, metric: str, *, model: str = "toy") -> dict[str, Any]:
    (found,) = (row for row in rows if (row["model"], row["task"], row["metric"]) == (model, task, metric))
    return found


@pytest.mark.parametrize(("task", "metric"), list(BY_HAND))
def test_a_cell_is_what_the_formula_gives_by_hand(task: str, metric: str, rows: list[dict[str, Any]]) -> None:
    found = cell(rows, task, metric)
    assert found["value"] == pytest.approx(BY_HAND[task, metric])
    assert found["queries"] == len(LISTS[task])
    assert found["low"] <= found["value"] <= found["high"]


@pytest.mark.parametrize("task", list(LISTS))
@pytest.mark.parametrize(
    ("metric", "theirs"),
    [
        ("RR", "recip_rank"),
        ("nDCG@10", "ndcg_cut_10"),
        ("Success@1", "success_1"),
        ("Success@3", "success_3"),
        ("Success@5", "success_5"),
    ],
)
def test_a_cell_is_what_trec_eval_gives(task: str, metric: str, theirs: str, rows: list[dict[str, Any]]) -> None:
    pytrec_eval = pytest.importorskip("pytrec_eval")
    if metric == "nDCG@10":
        outside = OUTSIDE if task == "trec-dl-2019" else {}
        qrels = {id: {**grades, **outside.get(id, {})} for id, grades in LISTS[task].items()}
    else:
        qrels = {id: {name: int(name in RELEVANT[task][id]) for name in grades} for id, grades in LISTS[task].items()}
    run = {
        id: {name: float(100 - place) for place, name in enumerate(ORDERS[id])} for id in LISTS[task] if id in ORDERS
    }
    measure = {"ndcg_cut_10": "ndcg_cut.10"}.get(theirs, theirs.replace("success_", "success."))
    found = pytrec_eval.RelevanceEvaluator(qrels, {measure}).evaluate(run)
    values = [found[id][theirs] if id in found else 0.0 for id in LISTS[task]]
    assert cell(rows, task, metric)["value"] == pytest.approx(fmean(values))


def test_a_claim_can_be_checked_with_a_few_lines_of_code(rows: list[dict[str, Any]]) -> None:
    reciprocal = []
    for id in MOVIE:
        places = [place for place, name in enumerate(ORDERS.get(id, ()), start=1) if name in RELEVANT["movie"][id]]
        reciprocal.append(1 / min(places) if places else 0.0)
    assert cell(rows, "movie", "RR")["value"] == pytest.approx(fmean(reciprocal))


@pytest.mark.parametrize(
    ("task", "metric", "random", "oracle"),
    [
        ("movie", "RR", (1 + 1 / 2 + 1 / 3 + 1 / 4) / 4, 1.0),
        ("movie", "Success@3", 3 / 4, 1.0),
        # One best of five in two lists, two best of five in one: the chance that neither stands at the first place.
        ("router-balance", "Success@1", (1 / 5 + 2 / 5 + 1 / 5) / 3, 1.0),
        ("router-balance", "reward", (38 + 40 + 3) / 300, (80 + 70 + 5) / 300),
        ("trec-dl-2019", "RR", None, 2 / 3),
        ("trec-dl-2019", "Success@3", (1 - (8 * 7 * 6) / (12 * 11 * 10) + 0 + 1) / 3, 2 / 3),
    ],
)
def test_the_bounds_are_what_they_are_by_hand(
    task: str, metric: str, random: float | None, oracle: float, rows: list[dict[str, Any]]
) -> None:
    assert cell(rows, task, metric, model="oracle")["value"] == pytest.approx(oracle)
    if random is not None:
        assert cell(rows, task, metric, model="random")["value"] == pytest.approx(random)


def test_nobody_who_ranked_three_tasks_has_a_mean_of_nine(rows: list[dict[str, Any]]) -> None:
    assert {row["task"] for row in rows} == set(LISTS)
    assert len(rows) == 3 * (5 + 9 + 5)
