"""Sizes of a small model that starts here, and what each dimension of its residual stream is for."""

from __future__ import annotations

import math
from dataclasses import dataclass

from unified_ranker.errors import RecipeError

# Dimensions of a head whose angle between two tokens stays below half a radian over so many positions: those of a list,
# and those of one candidate.
SLOW_OVER, NEAR_OVER = 400, 72


@dataclass(frozen=True, slots=True, kw_only=True)
class Architecture:
    """A small Llama with biases in its attention (those of Qwen2, and one at the output).

    Attributes:
        hidden_size: Width.
        layers: Depth, at least 5.
        heads: Attention heads, at least 3; ``hidden_size / heads`` dimensions each, at least 64 and more than labels.
        intermediate_size: Width of the feed-forward layers.
        context: Most tokens of prompt and reply.
        labels: How many labels the tokenizer has.
        rope_theta: Base of the rotary wavelengths. Large, so that many dimensions turn too slowly to tell a list's
            positions apart: comparing meanings over a distance needs those.
    """

    hidden_size: int = 384
    layers: int = 5
    heads: int = 3
    intermediate_size: int = 640
    context: int = 8192
    labels: int = 100
    rope_theta: float = 10_000_000.0

    def __post_init__(self) -> None:
        if self.layers < 5:
            raise RecipeError(
                f"model.layers={self.layers} must be ≥ 5: to tell segments, to pass them on, to gather, to compare and "
                "to point"
            )
        if self.heads < 3 or self.hidden_size % self.heads:
            raise RecipeError(
                f"model.hidden_size={self.hidden_size} must be a multiple of heads={self.heads}, which is ≥ 3"
            )
        if self.head_size < 64 or self.head_size % 2:
            raise RecipeError(f"model.hidden_size/heads={self.head_size} must be even and ≥ 64")
        if not 1 <= self.labels < self.head_size:
            raise RecipeError(
                f"model.labels={self.labels} must be ≥ 1 and below hidden_size/heads={self.head_size}: each label has "
                "an identity of its own there, and so has the list mark"
            )

    @property
    def head_size(self) -> int:
        """Dimensions of one head, and of label identity."""
        return self.hidden_size // self.heads

    @property
    def content(self) -> int:
        """Dimensions for what words mean. The last is ballast: how much of a word's norm does not count."""
        return self.hidden_size - self.head_size - self.head_size // 2 - 12

    @property
    def identity(self) -> slice:
        """The dimensions of label identity, which no layer before the last writes to."""
        return slice(self.content, self.content + self.head_size)

    @property
    def segment(self) -> slice:
        """The dimensions in which words and labels note whose text they are."""
        return slice(self.identity.stop, self.identity.stop + self.head_size // 2)

    @property
    def list_flag(self) -> int:
        """The dimension of "the list begins here"."""
        return self.hidden_size - 12

    @property
    def start_flag(self) -> int:
        """The dimension of "the prompt begins here"."""
        return self.hidden_size - 11

    @property
    def label_flag(self) -> int:
        """The dimension of "this is a label"."""
        return self.hidden_size - 10

    @property
    def again_flag(self) -> int:
        """The dimension of "here the query is said again"."""
        return self.hidden_size - 9

    @property
    def listed(self) -> int:
        """The dimension in which words of the list note that they are not the query's."""
        return self.hidden_size - 8

    @property
    def again(self) -> int:
        """The dimension in which words of the list note that they say the query again."""
        return self.hidden_size - 7

    @property
    def rarity(self) -> int:
        """The dimension of how much it says that two texts share this word."""
        return self.hidden_size - 6

    @property
    def found(self) -> int:
        """The dimension in which words of the list note how far their segment has one that means the same."""
        return self.hidden_size - 5

    @property
    def matched(self) -> int:
        """The dimension of the same, times how rare they are."""
        return self.hidden_size - 4

    @property
    def directed(self) -> int:
        """The dimension of "this says which end of the ranking is asked for"."""
        return self.hidden_size - 3

    @property
    def direction(self) -> int:
        """The dimension of which end that is: negative for the worst, positive for the best."""
        return self.hidden_size - 2

    @property
    def relevance(self) -> int:
        """The dimension of relevance."""
        return self.hidden_size - 1

    @property
    def gates(self) -> tuple[int, int]:
        """The two dimensions of a head that turn slowest, for what does not depend on distance at all."""
        return self.head_size // 2 - 1, self.head_size - 1

    @property
    def slow(self) -> list[int]:
        """The dimensions of a head that hardly turn over the length of a list, slowest first, less its gates."""
        return self._slower(SLOW_OVER)

    @property
    def told_apart(self) -> list[int]:
        """The dimensions of a head by which a word that is said again knows its own segment from the others."""
        near = self._slower(NEAR_OVER)
        return near[: len(near) // 6 * 2]

    @property
    def alike(self) -> list[int]:
        """The dimensions of a head by which a word that is said again looks for what means the same."""
        return self._slower(NEAR_OVER)[len(self.told_apart) :]

    @property
    def exclusion(self) -> int:
        """The dimension of a head by which labels are left out."""
        return self.head_size // 2 - 2

    def _slower(self, positions: int) -> list[int]:
        half = self.head_size // 2
        first = math.ceil(half * math.log(2 * positions) / math.log(self.rope_theta))
        return [place for pair in reversed(range(first, half - 2)) for place in (pair, half + pair)]

    def compared(self, head: int) -> list[int]:
        """Return the dimensions of meaning that a head compares: heads share them out, those that vary most first."""
        return list(range(head, self.content - 1, self.heads))[: len(self.slow)]

    def carried(self, heads: range) -> list[tuple[int, range]]:
        """Return which dimensions of meaning each of some heads carries over, as many as it can."""
        starts = range(0, self.content, self.head_size)
        return [
            (head, range(start, min(start + self.head_size, self.content)))
            for head, start in zip(heads, starts, strict=False)
        ]
