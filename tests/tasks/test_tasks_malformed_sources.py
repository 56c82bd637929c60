from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from unified_ranker.tasks import TASKS, BuildOptions

from unified_ranker.errors import DataError

Rewrite = Callable[[str, str, Callable[[str], str]], Path]
Change = Callable[[str], str]
# Task, edition, folder, file, what is changed in it, and what the message must match. Entries of a JSON file may be
# counted from 0 or from 1.
Case = tuple[str, str, str, str, Change, tuple[str, ...]]

MOVIES = "rec_movie_ml-latest-small"
MUSIC = "rec_music_lastfm-2k"
GAMES = "rec_game_amazon-games-6k"
NINE = "router_llmrouter-9llm"
BENCH = "router_routerbench-0shot"
WIKIQA = "passage_wikiqa-tok"
TREC = "passage_trec-dl19"


def line(number: int, old: str, new: str = "") -> Change:
    """Replace in one line; the first is line 1, the header."""

    def change(text: str) -> str:
        lines = text.split("\n")
        assert old in lines[number - 1], lines[number - 1]
        lines[number - 1] = lines[number - 1].replace(old, new, 1)
        return "\n".join(lines)

    return change


def cell(number: int, column: int, value: str, *, separator: str = "\t") -> Change:
    """Set one field of a line."""

    def change(text: str) -> str:
        lines = text.split("\n")
        fields = lines[number - 1].split(separator)
        fields[column] = value
        lines[number - 1] = separator.join(fields)
        return "\n".join(lines)

    return change


def cut(number: int, fields: int, *, separator: str = "\t") -> Change:
    """Keep the first fields of a line."""

    def change(text: str) -> str:
        lines = text.split("\n")
        lines[number - 1] = separator.join(lines[number - 1].split(separator)[:fields])
        return "\n".join(lines)

    return change


def record(edit: Callable[[Any], object]) -> Change:
    """Edit a file of JSON."""

    def change(text: str) -> str:
        value = json.loads(text)
        edit(value)
        return json.dumps(value)

    return change


def json_line(number: int, edit: Callable[[Any], object]) -> Change:
    """Edit one record of JSON lines."""

    def change(text: str) -> str:
        lines = text.split("\n")
        value = json.loads(lines[number - 1])
        edit(value)
        lines[number - 1] = json.dumps(value)
        return "\n".join(lines)

    return change


CASES: dict[str, Case] = {
    "movies without a title column": (
        "movie",
        "open",
        MOVIES,
        "movies.csv",
        line(1, "title", "name"),
        ("movies.csv", "title"),
    ),
    "ratings without a time column": (
        "movie",
        "open",
        MOVIES,
        "ratings.csv",
        line(1, "timestamp", "when"),
        ("ratings.csv", "timestamp"),
    ),
    "a rating at no time": (
        "movie",
        "open",
        MOVIES,
        "ratings.csv",
        cell(5, 3, "soon", separator=","),
        ("ratings.csv", "row 5"),
    ),
    "a rating cut short": ("movie", "open", MOVIES, "ratings.csv", cut(5, 2, separator=","), ("ratings.csv", "row 5")),
    "an artist cut short": ("music", "open", MUSIC, "artists.dat", cut(4, 1), ("artists.dat", "row 4")),
    "a tag in no year": (
        "music",
        "open",
        MUSIC,
        "user_taggedartists.dat",
        cell(6, 5, "then"),
        ("user_taggedartists.dat", "row 6"),
    ),
    "tags without a year column": (
        "music",
        "open",
        MUSIC,
        "user_taggedartists.dat",
        line(1, "year", "era"),
        ("user_taggedartists.dat", "year"),
    ),
    "a game without a title": ("game", "open", GAMES, "Games-6k.item", cut(7, 1), ("Games-6k.item", "row 7")),
    "a game user cut short": (
        "game",
        "open",
        GAMES,
        "Games-6k.test.inter",
        cut(3, 2),
        ("Games-6k.test.inter", "row 3", "2 columns"),
    ),
    "an unknown game": (
        "game",
        "open",
        GAMES,
        "Games-6k.test.inter",
        cell(3, 2, "777"),
        ("Games-6k.test.inter", "row 3", "'777'"),
    ),
    "an empty file of games": ("game", "open", GAMES, "Games-6k.item", lambda text: "", ("Games-6k.item",)),
    "interactions without a time column": (
        "movie",
        "paper",
        "ml-1m",
        "ml-1m.inter",
        line(1, "timestamp:float", "rank:float"),
        ("ml-1m.inter", "'timestamp'"),
    ),
    "an interaction cut short": (
        "music",
        "paper",
        "Amazon_CDs_and_Vinyl",
        "Amazon_CDs_and_Vinyl.inter",
        cut(9, 3),
        ("Amazon_CDs_and_Vinyl.inter", "row 9", "3 columns"),
    ),
    "an interaction at no time": (
        "game",
        "paper",
        "Amazon_Video_Games",
        "Amazon_Video_Games.inter",
        cell(9, 3, "late"),
        ("Amazon_Video_Games.inter", "row 9"),
    ),
    "an empty file of interactions": ("movie", "paper", "ml-1m", "ml-1m.inter", lambda text: "", ("ml-1m.inter",)),
    "routing data that is not JSON": (
        "router-cost",
        "open",
        NINE,
        "dcrouter_train.json",
        lambda text: text[:-20],
        ("dcrouter_train.json",),
    ),
    "a question without scores": (
        "router-cost",
        "open",
        NINE,
        "dcrouter_train.json",
        record(lambda rows: rows[6].pop("scores")),
        ("dcrouter_train.json", "row [67]", "scores"),
    ),
    "a score that is no number": (
        "router-cost",
        "open",
        NINE,
        "dcrouter_test.json",
        record(lambda rows: rows[6]["scores"].update(tiny="good")),
        ("dcrouter_test.json", "row [67]"),
    ),
    "a model without a price": (
        "router-cost",
        "open",
        NINE,
        "dcrouter_test.json",
        record(lambda rows: rows[6]["scores"].update(giant=1.0)),
        ("dcrouter_test.json", "row [67]", "'giant'", "default_llm.json"),
    ),
    "fewer costs than models": (
        "router-cost",
        "open",
        NINE,
        "nq_train_6llm_cost.json",
        record(lambda rows: rows[8]["cost_list"].pop()),
        ("nq_train_6llm_cost.json", "row [89]"),
    ),
    "a question without models": (
        "router-cost",
        "open",
        NINE,
        "nq_train_6llm_cost.json",
        record(lambda rows: rows[8].pop("llm_name_list")),
        ("nq_train_6llm_cost.json", "row [89]", "llm_name_list"),
    ),
    "a prompt that is no list": (
        "router-cost",
        "open",
        BENCH,
        "mbpp_train.csv",
        line(2, "['Write", "[Write"),
        ("mbpp_train.csv", "row 2"),
    ),
    "a benchmark without a model's scores": (
        "router-cost",
        "open",
        BENCH,
        "mbpp_train.csv",
        line(1, ",guild/wise,", ",guild/other,"),
        ("mbpp_train.csv", "guild/wise"),
    ),
    "routing data of the paper without costs": (
        "router-balance",
        "paper",
        "graphrouter",
        "router_data.csv",
        line(1, "cost", "price"),
        ("router_data.csv", "'cost'"),
    ),
    "an effect that is no number": (
        "router-balance",
        "paper",
        "graphrouter",
        "router_data.csv",
        lambda text: text.replace(text.split("\n")[2], 'of two lines",good,0.5', 1),
        ("router_data.csv", "row 2"),
    ),
    "a model that stands twice": (
        "router-balance",
        "paper",
        "graphrouter",
        "router_data.csv",
        lambda text: text.replace("south-13b", "north-7b", 1),
        ("router_data.csv", "row 3", "'north-7b'"),
    ),
    "a question that lacks a model": (
        "router-balance",
        "paper",
        "graphrouter",
        "router_data.csv",
        lambda text: text.replace("south-13b", "new-1b", 1),
        ("router_data.csv", "lacks the model"),
    ),
    "questions of two lengths": (
        "passage-5",
        "open",
        WIKIQA,
        "test_b.toks",
        lambda text: text + "one more .\n",
        ("WikiQA, test", "lines"),
    ),
    "a label that is neither 0 nor 1": (
        "passage-5",
        "open",
        WIKIQA,
        "train_sim.txt",
        cell(4, 0, "2"),
        ("train_sim.txt", "row 4"),
    ),
    "a judgement cut short": (
        "trec-dl-2019",
        "open",
        TREC,
        "qrels.dl19-passage.txt",
        cut(4, 3, separator=" "),
        ("qrels.dl19-passage.txt", "row 4"),
    ),
    "a grade that is no number": (
        "trec-dl-2019",
        "open",
        TREC,
        "qrels.dl19-passage.txt",
        cell(4, 3, "good", separator=" "),
        ("qrels.dl19-passage.txt", "row 4"),
    ),
    "a run that is not JSON": (
        "trec-dl-2019",
        "open",
        TREC,
        "bm25_dl19_top100.json",
        lambda text: text[:-20],
        ("bm25_dl19_top100.json",),
    ),
    "a query without hits": (
        "trec-dl-2019",
        "open",
        TREC,
        "bm25_dl19_top100.json",
        record(lambda run: run[2]["hits"].clear()),
        ("bm25_dl19_top100.json", "row [23]"),
    ),
    "a hit without text": (
        "trec-dl-2019",
        "open",
        TREC,
        "bm25_dl19_top100.json",
        record(lambda run: run[2]["hits"][0].pop("content")),
        ("bm25_dl19_top100.json", "content"),
    ),
    "more marks than passages": (
        "passage-5",
        "paper",
        "ms_marco",
        "validation.jsonl",
        json_line(3, lambda row: row["passages"]["is_selected"].append(0)),
        ("validation, row [23]", "9 passages but 10 marks"),
    ),
    "queries without an id": (
        "passage-5",
        "paper",
        "ms_marco",
        "train.jsonl",
        lambda text: text.replace('"query_id"', '"number"'),
        ("train, row [01]", "'query_id'"),
    ),
    "a query without passages": (
        "passage-5",
        "paper",
        "ms_marco",
        "train.jsonl",
        json_line(3, lambda row: row.update(passages=None)),
        ("train, row [23]", "passages"),
    ),
    "passages that are not JSON": (
        "passage-5",
        "paper",
        "ms_marco",
        "test.jsonl",
        lambda text: text[:-40] + "\n",
        ("test.jsonl",),
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_a_malformed_file_is_a_data_error_that_names_the_place(rewrite: Rewrite, data_dir: Path, case: str) -> None:
    name, edition, folder, file, change, expected = CASES[case]
    root = rewrite(folder, file, change)
    for other in data_dir.iterdir():
        if not (root / other.name).exists():
            (root / other.name).symlink_to(other)
    with pytest.raises(DataError) as raised:
        TASKS[name].build[edition](BuildOptions(edition=edition, data_dir=root))
    for part in expected:
        assert re.search(part, str(raised.value)), f"{part} is not in: {raised.value}"


@pytest.mark.parametrize("content", [b"", b"no archive"])
def test_a_file_that_is_no_archive_is_a_data_error(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "passage_scifact").mkdir()
    (tmp_path / "passage_scifact" / "scifact.zip").write_bytes(content)
    with pytest.raises(DataError, match=r"scifact\.zip"):
        TASKS["passage-5"].build["open"](BuildOptions(data_dir=tmp_path))


def test_a_file_that_is_not_gzipped_despite_its_name_is_a_data_error(tmp_path: Path) -> None:
    (tmp_path / MOVIES).mkdir()
    (tmp_path / MOVIES / "movies.csv.gz").write_bytes(b"movieId,title,genres\n")
    with pytest.raises(DataError, match=r"movies\.csv\.gz"):
        TASKS["movie"].build["open"](BuildOptions(data_dir=tmp_path))
