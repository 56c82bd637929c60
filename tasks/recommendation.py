"""Recommendation: a user's history, the item they chose next, and items they never chose."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from unified_ranker.tasks.base import BuildOptions, Built, Source
from unified_ranker.tasks.beside import Beside, History
from unified_ranker.tasks.sampling import Catalogue, generator, limited, shuffled, split_groups

from unified_ranker.errors import DataError
from unified_ranker.schema.types import Candidate, RankingExample

NEGATIVE_COUNT = 19
HISTORY = 20


@dataclass(frozen=True, slots=True)
class Interactions:
    """What users chose, in order.

    Attributes:
        histories: Item ids by user, oldest first, each item once.
        items: What each item is called.
    """

    histories: Mapping[str, Sequence[str]]
    items: Mapping[str, Candidate]

    def __post_init__(self) -> None:
        for user, history in self.histories.items():
            if len(set(history)) != len(history):
                raise DataError(f"user {user!r} holds an item twice; keep its first choice")


def _example(
    task: str,
    query: str,
    user: str,
    history: Sequence[str],
    place: int,
    *,
    data: Interactions,
    catalogue: Catalogue,
    split: str,
    seed: int,
) -> RankingExample:
    return drawn_list(
        history,
        place,
        items=data.items,
        catalogue=catalogue,
        rng=generator(seed, task, user, place),
        id=f"{task}-{user}-{place}",
        query=query,
        task=task,
        split=split,
        group=_group(task, user),
    )


def drawn_list(
    history: Sequence[str],
    place: int,
    *,
    items: Mapping[str, Candidate],
    catalogue: Catalogue,
    rng: random.Random,
    **named: str,
) -> RankingExample:
    """Return a choice of a user after what was chosen before it, among items that the user never chose.

    Args:
        history: What the user chose, oldest first.
        place: Which of it is ranked.
        items: What items are called; what is not among them is left out of the context.
        catalogue: Where negatives are drawn from.
        rng: Source of negatives and of the order.
        **named: ``id``, ``query``, ``task``, ``split`` and ``group`` of the list.
    """
    target = history[place]
    # Never from the user's whole history: what they chose later is no negative either.
    negatives = catalogue.sample(NEGATIVE_COUNT, without={item for item in history if item in items}, rng=rng)
    return RankingExample(
        candidates=shuffled([items[item] for item in (target, *negatives)], rng),
        domain="recommendation",
        context=tuple(items[item].called for item in history[max(0, place - HISTORY) : place] if item in items),
        relevance={target: 1.0},
        **named,
    )


def _group(task: str, user: str) -> str:
    return f"{task}-user:{user}"


def _beside(
    task: str, data: Interactions, splits: Mapping[str, str], built: Mapping[str, Sequence[RankingExample]], *, at: int
) -> Beside:
    """Return whole histories of training users; of others, if they have a list, what came before its place ``at``."""
    ranked = {example.group for split in ("validation", "test") for example in built[split]}
    histories = []
    for user in sorted(splits):
        group, history = _group(task, user), data.histories[user]
        if splits[user] == "train":
            histories.append(History(group, "train", tuple(history)))
        elif group in ranked:
            histories.append(History(group, splits[user], tuple(history[:at])))
    return Beside(histories=histories)


def _catalogue(data: Interactions, splits: Mapping[str, str], options: BuildOptions) -> Catalogue:
    if options.negatives == "uniform":
        return Catalogue.of(data.items)
    popularity = Counter(
        item for user, history in data.histories.items() if splits.get(user) == "train" for item in history
    )
    return Catalogue.of(data.items, popularity=popularity)


def build_paper(task: str, query: str, data: Interactions, source: Source, options: BuildOptions) -> Built:
    """Sample as R1-Ranker publishes: 657 users with at least 21 choices, the first 20 as history, the 21st as target.

    The published split is 525 training and 132 test users; a tenth of the training users becomes validation here.

    Raises:
        DataError: there are fewer than two users with 21 choices.
    """
    long_enough = sorted(user for user, history in data.histories.items() if len(history) >= HISTORY + 1)
    if len(long_enough) < 2:
        raise DataError(
            f"{task}: {len(long_enough)} users have at least {HISTORY + 1} interactions; the paper edition "
            "samples 657 of them"
        )
    users = sorted(generator(options.seed, task, "users").sample(long_enough, min(657, len(long_enough))))
    splits = split_groups(users, seed=options.seed, salt=task, test=132 / 657, validation=0.1 * 525 / 657)
    catalogue = _catalogue(data, splits, options)
    built: dict[str, list[RankingExample]] = {"train": [], "validation": [], "test": []}
    for user in users:
        built[splits[user]].append(
            _example(
                task,
                query,
                user,
                data.histories[user],
                HISTORY,
                data=data,
                catalogue=catalogue,
                split=splits[user],
                seed=options.seed,
            )
        )
    return Built(
        splits={split: limited(examples, options.limit, seed=options.seed) for split, examples in built.items()},
        sources=(source,),
        sampling=f"{len(users)} users with at least 21 interactions; the first 20 are the history, the 21st is the "
        f"target, 19 {options.negatives} "
        "negatives from items that the user never chose; split by user",
        counts={"users": len(users), "items": len(data.items)},
        beside=_beside(task, data, splits, built, at=HISTORY),
    )


def build_open(
    task: str,
    query: str,
    data: Interactions,
    source: Source,
    options: BuildOptions,
    *,
    lists_per_user: int,
    test_share: float,
    validation_share: float,
    most_train_users: int | None = None,
    most_test_users: int | None = None,
    least: int = 6,
) -> Built:
    """Rank each user's latest choice; training users give several lists, cut at different places of their history.

    Args:
        task: Name of the task.
        query: What is asked.
        data: The interactions.
        source: Where they come from.
        options: How to build.
        lists_per_user: Default for ``options.lists_per_group``.
        test_share: Share of users for test.
        validation_share: Share of users for validation.
        most_train_users: Keep at most so many training users; their histories still count for popularity.
        most_test_users: Keep at most so many test users (and half as many for validation).
        least: Least interactions of a user.
    """
    users = [user for user, history in data.histories.items() if len(history) >= least]
    splits = split_groups(users, seed=options.seed, salt=task, test=test_share, validation=validation_share)
    catalogue = _catalogue(data, splits, options)
    most = {"train": most_train_users, "validation": most_test_users and most_test_users // 2, "test": most_test_users}
    per_user = options.lists_per_group or lists_per_user
    built: dict[str, list[RankingExample]] = {"train": [], "validation": [], "test": []}
    kept = {"train": 0, "validation": 0, "test": 0}
    # The order of the split is a random one, so that its head is a sample.
    for user, split in splits.items():
        if most[split] is not None and kept[split] >= most[split]:  # type: ignore[operator]  # None is tested before
            continue
        kept[split] += 1
        history = data.histories[user]
        places = [len(history) - 1]
        if split == "train":
            free = range(3, len(history))
            places = sorted(generator(options.seed, task, user, "places").sample(free, min(per_user, len(free))))
        for place in places:
            built[split].append(
                _example(
                    task, query, user, history, place, data=data, catalogue=catalogue, split=split, seed=options.seed
                )
            )
    return Built(
        splits={split: limited(examples, options.limit, seed=options.seed) for split, examples in built.items()},
        sources=(source,),
        sampling=f"users with at least {least} interactions; test and validation rank a user's latest choice, "
        f"training up to {per_user} choices of "
        f"each user, after up to {HISTORY} earlier ones; 19 {options.negatives} negatives from items that the "
        "user never chose; split by user",
        counts={"users": {split: kept[split] for split in kept}, "items": len(data.items)},
        beside=_beside(task, data, splits, built, at=-1),
    )
