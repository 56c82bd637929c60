"""New recommendation lists from the histories of training users: another choice, and other negatives, each time.

The built training lists hold each choice once, with one draw of negatives. A small model learns those by heart, where
an item-kNN sees every choice of every training user; drawn anew, lists tell as much.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from unified_ranker.schema.types import Candidate, RankingExample
from unified_ranker.tasks.beside import History, read_histories
from unified_ranker.tasks.recommendation import drawn_list
from unified_ranker.tasks.registry import task_named
from unified_ranker.tasks.sampling import Catalogue
from unified_ranker.training.recipe import Recipe


def draws_anew(recipe: Recipe, task: str) -> bool:
    """Tell whether a run of a recipe draws lists of a task from histories."""
    return recipe.fresh > 0 and task_named(task).domain == "recommendation"


class FreshLists:
    """Draws lists of one recommendation task.

    Args:
        data: Folder of built tasks.
        task: The task.
        examples: Its training lists, which say what is asked and what items are called.

    Raises:
        MissingSourceError: the task has no histories.
    """

    def __init__(self, data: Path, task: str, examples: Sequence[RankingExample]) -> None:
        self._known: dict[str, Candidate] = {c.id: c for example in examples for c in example.candidates}
        self._catalogue = Catalogue.of(self._known)
        self._task, self._query = task, examples[0].query
        histories = [history for history in read_histories(data / task) if history.split == "train"]
        self._histories = [history.items for history in histories]
        # An item that is in no training list has no name here.
        self._choices: list[tuple[History, int]] = [
            (history, place)
            for history in histories
            for place in range(1, len(history.items))
            if history.items[place] in self._known
        ]

    def __len__(self) -> int:
        """Return how many choices there are."""
        return len(self._choices)

    def chosen(self) -> Counter[str]:
        """Return how often each item was chosen, by what it is called."""
        found = Counter[str]()
        for history, place in self._choices:
            found[self._known[history.items[place]].called] += 1
        return found

    def histories(self) -> list[list[str]]:
        """Return what each training user chose, by what it is called."""
        known = self._known
        return [[known[item].called for item in items if item in known] for items in self._histories]

    def draw(self, rng: random.Random) -> RankingExample:
        """Return a choice of a training user after what was chosen before it, among items that the user never chose."""
        history, place = self._choices[rng.randrange(len(self._choices))]
        return drawn_list(
            history.items,
            place,
            items=self._known,
            catalogue=self._catalogue,
            rng=rng,
            id=f"{self._task}-fresh-{history.user}-{place}",
            query=self._query,
            task=self._task,
            split="train",
            group=history.user,
        )
