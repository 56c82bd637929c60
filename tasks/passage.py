"""Passage ranking: a query, exactly one relevant passage, and passages that are not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from unified_ranker.tasks.base import BuildOptions, Built, Source
from unified_ranker.tasks.sampling import generator, limited, shuffled, split_groups

from unified_ranker.schema.types import Candidate, RankingExample


@dataclass(frozen=True, slots=True)
class Judged:
    """A query with what is known to answer it and what is known (or taken) not to.

    Attributes:
        id: Id, unique in its source.
        text: The query.
        positives: Passages that answer it.
        negatives: Passages that do not, hardest first where the source has an order.
        split: Split that the source publishes; ``"train"`` gives validation too.
    """

    id: str
    text: str
    positives: Sequence[Candidate]
    negatives: Sequence[Candidate]
    split: str


@dataclass(frozen=True, slots=True)
class Collection:
    """Judged queries of one source."""

    name: str
    source: Source
    queries: Sequence[Judged]
    sampling: str


def _plain(text: str) -> str:
    """Return what two printings of a query share: its letters and digits."""
    return "".join(letter for letter in text.casefold() if letter.isalnum())


def build_open(
    task: str, size: int, collections: Sequence[Collection], options: BuildOptions, *, lists_per_query: int = 4
) -> Built:
    """Make lists of one positive and ``size - 1`` negatives; training queries give several, with other passages.

    The same queries fill passage-5, -7 and -9, and each is in the same split in all three.
    """
    built: dict[str, list[RankingExample]] = {"train": [], "validation": [], "test": []}
    short = repeated = 0
    repeats = options.lists_per_group or lists_per_query
    known = {_plain(query.text) for collection in collections for query in collection.queries if query.split == "train"}
    for collection in collections:
        training = [query.id for query in collection.queries if query.split == "train"]
        held = split_groups(training, seed=options.seed, salt=collection.name, test=0.0, validation=0.1)
        for query in collection.queries:
            if query.split != "train" and _plain(query.text) in known:
                repeated += 1
                continue
            if not query.positives or len(query.negatives) < size - 1:
                short += 1
                continue
            split = held.get(query.id, query.split)
            for repeat in range(repeats if split == "train" else 1):
                rng = generator(options.seed, task, collection.name, query.id, repeat)
                positive = rng.choice(list(query.positives))
                negatives = rng.sample(list(query.negatives), size - 1)
                built[split].append(
                    RankingExample(
                        id=f"{task}-{collection.name}-{query.id}" + (f"-{repeat}" if split == "train" else ""),
                        query=query.text,
                        candidates=shuffled([positive, *negatives], rng),
                        task=task,
                        domain="passage",
                        relevance={positive.id: 1.0},
                        split=split,
                        group=f"{collection.name}:{query.id}",
                    )
                )
    return Built(
        splits={split: limited(examples, options.limit, seed=options.seed) for split, examples in built.items()},
        sources=tuple(collection.source for collection in collections),
        sampling=f"one relevant and {size - 1} other passages a list; up to {repeats} lists a training query; "
        + "; ".join(f"{c.source.title}: {c.sampling}" for c in collections)
        + "; split by query",
        counts={
            "queries": sum(len(c.queries) for c in collections),
            "dropped, too few passages": short,
            "dropped from test, also in training": repeated,
        },
    )


def build_paper(
    task: str, size: int, records: Sequence[Mapping[str, object]], source: Source, options: BuildOptions
) -> Built:
    """Sample as R1-Ranker publishes: ``size`` passages, exactly one selected, at most 2,600 characters in all.

    Published are 2500, 1666 and 1250 queries per split for sizes 5, 7 and 9. A query stays in the split of its source.
    """
    most = {5: 2500, 7: 1666, 9: 1250}[size]
    built: dict[str, list[RankingExample]] = {"train": [], "validation": [], "test": []}
    for record in records:
        texts, selected = list(record["texts"]), list(record["selected"])  # type: ignore[call-overload]  # the reader checked both
        if len(texts) != size or sum(selected) != 1 or sum(map(len, texts)) > 2600:
            continue
        id, split = str(record["id"]), str(record["split"])
        candidates = [Candidate(id=f"{id}-{place}", text=text) for place, text in enumerate(texts)]
        truth = candidates[selected.index(1)].id
        built[split].append(
            RankingExample(
                id=f"{task}-{id}",
                query=str(record["query"]),
                candidates=shuffled(candidates, generator(options.seed, task, id)),
                task=task,
                domain="passage",
                relevance={truth: 1.0},
                split=split,
                group=f"ms-marco:{id}",
            )
        )
    return Built(
        splits={
            split: limited(found, min(most, options.limit or most), seed=options.seed) for split, found in built.items()
        },
        sources=(source,),
        sampling=f"queries with exactly {size} passages, exactly one of them selected, at most 2600 characters "
        f"together; at most {most} of each split",
        counts={"queries of the source": len(records)},
    )
