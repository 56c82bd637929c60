"""Where names start: near those that the same users chose.

What a name means to those who choose it is what they choose besides; its words say little of that, and a small model
takes a hundred thousand lists to find it out. Pairs of names that training users chose together say it at once: their
positive pointwise mutual information, factorised, is what a skip-gram model of the histories would learn (Levy and
Goldberg, "Neural word embedding as implicit matrix factorization", 2014; of items Barkan and Koenigstein, "Item2Vec",
arXiv 1603.04259).

A long history holds more than one taste, and what stands near a choice in it says more of that choice than what was
chosen years before: pairs may count by how near they stand, as in a skip-gram model's window.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy
import torch
from torch import nn

from unified_ranker.names import plain

# Power of the singular values in a vector. At .5 two vectors compare as the factors do; a little more did best on
# validation lists, and more than that where pairs count by a window (docs/embedded-model-notes.md).
POWER = 0.75


def chosen_together(
    histories: Sequence[Sequence[str]],
    names: Collection[str],
    size: int,
    *,
    window: int = 0,
    power: float = POWER,
) -> Mapping[str, torch.Tensor]:
    """Return a unit vector of ``size`` dimensions for each name whose pairs say something.

    Args:
        histories: What each user chose, by what it is called, oldest first.
        names: The names to place, as :func:`~unified_ranker.names.plain` has them.
        size: Dimensions.
        window: Two choices count as a pair by how near they stand: ``1 - distance / window``, none from there on; 0 for
            all pairs of a history alike.
        power: Of the singular values.

    Example:
        >>> histories = [["Heat", "Ronin"], ["Heat", "Ronin"], ["Babe", "Antz"]]
        >>> found = chosen_together(histories, ["heat", "ronin", "babe", "antz"], 3)
        >>> bool(found["heat"] @ found["ronin"] > found["heat"] @ found["babe"])
        True
    """
    from scipy.sparse import csr_matrix
    from sklearn.utils.extmath import randomized_svd

    wanted = set(names)
    users = [[name for name in dict.fromkeys(map(plain, history)) if name in wanted] for history in histories]
    present = sorted(set().union(*users))
    places = {name: place for place, name in enumerate(present)}
    if not present:
        return {}
    chosen = [[places[name] for name in user] for user in users]
    pairs = (_near(chosen, len(present), window) if window else _beside(chosen, len(present))).tocoo()
    often = numpy.asarray(pairs.sum(axis=1)).ravel()
    told = numpy.log(pairs.data * often.sum() / (often[pairs.row] * often[pairs.col]))
    kept = told > 0
    information = csr_matrix((told[kept], (pairs.row[kept], pairs.col[kept])), shape=pairs.shape)
    left, values, _ = randomized_svd(information, min(size, len(present)), random_state=0)
    factor = torch.tensor(left * values**power, dtype=torch.float32)
    # Turned at random, so that no axis, of which each head of the model compares some, says more than another.
    generator = torch.Generator().manual_seed(0)
    turn = torch.linalg.qr(torch.randn(size, size, generator=generator))[0]
    vectors = nn.functional.normalize(nn.functional.pad(factor, (0, size - factor.shape[1])) @ turn, dim=1)
    # A name of which no pair says anything is nowhere.
    somewhere = factor.norm(dim=1) > 1e-6
    return {name: vectors[place] for name, place in places.items() if somewhere[place]}


def _beside(users: Sequence[Sequence[int]], names: int) -> Any:
    """Return how often two names were chosen by one user, (names, names), each with itself, too."""
    from scipy.sparse import csr_matrix, diags

    rows = [row for row, user in enumerate(users) for _ in user]
    columns = [place for user in users for place in sorted(user)]
    chose = csr_matrix((numpy.ones(len(rows)), (rows, columns)), shape=(len(users), names))
    # Who chose much says less with each pair.
    weight = diags([1 / max(1, len(user)) for user in users])
    return chose.T @ weight @ chose


def _near(users: Sequence[Sequence[int]], names: int, window: int) -> Any:
    """Return how near two names stand in histories, summed over them, (names, names)."""
    from scipy.sparse import csr_matrix

    # Nobody's choices, as many as a window has, stand between those of two users.
    gap = [-1] * window
    row = numpy.array([place for user in users for place in (*user, *gap)])
    found = csr_matrix((names, names))
    for distance in range(1, window):
        first, second = row[:-distance], row[distance:]
        both = (first >= 0) & (second >= 0)
        near = numpy.full(int(both.sum()), 1 - distance / window)
        found += csr_matrix((near, (first[both], second[both])), shape=found.shape)
    return found + found.T
