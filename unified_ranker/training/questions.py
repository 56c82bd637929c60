"""New passage lists from questions that stand in passages: which passages answer them, an embedding model says.

Pages of the web ask what their readers ask, in headings and in lists of what others asked. Such a question needs no
judge to teach: a model that knows sentences says how near each passage is to it, and one that knows words learns what
words its answers have (distillation, Hinton et al., arXiv 1503.02531; of rankings Hofstätter et al., arXiv 2010.02666).
A stretch of a passage (:mod:`~unified_ranker.training.cloze`) is asked in the words of its answer; a question is not.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from unified_ranker.errors import RecipeError
from unified_ranker.schema.types import SPLITS, Candidate, RankingExample
from unified_ranker.tasks.build import read_split
from unified_ranker.tasks.registry import task_named
from unified_ranker.training.cloze import sentences
from unified_ranker.training.recipe import Recipe

# A sentence that starts with one of these asks.
ASKING = frozenset(
    ("how", "what", "who", "where", "when", "why", "which", "is", "are", "does", "do", "can", "define", "definition")
)
# Words of a question.
SHORTEST, LONGEST = 3, 14
# Passages of a list: some of the nearest, some of those that follow, as a search engine finds them, and some of all.
NEAREST, NEXT, ANY = (4, 12), (3, 200), 3
# A question that has so much of what a query for testing says, function words aside, may be that query again.
SAME = 0.5
_WORD = re.compile(r"\w+")


class QuestionLists:
    """Draws lists of passages for questions that stand in other passages.

    Args:
        passages: What to draw from; a text that comes again counts once.
        embed: Unit-length embeddings of texts, (texts, size), such as :class:`~unified_ranker.embedding.Embedder`.
        kept: Queries for testing: what says half of one of them, or more, is not asked.

    Raises:
        RecipeError: no passage asks anything that another could answer.
    """

    def __init__(
        self, passages: Iterable[Candidate], *, embed: Callable[[Sequence[str]], Any], kept: Iterable[str] = ()
    ) -> None:
        self._passages = list({(c.title, c.text): c for c in passages}.values())
        holders: dict[str, set[int]] = {}
        for place, passage in enumerate(self._passages):
            for question in _questions(passage.text):
                holders.setdefault(question, set()).add(place)
        known = {_says(query) for query in kept}
        says = {question: _says(question) for question in sorted(holders)}
        asked = [question for question, said in says.items() if not any(_same(said, query) for query in known)]
        # Two of a list have to differ in how near they are.
        self.questions = [q for q in asked if len(self._passages) - len(holders[q]) > 1]
        if not self.questions:
            raise RecipeError("questions.tasks: no passage of these tasks asks a question that others could answer")
        texts = [f"{passage.title} {passage.text}".strip() for passage in self._passages]
        self._alike = embed(self.questions) @ embed(texts).T
        self._near = [self._nearest(row, holders[q]) for q, row in zip(self.questions, self._alike, strict=True)]
        self._holders = [holders[q] for q in self.questions]

    def __len__(self) -> int:
        """Return how many questions there are."""
        return len(self.questions)

    def draw(self, rng: random.Random) -> tuple[RankingExample, Mapping[str, float]]:
        """Return a list, and how near each of its candidates is to its question: a cosine, by the candidate's id.

        A passage in which the question stands is not among them: that it repeats the question says nothing.
        """
        place = rng.randrange(len(self.questions))
        near, holders = self._near[place], self._holders[place]
        drawn = [
            *_some(near[: NEAREST[1]], NEAREST[0], rng),
            *_some(near[NEAREST[1] : NEXT[1]], NEXT[0], rng),
            *(p for p in _some(range(len(self._passages)), ANY, rng) if p not in holders),
        ]
        chosen = list(dict.fromkeys(drawn))
        rng.shuffle(chosen)
        scores = {str(p): float(self._alike[place][p]) for p in chosen}
        example = RankingExample(
            id=f"question-{place}",
            query=self.questions[place],
            candidates=tuple(replace(self._passages[p], id=str(p)) for p in chosen),
            task="questions",
            domain="passage",
            relevance={max(scores, key=lambda id: scores[id]): 1.0},
            split="train",
            group=f"question-{place}",
        )
        return example, scores

    @staticmethod
    def _nearest(alike: Any, holders: set[int]) -> list[int]:
        order = (-alike).argsort(kind="stable")[: NEXT[1] + len(holders)]
        return [int(place) for place in order if int(place) not in holders][: NEXT[1]]


def asked_tasks(recipe: Recipe, drawn: Iterable[str]) -> tuple[str, ...]:
    """Return the tasks whose passages a run of a recipe reads for what they ask.

    None unless words are warmed up on lists of passages.

    Args:
        recipe: The recipe.
        drawn: The tasks that the run draws lists of.
    """
    warmed = not recipe.model.source and recipe.model.embeddings == "minilm" and recipe.words.lists > 0
    passages = any(task_named(task).domain == "passage" for task in drawn)
    return tuple(recipe.questions.tasks) if recipe.questions.share and warmed and passages else ()


def question_lists(data: Path, tasks: Sequence[str], *, embed: Callable[[Sequence[str]], Any]) -> QuestionLists:
    """Return lists from the passages of tasks: of training lists, or of test lists where a task has no others.

    Of test lists the passages are read, and the queries to leave them out; no judgement is.

    Args:
        data: Folder of built tasks.
        tasks: Passage tasks.
        embed: See :class:`QuestionLists`.

    Raises:
        MissingSourceError: a task is not built.
        RecipeError: a task is not one of passages, or nothing is asked in them.
    """
    passages, kept = list[Candidate](), set[str]()
    for task in tasks:
        if task_named(task).domain != "passage":
            raise RecipeError(f"questions.tasks: {task!r} is not a task of passages")
        lists = {split: tuple(read_split(data, task, split)) for split in SPLITS}
        passages += (c for example in lists["train"] or lists["test"] for c in example.candidates)
        kept.update(example.query for split in ("validation", "test") for example in lists[split])
    return QuestionLists(passages, embed=embed, kept=sorted(kept))


def _questions(text: str) -> Iterable[str]:
    for sentence in sentences(text):
        words = sentence.lower().strip(" .?!:").split()
        if SHORTEST <= len(words) <= LONGEST and words[0] in ASKING:
            yield " ".join(words)


def _says(text: str) -> frozenset[str]:
    """Return the words of a text that say what it is about, in the singular as far as that is an ``s`` less."""
    from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS

    return frozenset(word.removesuffix("s") for word in _WORD.findall(text.lower()) if word not in ENGLISH_STOP_WORDS)


def _same(question: frozenset[str], query: frozenset[str]) -> bool:
    return bool(query) and len(question & query) >= SAME * len(query)


def _some(places: Sequence[int], count: int, rng: random.Random) -> list[int]:
    return rng.sample(places, min(count, len(places)))
