"""The cosine of TF-IDF vectors (scikit-learn)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from unified_ranker.benchmarks.baselines.base import Fixed, corpus, query_of, text_of
from unified_ranker.benchmarks.built import BuiltTask

from unified_ranker.schema.types import RankingExample


class TfIdf(Fixed):
    """Logarithmic term frequency, inverse document frequency of the corpus, unit length."""

    name = "tf-idf"
    domains = ("passage", "recommendation", "routing")
    trained = False

    def prepare(self, task: BuiltTask, *, seed: int, scratch: Path) -> TfIdfScorer:
        """Count the words of the corpus."""
        from sklearn.feature_extraction.text import TfidfVectorizer

        texts = [text for text in corpus(task) if any(letter.isalnum() for letter in text)]
        return TfIdfScorer(TfidfVectorizer(sublinear_tf=True, token_pattern=r"(?u)\b\w+\b").fit(texts or ["nothing"]))


class TfIdfScorer:
    """Scores by cosine."""

    def __init__(self, vectorizer: Any) -> None:
        self._vectorizer = vectorizer

    def score(self, example: RankingExample) -> list[float]:
        """Return the cosine of each candidate with the query or history."""
        vectors = self._vectorizer.transform([query_of(example), *(text_of(c) for c in example.candidates)])
        return [float(value) for value in (vectors[1:] @ vectors[0].T).toarray()[:, 0]]
