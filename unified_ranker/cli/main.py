"""``unified-ranker``: the doors of the command line, each in a file of its own and loaded when used."""

from __future__ import annotations

import sys

import typer

from unified_ranker.cli import bench, data, demo, doctor, prompt, rank, train
from unified_ranker.errors import UnifiedRankerError

app = typer.Typer(
    name="unified-ranker",
    help="One language model ranks everything: recommendation, LLM routing and passages.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("rank")(rank.rank)
app.add_typer(data.app, name="data")
app.add_typer(train.app, name="train")
app.add_typer(bench.app, name="bench")
app.add_typer(prompt.app, name="prompt")
app.command("doctor")(doctor.doctor)
app.command("demo")(demo.demo)


def main() -> None:
    """Run the command line; an exception of ours becomes one line on stderr and exit code 2."""
    try:
        app()
    except UnifiedRankerError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
