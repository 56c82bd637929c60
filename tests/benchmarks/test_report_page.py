from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from html.parser import HTMLParser
from typing import Any

import pytest
from toy_runs import bounded, graded, result, unbuilt
from unified_ranker.benchmarks.report import page as page_module
from unified_ranker.benchmarks.report.load import Result
from unified_ranker.benchmarks.report.page import LONGEST_TEXT, as_page
from unified_ranker.benchmarks.report.significance import Comparison
from unified_ranker.tasks import NINE

from unified_ranker.errors import OptionError
from unified_ranker.schema.types import Candidate, RankingExample

KEY = ("open", "passage-5")
#: What a browser fetches of its own accord.
LOADING = {"src", "srcset", "data", "poster", "background", "action", "formaction"}
AWKWARD = [
    "</script><script>alert(1)</script>", "<!-- a comment", "<!--<script>", "-->", "]]>", '"quoted" and \'quoted\'',
    "back\\slash \\u0041 \\n", "line\nbreak\ttab", "é 漢字 🙂 \u2028 \u2029 \x7f", "&lt;b&gt; & <b>", "`${1 + 1}`",
    '"DATA"', "<!--PICTURES-->", "</", "</SCRIPT >",
]  # fmt: skip

PARTS = ["b", "b", "section", "section", "section", "section", "script"]


class Reader(HTMLParser):
    """Notes the elements of a page and what stands in its scripts."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[str] = []
        self.open: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        self.open.append(tag)
        if tag == "script":
            self.scripts.append("")

    def handle_endtag(self, tag: str) -> None:
        if tag in self.open:
            while self.open.pop() != tag:
                pass

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] == "script":
            self.scripts[-1] += data


def data_of(page: str) -> dict[str, Any]:
    """Return the data that the page's one script begins with."""
    (script,) = Reader(page).scripts
    start = script.index("const data = ") + len("const data = ")
    found, end = json.JSONDecoder().raw_decode(script, start)
    assert script[end : end + 2] == ";\n"
    return dict(found)


def page_of(results: Sequence[Result], found: Sequence[Comparison] = (), **options: Any) -> dict[str, Any]:
    """Return the data of a page without its pictures, which take their time."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("bars", "against_cost"):
            patch.setattr(page_module, name, lambda *_, **__: None)
        patch.setattr(page_module, "as_svg", lambda _: "<svg></svg>")
        return data_of(as_page(results, {KEY: found}, **options))


def one_list(texts: Mapping[str, str] | None = None, *, query: str = "query") -> RankingExample:
    given = texts or {"a": "text of a", "b": "text of b", "c": "text of c"}
    return RankingExample(
        id="q0",
        query=query,
        candidates=tuple(Candidate(id, text) for id, text in given.items()),
        relevance={next(iter(given)): 1.0},
    )


def toy(*names: str, values: Sequence[float] = (0.0, 1.0)) -> list[Result]:
    return bounded(*(result(name, values) for name in names or ("toy/one",)))


@pytest.fixture(scope="module")
def page() -> str:
    return as_page(toy("toy/one", "bm25"), {KEY: [Comparison("bm25", "toy/one", 0.1, 0.01)]}, command="a & b <c>")


def test_the_page_needs_nothing_from_elsewhere(page: str) -> None:
    reader = Reader(page)
    assert not {tag for tag, _ in reader.elements} & {"iframe", "object", "embed", "base", "audio", "video", "img"}
    for tag, attributes in reader.elements:
        assert not LOADING & set(attributes), tag
        assert tag != "link" and (tag != "meta" or "http-equiv" not in attributes)
        for name, value in attributes.items():
            if name in ("href", "xlink:href"):
                assert str(value).startswith("#"), tag
            assert "url(" not in str(value) or re.fullmatch(r"url\(#[\w-]+\)", str(value)), value


def test_neither_style_nor_script_fetches_anything(page: str) -> None:
    styles = re.findall(r"<style.*?</style>", page, flags=re.DOTALL)
    assert not any("@import" in style or "url(" in style or "http" in style for style in styles)
    (script,) = Reader(page).scripts
    program = script.split("\n", 2)[2]
    for word in ("fetch(", "XMLHttpRequest", "import(", "import ", "http", "WebSocket", "innerHTML", "document.write"):
        assert word not in program


def test_pictures_stand_in_the_page(page: str) -> None:
    assert page.count("<svg") == page.count("</svg>") == page.count("<figure>") == 2
    assert "<!--PICTURES-->" not in page and "<?xml" not in page and page.count("<!DOCTYPE") == 0
    assert "<figcaption>open: passage</figcaption>" in page
    assert "<figcaption>open: effectiveness against cost</figcaption>" in page
    assert page.startswith("<!doctype html>") and page.endswith("</html>\n")


def test_the_page_says_what_made_the_results_and_what_is_compared(page: str) -> None:
    data = data_of(page)
    assert set(data) == {"command", "metric", "lower", "tables", "macro", "lists"}
    assert (data["command"], data["metric"], data["lower"]) == ("a & b <c>", "RR", ["cost", "regret"])


def test_a_table_holds_every_figure_of_every_row(page: str) -> None:
    (table,) = data_of(page)["tables"]
    expected = {"edition": "open", "task": "passage-5", "domain": "passage", "lists": 2}
    assert {key: table[key] for key in expected} == expected
    assert table["title"] == "one relevant passage of 5"
    assert table["measures"] == ["RR", "nDCG@10", "Success@1", "Success@3", "Success@5"]
    rows = {row["name"]: row for row in table["rows"]}
    assert list(rows) == ["random", "toy/one", "bm25", "oracle"]
    assert rows["toy/one"]["figures"] == {measure: [0.5, 0.0, 1.0] for measure in table["measures"]}
    assert [row["computed"] for row in rows.values()] == [True, False, False, True]
    assert [row["mark"] for row in rows.values()] == ["", "a", "b", ""]
    assert [row["beats"] for row in rows.values()] == [[], [], ["a"], []]
    costs = {key: rows["toy/one"][key] for key in ("failed", "repaired", "missing", "calls", "seconds")}
    assert costs == {"failed": 0.0, "repaired": 0.0, "missing": 0, "calls": 1, "seconds": 0.5}


def test_what_may_be_chance_beats_nobody() -> None:
    data = page_of(toy("a/x", "b/x"), [Comparison("a/x", "b/x", 0.5, 0.05)], lists=0)
    assert [row["beats"] for row in data["tables"][0]["rows"]] == [[], [], [], []]


def test_the_mean_of_the_nine_stands_where_all_nine_are() -> None:
    results = [found for name in NINE for found in bounded(result("toy/one", [0.5, 0.5], task=unbuilt(name)))]
    macro = page_of(results, lists=0)["macro"]
    assert [(row["model"], row["metric"]) for row in macro[:2]] == [("random", "RR"), ("random", "nDCG@10")]
    assert {row["model"]: row["value"] for row in macro if row["metric"] == "RR"} == {
        "random": pytest.approx(0.25), "toy": pytest.approx(0.5), "oracle": pytest.approx(1.0),
    }  # fmt: skip
    assert page_of(toy(), lists=0)["macro"] == []


def test_orders_refer_to_the_candidates_of_their_list() -> None:
    example = one_list()
    orders = {"m/one": "cab", "m/two": "bca", "bm25": "abc"}
    results = bounded(
        *(result(name, [1.0], examples=[example], orders={"q0": list(order)}) for name, order in orders.items())
    )
    found = page_of(results)["lists"]["open: passage-5"]
    (entry,) = found["lists"]
    assert found["methods"] == list(orders)
    texts = [candidate["text"] for candidate in entry["candidates"]]
    for method, order in zip(found["methods"], entry["orders"], strict=True):
        assert [texts[place] for place in order] == [f"text of {id}" for id in orders[method]]
    assert [candidate["grade"] for candidate in entry["candidates"]] == [1.0, 0.0, 0.0]


def test_a_list_without_a_ranking_has_no_order() -> None:
    example = one_list()
    results = bounded(
        result("m/one", [0.0], examples=[example], orders={}),
        result("m/two", [1 / 3], examples=[example], orders={"q0": "bca"}),
    )
    (entry,) = page_of(results)["lists"]["open: passage-5"]["lists"]
    assert (entry["orders"], entry["rr"]) == ([[], [1, 2, 0]], [0.0, 0.3333])


@pytest.mark.parametrize(("lists", "ids"), [(1, ["q3"]), (2, ["q1", "q3"]), (3, ["q0", "q1", "q3"]), (9, None)])
def test_the_lists_on_which_methods_differ_most_are_shown_as_they_stand(lists: int, ids: list[str] | None) -> None:
    results = bounded(result("a/x", [0.5, 1.0, 0.5, 0.0]), result("b/x", [0.6, 0.5, 0.5, 1.0]))
    found = page_of(results, lists=lists)["lists"]["open: passage-5"]["lists"]
    assert [entry["id"] for entry in found] == (ids or ["q0", "q1", "q2", "q3"])


def test_no_lists_are_shown_where_none_are_asked_for() -> None:
    assert page_of(toy(), lists=0)["lists"] == {}


def test_fewer_lists_than_none_are_refused() -> None:
    with pytest.raises(OptionError, match="lists=-1 must be ≥ 0"):
        as_page(toy(), {}, lists=-1)


def test_only_lists_that_all_were_to_rank_are_shown() -> None:
    results = bounded(result("many/x", [0.0, 0.0, 1.0]), result("few/x", [1.0, 0.5]))
    found = page_of(results)["lists"]["open: passage-5"]["lists"]
    assert [entry["id"] for entry in found] == ["q0", "q1"]
    assert [entry["rr"] for entry in found] == [[0.0, 1.0], [0.0, 0.5]]


def test_lists_tell_their_history_and_titles() -> None:
    example = RankingExample(
        id="q0",
        query="next?",
        candidates=(Candidate("a", "drama", "A Film"), Candidate("b", "comedy")),
        context=("seen first", "seen last"),
        relevance={"b": 1},
    )
    task = unbuilt("movie")
    results = bounded(result("toy/one", [0.5], task=task, examples=[example]))
    (entry,) = page_of(results)["lists"]["open: movie"]["lists"]
    assert (entry["id"], entry["query"], entry["context"]) == ("q0", "next?", ["seen first", "seen last"])
    assert entry["candidates"] == [
        {"title": "A Film", "text": "drama", "grade": 0.0, "relevant": False},
        {"title": "", "text": "comedy", "grade": 1.0, "relevant": True},
    ]


@pytest.mark.parametrize("length", [LONGEST_TEXT, LONGEST_TEXT + 1, 1000])
def test_long_texts_are_cut(length: int) -> None:
    example = one_list({"a": "x" * length, "b": "short"}, query="y" * length)
    (entry,) = page_of(bounded(result("toy/one", [1.0], examples=[example])))["lists"]["open: passage-5"]["lists"]
    for text, letter in ((entry["candidates"][0]["text"], "x"), (entry["query"], "y")):
        assert len(text) == LONGEST_TEXT
        assert text == (letter * length if length == LONGEST_TEXT else letter * (LONGEST_TEXT - 1) + "…")


@pytest.fixture(scope="module")
def awkward() -> str:
    example = RankingExample(
        id="q0",
        query=" ".join(AWKWARD)[:LONGEST_TEXT],
        candidates=tuple(Candidate(f"c{n}", text, text) for n, text in enumerate(AWKWARD)),
        context=tuple(AWKWARD),
        relevance={"c0": 1},
    )
    return as_page(bounded(result("toy/one", [1.0], examples=[example])), {}, command="\n".join(AWKWARD))


def test_awkward_texts_come_back_from_the_page_as_they_were(awkward: str) -> None:
    data = data_of(awkward)
    (entry,) = data["lists"]["open: passage-5"]["lists"]
    assert data["command"] == "\n".join(AWKWARD)
    assert entry["context"] == [candidate["text"] for candidate in entry["candidates"]] == AWKWARD
    assert [candidate["title"] for candidate in entry["candidates"]] == AWKWARD
    assert entry["query"] == " ".join(AWKWARD)[:LONGEST_TEXT]


def test_no_text_ends_or_opens_a_script_or_a_comment(awkward: str) -> None:
    reader = Reader(awkward)
    assert len(reader.scripts) == 1
    assert "showLists();" in reader.scripts[0]
    assert "<!--" not in reader.scripts[0] and "</" not in reader.scripts[0].split("\n", 2)[1]
    assert len(re.findall(r"</script", awkward, flags=re.IGNORECASE)) == 1


@pytest.mark.parametrize("name", ["</script><b>", "a --> <b>", "<!-- x --!> & y"])
def test_an_awkward_name_of_a_model_stays_text(name: str) -> None:
    found = Reader(as_page(toy(f"{name}/one"), {}, lists=0))
    assert [tag for tag, _ in found.elements if tag in ("b", "script", "section")] == PARTS
    assert "showLists();" in found.scripts[0]


def test_the_data_stand_in_the_page_once_whatever_a_model_is_called() -> None:
    assert as_page(toy('"DATA"/one'), {}, lists=0).count('"tables": ') == 1


def test_editions_and_domains_have_pictures_and_tables_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page_module, "as_svg", lambda _: "<svg></svg>")
    results = [
        found
        for edition in ("open", "paper")
        for name in ("movie", "passage-5")
        for found in bounded(result("toy/one", [0.0, 1.0], task=unbuilt(name, edition=edition)))
    ]
    text = as_page(results, {})
    assert re.findall("<figcaption>(.*?)</figcaption>", text) == [
        "open: recommendation", "open: passage", "open: effectiveness against cost",
        "paper: recommendation", "paper: passage", "paper: effectiveness against cost",
    ]  # fmt: skip
    data = data_of(text)
    expected = [(edition, task) for edition in ("open", "paper") for task in ("movie", "passage-5")]
    assert [(table["edition"], table["task"]) for table in data["tables"]] == expected
    assert list(data["lists"]) == [f"{edition}: {task}" for edition, task in expected]


def test_the_measure_that_is_asked_for_is_told_and_drawn() -> None:
    text = as_page(toy(), {}, metric="Success@3", lists=0)
    assert data_of(text)["metric"] == "Success@3"
    assert "Success@3, mean over tasks" in text


def test_a_router_shows_what_its_choice_is_worth() -> None:
    results = bounded(result("toy/one", [0.0, 1.0], task=unbuilt("router-cost"), cost=[0.25, 0.25]))
    (table,) = page_of(results, lists=0)["tables"]
    assert table["measures"][5:] == ["performance", "cost", "reward", "regret"]
    assert table["rows"][1]["figures"]["cost"] == [0.25, 0.25, 0.25]


def test_what_is_relevant_by_the_rule_of_the_task_is_marked_and_its_grade_told() -> None:
    example = graded("q0", {"a": 0.0, "b": 55.0, "c": 100.0}, task="router-cost")
    results = bounded(result("toy/one", [1.0], task=unbuilt("router-cost"), examples=[example]))
    (entry,) = page_of(results)["lists"]["open: router-cost"]["lists"]
    assert [candidate["grade"] for candidate in entry["candidates"]] == [0.0, 55.0, 100.0]
    assert [candidate["relevant"] for candidate in entry["candidates"]] == [False, False, True]
