"""The cosine of sentence embeddings: all-MiniLM-L6-v2, from a package that carries the model."""

from __future__ import annotations

from pathlib import Path

from unified_ranker.benchmarks.baselines.base import Fixed, text_of
from unified_ranker.benchmarks.built import BuiltTask

from unified_ranker.embedding import Embedder
from unified_ranker.schema.types import RankingExample


class MiniLM(Fixed):
    """Mean-pooled MiniLM; a history is the mean of its entries, each embedded by itself."""

    name = "minilm"
    domains = ("passage", "recommendation", "routing")
    trained = False

    def prepare(self, task: BuiltTask, *, seed: int, scratch: Path) -> MiniLMScorer:
        """Load the model."""
        return MiniLMScorer(Embedder.load())


class MiniLMScorer:
    """Scores by cosine."""

    def __init__(self, embed: Embedder) -> None:
        self._embed = embed

    def score(self, example: RankingExample) -> list[float]:
        """Return the cosine of each candidate with the query, or with the mean of the history."""
        candidates = self._embed([text_of(candidate) for candidate in example.candidates])
        query = self._embed(list(example.context) or [example.query]).mean(axis=0)
        return [float(value) for value in candidates @ query]
