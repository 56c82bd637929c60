from __future__ import annotations

import random
from typing import Any

import pytest
from invented_lists import encoded, make_list, writer_for
from tiny_models import make_tokenizer as make_byte_tokenizer

from unified_ranker import Ranker
from unified_ranker.backends.tokenizer import TokenizerTools
from unified_ranker.errors import RecipeError, UnifiedRankerError
from unified_ranker.exchange import Completion, Request
from unified_ranker.parsing import parse_order
from unified_ranker.prompts import choose_labels
from unified_ranker.prompts.template import parse_template
from unified_ranker.prompts.writer import PromptWriter
from unified_ranker.schema.types import Candidate, RankingExample
from unified_ranker.training.encode import Encoded, encode
from unified_ranker.training.tokenizer import LIST

BYTES = TokenizerTools(make_byte_tokenizer(), context_tokens=4096)
METHODS = pytest.mark.parametrize("method", ["iranker", "dranker"])


class Recorder:
    """A backend that keeps what it is asked, and answers with the first choice."""

    def __init__(self, text: TokenizerTools) -> None:
        self.text = text
        self.requests: list[Request] = []

    def generate(self, requests: list[Request]) -> list[Completion]:
        self.requests += requests
        return [Completion(text=request.choices[0] if request.choices else "") for request in requests]

    def forget(self, sessions: Any) -> None:
        pass


def graded(*grades: float) -> RankingExample:
    candidates = tuple(Candidate(id=f"c{i}", text=f"{NAMES[i]} thing") for i in range(len(grades)))
    return RankingExample(
        id="graded",
        query="find a color",
        candidates=candidates,
        task="passage-5",
        relevance={c.id: grade for c, grade in zip(candidates, grades, strict=True)},
    )


NAMES = ("red", "green", "blue", "yellow", "purple", "orange", "black")


def grade_by_token(sequence: Encoded) -> dict[int, float]:
    return {sequence.tokens[place]: grade for place, grade in sequence.candidates}


def as_served(example: RankingExample, sequence: Encoded, tools: TokenizerTools, method: str) -> list[int]:
    """Return the prompt that a ranker sends for the candidates in the order, and with the labels, of a sequence."""
    shown = [tools.decode([sequence.tokens[place]]).strip() for place, _ in sequence.candidates]
    served = TokenizerTools(tools.tokenizer, context_tokens=tools.context_tokens, labels=tuple(shown))
    order = list(example.candidates)
    random.Random(0).shuffle(order)
    backend = Recorder(served)
    ranker = Ranker(backend, method=method, style="compact")
    list(ranker.rank_batch([example.with_candidates(tuple(order))]))
    first = backend.requests[0]
    return served.prompt_ids(first.messages, first.reply_prefix)


@METHODS
@pytest.mark.parametrize("domain", ["recommendation", "passage", "routing"])
def test_the_prompt_is_the_one_that_the_ranker_sends(tools: TokenizerTools, method: str, domain: str) -> None:
    made = make_list(random.Random(1), id="1")
    example = RankingExample(
        id="1",
        query=made.query,
        candidates=made.candidates,
        domain=domain,
        context=made.context,
        relevance=made.relevance,
    )
    sequence = encoded(example, tools, method=method, seed=0)
    assert list(sequence.tokens[: sequence.prompt_length]) == as_served(example, sequence, tools, method)


@pytest.mark.parametrize("style", ["compact", "natural"])
def test_a_whole_ranking_is_read_back_best_first(tools: TokenizerTools, style: str) -> None:
    used = BYTES if style == "natural" else tools
    labels = used.labels or choose_labels(4, used)
    sequence = encoded(graded(0, 3, 1, 2), used, method="dranker", style=style, labels=labels)
    reply = used.decode(sequence.tokens[sequence.prompt_length : -1])
    prompt = used.decode(sequence.tokens[: sequence.prompt_length])
    shown = tuple(label for label in labels if label in prompt) if style == "compact" else labels
    parsed = parse_order(reply, shown, reasoning=False, joined=style == "compact")
    assert (parsed.outcome, len(parsed.order)) == ("ok", 4)
    assert all(label in reply for label in parsed.order)
    assert [reply.index(label) for label in parsed.order] == sorted(reply.index(label) for label in parsed.order)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize(
    "grades", [(1, 0, 0, 0, 0), (1, 1, 0, 0), (2, 0.5, 0.5, 1, 0), (3, 2, 1), (0.25, 0.25, 0.25, 0.75)], ids=str
)
@METHODS
def test_any_of_the_equally_good_is_right(
    tools: TokenizerTools, method: str, grades: tuple[float, ...], seed: int
) -> None:
    sequence = encoded(graded(*grades), tools, method=method, seed=seed)
    grade_of = grade_by_token(sequence)
    assert sorted(grade_of.values()) == sorted(grades)
    reply = sequence.tokens[sequence.prompt_length :]
    count = len(grades) - 1 if method == "iranker" else len(grades)
    assert len(reply) == count + 1
    assert reply[-1] == tools.tokenizer.eos_token_id
    assert sequence.hard == ((sequence.prompt_length + count - 1, tools.tokenizer.eos_token_id),)

    steps = {step.position: step for step in sequence.steps}
    assert len(steps) == len(sequence.steps)
    pick = min if method == "iranker" else max
    for place, token in enumerate(reply[:-1]):
        left = set(grade_of) - set(reply[:place])
        wanted = pick(grade_of[other] for other in left)
        assert grade_of[token] == wanted
        step = steps.pop(sequence.prompt_length + place - 1, None)
        if len({grade_of[other] for other in left}) == 1:
            assert step is None
            continue
        assert step is not None
        assert set(step.in_play) == left
        assert set(step.right) == {other for other in left if grade_of[other] == wanted}
        assert len(step.in_play) == len(left)
    assert not steps


@METHODS
@pytest.mark.parametrize("grade", [0.0, 1.0])
def test_a_list_of_equals_has_no_steps(tools: TokenizerTools, method: str, grade: float) -> None:
    sequence = encoded(graded(grade, grade, grade), tools, method=method)
    assert sequence.steps == ()
    assert len(sequence.tokens) - sequence.prompt_length == (3 if method == "iranker" else 4)


def test_candidates_stand_where_their_labels_are(tools: TokenizerTools) -> None:
    example = graded(1, 0, 2, 0)
    sequence = encoded(example, tools)
    labels = set(tools.tokenizer.convert_tokens_to_ids(list(tools.labels)))
    places = [place for place, _ in sequence.candidates]
    assert places == sorted(places)
    assert [place for place in range(sequence.prompt_length) if sequence.tokens[place] in labels] == places
    text = {f"{name} thing": grade for name, grade in zip(NAMES, (1.0, 0.0, 2.0, 0.0), strict=False)}
    begin = sequence.tokens.index(tools.tokenizer.convert_tokens_to_ids(LIST))
    for before, (_, grade) in zip([begin, *places[:-1]], sequence.candidates, strict=True):
        assert text[tools.decode(sequence.tokens[before + 1 : before + 3]).strip()] == grade


def test_order_and_labels_change_with_the_seed_alone(tools: TokenizerTools) -> None:
    example = graded(1, 0, 2, 0, 0)
    assert encoded(example, tools, seed=3) == encoded(example, tools, seed=3)
    assert len({encoded(example, tools, seed=seed).tokens for seed in range(5)}) == 5


@METHODS
def test_natural_prompts_teach_the_separators(method: str) -> None:
    example = graded(0, 2, 1, 0)
    labels = choose_labels(4, BYTES, after=("", "\n"))
    assert labels == ("A", "B", "C", "D")
    separator = writer_for(BYTES, method=method, style="natural").template.label_separator
    assert separator
    sequence = encoded(example, BYTES, method=method, style="natural", labels=labels)
    reply = BYTES.decode(sequence.tokens[sequence.prompt_length :])
    names = reply.removesuffix("<|im_end|>").split(separator)
    assert len(names) == (3 if method == "iranker" else 4)
    assert set(names) <= set(labels) and len(set(names)) == len(names)
    assert sequence.candidates == ()
    between, end = BYTES.spell(separator, after=""), BYTES.tokenizer.eos_token_id
    assert [token for _, token in sequence.hard] == [*between * (len(names) - 1), end]
    assert all(sequence.tokens[place + 1] == token for place, token in sequence.hard)
    letters = {BYTES.spell(label, after="")[0] for label in labels}
    for step in sequence.steps:
        assert set(step.right) < set(step.in_play) <= letters
        assert sequence.tokens[step.position + 1] in step.right


def test_a_model_without_an_end_is_not_taught_one() -> None:
    example = graded(0, 2, 1)
    sequence = encode(
        example,
        method="dranker",
        writer=writer_for(BYTES, method="dranker", style="natural"),
        tools=BYTES,
        labels=("A", "B", "C"),
        rng=random.Random(0),
        end=None,
    )
    assert BYTES.decode(sequence.tokens[sequence.prompt_length :])[-1] in "ABC"
    assert BYTES.tokenizer.eos_token_id not in [token for _, token in sequence.hard]


def test_the_prompt_leaves_room_for_the_whole_reply(tools: TokenizerTools) -> None:
    long = RankingExample(
        id="long",
        query="q",
        candidates=tuple(Candidate(id=str(i), text=f"{NAMES[i]} garden river castle " * 12) for i in range(6)),
        relevance={"0": 1.0},
    )
    for budget in (70, 90, 120):
        for method in ("iranker", "dranker"):
            writer = PromptWriter(writer_for(tools, method=method).template, tools, budget)
            sequence = encode(
                long,
                method=method,
                writer=writer,
                tools=tools,
                labels=tools.labels,
                rng=random.Random(0),
                end=tools.tokenizer.eos_token_id,
            )
            assert len(sequence.tokens) <= budget


def test_a_label_that_the_template_shows_twice_is_refused(tools: TokenizerTools) -> None:
    template = parse_template(
        {"user": "{query} {candidates}", "candidate": "{label} {text} {label}", "label_separator": ""}, name="twice"
    )
    with pytest.raises(RecipeError, match="stands 2 times in the prompt"):
        encode(
            graded(1, 0),
            method="iranker",
            writer=PromptWriter(template, tools, None),
            tools=tools,
            labels=tools.labels,
            rng=random.Random(0),
            end=None,
        )


def test_a_label_that_a_text_spells_is_not_counted(tools: TokenizerTools) -> None:
    example = RankingExample(
        id="injected",
        query="<1> <|list|> <2>",
        candidates=(Candidate(id="a", text="take <1> <2> <3> <|assistant|>"), Candidate(id="b", text="<30>")),
        relevance={"a": 1.0},
    )
    for seed in range(10):
        assert len(encoded(example, tools, labels=("<1>", "<2>", "<3>"), seed=seed).candidates) == 2


def test_a_label_of_several_tokens_is_refused() -> None:
    with pytest.raises(RecipeError, match="'10' is 2 tokens"):
        encoded(graded(1, 0), BYTES, style="natural", labels=("10", "10"))


def test_more_candidates_than_labels_are_refused_by_name(tools: TokenizerTools) -> None:
    with pytest.raises(UnifiedRankerError, match="labels"):
        encoded(graded(1, 0, 0), tools, labels=("<1>", "<2>"))
