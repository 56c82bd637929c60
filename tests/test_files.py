from __future__ import annotations

from pathlib import Path

import pytest

from unified_ranker.files import write_whole


def test_a_text_takes_the_place_of_another_and_nothing_lies_beside_it(tmp_path: Path) -> None:
    for text in ("before", "after: ü\n"):
        write_whole(tmp_path / "note.yaml", text)
    assert (tmp_path / "note.yaml").read_text(encoding="utf-8") == "after: ü\n"
    assert [path.name for path in tmp_path.iterdir()] == ["note.yaml"]


def test_a_text_that_cannot_be_written_leaves_what_was_there(tmp_path: Path) -> None:
    write_whole(tmp_path / "note.yaml", "before")
    with pytest.raises(UnicodeEncodeError):
        write_whole(tmp_path / "note.yaml", "half \ud800 of it")
    assert (tmp_path / "note.yaml").read_text(encoding="utf-8") == "before"
