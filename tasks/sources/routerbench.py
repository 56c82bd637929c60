"""RouterBench zero-shot (ARC-Challenge, Winogrande, MBPP): which of eleven models was right, and its dollars.

The files are those of RouterDC, with its split.
"""

from __future__ import annotations

import ast
import re
from statistics import fmean

from unified_ranker.tasks.base import BuildOptions, Source
from unified_ranker.tasks.routing import Pool, Question
from unified_ranker.tasks.sources.reading import record, table

from unified_ranker.schema.types import Candidate

SOURCE = Source(
    folder="router_routerbench-0shot",
    title="RouterBench 0-shot (ARC-C, Winogrande, MBPP)",
    url="https://github.com/shuhao02/RouterDC (datasets/routerbench_zs)",
    licence="RouterBench code MIT; the data states none",
)

FILES = ("arc_challenge", "winograde", "mbpp")
_COST = "|total_cost"
# The few-shot prompts end each worked example with its letter; what follows the last one is the question itself.
_WORKED = re.compile(r"Answer:\s*\n[A-E]\n\n")
_FRAME = re.compile(
    r"\A(?:Please answer with the letter of the correct answer\.\s*)|\s*Print only a single choice.*\Z", re.DOTALL
)


def read(options: BuildOptions) -> Pool:
    """Read all rows that have every score and cost; 28 rows of the published files lack one."""
    questions: list[Question] = []
    for name in FILES:
        for split in ("train", "test"):
            path = options.find(SOURCE, f"{name}_{split}.csv")
            for number, row in table(path, ("sample_id", "prompt")):
                with record(path, number):
                    question = _question(row, split)
                if question is not None:
                    questions.append(question)
    names = sorted({model for question in questions for model in question.quality})
    training = [question for question in questions if question.split == "train"]
    models = {}
    for model in names:
        costs = [question.cost[model] for question in training if model in question.cost]
        price = f"A training question cost {fmean(costs):.2g} US dollars on average." if costs else ""
        models[model] = Candidate(id=model, title=model, text=price)
    return Pool("routerbench", SOURCE, models, questions)


def _question(row: dict[str, str], split: str) -> Question | None:
    models = sorted(column.removesuffix(_COST) for column in row if column.endswith(_COST))
    if not all(row[model] and row[model + _COST] and float(row[model + _COST]) > 0 for model in models):
        return None
    return Question(
        id=row["sample_id"],
        text=question_text(row["prompt"]),
        quality={model: float(row[model]) for model in models},
        cost={model: float(row[model + _COST]) for model in models},
        split=split,
    )


def question_text(prompt: str) -> str:
    """Return the question of a prompt: a list written as a string, with worked examples before the question."""
    value = ast.literal_eval(prompt)
    text = "\n".join(value) if isinstance(value, list) else str(value)
    return _FRAME.sub("", _WORKED.split(text)[-1]).strip()
