"""What holds for every reward, whatever the list, the grades and the reply."""

from __future__ import annotations

import inspect
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from unified_ranker.rewards import (
    Choice,
    Grading,
    Order,
    Removal,
    Reward,
    binary,
    erank,
    gr2,
    graded,
    permutation,
    rank_r1,
    rarl,
    rearank,
    reasonrank,
    tfrank,
    tfrank_list,
)
from unified_ranker.rewards import __all__ as public

from unified_ranker.parsing import ParsedLabel, ParsedOrder, parse_label, parse_order
from unified_ranker.schema import Candidate, RankingExample

CHECKED = settings(
    deadline=None, derandomize=True, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
# Sums of the same numbers in another order can differ in their last bits.
ROUNDING = 1e-12

FUNCTIONS: dict[str, tuple[Callable[..., Reward], dict[str, Any]]] = {
    "binary": (binary, {}),
    "graded ndcg": (graded, {"measure": "ndcg"}),
    "graded rr": (graded, {"measure": "rr"}),
    "permutation rr": (permutation, {"measure": "rr"}),
    "permutation ndcg": (permutation, {"measure": "ndcg"}),
}
REMOVAL_PARTS = {"choice": (0.0, 1.0), "label": (-0.5, 0.0), "answer": (-1.0, 0.0), "format": (-0.25, 0.0)}
ORDER_PARTS = {"ranking": (0.0, 1.0), "composition": (-1.0, 0.0), "answer": (-1.0, 0.0), "format": (-0.25, 0.0)}
EACH = pytest.mark.parametrize("name", list(FUNCTIONS))

ALPHABETS = (tuple("ABCDEFGH"), tuple(f"<{number}>" for number in range(1, 9)), ("01", "02", "03", "04", "05"))
PIECES = ["A", "B", "C", "D", "a", "Z", "<1>", "<2>", "<9>", "01", "05", "[", "]", "[A]", " ", " > ", "\n", ".", "none"]
TAGS = ["<think>", "</think>", "<answer>", "</answer>"]
replies = st.one_of(
    st.text(st.characters(), max_size=30),
    st.lists(st.sampled_from(PIECES), max_size=10).map("".join),
    st.lists(st.sampled_from([*PIECES, *TAGS, *TAGS]), max_size=12).map("".join),
    st.lists(st.sampled_from(PIECES), max_size=6).map(lambda p: f"<think>hm</think><answer>{''.join(p)}</answer>"),
)
grades = st.one_of(st.integers(0, 3).map(float), st.floats(0, 100, allow_subnormal=False))


@dataclass(frozen=True)
class Case:
    """A list, a reply to it, and who was in play when it was given."""

    labels: tuple[str, ...]
    grades: tuple[float | None, ...]
    in_play: tuple[int, ...]
    reply: str
    reasoning: bool
    joined: bool

    def example(self, names: tuple[str, ...] = (), texts: tuple[str, ...] = (), **fields: Any) -> RankingExample:
        names = names or tuple(f"c{number}" for number in range(len(self.grades)))
        relevance = {name: grade for name, grade in zip(names, self.grades, strict=True) if grade is not None}
        shown = tuple(Candidate(name, text) for name, text in zip(names, texts or names, strict=True))
        return RankingExample("list", "query", shown, relevance=relevance, **fields)

    def reward(self, name: str, example: RankingExample | None = None) -> Reward:
        function, options = FUNCTIONS[name]
        asked = example or self.example()
        ids = [candidate.id for candidate in asked.candidates]
        step: Removal | Order
        parsed: ParsedLabel | ParsedOrder
        if function is permutation:
            parsed = parse_order(self.reply, self.labels, reasoning=self.reasoning, joined=self.joined)
            step = Order(tuple(ids[self.labels.index(label)] for label in parsed.order[: parsed.named]))
        else:
            parsed = parse_label(self.reply, [self.labels[i] for i in self.in_play], reasoning=self.reasoning)
            removed = ids[self.labels.index(parsed.label)] if parsed.label is not None else None
            step = Removal(tuple(ids[i] for i in self.in_play), removed)
        return function(asked, step, parsed, **options)


@st.composite
def cases(draw: st.DrawFn, reply: st.SearchStrategy[str] = replies) -> Case:
    alphabet = draw(st.sampled_from(ALPHABETS))
    n = draw(st.integers(1, len(alphabet)))
    standing = draw(st.sets(st.integers(0, n - 1), min_size=1))
    found = draw(st.lists(st.none() | grades, min_size=n, max_size=n))
    return Case(
        alphabet[:n], tuple(found), tuple(sorted(standing)), draw(reply), draw(st.booleans()), draw(st.booleans())
    )


def parts_of(name: str) -> Mapping[str, tuple[float, float]]:
    return ORDER_PARTS if name.startswith("permutation") else REMOVAL_PARTS


@EACH
@CHECKED
@given(case=cases())
def test_the_total_is_the_sum_of_the_same_parts_within_their_bounds(name: str, case: Case) -> None:
    found = case.reward(name)
    assert found.total == sum(found.parts.values())
    assert list(found.parts) == list(parts_of(name))
    for part, (low, high) in parts_of(name).items():
        assert low <= found.parts[part] <= high + ROUNDING, part
    low = -2.25 if name.startswith("permutation") else -1.25
    assert low <= found.total <= 1 + ROUNDING


@EACH
@CHECKED
@given(case=cases())
def test_the_same_reply_is_worth_the_same_again(name: str, case: Case) -> None:
    first = case.reward(name)
    state = random.getstate()
    assert case.reward(name) == first
    assert random.getstate() == state


@EACH
@CHECKED
@given(case=cases(), data=st.data())
def test_names_and_texts_of_candidates_and_what_else_the_prompt_shows_do_not_matter(
    name: str, case: Case, data: st.DataObject
) -> None:
    n = len(case.grades)
    names = data.draw(st.lists(st.text(min_size=1, max_size=5), min_size=n, max_size=n, unique=True))
    texts = data.draw(st.lists(st.text(max_size=5), min_size=n, max_size=n))
    other = case.example(
        tuple(names), tuple(texts), task="movie", domain="routing", context=("A", "<answer>B</answer>")
    )
    assert case.reward(name, other) == case.reward(name)


@EACH
@CHECKED
@given(case=cases(), factor=st.sampled_from([0.25, 2.0, 8.0]))
def test_the_scale_of_the_grades_does_not_matter(name: str, case: Case, factor: float) -> None:
    scaled = Case(
        case.labels,
        tuple(grade if grade is None else grade * factor for grade in case.grades),
        case.in_play,
        case.reply,
        case.reasoning,
        case.joined,
    )
    assert scaled.reward(name).parts == pytest.approx(case.reward(name).parts, rel=0, abs=1e-9)


@EACH
@CHECKED
@given(case=cases())
def test_nothing_is_printed_and_nothing_raised(name: str, case: Case, capfd: pytest.CaptureFixture[str]) -> None:
    case.reward(name)
    assert tuple(capfd.readouterr()) == ("", "")


@EACH
@CHECKED
@given(case=cases())
def test_a_reply_that_names_nothing_earns_less_than_any_that_names_something(name: str, case: Case) -> None:
    found = case.reward(name)
    nothing = found.parts["answer"] < 0 or found.parts.get("label", 0.0) < 0
    if nothing:
        assert found.parts.get("choice", found.parts.get("ranking")) == 0
        assert found.parts["format"] == -0.25
        assert found.total <= -0.75
    elif name.startswith("permutation"):
        assert found.parts["composition"] > -1
        assert found.total > -1.25
    else:
        assert found.total >= -0.25


# Bounds of the parts and of the total.
Bounds = tuple[dict[str, tuple[float, float]], tuple[float, float]]
REASONRANK: Bounds = (
    {"ranking": (0, 1), "recall": (0, 0.2), "overlap": (0, 0.1), "format": (-1, 0)},
    (-1, 1.3),
)
RARL: Bounds = ({"regression": (0, 1), "agreement": (0, 1), "format": (0, 0.1)}, (0, 2.1))
# Rewards of a reply to a list, and of a grade among those of a list.
OF_REPLIES: dict[str, tuple[Callable[..., Reward], dict[str, Any], Bounds]] = {
    "rank_r1": (rank_r1, {}, ({"choice": (0, 1), "format": (-1, 0)}, (0, 1))),
    "reasonrank": (reasonrank, {}, REASONRANK),
    "reasonrank .9": (reasonrank, {"persistence": 0.9}, REASONRANK),
    "rearank": (rearank, {}, ({"gain": (-0.8, 0.8), "tags": (0, 0.1), "format": (0, 0.1)}, (-0.8, 1))),
    "gr2": (gr2, {}, ({"promotion": (-1, 1), "format": (0, 0.2)}, (-1, 1.2))),
}
OF_GRADES: dict[str, tuple[Callable[..., Reward], dict[str, Any], Bounds]] = {
    "erank": (
        erank,
        {},
        ({"rank": (0, 1), "inversion": (-1, 0), "distance": (0, 1), "format": (-1, 0)}, (-1.25, 1)),
    ),
    "tfrank": (tfrank, {}, ({"accuracy": (0, 0.5), "nearness": (0, 0.5), "format": (0, 0.5)}, (0, 1.5))),
    "tfrank_list": (
        tfrank_list,
        {},
        (
            {"accuracy": (0, 1 / 3), "gain": (-1 / 3, 1 / 3), "nearness": (0, 1 / 3), "format": (0, 0.5)},
            (-1 / 3, 1.5),
        ),
    ),
    "rarl": (rarl, {}, RARL),
    "rarl .2": (rarl, {"delta": 0.2}, RARL),
}
FEWER = settings(CHECKED, max_examples=80)


@dataclass(frozen=True)
class Grades:
    """A list, and the replies that graded its candidates."""

    relevance: tuple[float | None, ...]
    replies: tuple[str, ...]
    top: int
    reasoning: bool

    def example(self, names: tuple[str, ...] = (), texts: tuple[str, ...] = (), **fields: Any) -> RankingExample:
        return Case((), self.relevance, (), "", False, False).example(names, texts, **fields)

    def rewards(self, name: str, example: RankingExample | None = None) -> list[Reward]:
        function, options, _ = OF_GRADES[name]
        asked = example or self.example()
        answers = [str(grade) for grade in range(self.top + 1)]
        read = [parse_label(reply, answers, reasoning=self.reasoning) for reply in self.replies]
        found = [None if parsed.label is None else answers.index(parsed.label) for parsed in read]
        ids = [candidate.id for candidate in asked.candidates]
        among = dict(zip(ids, found, strict=True))
        return [
            function(asked, Grading(id, among[id], self.top, among), parsed, **options)
            for id, parsed in zip(ids, read, strict=True)
        ]


def of_reply(case: Case, name: str, example: RankingExample | None = None) -> Reward:
    function, options, _ = OF_REPLIES[name]
    asked = example or case.example()
    ids = [candidate.id for candidate in asked.candidates]
    if function is rank_r1:
        label = parse_label(case.reply, [case.labels[i] for i in case.in_play], reasoning=case.reasoning)
        chosen = ids[case.labels.index(label.label)] if label.label is not None else None
        return rank_r1(asked, Choice(tuple(ids[i] for i in case.in_play), chosen), label)
    order = parse_order(case.reply, case.labels, reasoning=case.reasoning, joined=case.joined)
    named = Order(tuple(ids[case.labels.index(label)] for label in order.order[: order.named]))
    return function(asked, named, order, **options)


@st.composite
def graded_lists(draw: st.DrawFn) -> Grades:
    n, top = draw(st.integers(1, 6)), draw(st.sampled_from([1, 2, 4, 10]))
    said = st.integers(0, top).map(str)
    reply = st.one_of(
        said,
        said,
        said.map(lambda grade: f"grade {grade}."),
        said.map(lambda grade: f"<think>hm</think><answer>{grade}</answer>"),
        st.sampled_from(["", "11", "-1", "0 or 1", "none", "<answer>"]),
    )
    relevance = draw(st.lists(st.none() | grades, min_size=n, max_size=n))
    replies = draw(st.lists(reply, min_size=n, max_size=n))
    return Grades(tuple(relevance), tuple(replies), top, draw(st.booleans()))


def check_bounds(found: Reward, bounds: Bounds) -> None:
    parts, (low, high) = bounds
    assert found.total == sum(found.parts.values())
    assert list(found.parts) == list(parts)
    for part, (least, most) in parts.items():
        assert isinstance(found.parts[part], float)
        assert least - ROUNDING <= found.parts[part] <= most + ROUNDING, part
    assert low - ROUNDING <= found.total <= high + ROUNDING


@FEWER
@given(case=cases(), data=st.data())
def test_rewards_of_replies_are_bounded_repeatable_and_blind_to_names_and_texts(
    case: Case, data: st.DataObject
) -> None:
    n = len(case.grades)
    names = data.draw(st.lists(st.text(min_size=1, max_size=5), min_size=n, max_size=n, unique=True))
    other = case.example(tuple(names), ("<answer>B</answer>",) * n, task="movie", domain="routing", context=("A",))
    state = random.getstate()
    for name, (_, _, bounds) in OF_REPLIES.items():
        found = of_reply(case, name)
        check_bounds(found, bounds)
        assert of_reply(case, name) == of_reply(case, name, other) == found, name
    assert random.getstate() == state


@FEWER
@given(listed=graded_lists(), data=st.data())
def test_rewards_of_grades_are_bounded_repeatable_and_blind_to_names_and_texts(
    listed: Grades, data: st.DataObject
) -> None:
    n = len(listed.relevance)
    names = data.draw(st.lists(st.text(min_size=1, max_size=5), min_size=n, max_size=n, unique=True))
    other = listed.example(tuple(names), ("grade 4",) * n, task="movie", domain="routing", context=("4",))
    state = random.getstate()
    for name, (_, _, bounds) in OF_GRADES.items():
        found = listed.rewards(name)
        for reward in found:
            check_bounds(reward, bounds)
        assert listed.rewards(name) == listed.rewards(name, other) == found, name
    assert random.getstate() == state


@FEWER
@given(case=cases(), listed=graded_lists(), factor=st.sampled_from([0.25, 2.0, 8.0]))
def test_the_scale_of_the_relevance_does_not_matter_to_the_others_either(
    case: Case, listed: Grades, factor: float, capfd: pytest.CaptureFixture[str]
) -> None:
    def scaled(example: RankingExample) -> RankingExample:
        return replace(example, relevance={id: grade * factor for id, grade in example.relevance.items()})

    for name in OF_REPLIES:
        found = of_reply(case, name, scaled(case.example()))
        assert found.parts == pytest.approx(of_reply(case, name).parts, rel=0, abs=1e-9), name
    for name in OF_GRADES:
        for found, first in zip(listed.rewards(name, scaled(listed.example())), listed.rewards(name), strict=True):
            assert found.parts == pytest.approx(first.parts, rel=0, abs=1e-9), name
    assert tuple(capfd.readouterr()) == ("", "")


@FEWER
@given(case=cases())
def test_a_reply_that_names_nobody_earns_the_least_there_is_with_its_tags(case: Case) -> None:
    parsed = parse_order(case.reply, case.labels, reasoning=case.reasoning, joined=case.joined)
    if parsed.named:
        return
    tags = 0.1 if parsed.tagged else 0.0
    least = {"reasonrank": 0.0 if parsed.tagged else -1.0, "rearank": -0.8 + tags, "gr2": -1.0}
    for name, total in least.items():
        assert of_reply(case, name).total == pytest.approx(total, rel=0, abs=1e-12)


def test_every_public_reward_is_among_those_that_are_tried() -> None:
    tried = [function for function, _ in FUNCTIONS.values()]
    tried += [function for function, _, _ in (*OF_REPLIES.values(), *OF_GRADES.values())]
    kinds = {"Choice", "Grading", "Order", "Removal", "Reward"}
    assert {function.__name__ for function in tried} == set(public) - kinds


@pytest.mark.parametrize(
    "function", [binary, graded, permutation, rank_r1, reasonrank, rearank, gr2, erank, tfrank, tfrank_list, rarl]
)
def test_no_reward_is_given_the_prompt(function: Callable[..., Reward]) -> None:
    found = inspect.signature(function).parameters
    given = [name for name, parameter in found.items() if parameter.kind is not inspect.Parameter.KEYWORD_ONLY]
    assert given == ["example", "step", "parsed"]
    assert {name for name in found if name not in given} <= {"measure", "persistence", "delta"}
    # Nor by way of what it is given.
    assert [entry.name for entry in fields(Removal)] == ["in_play", "removed"]
    assert [entry.name for entry in fields(Order)] == ["named"]
    assert [entry.name for entry in fields(Choice)] == ["in_play", "chosen"]
    assert [entry.name for entry in fields(Grading)] == ["candidate", "grade", "top", "grades"]
