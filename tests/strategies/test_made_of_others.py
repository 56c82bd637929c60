"""Methods that are made of others: how parts are named, what reaches them, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from judges import Critic, best_first, erratic, ids_listed, items, mixed

from unified_ranker import Ranker, Ranking, RankingExample
from unified_ranker.backends import ScriptedBackend, WordTools
from unified_ranker.errors import OptionError, TemplateError
from unified_ranker.exchange import Completion, Request
from unified_ranker.prompts import PromptWriter, load_template
from unified_ranker.strategies import METHODS, make_strategy
from unified_ranker.strategies.base import listing
from unified_ranker.strategies.registry import TRAINED, check_options, method_named

# Each option that takes a method, with what else it needs to be the one that matters.
PARTS: dict[str, dict[str, Any]] = {
    "finish": {"method": "iranker", "stop_at": 3},
    "inner": {"method": "window", "size": 4, "step": 2},
    "first": {"method": "cascade", "then": "dranker", "depth": 3},
    "then": {"method": "cascade", "first": "dranker", "depth": 3},
}
EACH_PART = pytest.mark.parametrize("part", list(PARTS))


def ask(script: Any, n: int, **options: Any) -> tuple[Ranking, ScriptedBackend]:
    backend = ScriptedBackend(script)
    return Ranker(backend, **options).rank("fruit", items(n)), backend


def told(request: Request) -> Completion:
    return Completion("?", dict.fromkeys(request.choices, -1.0))


@EACH_PART
@pytest.mark.parametrize("name", [name for name in METHODS if name != "aggregate"])
def test_a_part_is_any_method_by_its_name_or_a_mapping_of_it(part: str, name: str) -> None:
    worth = mixed(7)
    by_name, one = ask(Critic(worth), 7, **PARTS[part], **{part: name})
    by_mapping, other = ask(Critic(worth), 7, **PARTS[part], **{part: {"method": name}})
    assert [request.messages for request in one.requests] == [request.messages for request in other.requests]
    assert by_name.ids == by_mapping.ids
    assert sorted(by_name.ids) == sorted(worth)
    assert by_name.method == PARTS[part]["method"]


@EACH_PART
def test_a_judge_that_knows_gives_the_first_place_whatever_the_part(part: str) -> None:
    worth = mixed(7, seed=4)
    names = [*(name for name in METHODS if name != "aggregate"), {"method": "aggregate", "of": ["dranker", "iranker"]}]
    assert {ask(Critic(worth), 7, **PARTS[part], **{part: given})[0].ids[0] for given in names} == {
        best_first(worth)[0]
    }


@EACH_PART
def test_a_mapping_gives_the_part_options_of_its_own(part: str) -> None:
    own = {"method": "dranker", "reasoning": True, "max_tokens": 77, "temperature": 0.9}
    _, backend = ask(erratic, 7, **PARTS[part], seed=3, **{part: own})
    of_part = [request for request in backend.requests if request.max_tokens == 77]
    assert of_part
    assert {(request.stop, request.temperature, request.seed) for request in of_part} == {(("</answer>",), 0.9, 3)}
    rest = [request for request in backend.requests if request.max_tokens != 77]
    assert {(request.stop, request.temperature, request.seed) for request in rest} <= {((), 0.0, 3)}
    assert bool(rest) == (part != "inner")


@EACH_PART
@pytest.mark.parametrize(
    ("given", "named"),
    [
        ("drankr", "{part}='drankr' is not known; did you mean 'dranker'"),
        ("", "{part}='' is not known"),
        (3, "{part}=3 must be the name of a method, or a mapping such as"),
        (["dranker"], r"{part}=\['dranker'\] must be the name of a method"),
        ({}, "{part}={{}} must be the name of a method"),
        ({"permute": True}, "{part}={{'permute': True}} must be the name of a method"),
        ({"method": 3}, "{part}={{'method': 3}} must be the name of a method"),
        ({"method": "drankr"}, "{part}='drankr' is not known"),
        ({"method": "dranker", "permutee": True}, "option='permutee' is not known; did you mean 'permute'"),
        ({"method": "dranker", "layout": "rounds"}, "layout='rounds': the method 'dranker' does not take it"),
        ({"method": "iranker", "layout": "circle"}, "layout='circle' is not known"),
        ({"method": "dranker", "temperature": -1.0}, "temperature=-1.0"),
        ({"method": "dranker", "shuffles": 0}, "shuffles=0 must be a whole number"),
    ],
)
def test_a_part_that_cannot_be_used_is_refused_at_once_and_named(part: str, given: Any, named: str) -> None:
    with pytest.raises(OptionError, match=named.format(part=part)):
        Ranker(ScriptedBackend([]), **PARTS[part], **{part: given})


@pytest.mark.parametrize("part", [name for name in PARTS if name != "finish"])
def test_a_part_cannot_be_none(part: str) -> None:
    with pytest.raises(OptionError, match=f"{part}=None must be the name of a method"):
        Ranker(ScriptedBackend([]), **PARTS[part], **{part: None})


@EACH_PART
def test_parts_have_parts_of_their_own(part: str) -> None:
    worth = mixed(20)
    nested = {
        "method": "cascade",
        "first": {"method": "window", "inner": {"method": "setwise", "set_size": 3, "places": 3}, "size": 6, "step": 3},
        "then": {"method": "iranker", "stop_at": 2, "finish": {"method": "aggregate", "of": ["dranker", "pointwise"]}},
        "depth": 5,
    }
    ranking, backend = ask(Critic(worth), 20, **PARTS[part], **{part: nested})
    assert ranking.ids[0] == best_first(worth)[0]
    assert [step.index for step in ranking.steps] == list(range(len(ranking.steps)))
    assert ranking.usage.calls == len(backend.requests)


def test_an_unknown_part_deep_within_is_named() -> None:
    nested = {"method": "window", "inner": {"method": "iranker", "stop_at": 2, "finish": "drankr"}}
    with pytest.raises(OptionError, match="finish='drankr' is not known"):
        Ranker(ScriptedBackend([]), method="cascade", first=nested)


SHUFFLED: list[dict[str, Any]] = [
    {"method": "window", "size": 12, "inner": "dranker"},
    {"method": "window", "size": 12, "inner": "iranker"},
    {"method": "window", "size": 12, "inner": {"method": "window", "size": 12}},
    {"method": "cascade", "first": "dranker", "then": "dranker", "depth": 12},
    {"method": "cascade", "first": {"method": "window", "size": 12}, "then": "dranker", "depth": 12},
    {"method": "iranker", "stop_at": 11, "finish": {"method": "window", "size": 12}},
    {"method": "aggregate", "of": ["dranker", {"method": "window", "size": 12}]},
]


@pytest.mark.parametrize("way", SHUFFLED, ids=str)
def test_the_order_is_drawn_once(way: dict[str, Any]) -> None:
    # A judge that leaves every list as it is shown: whatever is shuffled again, is seen to be.
    def content(request: Request) -> Completion:
        labels = request.choices or tuple(chr(ord("A") + place) for place in range(len(ids_listed(request))))
        return Completion(labels[-1] if request.choices else " > ".join(labels))

    shown = [c.id for c in listing(RankingExample(id="query", query="", candidates=tuple(items(12))), 6)]
    assert shown != [c.id for c in items(12)]
    ranking, backend = ask(content, 12, shuffle_seed=6, **way)
    assert list(ranking.ids) == shown
    for request in backend.requests:
        listed = ids_listed(request)
        assert listed == [id for id in shown if id in listed]


@EACH_PART
def test_a_part_may_be_shuffled_on_purpose(part: str) -> None:
    own = {"method": "dranker", "shuffle_seed": 9, "max_tokens": 77}
    _, plain = ask(erratic, 7, **PARTS[part], **{part: {**own, "shuffle_seed": None}})
    _, shuffled = ask(erratic, 7, **PARTS[part], **{part: own})
    first, other = (
        next(ids_listed(request) for request in backend.requests if request.max_tokens == 77)
        for backend in (plain, shuffled)
    )
    assert first != other
    if part != "first":
        assert sorted(first) == sorted(other)


@EACH_PART
@pytest.mark.parametrize("style", ["natural", "compact"])
@pytest.mark.parametrize("domain", ["passage", "recommendation", "routing"])
@pytest.mark.parametrize("name", ["dranker", "iranker", "setwise", "pointwise"])
def test_a_part_has_the_template_of_its_own_method_style_and_domain(
    part: str, style: str, domain: str, name: str
) -> None:
    backend = ScriptedBackend(told)
    given: dict[str, Any] = {**PARTS[part], part: name}
    ranker = Ranker(backend, style=style, **given)
    strategy = ranker.strategy(domain)
    inner = getattr(strategy, part)
    assert inner.writer.template.name == f"{style}/{METHODS[name].template}/{domain}"


@EACH_PART
def test_a_template_of_ones_own_serves_all_parts(part: str, tmp_path: Path) -> None:
    (tmp_path / "own.yaml").write_text(
        'user: "MINE {query} {candidates} {instruction}"\ncandidate: "{label} = {text}"\n'
        "instructions: {append: worst first, rounds: the worst, direct: best first}\n",
        encoding="utf-8",
    )
    _, backend = ask(told, 7, template=tmp_path / "own.yaml", **PARTS[part], **{part: "iranker"})
    assert all(request.messages[-1].content.startswith("MINE fruit") for request in backend.requests)


@EACH_PART
def test_a_part_needs_someone_who_knows_its_template(part: str) -> None:
    writer = PromptWriter(load_template("natural", "one_shot", "passage"), WordTools())
    options = {key: value for key, value in PARTS[part].items() if key != "method"}
    with pytest.raises(OptionError, match="this method's writer knows no other template"):
        make_strategy(PARTS[part]["method"], writer=writer, **{**options, part: "dranker"})
    for name in ("setwise", "first_token"):
        with pytest.raises(OptionError, match="ask='worst': this method's writer knows no other template"):
            make_strategy(name, writer=writer, ask="worst")


def test_a_finish_still_works_and_ranks_those_that_are_left() -> None:
    worth = mixed(8)
    for finish in ("dranker", "best_first", "setwise", "pointwise", "first_token", "cascade", "window"):
        ranking, backend = ask(Critic(worth), 8, method="iranker", stop_at=4, finish=finish)
        assert ranking.ids == best_first(worth)
        assert len(backend.requests) > 4
    with pytest.raises(OptionError, match="finish ranks what stop_at leaves"):
        Ranker(ScriptedBackend([]), method="iranker", finish="best_first")


# A backend that cannot hold a reply to a pattern

GUIDED = {"method": "dranker", "guided": True}


@pytest.mark.parametrize(
    "options",
    [{**PARTS[part], part: GUIDED} for part in PARTS] + [{"method": "aggregate", "of": ["iranker", GUIDED]}],
    ids=[*PARTS, "of"],
)
def test_a_guided_part_is_refused_at_once_where_the_backend_takes_no_patterns(options: dict[str, Any]) -> None:
    with pytest.raises(OptionError, match="guided=True"):
        Ranker(ScriptedBackend([], patterns=False), **options)


def test_a_template_without_labels_is_refused_by_methods_that_ask_for_labels(tmp_path: Path) -> None:
    (tmp_path / "own.yaml").write_text(
        'user: "{query} {candidates}"\ncandidate: "{text}"\nunlabelled: true\n', encoding="utf-8"
    )
    alone = Ranker(
        ScriptedBackend(lambda request: "1"), template=tmp_path / "own.yaml", method="pointwise", score="grade"
    )
    assert alone.rank("q", ["a", "b"]).ids == ("0", "1")
    with pytest.raises((OptionError, TemplateError), match="unlabelled"):
        Ranker(ScriptedBackend(told), template=tmp_path / "own.yaml", method="iranker").rank("q", ["a", "b"])


# What each method takes

OWN = sorted({option for method in METHODS.values() for option in method.options})


@pytest.mark.parametrize("option", OWN)
def test_an_option_is_taken_by_its_methods_and_refused_by_name_by_all_others(option: str) -> None:
    takers = [name for name, method in METHODS.items() if option in method.options]
    assert takers
    for name in METHODS:
        if name in takers:
            check_options(name, {option: "value"})
        else:
            with pytest.raises(OptionError, match=f"{option}='value': the method '{name}' does not take it"):
                check_options(name, {option: "value"})


@pytest.mark.parametrize("name", list(METHODS))
def test_an_option_that_nobody_takes_is_told_with_the_nearest_name(name: str) -> None:
    with pytest.raises(OptionError, match="option='temprature' is not known; did you mean 'temperature'"):
        check_options(name, {"temprature": 1.0})


def test_every_method_has_a_template_of_each_style_and_a_line_of_its_own() -> None:
    for name, method in METHODS.items():
        assert method_named(name) is method
        for style in ("natural", "compact"):
            assert load_template(style, method.template, "passage")
    assert len({method.summary for method in METHODS.values()}) == len(METHODS)
    assert set(TRAINED) <= set(METHODS)


@pytest.mark.parametrize("name", list(METHODS))
def test_every_method_reports_itself_under_its_name(name: str) -> None:
    options: dict[str, Any] = {"of": ["iranker", "dranker"]} if name == "aggregate" else {}
    ranking, _ = ask(Critic(mixed(6)), 6, method=name, **options)
    assert ranking.method == name
    shuffled, _ = ask(Critic(mixed(6)), 6, method=name, shuffles=2, **options)
    assert shuffled.method == name
