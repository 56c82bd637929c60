"""LLMRouter's example data: nine models on fourteen benchmarks, and six models with measured cost on one."""

from __future__ import annotations

from typing import Any

from unified_ranker.tasks.base import BuildOptions, Source
from unified_ranker.tasks.routing import Pool, Question
from unified_ranker.tasks.sources.reading import document, record

from unified_ranker.errors import DataError
from unified_ranker.schema.types import Candidate

SOURCE = Source(
    folder="router_llmrouter-9llm",
    title="LLMRouter example routing data",
    url="https://github.com/ulab-uiuc/LLMRouter (data/dcrouter_preprocessed, data/example_data)",
    licence="MIT",
)


def _prices(options: BuildOptions) -> dict[str, Any]:
    prices: dict[str, Any] = document(options.find(SOURCE, "default_llm.json"))
    return prices


def _candidate(name: str, facts: dict[str, Any] | None) -> Candidate:
    if facts is None:
        return Candidate(id=name, title=name, text="")
    price = f"{facts['size']}; {facts['input_price']:g} dollars per million tokens in, {facts['output_price']:g} out."
    return Candidate(id=name, title=name, text=f"{price} {facts['feature']}")


def nine_models(options: BuildOptions) -> Pool:
    """Read the nine models; cost is the listed price, input plus output, since a list's models all see one question.

    Raises:
        DataError: a model has no price.
    """
    prices = _prices(options)
    questions = []
    models: dict[str, Candidate] = {}
    for split, name in (("train", "dcrouter_train.json"), ("test", "dcrouter_test.json")):
        path = options.find(SOURCE, name)
        for number, row in enumerate(document(path), start=1):
            with record(path, number):
                order = sorted(row["scores"])
                for model in order:
                    if model not in prices:
                        raise DataError(f"{path}, row {number}: model {model!r} has no price in default_llm.json")
                    models.setdefault(model, _candidate(model, prices[model]))
                questions.append(
                    Question(
                        id=f"{split}-{number - 1}",
                        text=row["question"],
                        quality={model: float(row["scores"][model]) for model in order},
                        cost={
                            model: float(prices[model]["input_price"] + prices[model]["output_price"])
                            for model in order
                        },
                        split=split,
                    )
                )
    return Pool("llmrouter", SOURCE, models, questions)


def natural_questions(options: BuildOptions) -> Pool:
    """Read the six models with measured cost (tokens times price, in the file's own unit)."""
    facts = {entry["model"]: entry for entry in _prices(options).values()}
    models: dict[str, Candidate] = {}
    questions = []
    path = options.find(SOURCE, "nq_train_6llm_cost.json")
    for number, row in enumerate(document(path), start=1):
        with record(path, number):
            names = row["llm_name_list"]
            for name in names:
                models.setdefault(name, _candidate(name, facts.get(name)))
            questions.append(
                Question(
                    id=str(row["q_id"]),
                    text=row["query"],
                    quality=dict(zip(names, (float(value) for value in row["perf_list"]), strict=True)),
                    cost=dict(zip(names, (float(value) for value in row["cost_list"]), strict=True)),
                )
            )
    return Pool("nq", SOURCE, models, questions)
