from __future__ import annotations

import csv
import io
import re
import zipfile
from collections.abc import Callable
from pathlib import Path

import datasets
import pytest
from unified_ranker.tasks import BuildOptions, Built, Source, passage
from unified_ranker.tasks.passage import Collection, Judged
from unified_ranker.tasks.sources import ms_marco, scifact, wikiqa

from unified_ranker.schema.types import Candidate, RankingExample

SIZES = (5, 7, 9)
SOURCE = Source(folder="none", title="Invented", url="http://invalid", licence="none")


def every(built: Built) -> list[RankingExample]:
    return [example for examples in built.splits.values() for example in examples]


def record(
    number: int, *, size: int = 5, chosen: tuple[int, ...] = (2,), length: int = 20, split: str = "train"
) -> dict[str, object]:
    texts = [f"{number} {place}".ljust(length, ".") for place in range(size)]
    selected = [int(place in chosen) for place in range(size)]
    return {"id": str(number), "query": f"query {number}", "texts": texts, "selected": selected, "split": split}


@pytest.mark.parametrize("edition", ["paper", "open"])
@pytest.mark.parametrize("size", SIZES)
def test_a_list_has_its_size_and_one_relevant_passage_known_by_its_id(
    build: Callable[..., Built], size: int, edition: str
) -> None:
    for example in every(build(f"passage-{size}", edition)):
        ids = [candidate.id for candidate in example.candidates]
        assert len(set(ids)) == size
        assert list(example.relevance.values()) == [1.0]
        assert set(example.relevance) <= set(ids)


@pytest.mark.parametrize(
    ("kept", "changes"),
    [
        (True, {}),
        (True, {"length": 520}),
        (False, {"length": 521}),
        (False, {"size": 6}),
        (False, {"size": 4}),
        (False, {"chosen": ()}),
        (False, {"chosen": (1, 3)}),
    ],
)
def test_the_paper_edition_keeps_lists_of_exactly_the_size_with_one_selected_up_to_2600_characters(
    kept: bool, changes: dict[str, object]
) -> None:
    built = passage.build_paper("passage-5", 5, [record(1, **changes)], SOURCE, BuildOptions(edition="paper"))  # type: ignore[arg-type]
    assert len(built.splits["train"]) == kept
    assert built.counts["queries of the source"] == 1


def test_the_truth_of_the_paper_edition_is_an_id_even_where_texts_repeat() -> None:
    same = record(1, chosen=(3,))
    same["texts"] = ["one text"] * 5
    (example,) = every(passage.build_paper("passage-5", 5, [same], SOURCE, BuildOptions(edition="paper")))
    assert example.relevance == {"1-3": 1.0}
    assert sorted(candidate.id for candidate in example.candidates) == [f"1-{place}" for place in range(5)]


@pytest.mark.parametrize(("size", "most"), [(5, 2500), (7, 1666), (9, 1250)])
def test_the_paper_edition_takes_the_published_number_of_each_split(size: int, most: int) -> None:
    records = [record(n, size=size, split=("train", "validation", "test")[n % 3]) for n in range(3 * (most + 3))]
    built = passage.build_paper(f"passage-{size}", size, records, SOURCE, BuildOptions(edition="paper"))
    assert {split: len(found) for split, found in built.splits.items()} == dict.fromkeys(built.splits, most)


def test_the_paper_edition_reads_what_the_filter_leaves(build: Callable[..., Built], data_dir: Path) -> None:
    records = {str(r["id"]): r for r in ms_marco.read(BuildOptions(edition="paper", data_dir=data_dir))}
    assert {r["split"] for r in records.values()} == {"train", "validation", "test"}
    seen = 0
    for size in SIZES:
        for example in every(build(f"passage-{size}", "paper")):
            source = records[example.group.removeprefix("ms-marco:")]
            texts, selected = source["texts"], source["selected"]
            assert isinstance(texts, list) and isinstance(selected, list)
            assert sum(selected) == 1
            assert sum(map(len, texts)) <= 2600
            assert example.split == source["split"]
            (truth,) = example.relevance
            shown = {candidate.id: candidate.text for candidate in example.candidates}
            assert sorted(shown.values()) == sorted(texts)
            assert shown[truth] == texts[selected.index(1)]
            seen += 1
    assert 30 < seen < len(records)


def test_parquet_files_read_as_json_lines_do(data_dir: Path, tmp_path: Path) -> None:
    folder = tmp_path / ms_marco.SOURCE.folder
    folder.mkdir()
    for split in ms_marco.SPLITS:
        (path,) = (data_dir / ms_marco.SOURCE.folder).glob(f"{split}.jsonl*")
        rows = datasets.load_dataset("json", data_files=str(path), split="train")
        rows.to_parquet(str(folder / f"{split}.parquet"))
    first = ms_marco.read(BuildOptions(edition="paper", data_dir=data_dir))
    assert ms_marco.read(BuildOptions(edition="paper", data_dir=tmp_path)) == first


def test_each_query_is_in_the_same_split_for_all_sizes_and_most_queries_fill_all(build: Callable[..., Built]) -> None:
    homes = [{example.group: example.split for example in every(build(f"passage-{size}"))} for size in SIZES]
    assert set(homes[2]) <= set(homes[1]) <= set(homes[0])
    assert all(homes[0][group] == split for home in homes for group, split in home.items())


def test_negatives_of_a_claim_are_never_cited_or_evidence(build: Callable[..., Built], data_dir: Path) -> None:
    cited: dict[str, set[str]] = {}
    evidence: dict[str, set[str]] = {}
    with zipfile.ZipFile(data_dir / scifact.SOURCE.folder / "scifact.zip") as archive:
        for name in ("claims_train.csv", "claims_validation.csv"):
            for row in csv.DictReader(io.StringIO(archive.read(name).decode())):
                cited.setdefault(row["id"], set()).update(re.findall(r"\d+", row["cited_doc_ids"]))
                evidence.setdefault(row["id"], set()).add(row["evidence_doc_id"].partition(".")[0])
    examples = [e for e in every(build("passage-9")) if e.group.startswith("scifact:")]
    assert {e.split for e in examples} == {"train", "validation", "test"}
    assert any(len(cited[e.group.partition(":")[2]]) > 2 for e in examples)
    for example in examples:
        claim = example.group.partition(":")[2]
        (truth,) = example.relevance
        assert truth in evidence[claim]
        others = {candidate.id for candidate in example.candidates} - {truth}
        assert not others & (cited[claim] | evidence[claim])


def test_published_validation_claims_are_the_test_and_claims_without_evidence_are_left_out(data_dir: Path) -> None:
    queries = scifact.read(BuildOptions(data_dir=data_dir)).queries
    assert {int(query.id) // 100 for query in queries if query.split == "test"} == {1}
    assert {int(query.id) // 100 for query in queries if query.split == "train"} == {0}
    assert all(int(query.id) % 4 != 3 for query in queries if query.split == "train")
    assert any(len(query.positives) == 2 for query in queries)
    assert all(len(query.negatives) <= scifact.POOL for query in queries)


def test_negatives_of_a_claim_begin_with_abstracts_like_it(data_dir: Path) -> None:
    for query in scifact.read(BuildOptions(data_dir=data_dir)).queries:
        subject = query.text.split()[0]
        assert any(subject in negative.text for negative in query.negatives[:5])


def test_sentences_of_a_question_keep_their_labels(data_dir: Path) -> None:
    queries = {query.id: query for query in wikiqa.read(BuildOptions(data_dir=data_dir)).queries}
    assert len(queries) == 20 + 5 + 8
    assert {query.split for id, query in queries.items() if id.startswith("dev-")} == {"train"}
    assert queries["test-2"].positives == []
    ids = [c.id for query in queries.values() for c in (*query.positives, *query.negatives)]
    assert len(set(ids)) == len(ids)
    assert {"train-3-0", "train-3-1"} <= {candidate.id for candidate in queries["train-3"].positives}


def test_questions_without_an_answer_or_with_too_few_sentences_are_counted(build: Callable[..., Built]) -> None:
    built = build("passage-9")
    groups = {example.group for example in every(built)}
    assert "wikiqa:test-2" not in groups
    assert built.counts["queries"] == len(groups) + built.counts["dropped, too few passages"]


def judged(id: str, split: str, text: str) -> Judged:
    negatives = [Candidate(id=f"{id}-{n}", text=f"no {n}") for n in range(12)]
    return Judged(id, text, [Candidate(id=f"{id}-yes", text="yes")], negatives, split)


def test_lists_of_one_training_query_show_other_passages() -> None:
    collection = Collection("invented", SOURCE, [judged("1", "train", "why?")], "by hand")
    shown = [
        frozenset(candidate.id for candidate in example.candidates)
        for example in passage.build_open("passage-5", 5, [collection], BuildOptions()).splits["train"]
    ]
    assert len(set(shown)) == 4


def test_a_query_that_stands_in_training_under_another_id_is_not_in_test() -> None:
    queries = [judged("1", "train", "Why is the sky green?"), judged("2", "test", "why is the sky green ?")]
    built = passage.build_open("passage-5", 5, [Collection("invented", SOURCE, queries, "by hand")], BuildOptions())
    assert not (built.splits["train"] and built.splits["test"])
