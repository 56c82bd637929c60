"""TREC Deep Learning 2019 and 2020, passages: BM25's best 100 with their text, and NIST's grades from 0 to 3."""

from __future__ import annotations

import json

from unified_ranker.tasks.base import BuildOptions, Built, Source, open_text
from unified_ranker.tasks.sampling import limited

from unified_ranker.errors import DataError
from unified_ranker.schema.types import Candidate, RankingExample

SOURCES = {
    year: Source(
        folder=f"passage_trec-dl{year}",
        title=f"TREC Deep Learning 20{year}, passages, BM25 top 100",
        url="https://github.com/castorini/rank_llm_data and https://github.com/castorini/anserini-tools (qrels)",
        licence="passages are MS MARCO: non-commercial research only",
    )
    for year in ("19", "20")
}


def build(year: str, options: BuildOptions) -> Built:
    """Make one list a query, in BM25's order; test only.

    A passage without a grade is unjudged and counts as 0, as is the field's custom.

    Raises:
        DataError: a query of the run has no judgements.
    """
    source = SOURCES[year]
    with open_text(options.find(source, f"bm25_dl{year}_top100.json")) as file:
        queries = json.load(file)
    grades: dict[str, dict[str, float]] = {}
    with open_text(options.find(source, f"qrels.dl{year}-passage.txt")) as file:
        for line in file:
            query, _, document, grade = line.split()
            grades.setdefault(query, {})[document] = float(grade)
    examples = []
    judged = total = 0
    for entry in queries:
        hits = sorted(entry["hits"], key=lambda hit: int(hit["rank"]))
        query = str(hits[0]["qid"])
        if query not in grades:
            raise DataError(f"{source.title}: query {query!r} has no judgements in the qrels")
        known = grades[query]
        candidates = tuple(Candidate(id=str(hit["docid"]), text=hit["content"]) for hit in hits)
        total += len(candidates)
        judged += sum(c.id in known for c in candidates)
        examples.append(
            RankingExample(
                id=query,
                query=entry["query"],
                candidates=candidates,
                task=f"trec-dl-20{year}",
                domain="passage",
                relevance={c.id: known[c.id] for c in candidates if c.id in known},
                split="test",
                group=f"trec-dl:{query}",
            )
        )
    return Built(
        splits={"train": [], "validation": [], "test": limited(examples, options.limit, seed=options.seed)},
        sources=(source,),
        sampling="all judged queries with BM25's best 100 passages, in BM25's order; never for training",
        counts={"passages": total, "judged": judged},
    )
