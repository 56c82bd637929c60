from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from invented_files import BENCH_LLMS, GRAPH_LLMS, NINE_LLMS, NQ_LLMS, PROMPT_WITH_EXAMPLES
from unified_ranker.tasks import TASKS, BuildOptions, routing
from unified_ranker.tasks.sources import graphrouter, llmrouter, routerbench

from unified_ranker.errors import DataError

Rewrite = Callable[[str, str, Callable[[str], str]], Path]


def test_the_nine_models_show_their_price_and_cost_input_plus_output(data_dir: Path) -> None:
    pool = llmrouter.nine_models(BuildOptions(data_dir=data_dir))
    assert set(pool.models) == set(NINE_LLMS)
    assert pool.models["huge"].text == "5B; 5 dollars per million tokens in, 15 out. The huge model."
    for question in pool.questions:
        assert question.cost == pytest.approx({model: sum(price) for model, price in NINE_LLMS.items()})
        assert question.split in ("train", "test")


def test_natural_questions_measure_the_cost_and_know_the_price_of_listed_models(data_dir: Path) -> None:
    pool = llmrouter.natural_questions(BuildOptions(data_dir=data_dir))
    assert set(pool.models) == set(NQ_LLMS)
    assert pool.models["lab/tiny"].text.endswith("The tiny model.")
    assert pool.models["lab/unlisted"].text == ""
    assert {question.split for question in pool.questions} == {""}
    assert len({tuple(question.cost.values()) for question in pool.questions}) == len(pool.questions)


def test_the_router_benchmark_skips_rows_without_a_score_and_keeps_the_rest(data_dir: Path) -> None:
    pool = routerbench.read(BuildOptions(data_dir=data_dir))
    assert len(pool.questions) == 3 * (12 + 6) - 6
    assert {question.split for question in pool.questions} == {"train", "test"}
    assert set(pool.models) == set(BENCH_LLMS)
    assert all(set(question.cost) == set(question.quality) == set(BENCH_LLMS) for question in pool.questions)


def test_models_of_the_router_benchmark_show_what_a_training_question_cost(rewrite: Rewrite) -> None:
    root = rewrite("router_routerbench-0shot", "mbpp_test.csv", lambda text: text.splitlines()[0] + "\n")
    pool = routerbench.read(BuildOptions(data_dir=root))
    costs = [question.cost["guild/wise"] for question in pool.questions if question.split == "train"]
    assert f"cost {sum(costs) / len(costs):.2g} US dollars" in pool.models["guild/wise"].text


def test_a_prompt_gives_its_question_without_worked_examples_or_frame(data_dir: Path) -> None:
    pool = routerbench.read(BuildOptions(data_dir=data_dir))
    texts = {question.id: question.text for question in pool.questions}
    assert texts["arc_challenge.train.0"] == f"{PROMPT_WITH_EXAMPLES} arc_challenge train 0\nA) one's\nB) two"
    assert texts["winograde.train.0"] == f"{PROMPT_WITH_EXAMPLES} winograde train 0\nA) one\nB) two"
    assert texts["mbpp.train.0"] == f"Write a function for {PROMPT_WITH_EXAMPLES} mbpp train 0."


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ("['How high?']", "How high?"),
        ("['How high?', 'And why?']", "How high?\nAnd why?"),
        ("'How high?'", "How high?"),
        (r"""['It\'s "odd".\nWhy?']""", 'It\'s "odd".\nWhy?'),
    ],
)
def test_a_prompt_is_a_list_written_as_a_string(prompt: str, expected: str) -> None:
    assert routerbench.question_text(prompt) == expected


def test_routing_data_of_the_paper_leaves_out_multi_news(data_dir: Path) -> None:
    pool = graphrouter.read(BuildOptions(edition="paper", data_dir=data_dir))
    assert set(pool.models) == set(GRAPH_LLMS)
    assert pool.questions
    assert {question.id.rpartition("-")[0] for question in pool.questions} == {"alpaca_data", "GSM8K", "SQuAD"}


def test_a_cost_of_zero_counts_as_the_least_positive_one(data_dir: Path) -> None:
    pool = graphrouter.read(BuildOptions(edition="paper", data_dir=data_dir))
    costs = [cost for question in pool.questions for cost in question.cost.values()]
    assert min(costs) > 0
    assert costs.count(min(costs)) == 2


@pytest.mark.parametrize("value", [1.5, -0.5])
def test_a_score_out_of_range_names_the_model(rewrite: Rewrite, value: float) -> None:
    def rescored(text: str) -> str:
        rows = json.loads(text)
        rows[2]["scores"]["middle"] = value
        return json.dumps(rows)

    root = rewrite("router_llmrouter-9llm", "dcrouter_train.json", rescored)
    pool = llmrouter.nine_models(BuildOptions(data_dir=root))
    with pytest.raises(DataError, match=rf"question 'train-2': quality of 'middle' is {value}"):
        routing.build("router-cost", [pool], BuildOptions(data_dir=root))


def test_a_negative_cost_in_the_routing_data_of_the_paper_names_the_model(rewrite: Rewrite) -> None:
    def negative(text: str) -> str:
        head, cell, rest = text.partition(f",{GRAPH_LLMS[1]},")
        response, effect, tail = rest.split(",", 2)
        return f"{head}{cell}{response},{effect},-0.5\n{tail.partition(chr(10))[2]}"

    root = rewrite("graphrouter", "router_data.csv", negative)
    with pytest.raises(DataError, match=GRAPH_LLMS[1]):
        TASKS["router-cost"].build["paper"](BuildOptions(edition="paper", data_dir=root))


def test_the_order_of_model_columns_in_a_file_changes_no_list(data_dir: Path, rewrite: Rewrite) -> None:
    def turned(text: str) -> str:
        rows = json.loads(text)
        for row in rows:
            row["scores"] = dict(reversed(row["scores"].items()))
        return json.dumps(rows)

    root = rewrite("router_llmrouter-9llm", "dcrouter_train.json", turned)
    first = llmrouter.nine_models(BuildOptions(data_dir=data_dir))
    second = llmrouter.nine_models(BuildOptions(data_dir=root))
    assert [(q.id, list(q.quality.items())) for q in second.questions] == [
        (q.id, list(q.quality.items())) for q in first.questions
    ]
