"""The hub data set ``ulab-ai/Ranking-bench`` of R1-Ranker: whole lists, already sampled and split."""

from __future__ import annotations

from typing import Any

from unified_ranker.tasks.base import BuildOptions, Built, Source
from unified_ranker.tasks.sampling import limited

from unified_ranker.errors import DataError, MissingSourceError
from unified_ranker.schema.hub import from_hub
from unified_ranker.schema.types import RankingExample

SOURCE = Source(
    folder="ranking-bench",
    title="ulab-ai/Ranking-bench",
    url="https://huggingface.co/datasets/ulab-ai/Ranking-bench",
    licence="see the hub page and the licences of the underlying data",
    note="It is read with --from-hub only.",
)


def build(task: str, domain: str, options: BuildOptions) -> Built:
    """Read the lists of one task (config ``direct``).

    A list whose truth is not exactly one of its candidates is left out and counted.

    Raises:
        MissingSourceError: the hub cannot be reached.
        DataError: it holds no list of this task; the message names the tasks that it holds.
    """
    built: dict[str, list[RankingExample]] = {"train": [], "validation": [], "test": []}
    names: set[str] = set()
    bad = 0
    for split in ("train", "test"):
        for number, row in enumerate(_load(split)):
            names.add(str(row.get("task_name", "")))
            if _plain(str(row.get("task_name", ""))) not in _names(task):
                continue
            try:
                renamed = {**row, "task_name": task}
                built[split].append(from_hub(renamed, id=f"{task}-{split}-{number}", domain=domain, split=split))
            except DataError:
                bad += 1
    if not any(built.values()):
        raise DataError(f"{SOURCE.title} holds no list of the task {task!r}; it holds: {', '.join(sorted(names))}")
    return Built(
        splits={split: limited(found, options.limit, seed=options.seed) for split, found in built.items()},
        sources=(SOURCE,),
        sampling="as published: ready-made lists whose candidates are known by their text alone; splits as published",
        counts={"dropped, truth not exactly one of the candidates": bad},
    )


def _load(split: str) -> Any:
    from datasets import load_dataset

    try:
        return load_dataset("ulab-ai/Ranking-bench", "direct", split=split)
    except (OSError, ValueError) as error:
        raise MissingSourceError(
            f"{SOURCE.title} could not be read from the hub ({error}). With a network, try again; without "
            "one, build the paper edition "
            "from local files (leave --from-hub out)"
        ) from error


def _plain(name: str) -> str:
    return "".join(letter for letter in name.casefold() if letter.isalnum())


def _names(task: str) -> set[str]:
    plain = _plain(task)
    return {plain, f"rec{plain}", f"recommendation{plain}", plain.replace("router", "routing"), f"{plain}rec"}
