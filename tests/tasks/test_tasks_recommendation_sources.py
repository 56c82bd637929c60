from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from unified_ranker.tasks import BuildOptions
from unified_ranker.tasks.registry import CDS, ML_1M
from unified_ranker.tasks.sources import amazon_games, lastfm, movielens, recbole_atomic

from unified_ranker.schema.types import Candidate

Rewrite = Callable[[str, str, Callable[[str], str]], Path]
MOVIES = movielens.SOURCE.folder


def test_movies_read_in_order_of_time_then_of_movie_id(rewrite: Rewrite) -> None:
    rows = ["7,12,4.0,300", "7,9,4.0,300", "7,30,1.0,100", "7,9999,1.0,200", "8,1,5.0,5"]
    root = rewrite(MOVIES, "ratings.csv", lambda text: "\n".join([text.splitlines()[0], *rows]) + "\n")
    assert movielens.read(BuildOptions(data_dir=root)).histories == {"7": ["30", "9", "12"], "8": ["1"]}


def test_movies_carry_title_and_genres(data_dir: Path) -> None:
    items = movielens.read(BuildOptions(data_dir=data_dir)).items
    assert items["59"] == Candidate(id="59", title='Dust, "Rain" and 59 (2001)', text="")
    assert items["60"] == Candidate(id="60", title="Café 60 (2003)", text="Western")
    assert items["1"].text == "Drama, Comedy"


def test_the_order_of_rows_in_a_file_changes_nothing(data_dir: Path, rewrite: Rewrite) -> None:
    def turned(text: str) -> str:
        head, *rows = text.splitlines()
        return "\n".join([head, *reversed(rows)]) + "\n"

    root = rewrite(MOVIES, "ratings.csv", turned)
    assert movielens.read(BuildOptions(data_dir=root)).histories == (
        movielens.read(BuildOptions(data_dir=data_dir)).histories
    )


def test_music_is_ordered_by_the_first_day_of_a_tag_then_by_artist(rewrite: Rewrite) -> None:
    rows = [
        (5, 20, 1, 3, 2, 2009),
        (5, 20, 2, 1, 1, 2008),
        (5, 7, 1, 2, 1, 2008),
        (5, 11, 1, 1, 1, 2008),
        (5, 9999, 1, 1, 1, 2001),
        (5, 62, 1, 1, 1, 2001),
    ]
    lines = ["\t".join(map(str, row)) for row in rows]
    root = rewrite(
        lastfm.SOURCE.folder,
        "user_taggedartists.dat",
        lambda text: "\r\n".join([text.splitlines()[0], *lines]) + "\r\n",
    )
    data = lastfm.read(BuildOptions(data_dir=root))
    assert data.histories == {"5": ["11", "20", "7"]}
    assert "62" not in data.items, "an artist without a name cannot be shown"


def test_names_with_quotes_and_accents_are_read_as_they_stand(data_dir: Path) -> None:
    items = lastfm.read(BuildOptions(data_dir=data_dir)).items
    assert (items["1"].title, items["2"].title) == ('The "Murko', "Zïmulør")


def test_games_append_the_next_item_and_count_an_item_once(rewrite: Rewrite) -> None:
    root = rewrite(
        amazon_games.SOURCE.folder, "Games-6k.test.inter", lambda text: text.splitlines()[0] + "\n3\t4 5 4 6\t9\n"
    )
    data = amazon_games.read(BuildOptions(data_dir=root))
    assert data.histories == {"3": ["4", "5", "6", "9"]}
    assert data.items["9"].title.endswith(" & 9"), "entities of the published titles are resolved"


def test_atomic_files_read_title_year_and_genre(data_dir: Path) -> None:
    item = recbole_atomic.read(BuildOptions(data_dir=data_dir), ML_1M).items["m5"]
    assert item.title.endswith("5 (1995)")
    assert item.text == "Drama, Western"
    assert recbole_atomic.read(BuildOptions(data_dir=data_dir), CDS).items["A0"].text == "'Toys', 'Old'"


def test_atomic_files_are_ordered_by_time_as_a_number_and_count_an_item_once(rewrite: Rewrite) -> None:
    rows = [("u", "m1", 5, "1e9"), ("u", "m2", 5, "999.0"), ("u", "m1", 5, "3.0"), ("u", "nobody", 5, "1.0")]
    lines = ["\t".join(map(str, row)) for row in rows]
    root = rewrite("ml-1m", "ml-1m.inter", lambda text: "\n".join([text.splitlines()[0], *lines]) + "\n")
    assert recbole_atomic.read(BuildOptions(data_dir=root), ML_1M).histories == {"u": ["m1", "m2"]}


@pytest.mark.parametrize("name", ["ratings.csv", "movies.csv"])
def test_plain_and_gzipped_files_read_alike(data_dir: Path, rewrite: Rewrite, name: str) -> None:
    root = rewrite(MOVIES, name, lambda text: text)
    assert not (root / MOVIES / f"{name}.gz").exists()
    assert movielens.read(BuildOptions(data_dir=root)) == movielens.read(BuildOptions(data_dir=data_dir))
