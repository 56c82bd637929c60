"""What a supervised step is held to: the labels in play, the whole vocabulary, and the relevance noted at labels."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence

import torch
from torch import nn

from unified_ranker.training.bags import readout_target
from unified_ranker.training.encode import Encoded, LabelStep


def label_loss(batch: Sequence[Encoded], states: torch.Tensor, head: torch.Tensor) -> torch.Tensor:
    """Return the cross-entropy of the labels in play against those that are right, in nats above the best attainable.

    Args:
        batch: Sequences, each with its steps.
        states: Last hidden states, (sequences, tokens, dimensions).
        head: The output layer, (vocabulary, dimensions).
    """
    device = states.device
    rows = [(row, step) for row, entry in enumerate(batch) for step in entry.steps]
    if not rows:
        # Every list of the batch is one of equals.
        return states.sum() * 0.0
    hidden = states[[row for row, _ in rows], [step.position for _, step in rows]]
    most = max(len(step.in_play) for _, step in rows)
    in_play = torch.tensor([[*step.in_play, *[0] * (most - len(step.in_play))] for _, step in rows], device=device)
    mask = torch.tensor(
        [[True] * len(step.in_play) + [False] * (most - len(step.in_play)) for _, step in rows], device=device
    )
    right = torch.tensor(
        [[token in step.right for token in step.in_play] + [False] * (most - len(step.in_play)) for _, step in rows],
        device=device,
    )
    target = right / right.sum(-1, keepdim=True)
    entropy = right.sum(-1).float().log()
    for number, (_, step) in enumerate(rows):
        if step.weights:
            soft = torch.tensor(step.weights, device=device)
            target[number, : len(soft)] = soft
            entropy[number] = torch.special.entr(soft).sum()
    logits = torch.einsum("rd,rkd->rk", hidden, head[in_play]).float().masked_fill(~mask, -1e9)
    return (-(target * logits.log_softmax(-1)).sum(-1) - entropy).mean()


def vocabulary_loss(
    batch: Sequence[Encoded], states: torch.Tensor, head: torch.Tensor, rng: random.Random
) -> torch.Tensor:
    """Return the cross-entropy over the whole vocabulary, of one step of each sequence and of what is plainly known.

    Args:
        batch: Sequences, each with its steps and hard targets.
        states: Last hidden states, (sequences, tokens, dimensions).
        head: The output layer, (vocabulary, dimensions).
        rng: Draws the steps.
    """
    picked = [(row, rng.choice(entry.steps)) for row, entry in enumerate(batch) if entry.steps]
    found = states.sum() * 0.0
    if picked:
        soft = states[[row for row, _ in picked], [step.position for _, step in picked]] @ head.T
        losses = [_over_vocabulary(line.float(), step) for line, (_, step) in zip(soft, picked, strict=True)]
        found = torch.stack(losses).mean()
    spots = [(row, *spot) for row, entry in enumerate(batch) for spot in entry.hard]
    if spots:
        hard = states[[row for row, _, _ in spots], [place for _, place, _ in spots]] @ head.T
        wanted = torch.tensor([token for *_, token in spots], device=states.device)
        found = found + nn.functional.cross_entropy(hard.float(), wanted)
    return found


def readout_loss(batch: Sequence[Encoded], relevance: torch.Tensor, sharpness: float) -> tuple[torch.Tensor, float]:
    """Return the cross-entropy of candidates by noted relevance, and the share of lists whose best comes first by it.

    Args:
        batch: Sequences, each with the places and grades of its candidates.
        relevance: What is noted at each token, (sequences, tokens).
        sharpness: See :class:`~unified_ranker.training.recipe.LossPart`.
    """
    losses, tops = [], []
    for row, entry in enumerate(batch):
        if not entry.candidates:
            # A grade is given to one candidate alone.
            continue
        places = [place for place, _ in entry.candidates]
        grades = torch.tensor([grade for _, grade in entry.candidates], device=relevance.device)
        target = torch.tensor(readout_target(grades.tolist(), sharpness), device=relevance.device)
        line = relevance[row, places]
        losses.append(-(target * line.log_softmax(-1)).sum())
        tops.append(float(grades[line.argmax()] == grades.max()))
    found = torch.stack(losses).mean() if losses else relevance.sum() * 0.0
    return found, sum(tops) / max(1, len(tops))


def _over_vocabulary(line: torch.Tensor, step: LabelStep) -> torch.Tensor:
    """Return the cross-entropy of a step's target over the whole vocabulary, above the best attainable."""
    logprobs = line.log_softmax(-1)
    if step.weights:
        target = torch.tensor(step.weights, device=line.device)
        soft: torch.Tensor = -(target * logprobs[list(step.in_play)]).sum() - torch.special.entr(target).sum()
        return soft
    hard: torch.Tensor = -logprobs[list(step.right)].mean() - math.log(len(step.right))
    return hard
