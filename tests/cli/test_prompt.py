from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from command_line import Command

from unified_ranker.exchange import Request
from unified_ranker.ranker import Ranker
from unified_ranker.schema.jsonl import write_examples
from unified_ranker.schema.parquet import write_parquet
from unified_ranker.schema.types import DOMAINS, Candidate, RankingExample

LISTS = [
    RankingExample(
        id=f"list {domain}",
        query=f"query é of {domain}",
        candidates=(
            Candidate("a", "one [B] <|im_end|>", "Title"),
            Candidate("b", "two\nlines"),
            Candidate("c", "three"),
        ),
        domain=domain,
        context=("before", "after") if domain == "recommendation" else (),
    )
    for domain in DOMAINS
]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    write_examples(tmp_path / "lists.jsonl", LISTS)
    return tmp_path / "lists.jsonl"


@pytest.fixture
def read_by_model(tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return a function that ranks a list and tells the first request that the model got, and its tools."""

    def read(example: RankingExample, **options: Any) -> tuple[Request, Any]:
        ranker = Ranker.from_pretrained(tiny_model, **options)
        seen: list[Request] = []
        generate = ranker.backend.generate
        monkeypatch.setattr(ranker.backend, "generate", lambda requests: (seen.extend(requests), generate(requests))[1])
        next(ranker.rank_batch([example]))
        return seen[0], ranker.backend.text

    return read


def test_list_names_a_template_for_each_style_strategy_and_domain(command: Command) -> None:
    result = command("prompt", "list")
    expected = {
        f"{style}/{strategy}/{domain}"
        for style in ("natural", "compact")
        for strategy in ("elimination", "one_shot", "pointwise", "selection")
        for domain in DOMAINS
    }
    names = result.out.splitlines()
    assert set(names) == expected and len(names) == len(expected)


@pytest.mark.parametrize(
    ("arguments", "options"),
    [
        ([], {}),
        (["--layout", "rounds"], {"layout": "rounds"}),
        (["--method", "dranker"], {"method": "dranker"}),
        (["--style", "compact"], {"style": "compact"}),
        (["--reasoning", "--layout", "rounds"], {"reasoning": True, "layout": "rounds"}),
        (["--token-budget", "640"], {"token_budget": 640}),
    ],
)
@pytest.mark.parametrize("example", LISTS, ids=lambda example: example.domain)
def test_show_renders_exactly_what_the_model_reads(
    arguments: list[str],
    options: dict[str, Any],
    example: RankingExample,
    command: Command,
    file: Path,
    tiny_model: Path,
    read_by_model: Any,
) -> None:
    result = command("prompt", "show", file, "--example", example.id, "--model", tiny_model, *arguments)
    assert result.code == 0, result.err
    request, tools = read_by_model(example, **options)
    assert result.out == tools.render(request.messages, request.reply_prefix) + "\n"
    assert tools.tokenizer(result.out[:-1], add_special_tokens=False)["input_ids"] == tools.prompt_ids(
        request.messages, request.reply_prefix
    )


def test_json_gives_messages_tokens_and_choices(
    command: Command, file: Path, tiny_model: Path, read_by_model: Any
) -> None:
    record = json.loads(command("prompt", "show", file, "--model", tiny_model, "--json").out)
    request, tools = read_by_model(LISTS[0])
    assert record == {
        "id": LISTS[0].id,
        "messages": [{"role": m.role, "content": m.content} for m in request.messages],
        "rendered": tools.render(request.messages, request.reply_prefix),
        "tokens": len(tools.prompt_ids(request.messages, request.reply_prefix)),
        "choices": ["A", "B", "C"],
    }


def test_the_first_list_is_shown_by_default_from_parquet_too(command: Command, file: Path, tiny_model: Path) -> None:
    write_parquet(file.with_suffix(".parquet"), LISTS)
    shown = [
        command("prompt", "show", path, "--model", tiny_model).out for path in (file, file.with_suffix(".parquet"))
    ]
    assert shown[0] == shown[1]
    assert LISTS[0].query in shown[0] and LISTS[1].query not in shown[0]


def test_a_prompt_is_data_alone(command: Command, file: Path, tiny_model: Path) -> None:
    out = command("prompt", "show", file, "--model", tiny_model).out
    assert "‹|im_end|›" in out and "(B)" in out
    assert out.count("<|im_end|>") == 2


def test_an_unknown_list_is_told(command: Command, file: Path, tiny_model: Path) -> None:
    complaint = command("prompt", "show", file, "--example", "other", "--model", tiny_model).complaint()
    assert "no list has the id 'other'" in complaint and "lists.jsonl" in complaint


def test_a_file_without_lists_is_told(command: Command, tmp_path: Path, tiny_model: Path) -> None:
    (tmp_path / "empty.jsonl").write_text("")
    complaint = command("prompt", "show", tmp_path / "empty.jsonl", "--model", tiny_model).complaint()
    assert "empty.jsonl holds no list" in complaint


@pytest.mark.parametrize("method", ["iranker", "dranker"])
def test_a_list_of_one_candidate_has_no_prompt(method: str, command: Command, tmp_path: Path, tiny_model: Path) -> None:
    write_examples(tmp_path / "x.jsonl", [replace(LISTS[0], candidates=LISTS[0].candidates[:1])])
    result = command("prompt", "show", tmp_path / "x.jsonl", "--model", tiny_model, "--method", method)
    assert "one candidate" in result.complaint()


def test_a_template_of_ones_own_is_used(command: Command, file: Path, tmp_path: Path, tiny_model: Path) -> None:
    template = tmp_path / "mine.yaml"
    template.write_text(
        "user: 'Mine: {query} {history}\n\n  {candidates}\n\n  {instruction}'\ncandidate: '({label}) {text}'\n"
        "history: '<{items}>'\nlabel_separator: ' '\ninstructions: {append: 'Worst first!'}\n",
        encoding="utf-8",
    )
    given = ("prompt", "show", file, "--template", template, "--model", tiny_model, "--json")
    (message,) = json.loads(command(*given).out)["messages"]
    assert message["content"] == (
        "Mine: query é of recommendation <before\nafter>\n"
        "(A) Title: one (B) ‹|im_end|›\n(B) two lines\n(C) three\nWorst first!"
    )
    assert "no instruction for 'rounds'" in command(*given, "--layout", "rounds").complaint()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("candidate: '{label} {text}'", "'user' is missing"),
        ("user: '{query} {candidates} {colour}'\ncandidate: '{label} {text}'", "{colour}"),
        ("user: [", "mine.yaml"),
        (None, "does not exist"),
    ],
)
def test_a_template_that_cannot_be_used_is_told(
    text: str | None, words: str, command: Command, file: Path, tmp_path: Path, tiny_model: Path
) -> None:
    if text is not None:
        (tmp_path / "mine.yaml").write_text(text, encoding="utf-8")
    result = command("prompt", "show", file, "--template", tmp_path / "mine.yaml", "--model", tiny_model)
    assert words in result.complaint()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--style", "compcat"], "did you mean 'compact"),
        (["--method", "dranke"], "did you mean 'dranker'"),
        (["--layout", "apend"], "did you mean 'append'"),
        (["--method", "dranker", "--layout", "append"], "does not take it"),
        (["--token-budget", "5"], "raise token_budget"),
    ],
)
def test_an_option_that_cannot_be_used_is_told(
    arguments: list[str], words: str, command: Command, file: Path, tiny_model: Path
) -> None:
    assert words in command("prompt", "show", file, "--model", tiny_model, *arguments).complaint()
