"""The rows that verl trains on: which lists, in which order, as whole episodes or as single cases.

- *Episodes*: one row a list; the agent loop plays it to the end.
- *Cases*, the published construction (R1-Ranker, arXiv 2506.21638): for each k = 1 … n - 1 a list of one best
  candidate and k random worse ones, in random order, of which one has to leave. Each is a row with a group of its
  own.

Everything is drawn from the recipe's seed: the same recipe and data make the same files, byte for byte.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from unified_ranker.rewards.score import Scorer
from unified_ranker.rewards.verl_entry import ground_truth
from unified_ranker.schema.jsonl import example_to_dict
from unified_ranker.schema.parquet import write_quietly
from unified_ranker.schema.types import RankingExample
from unified_ranker.strategies.elimination import Elimination
from unified_ranker.training.lists import best_and_others, case_of
from unified_ranker.training.rl.trainable import Trainable, chat_of, shown

#: Names under which verl finds the loops: ours, and its own for a single reply.
RANKING_LOOP = "unified_ranker"
CASE_LOOP = "unified_ranker_case"
VERL_LOOP = "single_turn_agent"


def shuffled(example: RankingExample, rng: random.Random) -> RankingExample:
    """Return the list in a random order, so that the place of a candidate says nothing."""
    shown = list(example.candidates)
    rng.shuffle(shown)
    return replace(example, candidates=tuple(shown))


def cases_of(example: RankingExample, rng: random.Random) -> Iterator[RankingExample]:
    """Yield the cases of a list, k = 1 … the number of worse candidates."""
    _, others = best_and_others(example)
    for k in range(1, len(others) + 1):
        yield shuffled(replace(case_of(example, k, rng), id=f"{example.id}#case-{k}"), rng)


def _stream(lists: Sequence[RankingExample], rng: random.Random, *, cases: bool) -> Iterator[RankingExample]:
    """Yield a task's rows without end; each pass goes through all lists in a new order."""
    while True:
        for example in rng.sample(list(lists), len(lists)):
            if cases:
                yield from cases_of(example, rng)
            else:
                yield shuffled(example, rng)


def training_examples(
    lists: Mapping[str, Sequence[RankingExample]],
    weights: Mapping[str, float],
    *,
    rows: int,
    order: str,
    cases: bool,
    seed: int,
) -> list[RankingExample]:
    """Return the lists of a run in the order in which they are trained on.

    Args:
        lists: The training lists of each task.
        weights: Share of each task among the rows; they need not add up to 1.
        rows: How many rows.
        order: ``"mixed"``: each row is of a random task, by weight. ``"sequence"``: one task after the other, as they
            stand in ``weights``, each with its share.
        cases: Single cases instead of whole lists.
        seed: Seed.
    """
    # A generator of its own for each task: what one task draws does not depend on the others.
    streams = {task: _stream(found, random.Random(f"{seed}/{task}"), cases=cases) for task, found in lists.items()}
    names = [task for task in weights if weights[task] > 0]
    if order == "sequence":
        total = sum(weights[task] for task in names)
        bounds, passed = [], 0.0
        for task in names:
            passed += weights[task]
            bounds.append(round(rows * passed / total))
        chosen = [task for task, low, high in zip(names, [0, *bounds], bounds, strict=False) for _ in range(high - low)]
    else:
        chosen = random.Random(f"{seed}/order").choices(names, [weights[task] for task in names], k=rows)
    return [next(streams[task]) for task in chosen]


def row_of(
    example: RankingExample,
    *,
    index: int,
    split: str,
    strategy: Trainable,
    scorer: Scorer,
    loop: str,
) -> dict[str, Any]:
    """Return one row in verl's layout.

    Args:
        example: The list as it is shown.
        index: Number of the row.
        split: Split of the row.
        strategy: Writes the prompt that verl's own loop would send.
        scorer: The reward.
        loop: Which loop plays it.
    """
    listed, written = shown(example, strategy)
    labels = {entry.label: entry.candidate.id for entry in listed}
    return {
        "data_source": example.task,
        "prompt": chat_of(written),
        "ability": example.domain,
        "agent_name": loop,
        "reward_model": {
            "style": "rule",
            "ground_truth": json.dumps(
                ground_truth(
                    example,
                    labels,
                    scorer=scorer,
                    reasoning=strategy.sampling.reasoning,
                    joined=not strategy.writer.template.label_separator,
                    runs_on=isinstance(strategy, Elimination) and strategy.runs_on,
                )
            ),
        },
        "extra_info": {"index": index, "split": split, "example": json.dumps(example_to_dict(example))},
    }


def write_rows(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write rows as parquet."""
    from datasets import Dataset

    write_quietly(Dataset.from_list([dict(row) for row in rows]), path)
