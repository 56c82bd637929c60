"""The warm-up of a run: what it draws, as bags, and whom it listens to."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from unified_ranker.embedding import Embedder
from unified_ranker.tasks.registry import task_named
from unified_ranker.training.architecture import Architecture
from unified_ranker.training.bags import BagMaker, Bags, rarities
from unified_ranker.training.distil import soft_target
from unified_ranker.training.mixture import Mixture
from unified_ranker.training.questions import QuestionLists, asked_tasks, question_lists
from unified_ranker.training.recipe import Recipe
from unified_ranker.training.start import Words
from unified_ranker.training.teachers import Taught, taught_targets
from unified_ranker.training.words import batches, mean_of, warm_up


def warmed_words(
    recipe: Recipe,
    mixture: Mixture,
    words: Words,
    maker: BagMaker,
    architecture: Architecture,
    *,
    data: Path,
    scratch: Path,
    on_log: Callable[[dict[str, Any]], None],
) -> Words:
    """Warm words up as the recipe says.

    Args:
        recipe: Its part ``words``, and its seed.
        mixture: Where lists come from, the same as in the run.
        words: What to start from; their rarity starts as that of the built lists.
        maker: Makes bags of lists.
        architecture: Sizes of the model.
        data: Folder of built tasks, for teachers.
        scratch: Folder for what teachers keep.
        on_log: Called with the loss and the share of lists whose best candidate came first; steps are counted on from
            run to run.

    Raises:
        RecipeError: a teacher cannot teach its task, or nothing is asked in the passages of ``questions.tasks``.
        MissingSourceError: one of those is not built.
        MissingExtraError: a teacher's library is not installed.
    """
    part = recipe.words
    taught = {
        task: taught_targets(data, task, teachers, seed=recipe.seed, scratch=scratch)
        for task, teachers in part.teachers.items()
        if task in mixture.built
    }
    asked = _asked(recipe, mixture, data)
    rng = random.Random(recipe.seed)
    texts = (text for examples in mixture.built.values() for e in examples for text in maker.make(e).candidates)
    start = replace(words, rarity=rarities(texts, len(words.vectors)))

    def tell(run: int, record: dict[str, float]) -> None:
        on_log({**record, "words_step": run * batches(part.lists) + record["words_step"]})

    return mean_of(
        [
            warm_up(
                start,
                lambda: _drawn(recipe, mixture, maker, taught, asked, rng),
                architecture,
                lists=part.lists,
                learning_rate=part.learning_rate,
                on_log=partial(tell, run),
            )
            for run in range(part.runs)
        ]
    )


def _asked(recipe: Recipe, mixture: Mixture, data: Path) -> QuestionLists | None:
    tasks = asked_tasks(recipe, mixture.built)
    return question_lists(data, tasks, embed=Embedder.load()) if tasks else None


def _drawn(
    recipe: Recipe,
    mixture: Mixture,
    maker: BagMaker,
    taught: Mapping[str, Taught],
    asked: QuestionLists | None,
    rng: random.Random,
) -> Bags:
    task = mixture.task()
    if asked is not None and task_named(task).domain == "passage" and rng.random() < recipe.questions.share:
        example, scores = asked.draw(rng)
        cosines = [scores[candidate.id] for candidate in example.candidates]
        target = soft_target(cosines, temperature=recipe.questions.temperature)
    else:
        example = mixture.example(task)
        known = taught.get(task, {}).get(example.id)
        if known is None:
            return maker.make(example)
        target = tuple(known[candidate.id] for candidate in example.candidates)
    return replace(maker.make(example), target=target, taught=True)
