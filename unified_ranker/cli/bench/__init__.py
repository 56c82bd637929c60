"""``unified-ranker bench``: measure models and baselines on built tasks, and report what was measured."""

from __future__ import annotations

import typer

from unified_ranker.cli.bench.bias import bias
from unified_ranker.cli.bench.compare import compare
from unified_ranker.cli.bench.generic import generic
from unified_ranker.cli.bench.latency import latency
from unified_ranker.cli.bench.report import report
from unified_ranker.cli.bench.run import run
from unified_ranker.cli.bench.seeds import seeds
from unified_ranker.cli.bench.speed import speed
from unified_ranker.cli.bench.thoughts import thoughts
from unified_ranker.cli.bench.zero_shot import zero_shot

app = typer.Typer(help="Measure rankers.", no_args_is_help=True)
app.command()(run)
app.command()(report)
app.command()(compare)
app.command()(bias)
app.command()(seeds)
app.command(name="zero-shot")(zero_shot)
app.command()(thoughts)
app.command()(generic)
app.command()(speed)
app.command()(latency)


@app.callback()
def _bench() -> None:
    """Measure rankers."""
