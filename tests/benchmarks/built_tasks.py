"""Built tasks of a few invented lists with what stands beside them, and examples that hide their grades."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from unified_ranker.benchmarks.baselines.base import Scorer
from unified_ranker.benchmarks.built import BuiltTask
from unified_ranker.tasks import BuildOptions, Built, Source, task_named
from unified_ranker.tasks.beside import Beside, History, LLMOutcome, write_beside
from unified_ranker.tasks.card import make_card

from unified_ranker.schema.parquet import write_parquet
from unified_ranker.schema.types import SPLITS, Candidate, RankingExample

INVENTED = Source(folder="invented", title="Invented", url="http://invalid/built", licence="none")


def write_task(
    data: Path, name: str, examples: Iterable[RankingExample], *, beside: Beside | None = None, **options: Any
) -> BuiltTask:
    """Write a task as ``data build`` does, and open it."""
    splits: dict[str, list[RankingExample]] = {split: [] for split in SPLITS}
    for example in examples:
        splits[example.split].append(example)
    folder = data / name
    folder.mkdir(parents=True, exist_ok=True)
    for split, found in splits.items():
        write_parquet(folder / f"{split}.parquet", found)
    write_beside(folder, beside or Beside())
    card = make_card(task_named(name), Built(splits, (INVENTED,), "invented"), BuildOptions(**options))
    (folder / "card.json").write_text(json.dumps(card), encoding="utf-8")
    return BuiltTask.open(data, name)


def passages(id: str, query: str, texts: Sequence[str], *, split: str = "test", task: str = "passage-5") -> Any:
    """Return a list of passages of which the first is relevant."""
    candidates = tuple(Candidate(f"{id}-{place}", text) for place, text in enumerate(texts))
    return RankingExample(
        id=id,
        query=query,
        candidates=candidates,
        task=task,
        domain="passage",
        relevance={candidates[0].id: 1.0},
        split=split,
        group=id,
    )


def choice(user: str, items: str, chosen: str, *, split: str = "test", context: Sequence[str] = ()) -> RankingExample:
    """Return a list of items (one letter each) of which the user chose one."""
    return RankingExample(
        id=f"list of {user}",
        query="Which movie?",
        candidates=tuple(Candidate(item, text="", title=f"Item {item}") for item in items),
        task="movie",
        domain="recommendation",
        context=tuple(context) or ("Item z",),
        relevance={chosen: 1.0},
        split=split,
        group=user,
    )


def history(user: str, items: str, split: str = "train") -> History:
    """Return a history of items of one letter each."""
    return History(user, split, tuple(items))


def question(id: str, text: str, grades: Mapping[str, float], *, split: str = "train") -> RankingExample:
    """Return a question with the grade of each LLM."""
    return RankingExample(
        id=id,
        query=text,
        candidates=tuple(Candidate(name, text="", title=name) for name in grades),
        task="router-balance",
        domain="routing",
        relevance=grades,
        split=split,
        group=id,
    )


def costs(**found: Mapping[str, float]) -> Beside:
    """Return what the answers to each question cost."""
    return Beside(
        outcomes={id: {name: LLMOutcome(0.5, cost) for name, cost in costs.items()} for id, costs in found.items()}
    )


class Hidden(Mapping[str, float]):
    """Grades that nobody may look at."""

    def __getitem__(self, key: str) -> float:
        raise AssertionError(f"the grade of {key!r} was looked at")

    def __iter__(self) -> Iterator[str]:
        raise AssertionError("the grades were looked at")

    def __len__(self) -> int:
        raise AssertionError("the grades were counted")


def hidden(example: RankingExample) -> RankingExample:
    """Return the example with grades that nobody may look at."""
    return replace(example, relevance=Hidden())


def by_id(scorer: Scorer, example: RankingExample) -> dict[str, float]:
    """Return the scores by candidate, without showing the grades."""
    scores = scorer.score(hidden(example))
    return dict(zip([candidate.id for candidate in example.candidates], scores, strict=True))


def turned(example: RankingExample) -> RankingExample:
    """Return the example with its candidates the other way round."""
    return replace(example, candidates=example.candidates[::-1])
