from __future__ import annotations

from pathlib import Path

import pytest

from unified_ranker.errors import DataError
from unified_ranker.schema.finished import drop_unfinished, finished_ids, finished_records

FIRST = '{"id": "a", "n": 1}\n'
SECOND = '{"id": "é", "n": 2}\n'
BOTH = (FIRST + SECOND).encode("utf-8")


@pytest.fixture
def output(tmp_path: Path) -> Path:
    return tmp_path / "out.jsonl"


def test_of_no_file_nothing_is_finished_and_none_is_made(output: Path) -> None:
    assert finished_ids(output) == set()
    assert finished_records(output) == {}
    drop_unfinished(output)
    assert not output.exists()


def test_an_empty_file_holds_nothing(output: Path) -> None:
    output.write_bytes(b"")
    assert finished_records(output) == {}


def test_ids_and_records_are_those_of_the_lines_in_their_order(output: Path) -> None:
    output.write_bytes(BOTH)
    assert finished_ids(output) == {"a", "é"}
    assert list(finished_records(output).items()) == [("a", {"id": "a", "n": 1}), ("é", {"id": "é", "n": 2})]
    assert output.read_bytes() == BOTH


def test_wherever_a_file_was_cut_off_its_whole_lines_are_read_and_only_a_writer_drops_the_rest(output: Path) -> None:
    for size in range(len(BOTH) + 1):
        output.write_bytes(BOTH[:size])
        kept = [line for line in (FIRST.encode(), BOTH) if len(line) <= size]
        assert list(finished_records(output)) == ["a", "é"][: len(kept)]
        assert output.read_bytes() == BOTH[:size]
        drop_unfinished(output)
        assert output.read_bytes() == (kept[-1] if kept else b"")


@pytest.mark.parametrize("rest", [b'{"id": "c"', b'{"id": "c"}', b"\xc3", b" ", b"not JSON at all"])
def test_a_last_line_without_an_end_is_dropped_whatever_it_holds(rest: bytes, output: Path) -> None:
    output.write_bytes(BOTH + rest)
    assert set(finished_records(output)) == {"a", "é"}
    assert output.read_bytes() == BOTH + rest
    assert finished_ids(output) == {"a", "é"}
    assert output.read_bytes() == BOTH


def test_blank_lines_are_passed_over_and_count_as_rows(output: Path) -> None:
    output.write_text(f"\n{FIRST}\n{SECOND}", encoding="utf-8")
    assert finished_ids(output) == {"a", "é"}
    output.write_text(f"\n{FIRST}\nnone\n", encoding="utf-8")
    with pytest.raises(DataError, match="row 4"):
        finished_ids(output)


def test_a_separator_of_unicode_ends_no_line(output: Path) -> None:
    output.write_text('{"id": "a\u2028b\u0085"}\n', encoding="utf-8")
    assert finished_ids(output) == {"a\u2028b\u0085"}


@pytest.mark.parametrize("read", [finished_ids, finished_records])
@pytest.mark.parametrize(
    ("line", "words"),
    [
        ('{"id": "b"', "not a JSON object"),
        ("[" * 100_000, "not a JSON object"),
        ("[]", "no ranking"),
        ("1", "no ranking"),
        ("{}", "no ranking"),
        ('{"id": 3}', "no ranking"),
        ('{"id": null}', "no ranking"),
    ],
    ids=lambda value: str(value)[:20],
)
@pytest.mark.parametrize("last", [True, False])
def test_a_whole_line_that_is_no_ranking_is_told_with_file_and_row_and_left(
    read: object, line: str, words: str, last: bool, output: Path
) -> None:
    text = FIRST + line + "\n" + ("" if last else SECOND)
    output.write_text(text, encoding="utf-8")
    assert callable(read)
    with pytest.raises(DataError) as caught:
        read(output)
    assert str(caught.value).startswith(f"{output}, row 2: ") and words in str(caught.value)
    assert output.read_text(encoding="utf-8") == text


def test_what_is_no_utf_8_is_told(output: Path) -> None:
    output.write_bytes(FIRST.encode() + b"\xff\n" + SECOND.encode())
    with pytest.raises(DataError, match="not UTF-8"):
        finished_records(output)
