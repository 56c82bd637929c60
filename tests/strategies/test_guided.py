"""A whole order by a regular expression: what it lets through, and who can hold a model to it."""

from __future__ import annotations

import re
from dataclasses import replace
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from judges import Judge, best_first, items
from tiny_models import make_backend

from unified_ranker import Candidate, Ranker, Ranking
from unified_ranker.backends import ScriptedBackend, WordTools
from unified_ranker.errors import BackendError, OptionError
from unified_ranker.exchange import Message, Request
from unified_ranker.prompts import load_template, template_names

LETTERS = ("A", "B", "C", "D", "E")
TAGS = ("<1>", "<2>", "<3>", "<4>", "<5>")
SQUARE = ("[1]", "[2]", "[3]", "[4]", "[5]")
# Each would mean something else if it stood in the pattern as it is.
ODD = ("a.b", "x|y", "(1)", "1+", "$2")
NUMBERS = ("01", "02", "03", "04", "05")
ALPHABETS = {"letters": LETTERS, "tags": TAGS, "square": SQUARE, "odd": ODD, "numbers": NUMBERS}
EACH_ALPHABET = pytest.mark.parametrize("labels", list(ALPHABETS.values()), ids=list(ALPHABETS))

STYLES_OF_TEMPLATES = sorted({name.split("/")[0] for name in template_names() if name.split("/")[1] == "one_shot"})
SEPARATORS = {
    load_template(*name.split("/")).label_separator for name in template_names() if name.split("/")[1] == "one_shot"
}
OWN_TEMPLATE = """
user: "{query} {candidates} {instruction}"
candidate: "{label} = {text}"
label_separator: SEPARATOR
instructions: {direct: best first}
"""
BY_STYLE = {"natural": " > ", "compact": ""}


def ask(replies: Any, n: int = 4, *, labels: tuple[str, ...] = (), **options: Any) -> tuple[Ranking, list[Request]]:
    backend = ScriptedBackend(replies, text=WordTools(labels=labels))
    ranker = Ranker(backend, **{"method": "dranker", "guided": True, **options})
    return ranker.rank("fruit", items(n)), backend.requests


@cache
def pattern(n: int, labels: tuple[str, ...], **options: Any) -> str:
    _, (request,) = ask(["?"], n, labels=labels, **options)
    return request.pattern


def test_the_separators_of_all_templates_are_tried_here() -> None:
    assert set(BY_STYLE) == set(STYLES_OF_TEMPLATES)
    assert set(BY_STYLE.values()) == SEPARATORS


@pytest.mark.parametrize("domain", ["passage", "recommendation", "routing"])
@pytest.mark.parametrize("style", list(BY_STYLE))
@EACH_ALPHABET
def test_every_order_of_the_labels_is_let_through(labels: tuple[str, ...], style: str, domain: str) -> None:
    backend = ScriptedBackend(["?"], text=WordTools(labels=labels))
    Ranker(backend, method="dranker", guided=True, style=style).rank("fruit", items(5), domain=domain)
    (request,) = backend.requests
    separator = load_template(style, "one_shot", domain).label_separator
    for order in (labels, labels[::-1], labels[2:] + labels[:2]):
        assert re.fullmatch(request.pattern, separator.join(order))


@pytest.mark.parametrize("style", list(BY_STYLE))
@EACH_ALPHABET
def test_nothing_but_so_many_labels_with_separators_between_is_let_through(labels: tuple[str, ...], style: str) -> None:
    separator, found = BY_STYLE[style], pattern(3, labels, style=style)
    known = labels[:3]
    # As many labels as there are candidates, though one may come twice.
    for order in product(known, repeat=3):
        assert re.fullmatch(found, separator.join(order)), order
    for wrong in (
        *(separator.join(order) for count in (0, 1, 2, 4) for order in product(known, repeat=count)),
        separator.join([*known[:2], labels[3]]),
        separator.join(known) + separator if separator else separator.join(known) + " ",
        separator + separator.join(known) if separator else " " + separator.join(known),
        separator.join(known) + "\n",
        separator.join(known) + ".",
        f"<answer>{separator.join(known)}</answer>",
        ", ".join(known),
        " ".join(known),
        "\n".join(known),
        separator.join(known).lower() if separator.join(known).lower() != separator.join(known) else "",
    ):
        assert not re.fullmatch(found, wrong), wrong


@pytest.mark.parametrize("style", list(BY_STYLE))
@EACH_ALPHABET
@settings(max_examples=150, deadline=None, derandomize=True)
@given(data=st.data(), n=st.integers(2, 4))
def test_a_text_is_let_through_exactly_where_it_is_well_formed(
    labels: tuple[str, ...], style: str, data: st.DataObject, n: int
) -> None:
    separator = BY_STYLE[style]
    language = {separator.join(order) for order in product(labels[:n], repeat=n)}
    pieces = [*labels, separator, " ", ">", " > ", "\\", "1", "a", "x", "[", "(", ""]
    text = data.draw(
        st.sampled_from(sorted(language))
        | st.lists(st.sampled_from(pieces), max_size=2 * n + 1).map("".join)
        # One piece changed of a text that is well formed.
        | st.tuples(st.sampled_from(sorted(language)), st.integers(0, 12), st.sampled_from(pieces)).map(
            lambda parts: parts[0][: parts[1]] + parts[2] + parts[0][parts[1] + 1 :]
        )
    )
    assert bool(re.fullmatch(pattern(n, labels, style=style), text)) is (text in language)


@pytest.mark.parametrize("separator", ["\\n", ", ", " | ", ".", " -> ", "*", "\\t", "$^"])
def test_the_separator_of_a_template_of_ones_own_is_taken_as_it_is(separator: str, tmp_path: Path) -> None:
    (tmp_path / "own.yaml").write_text(OWN_TEMPLATE.replace("SEPARATOR", f'"{separator}"'), encoding="utf-8")
    found = pattern(3, (), template=tmp_path / "own.yaml")
    between = separator.replace("\\n", "\n").replace("\\t", "\t")
    assert re.fullmatch(found, between.join("CAB"))
    for wrong in ("CAB", "C A B", "CxAxB", between.join("CA"), between.join("CABA"), between.join("CAB") + between):
        assert not re.fullmatch(found, wrong)


# vLLM's xgrammar takes the dialect of ECMAScript, and warns on stderr of each escape that is none there, such as "\ ".
@pytest.mark.parametrize("style", list(BY_STYLE))
@EACH_ALPHABET
def test_only_characters_that_mean_something_are_escaped(labels: tuple[str, ...], style: str) -> None:
    escaped = set(re.findall(r"\\(.)", pattern(5, labels, style=style), re.DOTALL))
    assert escaped <= set("\\^$.*+?()[]{}|/")


@pytest.mark.parametrize("n", [2, 26, 27, 100])
def test_a_list_of_any_length_has_a_pattern_that_grows_with_it(n: int) -> None:
    ranking, (request,) = ask(Judge({str(i): float(i) for i in range(n)}), n)
    reply = ranking.steps[0].reply
    assert re.fullmatch(request.pattern, reply)
    assert not re.fullmatch(request.pattern, reply.rsplit(" > ", 1)[0])
    assert len(request.pattern) < 10 * n + 40
    # Room for the whole order.
    assert request.max_tokens >= len(reply.split())


# What is asked for besides, and what becomes of the reply


@pytest.mark.parametrize("style", list(BY_STYLE))
def test_nothing_else_changes_in_what_is_asked_for(style: str) -> None:
    _, (request,) = ask(["?"], style=style)
    _, (plain,) = ask(["?"], style=style, guided=False)
    assert request.pattern
    assert plain.pattern == ""
    assert replace(request, pattern="") == plain
    assert (request.choices, request.draws, request.stop) == ((), 1, ())


@pytest.mark.parametrize("method", ["iranker", "tournament"])
def test_other_methods_ask_for_no_pattern(method: str) -> None:
    backend = ScriptedBackend(lambda request: request.choices[-1])
    Ranker(backend, method=method).rank("fruit", items(4))
    assert {request.pattern for request in backend.requests} == {""}


@pytest.mark.parametrize(("style", "labels"), [("natural", ()), ("compact", ()), ("natural", TAGS), ("compact", TAGS)])
def test_a_reply_of_the_pattern_is_read_as_it_stands(style: str, labels: tuple[str, ...]) -> None:
    worth = {"0": 2.0, "1": 4.0, "2": 1.0, "3": 3.0}
    ranking, (request,) = ask(Judge(worth), style=style, labels=labels)
    assert re.fullmatch(request.pattern, ranking.steps[0].reply)
    assert ranking.ids == best_first(worth)
    assert [step.outcome for step in ranking.steps] == ["ok"]


@pytest.mark.parametrize(
    ("style", "reply"), [("natural", "C > A > C > B"), ("compact", "CACB"), ("natural", "C > A > B > B")]
)
def test_a_label_that_is_repeated_is_repaired(style: str, reply: str) -> None:
    ranking, (request,) = ask([reply], style=style)
    assert re.fullmatch(request.pattern, reply)
    assert ranking.ids == ("2", "0", "1", "3")
    assert ranking.steps[0].outcome == "repaired"
    assert (ranking.usage.repaired_steps, ranking.usage.failed_steps) == (1, 0)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(order=st.lists(st.sampled_from("ABCD"), min_size=4, max_size=4), style=st.sampled_from(list(BY_STYLE)))
def test_no_reply_of_the_pattern_is_a_failure(order: list[str], style: str) -> None:
    reply = BY_STYLE[style].join(order)
    ranking, (request,) = ask([reply], style=style, on_error="raise")
    assert re.fullmatch(request.pattern, reply)
    assert sorted(ranking.ids) == ["0", "1", "2", "3"]
    assert ranking.usage.failed_steps == 0
    assert (ranking.steps[0].outcome == "ok") is (len(set(order)) == 4)


def test_one_candidate_is_ranked_without_a_call() -> None:
    ranking, requests = ask([], 1)
    assert ranking.ids == ("0",)
    assert requests == []


def test_each_shuffle_is_held_to_the_same_pattern() -> None:
    _, requests = ask(lambda request: "A > B > C > D", shuffles=3)
    assert len(requests) == 3
    assert len({request.pattern for request in requests}) == 1


# What is refused


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"reasoning": True}, "guided=True .*does not go with reasoning=True"),
        ({"unguided": True}, "guided=True .*does not go with unguided=True"),
        ({"permute": True, "style": "compact"}, "permute=True already holds the reply to an order; drop guided=True"),
        ({"method": "iranker"}, "guided=True: the method 'iranker' does not take it"),
        ({"method": "tournament"}, "guided=True: the method 'tournament' does not take it"),
    ],
)
def test_what_does_not_go_with_it_is_refused_at_once(options: dict[str, Any], named: str) -> None:
    backend = ScriptedBackend([])
    with pytest.raises(OptionError, match=named):
        Ranker(backend, **{"method": "dranker", "guided": True, **options})
    assert backend.requests == []


def test_a_model_that_runs_here_cannot_be_held_to_a_pattern() -> None:
    backend = make_backend()
    named = r"backend='transformers' cannot hold a reply to a pattern; use 'vllm', or permute=True"
    with pytest.raises(OptionError, match=r"guided=True: this backend cannot hold a reply to a pattern"):
        Ranker(backend, method="dranker", guided=True)
    fine, guided = (Request(messages=(Message("user", "hi"),), max_tokens=2, pattern=found) for found in ("", "(A|B)"))
    with pytest.raises(BackendError, match=named):
        backend.generate([fine, guided])
    (completion,) = backend.generate([fine])
    assert completion.generated_tokens > 0
    # The mend that the message names works.
    ranking = Ranker(backend, method="dranker", permute=True, style="compact").rank(
        "fruit", [Candidate(str(i), f"item{i}") for i in range(3)]
    )
    assert sorted(ranking.ids) == ["0", "1", "2"]
