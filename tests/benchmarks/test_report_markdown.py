from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from itertools import dropwhile, takewhile
from pathlib import Path

import pytest
from toy_runs import bounded, build_task, graded, ranking_of, result, unbuilt, write_cell
from unified_ranker.benchmarks.measures import Figure
from unified_ranker.benchmarks.report.load import Result, load_results
from unified_ranker.benchmarks.report.markdown import as_markdown, cell_of, letters_of, short
from unified_ranker.benchmarks.report.significance import Comparison
from unified_ranker.benchmarks.runner.cell import line_of
from unified_ranker.tasks import NINE

from unified_ranker.schema.types import Step, Usage

KEY = ("open", "passage-5")


def table(text: str, heading: str) -> dict[str, dict[str, str]]:
    """Return a table's rows by the name in them, each by its column."""
    lines = text.split(f"\n### {heading}\n", 1)[1].splitlines()
    raw = list(takewhile(lambda line: line.startswith("|"), dropwhile(lambda line: not line.startswith("|"), lines)))
    assert len({line.count("|") for line in raw}) == 1, "every row has as many columns as the head"
    rows = [[cell.strip() for cell in line[1:-1].split("|")] for line in raw]
    head, name = rows[0], 1 if rows[0][0] == rows[0][1] == "" else 0
    return {row[name].strip("*"): dict(zip(head, row, strict=True)) for row in rows[2:]}


def text_of(*results: Result, metric: str = "RR", command: str = "", found: Sequence[Comparison] = ()) -> str:
    return as_markdown(results, {KEY: found}, command=command, metric=metric)


@pytest.mark.parametrize(
    ("value", "digits", "text"),
    [
        (0.0, 3, ".000"),
        (0.25, 3, ".250"),
        (0.9994, 3, ".999"),
        (0.9996, 3, "1.000"),
        (1.0, 3, "1.000"),
        (-0.5, 3, "-.500"),
        (10.05, 2, "10.05"),
        (0.105, 1, ".1"),
        (20.0, 1, "20.0"),
    ],
)
def test_a_share_is_told_without_its_leading_zero(value: float, digits: int, text: str) -> None:
    assert short(value, digits) == text


def test_a_figure_is_a_mean_with_its_interval() -> None:
    assert cell_of(Figure(0.12345, 0.0, 1.0, 3)) == ".123 (.000 – 1.000)"


def test_marks_go_on_after_z_with_two_letters() -> None:
    marks = letters_of([f"m{n}" for n in range(30)])
    assert [marks[f"m{n}"] for n in (0, 25, 26, 29)] == ["a", "z", "aa", "ad"]
    assert len(set(marks.values())) == 30


def test_a_name_that_comes_twice_has_one_mark() -> None:
    assert letters_of(["x", "y", "x", "z"]) == {"x": "a", "y": "b", "z": "c"}


def test_the_overview_shows_a_measure_on_every_task_between_the_bounds() -> None:
    movie = bounded(result("toy/one", [0.5, 0.5], task=unbuilt("movie")))
    found = bounded(result("toy/one", [0.0, 1.0]), result("bm25", [0.25, 0.25]))
    rows = table(text_of(*movie, *found), "RR on all tasks")
    assert list(rows) == ["random", "toy/one", "bm25", "oracle"]
    assert rows["toy/one"] == {
        "": "toy/one",
        "movie": ".500 (.500 – .500)",
        "passage-5": ".500 (.000 – 1.000)",
        "mean of the nine": "",
    }
    assert rows["bm25"]["movie"] == ""
    assert rows["random"]["movie"] == ".250 (.250 – .250)"
    assert rows["oracle"]["passage-5"] == "1.000 (1.000 – 1.000)"


def test_the_overview_gives_the_mean_of_those_who_ranked_all_nine() -> None:
    results = []
    for n, name in enumerate(NINE):
        others = [] if name == "game" else [result("bm25", [0.5, 0.5], task=unbuilt(name))]
        results += bounded(result("toy/one", [n / 9, n / 9], task=unbuilt(name)), *others)
    rows = table(text_of(*results), "RR on all tasks")
    assert {name: row["mean of the nine"] for name, row in rows.items()} == {
        "random": ".250 (.250 – .250)",
        "toy/one": ".444 (.444 – .444)",
        "bm25": "",
        "oracle": "1.000 (1.000 – 1.000)",
    }


def costing(name: str, task: str, *, outcome: str, calls: int) -> Result:
    """Return one list, ranked in two steps of which the second came to ``outcome``."""
    example = graded("q", {"a": 1, "b": 0, "c": 0, "d": 0}, task=task)
    made = ranking_of(
        example,
        "abcd",
        steps=(Step(0, "1", "ok"), Step(1, "x", outcome)),
        usage=Usage(calls=calls, prompt_tokens=1000 * calls, reused_tokens=100 * calls, generated_tokens=2 * calls),
    )
    found = result(name, [0.5], task=unbuilt(task), examples=[example])
    return replace(found, records={"q": json.loads(line_of(made, wall=0.25))})


def test_costs_are_those_of_a_list_on_average_over_the_nine() -> None:
    outcomes = {"game": "failed", "movie": "ok"}
    nine = [costing("toy/one", task, outcome=outcomes.get(task, "repaired"), calls=n) for n, task in enumerate(NINE)]
    others = [
        costing("toy/one", "trec-dl-2019", outcome="ok", calls=500),
        costing("bm25", "movie", outcome="ok", calls=9),
        costing("bm25", "trec-dl-2020", outcome="ok", calls=9),
    ]
    ((name, row),) = table(text_of(*nine, *others), "What it costs").items()
    assert (name, row) == (
        "toy/one",
        {
            "": "toy/one",
            "RR, mean of the nine": ".500 (.500 – .500)",
            "nDCG@10, trec-dl-2019": ".500 (.500 – .500)",
            "nDCG@10, trec-dl-2020": "",
            "failed": f"{1 / 18:.1%}",
            "repaired": f"{7 / 18:.1%}",
            "calls": "4.0",
            "prompt tokens (reused)": "4,000 (400)",
            "generated": "8.0",
            "seconds": "0.2500",
        },
    )


def test_costs_are_left_out_where_nobody_ranked_the_nine() -> None:
    assert "What it costs" not in text_of(*bounded(result("toy/one", [0.5, 0.5])))


def test_the_overview_shows_the_measure_that_is_asked_for() -> None:
    results = bounded(result("toy/one", [0.0, 0.0], **{"Success@3": [1.0, 1.0]}))
    text = text_of(*results, metric="Success@3")
    assert table(text, "Success@3 on all tasks")["toy/one"]["passage-5"] == "1.000 (1.000 – 1.000)"
    assert "beats in Success@3 by a paired randomisation test" in text


def test_a_task_is_told_with_all_it_measured_and_cost(tmp_path: Path) -> None:
    steps = (Step(0, "1", "ok"), Step(1, "x", "failed"), Step(2, "2?", "repaired"), Step(3, "3", "ok"))
    usage = Usage(calls=3, prompt_tokens=12345, reused_tokens=1000, generated_tokens=7)
    lists = [graded(f"q{n}", {"a": 1, "b": 0, "c": 0, "d": 0}) for n in range(2)]
    task = build_task(tmp_path / "data", "passage-5", lists)
    write_cell(tmp_path / "run", task, {"q0": "bacd"}, steps=steps, usage=usage)
    text = as_markdown(load_results([tmp_path / "run"]), {})
    assert "one relevant passage of 5; 2 test lists." in text
    rows = table(text, "passage-5")
    assert rows["toy/one"]["RR"] == ".250 (.000 – .500)"
    costs = {key: value for key, value in rows["toy/one"].items() if "@" not in key and key not in ("", "RR")}
    assert costs == {
        "failed": "40.0%",
        "repaired": "25.0%",
        "missing": "1",
        "calls": "3.0",
        "prompt tokens (reused)": "12,345 (1,000)",
        "generated": "7.0",
        "seconds": "0.5000",
        "better than": "",
    }
    for bound in ("random", "oracle"):
        assert all(rows[bound][key] == "" for key in costs)


def test_a_router_is_told_with_what_its_choice_is_worth() -> None:
    task = unbuilt("router-cost")
    rows = table(text_of(*bounded(result("toy/one", [0.5, 0.5], task=task, cost=[0.25, 0.25]))), "router-cost")
    assert rows["toy/one"]["cost"] == ".250 (.250 – .250)"
    assert list(rows["toy/one"])[1:10] == [
        "RR", "nDCG@10", "Success@1", "Success@3", "Success@5", "performance", "cost", "reward", "regret",
    ]  # fmt: skip


def test_a_row_names_the_marks_of_those_it_beats_and_not_by_chance() -> None:
    results = bounded(*(result(name, [0.5, 0.5]) for name in ("m/one", "m/two", "bm25")))
    comparisons = [
        Comparison("m/two", "bm25", 0.5, 0.049),
        Comparison("m/two", "m/one", 0.5, 0.01),
        Comparison("m/one", "bm25", 0.1, 0.05),
    ]
    rows = table(text_of(*results, found=comparisons), "passage-5")
    assert {name: row["better than"] for name, row in rows.items()} == {
        "random": "", "m/one": "", "m/two": "a c", "bm25": "", "oracle": "",
    }  # fmt: skip
    assert [line[:4] for line in text_of(*results).splitlines() if "| m/" in line or "| bm25" in line][-3:] == [
        "| a ", "| b ", "| c ",
    ]  # fmt: skip


def test_comparisons_of_another_task_are_not_told() -> None:
    results = bounded(result("a/x", [0.5, 0.5]), result("b/x", [0.5, 0.5]))
    text = as_markdown(results, {("open", "movie"): [Comparison("a/x", "b/x", 0.5, 0.001)]})
    assert table(text, "passage-5")["a/x"]["better than"] == ""


def test_editions_have_tables_of_their_own() -> None:
    results = [
        found
        for edition in ("open", "paper")
        for found in bounded(result("toy/one", [0.5, 0.5], task=unbuilt("passage-5", edition=edition)))
    ]
    text = text_of(*results)
    assert text.index("## Edition open") < text.index("## Edition paper")
    assert text.count("### RR on all tasks") == text.count("### passage-5") == 2


@pytest.mark.parametrize("command", ["", "unified-ranker bench run --out runs/one"])
def test_what_made_the_results_is_told_where_it_is_known(command: str) -> None:
    text = text_of(*bounded(result("toy/one", [0.5, 0.5])), command=command)
    assert text.startswith(f"Made by:\n\n```\n{command}\n```\n") == bool(command)
    assert text.endswith("|\n")


def test_a_name_with_a_vertical_bar_stays_in_its_column() -> None:
    text = text_of(*bounded(result("left|right/one", [0.5, 0.5])))
    bars = {
        line.replace("\\|", "").count("|") for line in text.split("### passage-5")[1].splitlines() if line[:1] == "|"
    }
    assert len(bars) == 1
