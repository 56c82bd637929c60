"""Sequences of one prompt as one: the arithmetic of training a group of rollouts without computing its prompt again.

A group of G rollouts of one list shares its prompt, which is most of every sequence. Laid out as

    prompt, response 1, response 2, …, response G

with a mask that lets each response see the prompt and itself, and with the positions that each would have on its own,
one pass gives every response the numbers that G passes would. The output layer, most of a small model's work, is
applied to the positions that predict a response alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

#: Name of the model setting that holds the tokens of all labels, where replies are restricted to them.
LABELS = "ranking_labels"
#: Name of the model setting that keeps their embeddings as they are.
FROZEN = "ranking_frozen_labels"
#: Name of the model setting that holds the tokens of all answers, where replies are restricted to grades.
ANSWERS = "ranking_answers"
#: Name of the model setting that lets nothing learn but what words mean.
WORDS_ALONE = "ranking_words_alone"


@dataclass(frozen=True)
class Packed:
    """A batch of groups, padded on the left.

    Attributes:
        ids: (groups, width), token ids.
        positions: (groups, width), position of each token within its own sequence.
        mask: (groups, 1, width, width), True where a token (third) may see another (fourth).
        kept: How many last positions of each group the output layer is needed for.
        rows: (predictions,), the group of each prediction.
        places: (predictions,), its position among the kept ones.
        targets: (predictions,), the token that is predicted there.
        free: (predictions, labels), True for the labels that the reply could name there; None where nothing restricts
            it.
        flat: (predictions,), where its log-probability belongs in the sequences laid end to end, at the index of the
            token before it, as verl has it.
    """

    ids: torch.Tensor
    positions: torch.Tensor
    mask: torch.Tensor
    kept: int
    rows: torch.Tensor
    places: torch.Tensor
    targets: torch.Tensor
    free: torch.Tensor | None
    flat: torch.Tensor


def pack(
    prompts: Sequence[torch.Tensor],
    responses: Sequence[torch.Tensor],
    lengths: Sequence[int],
    *,
    pad: int,
    labels: Sequence[int] = (),
    answers: Sequence[int] = (),
) -> Packed:
    """Lay out sequences that share prompts.

    Args:
        prompts: Prompt of each sequence, at least one token each.
        responses: Response of each sequence.
        lengths: How many tokens of each response are of interest; what stands behind them is left out.
        pad: A token for padding.
        labels: Where replies hold labels only, the tokens of all labels. Free at a place are those that stand in the
            prompt and not yet in the response.
        answers: Where replies hold grades only, the tokens of all grades, each of which is always free.
    """
    groups: dict[tuple[int, ...], list[int]] = {}
    for row, prompt in enumerate(prompts):
        groups.setdefault(tuple(prompt.tolist()), []).append(row)
    offsets, total = [], 0
    for prompt, response in zip(prompts, responses, strict=True):
        offsets.append(total)
        total += len(prompt) + len(response)

    lines: list[tuple[list[int], list[int], list[int]]] = []
    wanted: list[tuple[int, int, int, int]] = []
    free: list[list[bool]] = []
    for group, (prompt_ids, rows) in enumerate(groups.items()):
        size = len(prompt_ids)
        ids, positions, owners = list(prompt_ids), list(range(size)), [-1] * size
        listed = set(prompt_ids)
        for row in rows:
            written = responses[row][: lengths[row]].tolist()
            if not written:
                continue
            begin = len(ids)
            # The last token predicts nothing that is asked for, so that it need not be read.
            ids += written[:-1]
            positions += range(size, size + len(written) - 1)
            owners += [row] * (len(written) - 1)
            taken: set[int] = set()
            for place, token in enumerate(written):
                if labels:
                    free.append([label in listed and label not in taken for label in labels])
                    taken.add(token)
                elif answers:
                    free.append([True] * len(answers))
                source = size - 1 if place == 0 else begin + place - 1
                wanted.append((group, source, token, offsets[row] + size + place - 1))
        lines.append((ids, positions, owners))

    width = max(len(ids) for ids, _, _ in lines)
    kept = max(len(ids) - len(prompt) + 1 for (ids, _, _), prompt in zip(lines, groups, strict=True))
    shift = [width - len(ids) for ids, _, _ in lines]
    owner = torch.tensor([[-2] * left + owners for left, (_, _, owners) in zip(shift, lines, strict=True)])
    # Padding (-2) sees itself only, so that no row of the mask is empty; nothing else sees it.
    same = owner[:, :, None] == owner[:, None, :]
    of_prompt = (owner == -1)[:, None, :] & (owner != -2)[:, :, None]
    earlier = torch.ones(width, width, dtype=torch.bool).tril()
    mask = ((same | of_prompt) & earlier)[:, None]
    return Packed(
        ids=torch.tensor([[pad] * left + ids for left, (ids, _, _) in zip(shift, lines, strict=True)]),
        positions=torch.tensor([[0] * left + places for left, (_, places, _) in zip(shift, lines, strict=True)]),
        mask=mask,
        kept=kept,
        rows=torch.tensor([group for group, *_ in wanted], dtype=torch.long),
        places=torch.tensor([kept - width + shift[group] + source for group, source, *_ in wanted], dtype=torch.long),
        free=torch.tensor(free, dtype=torch.bool).reshape(-1, len(labels or answers)) if labels or answers else None,
        targets=torch.tensor([token for _, _, token, _ in wanted], dtype=torch.long),
        flat=torch.tensor([index for *_, index in wanted], dtype=torch.long),
    )
