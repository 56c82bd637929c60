"""Options that several commands share: which model, which method, how replies are drawn."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from unified_ranker.ranker import Ranker

Model = Annotated[str | None, typer.Option("--model", help="Folder or hub name; the embedded model by default.")]
Method = Annotated[str | None, typer.Option("--method", help="iranker or dranker; what the model was trained for.")]
BackendName = Annotated[str, typer.Option("--backend", help="How the model is run.")]
Layout = Annotated[str | None, typer.Option("--layout", help="Layout of iranker: append or rounds.")]
Reasoning = Annotated[bool, typer.Option("--reasoning", help="Let the model think before each answer.")]
Temperature = Annotated[float, typer.Option("--temperature", help="0 for the most likely reply.")]
TopP = Annotated[float, typer.Option("--top-p", help="Mass of the tokens that sampling keeps.")]
MaxTokens = Annotated[int | None, typer.Option("--max-tokens", help="Most tokens of one reply.")]
Seed = Annotated[int | None, typer.Option("--seed", help="Makes sampling repeatable.")]
ShuffleSeed = Annotated[int | None, typer.Option("--shuffle-seed", help="List candidates in a random order.")]
OnError = Annotated[str, typer.Option("--on-error", help="repair, retry or raise.")]
Retries = Annotated[int, typer.Option("--retries", help="Further attempts of --on-error retry.")]
Unguided = Annotated[bool, typer.Option("--unguided", help="Do not restrict answers to the labels in play.")]
Style = Annotated[str | None, typer.Option("--style", help="Style of the prompts: natural or compact.")]
TemplateFile = Annotated[Path | None, typer.Option("--template", help="A prompt template file of your own.")]
TokenBudget = Annotated[int | None, typer.Option("--token-budget", help="Most tokens of prompt and reply.")]
Revision = Annotated[str | None, typer.Option("--revision", help="Branch, tag or commit on the hub.")]
Dtype = Annotated[str | None, typer.Option("--dtype", help="float32, bfloat16 or float16.")]
Device = Annotated[str | None, typer.Option("--device", help="Such as cpu or cuda:0.")]
BatchTokens = Annotated[int | None, typer.Option("--batch-tokens", help="Most prompt tokens computed at once.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
DataDir = Annotated[
    Path | None, typer.Option("--data-dir", envvar="UNIFIED_RANKER_DATA", help="Folder of the raw data sets.")
]


def load_ranker(model: str | None, **options: Any) -> Ranker:
    """Load a ranker; options that were not given are left to the model's own settings."""
    from unified_ranker.ranker import Ranker

    return Ranker.from_pretrained(model, **{key: value for key, value in options.items() if value is not None})
