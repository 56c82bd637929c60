from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
from unified_ranker.benchmarks.speed.report import as_markdown, draw

from unified_ranker.errors import MissingExtraError

SETTINGS = {
    "model": "embedded",
    "task": "movie",
    "queries": 64,
    "candidates": 20,
    "repeats": 5,
    "cores": 2,
    "python": "3.11",
}
OURS: dict[str, Any] = {
    "backend": "vllm",
    "arm": "append, one decode",
    "reference": False,
    "rankings_per_second": 12.34,
    "rankings_per_second_low": 10.06,
    "rankings_per_second_high": 13.0,
    "seconds": [1.0],
    "calls": 1.0,
    "prompt_tokens_computed": 1234.5678,
    "prompt_tokens_reused": 0.0,
    "generated_tokens": 19.0,
    "seconds_p50": 0.1234,
    "seconds_p95": 0.5,
    "RR": 0.4567,
    "nDCG@10": 0.6543,
}
LOOP: dict[str, Any] = {**OURS, "arm": "lock-step rounds", "reference": True, "calls": 19.0, "rankings_per_second": 1.0}
FLOOR: dict[str, Any] = {key: OURS[key] for key in list(OURS)[:7]} | {"arm": "floor: plain decode"}
RATIOS = {
    "prompt_tokens_vs_lockstep": 10.456,
    "throughput_vs_lockstep": 6.7,
    "throughput_vs_heapsort": 12.0,
    "over_floor": 1.25,
    "prompt_token_exponent": 0.987,
}
SPREAD = {
    "throughput_vs_lockstep": {"median": 6.7, "low": 6.0, "high": 7.129},
    "throughput_vs_heapsort": {"median": 12.0, "low": 11.5, "high": 12.5},
    "over_floor": {"median": 1.25, "low": 1.1, "high": 1.3},
}
GROWN = [
    {
        "backend": "vllm",
        "arm": "append, one decode",
        "sizes": [5, 10, 200],
        "prompt_tokens": [60.4, 110.5, 2345.6],
        "seconds": [0.1, 0.2, 4.0],
        "prompt_token_exponent": 0.987,
        "time_exponent": 1.004,
    },
    {
        "backend": "vllm",
        "arm": "lock-step rounds",
        "sizes": [5, 10, 200],
        "prompt_tokens": [200.0, 700.0, 250000.0],
        "seconds": [0.3, 1.0, 90.0],
        "prompt_token_exponent": 1.9,
        "time_exponent": 2.055,
    },
]


def record(**changes: Any) -> dict[str, Any]:
    whole = {"settings": SETTINGS, "arms": [OURS, LOOP, FLOOR], "ratios": {}, "ratios_spread": {}, "growth": []}
    return {**whole, **changes}


def test_the_report_says_what_was_measured() -> None:
    first = as_markdown(record()).splitlines()[0]
    assert first.startswith("64 lists of 20 candidates (movie), embedded model, 2 cores, medians over 5 interleaved")


def test_each_arm_is_a_row_and_references_are_in_italics() -> None:
    _, _, header, rule, *rows = as_markdown(record()).splitlines()
    assert header == (
        "| backend | arm | rankings/s (least – most) | calls | prompt tokens computed | reused | generated | p50 s | "
        "p95 s | RR | nDCG@10 |"
    )
    assert rows == [
        "| vllm | append, one decode | 12.3 (10.1 – 13.0) | 1.0 | 1,235 | 0 | 19.0 | 0.123 | 0.500 | 0.457 | 0.654 |",
        "| vllm | *lock-step rounds* | 1.0 (10.1 – 13.0) | 19.0 | 1,235 | 0 | 19.0 | 0.123 | 0.500 | 0.457 | 0.654 |",
        "| vllm | floor: plain decode | 12.3 (10.1 – 13.0) | | | | | | | | |",
    ]
    assert {line.count("|") for line in (header, rule, *rows)} == {12}


def test_ratios_stand_with_their_spread_where_they_have_one() -> None:
    text = as_markdown(record(ratios=RATIOS, ratios_spread=SPREAD))
    block = text.split("\n\n")[2]
    assert block.splitlines() == [
        "| ratio | median | least – most |",
        "|---|--:|--:|",
        "| `prompt_tokens_vs_lockstep` | 10.46 |  |",
        "| `throughput_vs_lockstep` | 6.70 | 6.00 – 7.13 |",
        "| `throughput_vs_heapsort` | 12.00 | 11.50 – 12.50 |",
        "| `over_floor` | 1.25 | 1.10 – 1.30 |",
        "| `prompt_token_exponent` | 0.99 |  |",
    ]


def test_growth_stands_by_size_with_both_exponents() -> None:
    text = as_markdown(record(growth=GROWN))
    assert text.split("\n\n")[2].splitlines() == [
        "| computed prompt tokens of a query, by candidates | 5 | 10 | 200 | exponent | of time |",
        "|---|--:|--:|--:|--:|--:|",
        "| append, one decode | 60 | 110 | 2,346 | 0.99 | 1.00 |",
        "| lock-step rounds | 200 | 700 | 250,000 | 1.90 | 2.06 |",
    ]


def test_what_was_not_measured_has_no_table() -> None:
    text = as_markdown(record())
    assert "ratio |" not in text
    assert "exponent" not in text
    assert text.endswith("|\n")
    assert len(as_markdown(record(ratios=RATIOS, ratios_spread=SPREAD, growth=GROWN)).split("\n\n")) == 4


@pytest.mark.parametrize("growth", [[], GROWN], ids=["alone", "with growth"])
def test_a_picture_is_drawn(tmp_path: Path, growth: list[dict[str, Any]]) -> None:
    from matplotlib.image import imread

    draw(record(growth=growth), tmp_path / "speed.png")
    height, width, _ = imread(tmp_path / "speed.png").shape
    assert (width, height) == ((16 if growth else 9) * 120, 6 * 120)


def test_the_picture_shows_each_ranking_arm_and_each_growing_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from matplotlib.figure import Figure

    kept: list[Figure] = []
    monkeypatch.setattr(Figure, "savefig", lambda figure, *_, **__: kept.append(figure))
    draw(record(growth=GROWN), tmp_path / "speed.png")
    (figure,) = kept
    points, tokens, seconds = figure.axes
    assert [(line.get_xdata()[0], line.get_ydata()[0]) for line in points.lines] == [(12.34, 0.6543), (1.0, 0.6543)]
    assert len({line.get_color() for line in points.lines}) == 2
    assert "1  vllm: append, one decode\n2  vllm: lock-step rounds" in [text.get_text() for text in points.texts]
    assert [list(line.get_ydata()) for line in tokens.lines] == [entry["prompt_tokens"] for entry in GROWN]
    assert [list(line.get_ydata()) for line in seconds.lines] == [entry["seconds"] for entry in GROWN]
    assert [line.get_label() for line in tokens.lines] == ["append, one decode: n^0.99", "lock-step rounds: n^1.90"]
    assert [line.get_label() for line in seconds.lines] == ["append, one decode: n^1.00", "lock-step rounds: n^2.06"]


def test_without_matplotlib_the_message_names_the_extra_and_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in sys.modules if name.split(".")[0] == "matplotlib"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(MissingExtraError, match=r"'matplotlib'.*pip install 'unified-ranker\[bench\]'"):
        draw(record(), tmp_path / "speed.png")
    assert list(tmp_path.iterdir()) == []
