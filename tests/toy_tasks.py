"""Built tasks of a few lists whose texts tell their grades, and models that read them."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from unified_ranker.tasks import BuildOptions, Built, Source, task_named
from unified_ranker.tasks.card import make_card

from unified_ranker.exchange import Request
from unified_ranker.schema.parquet import write_parquet
from unified_ranker.schema.types import SPLITS, Candidate, RankingExample

INVENTED = Source(folder="invented", title="Invented", url="http://invalid/toy", licence="none")
_SHOWN = re.compile(r"\[(\w+)\] grade (\d+) ")


def toy_list(id: str, grades: Sequence[int], *, task: str = "passage-5", split: str = "test") -> RankingExample:
    return RankingExample(
        id=id,
        query=f"query of {id}",
        candidates=tuple(Candidate(f"c{n}", f"grade {grade} of place 0{n}") for n, grade in enumerate(grades)),
        task=task,
        domain=task_named(task).domain,
        relevance={f"c{n}": float(grade) for n, grade in enumerate(grades)},
        split=split,
        group=id,
    )


def build_toy(data: Path, task: str, **splits: Iterable[Sequence[int]]) -> Path:
    """Write a task as ``data build`` does; each split is given as the grades of its lists."""
    built = {
        split: [
            toy_list(f"{split}{n}", grades, task=task, split=split) for n, grades in enumerate(splits.get(split, ()))
        ]
        for split in SPLITS
    }
    folder = data / task
    folder.mkdir(parents=True)
    for split, examples in built.items():
        write_parquet(folder / f"{split}.parquet", examples)
    card = make_card(task_named(task), Built(built, (INVENTED,), "invented"), BuildOptions())
    (folder / "card.json").write_text(json.dumps(card), encoding="utf-8")
    return data


def _grades(request: Request) -> dict[str, int]:
    shown = dict(_SHOWN.findall(request.messages[-1].content))
    return {label: int(shown[label]) for label in request.choices}


def oracle(request: Request) -> str:
    """Eliminate the candidate with the lowest grade."""
    grades = _grades(request)
    return min(grades, key=grades.__getitem__)


def worst(request: Request) -> str:
    """Eliminate the candidate with the highest grade."""
    grades = _grades(request)
    return max(grades, key=grades.__getitem__)


def dice(seed: int = 0) -> Callable[[Request], str]:
    """Eliminate any candidate."""
    rng = random.Random(seed)
    return lambda request: rng.choice(request.choices)
