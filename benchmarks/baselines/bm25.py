"""BM25 (bm25s), the retrieval field's floor: words that query and candidate share, weighed by how rare they are."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from unified_ranker.benchmarks.baselines.base import Fixed, corpus, query_of, text_of
from unified_ranker.benchmarks.built import BuiltTask

from unified_ranker.schema.types import RankingExample


class BM25(Fixed):
    """Robertson's BM25 with k1 = 1.5, b = 0.75, on stemless lower-case words without English stop words."""

    name = "bm25"
    domains = ("passage", "recommendation", "routing")
    trained = False

    def prepare(self, task: BuiltTask, *, seed: int, scratch: Path) -> BM25Scorer:
        """Count the words of the corpus."""
        return BM25Scorer(corpus(task))


class BM25Scorer:
    """Scores by one index, which takes in candidates that it does not know yet."""

    def __init__(self, texts: Sequence[str]) -> None:
        self._places: dict[str, int] = {}
        self._texts: list[str] = []
        self._index: Any = None
        self._add(texts)

    def _add(self, texts: Sequence[str]) -> None:
        fresh = [text for text in dict.fromkeys(texts) if text not in self._places]
        if not fresh and self._index is not None:
            return
        import bm25s

        for text in fresh:
            self._places[text] = len(self._texts)
            self._texts.append(text)
        tokens = bm25s.tokenize(self._texts, stopwords="en", show_progress=False)
        self._index = bm25s.BM25() if tokens.vocab else None
        if self._index is not None:
            self._index.index(tokens, show_progress=False)

    def score(self, example: RankingExample) -> list[float]:
        """Return the candidates' BM25 scores for the query or history."""
        import bm25s

        texts = [text_of(candidate) for candidate in example.candidates]
        self._add(texts)
        tokens = bm25s.tokenize([query_of(example)], stopwords="en", show_progress=False, return_ids=False)[0]
        if self._index is None:
            return [0.0] * len(texts)
        known = [token for token in tokens if token in self._index.vocab_dict]
        if not known:
            return [0.0] * len(texts)
        scores = self._index.get_scores(known)
        return [float(scores[self._places[text]]) for text in texts]
