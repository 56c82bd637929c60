"""How a word of the query looks for one that means the same, among the words of one candidate.

Each word of the query attends to the candidate's words by how alike they are, and to a place that says "nothing here",
which draws as much as a word that is just alike enough. What comes of it, between 0 and 1, is how far the candidate has
the word: by one that is the same, or by one or several that mean the same, which count no more than once. Late
interaction by the most similar word (Khattab and Zaharia, "ColBERT", arXiv 2004.12832), with vectors of words alone and
a softmax for the maximum, so that an attention head can do it.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

# Pull of a word towards one that is as alike as a word is to itself on average, and how alike one has to be that draws
# as much as nothing.
ALIKE, ENOUGH = 30.0, 0.55
# How far the directions in which all words vary are left out: words that mean much the same are learned to be alike,
# but no two are alike in everything.
APART = 0.25


def first_look(vectors: torch.Tensor, dimensions: int) -> torch.Tensor:
    """Return the linear map under which words are compared before anything is learned.

    The directions in which words vary most, divided by the fourth root of their variance; a word is 1 to itself, on
    average.

    Args:
        vectors: Unit vectors of words, (words, size), of which the last dimension is ballast.
        dimensions: How many directions to keep.

    Returns:
        (``dimensions``, size - 1).
    """
    words = vectors[:, :-1]
    variances, directions = torch.linalg.eigh(words.T @ words / len(words))
    apart = directions * variances.clamp(min=1e-3 * float(variances.max())) ** -APART
    kept = apart.T.flip(0)[:dimensions]
    look: torch.Tensor = kept / (words @ kept.T).square().sum(1).mean().sqrt()
    return look


def had(
    vectors: torch.Tensor,
    look: torch.Tensor,
    pairs: Sequence[tuple[Sequence[int], Sequence[int]]],
    weights: torch.Tensor,
) -> torch.Tensor:
    """Return how much of each query a candidate has: the sum of the weights of its words, each as far as it has it.

    Args:
        vectors: Of all words, (words, size).
        look: From :func:`first_look`, or learned from there.
        pairs: Tokens of a query, and of a candidate.
        weights: Of each word of the vocabulary, (words,).

    Returns:
        (pairs,).
    """
    asked, given = (_padded([pair[side] for pair in pairs]) for side in (0, 1))
    # Each word is mapped once, however many lists it stands in.
    used, places = torch.unique(torch.cat([asked.flatten(), given.flatten()]).clamp(min=0), return_inverse=True)
    seen = vectors[used, :-1] @ look.T
    queries = seen[places[: asked.numel()].view_as(asked)]
    candidates = seen[places[asked.numel() :].view_as(given)]
    pulls = ALIKE * torch.bmm(queries, candidates.transpose(1, 2))
    drawn = pulls.masked_fill((given < 0)[:, None, :], -1e9).logsumexp(-1)
    far = torch.sigmoid(drawn - ALIKE * ENOUGH)
    return (far * torch.where(asked < 0, 0.0, weights[asked.clamp(min=0)])).sum(1)


def _padded(texts: Sequence[Sequence[int]]) -> torch.Tensor:
    width = max(1, *(len(text) for text in texts))
    return torch.tensor([[*text, *[-1] * (width - len(text))] for text in texts])
