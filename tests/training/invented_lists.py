"""Lists in which the best candidate shares words with the history, and recipes that learn them in seconds."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

from unified_ranker.backends.tokenizer import TokenizerTools
from unified_ranker.prompts import PromptWriter, load_template
from unified_ranker.schema.parquet import write_parquet
from unified_ranker.schema.types import Candidate, RankingExample
from unified_ranker.strategies.registry import method_named
from unified_ranker.training.bags import Bags, readout_target
from unified_ranker.training.encode import Encoded, encode
from unified_ranker.training.recipe import Recipe, parse_recipe
from unified_ranker.training.tokenizer import AGAIN, LIST

# fmt: off
WORDS = (
    "river", "garden", "castle", "doctor", "music", "winter", "engine", "forest", "bridge", "silver", "market",
    "island", "soldier", "kitchen", "mountain", "school", "dragon", "window", "letter", "horse", "summer", "village",
    "ocean", "desert", "king", "station", "painter", "shadow", "bottle", "flower", "mirror", "planet", "tiger",
    "harbor", "pilot", "lawyer", "prison", "ghost", "battle", "church",
)
# fmt: on


def make_list(rng: random.Random, *, id: str, size: int = 5, split: str = "train") -> RankingExample:
    """Return a list of films; the relevant one has two words of the history, the others none."""
    words = rng.sample(WORDS, 4 + 2 * size)
    known, others = words[:4], words[4:]
    texts = [" ".join(rng.sample(known, 2)), *(" ".join(others[2 * i : 2 * i + 2]) for i in range(size - 1))]
    candidates = [Candidate(id=f"c{place}", text=text) for place, text in enumerate(texts)]
    rng.shuffle(candidates)
    return RankingExample(
        id=id,
        query="which film next",
        candidates=tuple(candidates),
        task="movie",
        domain="recommendation",
        context=tuple(known),
        relevance={"c0": 1.0},
        split=split,
        group=id,
    )


def make_lists(count: int, *, split: str = "train", size: int = 5) -> list[RankingExample]:
    rng = random.Random(split)
    return [make_list(rng, id=f"{split}-{number}", split=split, size=size) for number in range(count)]


def write_task(
    data: Path, *, task: str = "movie", train: list[RankingExample] | None = None, validation: int = 8
) -> Path:
    """Write a built task and return the folder of built tasks."""
    folder = data / task
    folder.mkdir(parents=True)
    write_parquet(folder / "train.parquet", make_lists(80) if train is None else train)
    write_parquet(folder / "validation.parquet", make_lists(validation, split="validation"))
    write_parquet(folder / "test.parquet", make_lists(4, split="test"))
    (folder / "card.json").write_text(json.dumps({"task": task, "domain": "recommendation"}), encoding="utf-8")
    return data


def tiny_record(**changes: Any) -> dict[str, Any]:
    """Return a recipe of some twenty steps; ``changes`` replace whole parts."""
    return {
        "name": "tiny",
        "model": {
            "embeddings": "random",
            "architecture": {
                "hidden_size": 192,
                "heads": 3,
                "layers": 5,
                "intermediate_size": 64,
                "context": 512,
                "labels": 10,
            },
        },
        "prompts": {"style": "compact", "token_budget": 512},
        "tasks": {"movie": 1.0},
        "methods": {"iranker": 0.8, "dranker": 0.2},
        "optimizer": {"learning_rate": 4e-4, "last_layer_factor": 0.3, "last_layer_from": 0.5, "frozen_labels": True},
        "loss": {"readout": 1.0, "vocabulary": 0.2, "frozen_output": True},
        "tokens": 8000,
        "batch_tokens": 500,
        "average": 0.9,
        "checkpoint_every": 3000,
        "validate_every": 4000,
        "validate_lists": 4,
        **changes,
    }


def tiny_recipe(**changes: Any) -> Recipe:
    return parse_recipe(tiny_record(**changes))


def writer_for(
    tools: TokenizerTools, *, method: str = "iranker", style: str = "compact", domain: str = "passage"
) -> PromptWriter:
    return PromptWriter(load_template(style, method_named(method).template, domain), tools, None)


def encoded(
    example: RankingExample,
    tools: TokenizerTools,
    *,
    method: str = "iranker",
    style: str = "compact",
    labels: tuple[str, ...] = (),
    seed: int = 0,
) -> Encoded:
    """Encode an example as training does."""
    return encode(
        example,
        method=method,
        writer=writer_for(tools, method=method, style=style, domain=example.domain),
        tools=tools,
        labels=labels or tools.labels,
        rng=random.Random(seed),
        end=tools.tokenizer.eos_token_id,
    )


def bags_of(encoded: Encoded, tools: TokenizerTools, *, sharpness: float) -> Bags:
    """Cut a training sequence at the list mark, at the labels, and where the query is said again.

    Args:
        encoded: The sequence.
        tools: The tokenizer.
        sharpness: See :class:`~unified_ranker.training.recipe.LossPart`.
    """
    mark, again = tools.tokenizer.convert_tokens_to_ids([LIST, AGAIN])
    begin = encoded.tokens.index(mark)
    ordered = sorted(encoded.candidates)
    starts = [begin, *(place for place, _ in ordered[:-1])]
    texts = [encoded.tokens[start + 1 : place] for start, (place, _) in zip(starts, ordered, strict=True)]
    said: tuple[int, ...] = ()
    if again in encoded.tokens:
        cuts = [text.index(again) for text in texts]
        (said,) = {text[cut + 1 :] for text, cut in zip(texts, cuts, strict=True)}
        texts = [text[:cut] for text, cut in zip(texts, cuts, strict=True)]
    target = readout_target([grade for _, grade in ordered], sharpness)
    return Bags(encoded.tokens[1:begin], tuple(texts), target, again=said)
