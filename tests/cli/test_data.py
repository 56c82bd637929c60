from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from command_line import Command
from unified_ranker.tasks import ALL_TASKS, TASKS

from unified_ranker.schema.jsonl import example_to_dict, read_examples, write_examples
from unified_ranker.schema.parquet import read_parquet, write_parquet
from unified_ranker.schema.types import SPLITS, Candidate, RankingExample

WITHOUT_TRAINING = ("trec-dl-2019", "trec-dl-2020")


def lists(count: int = 5) -> list[RankingExample]:
    return [
        RankingExample(
            id=f"list{n}",
            query=f"query é {n}",
            candidates=(Candidate("a", "text of a", "Title of a"), Candidate("b c", "x" * 100)),
            task="passage-5",
            context=("before", "after"),
            relevance={"a": 0.5, "b c": 2},
        )
        for n in range(count)
    ]


@pytest.fixture(params=["parquet", "jsonl"])
def file(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    path = tmp_path / f"lists.{request.param}"
    (write_parquet if request.param == "parquet" else write_examples)(path, lists())
    return path


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("│┃").replace("┃", "│").split("│")]


def test_list_names_every_task_with_its_sources_and_licences(command: Command) -> None:
    rows = [cells(line) for line in command("data", "list").out.splitlines() if line.startswith("│")]
    expected = [
        [task.name, task.domain, task.title, edition, source.title, source.licence]
        for task in TASKS.values()
        for edition, sources in task.sources.items()
        for source in sources
    ]
    assert rows == expected
    assert {row[0] for row in rows} == set(ALL_TASKS)
    assert all(all(row) for row in rows)


def test_list_as_json_says_where_to_get_each_source(command: Command) -> None:
    rows = json.loads(command("data", "list", "--json").out)
    assert {row["task"] for row in rows} == set(ALL_TASKS)
    assert all(row["url"].startswith("http") and row["licence"] and row["source"] for row in rows)
    assert {(row["task"], row["edition"]) for row in rows} == {
        (name, edition) for name in ALL_TASKS for edition in ("paper", "open")
    }


def test_list_keeps_each_task_on_a_line_of_its_own_where_there_is_no_terminal(
    command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("COLUMNS")
    out = command("data", "list").out
    assert all(name in out for name in ALL_TASKS)


def test_build_writes_three_splits_and_a_card(command: Command, raw: Path, tmp_path: Path) -> None:
    result = command("data", "build", "passage-5", "--data-dir", raw, "--out", tmp_path / "out")
    assert result.code == 0, result.err
    folder = tmp_path / "out" / "passage-5"
    assert {path.name for path in folder.iterdir()} == {*(f"{split}.parquet" for split in SPLITS), "card.json"}
    card = json.loads((folder / "card.json").read_text(encoding="utf-8"))
    found = {split: list(read_parquet(folder / f"{split}.parquet")) for split in SPLITS}
    assert {split: card["splits"][split]["lists"] for split in SPLITS} == {s: len(e) for s, e in found.items()}
    header, row = (cells(line) for line in result.out.splitlines() if line[0] in "┃│")
    shown = dict(zip(header, row, strict=True))
    assert shown["task"] == "passage-5"
    assert [shown[split] for split in SPLITS] == [str(len(found[split])) for split in SPLITS]
    assert shown["candidates"] == "5.0"
    assert shown["random MRR"] == f"{(1 + 1 / 2 + 1 / 3 + 1 / 4 + 1 / 5) / 5:.4f}"
    for source in card["sources"]:
        assert source["title"] in shown["sources"] and source["licence"] in shown["licence"]


def test_build_prints_the_cards_as_json(command: Command, raw: Path, tmp_path: Path) -> None:
    given = ("data", "build", "movie", "router-cost", "--data-dir", raw, "--out", tmp_path, "--json")
    cards = json.loads(command(*given).out)
    assert [card["task"] for card in cards] == ["movie", "router-cost"]
    for card in cards:
        assert card == json.loads((tmp_path / card["task"] / "card.json").read_text(encoding="utf-8"))


def test_all_builds_the_nine_and_both_trec_tests(command: Command, raw: Path, tmp_path: Path) -> None:
    result = command("data", "build", "--all", "--data-dir", raw, "--out", tmp_path)
    assert result.code == 0, result.err
    rows = [cells(line) for line in result.out.splitlines() if line.startswith("│")]
    assert [row[0] for row in rows] == list(ALL_TASKS)
    for name in ALL_TASKS:
        for split in SPLITS:
            found = list(read_parquet(tmp_path / name / f"{split}.parquet"))
            assert bool(found) != (name in WITHOUT_TRAINING and split != "test")
            assert all((example.task, example.split) == (name, split) for example in found)


def test_the_paper_edition_is_built_where_it_is_asked_for(command: Command, raw: Path, tmp_path: Path) -> None:
    given = ("data", "build", "movie", "--edition", "paper", "--data-dir", raw, "--out", tmp_path, "--json")
    (card,) = json.loads(command(*given).out)
    assert card["edition"] == "paper"
    assert card["sources"][0]["title"] == TASKS["movie"].sources["paper"][0].title


@pytest.mark.parametrize("given", [[], ["--all", "movie"]], ids=["neither", "both"])
def test_both_or_neither_of_names_and_all_is_refused(
    given: list[str], command: Command, raw: Path, tmp_path: Path
) -> None:
    complaint = command("data", "build", *given, "--data-dir", raw, "--out", tmp_path / "out").complaint()
    assert "--all" in complaint
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (["movie", "musik"], "did you mean 'music'"),
        (["movie", "--edition", "opn"], "did you mean 'open'"),
        (["movie", "--negatives", "unifrom"], "did you mean 'uniform'"),
        (["movie", "--limit", "0"], "limit=0"),
        (["movie", "--lists-per-group", "0"], "lists_per_group=0"),
    ],
)
def test_an_option_that_cannot_be_used_is_told_before_anything_is_built(
    given: list[str], words: str, command: Command, raw: Path, tmp_path: Path
) -> None:
    complaint = command("data", "build", *given, "--data-dir", raw, "--out", tmp_path / "out").complaint()
    assert words in complaint
    assert not (tmp_path / "out").exists()


def built(command: Command, raw: Path, out: Path, *options: str) -> tuple[dict[str, Any], list[RankingExample]]:
    (card,) = json.loads(command("data", "build", "movie", "--data-dir", raw, "--out", out, "--json", *options).out)
    examples = [example for split in SPLITS for example in read_parquet(out / "movie" / f"{split}.parquet")]
    return card, examples


def test_building_twice_gives_the_same_bytes(command: Command, raw: Path, tmp_path: Path) -> None:
    built(command, raw, tmp_path / "a")
    built(command, raw, tmp_path / "b")
    for path in (tmp_path / "a" / "movie").iterdir():
        assert path.read_bytes() == (tmp_path / "b" / "movie" / path.name).read_bytes()


def test_options_reach_the_build(command: Command, raw: Path, tmp_path: Path) -> None:
    plain_card, plain = built(command, raw, tmp_path)
    seed_card, seeded = built(command, raw, tmp_path, "--seed", "7")
    assert (plain_card["seed"], seed_card["seed"]) == (42, 7)
    assert seeded != plain
    popular_card, popular = built(command, raw, tmp_path, "--negatives", "popularity")
    assert (plain_card["negatives"], popular_card["negatives"]) == ("uniform", "popularity")
    assert [example.context for example in popular] == [example.context for example in plain]
    assert popular != plain
    _, single = built(command, raw, tmp_path, "--lists-per-group", "1")
    groups = [example.group for example in single]
    assert len(set(groups)) == len(groups) < len(plain)
    limited_card, _ = built(command, raw, tmp_path, "--limit", "2")
    assert [limited_card["splits"][split]["lists"] for split in SPLITS] == [2, 2, 2]


def test_the_variable_names_the_data_directory(
    command: Command, raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UNIFIED_RANKER_DATA", str(raw))
    result = command("data", "build", "passage-7", "--out", tmp_path)
    assert result.code == 0, result.err
    assert (tmp_path / "passage-7" / "card.json").is_file()


def test_the_option_goes_before_the_variable(
    command: Command, raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UNIFIED_RANKER_DATA", str(tmp_path / "nowhere"))
    assert "nowhere" in command("data", "build", "passage-7", "--out", tmp_path).complaint()
    assert command("data", "build", "passage-7", "--data-dir", raw, "--out", tmp_path).code == 0


@pytest.mark.parametrize("name", ALL_TASKS)
def test_a_missing_source_is_told_with_where_to_get_it(name: str, command: Command, tmp_path: Path) -> None:
    complaint = command("data", "build", name, "--data-dir", tmp_path, "--out", tmp_path / "out").complaint()
    assert TASKS[name].sources["open"][0].url in complaint
    assert "--data-dir" in complaint


def test_without_a_data_directory_both_ways_to_give_one_are_named(command: Command, tmp_path: Path) -> None:
    complaint = command("data", "build", "movie", "--out", tmp_path).complaint()
    assert "--data-dir" in complaint and "UNIFIED_RANKER_DATA" in complaint


def test_show_prints_the_first_lists_with_grades_and_titles(command: Command, file: Path) -> None:
    out = command("data", "show", file, "--rows", "2").out
    lines = out.splitlines()
    assert lines[:6] == [
        "list0  (passage-5, passage, test)",
        "  query: query é 0",
        "  context: before",
        "  context: after",
        "    0.5  a  Title of a",
        f"      2  b c  {'x' * 80}",
    ]
    assert len(lines) == 12 and lines[6].startswith("list1")


@pytest.mark.parametrize(("rows", "shown"), [([], 3), (["--rows", "1"], 1), (["--rows", "99"], 5)])
def test_show_as_json_prints_one_list_a_line(rows: list[str], shown: int, command: Command, file: Path) -> None:
    records = [json.loads(line) for line in command("data", "show", file, "--json", *rows).out.splitlines()]
    assert records == [example_to_dict(example) for example in lists()[:shown]]


def test_show_refuses_a_negative_number_of_lists(command: Command, file: Path) -> None:
    result = command("data", "show", file, "--rows", "-1")
    assert result.code == 2
    assert "rows" in result.err


@pytest.mark.parametrize("options", [[], ["--json"]], ids=["text", "json"])
def test_show_prints_a_text_with_half_a_surrogate_pair(options: list[str], command: Command, tmp_path: Path) -> None:
    write_examples(tmp_path / "x.jsonl", [RankingExample("a", "half \ud83d", (Candidate("c", "also \udc00"),))])
    result = command("data", "show", tmp_path / "x.jsonl", *options)
    assert result.code == 0
    assert "half" in result.out and "also" in result.out


def test_validate_counts_the_lists_of_a_good_file(command: Command, file: Path) -> None:
    result = command("data", "validate", file)
    assert (result.code, result.out) == (0, f"{file}: 5 lists, all valid\n")
    assert json.loads(command("data", "validate", file, "--json").out) == {"file": str(file), "lists": 5}


def test_what_was_built_is_valid(command: Command, raw: Path, tmp_path: Path) -> None:
    command("data", "build", "trec-dl-2020", "--data-dir", raw, "--out", tmp_path)
    for split, count in (("train", 0), ("validation", 0), ("test", 4)):
        path = tmp_path / "trec-dl-2020" / f"{split}.parquet"
        assert json.loads(command("data", "validate", path, "--json").out)["lists"] == count


BROKEN = [
    ({"query": 3}, "'query'"),
    ({"candidates": []}, "'candidates'"),
    ({"candidates": [{"id": "a", "text": "x"}, {"id": "a", "text": "y"}]}, "'candidates'"),
    ({"candidates": [{"id": "a"}]}, "'text'"),
    ({"relevance": {"z": 1}}, "'relevance'"),
    ({"relevance": {"a": -1}}, "'relevance['a']'"),
    ({"domain": "music"}, "'domain'"),
    ({"split": "dev"}, "'split'"),
    ({"context": "before"}, "'context'"),
    ({"extra": 1}, "'extra'"),
]


@pytest.mark.parametrize(("change", "field"), BROKEN, ids=[json.dumps(change) for change, _ in BROKEN])
def test_a_broken_list_of_json_lines_is_told_with_its_row_and_field(
    change: dict[str, Any], field: str, command: Command, tmp_path: Path
) -> None:
    path = tmp_path / "x.jsonl"
    write_examples(path, lists(3))
    good = path.read_text(encoding="utf-8").splitlines()
    path.write_text("\n".join([*good[:2], json.dumps({**json.loads(good[2]), **change})]) + "\n", encoding="utf-8")
    complaint = command("data", "validate", path).complaint()
    assert f"{path}, row 3" in complaint
    assert f"field {field}" in complaint.replace('"', "'")


def test_a_broken_list_of_parquet_is_told_with_its_row_and_field(command: Command, tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    bad = RankingExample("bad", "q", (Candidate("a", "x"), Candidate("a", "y")))
    write_parquet(path, [*lists(300), bad])
    complaint = command("data", "validate", path).complaint()
    assert f"{path}, row 301" in complaint and "'candidates'" in complaint


def test_two_lists_with_one_id_are_told(command: Command, tmp_path: Path) -> None:
    for name, write in (("x.jsonl", write_examples), ("x.parquet", write_parquet)):
        write(tmp_path / name, [*lists(3), lists(2)[1]])
        complaint = command("data", "validate", tmp_path / name).complaint()
        assert name in complaint and "'list1'" in complaint


@pytest.mark.parametrize("door", ["show", "validate"])
@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("missing.jsonl", None, "does not exist"),
        ("lists.csv", b"a,b", "expected .parquet or .jsonl"),
        ("no.parquet", b"nothing of the kind", "not a parquet file"),
        ("no.jsonl", b"nothing of the kind\n", "row 1"),
        ("latin.jsonl", "é\n".encode("latin-1"), "row 1: not UTF-8"),
    ],
)
def test_a_file_that_cannot_be_read_is_told(
    door: str, name: str, content: bytes | None, words: str, command: Command, tmp_path: Path
) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    complaint = command("data", door, tmp_path / name).complaint()
    assert name in complaint and words in complaint


def test_a_parquet_file_without_a_column_names_it(command: Command, tmp_path: Path) -> None:
    import pyarrow
    import pyarrow.parquet

    write_parquet(tmp_path / "x.parquet", lists())
    table = pyarrow.parquet.read_table(tmp_path / "x.parquet").drop_columns(["context"])
    pyarrow.parquet.write_table(table, tmp_path / "x.parquet")
    assert "'context' is missing" in command("data", "validate", tmp_path / "x.parquet").complaint()


def test_what_show_prints_as_json_is_a_valid_file(command: Command, file: Path, tmp_path: Path) -> None:
    (tmp_path / "copy.jsonl").write_text(command("data", "show", file, "--json", "--rows", "9").out, encoding="utf-8")
    assert list(read_examples(tmp_path / "copy.jsonl")) == lists()
