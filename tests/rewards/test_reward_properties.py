"""What holds for every reward, whatever the list, the grades and the reply."""

from __future__ import annotations

import inspect
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from unified_ranker.rewards import Order, Removal, Reward, binary, graded, permutation

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


@pytest.mark.parametrize("function", [binary, graded, permutation])
def test_no_reward_is_given_the_prompt(function: Callable[..., Reward]) -> None:
    found = inspect.signature(function).parameters
    given = [name for name, parameter in found.items() if parameter.kind is not inspect.Parameter.KEYWORD_ONLY]
    assert given == ["example", "step", "parsed"]
    assert {name for name in found if name not in given} <= {"measure"}
    # Nor by way of what it is given.
    assert [entry.name for entry in fields(Removal)] == ["in_play", "removed"]
    assert [entry.name for entry in fields(Order)] == ["named"]
