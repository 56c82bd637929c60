"""WikiQA (tokenized, lower case): Bing questions with the sentences of one Wikipedia article each, labelled 0 or 1."""

from __future__ import annotations

from unified_ranker.tasks.base import BuildOptions, Source
from unified_ranker.tasks.passage import Collection, Judged
from unified_ranker.tasks.sources.reading import lines

from unified_ranker.errors import DataError
from unified_ranker.schema.types import Candidate

SOURCE = Source(
    folder="passage_wikiqa-tok",
    title="WikiQA",
    url="https://github.com/castorini/data (WikiQA)",
    licence="Microsoft Research Data Licence (research); text Wikipedia CC BY-SA",
)

_PARTS = ("id", "a", "b", "sim")


def read(options: BuildOptions) -> Collection:
    """Read the questions of all three published splits.

    The development questions join training, from which validation is held out.

    Raises:
        DataError: the files of a split have different lengths, or a label is neither 0 nor 1.
    """
    queries = []
    for published, split in (("train", "train"), ("dev", "train"), ("test", "test")):
        columns = []
        for part in _PARTS:
            suffix = "toks" if part in "ab" else "txt"
            path = options.find(SOURCE, f"{published}_{part}.{suffix}")
            column = [line for _, line in lines(path)]
            if part == "sim":
                for number, label in enumerate(column, start=1):
                    if label not in ("0", "1"):
                        raise DataError(f"{path}, row {number}: label {label!r} must be 0 or 1")
            columns.append(column)
        if len({len(column) for column in columns}) > 1:
            raise DataError(
                f"{SOURCE.title}, {published}: the files have {[len(column) for column in columns]} lines; "
                "they must be equal"
            )
        grouped: dict[str, list[tuple[str, str, str]]] = {}
        for question, text, sentence, label in zip(*columns, strict=True):
            grouped.setdefault(question, []).append((text, sentence, label))
        for question, rows in grouped.items():
            name = f"{published}-{question}"
            candidates = [
                (Candidate(id=f"{name}-{place}", text=sentence), label)
                for place, (_, sentence, label) in enumerate(rows)
            ]
            queries.append(
                Judged(
                    id=name,
                    text=rows[0][0],
                    positives=[candidate for candidate, label in candidates if label == "1"],
                    negatives=[candidate for candidate, label in candidates if label == "0"],
                    split=split,
                )
            )
    return Collection("wikiqa", SOURCE, queries, "negatives drawn from the question's own article")
