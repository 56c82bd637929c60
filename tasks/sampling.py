"""Splits by group, negatives, and candidate order: deterministic, whatever order files are read in."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import TypeVar

from unified_ranker.errors import DataError
from unified_ranker.schema.types import Candidate, RankingExample

Item = TypeVar("Item")


def generator(*key: object) -> random.Random:
    """Return a random generator that depends on the key alone."""
    return random.Random(_digest(*key))


def _digest(*key: object) -> int:
    return int.from_bytes(hashlib.sha256("/".join(map(str, key)).encode()).digest()[:8], "big")


def split_groups(groups: Iterable[str], *, seed: int, salt: str, test: float, validation: float) -> dict[str, str]:
    """Assign each group to a split.

    Groups are put in an order drawn from the seed and cut at the shares, so that the counts are exact and a group's
    split does not depend on where it stood in a file.

    Args:
        groups: Users, questions or claims.
        seed: Seed.
        salt: Keeps the orders of different sources apart.
        test: Share of the groups that goes to test, in [0, 1].
        validation: Share that goes to validation.
    """
    ordered = sorted(set(groups), key=lambda group: (_digest(seed, salt, group), group))
    tests = round(len(ordered) * test)
    validations = round(len(ordered) * validation)
    return {
        group: "test" if place < tests else "validation" if place < tests + validations else "train"
        for place, group in enumerate(ordered)
    }


@dataclass(frozen=True, slots=True)
class Catalogue:
    """Items that negatives are drawn from.

    Attributes:
        items: All items, sorted.
        weights: How often each was chosen in training, for popularity-matched negatives; None for uniform.
    """

    items: Sequence[str]
    weights: Sequence[int] | None = None

    @classmethod
    def of(cls, items: Iterable[str], *, popularity: Mapping[str, int] | None = None) -> Catalogue:
        """Sort the items; with ``popularity``, an item never chosen counts as chosen once."""
        ordered = sorted(items)
        return cls(ordered, None if popularity is None else [max(1, popularity.get(item, 0)) for item in ordered])

    def sample(self, count: int, *, without: Collection[str], rng: random.Random) -> list[str]:
        """Draw different items, none of them in ``without``.

        Raises:
            DataError: the catalogue has too few.
        """
        if len(self.items) - len(set(without)) < count:
            raise DataError(
                f"{count} negatives are wanted, but only {len(self.items) - len(set(without))} of "
                f"{len(self.items)} items were never chosen by this user"
            )
        found: list[str] = []
        taken = set(without)
        totals = list(accumulate(self.weights)) if self.weights is not None else None
        while len(found) < count:
            item = (
                self.items[rng.randrange(len(self.items))]
                if totals is None
                else rng.choices(self.items, cum_weights=totals)[0]
            )
            if item not in taken:
                taken.add(item)
                found.append(item)
        return found


def shuffled(candidates: Sequence[Candidate], rng: random.Random) -> tuple[Candidate, ...]:
    """Return the candidates in random order."""
    order = list(candidates)
    rng.shuffle(order)
    return tuple(order)


def limited(examples: list[RankingExample], limit: int | None, *, seed: int) -> list[RankingExample]:
    """Keep at most ``limit`` examples, drawn from the seed, in their order."""
    if limit is None or len(examples) <= limit:
        return examples
    kept = sorted(generator(seed, "limit", example.id).random() for example in examples)[limit - 1]
    return [example for example in examples if generator(seed, "limit", example.id).random() <= kept]
