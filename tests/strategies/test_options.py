"""No option without an effect: each one changes what the backend is asked."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from unified_ranker import Ranker
from unified_ranker.backends import ScriptedBackend
from unified_ranker.errors import OptionError, TemplateError
from unified_ranker.exchange import Request
from unified_ranker.strategies import METHODS, Sampling, make_strategy

OWN_TEMPLATE = """
user: "MY OWN WORDS {query} {candidates} {instruction}"
candidate: "{label} = {text}"
instructions: {append: worst first, rounds: the worst, direct: best first}
"""


def asked(**options: Any) -> list[Request]:
    """Return what a ranking asks for, with the session's running number taken out."""
    from dataclasses import replace

    backend = ScriptedBackend(lambda request: "?")
    Ranker(backend, **options).rank("query", [f"candidate {i} " + "word " * 60 for i in range(4)])
    return [replace(request, session="s" if request.session else "") for request in backend.requests]


# An option's value, what else must be set for it to matter, and the field of the first request that it changes.
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
    "layout": ("rounds", {}, "session"),
    "max_steps": (2, {"style": "compact", "permute": True}, "draws"),
    "permute": (True, {"style": "compact"}, "draws"),
    "style": ("compact", {}, "messages"),
    "template": ("own.yaml", {}, "messages"),
    "token_budget": (150, {}, "messages"),
}
ONLY_ELIMINATION = {"layout", "unguided", "max_steps"}


def test_no_option_is_forgotten_here() -> None:
    own = {name for method in METHODS.values() for name in method.options}
    assert set(CHANGES) == {entry.name for entry in fields(Sampling)} | own | {"style", "template", "token_budget"}


@pytest.mark.parametrize("method", list(METHODS))
@pytest.mark.parametrize("option", list(CHANGES))
def test_an_option_changes_what_the_backend_is_asked(option: str, method: str, tmp_path: Path) -> None:
    if method != "iranker" and option in ONLY_ELIMINATION:
        pytest.skip("the other methods never restrict their replies and have one layout")
    value, needs, field = CHANGES[option]
    if option == "template":
        value = tmp_path / value
        value.write_text(OWN_TEMPLATE, encoding="utf-8")
    before, after = asked(method=method, **needs), asked(method=method, **needs, **{option: value})
    assert before != after
    if field is not None:
        assert getattr(before[0], field) != getattr(after[0], field)


@pytest.mark.parametrize("option", ["temperature", "top_p", "max_tokens", "seed"])
@pytest.mark.parametrize("method", list(METHODS))
def test_a_sampling_value_arrives_as_it_is_in_every_request(option: str, method: str) -> None:
    value = CHANGES[option][0]
    assert {getattr(request, option) for request in asked(method=method, **{option: value})} == {value}


@pytest.mark.parametrize(
    ("method", "retries", "calls"),
    [("iranker", 0, 3), ("iranker", 2, 9), ("dranker", 0, 1), ("dranker", 3, 4)],
)
def test_retries_count_the_further_attempts_of_each_step(method: str, retries: int, calls: int) -> None:
    assert len(asked(method=method, on_error="retry", retries=retries)) == calls


def test_a_template_of_ones_own_is_what_the_model_reads(tmp_path: Path) -> None:
    (tmp_path / "own.yaml").write_text(OWN_TEMPLATE, encoding="utf-8")
    (message,) = asked(template=tmp_path / "own.yaml")[0].messages
    assert message.content.startswith("MY OWN WORDS query A = candidate 0")


def test_a_token_budget_is_kept() -> None:
    for request in asked(token_budget=150):
        assert sum(len(message.content.split()) for message in request.messages) + request.max_tokens <= 150


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
    ],
)
def test_a_value_that_cannot_be_used_is_refused_at_once_and_named(option: str, value: Any) -> None:
    with pytest.raises(OptionError, match=str(value)):
        Ranker(ScriptedBackend([]), **{option: value})


def test_a_template_that_is_not_there_is_refused_at_once(tmp_path: Path) -> None:
    with pytest.raises(TemplateError, match=r"missing\.yaml' does not exist"):
        Ranker(ScriptedBackend([]), template=tmp_path / "missing.yaml")


def test_make_strategy_refuses_what_it_does_not_know() -> None:
    writer: Any = None
    with pytest.raises(OptionError, match="method='irankr' is not known; did you mean 'iranker'"):
        make_strategy("irankr", writer=writer)
    with pytest.raises(OptionError, match="option='temprature' is not known; did you mean 'temperature'"):
        make_strategy("iranker", writer=writer, temprature=1)
