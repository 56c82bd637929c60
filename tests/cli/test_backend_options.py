from __future__ import annotations

import datetime
from pathlib import Path
from typing import Any

import pytest
from command_line import Command
from toy_tasks import build_toy

from unified_ranker.backends import ScriptedBackend
from unified_ranker.cli.options import parse_pairs
from unified_ranker.errors import OptionError
from unified_ranker.model_settings import ModelSettings


@pytest.mark.parametrize(
    ("pair", "key", "value"),
    [
        ("base_url=http://127.0.0.1:8000/v1", "base_url", "http://127.0.0.1:8000/v1"),
        ("url=http://host/?a=b&c=d", "url", "http://host/?a=b&c=d"),
        ("tensor_parallel_size=2", "tensor_parallel_size", 2),
        ("tensor_parallel_size= 2 ", "tensor_parallel_size", 2),
        ("gpu_memory_utilization=0.5", "gpu_memory_utilization", 0.5),
        ("timeout=1e3", "timeout", "1e3"),
        ("timeout=1.0e+3", "timeout", 1000.0),
        ("logprobs=true", "logprobs", True),
        ("logprobs=no", "logprobs", False),
        ("revision=null", "revision", None),
        ("revision=", "revision", None),
        ("revision='17'", "revision", "17"),
        ("revision=2024-01-02", "revision", datetime.date(2024, 1, 2)),
        ("names=[a, 'b', 3]", "names", ["a", "b", 3]),
        ("override={a: {b: 1}}", "override", {"a": {"b": 1}}),
        ("model=org/name", "model", "org/name"),
        ("text=é 漢", "text", "é 漢"),
    ],
    ids=str,
)
def test_a_value_is_what_yaml_makes_of_it(pair: str, key: str, value: object) -> None:
    found = parse_pairs([pair], flag="--backend-option")
    assert found == {key: value}
    assert type(found[key]) is type(value)


def test_pairs_are_read_together_and_no_pair_is_none() -> None:
    assert parse_pairs(["a=1", "b=[2]", "c=x=y"], flag="-o") == {"a": 1, "b": [2], "c": "x=y"}
    assert parse_pairs([], flag="-o") == {}


@pytest.mark.parametrize(
    ("pairs", "words"),
    [
        (["base_url"], "-o 'base_url' is no key=value"),
        ([""], "-o '' is no key=value"),
        (["=5"], "-o '=5' is no key=value"),
        (["="], "-o '=' is no key=value"),
        (["a=1", "b"], "-o 'b' is no key=value"),
        (["a=1", "a=1"], "-o 'a=1': a is given twice"),
        (["a=1", "b=2", "a=null"], "-o 'a=null': a is given twice"),
        (["a=null", "a=1"], "-o 'a=1': a is given twice"),
        (["a=[1"], "-o 'a=[1': the value is no YAML"),
        (["a={b"], "-o 'a={b': the value is no YAML"),
        (["a=b: c: d"], "-o 'a=b: c: d': the value is no YAML"),
        (["a=@x"], "-o 'a=@x': the value is no YAML"),
        (["a=\x00"], "the value is no YAML"),
        (["a=1\n--- \n2"], "the value is no YAML"),
        (["a=!!python/object/apply:os.getcwd []"], "the value is no YAML"),
        (["a=*anchor"], "the value is no YAML"),
        (["a=="], "the value is no YAML"),
        (["revision=2024-13-45"], "the value is no YAML"),
        (["revision=0x_"], "the value is no YAML"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_what_is_no_pair_is_refused(pairs: list[str], words: str) -> None:
    with pytest.raises(OptionError) as caught:
        parse_pairs(pairs, flag="-o")
    assert words in str(caught.value)


@pytest.fixture
def loaded(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str, dict[str, Any]]]:
    """Return what backends are loaded with; each is a script."""
    found: list[tuple[str, str, dict[str, Any]]] = []

    def load(name: str, model: str, **options: Any) -> ScriptedBackend:
        found.append((name, model, options))
        backend = ScriptedBackend(lambda request: request.choices[-1])
        backend.settings = ModelSettings()  # type: ignore[attr-defined]
        return backend

    monkeypatch.setattr("unified_ranker.backends.load_backend", load)
    return found


GIVEN = ["--backend-option", "base_url=http://127.0.0.1:9/v1", "--backend-option", "retries=0"]
READ = {"base_url": "http://127.0.0.1:9/v1", "retries": 0}


def test_rank_hands_its_pairs_to_the_backend(command: Command, loaded: list[Any]) -> None:
    given = ["rank", "--query", "q", "--model", "some/model", "--backend", "openai", *GIVEN]
    result = command(*given, stdin="a\nb\n")
    assert result.code == 0, result.err
    assert loaded == [("openai", "some/model", READ)]


def test_a_pair_wins_over_an_option_of_the_same_name(command: Command, loaded: list[Any]) -> None:
    given = ["rank", "--query", "q", "--model", "m", "--dtype", "float32", "--device", "cpu"]
    result = command(*given, "--backend-option", "dtype=float16", stdin="a\nb\n")
    assert result.code == 0, result.err
    assert loaded == [("transformers", "m", {"dtype": "float16", "device": "cpu"})]


def test_bench_hands_its_pairs_to_the_backend(command: Command, loaded: list[Any], tmp_path: Path) -> None:
    data, model = build_toy(tmp_path / "data", "movie", test=[[1, 0, 0]]), tmp_path / "m"
    model.mkdir()
    given = ["--tasks", "movie", "--data", data, "--out", tmp_path / "run", "--model", model, "--backend", "openai"]
    result = command("bench", "run", *given, *GIVEN)
    assert result.code == 0, result.err
    assert loaded == [("openai", str(model), READ)]


def test_without_pairs_the_backend_gets_none(command: Command, loaded: list[Any]) -> None:
    assert command("rank", "--query", "q", "--model", "m", stdin="a\nb\n").code == 0
    assert loaded == [("transformers", "m", {})]


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (["--backend-option", "base_url"], "--backend-option 'base_url' is no key=value"),
        (["--backend-option", "a=[1"], "--backend-option 'a=[1': the value is no YAML"),
        (["--backend-option", "a=1", "--backend-option", "a=2"], "a is given twice"),
        (["--backend", "openai", "--backend-option", "nope=1"], "nope=1: backend='openai' does not take it"),
        (["--backend", "openai", "--dtype", "float32"], "dtype='float32': backend='openai' does not take it"),
        (["--backend-option", "base_url=x"], "base_url='x': backend='transformers' does not take it"),
        (["--backend", "openai", "--backend-option", "concurrency=0"], "concurrency=0 must be"),
        (["--backend", "openai", "--backend-option", "api=chta"], "did you mean 'chat'"),
        (["--backend", "openai", "--backend-option", "model=gpt"], "model='gpt'"),
        (["--backend", "openai", "--backend-option", "name=gpt"], "name='gpt'"),
        (["--backend", "openai", "--backend-option", "name_or_path=gpt"], "name_or_path='gpt'"),
        (["--backend", "openai", "--backend-option", "timeout=soon"], "timeout='soon'"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_cannot_be_used_is_told_in_one_line_with_exit_code_2(
    given: list[str], words: str, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "k")
    result = command("rank", "--query", "q", "--model", "some/model", *given, stdin="a\nb\n")
    assert words in result.complaint()


def test_a_missing_key_is_told_in_one_line(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("openai")
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    result = command("rank", "--query", "q", "--model", "gpt", "--backend", "openai", stdin="a\nb\n")
    assert "no key: set the environment variable OPENAI_API_KEY" in result.complaint()
