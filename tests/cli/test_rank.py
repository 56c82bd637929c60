from __future__ import annotations

import io
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from inspect import signature
from pathlib import Path
from typing import Any

import pytest

from unified_ranker import ray_rank
from unified_ranker.cli import main as door
from unified_ranker.cli import rank as rank_command
from unified_ranker.ranker import Ranker
from unified_ranker.schema.jsonl import read_examples
from unified_ranker.schema.parquet import write_parquet
from unified_ranker.schema.types import Candidate, RankingExample

COLLECTION = signature(ray_rank.rank_collection).parameters
FRUIT = ["apple\n", "banana: yellow\n", "\n", "  cherry  \n"]


@dataclass
class Result:
    code: int
    out: str
    err: str


Run = Callable[..., Result]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tiny_model: Path) -> Run:
    """Return the command ``rank`` with the tiny model, run in this process."""

    def call(*arguments: str | Path, stdin: str = "", model: bool = True) -> Result:
        given = ["unified-ranker", "rank", *(str(argument) for argument in arguments)]
        monkeypatch.setattr(sys, "argv", given + (["--model", str(tiny_model)] if model else []))
        monkeypatch.setattr(sys, "stdin", io.StringIO(stdin))
        capsys.readouterr()
        with pytest.raises(SystemExit) as stop:
            door.main()
            sys.exit(0)
        captured = capsys.readouterr()
        return Result(int(stop.value.code or 0), captured.out, captured.err)

    return call


def write_lists(path: Path, count: int) -> list[str]:
    from unified_ranker.schema.jsonl import write_examples

    ids = [f"list{i}" for i in range(count)]
    write_examples(
        path,
        (
            RankingExample(
                id=id,
                query=f"query é {id}",
                candidates=tuple(Candidate(f"c{j}", f"text ü {i} {j}") for j in range(2 + i % 4)),
            )
            for i, id in enumerate(ids)
        ),
    )
    return ids


def read_lines(path: Path) -> list[dict[str, Any]]:
    text = path.read_text(encoding="utf-8")
    assert text.endswith("\n")
    return [json.loads(line) for line in text.split("\n")[:-1]]


def test_candidates_come_from_a_file(run: Run, tmp_path: Path) -> None:
    (tmp_path / "fruit.txt").write_text("".join(FRUIT), encoding="utf-8")
    result = run("--query", "red", "--candidates", tmp_path / "fruit.txt")
    assert result.code == 0, result.err
    rows = [line.split("\t") for line in result.out.splitlines()]
    assert [row[0] for row in rows] == ["1", "2", "3"]
    assert {(row[1], row[2]) for row in rows} == {("0", "apple"), ("1", "banana: yellow"), ("2", "cherry")}


def test_candidates_come_from_stdin_and_the_order_is_the_same(run: Run, tmp_path: Path) -> None:
    (tmp_path / "fruit.txt").write_text("".join(FRUIT), encoding="utf-8")
    from_file = run("--query", "red", "--candidates", tmp_path / "fruit.txt")
    assert run("--query", "red", stdin="".join(FRUIT)).out == from_file.out
    assert run("--query", "red", "--candidates", "-", stdin="".join(FRUIT)).out == from_file.out


def test_candidates_may_be_json_or_look_like_it(run: Run) -> None:
    lines = [
        '{"id": "x", "title": "Apple", "text": "a fruit"}',
        '"quoted text"',
        "{not json",
        '"so", she said',
        "17",
        "[A] first",
    ]
    result = run("--query", "red", "--json", stdin="\n".join(lines))
    found = {place["id"]: (place["title"], place["text"]) for place in json.loads(result.out)["ranking"]}
    assert found == {
        "x": ("Apple", "a fruit"),
        "1": ("", "quoted text"),
        "2": ("", "{not json"),
        "3": ("", '"so", she said'),
        "4": ("", "17"),
        "5": ("", "[A] first"),
    }


def test_json_is_one_object_on_stdout(run: Run) -> None:
    result = run("--query", "red", "--json", "--top-k", "2", stdin="".join(FRUIT))
    record = json.loads(result.out)
    assert [place["rank"] for place in record["ranking"]] == [1, 2]
    assert record["method"] == "iranker"
    assert len(record["steps"]) == 2


def test_trec_is_a_run_on_stdout(run: Run) -> None:
    rows = [line.split(" ") for line in run("--query", "red", "--trec", stdin="".join(FRUIT)).out.splitlines()]
    assert [row[:2] + row[3:4] + row[5:] for row in rows] == [
        ["query", "Q0", str(i), "unified-ranker"] for i in (1, 2, 3)
    ]


def test_options_reach_the_ranking(run: Run) -> None:
    def steps(*options: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = json.loads(run("--query", "red", "--json", *options, stdin="a\nb\nc\n").out)[
            "steps"
        ]
        return found

    assert len(steps()) == 2
    assert len(steps("--method", "dranker")) == 1
    assert len(steps("--unguided", "--max-tokens", "1", "--on-error", "retry", "--retries", "3")[0]["reply"]) <= 1
    assert steps("--unguided", "--on-error", "retry", "--retries", "3")[0]["attempts"] > 1
    assert steps("--seed", "1", "--temperature", "9") == steps("--seed", "1", "--temperature", "9")


def test_context_and_domain_reach_the_prompt(run: Run) -> None:
    def tokens(*options: str) -> int:
        record = json.loads(run("--query", "red", "--json", *options, stdin="a\nb\n").out)
        return int(record["usage"]["prompt_tokens"])

    plain = tokens("--domain", "recommendation")
    assert tokens("--domain", "routing") != plain
    assert tokens("--domain", "recommendation", "--context", "one", "--context", "another") > plain + len("oneanother")


def test_a_file_of_lists_becomes_a_file_of_rankings(run: Run, tmp_path: Path) -> None:
    ids = write_lists(tmp_path / "in.jsonl", 7)
    result = run("--input", tmp_path / "in.jsonl", "--output", tmp_path / "out.jsonl")
    assert (result.code, result.out) == (0, "")
    records = read_lines(tmp_path / "out.jsonl")
    assert [record["id"] for record in records] == ids
    assert [len(record["ranking"]) for record in records] == [2, 3, 4, 5, 2, 3, 4]


def test_progress_goes_to_stderr(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    write_lists(tmp_path / "in.jsonl", 3)
    result = run("--input", tmp_path / "in.jsonl", "--output", tmp_path / "out.jsonl")
    assert result.out == ""
    assert "3/3" in result.err


def without_time(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Leave out what differs from run to run, and from batch to batch by rounding."""
    return [{"id": record["id"], "ranking": record["ranking"]} for record in records]


def test_a_run_that_was_cut_off_is_resumed_wherever_it_stopped(run: Run, tmp_path: Path) -> None:
    source, output = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    ids = write_lists(source, 5)
    run("--input", source, "--output", output)
    whole, expected = output.read_bytes(), without_time(read_lines(output))
    ends = [i + 1 for i, byte in enumerate(whole) if byte == ord("\n")]
    inside_a_character = whole.index("ü".encode()) + 1
    for size in (0, 1, inside_a_character, ends[0], ends[1] - 1, ends[1] + 1, (ends[2] + ends[3]) // 2, len(whole) - 1):
        output.write_bytes(whole[:size])
        result = run("--input", source, "--output", output)
        assert result.code == 0, result.err
        assert [record["id"] for record in read_lines(output)] == ids
        assert without_time(read_lines(output)) == expected
        kept = whole[: max([0, *(end for end in ends if end <= size)])]
        assert output.read_bytes().startswith(kept)


def test_a_finished_run_is_left_as_it_is(run: Run, tmp_path: Path) -> None:
    write_lists(tmp_path / "in.jsonl", 3)
    run("--input", tmp_path / "in.jsonl", "--output", tmp_path / "out.jsonl")
    before = (tmp_path / "out.jsonl").read_bytes()
    assert run("--input", tmp_path / "in.jsonl", "--output", tmp_path / "out.jsonl").code == 0
    assert (tmp_path / "out.jsonl").read_bytes() == before


def assert_refused(result: Result, words: str) -> None:
    assert result.code == 2
    assert result.out == ""
    (line,) = (line for line in result.err.splitlines() if line.startswith("error: "))
    assert words in line


def test_an_output_of_other_lists_is_refused_and_left_alone(run: Run, tmp_path: Path) -> None:
    write_lists(tmp_path / "in.jsonl", 3)
    other = '{"id": "of another file", "ranking": []}\n'
    (tmp_path / "out.jsonl").write_text(other, encoding="utf-8")
    assert_refused(run("--input", tmp_path / "in.jsonl", "--output", tmp_path / "out.jsonl"), "of another file")
    assert (tmp_path / "out.jsonl").read_text(encoding="utf-8") == other


@pytest.mark.parametrize("line", ["nonsense", "[]", "{}", "17", '{"id": 3}'])
def test_an_output_that_is_no_ranking_is_refused_with_its_row(line: str, run: Run, tmp_path: Path) -> None:
    write_lists(tmp_path / "in.jsonl", 3)
    (tmp_path / "out.jsonl").write_text(line + "\n", encoding="utf-8")
    assert_refused(run("--input", tmp_path / "in.jsonl", "--output", tmp_path / "out.jsonl"), "out.jsonl, row 1")


def test_two_lists_with_the_same_id_are_refused(run: Run, tmp_path: Path) -> None:
    write_lists(tmp_path / "in.jsonl", 3)
    text = (tmp_path / "in.jsonl").read_text(encoding="utf-8")
    (tmp_path / "in.jsonl").write_text(text + text.split("\n")[1] + "\n", encoding="utf-8")
    result = run("--input", tmp_path / "in.jsonl", "--output", tmp_path / "out.jsonl")
    assert_refused(result, "two lists have the id 'list1'")


def test_a_malformed_list_is_refused_with_file_row_and_field(run: Run, tmp_path: Path) -> None:
    (tmp_path / "in.jsonl").write_text('{"id": "a", "query": "q"}\n', encoding="utf-8")
    result = run("--input", tmp_path / "in.jsonl", "--output", tmp_path / "out.jsonl")
    assert_refused(result, "in.jsonl, row 1: field 'candidates' is missing")


@pytest.mark.parametrize(
    ("arguments", "stdin", "words"),
    [
        ([], "", "give either --query"),
        (["--query", "q", "--input", "x"], "", "give either --query"),
        (["--input", "missing.jsonl"], "", "--input needs --output"),
        (["--input", "missing.jsonl", "--output", "o"], "", "'missing.jsonl' does not exist"),
        (["--query", "q", "--candidates", "missing.txt"], "", "'missing.txt' does not exist"),
        (["--query", "q"], "", "'candidates' is empty"),
        (["--query", "q", "--top-k", "3"], "a\nb\n", "top_k=3 must be between 1"),
        (["--query", "q", "--domain", "music"], "a\nb\n", "domain='music'"),
        (["--query", "q", "--method", "irankr"], "a\nb\n", "did you mean 'iranker'"),
        (["--query", "q", "--backend", "transformer"], "a\nb\n", "did you mean 'transformers'"),
        (["--query", "q", "--layout", "apend"], "a\nb\n", "did you mean 'append'"),
        (["--query", "q", "--dtype", "float31"], "a\nb\n", "did you mean 'float32'"),
        (["--query", "q", "--on-error", "rase"], "a\nb\n", "did you mean 'raise'"),
        (["--query", "q", "--temperature", "-1"], "a\nb\n", "temperature=-1.0 must be"),
        (["--query", "q", "--template", "missing.yaml"], "a\nb\n", "'missing.yaml' does not exist"),
        (["--query", "q"], '{"title": "no text"}\n', "field 'text' is missing"),
        (["--query", "q", "--trec"], '{"id": "two words", "text": "t"}\nb\n', "white space"),
    ],
)
def test_what_cannot_be_done_is_told_in_one_line_with_exit_code_2(
    arguments: list[str], stdin: str, words: str, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert_refused(run(*arguments, stdin=stdin), words)


def test_a_missing_model_is_told(run: Run) -> None:
    assert_refused(run("--query", "q", "--model", "/nowhere", stdin="a\nb\n", model=False), "'/nowhere' does not exist")


def test_an_output_in_a_missing_folder_is_told(run: Run, tmp_path: Path) -> None:
    write_lists(tmp_path / "in.jsonl", 2)
    assert_refused(run("--input", tmp_path / "in.jsonl", "--output", tmp_path / "no" / "out.jsonl"), "out.jsonl")


@pytest.mark.parametrize("kind", ["candidates", "input"])
def test_a_file_that_is_not_utf8_is_told(kind: str, run: Run, tmp_path: Path) -> None:
    path = tmp_path / "latin1.jsonl"
    path.write_bytes('{"id": "a", "query": "é", "candidates": []}\n'.encode("latin-1"))
    more = ["--query", "q"] if kind == "candidates" else ["--output", tmp_path / "out.jsonl"]
    assert_refused(run(f"--{kind}", path, *more), "latin1.jsonl")


def test_a_query_writes_to_the_output_that_is_named_or_says_that_it_does_not(run: Run, tmp_path: Path) -> None:
    result = run("--query", "q", "--output", tmp_path / "out.jsonl", stdin="a\nb\n")
    assert (tmp_path / "out.jsonl").exists() or (result.code == 2 and "--output" in result.err)


@pytest.mark.parametrize("option", [["--trec"], ["--domain", "routing"], ["--context", "before"]])
def test_an_option_without_an_effect_on_a_file_is_refused(option: list[str], run: Run, tmp_path: Path) -> None:
    # Each list of a file names its own domain and context, and the output is always JSON lines.
    write_lists(tmp_path / "in.jsonl", 2)
    result = run("--input", tmp_path / "in.jsonl", "--output", tmp_path / "out.jsonl", *option)
    assert_refused(result, option[0])


def write_parquet_lists(path: Path, count: int) -> list[str]:
    ids = write_lists(path.with_suffix(".jsonl"), count)
    write_parquet(path, read_examples(path.with_suffix(".jsonl")))
    return ids


def test_lists_of_parquet_are_ranked_as_those_of_json_lines(run: Run, tmp_path: Path) -> None:
    ids = write_parquet_lists(tmp_path / "in.parquet", 7)
    result = run("--input", tmp_path / "in.parquet", "--output", tmp_path / "of_parquet.jsonl")
    assert (result.code, result.out) == (0, "")
    run("--input", tmp_path / "in.jsonl", "--output", tmp_path / "of_lines.jsonl")
    found = without_time(read_lines(tmp_path / "of_parquet.jsonl"))
    assert [record["id"] for record in found] == ids
    assert found == without_time(read_lines(tmp_path / "of_lines.jsonl"))


def test_a_run_over_parquet_is_resumed_and_left_when_it_is_done(run: Run, tmp_path: Path) -> None:
    source, output = tmp_path / "in.parquet", tmp_path / "out.jsonl"
    ids = write_parquet_lists(source, 5)
    run("--input", source, "--output", output)
    whole = output.read_bytes()
    output.write_bytes(whole[: whole.index(b"\n") + 9])
    assert run("--input", source, "--output", output).code == 0
    assert [record["id"] for record in read_lines(output)] == ids
    assert output.read_bytes().startswith(whole[: whole.index(b"\n") + 1])
    done = output.read_bytes()
    assert run("--input", source, "--output", output).code == 0
    assert output.read_bytes() == done


def test_bad_parquet_is_refused_with_its_file_and_row(run: Run, tmp_path: Path) -> None:
    write_parquet_lists(tmp_path / "in.parquet", 2)
    double = list(read_examples(tmp_path / "in.jsonl"))
    write_parquet(tmp_path / "double.parquet", [*double, double[1]])
    given = ("--output", tmp_path / "out.jsonl")
    assert_refused(run("--input", tmp_path / "double.parquet", *given), "two lists have the id 'list1'")
    (tmp_path / "no.parquet").write_bytes(b"nonsense")
    assert_refused(run("--input", tmp_path / "no.parquet", *given), "no.parquet: not a parquet file")
    write_parquet(tmp_path / "bad.parquet", [double[0], RankingExample("x", "q", ())])
    assert_refused(run("--input", tmp_path / "bad.parquet", *given), "bad.parquet, row 2: field 'candidates' is empty")
    (tmp_path / "lists.csv").write_text("id\n", encoding="utf-8")
    assert_refused(run("--input", tmp_path / "lists.csv", *given), "expected .parquet or .jsonl")


@pytest.fixture
def ray_calls(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Return what was asked of Ray, which itself is left out."""
    found: list[dict[str, Any]] = []

    def collect(**given: Any) -> Iterator[str]:
        found.append(given)
        yield from ("a", "b")

    monkeypatch.setattr(ray_rank, "rank_collection", collect)
    return found


def test_every_option_reaches_ray(run: Run, ray_calls: list[dict[str, Any]], tmp_path: Path) -> None:
    own = {
        "--input": "lists",
        "--output": tmp_path / "out",
        "--engine": "ray",
        "--actors": "3",
        "--block": "17",
        "--gpus-per-actor": "0.5",
        "--cpus-per-actor": "2.5",
        "--ray-address": "auto",
        "--top-k": "4",
        "--concurrency": "5",
    }
    model = {
        "--model": "a folder",
        "--method": "tournament",
        "--option": "block=10",
        "--backend": "vllm",
        "--backend-option": "tensor_parallel_size=2",
        "--layout": "rounds",
        "--reasoning": None,
        "--temperature": "0.25",
        "--top-p": "0.75",
        "--max-tokens": "6",
        "--seed": "7",
        "--shuffle-seed": "8",
        "--on-error": "retry",
        "--retries": "9",
        "--unguided": None,
        "--style": "compact",
        "--template": "t.yaml",
        "--token-budget": "10",
        "--thoughts": "t.jsonl",
        "--thought-count": "2",
        "--revision": "main",
        "--dtype": "float16",
        "--device": "cuda:1",
        "--batch-tokens": "11",
    }
    given = {**own, **model}
    result = run(*(part for pair in given.items() for part in pair if part is not None), model=False)
    assert (result.code, result.out) == (0, ""), result.err
    assert ray_calls == [
        {
            "ranker": {
                "name_or_path": "a folder",
                "method": "tournament",
                "block": 10,
                "backend": "vllm",
                "backend_options": {"tensor_parallel_size": 2},
                "layout": "rounds",
                "reasoning": True,
                "temperature": 0.25,
                "top_p": 0.75,
                "max_tokens": 6,
                "seed": 7,
                "shuffle_seed": 8,
                "on_error": "retry",
                "retries": 9,
                "unguided": True,
                "style": "compact",
                "template": Path("t.yaml"),
                "token_budget": 10,
                "thoughts": Path("t.jsonl"),
                "thought_count": 2,
                "revision": "main",
                "dtype": "float16",
                "device": "cuda:1",
                "batch_tokens": 11,
            },
            "input": Path("lists"),
            "output": tmp_path / "out",
            "top_k": 4,
            "concurrency": 5,
            "actors": 3,
            "block": 17,
            "gpus_per_actor": 0.5,
            "cpus_per_actor": 2.5,
            "ray_address": "auto",
        }
    ]
    assert set(ray_calls[0]) == set(COLLECTION)
    options = {f"--{name.replace('_', '-')}" for name in signature(rank_command.rank).parameters}
    # The rest goes with a query.
    assert options - set(given) == {"--query", "--candidates", "--domain", "--context", "--trec", "--as-json"}


def test_ray_gets_what_was_given_and_nothing_else(run: Run, ray_calls: list[dict[str, Any]], tmp_path: Path) -> None:
    result = run("--engine", "ray", "--input", "lists", "--output", tmp_path, model=False)
    assert (result.code, result.out) == (0, ""), result.err
    (given,) = ray_calls
    ranker = given.pop("ranker")
    assert ranker["name_or_path"] is None
    assert set(ranker) <= set(signature(Ranker.from_pretrained).parameters) | {
        "reasoning", "temperature", "top_p", "on_error", "retries", "unguided",
    }  # fmt: skip
    # What was not given is left to the engine.
    assert given == {"input": Path("lists"), "output": tmp_path, "top_k": None, "concurrency": 64}


def test_ray_loads_no_model_here(
    run: Run, ray_calls: list[dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def load(**_: Any) -> Ranker:
        raise AssertionError("a model was loaded")

    monkeypatch.setattr(Ranker, "from_pretrained", load)
    assert run("--engine", "ray", "--input", "lists", "--output", tmp_path / "out").code == 0
    assert len(ray_calls) == 1


def test_progress_of_ray_goes_to_stderr(
    run: Run, ray_calls: list[dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    result = run("--engine", "ray", "--input", "lists", "--output", tmp_path / "out")
    assert result.out == ""
    assert "ranking" in result.err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--query", "q", "--engine", "ray"], "--engine ray goes with --input and --output"),
        (["--input", "in.jsonl", "--engine", "ray"], "--engine ray needs --output FOLDER"),
        (["--input", "in.jsonl", "--output", "in.jsonl", "--engine", "ray"], "--engine ray needs --output FOLDER"),
        (["--input", "in.jsonl", "--output", "o", "--engine", "rya"], "engine='rya' is not known; did you mean 'ray'"),
        (["--query", "q", "--engine", "dask"], "engine='dask' is not known"),
        (["--input", "missing", "--output", "o", "--engine", "ray"], "--input 'missing' does not exist"),
        (["--input", "empty", "--output", "o", "--engine", "ray"], "found none"),
        (["--input", "in.jsonl", "--output", "o", "--engine", "ray", "--actors", "0"], "actors=0 must be ≥ 1"),
        (["--input", "in.jsonl", "--output", "o", "--engine", "ray", "--block", "0"], "block=0 must be ≥ 1"),
        (["--input", "in.jsonl", "--output", "o", "--engine", "ray", "--trec"], "--trec goes with --query"),
        (["--input", "in.jsonl", "--output", "o", "--engine", "ray", "--option", "x"], "--option 'x' is no key=value"),
    ],
)
def test_what_ray_cannot_do_is_told_in_one_line(
    arguments: list[str], words: str, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "ray", None)
    write_lists(tmp_path / "in.jsonl", 2)
    (tmp_path / "empty").mkdir()
    before = (tmp_path / "in.jsonl").read_bytes()
    assert_refused(run(*arguments, stdin="a\nb\n"), words)
    assert not (tmp_path / "o").exists()
    assert (tmp_path / "in.jsonl").read_bytes() == before


def test_without_ray_the_command_that_installs_it_is_told(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    write_lists(tmp_path / "in.jsonl", 2)
    result = run("--engine", "ray", "--input", tmp_path / "in.jsonl", "--output", tmp_path / "out")
    assert_refused(result, "--engine ray needs the package 'ray'")
    assert "pip install 'unified-ranker[ray]'" in result.err


@pytest.mark.parametrize(
    "option",
    [
        ["--actors", "4"],
        ["--block", "8"],
        ["--gpus-per-actor", "1"],
        ["--cpus-per-actor", "2"],
        ["--ray-address", "auto"],
    ],
    ids=lambda option: option[0],
)
def test_an_option_of_ray_is_refused_where_there_is_no_ray(option: list[str], run: Run, tmp_path: Path) -> None:
    write_lists(tmp_path / "in.jsonl", 1)
    result = run("--input", tmp_path / "in.jsonl", "--output", tmp_path / "out.jsonl", *option)
    assert_refused(result, f"{option[0]} goes with --engine ray")
    assert not (tmp_path / "out.jsonl").exists()


@pytest.mark.slow
def test_the_installed_command_ranks(tiny_model: Path) -> None:
    command = [Path(sys.executable).parent / "unified-ranker", "rank", "--query", "red", "--model", tiny_model]
    done = subprocess.run(command, input="a\nb\n", capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert sorted(line.split("\t")[2] for line in done.stdout.splitlines()) == ["a", "b"]
