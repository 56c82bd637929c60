from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from unified_ranker.tasks import BuildOptions, Built
from unified_ranker.tasks.sources import trec_dl

from unified_ranker.errors import DataError

Rewrite = Callable[[str, str, Callable[[str], str]], Path]
YEARS = ("19", "20")


@pytest.mark.parametrize("year", YEARS)
def test_candidates_stand_in_the_order_of_bm25(build: Callable[..., Built], year: str) -> None:
    examples = build(f"trec-dl-20{year}").splits["test"]
    assert len(examples) == 4
    for example in examples:
        assert [candidate.id for candidate in example.candidates] == [f"{example.id}{n:03d}" for n in range(1, 13)]


@pytest.mark.parametrize("year", YEARS)
def test_all_lists_are_for_test(build: Callable[..., Built], year: str) -> None:
    built = build(f"trec-dl-20{year}")
    assert built.splits["train"] == built.splits["validation"] == []
    assert {example.group for example in built.splits["test"]} == {f"trec-dl:{e.id}" for e in built.splits["test"]}


@pytest.mark.parametrize("year", YEARS)
def test_unjudged_passages_count_as_0_and_are_counted(build: Callable[..., Built], year: str) -> None:
    built = build(f"trec-dl-20{year}")
    assert built.counts == {"passages": 48, "judged": 36}
    for example in built.splits["test"]:
        unjudged = {candidate.id for candidate in example.candidates} - set(example.relevance)
        assert unjudged == {f"{example.id}{n:03d}" for n in (4, 8, 12)}
        assert all(example.grade(id) == 0 for id in unjudged)
        assert f"999{example.id}" not in example.relevance, "judged, but not in the list"


def test_grades_are_those_of_the_judges(rewrite: Rewrite) -> None:
    root = rewrite(
        "passage_trec-dl19", "qrels.dl19-passage.txt", lambda text: "1900 Q0 1900001 3\n1900 0 1900002 0\n" + text
    )

    def alone(text: str) -> str:
        return "".join(line + "\n" for line in text.splitlines() if line.split()[2] not in ("1900001", "1900002"))

    path = root / "passage_trec-dl19" / "qrels.dl19-passage.txt"
    head, rest = path.read_text().splitlines()[:2], path.read_text().splitlines()[2:]
    path.write_text("\n".join(head) + "\n" + alone("\n".join(rest)))
    first = next(e for e in trec_dl.build("19", BuildOptions(data_dir=root)).splits["test"] if e.id == "1900")
    assert (first.grade("1900001"), first.relevance["1900002"]) == (3.0, 0.0)


def test_a_query_without_judgements_is_refused_by_name(rewrite: Rewrite) -> None:
    def unknown(text: str) -> str:
        run = json.loads(text)
        for hit in run[1]["hits"]:
            hit["qid"] = 4711
        return json.dumps(run)

    root = rewrite("passage_trec-dl20", "bm25_dl20_top100.json", unknown)
    with pytest.raises(DataError, match="'4711' has no judgements"):
        trec_dl.build("20", BuildOptions(data_dir=root))
