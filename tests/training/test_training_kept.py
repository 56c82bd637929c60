from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from invented_lists import tiny_recipe

from unified_ranker.errors import RecipeError
from unified_ranker.training.kept import Kept
from unified_ranker.training.warming import kept_as

RUN = {"recipe": {"seed": 0}}


def same(run: Mapping[str, Any]) -> None:
    if run != RUN:
        raise RecipeError("another recipe")


def test_what_is_kept_is_made_once_and_found_by_a_later_run(tmp_path: Path) -> None:
    made = []
    for _ in range(2):
        kept = Kept(tmp_path / "checkpoint", RUN, same)
        found = kept.once("words", lambda: made.append(1) or (torch.ones(3), ("a", 1)))
        assert torch.equal(found[0], torch.ones(3))
        assert found[1] == ("a", 1)
    assert made == [1]
    assert "words" in kept
    assert "others" not in kept


def test_results_have_names_of_their_own(tmp_path: Path) -> None:
    kept = Kept(tmp_path, RUN, same)
    assert (kept.once("warm-up-0", lambda: 0), kept.once("warm-up-1", lambda: 1)) == (0, 1)
    assert (kept.once("warm-up-0", lambda: 5), kept.once("warm-up-1", lambda: 5)) == (0, 1)


def refuse(run: Mapping[str, Any]) -> None:
    assert run == RUN
    raise RecipeError("another recipe")


def test_what_another_run_has_kept_is_refused_and_stays(tmp_path: Path) -> None:
    Kept(tmp_path, RUN, same).once("words", lambda: 1)
    with pytest.raises(RecipeError, match="another recipe"):
        Kept(tmp_path, {"recipe": {"seed": 1}}, refuse)
    assert Kept(tmp_path, RUN, same).once("words", lambda: 2) == 1


def test_what_fails_or_is_killed_while_it_is_written_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = Kept(tmp_path, RUN, same)
    with pytest.raises(ZeroDivisionError):
        kept.once("words", lambda: 1 // 0)
    assert list(tmp_path.iterdir()) == []

    def half(found: Any, path: Path) -> None:
        path.write_bytes(b"half")
        raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(torch, "save", half)
        kept.once("words", lambda: 1)
    assert "words" not in kept
    assert kept.once("words", lambda: 2) == 2


def test_clearing_leaves_what_is_not_its_own(tmp_path: Path) -> None:
    (tmp_path / "state.pt").write_bytes(b"")
    kept = Kept(tmp_path, RUN, same)
    kept.once("words", lambda: 1)
    kept.clear()
    assert [path.name for path in tmp_path.iterdir()] == ["state.pt"]
    assert kept.once("words", lambda: 2) == 2


def test_nothing_lies_in_a_folder_in_which_nothing_was_kept(tmp_path: Path) -> None:
    Kept(tmp_path / "checkpoint", RUN, same).clear()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("record", "name"),
    [
        ({"kind": "words", "words_step": 1}, "warm-up-0"),
        ({"kind": "words", "words_step": 2}, "warm-up-0"),
        ({"kind": "words", "words_step": 3}, "warm-up-1"),
        ({"kind": "taught", "task": "router-cost"}, "taught-router-cost"),
        ({"kind": "asked"}, "asked"),
        ({"kind": "validation"}, "validation"),
    ],
)
def test_a_record_tells_of_what_is_kept(record: dict[str, Any], name: str) -> None:
    # Two batches of 128 lists each.
    assert kept_as(record, tiny_recipe(words={"lists": 256})) == name
