"""No option without an effect: each one changes what the backend is asked."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest

from unified_ranker import Ranker
from unified_ranker.backends import ScriptedBackend
from unified_ranker.errors import OptionError, TemplateError
from unified_ranker.exchange import Completion, Request
from unified_ranker.strategies import METHODS, Sampling, make_strategy
from unified_ranker.strategies.registry import COMMON_OPTIONS

OWN_TEMPLATE = """
user: "MY OWN WORDS {query} {candidates} {instruction}"
candidate: "{label} = {text}"
instructions: {append: worst first, rounds: the worst, direct: best first, grades: how good}
"""
N = 6


#: What a method needs to be asked at all, or to be made of methods that take every sampling option.
NEEDS: dict[str, dict[str, Any]] = {
    "window": {"inner": "iranker"},
    "cascade": {"first": "best_first", "then": "iranker"},
    "aggregate": {"of": ["iranker", "dranker"]},
}


def told(request: Request) -> Completion:
    """Return a reply that nobody can read, from a backend that tells what each label would have been worth."""
    return Completion("?", dict.fromkeys(request.choices, -1.0))


def asked(**options: Any) -> list[Request]:
    """Return what a ranking asks for, with the session's running number taken out."""
    backend = ScriptedBackend(told)
    Ranker(backend, **{**NEEDS.get(options.get("method", ""), {}), **options}).rank(
        "query", [f"candidate {i} " + "word " * 60 for i in range(N)]
    )
    return [replace(request, session="s" if request.session else "") for request in backend.requests]


# An option's value, what else must be set for it to matter, and the field of the first request that it changes; None
# where it changes how many requests there are, or later ones.
CHANGES: dict[str, tuple[Any, dict[str, Any], str | None]] = {
    "reasoning": (True, {}, "stop"),
    "temperature": (0.4, {}, "temperature"),
    "top_p": (0.8, {}, "top_p"),
    "max_tokens": (77, {}, "max_tokens"),
    "seed": (11, {}, "seed"),
    "shuffle_seed": (2, {}, "messages"),
    "on_error": ("retry", {}, None),
    "retries": (4, {"on_error": "retry"}, None),
    "unguided": (True, {}, "choices"),
    "shuffles": (2, {}, "messages"),
    "layout": ("rounds", {}, "session"),
    "max_steps": (2, {"style": "compact", "permute": True}, "draws"),
    "stop_at": (2, {"style": "compact", "permute": True}, "draws"),
    "finish": ("dranker", {"stop_at": 2}, None),
    "drop_per_step": (2, {}, None),
    "permute": (True, {"style": "compact"}, "draws"),
    "guided": (True, {}, "pattern"),
    "block": (4, {}, "messages"),
    "survivors": (0.2, {"block": 4}, None),
    "picks": (2, {"style": "compact", "permute": True}, "draws"),
    "sort": ("bubblesort", {"set_size": 3}, "messages"),
    "set_size": (3, {}, "messages"),
    "places": (2, {}, None),
    "ask": ("worst", {}, "messages"),
    "inner": ("dranker", {}, "messages"),
    "size": (4, {"step": 2}, "messages"),
    "step": (1, {"size": 4, "step": 2}, None),
    "passes": (2, {}, None),
    "order": ("partition", {"size": 4}, "messages"),
    "pivot": (1, {"order": "partition", "size": 4}, None),
    "scale": ("yes_no", {}, "choices"),
    "top_grade": (7, {}, "choices"),
    "first": ("iranker", {}, "messages"),
    "then": ("dranker", {}, None),
    "depth": (3, {}, None),
    "of": (["dranker", "iranker"], {}, "messages"),
    "chains": (2, {"temperature": 0.5}, "seed"),
    "style": ("compact", {}, "messages"),
    "template": ("own.yaml", {}, "messages"),
    "token_budget": (180, {}, "messages"),
}
#: Options that change nothing that is asked: how rankings are joined.
OF_THE_RESULT: dict[str, Any] = {"fusion": "borda", "listed": True, "score": "grade"}
#: A prompt of one candidate is shorter than those of a list.
SHORT = {("pointwise", "token_budget"): 80}
#: Options of the ranker itself, which no strategy sees.
OF_THE_RANKER = ("style", "template", "token_budget")
#: Replies of dranker are restricted only where permute or guided asks for it, and unguided goes with neither. One
#: forward pass of first_token draws nothing; what says how to draw is there for the other parts of a cascade.
WITHOUT_EFFECT = {("dranker", "unguided"), *(("first_token", name) for name in ("top_p", "max_tokens", "seed"))}
#: Options that every strategy knows, and that a method refuses.
NOT_TAKEN = {("first_token", name) for name in ("reasoning", "temperature", "unguided")}


def taken(method: str) -> set[str]:
    """Return the options that a method takes."""
    return {*METHODS[method].options, *COMMON_OPTIONS, *OF_THE_RANKER}


TAKEN = [
    (method, option)
    for method in METHODS
    for option in CHANGES
    if option in taken(method) and (method, option) not in NOT_TAKEN
]
REFUSED = [
    (method, option) for method in METHODS for option in (*CHANGES, *OF_THE_RESULT) if option not in taken(method)
]


def test_no_option_is_forgotten_here() -> None:
    own = {name for method in METHODS.values() for name in method.options}
    assert set(COMMON_OPTIONS) == {entry.name for entry in fields(Sampling)} | {"shuffles"}
    assert set(CHANGES) | set(OF_THE_RESULT) == {*COMMON_OPTIONS, *own, *OF_THE_RANKER}


def test_each_method_takes_the_options_that_its_strategy_has() -> None:
    assert {name: set(method.options) for name, method in METHODS.items()} == {
        "iranker": {"layout", "permute", "max_steps", "stop_at", "finish", "drop_per_step"},
        "dranker": {"permute", "guided"},
        "tournament": {"layout", "permute", "drop_per_step", "block", "survivors"},
        "best_first": {"layout", "permute", "picks"},
        "setwise": {"sort", "set_size", "places", "ask"},
        "window": {"inner", "size", "step", "passes", "order", "pivot"},
        "pointwise": {"scale", "top_grade", "score"},
        "first_token": {"ask"},
        "cascade": {"first", "then", "depth"},
        "aggregate": {"of", "chains", "fusion", "listed"},
    }


@pytest.mark.parametrize(("method", "option"), [pair for pair in TAKEN if pair not in WITHOUT_EFFECT])
def test_an_option_changes_what_the_backend_is_asked(method: str, option: str, tmp_path: Path) -> None:
    value, needs, field = CHANGES[option]
    value = SHORT.get((method, option), value)
    if option == "template":
        value = tmp_path / value
        value.write_text(OWN_TEMPLATE, encoding="utf-8")
    before, after = asked(method=method, **needs), asked(method=method, **{**needs, option: value})
    assert before != after
    if field is not None:
        assert getattr(before[0], field) != getattr(after[0], field)


@pytest.mark.parametrize(("method", "option"), REFUSED)
def test_an_option_of_another_method_is_refused_and_named(method: str, option: str) -> None:
    with pytest.raises(OptionError, match=f"{option}=.*: the method '{method}' does not take it"):
        Ranker(
            ScriptedBackend([]),
            method=method,
            **{option: OF_THE_RESULT[option] if option in OF_THE_RESULT else CHANGES[option][0]},
        )


@pytest.mark.parametrize(("method", "option"), sorted(NOT_TAKEN))
def test_an_option_that_a_method_cannot_follow_is_refused_and_named(method: str, option: str) -> None:
    with pytest.raises(OptionError, match=f"{option}={CHANGES[option][0]}: {method}"):
        Ranker(ScriptedBackend([]), method=method, **{option: CHANGES[option][0]})


def test_how_rankings_are_joined_changes_the_result_and_not_what_is_asked() -> None:
    assert asked(method="aggregate", fusion="borda") == asked(method="aggregate", fusion="rrf")
    assert asked(method="aggregate", listed=True) == asked(method="aggregate", listed=False)


@pytest.mark.parametrize("option", ["temperature", "top_p", "max_tokens", "seed"])
@pytest.mark.parametrize("method", [name for name in METHODS if name != "first_token"])
def test_a_sampling_value_arrives_as_it_is_in_every_request(option: str, method: str) -> None:
    value = CHANGES[option][0]
    assert {getattr(request, option) for request in asked(method=method, **{option: value})} == {value}


@pytest.mark.parametrize("option", ["temperature", "top_p", "max_tokens", "seed"])
@pytest.mark.parametrize(
    "needs",
    [{"stop_at": 2, "finish": "dranker"}, {"stop_at": 2, "finish": "iranker"}, {"shuffles": 3}, {"permute": True}],
    ids=lambda needs: "-".join(str(value) for value in needs.values()),
)
def test_a_sampling_value_arrives_in_strategies_within_strategies(option: str, needs: dict[str, Any]) -> None:
    value = CHANGES[option][0]
    requests = asked(method="iranker", style="compact", **needs, **{option: value})
    # The one decode of permute takes a token a label, whatever else is said.
    expected = {N - 1} if "permute" in needs and option == "max_tokens" else {value}
    assert {getattr(request, option) for request in requests} == expected


@pytest.mark.parametrize(
    ("method", "retries", "calls"),
    [
        ("iranker", 0, N - 1),
        ("iranker", 2, 3 * (N - 1)),
        ("dranker", 0, 1),
        ("dranker", 3, 4),
        ("tournament", 0, N - 1),
        ("tournament", 2, 3 * (N - 1)),
        ("best_first", 2, 3 * (N - 1)),
        ("setwise", 2, 3 * (N - 1)),
        ("window", 2, 3 * (N - 1)),
        ("pointwise", 2, 3 * N),
        ("first_token", 2, 3),
        ("cascade", 2, 2 * 3 * (N - 1)),
        ("aggregate", 2, 3 + 3 * (N - 1)),
    ],
)
def test_retries_count_the_further_attempts_of_each_step(method: str, retries: int, calls: int) -> None:
    assert len(asked(method=method, on_error="retry", retries=retries)) == calls


def test_a_template_of_ones_own_is_what_the_model_reads(tmp_path: Path) -> None:
    (tmp_path / "own.yaml").write_text(OWN_TEMPLATE, encoding="utf-8")
    (message,) = asked(template=tmp_path / "own.yaml")[0].messages
    assert message.content.startswith("MY OWN WORDS query A = candidate 0")


def test_a_token_budget_is_kept() -> None:
    for request in asked(token_budget=180):
        assert sum(len(message.content.split()) for message in request.messages) + request.max_tokens <= 180


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("temperature", -0.1),
        ("temperature", float("nan")),
        ("top_p", 0.0),
        ("top_p", 1.1),
        ("max_tokens", 0),
        ("retries", -1),
        ("token_budget", 0),
        ("style", "formal"),
        ("layout", "circle"),
        ("on_error", "ignore"),
        ("max_steps", 0),
        ("stop_at", 0),
        ("stop_at", -2),
        ("drop_per_step", 0),
        ("drop_per_step", -1),
        ("finish", "drunker"),
        ("shuffles", 0),
        ("block", 1),
        ("survivors", 1.0),
    ],
)
def test_a_value_that_cannot_be_used_is_refused_at_once_and_named(option: str, value: Any) -> None:
    method = next((name for name, entry in METHODS.items() if option in entry.options), "iranker")
    with pytest.raises(OptionError, match=str(value)):
        Ranker(ScriptedBackend([]), method=method, **{option: value})


def test_a_template_that_is_not_there_is_refused_at_once(tmp_path: Path) -> None:
    with pytest.raises(TemplateError, match=r"missing\.yaml' does not exist"):
        Ranker(ScriptedBackend([]), template=tmp_path / "missing.yaml")


def test_make_strategy_refuses_what_it_does_not_know() -> None:
    writer: Any = None
    with pytest.raises(OptionError, match="method='irankr' is not known; did you mean 'iranker'"):
        make_strategy("irankr", writer=writer)
    with pytest.raises(OptionError, match="option='temprature' is not known; did you mean 'temperature'"):
        make_strategy("iranker", writer=writer, temprature=1)
    with pytest.raises(OptionError, match="option='shufles' is not known; did you mean 'shuffles'"):
        make_strategy("dranker", writer=writer, shufles=2)
