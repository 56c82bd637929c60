"""Any local cross-encoder of sentence-transformers: query and candidate read together, one score."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from unified_ranker.benchmarks.baselines.base import Scorer, query_of, text_of
from unified_ranker.benchmarks.built import BuiltTask

from unified_ranker.errors import BackendError, OptionError, missing_extra
from unified_ranker.schema.types import RankingExample


class CrossEncoder:
    """A cross-encoder.

    Args:
        model: Folder of the model, or its name on the hub.
        batch_size: Pairs that are scored together.
    """

    name = "cross-encoder"
    domains = ("passage", "recommendation", "routing")
    trained = False

    def __init__(self, *, model: str = "", batch_size: int = 32) -> None:
        if not model:
            raise OptionError("baseline 'cross-encoder' needs a model: --baseline-option model=FOLDER")
        if isinstance(batch_size, bool) or not isinstance(batch_size, int) or batch_size < 1:
            raise OptionError(f"batch_size={batch_size!r} must be a whole number ≥ 1")
        self.model, self.batch_size = model, batch_size

    def prepare(self, task: BuiltTask, *, seed: int, scratch: Path) -> CrossEncoderScorer:
        """Load the model.

        Raises:
            BackendError: it cannot be loaded, or gives more than one score.
        """
        try:
            from sentence_transformers import CrossEncoder as Model
        except ImportError as error:
            raise missing_extra(
                "cross-encoder", package="sentence-transformers", purpose="the baseline cross-encoder"
            ) from error
        try:
            loaded = Model(self.model)
        except (OSError, ValueError) as error:
            raise BackendError(f"the cross-encoder {self.model!r} cannot be loaded: {error}") from error
        if loaded.num_labels != 1:
            raise BackendError(
                f"the cross-encoder {self.model!r} has {loaded.num_labels} labels; take one with a score"
            )
        return CrossEncoderScorer(loaded, self.batch_size)

    def settings(self, scorer: Scorer) -> Mapping[str, Any]:
        """Return which model it is."""
        return {"model": self.model, "batch_size": self.batch_size}


class CrossEncoderScorer:
    """Scores pairs."""

    def __init__(self, model: Any, batch_size: int) -> None:
        self._model, self._batch_size = model, batch_size

    def score(self, example: RankingExample) -> list[float]:
        """Return the model's score of each pair."""
        query = query_of(example)
        pairs = [(query, text_of(candidate)) for candidate in example.candidates]
        found = self._model.predict(pairs, batch_size=self._batch_size, show_progress_bar=False)
        return [float(value) for value in found]
