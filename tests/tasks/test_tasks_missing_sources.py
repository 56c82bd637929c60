from __future__ import annotations

from pathlib import Path

import pytest
from unified_ranker.tasks import ALL_TASKS, TASKS, BuildOptions, Source
from unified_ranker.tasks.base import open_text

from unified_ranker.errors import DataError, MissingSourceError


@pytest.mark.parametrize("edition", ["paper", "open"])
@pytest.mark.parametrize("name", ALL_TASKS)
def test_a_missing_source_names_where_to_get_it_and_where_to_put_it(tmp_path: Path, name: str, edition: str) -> None:
    source = TASKS[name].sources[edition][0]
    with pytest.raises(MissingSourceError) as raised:
        TASKS[name].build[edition](BuildOptions(edition=edition, data_dir=tmp_path))
    message = str(raised.value)
    assert source.url in message
    assert str(tmp_path / source.folder) in message
    assert source.note in message
    assert "--data-dir" in message and "UNIFIED_RANKER_DATA" in message


@pytest.mark.parametrize("name", ALL_TASKS)
def test_without_a_data_directory_the_message_names_both_ways_to_give_one(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.delenv("UNIFIED_RANKER_DATA", raising=False)
    with pytest.raises(MissingSourceError, match=r"--data-dir.*UNIFIED_RANKER_DATA"):
        TASKS[name].build["open"](BuildOptions())


def test_an_empty_variable_is_no_data_directory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UNIFIED_RANKER_DATA", "")
    with pytest.raises(MissingSourceError, match="no data directory"):
        BuildOptions().root()


def test_a_data_directory_that_does_not_exist_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UNIFIED_RANKER_DATA", str(tmp_path))
    with pytest.raises(MissingSourceError, match="nowhere' does not exist"):
        BuildOptions(data_dir=tmp_path / "nowhere").root()


def test_a_file_is_no_data_directory(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(MissingSourceError, match="does not exist"):
        BuildOptions(data_dir=tmp_path / "file").root()


def test_a_missing_source_is_a_data_error_and_a_file_not_found(tmp_path: Path) -> None:
    with pytest.raises(DataError) as raised:
        TASKS["movie"].build["open"](BuildOptions(data_dir=tmp_path))
    assert isinstance(raised.value, FileNotFoundError)


def test_the_first_of_several_names_is_found_plain_before_zipped(tmp_path: Path) -> None:
    source = Source(folder="here", title="Invented", url="http://invalid", licence="none")
    options = BuildOptions(data_dir=tmp_path)
    (tmp_path / "here").mkdir()
    found = []
    for name in ("b.txt.gz", "b.txt", "a.txt.gz", "a.txt"):
        (tmp_path / "here" / name).write_bytes(b"")
        found.append(options.find(source, "a.txt", "b.txt").name)
    assert found == ["b.txt.gz", "b.txt", "a.txt.gz", "a.txt"]
    with pytest.raises(MissingSourceError, match=r"none of c\.txt, d\.txt in .*here"):
        options.find(source, "c.txt", "d.txt")


def test_a_file_in_latin_1_is_read_as_such(tmp_path: Path) -> None:
    (tmp_path / "a.dat").write_bytes("Zïm".encode("latin-1"))
    with open_text(tmp_path / "a.dat", encoding="latin-1") as file:
        assert file.read() == "Zïm"
