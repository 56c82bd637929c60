"""SciFact: scientific claims and the abstracts that support or contradict them; the other passages come from BM25."""

from __future__ import annotations

import ast
import csv
import io
import re
import tokenize
import zipfile
from collections.abc import Sequence

from unified_ranker.tasks.base import BuildOptions, Source
from unified_ranker.tasks.passage import Collection, Judged
from unified_ranker.tasks.sources.reading import record

from unified_ranker.errors import DataError
from unified_ranker.schema.types import Candidate

SOURCE = Source(
    folder="passage_scifact",
    title="SciFact",
    url="https://github.com/allenai/scifact (as CSV: the hub data set allenai/scifact)",
    licence="claims CC BY 4.0, abstracts ODC-By 1.0",
)

# Negatives are drawn from so many of BM25's best; far below them lie abstracts that nobody would confuse.
POOL = 30


def read(options: BuildOptions) -> Collection:
    """Read claims with evidence; the published validation claims are our test, as the published test has none."""
    path = options.find(SOURCE, "scifact.zip")
    try:
        with zipfile.ZipFile(path) as archive:
            corpus = _corpus(_table(archive, "corpus_train.csv", ("doc_id", "title", "abstract")))
            claims = {
                split: _claims(
                    _table(archive, name, ("id", "claim", "evidence_doc_id", "cited_doc_ids")), f"{path}, {name}"
                )
                for split, name in (("train", "claims_train.csv"), ("test", "claims_validation.csv"))
            }
    except (zipfile.BadZipFile, KeyError) as error:
        raise DataError(f"{path} is no archive with the tables of SciFact: {error}") from error
    ranked = _bm25(corpus, {claim: text for found in claims.values() for claim, (text, _, _) in found.items()})
    queries = []
    for split, found in claims.items():
        for claim, (text, evidence, cited) in found.items():
            positives = [corpus[document] for document in sorted(evidence) if document in corpus]
            # A cited abstract may hold evidence that was not annotated: it is no safe negative.
            negatives = [corpus[d] for d in ranked[claim] if d not in evidence and d not in cited][:POOL]
            queries.append(Judged(id=claim, text=text, positives=positives, negatives=negatives, split=split))
    return Collection(
        "scifact", SOURCE, queries, f"negatives drawn from BM25's best {POOL} that the claim does not cite"
    )


def _table(archive: zipfile.ZipFile, name: str, needed: Sequence[str]) -> list[dict[str, str]]:
    with archive.open(name) as raw:
        reader = csv.DictReader(io.TextIOWrapper(raw, encoding="utf-8", newline=""))
        for column in needed:
            if column not in (reader.fieldnames or ()):
                raise DataError(
                    f"{SOURCE.title}, {name}: column {column!r} is missing; it has {', '.join(reader.fieldnames or ())}"
                )
        return list(reader)


def _corpus(rows: list[dict[str, str]]) -> dict[str, Candidate]:
    return {
        row["doc_id"]: Candidate(id=row["doc_id"], title=row["title"], text=_sentences(row["abstract"])) for row in rows
    }


def _sentences(abstract: str) -> str:
    """Return an abstract as text: the CSV form writes its sentences as a printed array of Python strings.

    Raises:
        DataError: the array is malformed.
    """
    if not abstract.lstrip().startswith("["):
        return " ".join(abstract.split())
    try:
        tokens = tokenize.generate_tokens(io.StringIO(abstract).readline)
        sentences = [ast.literal_eval(token.string) for token in tokens if token.type == tokenize.STRING]
    except (tokenize.TokenError, SyntaxError) as error:
        raise DataError(
            f"{SOURCE.title}: the abstract {abstract[:60]!r} is no printed array of strings: {error}"
        ) from error
    return " ".join(" ".join(sentences).split())


def _claims(rows: list[dict[str, str]], where: str) -> dict[str, tuple[str, set[str], set[str]]]:
    """Return text, evidence and cited documents by claim; the table has one row per piece of evidence."""
    found: dict[str, tuple[str, set[str], set[str]]] = {}
    for number, row in enumerate(rows, start=2):
        if not row["evidence_doc_id"]:
            continue
        with record(where, number):
            # Printed as an array, without commas.
            cited = {str(entry) for entry in ast.literal_eval(re.sub(r"(?<=\d)\s+(?=\d)", ", ", row["cited_doc_ids"]))}
        _, evidence, _ = found.setdefault(row["id"], (row["claim"], set(), cited))
        evidence.add(row["evidence_doc_id"].removesuffix(".0"))
    return found


def _bm25(corpus: dict[str, Candidate], claims: dict[str, str]) -> dict[str, list[str]]:
    import bm25s

    documents = list(corpus)
    index = bm25s.BM25()
    texts = [f"{corpus[document].title} {corpus[document].text}" for document in documents]
    index.index(bm25s.tokenize(texts, stopwords="en", show_progress=False), show_progress=False)
    tokens = bm25s.tokenize(list(claims.values()), stopwords="en", show_progress=False)
    depth = min(len(documents), POOL + 20)
    found, _ = index.retrieve(tokens, k=depth, show_progress=False)
    return {claim: [documents[int(place)] for place in row] for claim, row in zip(claims, found, strict=True)}
