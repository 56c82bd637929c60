"""Warm up the words of a small model: learn embeddings whose means match before the transformer is trained.

What the starting layout computes is a bag-of-words comparison: the mean embedding of the candidate against the mean
embedding of the query and history, and, where the query is said again, how far the candidate has its words. That
comparison needs no transformer, so that its embeddings can be learned from hundreds of thousands of lists in minutes,
by the listwise softmax that the readout is trained with later.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import nn

from unified_ranker.training.alike import had
from unified_ranker.training.architecture import Architecture
from unified_ranker.training.bags import Bags
from unified_ranker.training.start import MANY, NORM, Words, noted_relevance

# Lists of a batch.
BATCH = 128


def batches(lists: int, batch: int = BATCH) -> int:
    """Return how many steps a warm-up of so many lists has."""
    return max(1, lists // batch)


def warm_up(
    words: Words,
    draw: Callable[[], Bags],
    architecture: Architecture,
    *,
    lists: int,
    learning_rate: float,
    batch: int = BATCH,
    on_log: Callable[[dict[str, float]], None] | None = None,
) -> Words:
    """Learn word embeddings, and what turns the query.

    Args:
        words: What to start from; the last dimension of its vectors is ballast and does not compare.
        draw: Draws a training list.
        architecture: Sizes of the model that the words are for.
        lists: How many lists to learn from.
        learning_rate: Of Adam, on unit vectors; falls linearly to 0. The maps of the query's mean and of single words
            learn at a third of it, what a word that a candidate has is worth at three times it, and how much each word
            counts, in nats, at thirty times it.
        batch: Lists of a batch.
        on_log: Called with the loss and the share of lists whose best candidate came first, every 100 batches.

    Returns:
        The same words with other vectors, ``rarity``, ``turn``, ``look`` and ``shared``.
    """
    table, rarity = words.vectors.clone(), words.counts.clone()
    turn = torch.eye(architecture.content) if words.turn is None else words.turn.clone()
    look = words.seen_by(architecture).clone()
    shared = torch.tensor(words.shared)
    # How often a word comes says what it tells apart, not what it asks: "how" is as rare in abstracts as "gene".
    groups = [(table, 1.0), (rarity, 30.0), (turn, 1 / 3), (look, 1 / 3), (shared, 3.0)]
    for tensor, _ in groups:
        tensor.requires_grad_(True)
    optimizer = torch.optim.Adam(
        [{"params": [tensor], "factor": factor} for tensor, factor in groups], lr=learning_rate, betas=(0.9, 0.99)
    )
    steps, losses, tops = batches(lists, batch), list[float](), list[float]()
    for step in range(steps):
        chosen = [draw() for _ in range(batch)]
        for group in optimizer.param_groups:
            group["lr"] = learning_rate * group["factor"] * (1 - step / steps)
        at_hand = Words(vectors=table, rarity=rarity, turn=turn, look=look)
        score, mask = _scores(at_hand, chosen, architecture, shared)
        target = torch.zeros_like(score)
        target[mask] = torch.tensor([value for entry in chosen for value in entry.target])
        by_teacher = torch.tensor([entry.taught for entry in chosen])
        loss = torch.where(by_teacher, divergence(score, target, mask), missed(score, target, mask)).mean()
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        with torch.no_grad():
            table.copy_(nn.functional.normalize(table, dim=1))
            shared.clamp_(min=0.0)
            rarity.clamp_(min=0.0)
        losses.append(float(loss.detach()))
        first = score.detach().masked_fill(~mask, -1e9).argmax(-1)
        tops.append(float((target.gather(1, first[:, None])[:, 0] == target.max(-1).values).float().mean()))
        if on_log is not None and ((step + 1) % 100 == 0 or step + 1 == steps):
            on_log({"words_step": step + 1, "loss": sum(losses) / len(losses), "top": sum(tops) / len(tops)})
            losses, tops = [], []
    return Words(
        vectors=table.detach(),
        rarity=rarity.detach(),
        turn=turn.detach(),
        look=look.detach(),
        shared=float(shared.detach()),
    )


def mean_of(runs: Sequence[Words]) -> Words:
    """Return the mean of words that were learned from one start, as unit vectors.

    What each run has learned by heart of its own lists is in none of the others.
    """
    turns = [run.turn for run in runs if run.turn is not None]
    looks = [run.look for run in runs if run.look is not None]
    return Words(
        vectors=nn.functional.normalize(torch.stack([run.vectors for run in runs]).mean(0), dim=1),
        rarity=torch.stack([run.counts for run in runs]).mean(0),
        turn=torch.stack(turns).mean(0) if turns else None,
        look=torch.stack(looks).mean(0) if looks else None,
        shared=sum(run.shared for run in runs) / len(runs),
    )


def missed(score: torch.Tensor, target: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Return how surprising it is that the candidate drawn by its score is one of the best, in nats, (lists,).

    What is drawn counts as much as its target is of the list's largest. A cross-entropy would share the first place
    out among equals instead: where many LLMs answer right, it puts one forward that is right when few are, before the
    one that is right most often.

    Args:
        score: Relevance, (lists, candidates).
        target: The target of each, of the same shape.
        mask: Which entries are real.
    """
    worth = (target / target.max(-1, keepdim=True).values).clamp(min=1e-9).log()
    return -(score.masked_fill(~mask, -1e9).log_softmax(-1) + worth).masked_fill(~mask, -1e9).logsumexp(-1)


def divergence(score: torch.Tensor, target: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Return the Kullback-Leibler divergence from a teacher's distribution to that of the scores, in nats, (lists,).

    Args:
        score: Relevance, (lists, candidates).
        target: The teacher's distribution, of the same shape.
        mask: Which entries are real.
    """
    predicted = score.masked_fill(~mask, -1e9).log_softmax(-1)
    found: torch.Tensor = -(target * predicted).sum(-1) - torch.special.entr(target).sum(-1)
    return found


def _scores(
    words: Words, chosen: Sequence[Bags], architecture: Architecture, shared: torch.Tensor | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the relevance that the starting layout will note, (lists, candidates), and which entries are real."""
    query = NORM * _means(words.vectors, [entry.query for entry in chosen])
    flat = NORM * _means(words.vectors, [text for entry in chosen for text in entry.candidates])
    # The mean that the list mark takes is of its own token, too, and of the start of the prompt, which mean nothing.
    counts = torch.tensor([len(entry.query) for entry in chosen], dtype=torch.float32)
    query = query * (counts / (counts + 2))[:, None]
    if words.turn is not None:
        query = query @ words.turn
    width = max(len(entry.candidates) for entry in chosen)
    mask = torch.zeros(len(chosen), width, dtype=torch.bool)
    for row, entry in enumerate(chosen):
        mask[row, : len(entry.candidates)] = True
    rows = torch.cat([torch.full((len(entry.candidates),), row) for row, entry in enumerate(chosen)])
    worth = torch.tensor(words.shared) if shared is None else shared
    values = noted_relevance(query[rows], flat, worth * _had(words, chosen, architecture), architecture)
    score = torch.zeros(len(chosen), width).masked_scatter(mask, values)
    return score, mask


def _had(words: Words, chosen: Sequence[Bags], architecture: Architecture) -> torch.Tensor:
    """Return the sum of the rarities of the query's words, each as far as the candidate has it, for each candidate."""
    pairs = [(entry.again, text) for entry in chosen for text in entry.candidates]
    asked = [place for place, (again, _) in enumerate(pairs) if again]
    if not asked:
        return torch.zeros(len(pairs))
    found = had(words.vectors, words.seen_by(architecture), [pairs[place] for place in asked], words.counts)
    # What a label adds up comes to less where there is more of it, see MANY.
    full = torch.tensor([MANY / (len(pairs[place][0]) + MANY) for place in asked])
    return torch.zeros(len(pairs)).index_add(0, torch.tensor(asked), found * full)


def _means(table: torch.Tensor, bags: Sequence[Sequence[int]]) -> torch.Tensor:
    offsets = torch.tensor([0, *(len(bag) for bag in bags)][:-1]).cumsum(0)
    tokens = torch.tensor([token for bag in bags for token in bag])
    return nn.functional.embedding_bag(tokens, table, offsets, mode="mean")
