"""Laying out single attention heads: who looks, who is found, and what is carried over."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import torch

from unified_ranker.errors import RecipeError
from unified_ranker.training.architecture import Architecture

# How much the nearness of two labels differs for each token of distance, and over how many tokens it has to fall.
SLOPE, NEAR = 1.0, 70


@lru_cache
def nearness(head_size: int, rope_theta: float, context: int) -> tuple[tuple[float, float], ...]:
    """Return for each rotary pair of a head what a query holds, so that attention falls with distance.

    With keys of (1, 0) in every pair *i* of angle *θᵢ*, a query of *(aᵢ, bᵢ)* meets a key at distance *Δ* with
    *f(Δ) = Σ aᵢ cos(θᵢΔ) - bᵢ sin(θᵢΔ)*. Found by linear programming: the smallest sum of absolute values for which
    *f* falls by :data:`SLOPE` a token over :data:`NEAR` tokens, stays above a pull of 10 there, and below that
    beyond.
    """
    import numpy
    from scipy.optimize import linprog

    angles = rope_theta ** (-2 * numpy.arange(head_size // 2) / head_size)
    distances = numpy.concatenate([numpy.arange(min(400, context)), numpy.arange(400, max(context, 401), 7)])
    met = numpy.hstack([numpy.cos(numpy.outer(distances, angles)), -numpy.sin(numpy.outer(distances, angles))])
    falling = met[1 : NEAR + 1] - met[:NEAR]
    beyond = met[NEAR + 1 :] - met[NEAR]
    bounds = numpy.concatenate([numpy.full(NEAR, -SLOPE), numpy.zeros(len(beyond)), [-10.0]])
    rows = numpy.vstack([falling, beyond, -met[NEAR : NEAR + 1]])
    found = linprog(
        numpy.ones(2 * head_size),
        A_ub=numpy.hstack([rows, -rows]),
        b_ub=bounds,
        bounds=(0, 25),
        method="highs",
    )
    if found.status != 0:
        raise RecipeError(f"heads of {head_size} dimensions cannot tell near from far with rope_theta={rope_theta:g}")
    held = found.x[:head_size] - found.x[head_size:]
    return tuple((float(a), float(b)) for a, b in zip(held[: head_size // 2], held[head_size // 2 :], strict=True))


class Head:
    """One attention head that is laid out: what it held before is gone.

    Args:
        attention: The layer's attention.
        architecture: The sizes.
        number: Which head.
        norms: Norms of the tokens before this layer: of labels, of the list mark, of words.
    """

    def __init__(self, attention: Any, architecture: Architecture, number: int, norms: Mapping[str, float]) -> None:
        self.sizes, self.first = architecture, number * architecture.head_size
        self.query, self.key, self.value, self.out = (
            attention.q_proj,
            attention.k_proj,
            attention.v_proj,
            attention.o_proj,
        )
        rows = slice(self.first, self.first + architecture.head_size)
        for projection in (self.query, self.key, self.value):
            projection.weight[rows] = 0
            projection.bias[rows] = 0
        self.out.weight[:, rows] = 0
        width = math.sqrt(architecture.hidden_size)
        #: What turns a number in a token's embedding into what a layer sees of it.
        self.seen = {kind: width / norm for kind, norm in norms.items()}
        self.scale = math.sqrt(architecture.head_size)

    def at(self, place: int) -> int:
        """Return the row of a dimension of this head."""
        return self.first + place

    def idle(self, gate: int, *, pull: float, unless: Mapping[int, float]) -> None:
        """Have all tokens look at the start of the prompt, but those with a flag; ``unless`` gives its seen size."""
        row = self.at(gate)
        self.key.weight[row, self.sizes.start_flag] = self.one_if_alone
        self.query.bias[row] = pull * self.scale
        for flag, size in unless.items():
            self.query.weight[row, flag] = -pull * self.scale / size

    def nearest(self, *, flag: int | None = None, size: float = 1.0) -> None:
        """Have queries look for the nearest key: those of all tokens, or of those with a flag."""
        half = self.sizes.head_size // 2
        held = nearness(self.sizes.head_size, self.sizes.rope_theta, self.sizes.context)
        for pair, parts in enumerate(held):
            for place, part in zip((pair, half + pair), parts, strict=True):
                if flag is None:
                    self.query.bias[self.at(place)] = part * self.scale
                else:
                    self.query.weight[self.at(place), flag] = part * self.scale / size

    def found_by(self, weights: Mapping[int, float], *, bias: float = 0.0) -> None:
        """Say who can be found: by weights of dimensions that come to 1 for them, and a bias."""
        half = self.sizes.head_size // 2
        rows = slice(self.first, self.first + half)
        self.key.bias[rows] = bias
        for dimension, weight in weights.items():
            self.key.weight[rows, dimension] = weight

    def carry(
        self, source: range | slice, target: range | slice, *, weight: float, matrix: torch.Tensor | None = None
    ) -> None:
        """Copy dimensions of what is looked at to dimensions of who looks, through a matrix if there is one."""
        taken, given = _indices(source), _indices(target)
        mapped = torch.eye(len(taken)) if matrix is None else matrix
        rows = slice(self.first, self.first + len(mapped))
        self.value.weight[rows, taken[0] : taken[-1] + 1] = weight * mapped
        self.out.weight[given, rows] = torch.eye(len(given))

    @property
    def one_if_alone(self) -> float:
        """What turns a token into 1 that is a flag alone, such as the start of the prompt, whatever its size."""
        return 1 / math.sqrt(self.sizes.hidden_size)


def _indices(part: range | slice) -> list[int]:
    return list(part) if isinstance(part, range) else list(range(part.start, part.stop))
