"""The rows of a run: what is drawn, in which order, and how a row is laid out."""

from __future__ import annotations

import itertools
import json
import random
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from tiny_models import make_tokenizer
from toy_tasks import build_toy, toy_list
from unified_ranker.rewards.score import Scorer
from unified_ranker.rewards.verl_entry import compute_score

from unified_ranker.backends.tokenizer import TokenizerTools
from unified_ranker.errors import DataError, MissingSourceError
from unified_ranker.prompts import PromptWriter, load_template
from unified_ranker.schema.jsonl import example_from_dict
from unified_ranker.schema.types import RankingExample
from unified_ranker.strategies.registry import make_strategy, method_named
from unified_ranker.training.lists import training_lists
from unified_ranker.training.rl.rows import (
    cases_of,
    row_of,
    shuffled,
    training_examples,
    write_rows,
)

LABELS = tuple(f"<{number}>" for number in range(1, 13))
LETTERS = TokenizerTools(make_tokenizer(), context_tokens=8192)
TAGS = TokenizerTools(make_tokenizer(labels=LABELS), context_tokens=8192, labels=LABELS)
# Some lists of three tasks; the grades make each list's candidates unequal.
LISTS = {
    "passage-5": [toy_list(f"p{n}", (0, 1, 0, 0, 2), task="passage-5") for n in range(7)],
    "movie": [toy_list(f"m{n}", (1, 0, 0), task="movie") for n in range(4)],
    "router-cost": [toy_list(f"r{n}", (3, 2, 1, 0), task="router-cost") for n in range(5)],
}
WEIGHTS = {"passage-5": 2.0, "movie": 1.0, "router-cost": 0.5}


def examples(**changes: Any) -> list[RankingExample]:
    return training_examples(
        **{"lists": LISTS, "weights": WEIGHTS, "rows": 60, "order": "mixed", "cases": False, "seed": 0, **changes}
    )


def ids_of(example: RankingExample) -> list[str]:
    return [candidate.id for candidate in example.candidates]


def strategy_of(tools: TokenizerTools, *, style: str, method: str = "iranker", domain: str, **options: Any) -> Any:
    template = load_template(style, method_named(method).template, domain)
    return make_strategy(method, writer=PromptWriter(template, tools), **options)


def row(
    example: RankingExample,
    tools: TokenizerTools = LETTERS,
    *,
    style: str = "natural",
    method: str = "iranker",
    scorer: Scorer | None = None,
    **options: Any,
) -> dict[str, Any]:
    return row_of(
        example,
        index=3,
        split="train",
        strategy=strategy_of(tools, style=style, method=method, domain=example.domain, **options),
        scorer=scorer or Scorer("binary"),
        loop="unified_ranker",
    )


def written(path: Path, found: Sequence[RankingExample]) -> bytes:
    write_rows(path, [row(example) for example in found])
    return path.read_bytes()


@pytest.mark.parametrize("cases", [False, True])
@pytest.mark.parametrize("order", ["mixed", "sequence"])
def test_a_seed_makes_the_same_file_byte_for_byte_and_another_does_not(tmp_path: Path, order: str, cases: bool) -> None:
    files = [
        written(tmp_path / f"{number}.parquet", examples(order=order, cases=cases, seed=seed))
        for number, seed in enumerate((5, 5, 6))
    ]
    assert files[0] == files[1] != files[2]


def test_a_shuffled_list_is_the_same_list_in_another_order() -> None:
    example = toy_list("p", range(9))
    found = shuffled(example, random.Random(1))
    assert sorted(ids_of(found)) == ids_of(example) != ids_of(found)
    assert (found.id, found.query, found.relevance) == (example.id, example.query, example.relevance)


def test_every_place_is_as_likely_as_every_other() -> None:
    example, rng = toy_list("p", (1, 0, 0, 0)), random.Random(0)
    places = Counter(ids_of(shuffled(example, rng)).index("c0") for _ in range(4000))
    assert set(places) == {0, 1, 2, 3}
    assert all(abs(count - 1000) < 120 for count in places.values())


@pytest.mark.parametrize(
    ("grades", "sizes"),
    [
        ((1, 0), [2]),
        ((1, 0, 0, 0), [2, 3, 4]),
        ((2, 1, 0), [2, 3]),
        ((1, 1, 1, 0), [2]),
        ((1, 1, 0, 0), [2, 3]),
        ((5, 0, 5, 3, 5, 1), [2, 3, 4]),
        ((0, 0, 0), []),
        ((1, 1), []),
        ((0,), []),
    ],
)
def test_there_is_a_case_for_each_number_of_worse_candidates(grades: tuple[int, ...], sizes: list[int]) -> None:
    for seed in range(20):
        example = toy_list("list", grades)
        cases = list(cases_of(example, random.Random(seed)))
        assert [len(case.candidates) for case in cases] == sizes
        assert [case.id for case in cases] == [f"list#case-{size - 1}" for size in sizes]
        for case in cases:
            kept = [case.grade(id) for id in ids_of(case)]
            assert kept.count(max(grades)) == 1
            assert set(case.candidates) <= set(example.candidates)
            assert len(set(ids_of(case))) == len(case.candidates)
            assert case.relevance == {id: example.grade(id) for id in ids_of(case)}
            assert (case.query, case.task, case.domain, case.group) == ("query of list", "passage-5", "passage", "list")


def test_each_best_and_each_worse_candidate_comes_up_in_every_place() -> None:
    example, rng = toy_list("list", (1, 1, 0, 0, 0)), random.Random(0)
    seen: Counter[tuple[str, int]] = Counter()
    for _ in range(400):
        case = next(iter(cases_of(example, rng)))
        seen.update((id, place) for place, id in enumerate(ids_of(case)))
    assert set(seen) == set(itertools.product([f"c{n}" for n in range(5)], range(2)))
    # 400 cases of one best (of two) and one worse (of three) in two places: 100 and 67 of each.
    assert all(70 < seen["c0", place] < 130 and 40 < seen["c3", place] < 95 for place in range(2))


def test_an_unjudged_candidate_is_a_worse_one() -> None:
    example = toy_list("list", (1, 0, 0))
    unjudged = RankingExample(
        **{**{f: getattr(example, f) for f in ("id", "query", "candidates")}, "relevance": {"c0": 1.0}}
    )
    cases = list(cases_of(unjudged, random.Random(0)))
    assert [len(case.candidates) for case in cases] == [2, 3]
    assert cases[1].relevance == {"c0": 1.0, "c1": 0.0, "c2": 0.0}


@pytest.mark.parametrize("weights", [{"passage-5": 1.0, "movie": 1.0}, WEIGHTS, {"passage-5": 30, "movie": 10}])
def test_a_mixture_keeps_its_shares(weights: dict[str, float]) -> None:
    found = Counter(example.task for example in examples(weights=weights, rows=4000))
    total = sum(weights.values())
    assert set(found) == set(weights)
    for task, weight in weights.items():
        assert found[task] / 4000 == pytest.approx(weight / total, abs=0.03)


@pytest.mark.parametrize("order", ["mixed", "sequence"])
def test_a_task_without_weight_has_no_rows(order: str) -> None:
    found = examples(weights={"passage-5": 1.0, "movie": 0.0}, order=order, rows=50)
    assert {example.task for example in found} == {"passage-5"}


@pytest.mark.parametrize(
    ("weights", "rows", "counts"),
    [
        (WEIGHTS, 70, [("passage-5", 40), ("movie", 20), ("router-cost", 10)]),
        ({"movie": 1.0, "passage-5": 1.0}, 11, [("movie", 6), ("passage-5", 5)]),
        ({"router-cost": 0.1, "movie": 0.1, "passage-5": 0.1}, 9, [("router-cost", 3), ("movie", 3), ("passage-5", 3)]),
        ({"movie": 1.0}, 5, [("movie", 5)]),
    ],
)
def test_a_sequence_has_one_task_after_the_other(
    weights: dict[str, float], rows: int, counts: list[tuple[str, int]]
) -> None:
    found = [example.task for example in examples(weights=weights, rows=rows, order="sequence")]
    blocks = [(task, len(list(block))) for task, block in itertools.groupby(found)]
    assert sum(count for _, count in blocks) == rows
    assert [task for task, _ in blocks] == [task for task, _ in counts]
    # Python rounds halves to even.
    assert all(abs(one - other) <= 1 for (_, one), (_, other) in zip(blocks, counts, strict=True))


@pytest.mark.parametrize("rows", [1, 7, 60, 333])
@pytest.mark.parametrize("order", ["mixed", "sequence"])
@pytest.mark.parametrize("cases", [False, True])
def test_there_are_as_many_rows_as_are_asked_for(order: str, cases: bool, rows: int) -> None:
    assert len(examples(order=order, cases=cases, rows=rows)) == rows


def test_all_lists_of_a_task_come_before_any_comes_again() -> None:
    found = examples(rows=400)
    for task, lists in LISTS.items():
        names = [example.id for example in found if example.task == task]
        assert len(names) > 3 * len(lists)
        passes = [names[low : low + len(lists)] for low in range(0, len(names), len(lists))]
        for whole in passes[:-1]:
            assert sorted(whole) == sorted(example.id for example in lists)
        assert len(set(passes[-1])) == len(passes[-1])
        assert len({tuple(whole) for whole in passes[:-1]}) > 1


@pytest.mark.parametrize("order", ["mixed", "sequence"])
@pytest.mark.parametrize("cases", [False, True])
def test_the_place_of_a_candidate_says_nothing(order: str, cases: bool) -> None:
    found = examples(weights={"passage-5": 1.0}, rows=2000, order=order, cases=cases)
    whole = [example for example in found if len(example.candidates) == 5]
    places = Counter(ids_of(example).index("c4") for example in whole)
    assert all(abs(places[place] / len(whole) - 0.2) < 0.06 for place in range(5))


def test_all_cases_of_a_list_come_before_the_next_list() -> None:
    found = examples(weights={"passage-5": 1.0}, cases=True, rows=7 * 4 * 3)
    names = [example.id.split("#")[0] for example in found]
    lists = [name for name, _ in itertools.groupby(names)]
    assert [len(list(block)) for _, block in itertools.groupby(names)].count(4) == len(lists) == 21
    assert [example.id.split("-")[-1] for example in found[:4]] == ["1", "2", "3", "4"]
    assert sorted(lists[:7]) == sorted(lists[7:14]) == sorted(lists[14:]) == [f"p{n}" for n in range(7)]


@pytest.mark.parametrize("cases", [False, True])
@pytest.mark.parametrize("order", ["mixed", "sequence"])
def test_what_a_task_draws_does_not_depend_on_the_others(order: str, cases: bool) -> None:
    together = examples(order=order, cases=cases, rows=90)
    for task in WEIGHTS:
        drawn = [example for example in together if example.task == task]
        alone = examples(weights={task: 1.0}, lists={task: LISTS[task]}, order=order, cases=cases, rows=len(drawn))
        assert drawn == alone
        assert drawn


def test_the_seed_decides_the_order_of_tasks_too() -> None:
    orders = {tuple(example.task for example in examples(seed=seed)) for seed in range(5)}
    assert len(orders) == 5


def test_training_lists_leave_out_what_cannot_teach(tmp_path: Path) -> None:
    data = build_toy(tmp_path, "passage-5", train=[(1, 0, 0), (0, 0, 0), (2, 2), (0, 3)], test=[(1, 0)])
    found = training_lists(data, "passage-5")
    assert [example.id for example in found] == ["train0", "train3"]
    assert found[0].relevance["c0"] == 1.0


@pytest.mark.parametrize("train", [[], [(0, 0, 0)], [(1, 1), (0, 0)]])
def test_a_task_that_cannot_teach_is_named_with_the_mend(tmp_path: Path, train: list[tuple[int, ...]]) -> None:
    data = build_toy(tmp_path, "passage-5", train=train, test=[(1, 0)])
    with pytest.raises(DataError, match=r"'passage-5' has no training lists in .*leave it out of the recipe's tasks"):
        training_lists(data, "passage-5")


def test_a_task_that_is_not_built_is_named(tmp_path: Path) -> None:
    with pytest.raises(MissingSourceError, match="data build movie"):
        training_lists(tmp_path, "movie")


def test_a_row_has_the_fields_that_verl_reads(tmp_path: Path) -> None:
    example = toy_list("list", (0, 2, 1))
    found = row(example, scorer=Scorer("graded", "rr"))
    assert list(found) == ["data_source", "prompt", "ability", "agent_name", "reward_model", "extra_info"]
    assert (found["data_source"], found["ability"], found["agent_name"]) == ("passage-5", "passage", "unified_ranker")
    assert [message["role"] for message in found["prompt"]] == ["system", "user"]
    assert "[B] grade 2 of place 01" in found["prompt"][1]["content"]
    assert found["reward_model"]["style"] == "rule"
    assert json.loads(found["reward_model"]["ground_truth"]) == {
        "reward": "graded",
        "measure": "rr",
        "reasoning": False,
        "joined": False,
        "runs_on": False,
        "labels": ["A", "B", "C"],
        "ids": ["c0", "c1", "c2"],
        "grades": [0.0, 2.0, 1.0],
    }
    assert (found["extra_info"]["index"], found["extra_info"]["split"]) == (3, "train")
    assert example_from_dict(json.loads(found["extra_info"]["example"]), where="row") == example


@pytest.mark.parametrize(
    ("tools", "options", "labels", "flags"),
    [
        (LETTERS, {"style": "natural"}, ["A", "B", "C"], (False, False)),
        (LETTERS, {"style": "natural", "reasoning": True}, ["A", "B", "C"], (True, False)),
        (LETTERS, {"style": "natural", "layout": "rounds"}, ["A", "B", "C"], (False, False)),
        (TAGS, {"style": "compact"}, ["<1>", "<2>", "<3>"], (False, True)),
        (TAGS, {"style": "compact", "permute": True}, ["<1>", "<2>", "<3>"], (False, True)),
        (TAGS, {"style": "compact", "method": "dranker", "scorer": Scorer("permutation")}, None, (False, True)),
        (LETTERS, {"style": "natural", "method": "dranker", "scorer": Scorer("permutation")}, None, (False, False)),
    ],
)
def test_the_prompt_of_a_row_is_that_of_the_strategys_first_request(
    tools: TokenizerTools, options: dict[str, Any], labels: list[str] | None, flags: tuple[bool, bool]
) -> None:
    example = toy_list("list", (0, 2, 1))
    found = row(example, tools, **options)
    made = strategy_of(tools, domain="passage", **{name: value for name, value in options.items() if name != "scorer"})
    (request,) = next(made.rank(example))
    assert [(m.role, m.content) for m in request.messages] == [(m["role"], m["content"]) for m in found["prompt"]]
    truth = json.loads(found["reward_model"]["ground_truth"])
    assert (truth["reasoning"], truth["joined"]) == flags
    if labels:
        assert truth["labels"] == labels


def test_rows_come_back_from_the_file_as_they_were_and_can_be_scored(tmp_path: Path) -> None:
    given = [row(toy_list("list", (0, 2, 1))), row(toy_list("film", (1, 0), task="movie"))]
    write_rows(tmp_path / "rows.parquet", given)
    found = pq.read_table(tmp_path / "rows.parquet").to_pylist()
    assert found == given
    assert [compute_score(r["data_source"], "A", r["reward_model"]["ground_truth"])["score"] for r in found] == [
        1.0,
        0.0,
    ]


def test_texts_of_any_script_survive(tmp_path: Path) -> None:
    example = toy_list("list", (0, 1))
    strange = RankingExample(
        "é\u2028", "\U0001f600 «query»\n", example.candidates, task="movie", domain="recommendation"
    )
    write_rows(tmp_path / "rows.parquet", [row(strange)])
    (found,) = pq.read_table(tmp_path / "rows.parquet").to_pylist()
    assert example_from_dict(json.loads(found["extra_info"]["example"]), where="row") == strange
