"""TREC Deep Learning 2019 and 2020, passages: BM25's best 100 with their text, and NIST's grades from 0 to 3."""

from __future__ import annotations

from unified_ranker.tasks.base import BuildOptions, Built, Source
from unified_ranker.tasks.beside import Beside
from unified_ranker.tasks.sampling import limited
from unified_ranker.tasks.sources.reading import document, lines, record

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
        DataError: a file is malformed, or a query of the run has no judgements.
    """
    source = SOURCES[year]
    path = options.find(source, f"qrels.dl{year}-passage.txt")
    grades: dict[str, dict[str, float]] = {}
    for number, line in lines(path):
        with record(path, number):
            query, _, passage, grade = line.split()
            grades.setdefault(query, {})[passage] = float(grade)
    path = options.find(source, f"bm25_dl{year}_top100.json")
    examples = []
    outside: dict[str, dict[str, float]] = {}
    judged = total = 0
    for number, entry in enumerate(document(path), start=1):
        with record(path, number):
            hits = sorted(entry["hits"], key=lambda hit: int(hit["rank"]))
            query = str(hits[0]["qid"])
            candidates = tuple(Candidate(id=str(hit["docid"]), text=hit["content"]) for hit in hits)
            text = entry["query"]
        if query not in grades:
            raise DataError(f"{path}, row {number}: query {query!r} has no judgements in the qrels")
        known = grades[query]
        total += len(candidates)
        judged += sum(c.id in known for c in candidates)
        shown = {candidate.id for candidate in candidates}
        outside[query] = {passage: grade for passage, grade in known.items() if passage not in shown}
        examples.append(
            RankingExample(
                id=query,
                query=text,
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
        beside=Beside(judged=outside),
    )
