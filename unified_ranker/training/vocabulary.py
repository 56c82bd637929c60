"""What a small model's tokenizer knows beyond MiniLM's words: words and names of the lists that it is trained on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import torch
from torch.nn.functional import normalize

from unified_ranker.names import plain, token_of
from unified_ranker.schema.types import RankingExample
from unified_ranker.training.recipe import WordsPart
from unified_ranker.training.start import minilm_embeddings, with_further
from unified_ranker.training.together import POWER, chosen_together
from unified_ranker.training.tokenizer import frequent_names, frequent_words, make_tokenizer


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """Further tokens, in the order of their numbers: first words, then names."""

    words: tuple[str, ...] = ()
    names: tuple[str, ...] = ()

    def tokenizer(self, labels: int) -> Any:
        """Return the tokenizer, with so many labels."""
        return make_tokenizer(labels, words=[*self.words, *map(token_of, self.names)])

    def vectors(
        self,
        size: int,
        histories: Mapping[str, Sequence[Sequence[str]]] = MappingProxyType({}),
        *,
        window: int = 0,
        power: float = POWER,
    ) -> torch.Tensor:
        """Return a vector of each word and name to start from, (tokens, ``size``); see :class:`.start.Words`.

        MiniLM's own words have MiniLM's; a further one starts as the mean of the pieces that it would break into, and a
        name as the mean of its words, or where :func:`~unified_ranker.training.together.chosen_together` puts it.

        Args:
            size: Dimensions, of which the last is ballast.
            histories: What each user of each task chose, by what it is called; empty for names from their words alone.
            window: See :func:`~unified_ranker.training.together.chosen_together`.
            power: See there.
        """
        vectors = with_further(minilm_embeddings(size), self.words, make_tokenizer(1))
        vectors = with_further(vectors, self.names, make_tokenizer(1, words=self.words))
        placed: dict[str, torch.Tensor] = {}
        for chosen in histories.values():
            for name, vector in chosen_together(chosen, self.names, size - 1, window=window, power=power).items():
                # A film and a game may have one name.
                placed[name] = placed.get(name, 0) + vector
        first = len(vectors) - len(self.names)
        for place, name in enumerate(self.names, start=first):
            if name in placed:
                vectors[place, : size - 1] = normalize(placed[name], dim=0)
        return vectors


def vocabulary_of(
    lists: Mapping[str, Sequence[RankingExample]], chosen: Mapping[str, Mapping[str, int]], part: WordsPart
) -> Vocabulary:
    """Choose the further words and names of some training lists.

    Names are what candidates of recommendation and routing are called: each is an entity of its own, about which its
    words say little. What is not learned as a whole name is broken into words.

    Args:
        lists: Training lists of each task.
        chosen: For tasks with histories, what was chosen, and how often.
        part: How many, and how often they have to come.
    """
    if not part.further and not part.names:
        return Vocabulary()
    called = {
        task: chosen.get(task) or Counter(c.called for example in examples for c in example.candidates)
        for task, examples in lists.items()
        if examples[0].domain != "passage"
    }
    names = frequent_names(called.values(), most=part.names, least=part.least) if part.names else []
    taken = set(names)
    found: Counter[str] = Counter()
    for task, examples in lists.items():
        if task in chosen:
            found.update({text: n for text, n in chosen[task].items() if plain(text) not in taken})
        else:
            found.update(_shown(examples))
    words = frequent_words(found, make_tokenizer(1), most=part.further, least=part.least) if part.further else []
    return Vocabulary(tuple(words), tuple(names))


def _shown(examples: Sequence[RankingExample]) -> Iterable[str]:
    """Return each candidate and each query once."""
    yield from {f"{c.title} {c.text}" for example in examples for c in example.candidates}
    yield from {example.query for example in examples}
