"""Options that several commands share: which model, which method, how replies are drawn."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from unified_ranker.errors import OptionError

if TYPE_CHECKING:
    from unified_ranker.ranker import Ranker

Model = Annotated[str | None, typer.Option("--model", help="Folder or hub name; the embedded model by default.")]
Method = Annotated[
    str | None,
    typer.Option("--method", help="iranker, dranker, setwise, window, … (docs/methods.md); the model's own."),
]
BackendName = Annotated[str, typer.Option("--backend", help="transformers, vllm, vllm-async or openai.")]
BackendOptions = Annotated[
    list[str] | None,
    typer.Option(
        "--backend-option",
        help="key=value for the backend, such as tensor_parallel_size=2 (vllm) or base_url=URL (openai); repeatable.",
    ),
]
Layout = Annotated[str | None, typer.Option("--layout", help="Layout of iranker: append or rounds.")]
MethodOptions = Annotated[
    list[str] | None,
    typer.Option("--option", help="key=value for the method, such as permute=true or shuffles=5; repeatable."),
]
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
Thoughts = Annotated[Path | None, typer.Option("--thoughts", help="Thoughts to put into prompts, the nearest ones.")]
ThoughtCount = Annotated[int | None, typer.Option("--thought-count", help="How many of --thoughts; 3 by default.")]
Revision = Annotated[str | None, typer.Option("--revision", help="Branch, tag or commit on the hub.")]
Dtype = Annotated[str | None, typer.Option("--dtype", help="float32, bfloat16 or float16.")]
Device = Annotated[str | None, typer.Option("--device", help="Such as cpu or cuda:0.")]
BatchTokens = Annotated[int | None, typer.Option("--batch-tokens", help="Most prompt tokens computed at once.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
DataDir = Annotated[
    Path | None, typer.Option("--data-dir", envvar="UNIFIED_RANKER_DATA", help="Folder of the raw data sets.")
]


def load_ranker(model: str | None, **options: Any) -> Ranker:
    """Load a ranker; options that were not given are left to the model's own settings.

    Args:
        model: Folder or hub name; None for the embedded model.
        **options: See :func:`ranker_arguments`.
    """
    from unified_ranker.ranker import Ranker

    return Ranker.from_pretrained(**ranker_arguments(model, **options))


def ranker_arguments(
    model: str | None,
    *,
    backend_options: Sequence[str] | None = None,
    method_options: Sequence[str] | None = None,
    **options: Any,
) -> dict[str, Any]:
    """Return the arguments of :meth:`~unified_ranker.ranker.Ranker.from_pretrained`, without what was not given.

    Raises:
        OptionError: an option is given twice, or is no ``key=value``.
    """
    given = {key: value for key, value in options.items() if value is not None}
    own = parse_pairs(method_options or (), flag="--option")
    for key in own:
        if key in options or key in ("name_or_path", "backend_options"):
            raise OptionError(f"--option {key}={own[key]}: give --{key.replace('_', '-')} instead")
    return {
        "name_or_path": model,
        "backend_options": parse_pairs(backend_options or (), flag="--backend-option"),
        **given,
        **own,
    }


def parse_pairs(pairs: Sequence[str], *, flag: str) -> dict[str, Any]:
    """Read ``key=value``; a value is what YAML makes of it, so that ``2`` is a number and ``[a, b]`` a list.

    Args:
        pairs: What was given.
        flag: The option it was given with, for messages.

    Raises:
        OptionError: a pair has no ``=``, its value is no YAML, or a key is given twice.
    """
    import yaml

    found: dict[str, Any] = {}
    for pair in pairs:
        key, separator, value = pair.partition("=")
        if not separator or not key:
            raise OptionError(f"{flag} {pair!r} is no key=value")
        if key in found:
            raise OptionError(f"{flag} {pair!r}: {key} is given twice")
        try:
            found[key] = yaml.safe_load(value)
        # A date or a number that is none is a bare ValueError of PyYAML.
        except (yaml.YAMLError, ValueError) as error:
            raise OptionError(f"{flag} {pair!r}: the value is no YAML: {error}") from error
    return found
