"""The lists that a run draws from: tasks in their shares, and of each task built lists, fresh ones and stretches."""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path

from unified_ranker.schema.types import RankingExample
from unified_ranker.tasks.registry import task_named
from unified_ranker.training.cloze import ClozeLists
from unified_ranker.training.fresh import FreshLists, draws_anew
from unified_ranker.training.lists import drawn_tasks, training_lists
from unified_ranker.training.recipe import Recipe


class Mixture:
    """Draws training lists as a recipe weighs them.

    Args:
        recipe: Weights of tasks, and shares of lists that are drawn anew.
        data: Folder of built tasks.
        rng: Source of all draws.

    Attributes:
        rng: The same.
        built: The built lists of each task whose weight is not 0.

    Raises:
        MissingSourceError: a task of the recipe is not built in ``data``.
        DataError: a task has no training lists.
    """

    def __init__(self, recipe: Recipe, data: Path, rng: random.Random) -> None:
        self._recipe, self.rng = recipe, rng
        self.built = {task: training_lists(data, task) for task in drawn_tasks(recipe.tasks)}
        self._fresh = {
            task: FreshLists(data, task, examples) for task, examples in self.built.items() if draws_anew(recipe, task)
        }
        cloze = {
            task: ClozeLists(examples)
            for task, examples in self.built.items()
            if task_named(task).domain == "passage" and recipe.cloze
        }
        self._cloze = {task: lists for task, lists in cloze.items() if len(lists)}

    def chosen(self) -> dict[str, Counter[str]]:
        """Return how often training users chose what, by name, for each task whose lists are drawn anew."""
        return {task: lists.chosen() for task, lists in self._fresh.items()}

    def histories(self) -> dict[str, list[list[str]]]:
        """Return what each training user chose, by name, for each task whose lists are drawn anew."""
        return {task: lists.histories() for task, lists in self._fresh.items()}

    def task(self) -> str:
        """Draw a task."""
        weights = self._recipe.tasks
        return self.rng.choices(list(self.built), [weights[name] for name in self.built])[0]

    def example(self, task: str) -> RankingExample:
        """Draw a list of a task."""
        if task in self._fresh and self.rng.random() < self._recipe.fresh:
            return self._fresh[task].draw(self.rng)
        if task in self._cloze and self.rng.random() < self._recipe.cloze:
            return self._cloze[task].draw(self.rng)
        return self.rng.choice(self.built[task])
