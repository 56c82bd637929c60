"""Warm up the words of a small model: learn embeddings whose means match before the transformer is trained.

What the starting layout computes is a bag-of-words comparison: the mean embedding of the candidate against the mean
embedding of the query and history. That comparison needs no transformer, so that its embeddings can be learned from all
training lists in minutes, by the listwise softmax that the readout is trained with later.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import nn

from unified_ranker.training.encode import Encoded
from unified_ranker.training.start import NORM, Architecture, noted_relevance


@dataclass(frozen=True, slots=True)
class Bags:
    """A list as bags of tokens: the query's, each candidate's, and the target of each candidate."""

    query: tuple[int, ...]
    candidates: tuple[tuple[int, ...], ...]
    target: tuple[float, ...]


def bags_of(encoded: Encoded, *, mark: int, sharpness: float) -> Bags:
    """Cut a training sequence at the list mark and at the labels.

    Args:
        encoded: The sequence.
        mark: Token id of the list mark.
        sharpness: See :class:`~unified_ranker.training.recipe.LossPart`.
    """
    begin = encoded.tokens.index(mark)
    ordered = sorted(encoded.candidates)
    starts = [begin, *(place for place, _ in ordered[:-1])]
    texts = tuple(encoded.tokens[start + 1 : place] for start, (place, _) in zip(starts, ordered, strict=True))
    return Bags(encoded.tokens[1:begin], texts, readout_target([grade for _, grade in ordered], sharpness))


def readout_target(grades: Sequence[float], sharpness: float) -> tuple[float, ...]:
    """Turn grades into a distribution: ``exp(sharpness · grade / best) - 1``, normalised; the best takes most of it."""
    best = max(grades)
    if best == min(grades):
        return tuple(1 / len(grades) for _ in grades)
    raw = torch.expm1(sharpness * torch.tensor(list(grades), dtype=torch.float64) / best)
    return tuple((raw / raw.sum()).tolist())


def warm_up(
    words: torch.Tensor,
    lists: Sequence[Bags],
    architecture: Architecture,
    *,
    passes: int,
    learning_rate: float,
    seed: int,
    batch: int = 64,
    on_log: Callable[[dict[str, float]], None] | None = None,
) -> torch.Tensor:
    """Learn word embeddings.

    Args:
        words: Unit vectors to start from, (words, ``architecture.content``); the last dimension is ballast and does
            not compare.
        lists: The training lists.
        architecture: Sizes of the model that the words are for.
        passes: How often each list is seen.
        learning_rate: Of Adam; falls linearly to 0.
        seed: Decides the order.
        batch: Lists of a batch.
        on_log: Called with the loss and the share of lists whose best candidate came first, every 100 batches.

    Returns:
        Unit vectors of the same shape.
    """
    rng = random.Random(seed)
    table = words.clone().requires_grad_(True)
    optimizer = torch.optim.Adam([table], lr=learning_rate, betas=(0.9, 0.99))
    steps = passes * (len(lists) // batch)
    losses, tops, step = list[float](), list[float](), 0
    for _ in range(passes):
        order = rng.sample(range(len(lists)), len(lists))
        for start in range(0, len(lists) - batch + 1, batch):
            chosen = [lists[place] for place in order[start : start + batch]]
            optimizer.param_groups[0]["lr"] = learning_rate * (1 - step / steps)
            score, mask = _scores(table, chosen, architecture)
            target = torch.zeros_like(score)
            target[mask] = torch.tensor([value for entry in chosen for value in entry.target])
            loss = -(target * score.masked_fill(~mask, -1e9).log_softmax(-1)).sum(-1).mean()
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            with torch.no_grad():
                table.copy_(nn.functional.normalize(table, dim=1))
            losses.append(float(loss.detach()))
            first = score.detach().masked_fill(~mask, -1e9).argmax(-1)
            tops.append(float((target.gather(1, first[:, None])[:, 0] == target.max(-1).values).float().mean()))
            step += 1
            if on_log is not None and (step % 100 == 0 or step == steps):
                on_log({"words_step": step, "loss": sum(losses) / len(losses), "top": sum(tops) / len(tops)})
                losses, tops = [], []
    return table.detach()


def _scores(
    table: torch.Tensor, chosen: Sequence[Bags], architecture: Architecture
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the relevance that the starting layout will note, (lists, candidates), and which entries are real."""
    query = NORM * _means(table, [entry.query for entry in chosen])
    flat = NORM * _means(table, [text for entry in chosen for text in entry.candidates])
    # The mean that the list mark takes is of its own token, too, and of the start of the prompt, which mean nothing.
    counts = torch.tensor([len(entry.query) for entry in chosen], dtype=torch.float32)
    query = query * (counts / (counts + 2))[:, None]
    width = max(len(entry.candidates) for entry in chosen)
    mask = torch.zeros(len(chosen), width, dtype=torch.bool)
    for row, entry in enumerate(chosen):
        mask[row, : len(entry.candidates)] = True
    rows = torch.cat([torch.full((len(entry.candidates),), row) for row, entry in enumerate(chosen)])
    values = noted_relevance(query[rows], flat, architecture)
    score = torch.zeros(len(chosen), width).masked_scatter(mask, values)
    return score, mask


def _means(table: torch.Tensor, bags: Sequence[Sequence[int]]) -> torch.Tensor:
    offsets = torch.tensor([0, *(len(bag) for bag in bags)][:-1]).cumsum(0)
    tokens = torch.tensor([token for bag in bags for token in bag])
    return nn.functional.embedding_bag(tokens, table, offsets, mode="mean")
