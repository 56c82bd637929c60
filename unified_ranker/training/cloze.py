"""New passage lists from the passages of training lists: which of them does this sentence come from?

The inverse cloze task (Lee et al., arXiv 1906.00300): a stretch of a passage is the query, the rest of that passage is
relevant, and the others of its list, which a search engine found alike, are not. A few hundred training queries are
learned by heart within minutes; stretches of their passages are not.
"""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from dataclasses import replace

from unified_ranker.schema.types import Candidate, RankingExample

# Sentences that every passage of a list must have.
LEAST = 4
# Words of a stretch.
SHORTEST, LONGEST = 6, 20
# Shares of lists that ask by the title, and in which the passage keeps the sentence that the query is from.
BY_TITLE, KEPT = 0.3, 0.1
_END = re.compile(r"(?<=[.!?])\s+")


class ClozeLists:
    """Draws lists from the passages of one task.

    Args:
        examples: Its training lists; those with a passage of fewer than four sentences are left out.
    """

    def __init__(self, examples: Sequence[RankingExample]) -> None:
        self._examples = [e for e in examples if all(len(sentences(c.text)) >= LEAST for c in e.candidates)]

    def __len__(self) -> int:
        """Return how many lists there are to draw from."""
        return len(self._examples)

    def draw(self, rng: random.Random) -> RankingExample:
        """Return a list whose query is a stretch of one of its passages, or its title; neither stands in it then."""
        example = rng.choice(self._examples)
        passage = rng.choice(example.candidates)
        query, rest = _asked(passage, rng)
        return replace(
            example,
            id=f"{example.id}-cloze-{passage.id}",
            query=query,
            candidates=tuple(rest if c.id == passage.id else c for c in example.candidates),
            relevance={passage.id: 1.0},
        )


def sentences(text: str) -> list[str]:
    """Return the sentences of a text, as far as their ends can be seen."""
    return [sentence for sentence in _END.split(text.strip()) if sentence]


def _asked(passage: Candidate, rng: random.Random) -> tuple[str, Candidate]:
    if passage.title and rng.random() < BY_TITLE:
        return passage.title, replace(passage, title="")
    whole = sentences(passage.text)
    place = rng.randrange(len(whole))
    spoken = whole[place].split()
    length = min(len(spoken), rng.randint(SHORTEST, LONGEST))
    start = rng.randint(0, len(spoken) - length)
    left = whole if rng.random() < KEPT else [*whole[:place], *whole[place + 1 :]]
    return " ".join(spoken[start : start + length]), replace(passage, text=" ".join(left))
