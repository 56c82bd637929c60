from __future__ import annotations

import json
from inspect import signature
from pathlib import Path
from typing import Any

import pytest
from command_line import Command
from toy_runs import build_task, graded, write_cell
from unified_ranker.benchmarks.built import BuiltTask
from unified_ranker.benchmarks.report import draw, load, page, published, significance
from unified_ranker.benchmarks.report.load import load_results
from unified_ranker.benchmarks.report.rows import as_rows
from unified_ranker.tasks.beside import LLMOutcome

from unified_ranker.cli import bench
from unified_ranker.schema.types import Candidate, RankingExample

GRADES = {"a": 1.0, "b": 0.0, "c": 0.0, "d": 0.0, "e": 0.0, "f": 0.0}
FIRST = {"q0": "abcdef", "q1": "bacdef", "q2": "fedcba", "q3": "abcdef"}
SECOND = {"q0": "bacdef", "q1": "abcdef", "q2": "abcdef", "q3": "abcdef"}
MARK = "const data = "


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """Return a run in which two methods ranked four lists of one task, and one of them two lists of another."""
    data, run = tmp_path / "data", tmp_path / "run"
    task = build_task(data, "passage-5", [graded(f"q{n}", GRADES) for n in range(4)])
    write_cell(run, task, FIRST)
    write_cell(run, task, SECOND, model="bm25", method="bm25")
    movie = RankingExample(
        id="u0",
        query="Which movie next?",
        candidates=(Candidate("m1", "drama", "A Film"), Candidate("m2", "comedy", "Another")),
        task="movie",
        domain="recommendation",
        context=("seen first", "seen last"),
        relevance={"m2": 1.0},
    )
    write_cell(run, build_task(data, "movie", [movie]), {"u0": ["m1", "m2"]})
    return run


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, Any]]:
    """Return what is loaded from here on: the runs, and the folder of data."""
    asked: list[tuple[Any, Any]] = []
    original = load.load_results

    def note(runs: list[Path], *, data: Path | None = None) -> Any:
        asked.append((runs, data))
        return original(runs, data=data)

    monkeypatch.setattr(load, "load_results", note)
    return asked


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out the pictures, which take their time."""
    monkeypatch.setattr(draw, "save_pictures", lambda *_, **__: [])
    for name in ("bars", "against_cost"):
        monkeypatch.setattr(page, name, lambda *_, **__: None)
    monkeypatch.setattr(page, "as_svg", lambda _: "<svg></svg>")


def written(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir() if path.is_file()}


def data_of(path: Path) -> dict[str, Any]:
    text = path.read_text(encoding="utf-8")
    found, _ = json.JSONDecoder().raw_decode(text, text.index(MARK) + len(MARK))
    return dict(found)


def test_a_report_is_tables_a_page_and_pictures_in_the_folder_of_the_run(
    command: Command, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(page, "as_svg", lambda _: "<svg></svg>")
    result = command("bench", "report", run)
    assert result.code == 0, result.err
    pictures = {f"open-{what}.png" for what in ("passage", "recommendation", "cost")}
    assert written(run) == {"report.md", "report.html", *pictures}
    assert (run / "report.md").read_text(encoding="utf-8") == result.out
    assert "| a | bm25 |" not in result.out and "| b | bm25 |" in result.out
    assert [table["task"] for table in data_of(run / "report.html")["tables"]] == ["movie", "passage-5"]
    assert len(data_of(run / "report.html")["lists"]["open: passage-5"]["lists"]) == 4


@pytest.mark.usefixtures("undrawn")
def test_out_is_another_folder(command: Command, run: Path, tmp_path: Path) -> None:
    result = command("bench", "report", run, "--out", tmp_path / "deep" / "out")
    assert result.code == 0, result.err
    assert written(tmp_path / "deep" / "out") == {"report.md", "report.html"}
    assert written(run) == set()


def test_json_alone_writes_only_the_rows(command: Command, run: Path, tmp_path: Path) -> None:
    result = command("bench", "report", run, "--json", tmp_path / "deep" / "rows.json")
    assert (result.code, result.out) == (0, "")
    assert written(run) == set() and written(tmp_path / "deep") == {"rows.json"}
    rows = json.loads((tmp_path / "deep" / "rows.json").read_text(encoding="utf-8"))
    assert rows == as_rows(load_results([run]))
    (found,) = (row for row in rows if (row["model"], row["task"], row["metric"]) == ("toy", "passage-5", "RR"))
    assert found["value"] == pytest.approx((1 + 1 / 2 + 1 / 6 + 1) / 4)


@pytest.mark.usefixtures("undrawn")
def test_json_and_out_write_both(command: Command, run: Path, tmp_path: Path) -> None:
    result = command("bench", "report", run, "--json", tmp_path / "rows.json", "--out", tmp_path / "out")
    assert result.code == 0, result.err
    assert (tmp_path / "rows.json").is_file() and written(tmp_path / "out") == {"report.md", "report.html"}


@pytest.mark.usefixtures("undrawn")
@pytest.mark.parametrize("more", [[], ["--json", "rows.json"]])
def test_markdown_is_another_file_of_the_same_tables(
    more: list[str], command: Command, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = command("bench", "report", run, "--markdown", "results.md", *more)
    assert result.code == 0, result.err
    text = (tmp_path / "results.md").read_text(encoding="utf-8")
    assert text.startswith(f"# Results\n\n{result.out}\n")
    assert text.endswith(published.as_markdown())
    assert (run / "report.md").read_text(encoding="utf-8") == result.out


@pytest.mark.usefixtures("undrawn")
def test_the_folder_of_another_file_of_tables_is_made(command: Command, run: Path, tmp_path: Path) -> None:
    result = command("bench", "report", run, "--markdown", tmp_path / "deep" / "results.md")
    assert result.code == 0, result.err
    assert written(tmp_path / "deep") == {"results.md"}


@pytest.mark.usefixtures("undrawn")
def test_several_runs_make_one_report_in_the_folder_of_the_first(command: Command, run: Path, tmp_path: Path) -> None:
    task = load_results([run])[-1].task
    write_cell(tmp_path / "more", task, SECOND, model="late")
    result = command("bench", "report", tmp_path / "more", run)
    assert result.code == 0, result.err
    assert "report.md" in written(tmp_path / "more") and written(run) == set()
    assert all(f" {name} " in result.out for name in ("late/one", "toy/one", "bm25"))


@pytest.mark.usefixtures("undrawn")
def test_every_option_of_a_report_reaches_its_place(command: Command, run: Path, tmp_path: Path) -> None:
    (tmp_path / "data").rename(tmp_path / "moved")
    given = {
        "--data": tmp_path / "moved",
        "--out": tmp_path / "out",
        "--json": tmp_path / "rows.json",
        "--markdown": tmp_path / "results.md",
        "--lists": "2",
        "--command": "made so",
        "--metric": "Success@3",
    }
    result = command("bench", "report", run, *(part for pair in given.items() for part in pair))
    assert result.code == 0, result.err
    assert result.out.startswith("Made by:\n\n```\nmade so\n```\n")
    assert "### Success@3 on all tasks" in result.out and "beats in Success@3 by" in result.out
    found = data_of(tmp_path / "out" / "report.html")
    assert (found["command"], found["metric"]) == ("made so", "Success@3")
    assert [entry["id"] for entry in found["lists"]["open: passage-5"]["lists"]] == ["q0", "q2"]
    assert result.out in (tmp_path / "results.md").read_text(encoding="utf-8")
    options = {f"--{name.replace('_', '-')}" for name in signature(bench.report).parameters}
    assert options - set(given) == {"--runs", "--json-file"}


def test_the_measure_decides_what_is_compared_and_drawn(
    command: Command, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[str, Any]] = []

    def note(name: str, value: Any) -> Any:
        def call(*_: Any, metric: str, **options: Any) -> Any:
            asked.append((name, {"metric": metric, **options}))
            return value

        return call

    monkeypatch.setattr(significance, "compare_all", note("compare", []))
    monkeypatch.setattr(draw, "save_pictures", note("draw", []))
    monkeypatch.setattr(page, "as_page", note("page", "page"))
    assert command("bench", "report", run, "--metric", "nDCG@10", "--lists", "7").code == 0
    assert asked == [
        ("compare", {"metric": "nDCG@10"}),
        ("compare", {"metric": "nDCG@10"}),
        ("page", {"metric": "nDCG@10", "lists": 7, "command": ""}),
        ("draw", {"metric": "nDCG@10"}),
    ]


@pytest.mark.usefixtures("undrawn")
@pytest.mark.parametrize("metric", ["rr", "nDCG@1", "performance"])
def test_a_measure_that_a_report_does_not_know_is_told(metric: str, command: Command, run: Path) -> None:
    assert metric in command("bench", "report", run, "--metric", metric).complaint()
    assert written(run) == set()


@pytest.mark.usefixtures("undrawn")
def test_fewer_lists_than_none_are_refused_before_anything_is_written(command: Command, run: Path) -> None:
    assert "lists" in command("bench", "report", run, "--lists", "-1").complaint()
    assert written(run) == set()


@pytest.mark.usefixtures("undrawn")
def test_a_report_can_be_made_of_one_list(command: Command, tmp_path: Path) -> None:
    task = build_task(tmp_path / "data", "passage-5", [graded("q0", GRADES)])
    write_cell(tmp_path / "run", task, {"q0": FIRST["q0"]})
    write_cell(tmp_path / "run", task, {"q0": SECOND["q0"]}, model="bm25", method="bm25")
    result = command("bench", "report", tmp_path / "run", "--lists", "0")
    assert result.code == 0, result.err


@pytest.mark.parametrize("name", ["report", "compare"])
def test_a_folder_without_results_is_told(name: str, command: Command, tmp_path: Path) -> None:
    given = ("bench", "report", tmp_path) if name == "report" else ("bench", "compare", "a", "b", "--run", tmp_path)
    assert "holds no results; make some with: unified-ranker bench run" in command(*given).complaint()


def test_data_that_are_gone_are_told(command: Command, run: Path, tmp_path: Path) -> None:
    (tmp_path / "data").rename(tmp_path / "moved")
    assert "unified-ranker data build" in command("bench", "report", run).complaint()


def test_a_comparison_shows_the_lists_that_differ_most_with_the_first_places_of_both(
    command: Command, run: Path
) -> None:
    result = command("bench", "compare", "toy/one", "bm25", "--run", run, "--top", "1")
    assert result.code == 0, result.err
    assert result.out.splitlines() == [
        "4 lists; toy/one and bm25 differ in RR on 3",
        "  passage-5 (open), 4 lists: RR 0.6667 and 0.8750, difference -0.2083, p = 0.7500",
        "",
        "passage-5, q0: query of q0",
        "  toy/one: RR 1.000",
        "   1 * text of a",
        "   2   text of b",
        "   3   text of c",
        "   4   text of d",
        "   5   text of e",
        "  bm25: RR 0.500",
        "   1   text of b",
        "   2 * text of a",
        "   3   text of c",
        "   4   text of d",
        "   5   text of e",
        "",
        "passage-5, q2: query of q2",
        "  toy/one: RR 0.167",
        "   1   text of f",
        "   2   text of e",
        "   3   text of d",
        "   4   text of c",
        "   5   text of b",
        "  bm25: RR 1.000",
        "   1 * text of a",
        "   2   text of b",
        "   3   text of c",
        "   4   text of d",
        "   5   text of e",
    ]


@pytest.mark.parametrize(("top", "ids"), [(1, ["q0", "q2"]), (2, ["q0", "q2", "q1"]), (9, ["q0", "q1", "q2"])])
def test_a_list_is_shown_once_and_only_where_both_differ(top: int, ids: list[str], command: Command, run: Path) -> None:
    out = command("bench", "compare", "toy/one", "bm25", "--run", run, "--top", str(top)).out
    assert [
        line.split(",")[1].split(":")[0].strip() for line in out.splitlines() if line.startswith("passage-5")
    ] == ids


def test_a_comparison_of_a_task_tells_titles_and_history(command: Command, run: Path) -> None:
    result = command("bench", "compare", "oracle", "toy/one", "--run", run, "--task", "movie")
    assert result.code == 0, result.err
    assert result.out.splitlines() == [
        "1 lists; oracle and toy/one differ in RR on 1",
        "  movie (open), 1 lists: RR 1.0000 and 0.5000, difference +0.5000",
        "",
        "movie, u0: Which movie next?",
        "  history: seen first · seen last",
        "  oracle: RR 1.000",
        "  toy/one: RR 0.500",
        "   1   A Film",
        "   2 * Another",
    ]


def test_a_comparison_goes_by_the_measure_that_is_asked_for(command: Command, run: Path) -> None:
    result = command("bench", "compare", "toy/one", "bm25", "--run", run, "--metric", "Success@3")
    assert result.out.splitlines()[:2] == [
        "4 lists; toy/one and bm25 differ in Success@3 on 1",
        "  passage-5 (open), 4 lists: Success@3 0.7500 and 1.0000, difference -0.2500, p = 1.0000",
    ]
    assert "  toy/one: Success@3 0.000" in result.out


def test_a_comparison_tells_which_lists_were_not_ranked(command: Command, run: Path, tmp_path: Path) -> None:
    task = next(result.task for result in load_results([run]) if result.task.name == "passage-5")
    write_cell(tmp_path / "half", task, {id: SECOND[id] for id in ("q0", "q1")}, model="half")
    result = command("bench", "compare", "half/one", "bm25", "--run", run, "--run", tmp_path / "half")
    assert result.out.splitlines()[1].endswith("; half/one has not ranked 2"), result.out
    turned = command("bench", "compare", "bm25", "half/one", "--run", run, "--run", tmp_path / "half")
    assert turned.out.splitlines()[1].endswith("; half/one has not ranked 2")


def test_every_option_of_a_comparison_reaches_its_place(
    command: Command, run: Path, tmp_path: Path, asked: list[tuple[Any, Any]]
) -> None:
    task = load_results([run])[-1].task
    write_cell(tmp_path / "more", task, SECOND, model="late")
    given = ("--run", run, "--run", tmp_path / "more", "--data", tmp_path / "data", "--task", "passage-5")
    result = command("bench", "compare", "late/one", "toy/one", *given, "--metric", "nDCG@10", "--top", "1")
    assert result.code == 0, result.err
    assert asked == [([run, tmp_path / "more"], tmp_path / "data")]
    assert result.out.startswith("4 lists; late/one and toy/one differ in nDCG@10 on 3\n")
    assert set(signature(bench.compare).parameters) == {"first", "second", "runs", "data", "task", "metric", "top"}


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["toy/on", "bm25"], "did you mean 'toy/one'"),
        (["toy/one", "bm52"], "did you mean 'bm25'"),
        (["toy/one", "bm25", "--task", "game"], "--task 'game' is in none of the runs"),
        (["toy/one", "bm25", "--task", "movie"], "name='bm25' is not known"),
        (["toy/one", "bm25", "--metric", "nDCG@1"], "did you mean 'nDCG@10'"),
        (["toy/one", "bm25", "--metric", "cost"], "metric='cost' is not known"),
        (["toy/one", "bm25", "--top", "0"], "--top 0 must be ≥ 1"),
    ],
)
def test_what_cannot_be_compared_is_told(options: list[str], words: str, command: Command, run: Path) -> None:
    assert words in command("bench", "compare", *options, "--run", run).complaint()


def test_only_what_is_relevant_by_the_rule_of_the_task_is_marked(command: Command, tmp_path: Path) -> None:
    grades = {"low": 10.0, "best": 90.0, "middle": 50.0}
    outcomes = {"q0": {name: LLMOutcome(grade / 100, 1.0) for name, grade in grades.items()}}
    example = graded("q0", grades, task="router-performance")
    task = build_task(tmp_path / "data", "router-performance", [example], outcomes=outcomes)
    write_cell(tmp_path / "run", task, {"q0": ["low", "best", "middle"]})
    out = command("bench", "compare", "oracle", "toy/one", "--run", tmp_path / "run").out
    assert [line for line in out.splitlines() if line.startswith("   ")] == [
        "   1   text of low",
        "   2 * text of best",
        "   3   text of middle",
    ]


def test_one_who_is_compared_with_itself_does_not_differ(command: Command, run: Path) -> None:
    result = command("bench", "compare", "toy/one", "toy/one", "--run", run)
    assert result.out.splitlines() == [
        "5 lists; toy/one and toy/one differ in RR on 0",
        "  movie (open), 1 lists: RR 0.5000 and 0.5000, difference +0.0000, p = 1.0000",
        "  passage-5 (open), 4 lists: RR 0.6667 and 0.6667, difference +0.0000, p = 1.0000",
    ]


def test_a_bias_is_told_for_each_task_and_trait(command: Command, run: Path) -> None:
    result = command("bench", "bias", "toy/one", "--run", run)
    assert result.code == 0, result.err
    assert result.out.splitlines() == [
        "movie (open), 1 lists",
        "  place      first 0, relevant 1, all 0.5; RR - / 0.500 / -",
        "  length     first 3, relevant 2, all 2.5; RR - / 0.500 / -",
        "  query      first 3, relevant 3, all 3; RR - / 0.500 / -",
        "  history    first 2, relevant 2, all 2; RR - / 0.500 / -",
        "passage-5 (open), 4 lists",
        "  place      first 0.3, relevant 0, all 0.5; RR - / 0.667 / -",
        "  length     first 3, relevant 3, all 3; RR - / 0.667 / -",
        "  query      first 3, relevant 3, all 3; RR - / 0.667 / -",
    ]


def test_every_option_of_a_bias_reaches_its_place(
    command: Command, run: Path, tmp_path: Path, asked: list[tuple[Any, Any]]
) -> None:
    given = ("--run", run, "--data", tmp_path / "data", "--task", "passage-5", "--metric", "Success@1")
    result = command("bench", "bias", "toy/one", *given)
    assert result.code == 0, result.err
    assert asked == [([run], tmp_path / "data")]
    assert result.out.splitlines()[:2] == [
        "passage-5 (open), 4 lists",
        "  place      first 0.3, relevant 0, all 0.5; Success@1 - / 0.500 / -",
    ]
    assert set(signature(bench.bias).parameters) == {"name", "runs", "data", "task", "metric"}


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["toy/on"], "did you mean 'toy/one'"),
        (["toy/one", "--task", "game"], "--task 'game' is in none of the runs"),
        (["toy/one", "--metric", "nDCG@1"], "did you mean 'nDCG@10'"),
        (["random"], "name='random' is computed and has no rankings"),
    ],
)
def test_a_bias_that_cannot_be_told_says_why(options: list[str], words: str, command: Command, run: Path) -> None:
    assert words in command("bench", "bias", *options, "--run", run).complaint()


@pytest.fixture
def seeds(run: Path) -> list[Path]:
    """Return runs of three seeds: one that ranked two tasks, and two that ranked one, each another way."""
    task = BuiltTask.open(run.parent / "data", "passage-5")
    others = [run.parent / name for name in ("second", "third")]
    write_cell(others[0], task, SECOND)
    write_cell(others[1], task, {**SECOND, "q0": "abcdef", "q2": "bacdef"})
    return [run, *others]


def test_seeds_are_told_side_by_side(command: Command, seeds: list[Path]) -> None:
    result = command("bench", "seeds", "toy/one", *(part for run in seeds for part in ("--run", run)))
    assert result.code == 0, result.err
    assert result.out.splitlines() == [
        "toy/one; 3 runs, of one seed each",
        "",
        f"| RR | lists | {' | '.join(map(str, seeds))} | mean (95% interval) | random order |",
        "|---|--:|--:|--:|--:|--:|--:|",
        "| passage-5 | 4 | .667 | .875 | .875 | .806 (.507 – 1.104) | .408 |",
        "",
        "Not ranked in every run, and left out: movie.",
    ]


def test_every_option_of_seeds_reaches_its_place(
    command: Command, seeds: list[Path], asked: list[tuple[Any, Any]]
) -> None:
    data = seeds[0].parent / "data"
    given = ("--run", seeds[0], "--run", seeds[1], "--data", data, "--task", "passage-5", "--metric", "Success@1")
    result = command("bench", "seeds", "toy/one", *given)
    assert result.code == 0, result.err
    assert asked == [([seeds[0]], data), ([seeds[1]], data)]
    assert result.out.splitlines()[2:] == [
        f"| Success@1 | lists | {seeds[0]} | {seeds[1]} | mean (95% interval) | random order |",
        "|---|--:|--:|--:|--:|--:|",
        "| passage-5 | 4 | .500 | .750 | .625 (-.963 – 2.213) | .167 |",
    ]
    assert set(signature(bench.seeds).parameters) == {"name", "runs", "data", "task", "metric"}


def test_a_seed_that_is_given_twice_is_refused(command: Command, seeds: list[Path]) -> None:
    same = seeds[1].parent / "." / seeds[1].name
    assert "is given twice" in command("bench", "seeds", "toy/one", "--run", seeds[1], "--run", same).complaint()
    assert "one run has no interval" in command("bench", "seeds", "toy/one", "--run", seeds[1]).complaint()
