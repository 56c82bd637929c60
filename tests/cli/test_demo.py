from __future__ import annotations

from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
from command_line import Command
from toy_tasks import toy_list
from unified_ranker.tasks.registry import task_named

from unified_ranker.backends import ScriptedBackend
from unified_ranker.cli import demo, options
from unified_ranker.exchange import Request
from unified_ranker.ranker import Ranker
from unified_ranker.schema.types import DOMAINS, Candidate, RankingExample

EMBEDDED = Path(str(files("unified_ranker.embedded"))) / "model.safetensors"

Script = Callable[[Request], str]


def last(request: Request) -> str:
    return request.choices[-1]


@pytest.fixture
def scripted(monkeypatch: pytest.MonkeyPatch) -> Callable[[Script], None]:
    """Let a script stand for the model."""

    def stand_in(script: Script) -> None:
        monkeypatch.setattr(options, "load_ranker", lambda model, **given: Ranker(ScriptedBackend(script), **given))

    return stand_in


def rendered(table: Any) -> str:
    from rich.console import Console

    console = Console(width=300)
    with console.capture() as capture:
        console.print(table)
    return capture.get()


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("│").split("│")]


def test_the_lists_of_the_demo_are_valid_and_one_of_each_domain() -> None:
    examples = demo.written()
    assert [example.domain for example in examples] == list(DOMAINS)
    assert len({example.id for example in examples}) == 3
    for example in examples:
        assert task_named(example.task).domain == example.domain
        grades = [example.grade(c.id) for c in example.candidates]
        assert grades.count(max(grades)) == 1 and max(grades) > 0


def test_the_references_of_the_demo_do_not_stand_in_one_place() -> None:
    places = []
    for example in demo.written():
        grades = [example.grade(c.id) for c in example.candidates]
        places.append(grades.index(max(grades)))
    assert len(set(places)) > 1


def test_three_lists_are_ranked_by_a_model(command: Command, tiny_model: Path) -> None:
    result = command("demo", "--model", tiny_model)
    assert result.code == 0, result.err
    assert "Lists written for this demo" in result.out
    for example in demo.written():
        assert example.query in result.out
        assert f"of {len(example.candidates)} (reciprocal rank" in result.out
        for candidate in example.candidates:
            assert (candidate.title or candidate.text)[:60] in result.out
    assert result.out.count("0 repaired, 0 failed") == 3
    assert "after: Star Wars: Episode IV" in result.out


def test_each_step_stands_beside_the_candidate_that_left(command: Command, scripted: Callable[..., None]) -> None:
    scripted(last)
    out = command("demo").out
    for example in demo.written():
        names = [(candidate.title or candidate.text)[:60].strip() for candidate in example.candidates]
        rows = [cells(line) for line in out.splitlines() if line.startswith("│") and cells(line)[1] in names]
        assert [row[1] for row in rows] == names
        n = len(names)
        assert [row[0] for row in rows] == [str(place) for place in range(1, n + 1)]
        assert [row[2] for row in rows] == ["stays", *(str(step) for step in range(n - 1, 0, -1))]
        assert [len(row[3]) for row in rows] == [n, *range(n - 1, 0, -1)]
        starred = [row[1] for row in rows if row[4].startswith("★")]
        best = max(example.candidates, key=lambda c: example.grade(c.id))
        assert starred == [(best.title or best.text)[:60].strip()]


def test_the_summary_says_where_the_reference_came_out_and_what_it_cost() -> None:
    example = toy_list("x", [0, 0, 1, 0])
    (ranking,) = Ranker(ScriptedBackend(last), method="iranker").rank_batch([example])
    text = demo.summary(example, ranking)
    assert "place 3 of 4 (reciprocal rank 0.33; random order 0.52)" in text
    assert f"3 steps, {ranking.usage.prompt_tokens} prompt tokens" in text
    assert "0 repaired, 0 failed" in text


def test_all_that_share_the_best_grade_are_starred() -> None:
    example = toy_list("x", [3, 1, 3, 0])
    (ranking,) = Ranker(ScriptedBackend(last), method="iranker").rank_batch([example])
    rows = [cells(line) for line in rendered(demo.draw(example, ranking)).splitlines() if line.startswith("│")]
    assert [row[4] for row in rows] == ["★ 3", "1", "★ 3", ""]


def test_a_list_without_a_reference_is_shown_without_a_star() -> None:
    example = toy_list("x", [0, 0, 0])
    (ranking,) = Ranker(ScriptedBackend(last), method="iranker").rank_batch([example])
    assert "★" not in rendered(demo.draw(example, ranking))
    assert "3" in demo.summary(example, ranking)


def test_texts_are_shown_as_they_are_and_not_as_markup(
    command: Command, scripted: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    example = RankingExample(
        id="x",
        query="[/red] query [bold]",
        candidates=(Candidate("a", "x", "[/b] odd [red]title"), Candidate("b", "plain [dim]text")),
        context=("[/i] before [link]",),
        domain="recommendation",
        relevance={"a": 1},
    )
    scripted(last)
    monkeypatch.setattr(demo, "written", lambda: [example])
    out = command("demo").out
    for text in (example.query, example.context[0], "[/b] odd [red]title", "plain [dim]text"):
        assert text in out


def test_with_raw_data_the_lists_are_drawn_from_the_test_splits(
    command: Command, scripted: Callable[..., None], raw: Path
) -> None:
    scripted(last)
    result = command("demo", "--data-dir", raw)
    assert result.code == 0, result.err
    assert "movie, router-balance, passage-9" in result.out and str(raw) in result.out
    for example in demo.drawn(raw, 1):
        assert example.query in result.out
        assert (example.candidates[0].title or example.candidates[0].text)[:60] in result.out


def test_the_variable_names_the_raw_data_too(
    command: Command, scripted: Callable[..., None], raw: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scripted(last)
    by_option = command("demo", "--data-dir", raw).out
    monkeypatch.setenv("UNIFIED_RANKER_DATA", str(raw))
    by_variable = command("demo").out
    assert [line for line in by_variable.splitlines() if " ms" not in line] == [
        line for line in by_option.splitlines() if " ms" not in line
    ]


def test_a_seed_draws_test_lists_of_each_domain_again_and_another_seed_others(raw: Path) -> None:
    first, again, other = demo.drawn(raw, 1), demo.drawn(raw, 1), demo.drawn(raw, 2)
    assert first == again
    assert first != other
    for examples in (first, other):
        assert [example.domain for example in examples] == list(DOMAINS)
        assert [example.task for example in examples] == list(demo.DRAWN)
        assert {example.split for example in examples} == {"test"}


def test_missing_raw_data_is_told(command: Command, scripted: Callable[..., None], tmp_path: Path) -> None:
    scripted(last)
    assert "Get it from" in command("demo", "--data-dir", tmp_path).complaint()


def test_without_the_embedded_model_another_is_asked_for(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from unified_ranker import model_settings

    monkeypatch.setattr(model_settings, "files", lambda package: tmp_path)
    assert "no embedded model" in command("demo").complaint()


@pytest.mark.skipif(not EMBEDDED.is_file(), reason="the embedded model is not there")
def test_the_embedded_model_ranks_without_a_failed_step(command: Command) -> None:
    result = command("demo")
    assert result.code == 0, result.err
    assert result.out.count("0 repaired, 0 failed") == 3
    assert result.out.count("★ is the reference answer") == 3
