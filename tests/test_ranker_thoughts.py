from __future__ import annotations

import io
import json
import math
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy
import pytest

from unified_ranker import Candidate, Ranker, RankingExample
from unified_ranker.backends import ScriptedBackend
from unified_ranker.cli import main as door
from unified_ranker.embedding import Embedder
from unified_ranker.errors import DataError, OptionError
from unified_ranker.model_settings import ModelSettings
from unified_ranker.prompts.thoughts import HEADING, Thought, ThoughtBook, write_thoughts
from unified_ranker.schema.jsonl import write_examples

Run = Callable[..., tuple[int, str, str]]


def by_angle(texts: Sequence[str]) -> Any:
    """Embed a text as the direction, in degrees, that its numbers add up to."""
    angles = [math.radians(sum(map(int, re.findall(r"\d+", text)))) for text in texts]
    return numpy.array([[math.cos(angle), math.sin(angle)] for angle in angles])


@pytest.fixture(autouse=True)
def _embedding(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Embedder, "load", staticmethod(lambda: by_angle))


THOUGHTS = [
    *(Thought("passage", f"g{angle}", f"at {angle}", f"thought {angle}") for angle in (80, 10, 60, 30)),
    Thought("routing", "r", "at 45", "by price"),
]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    write_thoughts(tmp_path / "thoughts.jsonl", THOUGHTS)
    return tmp_path / "thoughts.jsonl"


def shown(backend: ScriptedBackend) -> list[list[str]]:
    """Return the thoughts of each prompt."""
    found = []
    for request in backend.requests:
        before, heading, rest = request.messages[-1].content.partition(f"{HEADING}\n")
        assert not heading or before == ""
        found.append([line[2:] for line in rest.partition("\n\n")[0].splitlines()] if heading else [])
    return found


def last_choice(request: Any) -> str:
    return str(request.choices[-1])


def ranked(query: str = "at 0", *, domain: str = "passage", script: Any = last_choice, **options: Any) -> Any:
    backend = ScriptedBackend(script)
    Ranker(backend, **options).rank(query, ["a", "b", "c"], domain=domain)
    return shown(backend)


# ------------------------------------------------------------------------------------------------------------- options


@pytest.mark.parametrize("kind", [str, Path])
@pytest.mark.parametrize(
    ("count", "found"),
    [
        (None, ["thought 10", "thought 30", "thought 60"]),
        (1, ["thought 10"]),
        (2, ["thought 10", "thought 30"]),
        (9, ["thought 10", "thought 30", "thought 60", "thought 80"]),
    ],
)
def test_so_many_thoughts_of_a_file_stand_in_each_prompt(
    count: int | None, found: list[str], kind: Any, file: Path
) -> None:
    assert ranked(thoughts=kind(file), thought_count=count, layout="rounds") == [found, found]


def test_a_book_that_is_open_is_used_as_it_is() -> None:
    book = ThoughtBook(THOUGHTS, embed=by_angle, count=2)
    assert ranked("at 70", thoughts=book) == [["thought 80", "thought 60"]] * 2


@pytest.mark.parametrize("method", ["iranker", "dranker", "tournament"])
@pytest.mark.parametrize("style", ["natural", "compact"])
def test_every_method_and_style_shows_them(method: str, style: str, file: Path) -> None:
    def answer(request: Any) -> str:
        return str(request.choices[-1]) if request.choices else "A"

    found = ranked(thoughts=file, thought_count=1, method=method, style=style, script=answer)
    assert found and all(each == ["thought 10"] for each in found)


def test_a_template_of_ones_own_shows_them(file: Path, tmp_path: Path) -> None:
    (tmp_path / "own.yaml").write_text(
        "user: '{query} {candidates} {instruction}'\ncandidate: '({label}) {text}'\n"
        "instructions: {append: 'Worst first!'}\nlabel_separator: ' '\n",
        encoding="utf-8",
    )
    assert ranked(thoughts=file, thought_count=1, template=tmp_path / "own.yaml") == [["thought 10"]] * 2


@pytest.mark.parametrize(("domain", "found"), [("routing", ["by price"]), ("recommendation", [])])
def test_each_domain_has_its_own(domain: str, found: list[str], file: Path) -> None:
    assert ranked(domain=domain, thoughts=file) == [found, found]


def test_lists_of_a_batch_have_each_their_own_and_never_that_of_their_group(file: Path) -> None:
    backend = ScriptedBackend(last_choice)
    pair = (Candidate("x", "a"), Candidate("y", "b"))
    examples = [
        RankingExample("1", "at 0", pair, group="g10"),
        RankingExample("2", "at 61", pair, group="other"),
    ]
    list(Ranker(backend, thoughts=file, thought_count=1).rank_batch(examples))
    assert shown(backend) == [["thought 30"], ["thought 60"]]


def test_without_thoughts_no_prompt_speaks_of_them() -> None:
    assert ranked() == [[], []]


def test_where_the_budget_is_short_they_go_and_the_list_is_ranked_all_the_same(file: Path) -> None:
    backend = ScriptedBackend(last_choice)
    Ranker(backend, layout="rounds").rank("at 0", ["a", "b"])
    size = backend.text.count_prompt(backend.requests[0].messages)
    room = backend.requests[0].max_tokens
    ranker = Ranker(ScriptedBackend(last_choice), thoughts=file, token_budget=size + room, layout="rounds")
    assert len(ranker.rank("at 0", ["a", "b"])) == 2
    assert isinstance(ranker.backend, ScriptedBackend) and shown(ranker.backend) == [[]]


def test_a_loaded_model_takes_them_too(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    backend = ScriptedBackend(last_choice)
    backend.settings = ModelSettings()  # type: ignore[attr-defined]
    monkeypatch.setattr("unified_ranker.backends.load_backend", lambda name, model, **options: backend)
    Ranker.from_pretrained("folder", thoughts=file, thought_count=2).rank("at 0", ["a", "b"])
    assert shown(backend) == [["thought 10", "thought 30"]]


# -------------------------------------------------------------------------------------------------------------- errors


@pytest.mark.parametrize("thoughts", [None, ThoughtBook(THOUGHTS, embed=by_angle)], ids=["none", "a book"])
@pytest.mark.parametrize("count", [0, 3])
def test_a_count_without_a_file_is_refused(count: int, thoughts: ThoughtBook | None) -> None:
    with pytest.raises(OptionError, match=f"thought_count={count} goes with a file of thoughts"):
        ranked(thoughts=thoughts, thought_count=count)


@pytest.mark.parametrize("count", [0, -1, 1.5, True, "2"])
def test_a_count_that_is_none_is_refused(count: Any, file: Path) -> None:
    with pytest.raises(OptionError, match=r"thought_count=.* must be a whole number ≥ 1"):
        ranked(thoughts=file, thought_count=count)


def test_a_file_that_is_not_there_is_told_before_anything_is_ranked(tmp_path: Path) -> None:
    backend = ScriptedBackend(last_choice)
    with pytest.raises(DataError, match=r"gone\.jsonl' does not exist; make one with: unified-ranker bench thoughts"):
        Ranker(backend, thoughts=tmp_path / "gone.jsonl")
    assert backend.requests == []


# -------------------------------------------------------------------------------------------------------- command line


@pytest.fixture
def backend(monkeypatch: pytest.MonkeyPatch) -> ScriptedBackend:
    """Return the script that stands in for the model of the command line."""
    made = ScriptedBackend(last_choice)
    made.settings = ModelSettings()  # type: ignore[attr-defined]
    monkeypatch.setattr("unified_ranker.backends.load_backend", lambda name, model, **options: made)
    return made


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.setenv("COLUMNS", "500")

    def call(*arguments: str | Path, stdin: str = "a\nb\nc\n") -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["unified-ranker", *(str(argument) for argument in arguments)])
        monkeypatch.setattr(sys, "stdin", io.StringIO(stdin))
        capsys.readouterr()
        with pytest.raises(SystemExit) as stop:
            door.main()
            sys.exit(0)
        captured = capsys.readouterr()
        return int(stop.value.code or 0), captured.out, captured.err

    return call


@pytest.mark.parametrize(
    ("options", "found"),
    [
        ([], ["thought 10", "thought 30", "thought 60"]),
        (["--thought-count", "1"], ["thought 10"]),
    ],
)
def test_rank_puts_thoughts_into_its_prompts(
    options: list[str], found: list[str], run: Run, backend: ScriptedBackend, file: Path
) -> None:
    code, _, err = run("rank", "--query", "at 0", "--thoughts", file, *options)
    assert code == 0, err
    assert shown(backend) == [found, found]


def test_rank_puts_thoughts_into_the_prompts_of_a_file(
    run: Run, backend: ScriptedBackend, file: Path, tmp_path: Path
) -> None:
    pair = (Candidate("x", "a"), Candidate("y", "b"))
    write_examples(tmp_path / "lists.jsonl", [RankingExample(f"{angle}", f"at {angle}", pair) for angle in (0, 90)])
    given = ("--thoughts", file, "--thought-count", "1")
    code, _, err = run("rank", "--input", tmp_path / "lists.jsonl", "--output", tmp_path / "out.jsonl", *given)
    assert code == 0, err
    assert shown(backend) == [["thought 10"], ["thought 80"]]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--thought-count", "2"], "thought_count=2 goes with a file of thoughts"),
        (["--thoughts", "gone.jsonl"], "thoughts file 'gone.jsonl' does not exist"),
        (["--thoughts", "{file}", "--thought-count", "0"], "thought_count=0 must be a whole number"),
    ],
)
def test_rank_tells_what_cannot_be_used(
    options: list[str], words: str, run: Run, backend: ScriptedBackend, file: Path
) -> None:
    code, out, err = run("rank", "--query", "at 0", *(option.format(file=file) for option in options))
    assert (code, out) == (2, "")
    assert f"error: {words}" in err
    assert backend.requests == []


def test_prompt_show_renders_them(run: Run, file: Path, tmp_path: Path, tiny_model: Path) -> None:
    example = RankingExample("1", "at 0", (Candidate("x", "a"), Candidate("y", "b")))
    write_examples(tmp_path / "lists.jsonl", [example])
    given = ["prompt", "show", tmp_path / "lists.jsonl", "--model", tiny_model, "--json"]
    code, out, err = run(*given, "--thoughts", file, "--thought-count", "2")
    assert code == 0, err
    plain = json.loads(run(*given)[1])["messages"][-1]["content"]
    assert json.loads(out)["messages"][-1]["content"] == f"{HEADING}\n- thought 10\n- thought 30\n\n{plain}"
