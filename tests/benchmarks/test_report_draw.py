from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from toy_runs import bounded, result, unbuilt
from unified_ranker.benchmarks.report.draw import against_cost, as_svg, bars, save_pictures
from unified_ranker.benchmarks.report.load import Result

from unified_ranker.errors import MissingExtraError

VALUES = [0.0, 0.25, 0.5, 1.0]


def two_tasks(**others: list[float]) -> list[Result]:
    """Return results of which the baseline ranked one task only."""
    movie = bounded(result("toy/one", [0.5] * 4, task=unbuilt("movie"), **others))
    game = bounded(
        result("toy/one", VALUES, task=unbuilt("game"), **others), result("bm25", [0.2] * 4, task=unbuilt("game"))
    )
    return [*movie, *game]


def calls(found: Result, number: int, *, seconds: float = 0.5) -> Result:
    for record in found.records.values():
        record["usage"]["calls"] = number  # type: ignore[index]
        record["wall"] = seconds  # type: ignore[index]
    return found


def test_bars_have_a_panel_a_task_and_a_bar_a_name() -> None:
    panels = bars(two_tasks()).axes
    assert [panel.get_title() for panel in panels] == ["movie", "game"]
    assert [[round(bar.get_width(), 6) for bar in panel.patches] for panel in panels] == [[0.5], [0.4375, 0.2]]
    assert [label.get_text() for label in panels[0].get_yticklabels()] == ["toy/one", "bm25"]
    assert {panel.get_xlim() for panel in panels} == {(0.0, 1.0)}
    assert [panel.get_xlabel() for panel in panels] == ["RR", "RR"]


def test_a_bar_stands_at_the_name_it_belongs_to() -> None:
    results = bounded(result("bm25", [0.25] * 2))
    results[1:1] = [result("toy/one", [0.75] * 2)]
    (panel,) = bars(results).axes
    names = [label.get_text() for label in panel.get_yticklabels()]
    found = {names[round(bar.get_y() + bar.get_height() / 2)]: bar.get_width() for bar in panel.patches}
    assert found == {"toy/one": 0.75, "bm25": 0.25}
    low, high = panel.get_ylim()
    assert low > high, "the first name stands above"


def test_bars_carry_their_interval() -> None:
    found = result("toy/one", VALUES)
    (panel,) = bars(bounded(found)).axes
    ((segment,),) = (container.get_segments() for container in panel.collections)
    figure = found.figures["RR"]
    assert [point[0] for point in segment] == pytest.approx([figure.low, figure.high])


def test_random_order_is_a_line_and_neither_bound_a_bar() -> None:
    (panel,) = bars(bounded(result("toy/one", VALUES))).axes
    lines = [line.get_xdata() for line in panel.lines if line.get_linestyle() == "--"]
    assert [list(line) for line in lines] == [[0.25, 0.25]]
    assert len(panel.patches) == 1


def test_those_who_ask_a_model_have_another_colour_than_baselines() -> None:
    results = bounded(calls(result("toy/one", VALUES), 3), calls(result("bm25", VALUES), 0))
    (panel,) = bars(results).axes
    model, baseline = (bar.get_facecolor() for bar in panel.patches)
    assert model != baseline


def test_the_measure_that_is_asked_for_is_drawn() -> None:
    results = bounded(result("toy/one", VALUES, **{"nDCG@10": [0.75] * 4}))
    (panel,) = bars(results, metric="nDCG@10").axes
    assert ([bar.get_width() for bar in panel.patches], panel.get_xlabel()) == ([0.75], "nDCG@10")
    (panel,) = against_cost(results, metric="nDCG@10").axes
    assert ([list(line.get_ydata()) for line in panel.lines], panel.get_ylabel()) == (
        [[0.75]],
        "nDCG@10, mean over tasks",
    )


def test_effectiveness_against_cost_is_a_point_for_all_who_ranked_every_task() -> None:
    results = two_tasks()
    calls(results[1], 1, seconds=0.1)
    calls(results[4], 1, seconds=0.3)
    (panel,) = against_cost(results).axes
    ((seconds, mean),) = ((list(line.get_xdata()), list(line.get_ydata())) for line in panel.lines)
    assert (seconds, mean) == ([pytest.approx(0.2)], [pytest.approx((0.5 + 0.4375) / 2)])
    assert (panel.get_title(), panel.get_xscale()) == ("recommendation", "log")
    assert [text.get_text() for text in panel.get_legend().get_texts()] == ["toy/one"]


def test_effectiveness_against_cost_has_a_panel_a_domain() -> None:
    results = [*two_tasks(), *bounded(result("bm25", VALUES))]
    assert [panel.get_title() for panel in against_cost(results).axes] == ["recommendation", "passage"]


def test_no_time_at_all_has_a_place_on_the_scale() -> None:
    (panel,) = against_cost(bounded(calls(result("bm25", VALUES), 0, seconds=0.0))).axes
    assert [list(line.get_xdata()) for line in panel.lines] == [[1e-6]]


def test_nobody_who_ranked_every_task_leaves_an_empty_panel() -> None:
    results = [
        *bounded(result("a/x", VALUES, task=unbuilt("movie"))),
        *bounded(result("b/x", VALUES, task=unbuilt("game"))),
    ]
    figure = against_cost(results)
    assert [len(panel.lines) for panel in figure.axes] == [0]
    assert figure.axes[0].get_legend() is None
    assert as_svg(figure).startswith("<svg")


def test_pictures_are_named_by_edition_and_domain(tmp_path: Path) -> None:
    results = [
        found
        for edition in ("open", "paper")
        for name in ("movie", "passage-5")
        for found in bounded(result("toy/one", VALUES, task=unbuilt(name, edition=edition)))
    ]
    written = save_pictures(results, tmp_path)
    assert [path.name for path in written] == [
        f"{edition}-{what}.png" for edition in ("open", "paper") for what in ("recommendation", "passage", "cost")
    ]
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in written)
    assert sorted(tmp_path.iterdir()) == sorted(written)


def test_an_svg_is_an_element_and_no_document() -> None:
    text = as_svg(bars(bounded(result("toy/<one> & two", VALUES))))
    assert text.startswith("<svg") and text.rstrip().endswith("</svg>")
    assert "<?xml" not in text and "<!DOCTYPE" not in text
    assert ElementTree.fromstring(text).tag == "{http://www.w3.org/2000/svg}svg"


def test_a_name_that_begins_with_an_underscore_stands_in_the_legend() -> None:
    (panel,) = against_cost(bounded(result("_local/one", VALUES))).axes
    assert [text.get_text() for text in panel.get_legend().get_texts()] == ["_local/one"]


@pytest.mark.parametrize("draw", [bars, against_cost])
def test_a_name_with_dollar_signs_is_no_formula(draw: Callable[[list[Result]], Any]) -> None:
    assert as_svg(draw(bounded(result("a$_$b/one", VALUES)))).startswith("<svg")


@pytest.fixture
def without_matplotlib(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.split(".")[0] == "matplotlib"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "matplotlib", None)


@pytest.mark.usefixtures("without_matplotlib")
def test_without_matplotlib_the_message_names_the_extra_and_the_command(tmp_path: Path) -> None:
    with pytest.raises(MissingExtraError, match=r"'matplotlib'.*pip install 'unified-ranker\[bench\]'"):
        save_pictures(bounded(result("toy/one", VALUES)), tmp_path)
    assert list(tmp_path.iterdir()) == []
