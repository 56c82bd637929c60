from __future__ import annotations

import re

import pytest
from unified_ranker.benchmarks.report.published import PUBLISHED, TASKS, as_markdown
from unified_ranker.tasks import NINE
from unified_ranker.tasks.random_order import reciprocal_rank_of_random

ROWS = [line for line in as_markdown().splitlines() if line.startswith("|")]
CELLS = {row.split("|")[1].strip(): [cell.strip() for cell in row.split("|")[2:-1]] for row in ROWS[2:]}
SIZES = {"movie": 20, "music": 20, "game": 20, "passage-5": 5, "passage-7": 7, "passage-9": 9}


def test_the_columns_are_the_nine_in_the_order_of_the_paper() -> None:
    assert TASKS[:3] == ("movie", "music", "game")
    assert TASKS[3:6] == ("router-performance", "router-cost", "router-balance")
    assert TASKS[6:] == ("passage-5", "passage-7", "passage-9")
    assert set(TASKS) == set(NINE)
    assert ROWS[0] == f"| | {' | '.join(TASKS)} | mean |"
    assert ROWS[1] == "|---|" + "--:|" * 10


@pytest.mark.parametrize("name", PUBLISHED)
def test_each_row_has_a_share_of_a_hundred_for_each_task(name: str) -> None:
    assert len(PUBLISHED[name]) == 9
    assert all(0 < value < 100 for value in PUBLISHED[name])


@pytest.mark.parametrize(
    ("name", "mean"),
    [
        # Sums by hand: 348.97, 295.78, 224.51, 234.20 and 255.98.
        ("IRanker-3B", ".388"),
        ("IRanker-3B, task family held out", ".329"),
        ("Contriever", ".249"),
        ("BM25", ".260"),
        ("random order (computed)", ".284"),
    ],
)
def test_the_last_column_is_the_mean_of_the_nine(name: str, mean: str) -> None:
    assert CELLS[name][-1] == mean


def test_the_table_shows_every_row_once_as_shares_like_our_tables() -> None:
    assert list(CELLS) == list(PUBLISHED)
    assert CELLS["IRanker-3B"] == [".347", ".292", ".425", ".236", ".304", ".244", ".610", ".532", ".500", ".388"]
    assert all(len(cells) == 10 and all(re.fullmatch(r"\.\d{3}", cell) for cell in cells) for cells in CELLS.values())


@pytest.mark.parametrize(("place", "task"), enumerate(TASKS))
def test_the_random_order_is_the_exact_one_for_one_relevant_among_so_many(place: int, task: str) -> None:
    size = SIZES.get(task, 10)
    exact = sum(1 / rank for rank in range(1, size + 1)) / size
    assert reciprocal_rank_of_random(size, 1) == pytest.approx(exact)
    assert PUBLISHED["random order (computed)"][place] == round(100 * exact, 2)


def test_what_is_said_of_its_routing_columns_is_so() -> None:
    assert "In its routing columns most rows lie below a random order." in " ".join(as_markdown().split())
    rows = {name: values for name, values in PUBLISHED.items() if "random" not in name}
    for place in (3, 4, 5):
        below = sum(values[place] < PUBLISHED["random order (computed)"][place] for values in rows.values())
        assert below > len(rows) / 2


def test_it_is_told_that_nothing_here_can_be_compared_with_ours() -> None:
    text = " ".join(as_markdown().split())
    assert text.startswith("## Published, on other data by another model")
    assert "2506.21638" in text and "no figure of it can be compared with one of ours" in text
