from __future__ import annotations

import zipfile
from pathlib import Path

import pytest
from unified_ranker.tasks import BuildOptions
from unified_ranker.tasks.sources import scifact

from unified_ranker.errors import DataError


def changed(data_dir: Path, tmp_path: Path, name: str, old: str, new: str | None) -> BuildOptions:
    """Copy the archive with one table changed, or left out where ``new`` is None."""
    folder = tmp_path / scifact.SOURCE.folder
    folder.mkdir()
    with (
        zipfile.ZipFile(data_dir / scifact.SOURCE.folder / "scifact.zip") as source,
        zipfile.ZipFile(folder / "scifact.zip", "w") as copy,
    ):
        for member in source.namelist():
            text = source.read(member).decode()
            if member == name:
                assert old in text
                if new is None:
                    continue
                text = text.replace(old, new, 1)
            copy.writestr(member, text)
    return BuildOptions(data_dir=tmp_path)


@pytest.mark.parametrize("name", ["corpus_train.csv", "claims_train.csv", "claims_validation.csv"])
def test_a_missing_table_is_named(data_dir: Path, tmp_path: Path, name: str) -> None:
    with pytest.raises(DataError, match=name):
        scifact.read(changed(data_dir, tmp_path, name, "", None))


@pytest.mark.parametrize(
    ("name", "old", "new", "expected"),
    [
        ("corpus_train.csv", "doc_id", "id", "doc_id"),
        ("claims_train.csv", "cited_doc_ids", "cited", "cited_doc_ids"),
        ("claims_train.csv", "[1010]", "[1010", "row 2"),
        ("claims_train.csv", "[1010]", "none", "row 2"),
    ],
)
def test_a_malformed_table_is_named(
    data_dir: Path, tmp_path: Path, name: str, old: str, new: str, expected: str
) -> None:
    with pytest.raises(DataError, match=expected) as raised:
        scifact.read(changed(data_dir, tmp_path, name, old, new))
    assert name in str(raised.value)
