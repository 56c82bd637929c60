"""The nearest training questions decide which LLM answers (scikit-learn), as the routing benchmarks' kNN routers do."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unified_ranker.benchmarks.baselines.base import Scorer
from unified_ranker.benchmarks.baselines.single_llm import pool_of
from unified_ranker.benchmarks.built import BuiltTask

from unified_ranker.errors import OptionError, unknown_choice
from unified_ranker.schema.types import RankingExample
from unified_ranker.training.mrr import reciprocal_rank


@dataclass(frozen=True, slots=True)
class Pool:
    """Training questions that were put to the same LLMs.

    Attributes:
        neighbours: Fitted ``NearestNeighbors`` on their vectors.
        grades: Relevance, one row a question, one column an LLM in the order of the pool.
        mean: The mean row.
    """

    neighbours: Any
    grades: Any
    mean: Any


class KNNRouter:
    """An LLM scores its mean relevance over the k nearest training questions with the same LLMs.

    Questions are near by the cosine of their TF-IDF vectors or of MiniLM's; which, and k, is chosen on validation lists
    by mean RR.
    """

    name = "knn-router"
    domains = ("routing",)
    trained = True
    VECTORS = ("tf-idf", "minilm")
    NEIGHBOURS = (5, 10, 20, 40, 80, 160)

    def __init__(self, *, vectors: Sequence[str] = VECTORS, neighbours: Sequence[int] = NEIGHBOURS) -> None:
        self.vectors = checked_vectors(vectors)
        self.neighbours = checked_numbers("neighbours", neighbours, whole=True)

    def prepare(self, task: BuiltTask, *, seed: int, scratch: Path) -> KNNRouterScorer:
        """Index the training questions, and choose vectors and k."""
        rule = task.task.binary
        held = task.lists("validation")
        best: tuple[float, KNNRouterScorer] | None = None
        for kind in self.vectors:
            vectorize = vectorizer_of(kind, [example.query for example in task.lists("train")])
            pools = _pools(task, vectorize)
            # Looked up once for the largest k, of whose neighbours a smaller k takes the first.
            widest = KNNRouterScorer(kind, vectorize, pools, max(self.neighbours))
            near = {example.id: widest.near(example) for example in held}
            for count in self.neighbours:
                scorer = KNNRouterScorer(kind, vectorize, pools, count, known=near)
                total = sum(reciprocal_of(scorer, example, rule) for example in held)
                if best is None or total > best[0]:
                    best = (total, scorer)
        assert best is not None
        return best[1]

    def settings(self, scorer: Scorer) -> Mapping[str, Any]:
        """Return vectors and k."""
        assert isinstance(scorer, KNNRouterScorer)
        return {"vectors": scorer.kind, "neighbours": scorer.count}


def checked_vectors(vectors: Sequence[str]) -> tuple[str, ...]:
    """Return the kinds of vectors to try.

    Raises:
        OptionError: they are no list, or one is not known.
    """
    if not isinstance(vectors, (list, tuple)) or not vectors:
        raise OptionError(f"vectors={vectors!r} must be a list of {', '.join(KNNRouter.VECTORS)}")
    for kind in vectors:
        if kind not in KNNRouter.VECTORS:
            raise unknown_choice("vectors", kind, KNNRouter.VECTORS)
    return tuple(vectors)


def checked_numbers(option: str, values: Sequence[float], *, whole: bool) -> tuple[Any, ...]:
    """Return numbers to try.

    Raises:
        OptionError: they are no list, or one is not above 0, or not whole where it has to be.
    """
    kind = "whole numbers ≥ 1" if whole else "numbers > 0"
    fits = (int,) if whole else (int, float)
    right = isinstance(values, (list, tuple)) and values
    if not right or any(isinstance(v, bool) or not isinstance(v, fits) or not v > 0 for v in values):
        raise OptionError(f"{option}={values!r} must be a list of {kind}")
    return tuple(values)


def vectorizer_of(kind: str, questions: Sequence[str]) -> Any:
    """Return a function from questions to vectors of length 1: ``"tf-idf"`` (sparse) or ``"minilm"`` (dense)."""
    if kind == "minilm":
        from unified_ranker.embedding import Embedder

        return Embedder.load()
    from sklearn.feature_extraction.text import TfidfVectorizer

    return TfidfVectorizer(sublinear_tf=True, token_pattern=r"(?u)\b\w+\b").fit(questions).transform


def by_pool(task: BuiltTask) -> dict[tuple[str, ...], list[RankingExample]]:
    """Return the training lists by the LLMs they choose from."""
    found: dict[tuple[str, ...], list[RankingExample]] = defaultdict(list)
    for example in task.lists("train"):
        found[pool_of(example)].append(example)
    return found


def _pools(task: BuiltTask, vectorize: Any) -> dict[tuple[str, ...], Pool]:
    import numpy
    from sklearn.neighbors import NearestNeighbors

    pools = {}
    for names, examples in by_pool(task).items():
        vectors = vectorize([example.query for example in examples])
        grades = numpy.array([[example.grade(name) for name in names] for example in examples])
        index = NearestNeighbors(metric="cosine", algorithm="brute").fit(vectors)
        pools[names] = Pool(index, grades, grades.mean(axis=0))
    return pools


class KNNRouterScorer:
    """Scores by the nearest questions."""

    def __init__(
        self,
        kind: str,
        vectorize: Any,
        pools: Mapping[tuple[str, ...], Pool],
        count: int,
        *,
        known: Mapping[str, Any] | None = None,
    ) -> None:
        self.kind, self.count = kind, count
        self._vectorize, self._pools, self._known = vectorize, pools, known or {}

    def near(self, example: RankingExample) -> Any:
        """Return the places of the nearest training questions in the example's pool, nearest first."""
        if example.id in self._known:
            return self._known[example.id][: self.count]
        pool = self._pools.get(pool_of(example))
        if pool is None:
            return []
        count = min(self.count, len(pool.grades))
        (found,) = pool.neighbours.kneighbors(self._vectorize([example.query]), count, return_distance=False)
        return found

    def score(self, example: RankingExample) -> list[float]:
        """Return each LLM's mean relevance over the neighbours; a tie goes to the better LLM overall."""
        names = pool_of(example)
        if names not in self._pools:
            return [0.0] * len(example.candidates)
        pool = self._pools[names]
        found = pool.grades[self.near(example)].mean(axis=0) + 1e-6 * pool.mean
        by_name = dict(zip(names, found.tolist(), strict=True))
        return [by_name[candidate.id] for candidate in example.candidates]


def reciprocal_of(scorer: Scorer, example: RankingExample, rule: str) -> float:
    """Return the reciprocal rank that a scorer reaches on a list."""
    scores = scorer.score(example)
    order = sorted(range(len(scores)), key=lambda place: -scores[place])
    return reciprocal_rank([example.grade(example.candidates[place].id) for place in order], rule=rule)
