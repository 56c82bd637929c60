"""What the R1-Ranker paper reports (arXiv 2506.21638, main table), to stand beside our tables: MRR × 100.

Other data and other models: the paper's lists come from ml-1m, Amazon and MS MARCO, its models have 3 and 7 billion
parameters. A figure here and one of ours are no comparison. Random order is not in the paper; it is exact for its list
sizes (20, 10 with one relevant; 5, 7, 9).
"""

from __future__ import annotations

from unified_ranker.benchmarks.report.markdown import short

TASKS = (
    "movie",
    "music",
    "game",
    "router-performance",
    "router-cost",
    "router-balance",
    "passage-5",
    "passage-7",
    "passage-9",
)

PUBLISHED: dict[str, tuple[float, ...]] = {
    "BM25": (17.56, 18.09, 14.96, 18.41, 13.52, 13.39, 53.63, 44.95, 39.69),
    "Contriever": (18.29, 17.04, 23.98, 20.75, 16.29, 16.74, 41.91, 36.41, 33.10),
    "Qwen2.5-3B, direct": (16.92, 16.68, 13.17, 10.00, 10.00, 10.00, 38.08, 22.47, 15.94),
    "Qwen2.5-7B, direct": (16.59, 17.29, 18.63, 13.38, 13.51, 18.41, 44.57, 23.69, 17.79),
    "Qwen2.5-3B, iterative": (22.01, 21.97, 29.49, 20.87, 20.22, 12.42, 57.74, 43.47, 39.40),
    "Qwen2.5-7B, iterative": (22.11, 23.36, 33.14, 19.13, 21.06, 26.09, 62.01, 50.94, 48.74),
    "DRanker-3B": (18.71, 15.70, 15.77, 20.63, 9.06, 13.38, 43.85, 22.86, 16.11),
    "IRanker-3B": (34.69, 29.18, 42.49, 23.62, 30.39, 24.44, 60.98, 53.22, 49.96),
    "IRanker-3B, task family held out": (25.95, 23.21, 31.16, 20.41, 23.10, 21.89, 56.42, 51.19, 42.45),
    "random order (computed)": (17.99, 17.99, 17.99, 29.29, 29.29, 29.29, 45.67, 37.04, 31.43),
}


def as_markdown() -> str:
    """Return the published table."""
    lines = [
        "## Published, on other data by another model",
        "",
        "R1-Ranker's main table (arXiv 2506.21638): MRR with lists of ml-1m, Amazon and MS MARCO and models of 3 and 7 "
        "billion parameters. It stands here for orientation; no figure of it can be compared with one of ours. In its "
        "routing columns most rows lie below a random order.",
        "",
        f"| | {' | '.join(TASKS)} | mean |",
        "|---|" + "--:|" * (len(TASKS) + 1),
    ]
    for name, values in PUBLISHED.items():
        cells = [short(value / 100) for value in (*values, sum(values) / len(values))]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"
