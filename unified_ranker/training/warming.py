"""The warm-up of a run: what it draws, as bags, and whom it listens to."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from unified_ranker.embedding import Embedder
from unified_ranker.tasks.registry import task_named
from unified_ranker.training.architecture import Architecture
from unified_ranker.training.bags import BagMaker, Bags, rarities
from unified_ranker.training.distil import soft_target
from unified_ranker.training.kept import Kept
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
    kept: Kept,
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
        kept: What an earlier attempt at the run has worked out: what teachers say, questions, and whole warm-ups.
        on_log: Called when teachers have spoken (``taught``: of how many lists), when questions were found (``asked``:
            how many), and with the loss and the share of lists whose best candidate came first; steps are counted on
            from run to run. Of what is kept nothing is told again.

    Raises:
        RecipeError: a teacher cannot teach its task, or nothing is asked in the passages of ``questions.tasks``.
        MissingSourceError: one of those is not built.
        MissingExtraError: a teacher's library is not installed.
    """
    part = recipe.words

    def teach(task: str) -> Taught:
        told = taught_targets(data, task, part.teachers[task], seed=recipe.seed, scratch=scratch)
        on_log({"kind": "taught", "task": task, "taught": len(told)})
        return told

    def ask(tasks: Sequence[str]) -> QuestionLists:
        found = question_lists(data, tasks, embed=Embedder.load())
        on_log({"kind": "asked", "asked": len(found)})
        return found

    taught = {task: kept.once(_teacher(task), partial(teach, task)) for task in part.teachers if task in mixture.built}
    asking = asked_tasks(recipe, mixture.built)
    asked = kept.once("asked", partial(ask, asking)) if asking else None
    texts = (text for examples in mixture.built.values() for e in examples for text in maker.make(e).candidates)
    start = replace(words, rarity=rarities(texts, len(words.vectors)))
    rng = random.Random(recipe.seed)
    generators = (mixture.rng, rng)

    def warm(run: int) -> tuple[Words, tuple[Any, ...]]:
        def tell(record: dict[str, float]) -> None:
            step = run * batches(part.lists) + record["words_step"]
            on_log({"kind": "words", **record, "words_step": step})

        learned = warm_up(
            start,
            lambda: _drawn(recipe, mixture, maker, taught, asked, rng),
            architecture,
            lists=part.lists,
            learning_rate=part.learning_rate,
            on_log=tell,
        )
        return learned, tuple(generator.getstate() for generator in generators)

    runs = []
    for run in range(part.runs):
        learned, states = kept.once(_warm_up(run), partial(warm, run))
        # The next one, and the run itself, draw what they would have drawn had this one not been kept.
        for generator, state in zip(generators, states, strict=True):
            generator.setstate(state)
        runs.append(learned)
    return mean_of(runs)


def kept_as(record: Mapping[str, Any], recipe: Recipe) -> str:
    """Return the name under which what a record of the log tells of is kept, or will be."""
    if record["kind"] == "words":
        return _warm_up((record["words_step"] - 1) // batches(recipe.words.lists))
    return _teacher(record["task"]) if record["kind"] == "taught" else str(record["kind"])


def _warm_up(run: int) -> str:
    return f"warm-up-{run}"


def _teacher(task: str) -> str:
    return f"taught-{task}"


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
