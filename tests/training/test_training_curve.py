from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from unified_ranker.errors import MissingExtraError
from unified_ranker.training.curve import draw_curve

PNG = b"\x89PNG\r\n\x1a\n"


def records(*, readout: bool = True, validated: bool = True, words: bool = True) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    if words:
        found.append(
            {"step": 0, "tokens": 0, "seconds": 0.0, "kind": "words", "words_step": 100, "loss": 1.5, "top": 0.4}
        )
    for step in (50, 100):
        record = {"step": step, "tokens": step * 1000, "seconds": 1.0, "kind": "train", "labels": 1 / step}
        found.append({**record, "vocabulary": 2.0, **({"readout": 0.5, "readout_top": 0.4} if readout else {})})
        if validated:
            found.append({"step": step, "tokens": step * 1000, "kind": "validation", "movie": 0.4, "macro": 0.4})
    return found


def write_log(folder: Path, lines: list[dict[str, Any]]) -> Path:
    path = folder / "log.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return path


@pytest.mark.parametrize("readout", [True, False], ids=["readout", "no readout"])
@pytest.mark.parametrize("validated", [True, False], ids=["validated", "never validated"])
def test_a_curve_is_drawn_as_png(tmp_path: Path, readout: bool, validated: bool) -> None:
    pytest.importorskip("matplotlib")
    log = write_log(tmp_path, records(readout=readout, validated=validated))
    draw_curve(log, tmp_path / "curve.png")
    assert (tmp_path / "curve.png").read_bytes().startswith(PNG)


def test_a_run_that_has_only_begun_can_be_drawn(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    draw_curve(write_log(tmp_path, records()[:1]), tmp_path / "curve.png")
    assert (tmp_path / "curve.png").read_bytes().startswith(PNG)


def test_a_warm_up_of_words_has_a_panel_of_its_own(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    from matplotlib.image import imread

    widths = []
    for words in (True, False):
        draw_curve(write_log(tmp_path, records(words=words)), tmp_path / "curve.png")
        widths.append(imread(tmp_path / "curve.png").shape[1])
    assert widths[0] == 1.5 * widths[1]


def test_without_matplotlib_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(MissingExtraError, match=r"unified-ranker\[train\]"):
        draw_curve(write_log(tmp_path, records()), tmp_path / "curve.png")
