"""``unified-ranker demo``: watch the embedded model rank one list of each domain, step by step."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from unified_ranker.cli import options

if TYPE_CHECKING:
    from rich.table import Table

    from unified_ranker.schema.types import Ranking, RankingExample

# One task of each domain whose test split the lists are drawn from, where there is a data directory.
DRAWN = ("movie", "router-balance", "passage-9")


def demo(
    data_dir: options.DataDir = None,
    seed: Annotated[int, typer.Option("--seed", help="Which lists are drawn from a data directory.")] = 1,
    model: options.Model = None,
) -> None:
    """Rank a list of movies, one of LLMs and one of passages, and show who left at which step."""
    from rich.console import Console
    from rich.text import Text

    console = Console()
    ranker = options.load_ranker(model, method="iranker", layout="append")
    if data_dir is not None:
        examples = drawn(data_dir, seed)
        console.print(Text(f"Lists from the test splits of {', '.join(DRAWN)}, built from {data_dir}", style="bold"))
    else:
        examples = written()
        console.print("[bold]Lists written for this demo[/] (give --data-dir to draw real ones)")
    for example in examples:
        (ranking,) = ranker.rank_batch([example])
        console.print()
        # Texts of data are no markup.
        console.print(Text(example.domain, style="bold"), Text(f" {example.query}"))
        if example.context:
            console.print(Text("  after: " + "; ".join(example.context[-10:])))
        console.print(draw(example, ranking))
        console.print(summary(example, ranking), highlight=False, markup=False)


def written() -> list[RankingExample]:
    """Return the lists that come with the package."""
    from unified_ranker.schema.jsonl import read_examples

    return list(read_examples(Path(str(files("unified_ranker.cli") / "demo.jsonl"))))


def drawn(data_dir: Path, seed: int) -> list[RankingExample]:
    """Draw one test list of each domain."""
    from unified_ranker.tasks import BuildOptions, task_named
    from unified_ranker.tasks.sampling import generator

    found = []
    for name in DRAWN:
        built = task_named(name).build["open"](BuildOptions(data_dir=data_dir))
        found.append(generator(seed, "demo", name).choice(built.splits["test"]))
    return found


def draw(example: RankingExample, ranking: Ranking) -> Table:
    """Draw an elimination: the ranking from the top, with the step at which each candidate left."""
    from rich.table import Table
    from rich.text import Text

    left = {step.chosen[0]: step.index + 1 for step in ranking.steps}
    last = len(ranking.order) - 1
    best = max(example.grade(c.id) for c in example.candidates)
    table = Table("place", "candidate", "left at step", "", "reference")
    for place in ranking:
        step = left.get(place.id)
        bar = Text("━" * (step if step is not None else last + 1), style="red" if step else "green")
        grade = example.grade(place.id)
        mark = "★ " if grade == best and best > 0 else "  "
        name = place.candidate.title or place.text
        table.add_row(
            str(place.rank),
            Text(name[:60]),
            "stays" if step is None else str(step),
            bar,
            f"{mark}{grade:g}" if grade else mark,
        )
    return table


def summary(example: RankingExample, ranking: Ranking) -> str:
    """Tell where the best candidate came out, against a random order, and what it cost."""
    from unified_ranker.tasks.random_order import is_relevant, reciprocal_rank_of_random

    grades = [example.grade(c.id) for c in ranking.order]
    top = is_relevant(grades, "top")
    usage = ranking.usage
    chance = reciprocal_rank_of_random(len(grades), sum(top))
    if any(top):
        place = top.index(True) + 1
        found = (
            f"  ★ is the reference answer: place {place} of {len(grades)} (reciprocal rank {1 / place:.2f}; "
            f"random order {chance:.2f})"
        )
    else:
        found = f"  this list of {len(grades)} has no reference answer"
    return (
        f"{found}\n"
        f"  {usage.calls} steps, {usage.prompt_tokens} prompt tokens of which {usage.reused_tokens} were reused, "
        f"{usage.repaired_steps} repaired, {usage.failed_steps} failed, {usage.seconds * 1000:.0f} ms"
    )
