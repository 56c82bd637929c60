from __future__ import annotations

from dataclasses import replace
from math import sqrt
from pathlib import Path

import pytest
from built_tasks import by_id, choice, history, turned, write_task
from unified_ranker.benchmarks.baselines.base import Scorer
from unified_ranker.benchmarks.baselines.item_knn import ItemKNN
from unified_ranker.benchmarks.baselines.popularity import Popularity
from unified_ranker.tasks.beside import Beside, History

from unified_ranker.errors import MissingSourceError
from unified_ranker.schema.types import RankingExample

#: Training users of a: 3, b: 3, c: 2, d: 1, e: 1. Both a and b: 2; a and c: 1; b and c: 2; d and a: 1; e alone.
TRAINING = (history("u1", "ab"), history("u2", "abc"), history("u3", "bc"), history("u4", "ad"), history("u5", "e"))
HELD = (history("val", "ae", "validation"), history("tim", "ca", "test"))
CHOICES = [choice("val", "bd", "b", split="validation"), choice("tim", "bdexy", "d")]
BOTH = (Popularity, ItemKNN)


def prepared(
    baseline: type[Popularity] | type[ItemKNN],
    folder: Path,
    *,
    histories: tuple[History, ...] = TRAINING + HELD,
    lists: list[RankingExample] | None = None,
) -> Scorer:
    task = write_task(folder, "movie", lists or CHOICES, beside=Beside(histories=histories))
    return baseline().prepare(task, seed=0, scratch=folder)


def grid(monkeypatch: pytest.MonkeyPatch, *exponents: tuple[float, ...]) -> None:
    monkeypatch.setattr(ItemKNN, "GRID", exponents)


def test_popularity_is_how_many_training_users_chose_an_item(tmp_path: Path) -> None:
    scorer = prepared(Popularity, tmp_path)
    assert by_id(scorer, choice("tim", "abcde", "a")) == {"a": 3.0, "b": 3.0, "c": 2.0, "d": 1.0, "e": 1.0}


def test_popularity_is_the_same_for_everyone_and_0_for_an_item_that_nobody_chose(tmp_path: Path) -> None:
    scorer = prepared(Popularity, tmp_path)
    assert by_id(scorer, choice("stranger", "cyb", "b")) == {"c": 2.0, "y": 0.0, "b": 3.0}
    assert Popularity().settings(scorer) == {}


@pytest.mark.parametrize("baseline", BOTH)
def test_a_task_without_histories_says_how_to_build_it(tmp_path: Path, baseline: type[Popularity]) -> None:
    with pytest.raises(MissingSourceError, match="unified-ranker data build movie"):
        prepared(baseline, tmp_path, histories=())


@pytest.mark.parametrize(
    ("candidate", "past", "fading", "scores"),
    [
        # The history is c, then a: a candidate's pairs with c fade once, those with a do not.
        (0.0, 0.0, 1.0, {"b": 2 + 2, "d": 0 + 1, "e": 0}),
        (0.0, 0.0, 0.5, {"b": 0.5 * 2 + 2, "d": 1, "e": 0}),
        (1.0, 0.0, 1.0, {"b": 4 / 3, "d": 1 / 1, "e": 0}),
        (0.0, 1.0, 1.0, {"b": 2 / 2 + 2 / 3, "d": 1 / 3, "e": 0}),
        (0.5, 0.5, 1.0, {"b": 2 / sqrt(3 * 2) + 2 / sqrt(3 * 3), "d": 1 / sqrt(1 * 3), "e": 0}),
        (0.75, 0.5, 0.9, {"b": (0.9 * 2 / 2**0.5 + 2 / 3**0.5) / 3**0.75, "d": 1 / 3**0.5, "e": 0}),
    ],
)
def test_item_knn_sums_damped_pairs_over_the_history(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    candidate: float,
    past: float,
    fading: float,
    scores: dict[str, float],
) -> None:
    grid(monkeypatch, (candidate,), (past,), (fading,))
    scorer = prepared(ItemKNN, tmp_path)
    assert by_id(scorer, CHOICES[1]) == pytest.approx({**scores, "x": 0, "y": 0})
    assert ItemKNN().settings(scorer) == {"candidate": candidate, "history": past, "fading": fading}


def test_an_older_choice_fades_once_for_each_that_came_after(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    grid(monkeypatch, (0.0,), (0.0,), (0.5,))
    training = (history("u1", "pb"), history("u2", "qc"), history("u3", "rd"))
    scorer = prepared(ItemKNN, tmp_path, histories=(*training, HELD[0], history("tim", "pqr", "test")))
    assert by_id(scorer, choice("tim", "bcd", "d")) == {"b": 0.25, "c": 0.5, "d": 1.0}


#: What two candidates have in common with the history (o, then n, or one of them), so that an exponent decides.
PAIRS = tuple(history(f"u{place}", items) for place, items in enumerate(("oi", "oi", "i", "nj", "o", "o")))


@pytest.mark.parametrize(
    ("past", "exponents", "chosen", "best"),
    [
        # i: 2 pairs of 3 choices, j: 1 pair of 1 choice.
        ("on", ((0.0, 1.0), (0.0,), (1.0,)), "i", (0.0, 0.0, 1.0)),
        ("on", ((0.0, 1.0), (0.0,), (1.0,)), "j", (1.0, 0.0, 1.0)),
        # o was chosen by 4, n by 1.
        ("on", ((0.0,), (0.0, 1.0), (1.0,)), "i", (0.0, 0.0, 1.0)),
        ("on", ((0.0,), (0.0, 1.0), (1.0,)), "j", (0.0, 1.0, 1.0)),
        # o is the older.
        ("on", ((0.0,), (0.0,), (1.0, 0.1)), "i", (0.0, 0.0, 1.0)),
        ("on", ((0.0,), (0.0,), (1.0, 0.1)), "j", (0.0, 0.0, 0.1)),
        # Nothing to choose by: the first.
        ("", ((0.5, 0.0), (1.0, 0.0), (0.9, 1.0)), "i", (0.5, 1.0, 0.9)),
    ],
)
def test_the_exponents_that_rank_the_validation_lists_best_are_chosen(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    past: str,
    exponents: tuple[tuple[float, ...], ...],
    chosen: str,
    best: tuple[float, float, float],
) -> None:
    grid(monkeypatch, *exponents)
    lists = [choice("val", "ij", chosen, split="validation"), choice("tim", "ij", "i")]
    histories = (*PAIRS, history("val", past, "validation"), history("tim", past, "test"))
    scorer = prepared(ItemKNN, tmp_path, histories=histories, lists=lists)
    assert tuple(ItemKNN().settings(scorer).values()) == best
    found = by_id(scorer, lists[1])
    assert not past or max(found, key=found.__getitem__) == chosen


@pytest.mark.parametrize("count", [1, 2])
def test_the_mean_over_all_validation_lists_decides(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    grid(monkeypatch, (0.0, 1.0), (0.0,), (1.0,))
    chosen = ["i", *["j"] * count]
    lists = [choice(f"v{n}", "ij", item, split="validation") for n, item in enumerate(chosen)]
    histories = (*PAIRS, *(history(example.group, "on", "validation") for example in lists))
    scorer = prepared(ItemKNN, tmp_path, histories=histories, lists=lists)
    assert ItemKNN().settings(scorer)["candidate"] == (0.0 if count == 1 else 1.0)


def test_the_whole_grid_is_tried() -> None:
    assert [len(values) for values in ItemKNN.GRID] == [4, 3, 3]
    assert all(0.5 in values for values in ItemKNN.GRID[:2]), "the cosine is one of them"


def test_item_knn_knows_nothing_of_a_stranger(tmp_path: Path) -> None:
    assert prepared(ItemKNN, tmp_path).score(choice("stranger", "abc", "a")) == [0.0, 0.0, 0.0]


@pytest.mark.parametrize("past", ["", "x", "xy"])
def test_item_knn_scores_0_where_no_training_user_chose_what_the_user_did(tmp_path: Path, past: str) -> None:
    scorer = prepared(ItemKNN, tmp_path, histories=(*TRAINING, HELD[0], history("tim", past, "test")))
    assert scorer.score(CHOICES[1]) == [0.0] * 5


def test_an_unknown_item_in_the_history_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    grid(monkeypatch, (0.0,), (0.0,), (1.0,))
    scorer = prepared(ItemKNN, tmp_path, histories=(*TRAINING, HELD[0], history("tim", "xc", "test")))
    assert by_id(scorer, CHOICES[1])["b"] == 2.0


@pytest.mark.parametrize("baseline", BOTH)
def test_what_validation_and_test_users_chose_is_not_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, baseline: type[Popularity]
) -> None:
    grid(monkeypatch, (0.5,), (0.5,), (1.0,))
    more = (history("v2", "abdexy", "validation"), history("t2", "xycbd", "test"))
    first, second = (
        prepared(baseline, tmp_path / str(n), histories=(*TRAINING, *HELD, *extra))
        for n, extra in enumerate(((), more))
    )
    assert by_id(second, CHOICES[1]) == pytest.approx(by_id(first, CHOICES[1]))


@pytest.mark.parametrize("baseline", BOTH)
@pytest.mark.parametrize("chosen", ["b", "e", "y"])
def test_what_is_to_be_ranked_in_test_changes_nothing(tmp_path: Path, baseline: type[Popularity], chosen: str) -> None:
    other = replace(CHOICES[1], relevance={chosen: 1.0})
    first, second = (
        prepared(baseline, tmp_path / str(n), lists=[CHOICES[0], test]) for n, test in enumerate((CHOICES[1], other))
    )
    assert by_id(second, CHOICES[1]) == by_id(first, CHOICES[1])
    assert baseline().settings(second) == baseline().settings(first)


@pytest.mark.parametrize("baseline", BOTH)
def test_scores_go_with_their_candidates_and_grades_are_not_looked_at(
    tmp_path: Path, baseline: type[Popularity]
) -> None:
    scorer = prepared(baseline, tmp_path)
    found = by_id(scorer, CHOICES[1])
    assert len(set(found.values())) > 1
    assert by_id(scorer, turned(CHOICES[1])) == pytest.approx(found)


@pytest.mark.parametrize("baseline", BOTH)
def test_both_are_trained_and_for_recommendation_alone(baseline: type[Popularity]) -> None:
    assert (baseline().trained, baseline().domains) == (True, ("recommendation",))
