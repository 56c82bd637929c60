"""Hard negatives: candidates of other lists of the task whose words are most like the query's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from unified_ranker.schema.types import Candidate, RankingExample


class HardNegatives:
    """Finds candidates by BM25 among all of a task's.

    Args:
        examples: The task's training lists.
    """

    def __init__(self, examples: Sequence[RankingExample]) -> None:
        import bm25s

        # The same passage may stand in many lists.
        self._candidates = list({c.id: c for example in examples for c in example.candidates}.values())
        texts = [f"{c.title} {c.text}".strip() for c in self._candidates]
        tokens = bm25s.tokenize(texts, stopwords="en", show_progress=False)
        self._index: Any = None
        if tokens.vocab:
            self._index = bm25s.BM25()
            self._index.index(tokens, show_progress=False)

    def apply(self, example: RankingExample) -> RankingExample:
        """Return the list with its irrelevant candidates replaced by hard ones, as many as there were.

        Where the query has no word in common with enough others, some of its own stay.
        """
        import bm25s

        wanted = [c for c in example.candidates if example.grade(c.id) > 0]
        count = len(example.candidates) - len(wanted)
        query = bm25s.tokenize([example.query], stopwords="en", show_progress=False, return_ids=False)[0]
        scores = self._index.get_scores(query) if self._index is not None and query else []
        ranked = sorted(range(len(scores)), key=lambda place: (-scores[place], self._candidates[place].id))
        known = {c.id for c in wanted}
        hard = [self._candidates[p] for p in ranked if scores[p] > 0 and self._candidates[p].id not in known][:count]
        kept = {c.id for c in hard} | known
        own = [c for c in example.candidates if c.id not in kept][: count - len(hard)]
        return _in_places(example, wanted, [*hard, *own])


def _in_places(example: RankingExample, wanted: Sequence[Candidate], others: Sequence[Candidate]) -> RankingExample:
    """Return the list in which relevant candidates keep their places, and the others fill the rest in order."""
    relevant, rest = {c.id for c in wanted}, iter(others)
    candidates = tuple(c if c.id in relevant else next(rest) for c in example.candidates)
    return example.with_candidates(candidates)
