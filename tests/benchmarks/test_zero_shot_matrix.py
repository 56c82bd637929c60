from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from toy_runs import result, unbuilt
from unified_ranker.benchmarks.measures import Figure
from unified_ranker.benchmarks.report.load import ORACLE, RANDOM, Result
from unified_ranker.benchmarks.zero_shot.matrix import as_markdown, draw, held_out, matrix
from unified_ranker.benchmarks.zero_shot.regimes import REGIMES
from unified_ranker.tasks import NINE

from unified_ranker.errors import MissingExtraError

DOMAINS = ("recommendation", "routing", "passage")


def of(name: str, **values: list[float]) -> list[Result]:
    """Return results of one model; an underscore in a task's name stands for a dash."""
    return [result(name, each, task=unbuilt(task.replace("_", "-"))) for task, each in values.items()]


def nine(name: str, *means: float) -> list[Result]:
    """Return results whose lists are all alike within a task."""
    return [result(name, [mean] * 3, task=unbuilt(task)) for task, mean in zip(NINE, means, strict=True)]


def means(found: dict[str, dict[str, Figure]]) -> dict[str, dict[str, float]]:
    return {name: {column: round(figure.mean, 4) for column, figure in row.items()} for name, row in found.items()}


# ------------------------------------------------------------------------------------------------------------- figures


def test_a_domain_has_the_mean_of_its_three_tasks_however_many_lists_each_has() -> None:
    found = matrix(of("all/iranker", movie=[1.0], music=[0.5, 0.5], game=[0.0, 0.0, 0.0, 0.3, 0.0]))
    assert means(found)["all"] == {"recommendation": 0.52, "movie": 1.0, "music": 0.5, "game": 0.06}
    figure = found["all"]["recommendation"]
    assert figure.low < figure.mean < figure.high
    assert figure.queries == 8


def test_every_regime_has_a_row_of_domains_and_tasks() -> None:
    found = matrix([*nine("all/iranker", *[0.9, 0.6, 0.3], *[0.2] * 3, *[0.5, 0.7, 0.9]), *nine(RANDOM, *[0.1] * 9)])
    assert list(found) == [RANDOM, "all"]
    row = means(found)["all"]
    assert list(row) == [*DOMAINS, *NINE]
    assert [row[domain] for domain in DOMAINS] == [0.6, 0.2, 0.7]
    assert [row[task] for task in NINE] == [0.9, 0.6, 0.3, 0.2, 0.2, 0.2, 0.5, 0.7, 0.9]
    assert set(means(found)[RANDOM].values()) == {0.1}


def test_rows_stand_in_the_order_of_the_regimes_with_random_first_and_others_left_out() -> None:
    names = ["movie-only", "bm25", ORACLE, "without-routing", "untrained", "tiny", RANDOM]
    found = matrix([entry for name in names for entry in of(f"{name}/iranker", movie=[0.5, 0.5])])
    assert list(found) == [RANDOM, "untrained", "without-routing", "movie-only"]


@pytest.mark.parametrize("missing", NINE)
def test_a_domain_of_which_a_task_is_missing_is_left_out(missing: str) -> None:
    found = matrix([entry for entry in nine("all/iranker", *[0.5] * 9) if entry.task.name != missing])
    domain = next(entry.task.domain for entry in nine("x", *[0.5] * 9) if entry.task.name == missing)
    assert list(found["all"]) == [
        *(each for each in DOMAINS if each != domain),
        *(task for task in NINE if task != missing),
    ]


def test_a_task_that_was_not_ranked_to_its_end_is_left_out() -> None:
    rows = nine("all/iranker", *[0.5] * 9)
    first = rows[0]
    cut = replace(first, records=dict(list(first.records.items())[:-1]))
    assert cut.missing == 1
    found = matrix([cut, *rows[1:]])
    assert first.task.name not in found["all"]
    assert first.task.domain not in found["all"]


def test_what_is_none_of_the_nine_stands_for_itself() -> None:
    passages = of("scifact-only/x", passage_5=[0.4] * 2, passage_7=[0.5] * 2, passage_9=[0.6] * 2)
    found = matrix([*passages, *of("scifact-only/x", trec_dl_2019=[1.0, 0.5])])
    assert means(found)["scifact-only"] == {
        "passage": 0.5,
        "trec-dl-2019": 0.75,
        "passage-5": 0.4,
        "passage-7": 0.5,
        "passage-9": 0.6,
    }


def test_the_measure_can_be_chosen() -> None:
    results = [
        result("all/x", [0.0, 0.0], task=unbuilt(task), **{"Success@3": [1.0, 0.5]})
        for task in ("movie", "music", "game")
    ]
    assert means(matrix(results))["all"]["recommendation"] == 0.0
    assert means(matrix(results, metric="Success@3"))["all"] == {
        "recommendation": 0.75,
        "movie": 0.75,
        "music": 0.75,
        "game": 0.75,
    }


@pytest.mark.parametrize(
    ("regime", "unseen"),
    [
        ("untrained", {*DOMAINS, *NINE}),
        ("all", set()),
        ("without-recommendation", {"recommendation", "movie", "music", "game"}),
        ("without-routing", {"routing", "router-performance", "router-balance", "router-cost"}),
        ("without-passage", {"passage", "passage-5", "passage-7", "passage-9"}),
        ("movie-only", {"routing", "passage", *NINE[3:]}),
        ("scifact-only", {"recommendation", "routing", *NINE[:6]}),
    ],
)
def test_what_a_regime_has_seen_nothing_of_is_known(regime: str, unseen: set[str]) -> None:
    assert {column for column in (*DOMAINS, *NINE) if held_out(REGIMES[regime], column)} == unseen


@pytest.mark.parametrize("regime", REGIMES)
def test_trec_is_held_out_where_no_passage_was_seen(regime: str) -> None:
    unseen = regime in ("untrained", "without-passage", "movie-only")
    assert held_out(REGIMES[regime], "trec-dl-2019") is unseen


# --------------------------------------------------------------------------------------------------------------- table


def figure(mean: float) -> Figure:
    return Figure(mean, mean - 0.1, mean + 0.1, 9)


FOUND = {
    RANDOM: {"recommendation": figure(0.2), "passage": figure(0.4), "movie": figure(0.2)},
    "untrained": {"recommendation": figure(0.25), "passage": figure(0.45), "movie": figure(0.25)},
    "without-passage": {"recommendation": figure(0.6), "passage": figure(0.5), "movie": figure(0.61)},
    "movie-only": {"passage": figure(0.3), "movie": figure(0.7), "trec-dl-2020": figure(0.35)},
}


def test_the_table_has_a_line_a_regime_and_a_column_a_domain_and_then_one_a_task() -> None:
    lines = as_markdown(FOUND, metric="nDCG@10").splitlines()
    assert lines[0].startswith("Mean nDCG@10 over the three tasks of a domain, with 95% bootstrap intervals")
    assert lines[2:8] == [
        "| trained on | recommendation | routing | passage |",
        "|---|--:|--:|--:|",
        "| random order | .200 (.100 – .300) |  | .400 (.300 – .500) |",
        "| nothing | .250 (.150 – .350) |  | .450 (.350 – .550) |",
        "| without passage | .600 (.500 – .700) |  | **.500 (.400 – .600)** |",
        "| movie only |  |  | **.300 (.200 – .400)** |",
    ]
    assert lines[8:] == [
        "",
        "By task; **bold** where nothing of its domain was in training:",
        "",
        "| trained on | movie | trec-dl-2020 |",
        "|---|--:|--:|",
        "| random order | .200 (.100 – .300) |  |",
        "| nothing | .250 (.150 – .350) |  |",
        "| without passage | .610 (.510 – .710) |  |",
        "| movie only | .700 (.600 – .800) | **.350 (.250 – .450)** |",
    ]


@pytest.mark.parametrize(
    ("regime", "task", "bold"),
    [
        ("movie-only", "music", False),
        ("movie-only", "passage-7", True),
        ("all", "trec-dl-2019", False),
        ("without-passage", "trec-dl-2019", True),
    ],
)
def test_bold_by_task_says_that_nothing_of_its_domain_was_in_training(regime: str, task: str, bold: bool) -> None:
    assert ("**.500" in as_markdown({regime: {task: figure(0.5)}})) is bold


def test_a_table_ends_in_one_new_line() -> None:
    assert as_markdown(FOUND).endswith("|\n") and not as_markdown(FOUND).endswith("\n\n")


# ------------------------------------------------------------------------------------------------------------- picture


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Return the canvases that were saved."""
    from matplotlib.figure import Figure as Canvas

    found: list[Any] = []
    save = Canvas.savefig

    def note(self: Any, path: Path, **options: Any) -> None:
        found.append(self)
        save(self, path, **options)

    monkeypatch.setattr(Canvas, "savefig", note)
    return found


def bars(panel: Any) -> list[tuple[int, float, bool]]:
    """Return place, length and whether it is hatched for each bar."""
    return [
        (round(bar.get_y() + bar.get_height() / 2), float(bar.get_width()), bool(bar.get_hatch()))
        for bar in panel.patches
    ]


def test_the_picture_has_a_panel_a_domain_and_a_bar_a_regime(drawn: list[Any], tmp_path: Path) -> None:
    draw(FOUND, tmp_path / "matrix.png", metric="nDCG@10")
    assert (tmp_path / "matrix.png").read_bytes().startswith(b"\x89PNG")
    (canvas,) = drawn
    first, second = canvas.axes
    assert [panel.get_title() for panel in canvas.axes] == ["recommendation", "passage"]
    assert first.get_xlabel() == "mean nDCG@10"
    assert [label.get_text() for label in first.get_yticklabels()] == ["untrained", "without-passage", "movie-only"]
    assert bars(first) == [(0, 0.25, True), (1, 0.6, False)]
    assert bars(second) == [(0, 0.45, True), (1, 0.5, True), (2, 0.3, True)]
    assert first.yaxis_inverted()
    (line,) = (entry for entry in first.lines if entry.get_linestyle() == "--")
    assert list(line.get_xdata()) == [0.2, 0.2]


def test_where_no_domain_is_whole_the_picture_is_empty(drawn: list[Any], tmp_path: Path) -> None:
    draw({RANDOM: {"movie": figure(0.2)}, "all": {"movie": figure(0.5)}}, tmp_path / "matrix.png")
    (panel,) = drawn[0].axes
    assert len(panel.patches) == 0


def test_without_matplotlib_it_is_told_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(MissingExtraError, match=r"drawing the matrix needs .*unified-ranker\[bench\]"):
        draw(FOUND, tmp_path / "matrix.png")
