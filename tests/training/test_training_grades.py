"""Grades of single candidates and the best of a set: what a model is taught for them."""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

import pytest
from invented_lists import encoded, make_list, writer_for
from tiny_models import make_tokenizer as make_byte_tokenizer
from unified_ranker.rewards.grade import whole_grade

from unified_ranker.backends.tokenizer import TokenizerTools
from unified_ranker.errors import RecipeError
from unified_ranker.prompts import choose_labels
from unified_ranker.prompts.writer import PromptWriter
from unified_ranker.schema.types import Candidate, RankingExample
from unified_ranker.strategies.pointwise import Pointwise
from unified_ranker.strategies.setwise import Setwise
from unified_ranker.training.encode import Encoded, encode, encode_grade

BYTES = TokenizerTools(make_byte_tokenizer(), context_tokens=4096)
NAMES = ("red", "green", "blue", "yellow", "purple", "orange", "black")


def graded(*grades: float) -> RankingExample:
    candidates = tuple(Candidate(f"c{place}", f"{NAMES[place]} thing") for place in range(len(grades)))
    return RankingExample(
        "graded",
        "find a color",
        candidates,
        task="passage-5",
        relevance={c.id: grade for c, grade in zip(candidates, grades, strict=True)},
    )


def pointwise(tools: TokenizerTools, *, style: str = "compact", domain: str = "passage", **options: Any) -> Pointwise:
    return Pointwise(writer=writer_for(tools, method="pointwise", style=style, domain=domain), **options)


def grade_of(
    example: RankingExample,
    place: int,
    tools: TokenizerTools,
    *,
    labels: tuple[str, ...] = ("A",),
    seed: int = 0,
    end: int | None = None,
    style: str = "natural",
    **options: Any,
) -> Encoded:
    return encode_grade(
        example,
        example.candidates[place],
        strategy=pointwise(tools, style=style, domain=example.domain, **options),
        tools=tools,
        labels=labels,
        rng=random.Random(seed),
        end=end,
    )


@pytest.mark.parametrize(("place", "wanted"), [(0, "0"), (1, "4"), (2, "1"), (3, "3")])
def test_a_grade_is_taught_as_a_choice_among_all_grades(place: int, wanted: str) -> None:
    sequence = grade_of(graded(0, 8, 2, 6), place, BYTES, end=999)
    tokens = [BYTES.spell(str(grade), after="")[0] for grade in range(5)]
    assert sequence.tokens[sequence.prompt_length :] == (tokens[int(wanted)], 999)
    (step,) = sequence.steps
    assert step.position == sequence.prompt_length - 1
    assert step.in_play == tuple(tokens)
    assert step.right == (tokens[int(wanted)],)
    assert sequence.hard == ((sequence.prompt_length, 999),)
    assert (sequence.candidates, sequence.task) == ((), "passage-5")


def test_a_model_without_an_end_is_taught_the_grade_alone() -> None:
    sequence = grade_of(graded(1, 0), 0, BYTES)
    assert len(sequence.tokens) == sequence.prompt_length + 1
    assert sequence.hard == ()


@pytest.mark.parametrize("top", [1, 2, 9])
def test_the_scale_is_that_of_the_strategy(top: int) -> None:
    sequence = grade_of(graded(2, 1, 0), 0, BYTES, top_grade=top)
    (step,) = sequence.steps
    assert len(step.in_play) == top + 1
    assert BYTES.decode(sequence.tokens[sequence.prompt_length :]) == str(top)
    assert f"to {top} (as well as can be)" in BYTES.decode(sequence.tokens[: sequence.prompt_length])


def test_the_grade_is_that_of_the_whole_list_not_of_the_candidate_alone() -> None:
    example = graded(1, 2)
    assert BYTES.decode([grade_of(example, 0, BYTES).tokens[-1]]) == "2"
    assert BYTES.decode([grade_of(example, 1, BYTES).tokens[-1]]) == "4"


class _Words:
    """Pieces of a tokenizer in which yes and no are one token each."""

    tools = TokenizerTools(make_byte_tokenizer(labels=("yes", "no")), context_tokens=4096)


@pytest.mark.parametrize(
    ("grades", "wanted"), [((3, 2, 1, 0), ["yes", "yes", "no", "no"]), ((1, 0), ["yes", "no"]), ((0, 0), ["no", "no"])]
)
def test_yes_is_right_for_the_upper_half_of_the_grades(grades: tuple[float, ...], wanted: list[str]) -> None:
    tools = _Words.tools
    found = [grade_of(graded(*grades), place, tools, scale="yes_no") for place in range(len(grades))]
    assert [tools.decode([sequence.tokens[-1]]) for sequence in found] == wanted
    assert {sequence.steps[0].in_play for sequence in found} == {
        tuple(tools.spell(a, after="")[0] for a in ("no", "yes"))
    }


@pytest.mark.parametrize("domain", ["passage", "recommendation", "routing"])
@pytest.mark.parametrize("style", ["compact", "natural"])
def test_the_prompt_of_a_grade_is_the_one_that_the_strategy_sends(
    tools: TokenizerTools, style: str, domain: str
) -> None:
    used = tools if style == "compact" else BYTES
    made = make_list(random.Random(1), id="1")
    example = RankingExample(
        "1", made.query, made.candidates, domain=domain, context=made.context, relevance=made.relevance
    )
    strategy = pointwise(used, style=style, domain=domain)
    requests = next(strategy.rank(example))
    # The one label that serving shows.
    labels = choose_labels(1, used)
    for place, request in enumerate(requests):
        sequence = grade_of(example, place, used, labels=labels, style=style)
        assert list(sequence.tokens[: sequence.prompt_length]) == used.prompt_ids(
            request.messages, request.reply_prefix
        )


def test_labels_of_a_template_that_shows_one_are_drawn_at_random(tools: TokenizerTools) -> None:
    example = graded(1, 0)
    known = set(tools.tokenizer.convert_tokens_to_ids(list(tools.labels)))
    shown = Counter(
        token
        for seed in range(60)
        for token in grade_of(example, 0, tools, labels=tools.labels, seed=seed, style="compact").tokens
        if token in known
    )
    assert sum(shown.values()) == 60
    assert len(shown) > 15
    one, same = (grade_of(example, 0, tools, labels=tools.labels, seed=3, style="compact") for _ in range(2))
    assert one == same


def test_a_grade_of_several_tokens_is_refused() -> None:
    with pytest.raises(RecipeError, match="'10' is 2 tokens"):
        grade_of(graded(1, 0), 0, BYTES, top_grade=10)


def test_a_prompt_of_a_grade_keeps_to_the_budget() -> None:
    long = RankingExample("l", "q", (Candidate("a", "river castle " * 60), Candidate("b", "b")), relevance={"a": 1.0})
    template = writer_for(BYTES, method="pointwise", style="natural").template
    whole = len(grade_of(long, 0, BYTES, end=1).tokens)
    writer = PromptWriter(template, BYTES, 600)
    cut = encode_grade(
        long,
        long.candidates[0],
        strategy=Pointwise(writer=writer),
        tools=BYTES,
        labels=("A",),
        rng=random.Random(0),
        end=1,
    )
    assert len(cut.tokens) <= 600 < whole


GRADES = [(0, 2, 1, 0), (1, 1, 0), (0.25, 0.75, 0.75, 0), (3, 2, 1)]


@pytest.mark.parametrize("grades", GRADES, ids=str)
@pytest.mark.parametrize("seed", range(4))
def test_setwise_teaches_one_label_of_which_any_of_the_best_is_right(
    tools: TokenizerTools, grades: tuple[float, ...], seed: int
) -> None:
    sequence = encoded(graded(*grades), tools, method="setwise", seed=seed)
    found = {sequence.tokens[place]: grade for place, grade in sequence.candidates}
    assert sorted(found.values()) == sorted(grades)
    reply = sequence.tokens[sequence.prompt_length :]
    end = tools.tokenizer.eos_token_id
    assert len(reply) == 2
    assert reply[-1] == end
    assert found[reply[0]] == max(grades)
    (step,) = sequence.steps
    assert step.position == sequence.prompt_length - 1
    assert set(step.in_play) == set(found)
    assert set(step.right) == {token for token, grade in found.items() if grade == max(grades)}
    assert sequence.hard == ((sequence.prompt_length, end),)


def test_setwise_of_equals_teaches_nothing_but_the_end(tools: TokenizerTools) -> None:
    sequence = encoded(graded(1, 1, 1), tools, method="setwise")
    assert sequence.steps == ()
    assert len(sequence.hard) == 1


@pytest.mark.parametrize("style", ["compact", "natural"])
def test_the_prompt_of_a_set_is_the_one_that_the_strategy_sends(tools: TokenizerTools, style: str) -> None:
    used = tools if style == "compact" else BYTES
    example = graded(0, 2, 1, 0)
    labels = used.labels or choose_labels(4, used)
    sequence = encoded(example, used, method="setwise", style=style, labels=labels)
    # The labels in the order in which they are shown, and who stands under each.
    prompt = sequence.tokens[: sequence.prompt_length]
    text = used.decode(prompt)
    order = sorted(example.candidates, key=lambda candidate: text.index(candidate.text))
    if style == "compact":
        shown = [used.decode([sequence.tokens[place]]).strip() for place, _ in sequence.candidates]
    else:
        shown = [text[text.index(candidate.text) - 3] for candidate in order]
    # Served with these labels, first to last.
    served = TokenizerTools(used.tokenizer, context_tokens=used.context_tokens, labels=tuple(shown))
    strategy = Setwise(writer=writer_for(served, method="setwise", style=style))
    (request,) = next(strategy.rank(example.with_candidates(tuple(order))))
    assert served.prompt_ids(request.messages, request.reply_prefix) == list(prompt)


def test_no_separator_follows_the_one_label_of_a_set() -> None:
    sequence = encoded(graded(0, 2, 1), BYTES, method="setwise", style="natural", labels=("A", "B", "C"))
    reply = BYTES.decode(sequence.tokens[sequence.prompt_length :])
    assert reply[0] in "ABC"
    assert reply[1:] == "<|im_end|>"
    without = encode(
        graded(0, 2, 1),
        method="setwise",
        writer=writer_for(BYTES, method="setwise", style="natural"),
        tools=BYTES,
        labels=("A", "B", "C"),
        rng=random.Random(0),
        end=None,
    )
    assert len(without.tokens) == without.prompt_length + 1
    assert without.hard == ()


def test_a_grade_of_a_random_candidate_spans_the_scale(tools: TokenizerTools) -> None:
    example = graded(4, 3, 2, 1, 0)
    assert [whole_grade(example, candidate.id, top=4) for candidate in example.candidates] == [4, 3, 2, 1, 0]
    tokens = [grade_of(example, place, tools, labels=("<1>",), style="compact").tokens[-1] for place in range(5)]
    assert [tools.decode([token]).strip() for token in tokens] == ["4", "3", "2", "1", "0"]
