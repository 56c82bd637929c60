"""GraphRouter's ``router_data.csv``: one row per question and model with ``effect`` and ``cost``."""

from __future__ import annotations

from unified_ranker.tasks.base import BuildOptions, Source
from unified_ranker.tasks.routing import Pool, Question
from unified_ranker.tasks.sources.reading import record, table

from unified_ranker.errors import DataError
from unified_ranker.schema.types import Candidate

SOURCE = Source(
    folder="graphrouter",
    title="GraphRouter router_data.csv",
    url="https://github.com/ulab-uiuc/GraphRouter (its README links the file)",
    licence="repository MIT; questions under the licences of Alpaca, GSM8K and SQuAD",
    note="It is offered through a file host only, so that no command can fetch it.",
)

# R1-Ranker leaves multi_news out (arXiv 2506.21638, released data code).
EXCLUDED = ("multi_news",)
_NEEDED = ("task_id", "query", "llm", "effect", "cost")


def read(options: BuildOptions) -> Pool:
    """Read the questions with all of their models.

    Raises:
        DataError: a column is missing, or a question lacks a model.
    """
    path = options.find(SOURCE, "router_data.csv")
    rows: dict[tuple[str, str], dict[str, tuple[float, float]]] = {}
    models: dict[str, Candidate] = {}
    for number, row in table(path, _NEEDED):
        if row["task_id"] in EXCLUDED:
            continue
        answers = rows.setdefault((row["task_id"], row["query"]), {})
        if row["llm"] in answers:
            raise DataError(f"{path}, row {number}: model {row['llm']!r} stands twice for one question")
        with record(path, number):
            answers[row["llm"]] = (float(row["effect"]), float(row["cost"]))
        if answers[row["llm"]][1] < 0:
            raise DataError(f"{path}, row {number}: cost of {row['llm']!r} is {row['cost']}; it must not be negative")
        models.setdefault(row["llm"], Candidate(id=row["llm"], title=row["llm"], text=""))
    questions = []
    # Published costs are scaled to [0, 1] and hold zeros; the smallest positive one stands in for them, since our
    # scale is a logarithm.
    floor = min((cost for answers in rows.values() for _, cost in answers.values() if cost > 0), default=1.0)
    for number, ((task, text), answers) in enumerate(rows.items()):
        if set(answers) != set(models):
            raise DataError(f"{path}: question {text[:60]!r} lacks the model {sorted(set(models) - set(answers))[0]!r}")
        questions.append(
            Question(
                id=f"{task}-{number}",
                text=text,
                quality={model: effect for model, (effect, _) in answers.items()},
                cost={model: max(cost, floor) for model, (_, cost) in answers.items()},
            )
        )
    return Pool("graphrouter", SOURCE, models, questions)
