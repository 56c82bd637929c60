"""One logistic regression an LLM (scikit-learn): how likely is it the best for this question?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from unified_ranker.benchmarks.baselines.base import Scorer
from unified_ranker.benchmarks.baselines.knn_router import (
    by_pool,
    checked_numbers,
    checked_vectors,
    reciprocal_of,
    vectorizer_of,
)
from unified_ranker.benchmarks.baselines.single_llm import pool_of
from unified_ranker.benchmarks.built import BuiltTask
from unified_ranker.tasks.random_order import is_relevant

from unified_ranker.schema.types import RankingExample


class LogisticRouter:
    """An LLM scores its probability of being relevant, from the question's words or its MiniLM embedding.

    Vectors and the strength of the penalty are chosen on validation lists by mean RR.
    """

    name = "logistic-router"
    domains = ("routing",)
    trained = True
    VECTORS = ("tf-idf", "minilm")
    INVERSE_PENALTIES = (0.03, 0.3, 3.0)

    def __init__(
        self, *, vectors: Sequence[str] = VECTORS, inverse_penalties: Sequence[float] = INVERSE_PENALTIES
    ) -> None:
        self.vectors = checked_vectors(vectors)
        self.inverse_penalties = checked_numbers("inverse_penalties", inverse_penalties, whole=False)

    def prepare(self, task: BuiltTask, *, seed: int, scratch: Path) -> LogisticRouterScorer:
        """Fit on the training lists, and choose on the validation lists."""
        held = task.lists("validation")
        best: tuple[float, LogisticRouterScorer] | None = None
        for kind in self.vectors:
            vectorize = vectorizer_of(kind, [example.query for example in task.lists("train")])
            for inverse in self.inverse_penalties:
                scorer = LogisticRouterScorer(kind, inverse, vectorize, _fit(task, vectorize, inverse))
                total = sum(reciprocal_of(scorer, example, task.task.binary) for example in held)
                if best is None or total > best[0]:
                    best = (total, scorer)
        assert best is not None
        return best[1]

    def settings(self, scorer: Scorer) -> Mapping[str, Any]:
        """Return vectors and penalty."""
        assert isinstance(scorer, LogisticRouterScorer)
        return {"vectors": scorer.kind, "inverse_penalty": scorer.inverse_penalty}


def _fit(task: BuiltTask, vectorize: Any, inverse: float) -> dict[tuple[str, ...], dict[str, Any]]:
    from sklearn.linear_model import LogisticRegression

    rule = task.task.binary
    fitted: dict[tuple[str, ...], dict[str, Any]] = {}
    for names, examples in by_pool(task).items():
        vectors = vectorize([example.query for example in examples])
        best = [dict(zip(names, is_relevant([e.grade(n) for n in names], rule), strict=True)) for e in examples]
        models: dict[str, Any] = {}
        for name in names:
            target = [int(row[name]) for row in best]
            # An LLM that is always or never the best has nothing to fit: its share stands for it.
            models[name] = (
                float(target[0])
                if len(set(target)) == 1
                else LogisticRegression(C=inverse, max_iter=1000).fit(vectors, target)
            )
        fitted[names] = models
    return fitted


class LogisticRouterScorer:
    """Scores by probability."""

    def __init__(
        self, kind: str, inverse_penalty: float, vectorize: Any, models: Mapping[tuple[str, ...], Mapping[str, Any]]
    ) -> None:
        self.kind, self.inverse_penalty = kind, inverse_penalty
        self._vectorize, self._models = vectorize, models

    def score(self, example: RankingExample) -> list[float]:
        """Return each LLM's probability of being the best."""
        models = self._models.get(pool_of(example))
        if models is None:
            return [0.0] * len(example.candidates)
        vector = self._vectorize([example.query])
        return [
            model if isinstance(model, float) else float(model.predict_proba(vector)[0, 1])
            for model in (models[candidate.id] for candidate in example.candidates)
        ]
