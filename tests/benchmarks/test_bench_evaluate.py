from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from toy_tasks import build_toy, dice, oracle, worst
from unified_ranker.benchmarks.evaluate import as_markdown, evaluate_task, write_results

from unified_ranker.backends import ScriptedBackend
from unified_ranker.errors import MissingSourceError, UnifiedRankerError
from unified_ranker.exchange import Completion, Request
from unified_ranker.ranker import Ranker

# Each place of the relevant one in turn, so that the given order is no better than chance.
ONE_OF_FOUR = [[int(n == place) for n in range(4)] for place in range(4)]
GRADED = [[3, 0, 1, 0, 2], [0, 2, 3, 3, 1], [1, 0, 0, 2, 0]]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    build_toy(tmp_path / "data", "passage-5", test=ONE_OF_FOUR * 10, validation=ONE_OF_FOUR[:3])
    build_toy(tmp_path / "data", "router-balance", test=[[34, 100, 84, 100], [0, 50, 34, 0]])
    return build_toy(tmp_path / "data", "trec-dl-2019", test=GRADED)


def evaluate(data: Path, task: str, script: Callable[[Request], Any], **options: Any) -> dict[str, Any]:
    return evaluate_task(Ranker(ScriptedBackend(script), method="iranker"), task, data=data, **options)


@pytest.mark.parametrize("task", ["passage-5", "router-balance", "trec-dl-2019"])
def test_an_oracle_reaches_the_top_and_stands_above_random_order(data: Path, task: str) -> None:
    row = evaluate(data, task, oracle)
    assert (row["RR"], row["RR_low"], row["RR_high"]) == (1.0, 1.0, 1.0)
    assert (row["nDCG@10"], row["nDCG@10_low"], row["nDCG@10_high"]) == pytest.approx((1.0, 1.0, 1.0))
    assert row["above_random"] is True


@pytest.mark.parametrize(
    ("task", "rr"),
    [("passage-5", 1 / 4), ("router-balance", (1 / 3 + 1 / 4) / 2), ("trec-dl-2019", (1 / 4 + 1 / 3 + 1 / 5) / 3)],
)
def test_the_worst_order_is_measured_as_such_and_not_above_random_order(data: Path, task: str, rr: float) -> None:
    row = evaluate(data, task, worst)
    assert row["RR"] == pytest.approx(rr)
    assert row["RR"] < row["random_RR"]
    assert row["nDCG@10"] < row["random_nDCG@10"]
    assert row["above_random"] is False


@pytest.mark.parametrize(
    ("task", "expected"),
    [
        # One relevant of n: H(n) / n. Two of four: of the 6 pairs of places 3 begin at 1, 2 at 2 and 1 at 3.
        ("passage-5", 25 / 48),
        ("router-balance", (13 / 18 + 25 / 48) / 2),
        ("trec-dl-2019", ((4 + 3 / 2 + 2 / 3 + 1 / 4) / 10 + (6 + 3 / 2 + 1 / 3) / 10 + 137 / 300) / 3),
    ],
)
def test_random_order_stands_beside_as_its_exact_expectation(data: Path, task: str, expected: float) -> None:
    assert evaluate(data, task, oracle)["random_RR"] == pytest.approx(expected)


@pytest.mark.parametrize("seed", range(3))
def test_random_replies_are_not_above_random_order(data: Path, seed: int) -> None:
    row = evaluate(data, "passage-5", dice(seed))
    assert row["above_random"] is False
    assert row["RR_low"] < row["random_RR"] < row["RR_high"]
    assert row["nDCG@10_low"] < row["random_nDCG@10"] < row["nDCG@10_high"]


def test_a_row_says_what_was_measured(data: Path) -> None:
    row = evaluate(data, "passage-5", oracle)
    assert {key: row[key] for key in ("task", "method", "split", "queries")} == {
        "task": "passage-5",
        "method": "iranker",
        "split": "test",
        "queries": 40,
    }
    json.dumps(row, allow_nan=False)


def test_the_split_is_the_one_asked_for(data: Path) -> None:
    row = evaluate(data, "passage-5", oracle, split="validation")
    assert (row["split"], row["queries"]) == ("validation", 3)


@pytest.mark.parametrize(("limit", "queries"), [(1, 1), (7, 7), (40, 40), (1000, 40)])
def test_a_limit_keeps_the_first_lists(data: Path, tmp_path: Path, limit: int, queries: int) -> None:
    assert evaluate(data, "passage-5", oracle, limit=limit, out=tmp_path / "out")["queries"] == queries
    lines = (tmp_path / "out" / "passage-5.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line)["id"] for line in lines] == [f"test{n}" for n in range(queries)]


@pytest.mark.parametrize("limit", [0, -1])
def test_a_limit_below_one_is_refused(data: Path, limit: int) -> None:
    with pytest.raises(UnifiedRankerError, match="limit"):
        evaluate(data, "passage-5", oracle, limit=limit)


def test_a_split_without_lists_is_refused(data: Path) -> None:
    with pytest.raises(UnifiedRankerError, match="trec-dl-2019"):
        evaluate(data, "trec-dl-2019", oracle, split="validation")


def test_a_split_that_is_not_known_is_refused(data: Path) -> None:
    with pytest.raises(UnifiedRankerError, match="tset"):
        evaluate(data, "passage-5", oracle, split="tset")


def test_a_task_that_was_not_built_names_the_command_that_builds_it(data: Path) -> None:
    with pytest.raises(MissingSourceError, match=r"unified-ranker data build movie"):
        evaluate(data, "movie", oracle)


def test_cost_is_the_mean_over_queries(data: Path) -> None:
    def answer(request: Request) -> Completion:
        return Completion(oracle(request), prompt_tokens=10, reused_tokens=4, generated_tokens=2)

    row = evaluate(data, "trec-dl-2019", answer, limit=2)
    assert (row["calls"], row["prompt_tokens"], row["reused_tokens"], row["generated_tokens"]) == (4, 40, 16, 8)
    assert row["truncated_candidates"] == 0


@pytest.mark.parametrize(
    ("failed", "repaired"), [(0, 0), (1, 0), (3, 0), (0, 1), (0, 3), (1, 2)], ids=lambda count: str(count)
)
def test_shares_of_failed_and_repaired_steps_are_of_all_steps(data: Path, failed: int, repaired: int) -> None:
    def answer(request: Request) -> str:
        done = 4 - len(request.choices)
        if done < failed:
            return "???"
        return f"[{oracle(request)}]" if done < failed + repaired else oracle(request)

    row = evaluate(data, "passage-5", answer)
    assert row["failed_share"] == pytest.approx(failed / 3)
    assert row["repaired_share"] == pytest.approx(repaired / 3)


def test_lists_of_one_candidate_take_no_step(tmp_path: Path) -> None:
    data = build_toy(tmp_path, "passage-5", test=[[1], [1]])
    row = evaluate(data, "passage-5", oracle)
    assert (row["RR"], row["calls"], row["failed_share"], row["random_RR"]) == (1.0, 0, 0.0, 1.0)
    assert row["above_random"] is False


def test_rankings_are_written_one_a_line(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "deep" / "out"
    evaluate(data, "trec-dl-2019", oracle, out=out)
    text = (out / "trec-dl-2019.jsonl").read_text(encoding="utf-8")
    assert text.endswith("\n")
    records = [json.loads(line) for line in text.splitlines()]
    assert [record["id"] for record in records] == ["test0", "test1", "test2"]
    assert [place["id"] for place in records[0]["ranking"][:3]] == ["c0", "c4", "c2"]
    assert all(len(record["steps"]) == 4 for record in records)


def test_without_a_folder_nothing_is_written(data: Path, tmp_path: Path) -> None:
    before = sorted(tmp_path.rglob("*"))
    evaluate(data, "passage-5", oracle, limit=2)
    assert sorted(tmp_path.rglob("*")) == before


def test_the_table_has_a_line_for_each_row(data: Path) -> None:
    rows = [evaluate(data, "passage-5", oracle), evaluate(data, "trec-dl-2019", worst)]
    header, rule, first, second = as_markdown(rows).splitlines()
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in (header, rule, first, second)]
    assert {len(row) for row in cells} == {10}
    assert cells[2] == [
        "passage-5", "iranker", "40", "1.000 (1.000 – 1.000)", "0.521", "yes", "1.000",
        f"{rows[0]['random_nDCG@10']:.3f}", "0.0%", "0.0%",
    ]  # fmt: skip
    assert cells[3][5] == "no"


def test_results_are_written_as_json_and_as_a_table(data: Path, tmp_path: Path) -> None:
    rows = [evaluate(data, "passage-5", oracle)]
    write_results(rows, tmp_path / "deep" / "results")
    folder = tmp_path / "deep" / "results"
    assert json.loads((folder / "results.json").read_text(encoding="utf-8")) == rows
    assert (folder / "results.md").read_text(encoding="utf-8") == as_markdown(rows)
    write_results(rows * 2, folder)
    assert len(json.loads((folder / "results.json").read_text(encoding="utf-8"))) == 2
