"""The entry of verl's reward managers gives what the rewards give, and takes whatever a model writes."""

from __future__ import annotations

import importlib.util
import inspect
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_models import make_tokenizer
from unified_ranker.rewards import verl_entry
from unified_ranker.rewards.score import REWARDS, Scorer
from unified_ranker.rewards.verl_entry import compute_score, ground_truth

from unified_ranker.backends.tokenizer import TokenizerTools
from unified_ranker.errors import DataError, OptionError, UnifiedRankerError
from unified_ranker.parsing import parse_label, parse_order
from unified_ranker.prompts import PromptWriter, load_template
from unified_ranker.schema import Candidate, RankingExample, Step
from unified_ranker.strategies.registry import make_strategy, method_named

CHECKED = settings(deadline=None, derandomize=True, max_examples=150)
LETTERS = ("A", "B", "C", "D")
TAGS = ("<1>", "<2>", "<3>", "<4>")
GRADES = (0.0, 3.0, 1.0, 0.0)
EXAMPLE = RankingExample(
    "list",
    "query",
    tuple(Candidate(f"c{place}", f"text {place}") for place in range(4)),
    relevance={f"c{place}": grade for place, grade in enumerate(GRADES)},
)
SCORERS = {
    "binary": Scorer("binary"),
    "graded ndcg": Scorer("graded", "ndcg"),
    "graded rr": Scorer("graded", "rr"),
    "permutation ndcg": Scorer("permutation", "ndcg"),
    "permutation rr": Scorer("permutation", "rr"),
    "reasonrank": Scorer("reasonrank"),
    "rearank": Scorer("rearank"),
    "gr2": Scorer("gr2"),
    "rank_r1": Scorer("rank_r1"),
}
EACH = pytest.mark.parametrize("name", SCORERS)
PARTS = {
    "binary": {"choice", "label", "answer", "format"},
    "graded": {"choice", "label", "answer", "format"},
    "permutation": {"ranking", "composition", "answer", "format"},
    "reasonrank": {"ranking", "recall", "overlap", "format"},
    "rearank": {"gain", "tags", "format"},
    "gr2": {"promotion", "format"},
    "rank_r1": {"choice", "format"},
}
# 1 / log2(3) and the DCG of the list as it is shown, A (0), B (3), C (1) and D (0); the best order has 3 + L.
L = 1 / math.log2(3)
SHOWN = 3 * L + 1 / 2

# What a model may write that was asked for a label or an order of labels.
MALFORMED = [
    "",
    " ",
    "\n\n\t",
    "\x00",
    "\ufffd\ufffd",
    "\u2028",
    "😀" * 50,
    "{}",
    "{label}",
    "%s %d",
    "\\",
    "'\"`",
    "None",
    "nan",
    "[[[[",
    "]]]]",
    "()",
    "<",
    "<>",
    "<1",
    "1>",
    "<99>",
    "<1><1><1>",
    "<1><2><3><4><1>",
    "ABCD",
    "AABB",
    "A A A A A A",
    "A > B > C > D > E",
    "a > b",
    "Z",
    "The answer is B",
    "[B]. [C]",
    "<think>",
    "</think>",
    "<think></think>",
    "<think>B</think>",
    "<answer>",
    "</answer>",
    "<answer></answer>",
    "<answer>B",
    "</answer>B<answer>",
    "<answer>B</answer><answer>C</answer>",
    "<think>x</think>B",
    "<think>x</think><answer>B</answer>",
    "<think>x</think><answer>B > A > C > D</answer>",
    "<think><think>x</think></think><answer>B</answer>",
    "<answer>B</answer><think>late</think>",
    "x" * 20_000,
    "<answer>" * 2_000,
    "A > " * 5_000,
    "[" * 5_000 + "A" + "]" * 5_000,
    "<|im_end|>",
    "<|list|>",
]


def truth_of(
    scorer: Scorer, labels: Sequence[str] = LETTERS, *, reasoning: bool = False, joined: bool = False
) -> dict[str, Any]:
    under = {label: f"c{place}" for place, label in enumerate(labels)}
    return ground_truth(EXAMPLE, under, scorer=scorer, reasoning=reasoning, joined=joined)


def scored(
    scorer: Scorer, reply: str, labels: Sequence[str] = LETTERS, *, reasoning: bool = False, joined: bool = False
) -> dict[str, float]:
    """Return what the scorer gives for a reply that the parser read."""
    step = Step(0, reply, "ok", labels={label: f"c{place}" for place, label in enumerate(labels)})
    if REWARDS[scorer.reward] == "dranker":
        reward = scorer.step(EXAMPLE, step, parse_order(reply, labels, reasoning=reasoning, joined=joined))
    else:
        reward = scorer.step(EXAMPLE, step, parse_label(reply, labels, reasoning=reasoning))
    return {"score": reward.total, **reward.parts}


def by_path() -> ModuleType:
    """Load the entry as verl does where it is named by its file."""
    spec = importlib.util.spec_from_file_location("custom_module", str(Path(verl_entry.__file__).resolve()))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("name", "reply", "score"),
    [
        ("binary", "A", 1.0),
        ("binary", "B", 0.0),
        ("binary", "C", 1.0),
        ("binary", "C.", 0.75),
        ("binary", "Z", -0.75),
        ("binary", "", -1.25),
        ("graded rr", "B", 0.25),
        ("graded rr", "C", 1.0),
        ("permutation rr", "B > C > A > D", 1.0),
        ("permutation rr", "A > B > C > D", 0.5),
        ("permutation rr", "B", 0.25),
        ("permutation rr", "", -2.25),
        ("reasonrank", "B > C > A > D", 1.3),
        ("reasonrank", "B > C > D > A", 1.3),
        ("reasonrank", "A > B > C > D", SHOWN / (3 + L) + 0.2 + 0.1 * (0 + 1 / 2 + 1 + 1) / 4),
        ("reasonrank", "B", 3 / (3 + L) + 0.2 / 2 + 0.1 * (1 + 1 / 2 + 1 / 3 + 1 / 4) / 4),
        ("reasonrank", "B > Z", 0.0),
        ("reasonrank", "", 0.0),
        ("reasonrank", "<answer>B > C > A > D</answer>", -1.0),
        ("rearank", "B > C > A > D", 1.0),
        ("rearank", "A > B > C > D", 0.2),
        ("rearank", "B", 0.8 * (3 - SHOWN) / (3 + L - SHOWN) + 0.2),
        ("rearank", "A > D > Z", -0.8 + 0.1),
        ("rearank", "", -0.7),
        ("rearank", "<answer></answer>", -0.8),
        ("gr2", "B > C > A > D", 1.2),
        ("gr2", "D > B > C > A", 0.0),
        ("gr2", "B", (3 - SHOWN) / (3 + L - SHOWN)),
        ("gr2", "A > D > C > B", -1.0),
        ("gr2", "", -1.0),
        ("rank_r1", "B", 1.0),
        ("rank_r1", "B.", 0.0),
        ("rank_r1", "C", 0.0),
        ("rank_r1", "", 0.0),
    ],
)
def test_scores_by_hand(name: str, reply: str, score: float) -> None:
    found = compute_score("movie", reply, truth_of(SCORERS[name]))
    assert found["score"] == pytest.approx(score)
    assert found["score"] == pytest.approx(sum(value for part, value in found.items() if part != "score"))
    assert set(found) == {"score", *PARTS[SCORERS[name].reward]}


@EACH
@pytest.mark.parametrize("reasoning", [False, True])
@pytest.mark.parametrize("labels", [LETTERS, TAGS])
def test_any_reply_gets_what_the_scorer_gives_and_nothing_is_printed(
    name: str, reasoning: bool, labels: tuple[str, ...], capfd: pytest.CaptureFixture[str]
) -> None:
    assert len(MALFORMED) >= 30
    joined = labels is TAGS
    truth = truth_of(SCORERS[name], labels, reasoning=reasoning, joined=joined)
    for reply in MALFORMED:
        found = compute_score("movie", reply, truth)
        assert found == scored(SCORERS[name], reply, labels, reasoning=reasoning, joined=joined), reply[:50]
        assert all(isinstance(value, float) and math.isfinite(value) for value in found.values())
    assert capfd.readouterr() == ("", "")


pieces = ["A", "B", "C", "D", "a", "Z", *TAGS, " ", " > ", "\n", "[", "]", ".", "<think>", "</think>", "<answer>"]
replies = st.one_of(
    st.text(st.characters(), max_size=30), st.lists(st.sampled_from([*pieces, "</answer>"]), max_size=12).map("".join)
)


@CHECKED
@given(replies, st.sampled_from(list(SCORERS)), st.sampled_from([LETTERS, TAGS]), st.booleans(), st.booleans())
def test_invented_replies_get_what_the_scorer_gives(
    reply: str, name: str, labels: tuple[str, ...], reasoning: bool, joined: bool
) -> None:
    found = compute_score("movie", reply, truth_of(SCORERS[name], labels, reasoning=reasoning, joined=joined))
    assert found == scored(SCORERS[name], reply, labels, reasoning=reasoning, joined=joined)


# How a single reply may be asked for; each is read by the strategy's own parser when the model is served.
ASKED: dict[str, dict[str, Any]] = {
    "natural": {"style": "natural"},
    "natural, rounds": {"style": "natural", "layout": "rounds"},
    "natural, unguided": {"style": "natural", "unguided": True},
    "natural, rounds, unguided": {"style": "natural", "layout": "rounds", "unguided": True},
    "natural, reasoning": {"style": "natural", "reasoning": True},
    "natural, rounds, reasoning": {"style": "natural", "layout": "rounds", "reasoning": True},
    "compact": {"style": "compact"},
    "compact, unguided": {"style": "compact", "unguided": True},
    "compact, rounds, unguided": {"style": "compact", "layout": "rounds", "unguided": True},
    "dranker": {"style": "natural", "method": "dranker"},
    "dranker, reasoning": {"style": "natural", "method": "dranker", "reasoning": True},
    "dranker, compact": {"style": "compact", "method": "dranker"},
    "setwise": {"style": "natural", "method": "setwise"},
    "setwise, unguided": {"style": "natural", "method": "setwise", "unguided": True},
    "setwise, reasoning": {"style": "natural", "method": "setwise", "reasoning": True},
    "setwise, compact": {"style": "compact", "method": "setwise"},
}
OF_METHOD = {
    "iranker": ("binary",),
    "dranker": ("permutation", "reasonrank", "rearank", "gr2"),
    "setwise": ("rank_r1",),
}


@pytest.mark.parametrize("asked", ASKED)
def test_a_reply_is_read_as_the_strategy_reads_it(asked: str) -> None:
    from unified_ranker.training.rl.rows import row_of

    options = {"method": "iranker", **ASKED[asked]}
    method, style = options.pop("method"), options.pop("style")
    tags = style == "compact"
    tools = TokenizerTools(
        make_tokenizer(labels=TAGS if tags else ()), context_tokens=16_384, labels=TAGS if tags else ()
    )
    writer = PromptWriter(load_template(style, method_named(method).template, "passage"), tools)
    strategy: Any = make_strategy(method, writer=writer, **options)
    labels = TAGS if tags else LETTERS
    step = Step(0, "", "ok", labels={label: f"c{place}" for place, label in enumerate(labels)})
    for reward in OF_METHOD[method]:
        scorer = Scorer(reward)
        row = row_of(EXAMPLE, index=0, split="train", strategy=strategy, scorer=scorer, loop="single_turn_agent")
        # Among the replies are those of a model that goes on to the steps to come.
        for reply in [*MALFORMED, "<3><1><4>", "<2><1>", "C\nA\nD", "B\nA", "C\n"]:
            wanted = scorer.step(EXAMPLE, step, strategy.parse(reply, labels))
            found = compute_score(row["data_source"], reply, row["reward_model"]["ground_truth"])
            assert found == {"score": wanted.total, **wanted.parts}, reply[:50]


def as_arrays(truth: Mapping[str, Any]) -> dict[str, Any]:
    return {key: np.array(value) if isinstance(value, list) else value for key, value in truth.items()}


def as_objects(truth: Mapping[str, Any]) -> dict[str, Any]:
    return {key: np.array(value, dtype=object) if isinstance(value, list) else value for key, value in truth.items()}


def as_numbers_of_32_bits(truth: Mapping[str, Any]) -> dict[str, Any]:
    return {**truth, "grades": np.array(truth["grades"], dtype=np.float32)}


def as_tuples(truth: Mapping[str, Any]) -> dict[str, Any]:
    return {key: tuple(value) if isinstance(value, list) else value for key, value in truth.items()}


def as_bytes(truth: Mapping[str, Any]) -> bytes:
    return json.dumps(truth).encode()


FORMS = {
    "arrays": as_arrays,
    "arrays of objects": as_objects,
    "float32": as_numbers_of_32_bits,
    "tuples": as_tuples,
    "json": json.dumps,
    "json bytes": as_bytes,
}


@EACH
@pytest.mark.parametrize("form", FORMS)
def test_the_ground_truth_may_come_in_any_form(form: str, name: str) -> None:
    truth = truth_of(SCORERS[name])
    for reply in ("A", "B", "C > B", "", "none of them"):
        assert compute_score("movie", reply, FORMS[form](truth)) == compute_score("movie", reply, truth)


def test_a_ground_truth_is_not_changed() -> None:
    truth = truth_of(SCORERS["binary"])
    before = json.dumps(truth)
    compute_score("movie", "B", truth)
    assert json.dumps(truth) == before


def test_a_ground_truth_is_plain_enough_for_json() -> None:
    truth = truth_of(SCORERS["graded rr"], reasoning=True)
    assert json.loads(json.dumps(truth)) == truth
    assert truth["grades"] == list(GRADES)


def test_the_order_of_labels_is_that_of_the_list() -> None:
    under = {"A": "c3", "B": "c1", "C": "c0"}
    truth = ground_truth(EXAMPLE, under, scorer=SCORERS["binary"], reasoning=False, joined=False)
    assert (truth["labels"], truth["ids"], truth["grades"]) == (["A", "B", "C"], ["c3", "c1", "c0"], [0.0, 3.0, 0.0])


@pytest.mark.parametrize("wrap", [list, tuple, lambda values: np.array(values, dtype=object), np.array])
def test_many_responses_are_scored_at_once(wrap: Any) -> None:
    replies = ["A", "B", "C.", ""]
    truths = [truth_of(scorer) for scorer in list(SCORERS.values())[:4]]
    found = compute_score(wrap(["movie"] * 4), wrap(replies), np.array(truths, dtype=object), extra_info=[None] * 4)
    assert found == [compute_score("movie", reply, truth) for reply, truth in zip(replies, truths, strict=True)]
    assert found == compute_score(None, wrap(replies), [json.dumps(truth) for truth in truths])


def test_no_responses_have_no_scores() -> None:
    assert compute_score([], [], []) == []


@pytest.mark.parametrize(("replies", "truths"), [(1, 2), (2, 1), (0, 1)])
def test_as_many_ground_truths_as_responses_are_needed(replies: int, truths: int) -> None:
    with pytest.raises(DataError, match=f"{replies} responses for {truths} ground truths"):
        compute_score(None, ["A"] * replies, [truth_of(SCORERS["binary"])] * truths)


@EACH
def test_the_file_can_be_named_by_its_path(name: str) -> None:
    module = by_path()
    assert module.compute_score is not compute_score
    truth = truth_of(SCORERS[name])
    for reply in ("A", "B > C", "??"):
        assert module.compute_score("movie", reply, json.dumps(truth)) == compute_score("movie", reply, truth)


@pytest.mark.parametrize("more", [{}, {"extra_info": {"index": 3}}, {"reward_router_address": None, "anything": 3}])
def test_verl_calls_it_by_names(more: dict[str, Any]) -> None:
    truth = truth_of(SCORERS["binary"])
    found = compute_score(data_source="movie", solution_str="C", ground_truth=truth, **more)
    assert found == compute_score("music", "C", truth)


def test_it_is_given_the_response_and_never_the_prompt() -> None:
    names = list(inspect.signature(compute_score).parameters)
    assert names == ["data_source", "solution_str", "ground_truth", "extra_info", "_"]
    # A prompt that shows how to answer is no part of the response; what else comes along counts for nothing.
    prompt = "Think inside <think> </think>, then answer inside <answer> </answer>. [A] [B]"
    truth = truth_of(SCORERS["binary"], reasoning=True)
    reply = "<think>x</think><answer>A</answer>"
    assert compute_score("movie", reply, truth)["score"] == 1.0
    assert compute_score("movie", reply, truth, {"prompt": prompt}, prompt_str=prompt)["score"] == 1.0
    assert compute_score("movie", prompt + reply, truth)["score"] < 1.0


BINARY = truth_of(SCORERS["binary"])
# Ground truths that cannot be used, and what the message has to name.
BROKEN: list[tuple[Any, str]] = [
    (None, "ground_truth"),
    (3, "ground_truth"),
    ("", "not JSON"),
    ("{", "not JSON"),
    (b"\xff", "not JSON"),
    ("[1, 2]", "must be a mapping"),
    ("null", "must be a mapping"),
    ([], "must be a mapping"),
    ({}, r"ground_truth\.reward' is missing"),
    *(
        ({key: value for key, value in BINARY.items() if key != name}, rf"ground_truth\.{name}' is missing")
        for name in BINARY
    ),
    ({**BINARY, "labels": "ABCD"}, r"ground_truth\.labels' is 'ABCD'; it must be a list"),
    ({**BINARY, "ids": None}, r"ground_truth\.ids' is None; it must be a list"),
    ({**BINARY, "grades": 3.0}, r"ground_truth\.grades' is 3\.0; it must be a list"),
    ({**BINARY, "labels": [], "ids": [], "grades": []}, "has 0 labels"),
    ({**BINARY, "labels": ["A", "B"]}, "has 2 labels, 4 ids and 4 grades"),
    ({**BINARY, "ids": ["c0"]}, "4 labels, 1 ids and 4 grades"),
    ({**BINARY, "grades": [1.0] * 5}, "4 labels, 4 ids and 5 grades"),
    ({**BINARY, "labels": ["A", "A", "B", "C"]}, "one label"),
    ({**BINARY, "ids": ["c0", "c0", "c1", "c2"]}, "one id"),
    ({**BINARY, "ids": ["1", 1, "2", "3"]}, "ids' holds 1"),
    ({**BINARY, "labels": ["1", 1, "2", "3"]}, "labels' holds 1"),
    ({**BINARY, "labels": [["A"], ["B"], ["C"], ["D"]]}, "labels"),
    ({**BINARY, "ids": [{}, {}, {}, {}]}, "ids"),
    ({**BINARY, "grades": ["high", 0, 0, 0]}, "grades"),
    ({**BINARY, "grades": [None, 0, 0, 0]}, "grades"),
    ({**BINARY, "grades": [math.nan, 0, 0, 0]}, "grades"),
    ({**BINARY, "reward": "binarry"}, "reward='binarry' is not known"),
    ({**BINARY, "reward": None}, "reward"),
    ({**BINARY, "measure": "mrr"}, "measure='mrr' is not known"),
    ({**BINARY, "measure": ["rr"]}, "measure"),
]


@pytest.mark.parametrize(("truth", "named"), BROKEN, ids=[f"{i}: {named}" for i, (_, named) in enumerate(BROKEN)])
def test_a_malformed_ground_truth_is_an_error_that_names_what_is_wrong(truth: Any, named: str) -> None:
    with pytest.raises(UnifiedRankerError, match=named):
        compute_score("movie", "B", truth)


def test_the_mistake_is_in_the_ground_truth_whatever_the_reply() -> None:
    for reply in ("", "B", "x" * 100):
        with pytest.raises(DataError, match="is missing"):
            compute_score("movie", reply, {"reward": "binary"})


POINTWISE = [name for name, method in REWARDS.items() if method == "pointwise"]


@pytest.mark.parametrize("reward", POINTWISE)
@pytest.mark.parametrize("reasoning", [False, True])
def test_a_pointwise_reward_is_refused_whatever_the_reply(reward: str, reasoning: bool) -> None:
    assert POINTWISE == ["erank", "tfrank", "tfrank_list", "rarl"]
    truth = truth_of(Scorer(reward, answers=("0", "1", "2")), reasoning=reasoning)
    message = (
        f"^reward='{reward}' judges a grade by those of the whole list, which verl's own loop does not know; "
        "rows of the agent loop of this package carry it$"
    )
    for form in (dict, *FORMS.values()):
        with pytest.raises(OptionError, match=message):
            compute_score("movie", "2", form(truth))
    for reply in MALFORMED:
        with pytest.raises(OptionError, match=message):
            compute_score("movie", reply, truth)


@pytest.mark.parametrize("reward", POINTWISE)
def test_a_pointwise_reward_among_many_responses_is_refused(reward: str) -> None:
    truths = [truth_of(SCORERS["binary"]), truth_of(Scorer(reward))]
    with pytest.raises(OptionError, match=f"reward='{reward}' judges a grade"):
        compute_score(None, ["A", "2"], truths)
    with pytest.raises(OptionError, match=f"reward='{reward}' judges a grade"):
        compute_score(None, ["A", "2"], [json.dumps(truth) for truth in truths])


@pytest.mark.parametrize("reward", POINTWISE)
def test_a_malformed_ground_truth_of_a_pointwise_reward_is_told_first(reward: str) -> None:
    truth = truth_of(Scorer(reward))
    with pytest.raises(DataError, match=r"ground_truth\.labels' is missing"):
        compute_score("movie", "2", {key: value for key, value in truth.items() if key != "labels"})
    with pytest.raises(OptionError, match="measure='mrr' is not known"):
        compute_score("movie", "2", {**truth, "measure": "mrr"})
