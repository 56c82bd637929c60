"""The speed benchmark for people: a table in Markdown, and pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from unified_ranker.errors import missing_extra

_COLUMNS = (
    "rankings/s (least – most)",
    "calls",
    "prompt tokens computed",
    "reused",
    "generated",
    "p50 s",
    "p95 s",
    "RR",
    "nDCG@10",
)


def as_markdown(found: Mapping[str, Any]) -> str:
    """Return the table of arms, the ratios and the exponents."""
    settings = found["settings"]
    lines = [
        f"{settings['queries']} lists of {settings['candidates']} candidates ({settings['task']}), {settings['model']} "
        f"model, {settings['cores']} cores, medians over {settings['repeats']} interleaved repeats from a cold cache; "
        "calls, tokens and seconds are of one query, and references are in italics.",
        "",
        "| backend | arm | " + " | ".join(_COLUMNS) + " |",
        "|---|---|" + "--:|" * len(_COLUMNS),
    ]
    lines += [_row(row) for row in found["arms"]]
    if found["ratios"]:
        lines += ["", "| ratio | median | least – most |", "|---|--:|--:|"]
        for name, value in found["ratios"].items():
            spread = found["ratios_spread"].get(name)
            shown = f"{spread['low']:.2f} – {spread['high']:.2f}" if spread else ""
            lines.append(f"| `{name}` | {value:.2f} | {shown} |")
    if found["growth"]:
        sizes = found["growth"][0]["sizes"]
        lines += [
            "",
            "| computed prompt tokens of a query, by candidates | "
            + " | ".join(str(size) for size in sizes)
            + " | exponent | of time |",
            "|---|" + "--:|" * (len(sizes) + 2),
        ]
        for entry in found["growth"]:
            cells = " | ".join(f"{value:,.0f}" for value in entry["prompt_tokens"])
            lines.append(
                f"| {entry['arm']} | {cells} | {entry['prompt_token_exponent']:.2f} | {entry['time_exponent']:.2f} |"
            )
    return "\n".join(lines) + "\n"


def _row(row: Mapping[str, Any]) -> str:
    name = f"*{row['arm']}*" if row["reference"] else row["arm"]
    speed = (
        f"{row['rankings_per_second']:.1f} "
        f"({row['rankings_per_second_low']:.1f} – {row['rankings_per_second_high']:.1f})"
    )
    if "calls" not in row:
        return f"| {row['backend']} | {name} | {speed} |" + " |" * (len(_COLUMNS) - 1)
    return (
        f"| {row['backend']} | {name} | {speed} | {row['calls']:.1f} | {row['prompt_tokens_computed']:,.0f} | "
        f"{row['prompt_tokens_reused']:,.0f} | {row['generated_tokens']:.1f} | {row['seconds_p50']:.3f} | "
        f"{row['seconds_p95']:.3f} | {row['RR']:.3f} | {row['nDCG@10']:.3f} |"
    )


def draw(found: Mapping[str, Any], picture: Path) -> None:
    """Draw speed beside effectiveness, and the growth of cost.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise missing_extra("bench", package="matplotlib", purpose="drawing the speed benchmark") from error
    growth: Sequence[Mapping[str, Any]] = found["growth"]
    figure = Figure(figsize=(16 if growth else 9, 6), layout="constrained")
    panels = figure.subplots(1, 3 if growth else 1, width_ratios=[1.6, 1, 1] if growth else None, squeeze=False)[0]
    ranked = [row for row in found["arms"] if "RR" in row]
    left = panels[0]
    for row in ranked:
        colour = "C1" if row["reference"] else "C0"
        left.plot(row["rankings_per_second"], row["nDCG@10"], "o", color=colour)
    _name_points(
        left, [(row["rankings_per_second"], row["nDCG@10"], f"{row['backend']}: {row['arm']}") for row in ranked]
    )
    left.set(xscale="log", xlabel="rankings/s", ylabel="nDCG@10", title="speed and effectiveness (references orange)")
    if growth:
        for panel, key, title in (
            (panels[1], "prompt_tokens", "computed prompt tokens of a query"),
            (panels[2], "seconds", "seconds of a query"),
        ):
            exponent = "prompt_token_exponent" if key == "prompt_tokens" else "time_exponent"
            for entry in growth:
                panel.plot(entry["sizes"], entry[key], "o-", label=f"{entry['arm']}: n^{entry[exponent]:.2f}")
            panel.set(xscale="log", yscale="log", xlabel="candidates", title=title)
            panel.legend(fontsize=8)
    figure.savefig(picture, dpi=120)


def _name_points(axes: Any, points: Sequence[tuple[float, float, str]]) -> None:
    """Number the points and list their names beside the plot: names at the points would lie on each other."""
    for number, (x, y, _) in enumerate(points, start=1):
        axes.annotate(str(number), (x, y), textcoords="offset points", xytext=(4, 4), fontsize=8)
    text = "\n".join(f"{number}  {name}" for number, (_, _, name) in enumerate(points, start=1))
    axes.text(1.02, 1.0, text, transform=axes.transAxes, fontsize=7, va="top")
