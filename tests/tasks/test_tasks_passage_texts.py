from __future__ import annotations

import io
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from invented_files import table
from unified_ranker.tasks import BuildOptions
from unified_ranker.tasks.sources import scifact, wikiqa

Rewrite = Callable[[str, str, Callable[[str], str]], Path]

# Arrays as numpy prints them, with the text that they stand for.
ABSTRACTS = [
    pytest.param("['One sentence.']", "One sentence.", id="one"),
    pytest.param("['One.'\n 'Two, and more.']", "One. Two, and more.", id="two lines"),
    pytest.param("[\"A rat's tail.\"\n 'Two.']", "A rat's tail. Two.", id="double quotes for an apostrophe"),
    pytest.param("['It was \"long\".'\n 'Two.']", 'It was "long". Two.', id="double quotes inside"),
    pytest.param("['Between 4 +/-' '3 and 9 +/-' '2 days.']", "Between 4 +/- 3 and 9 +/- 2 days.", id="one line"),
    pytest.param("['A \"b\" c.' \"It's d.\" 'E.']", 'A "b" c. It\'s d. E.', id="one line, both quotes"),
    pytest.param("['Aims.\\n METHODS None.'\n 'Two.']", "Aims. METHODS None. Two.", id="an escaped line break"),
    pytest.param("['A rat\\'s \"tail\".'\n 'Two.']", 'A rat\'s "tail". Two.', id="an escaped quote"),
    pytest.param("['A \\\\alpha b.']", "A \\alpha b.", id="an escaped backslash"),
    pytest.param("['[Bracketed] at first.'\n 'And [last]']", "[Bracketed] at first. And [last]", id="brackets inside"),
    pytest.param("[]", "", id="empty"),
]


@pytest.mark.parametrize(("printed", "expected"), ABSTRACTS)
def test_a_printed_array_reads_as_its_sentences(tmp_path: Path, printed: str, expected: str) -> None:
    rows = [(number, "Filler", "['Nothing.']", False) for number in range(5)]
    header = ("id", "claim", "evidence_doc_id", "evidence_label", "evidence_sentences", "cited_doc_ids")
    claims = table(header, [(1, "Something holds", "77", "SUPPORT", "[0]", "[77]")])
    folder = tmp_path / scifact.SOURCE.folder
    folder.mkdir()
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        corpus = [*rows, (77, "On something", printed, False)]
        archive.writestr("corpus_train.csv", table(("doc_id", "title", "abstract", "structured"), corpus))
        archive.writestr("claims_train.csv", claims)
        archive.writestr("claims_validation.csv", claims.replace("\n1,", "\n2,"))
    (folder / "scifact.zip").write_bytes(buffer.getvalue())
    (positive,) = scifact.read(BuildOptions(data_dir=tmp_path)).queries[0].positives
    assert (positive.title, positive.text) == ("On something", expected)


@pytest.mark.parametrize("separator", ["\u2028", "\x85", "\x0c", "\x1c"])
def test_a_sentence_that_holds_another_line_separator_stays_one_sentence(rewrite: Rewrite, separator: str) -> None:
    root = rewrite(
        wikiqa.SOURCE.folder, "test_b.toks", lambda text: f"first{separator}half .\n" + text.partition("\n")[2]
    )
    queries = {query.id: query for query in wikiqa.read(BuildOptions(data_dir=root)).queries}
    texts = {c.id: c.text for c in (*queries["test-1"].positives, *queries["test-1"].negatives)}
    assert texts["test-1-0"] == f"first{separator}half ."
