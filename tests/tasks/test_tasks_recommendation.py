from __future__ import annotations

import random
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
from unified_ranker.tasks import BuildOptions, Built, Source
from unified_ranker.tasks.recommendation import Interactions, build_open, build_paper
from unified_ranker.tasks.registry import CDS, ML_1M, VIDEO_GAMES
from unified_ranker.tasks.sources import amazon_games, lastfm, movielens, recbole_atomic

from unified_ranker.errors import DataError
from unified_ranker.schema.types import Candidate, RankingExample

SOURCE = Source(folder="none", title="Invented", url="http://invalid", licence="none")
READ: dict[tuple[str, str], Callable[[BuildOptions], Interactions]] = {
    ("movie", "open"): movielens.read,
    ("music", "open"): lastfm.read,
    ("game", "open"): amazon_games.read,
    ("movie", "paper"): lambda options: recbole_atomic.read(options, ML_1M),
    ("music", "paper"): lambda options: recbole_atomic.read(options, CDS),
    ("game", "paper"): lambda options: recbole_atomic.read(options, VIDEO_GAMES),
}


@cache
def crowd(users: int = 700, items: int = 150, hot: int = 30) -> Interactions:
    """Users with 21 to 30 choices, most of them among the first ``hot`` items."""
    rng = random.Random(11)
    histories = {}
    for user in range(users):
        chosen = rng.sample(range(hot), 17) + rng.sample(range(hot, items), rng.randint(4, 13))
        rng.shuffle(chosen)
        histories[f"u{user}"] = [f"i{n}" for n in chosen]
    return Interactions(histories, {f"i{n}": Candidate(id=f"i{n}", title=f"Item {n}", text="") for n in range(items)})


def paper(data: Interactions, **options: object) -> Built:
    return build_paper("movie", "Which?", data, SOURCE, BuildOptions(edition="paper", **options))  # type: ignore[arg-type]


def opened(data: Interactions, **options: object) -> Built:
    return build_open(
        "movie",
        "Which?",
        data,
        SOURCE,
        BuildOptions(**options),  # type: ignore[arg-type]
        lists_per_user=4,
        test_share=0.2,
        validation_share=0.1,
    )


def every(built: Built) -> list[RankingExample]:
    return [example for examples in built.splits.values() for example in examples]


def hot_share(built: Built) -> float:
    negatives = [c.id for example in every(built) for c in example.candidates if example.grade(c.id) == 0]
    return sum(int(id[1:]) < 30 for id in negatives) / len(negatives)


@pytest.mark.parametrize("negatives", ["uniform", "popularity"])
@pytest.mark.parametrize(("name", "edition"), READ)
def test_every_list_has_20_candidates_with_one_relevant_and_no_negative_from_the_users_whole_history(
    build: Callable[..., Built], data_dir: Path, name: str, edition: str, negatives: str
) -> None:
    data = READ[name, edition](BuildOptions(edition=edition, data_dir=data_dir))
    for example in every(build(name, edition, negatives=negatives)):
        history = data.histories[example.group.rsplit(":", 1)[1]]
        ids = [candidate.id for candidate in example.candidates]
        (target,) = [id for id in ids if example.grade(id) > 0]
        assert len(set(ids)) == 20
        assert set(ids) & set(history) == {target}
        place = history.index(target)
        assert example.context == tuple(data.items[item].title for item in history[max(0, place - 20) : place])


@pytest.mark.parametrize("name", ["movie", "music", "game"])
def test_the_open_edition_ranks_the_latest_choice_for_validation_and_test(
    build: Callable[..., Built], data_dir: Path, name: str
) -> None:
    data = READ[name, "open"](BuildOptions(data_dir=data_dir))
    for split in ("validation", "test"):
        for example in build(name).splits[split]:
            history = data.histories[example.group.rsplit(":", 1)[1]]
            assert len(history) >= 6
            assert example.relevance == {history[-1]: 1.0}


def test_training_lists_of_a_user_rank_different_choices_after_at_least_three() -> None:
    targets: dict[str, list[str]] = {}
    for example in opened(crowd(60)).splits["train"]:
        assert len(example.context) >= 3
        targets.setdefault(example.group, []).extend(example.relevance)
    assert all(len(found) == len(set(found)) == 4 for found in targets.values())


def test_the_paper_edition_takes_657_of_700_users_132_of_them_for_test() -> None:
    built = paper(crowd())
    counts = {split: len(examples) for split, examples in built.splits.items()}
    assert counts["test"] == 132
    assert counts["train"] + counts["validation"] == 525
    assert counts["validation"] in (52, 53)
    assert len({example.group for example in every(built)}) == 657
    assert built.counts["users"] == 657


def test_the_paper_edition_shows_the_first_20_choices_and_asks_for_the_21st() -> None:
    data = crowd()
    for example in every(paper(data)):
        history = data.histories[example.group.rsplit(":", 1)[1]]
        assert example.context == tuple(data.items[item].title for item in history[:20])
        assert example.relevance == {history[20]: 1.0}


def test_the_paper_edition_leaves_out_users_with_20_choices() -> None:
    data = crowd(5)
    short = {**data.histories, "short": data.histories["u0"][:20]}
    assert len(every(paper(Interactions(short, data.items)))) == 5


def test_the_paper_edition_needs_two_users_with_21_choices() -> None:
    with pytest.raises(DataError, match="1 users have at least 21 interactions"):
        paper(crowd(1))


@pytest.mark.parametrize("make", [paper, opened])
def test_popularity_negatives_come_more_from_popular_items(make: Callable[..., Built]) -> None:
    uniform, popularity = make(crowd()), make(crowd(), negatives="popularity")
    assert hot_share(popularity) > 1.5 * hot_share(uniform)
    assert "19 uniform negatives" in uniform.sampling
    assert "19 popularity negatives" in popularity.sampling
    assert [e.relevance for e in every(popularity)] == [e.relevance for e in every(uniform)]


def test_popularity_counts_training_users_alone() -> None:
    """What test users chose must not weigh on the negatives of training."""
    data = crowd(100)
    built = opened(data, negatives="popularity")
    tested = {example.group.rsplit(":", 1)[1] for split in ("test", "validation") for example in built.splits[split]}
    rng = random.Random(1)
    others = {
        user: rng.sample(sorted(data.items), 25) if user in tested else history
        for user, history in data.histories.items()
    }
    assert opened(Interactions(others, data.items), negatives="popularity").splits["train"] == built.splits["train"]


def test_the_order_of_users_in_a_file_changes_nothing() -> None:
    data = crowd(60)
    turned = Interactions(dict(reversed(data.histories.items())), dict(reversed(data.items.items())))
    assert opened(turned) == opened(data)
    assert paper(turned) == paper(data)


def test_the_relevant_candidate_stands_at_every_place() -> None:
    places = [
        [candidate.id for candidate in example.candidates].index(next(iter(example.relevance)))
        for example in every(paper(crowd()))
    ]
    assert set(places) == set(range(20))
    assert sum(places) / len(places) == pytest.approx(9.5, abs=0.8)


def test_most_users_are_a_sample_and_the_counts_say_how_many() -> None:
    built = build_open(
        "game",
        "Which?",
        crowd(100),
        SOURCE,
        BuildOptions(),
        lists_per_user=1,
        test_share=0.2,
        validation_share=0.2,
        most_train_users=10,
        most_test_users=6,
    )
    assert {split: len(examples) for split, examples in built.splits.items()} == built.counts["users"]
    assert built.counts["users"] == {"train": 10, "validation": 3, "test": 6}


def test_a_history_that_holds_an_item_twice_is_refused_by_user() -> None:
    with pytest.raises(DataError, match="user 'ann' holds an item twice"):
        Interactions({"ann": ["a", "b", "a"]}, {})
