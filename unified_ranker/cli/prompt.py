"""``unified-ranker prompt``: see what a model is told."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from unified_ranker.cli import options
from unified_ranker.errors import DataError

app = typer.Typer(help="Show prompts and templates.", no_args_is_help=True)


@app.command("list")
def list_templates() -> None:
    """List the templates of the package, as style/strategy/domain."""
    from unified_ranker.prompts import template_names

    for name in template_names():
        print(name)


@app.command()
def show(
    file: Annotated[Path, typer.Argument(help="A .parquet or .jsonl file of lists.")],
    example: Annotated[str | None, typer.Option("--example", help="Id of the list; the first by default.")] = None,
    method: options.Method = None,
    model: options.Model = None,
    layout: options.Layout = None,
    reasoning: options.Reasoning = False,
    style: options.Style = None,
    template: options.TemplateFile = None,
    token_budget: options.TokenBudget = None,
    thoughts: options.Thoughts = None,
    thought_count: options.ThoughtCount = None,
    as_json: options.Json = False,
) -> None:
    """Render the first prompt of a list, exactly as the model reads it."""
    from unified_ranker.cli.data import read_file

    ranker = options.load_ranker(
        model,
        method=method,
        layout=layout,
        reasoning=reasoning,
        style=style,
        template=template,
        token_budget=token_budget,
        thoughts=thoughts,
        thought_count=thought_count,
    )
    for found in read_file(file):
        if example is None or found.id == example:
            break
    else:
        raise DataError(f"{file}: no list has the id {example!r}" if example else f"{file} holds no list")
    asking = ranker.strategy(found.domain).rank(found)
    try:
        (request,) = next(asking)
    except StopIteration:
        raise DataError(f"list {found.id!r} has one candidate; nothing is asked") from None
    text = ranker.backend.text.render(request.messages, request.reply_prefix)
    if as_json:
        print(
            json.dumps(
                {
                    "id": found.id,
                    "messages": [{"role": m.role, "content": m.content} for m in request.messages],
                    "rendered": text,
                    "tokens": ranker.backend.text.count_prompt(request.messages, request.reply_prefix),
                    "choices": list(request.choices),
                },
                ensure_ascii=False,
            )
        )
    else:
        print(text)
