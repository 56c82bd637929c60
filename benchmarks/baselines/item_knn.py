"""Items that the users of this user's items chose: co-occurrence, damped by popularity, chosen on validation lists."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any

from unified_ranker.benchmarks.baselines.base import Scorer
from unified_ranker.benchmarks.built import BuiltTask

from unified_ranker.schema.types import RankingExample
from unified_ranker.training.mrr import reciprocal_rank


class ItemKNN:
    """A candidate scores the sum of its similarities to the items of the user's history.

    The similarity of two items is ``c / (p_i^a · p_j^b)``: ``c`` training users chose both, ``p`` chose each. ``a`` (of
    the candidate) and ``b`` (of the history's item) and how fast older choices fade are taken from :data:`GRID` by mean
    RR on the validation lists; ``a = b = 0.5`` is the cosine.
    """

    name = "item-knn"
    domains = ("recommendation",)
    trained = True
    GRID: tuple[tuple[float, ...], ...] = ((0.0, 0.25, 0.5, 0.75), (0.0, 0.5, 1.0), (1.0, 0.98, 0.9))

    def prepare(self, task: BuiltTask, *, seed: int, scratch: Path) -> ItemKNNScorer:
        """Count pairs of items, and choose the exponents."""
        from scipy.sparse import csr_matrix

        items = {item: place for place, item in enumerate(sorted({i for h in task.histories for i in h.items}))}
        training = [history for history in task.histories if history.split == "train"]
        rows = [row for row, history in enumerate(training) for _ in history.items]
        columns = [items[item] for history in training for item in history.items]
        chosen = csr_matrix(([1.0] * len(rows), (rows, columns)), shape=(len(training), len(items)))
        scorer = ItemKNNScorer(
            items, (chosen.T @ chosen).tocsr(), {history.user: history.items for history in task.histories}
        )
        return scorer.tuned(task.lists("validation"), self.GRID)

    def settings(self, scorer: Scorer) -> Mapping[str, Any]:
        """Return the exponents that did best on validation."""
        assert isinstance(scorer, ItemKNNScorer)
        return scorer.chosen


class ItemKNNScorer:
    """Scores by similarity to the history."""

    def __init__(
        self,
        items: Mapping[str, int],
        pairs: Any,
        histories: Mapping[str, Sequence[str]],
        exponents: Sequence[float] = (0.5, 0.5, 1.0),
    ) -> None:
        self._items, self._pairs, self._histories = items, pairs, histories
        self._popularity = pairs.diagonal()
        self._candidate, self._history, self._fading = exponents

    @property
    def chosen(self) -> dict[str, float]:
        """The exponents."""
        return {"candidate": self._candidate, "history": self._history, "fading": self._fading}

    def tuned(self, lists: Sequence[RankingExample], grid: Sequence[Sequence[float]]) -> ItemKNNScorer:
        """Return the scorer of the grid with the best mean RR."""
        made = [ItemKNNScorer(self._items, self._pairs, self._histories, exponents) for exponents in product(*grid)]
        return max(made, key=lambda scorer: sum(_reciprocal(scorer, example) for example in lists))

    def score(self, example: RankingExample) -> list[float]:
        """Return the similarity of each candidate to what the user chose before."""
        import numpy

        history = [self._items[item] for item in self._histories.get(example.group, ()) if item in self._items]
        known = [self._items.get(candidate.id) for candidate in example.candidates]
        places = [place for place in known if place is not None]
        scores = [0.0] * len(known)
        if not history or not places:
            return scores
        pairs = self._pairs[places][:, history].toarray()
        fading = self._fading ** numpy.arange(len(history) - 1, -1, -1.0)
        weights = fading / numpy.maximum(self._popularity[history], 1.0) ** self._history
        found = (pairs @ weights) / numpy.maximum(self._popularity[places], 1.0) ** self._candidate
        values = iter(found.tolist())
        return [0.0 if place is None else next(values) for place in known]


def _reciprocal(scorer: Scorer, example: RankingExample) -> float:
    scores = scorer.score(example)
    order = sorted(range(len(scores)), key=lambda place: -scores[place])
    return reciprocal_rank([example.grade(example.candidates[place].id) for place in order], rule="positive")
