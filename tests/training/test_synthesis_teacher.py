"""What a teacher is asked, what it costs, and what is noted of its replies."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Coroutine, Iterator, Sequence
from concurrent.futures import Future
from typing import Any, TypeVar

import pytest
from scripted_teachers import (
    alone_in,
    bare,
    best_first,
    is_order,
    sent,
    setting_of,
    shown_in,
    teacher_of,
    thinks,
    thought_of,
    worst_first,
)
from toy_tasks import toy_list

from unified_ranker.backends import WordTools
from unified_ranker.backends.loop_thread import LoopThread
from unified_ranker.exchange import Completion, Request
from unified_ranker.model_settings import ModelSettings
from unified_ranker.schema.jsonl import example_from_dict
from unified_ranker.schema.types import Candidate, RankingExample
from unified_ranker.training.synthesis.run import plan
from unified_ranker.training.synthesis.teacher import Cost, Teacher

T = TypeVar("T")
GRADES = (0, 3, 1, 4, 2)
TASKS = ("passage-5", "movie", "router-cost")


def lists_of(task: str = "passage-5") -> list[RankingExample]:
    return [toy_list(f"{task}-{n}", grades, task=task) for n, grades in enumerate([GRADES, (2, 0), (1, 0, 4)])]


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("style", ["natural", "compact"])
@pytest.mark.parametrize("reasoning", [True, False])
def test_grades_orders_and_thoughts_arrive_as_they_were_said(task: str, style: str, reasoning: bool) -> None:
    setting = setting_of(tasks=(task,), reasoning=reasoning)
    teacher, backend = teacher_of(thinks() if reasoning else bare(), setting, style=style)
    (record,) = teacher.ask([toy_list("list", GRADES, task=task)])
    assert record["id"] == "list"
    assert example_from_dict(record["example"], where="record") == toy_list("list", GRADES, task=task)
    assert {name: said["grade"] for name, said in record["grades"].items()} == {
        "c0": 0, "c1": 3, "c2": 1, "c3": 4, "c4": 2
    }  # fmt: skip
    (order,) = record["orders"]
    assert order["ids"] == ["c3", "c1", "c4", "c2", "c0"]
    assert order["labels"] == {"A": "c0", "B": "c1", "C": "c2", "D": "c3", "E": "c4"}
    assert {order["outcome"], *(said["outcome"] for said in record["grades"].values())} == {"ok"}
    # Each thought under the candidate that it was about.
    thoughts = {alone_in(p)[1]: thought_of(p) for p in prompts(backend.requests) if not is_order(p)}
    (about,) = [thought_of(p) for p in prompts(backend.requests) if is_order(p)]
    assert len(thoughts) == 5
    assert {name: said["reasoning"] for name, said in record["grades"].items()} == (
        thoughts if reasoning else dict.fromkeys(thoughts, "")
    )
    assert order["reasoning"] == (about if reasoning else "")


def prompts(requests: Sequence[Request]) -> list[str]:
    return [request.messages[-1].content for request in requests]


def test_each_candidate_is_graded_once_and_the_list_ordered_as_often_as_the_setting_says() -> None:
    setting = setting_of(samples=3, temperature=0.7, seed=11, max_tokens=99, top_grade=9)
    teacher, backend = teacher_of(thinks(), setting)
    (record,) = teacher.ask([toy_list("list", GRADES)])
    orders = [r for r in backend.requests if is_order(r.messages[-1].content)]
    grades = [r for r in backend.requests if not is_order(r.messages[-1].content)]
    assert sorted(alone_in(request.messages[-1].content)[1] for request in grades) == ["c0", "c1", "c2", "c3", "c4"]
    # The same question with another seed, or it would be the same reply.
    assert [request.seed for request in orders] == [11, 12, 13]
    assert len({request.messages for request in orders}) == 1
    assert {request.seed for request in grades} == {11}
    assert {(request.temperature, request.max_tokens) for request in backend.requests} == {(0.7, 99)}
    assert all("to 9 (as well as can be)" in request.messages[-1].content for request in grades)
    assert len(record["orders"]) == 3
    assert record["usage"]["calls"] == len(backend.requests) == 8


def test_the_tokens_of_a_record_are_those_of_its_calls() -> None:
    teacher, backend = teacher_of(
        lambda request: Completion(
            thinks()(request), prompt_tokens=len(request.messages[-1].content), generated_tokens=7
        )
    )
    records = list(teacher.ask(lists_of()))
    sizes = [len(request.messages[-1].content) for request in backend.requests]
    assert [record["usage"]["calls"] for record in records] == [6, 3, 4]
    assert sum(record["usage"]["prompt_tokens"] for record in records) == sum(sizes)
    assert [record["usage"]["generated_tokens"] for record in records] == [42, 21, 28]


def test_a_contradictory_teacher_is_noted_as_it_is() -> None:
    teacher, _ = teacher_of(thinks(order=worst_first, grade=lambda grade: str(4 - grade)))
    (record,) = teacher.ask([toy_list("list", (0, 3, 1))])
    assert record["orders"][0]["ids"] == ["c0", "c2", "c1"]
    assert [said["grade"] for said in record["grades"].values()] == [4, 1, 3]


@pytest.mark.parametrize(
    ("reply", "grade", "outcome"),
    [
        ("<think>t</think><answer>3</answer>", 3, "ok"),
        ("  <think> t </think>\n<answer> 3 </answer>\n", 3, "ok"),
        ("<think></think><answer>0</answer>", 0, "ok"),
        ("<think>t</think><answer>[3]</answer>", 3, "repaired"),
        ("<think>t</think><answer>grade: 3</answer>", 3, "repaired"),
        ("<think>t</think><answer>3", 3, "repaired"),
        ("<answer>3</answer>", 3, "repaired"),
        ("Sure! <think>t</think><answer>3</answer>", 3, "repaired"),
        ("<think>t</think><answer>5</answer>", None, "failed"),
        ("<think>t</think><answer>-1</answer>", None, "failed"),
        ("<think>t</think><answer>2 or 3</answer>", None, "failed"),
        ("<think>t</think><answer></answer>", None, "failed"),
        ("<think>and so on, and so", None, "failed"),
        ("I cannot help with that.", None, "failed"),
        ("", None, "failed"),
    ],
)
def test_a_grade_is_read_or_none_and_never_guessed(reply: str, grade: int | None, outcome: str) -> None:
    teacher, _ = teacher_of(lambda request: reply)
    (record,) = teacher.ask([toy_list("list", (0, 3, 1))])
    found = {(said["grade"], said["outcome"]) for said in record["grades"].values()}
    assert found == {(grade, outcome)}


def test_grades_that_could_be_read_stand_beside_those_that_could_not() -> None:
    # The failed ones are below 0 in the ranking, more than one of them, and equal grades differ in the last place.
    teacher, _ = teacher_of(thinks(grade=lambda grade: "?" if grade in (1, 3) else str(grade)))
    (record,) = teacher.ask([toy_list("list", (3, 0, 1, 4, 0, 4, 1, 0))])
    assert [record["grades"][f"c{n}"]["grade"] for n in range(8)] == [None, 0, None, 4, 0, 4, None, 0]


@pytest.mark.parametrize("grade", [0, 4, 10])
def test_many_equal_grades_stay_equal(grade: int) -> None:
    teacher, _ = teacher_of(thinks(grade=lambda _: str(grade)), setting_of(top_grade=10))
    (record,) = teacher.ask([toy_list("list", range(20))])
    assert {said["grade"] for said in record["grades"].values()} == {grade}


@pytest.mark.parametrize(
    ("answer", "ids", "outcome"),
    [
        ("C > A > B", ["c2", "c0", "c1"], "ok"),
        ("C,A,B", ["c2", "c0", "c1"], "ok"),
        ("[C] > [A] > [B]", ["c2", "c0", "c1"], "ok"),
        ("C > A", ["c2", "c0", "c1"], "repaired"),
        ("C > A > B > C", ["c2", "c0", "c1"], "repaired"),
        ("C > A > B > D", ["c2", "c0", "c1"], "repaired"),
        ("c > a > b", ["c2", "c0", "c1"], "repaired"),
        ("I do not know", ["c0", "c1", "c2"], "failed"),
        ("", ["c0", "c1", "c2"], "failed"),
    ],
)
def test_an_order_is_whole_or_noted_as_repaired(answer: str, ids: list[str], outcome: str) -> None:
    teacher, _ = teacher_of(thinks(order=lambda shown: answer))
    (record,) = teacher.ask([toy_list("list", (0, 3, 1))])
    (order,) = record["orders"]
    assert order["outcome"] == outcome
    assert order["ids"] == ids


@pytest.mark.parametrize("reasoning", [True, False])
@pytest.mark.parametrize("style", ["natural", "compact"])
@pytest.mark.parametrize("task", TASKS)
def test_the_cost_before_is_the_cost_after(task: str, style: str, reasoning: bool) -> None:
    setting = setting_of(tasks=(task,), reasoning=reasoning, samples=2, temperature=1.0, max_tokens=60)
    teacher, backend = teacher_of(thinks() if reasoning else bare(), setting, style=style)
    before = plan(setting, teacher, lists_of(task))
    assert backend.requests == []
    records = list(teacher.ask(lists_of(task)))
    assert before.lists == 3
    assert before.calls == len(backend.requests) == 10 + 3 * 2
    assert before.prompt_tokens == sum(record["usage"]["prompt_tokens"] for record in records)
    assert before.prompt_tokens == sum(backend.text.count_prompt(request.messages) for request in backend.requests)
    # The bound is what the server is allowed to write.
    assert before.reply_tokens == sum(request.max_tokens for request in backend.requests)
    assert before.reply_tokens >= sum(record["usage"]["generated_tokens"] for record in records)


def test_a_teacher_that_fails_costs_no_more_than_was_said() -> None:
    teacher, backend = teacher_of(lambda request: "no idea")
    before = plan(teacher.setting, teacher, lists_of())
    list(teacher.ask(lists_of()))
    assert before.calls == len(backend.requests)


def test_costs_add_up() -> None:
    assert Cost(1, 2, 3, 4) + Cost(10, 20, 30, 40) == Cost(11, 22, 33, 44)
    teacher, _ = teacher_of(thinks())
    assert plan(teacher.setting, teacher, []) == Cost()
    assert plan(teacher.setting, teacher, lists_of()) == sum(map(teacher.cost, lists_of()), Cost())


def test_prompts_that_have_to_be_cut_cost_what_they_then_have() -> None:
    long = RankingExample(
        "long", "q", tuple(Candidate(f"c{n}", f"grade {n} of place 0{n} " + "word " * 90) for n in range(4))
    )
    teacher, backend = teacher_of(thinks(), setting_of(max_tokens=50), text=WordTools(context_tokens=240))
    before = teacher.cost(long)
    list(teacher.ask([long]))
    sizes = [backend.text.count_prompt(request.messages) for request in backend.requests]
    assert before.prompt_tokens == sum(sizes)
    assert max(sizes) <= 190 < 4 * 94


@pytest.mark.parametrize("style", ["natural", "compact"])
@pytest.mark.parametrize("task", TASKS)
def test_prompts_are_written_again_as_they_were_asked(task: str, style: str) -> None:
    setting = setting_of(tasks=(task,), max_tokens=40)
    teacher, backend = teacher_of(thinks(), setting, style=style, text=WordTools(context_tokens=260))
    examples = lists_of(task)
    for example in examples:
        backend.requests.clear()
        list(teacher.ask([example]))
        asked = sent(backend.requests)
        again = [teacher.messages(example), *(teacher.messages(example, c.id) for c in example.candidates)]
        assert len(asked) == len(again)
        assert all(messages in asked for messages in again)
        assert is_order(teacher.messages(example)[-1]["content"])
        for candidate in example.candidates:
            assert alone_in(teacher.messages(example, candidate.id)[-1]["content"])[1] == candidate.id


def test_the_models_own_labels_and_budget_are_used_and_its_style_and_options_are_not() -> None:
    own = ModelSettings(
        method="iranker", style="compact", token_budget=300, labels=("<1>", "<2>", "<3>"), options={"layout": "append"}
    )
    _, backend = teacher_of(thinks(), text=WordTools(labels=own.labels))
    teacher = Teacher(backend, setting_of(max_tokens=20), settings=own)
    prompt = teacher.messages(toy_list("list", (0, 3, 1)))[-1]["content"]
    assert "[<2>] grade 3 of place 01" in prompt
    long = RankingExample("long", "q", tuple(Candidate(f"c{n}", "word " * 300) for n in range(3)))
    sizes = [sum(len(entry["content"].split()) for entry in teacher.messages(long, name)) for name in (None, "c0")]
    assert all(size <= 280 for size in sizes)


def test_the_separator_is_that_of_the_template() -> None:
    example = toy_list("list", (0, 1))
    assert teacher_of(thinks())[0].separator(example) == " > "
    assert teacher_of(thinks(), style="compact")[0].separator(example) == ""


@pytest.mark.parametrize("concurrency", [1, 2, 64])
def test_records_come_in_the_order_of_the_lists(concurrency: int) -> None:
    examples = [toy_list(f"list-{n}", (0,) * (n % 4 + 1) + (1,)) for n in range(9)]
    teacher, backend = teacher_of(thinks())
    records = list(teacher.ask(iter(examples), concurrency=concurrency))
    assert [record["id"] for record in records] == [example.id for example in examples]
    assert [len(record["grades"]) for record in records] == [len(example.candidates) for example in examples]
    assert len(backend.requests) == sum(len(example.candidates) + 1 for example in examples)


class Asynchronous:
    """Answers each request after a pause that differs from prompt to prompt."""

    patterns = False

    def __init__(self) -> None:
        self.text = WordTools()
        self.thread = LoopThread("teacher")

    def generate(self, requests: Sequence[Request]) -> list[Completion]:
        raise AssertionError("an asynchronous backend is asked one by one")

    def forget(self, sessions: Collection[str]) -> None:
        pass

    def submit(self, work: Coroutine[Any, Any, T]) -> Future[T]:
        return self.thread.submit(work)

    async def ask(self, requests: Sequence[Request]) -> list[Completion]:
        found = []
        for request in requests:
            await asyncio.sleep(len(request.messages[-1].content) % 3 / 1000)
            tokens = self.text.count_prompt(request.messages)
            text = thinks()(request)
            found.append(Completion(text, prompt_tokens=tokens, generated_tokens=self.text.count(text)))
        return found


@pytest.fixture
def asynchronous() -> Iterator[Asynchronous]:
    backend = Asynchronous()
    yield backend
    backend.thread.close()


def test_a_server_that_answers_at_its_own_pace_gives_the_same_records(asynchronous: Asynchronous) -> None:
    setting = setting_of(samples=2, temperature=0.5)
    wanted = list(teacher_of(thinks(), setting)[0].ask(lists_of()))
    assert list(Teacher(asynchronous, setting).ask(lists_of(), concurrency=2)) == wanted


def test_the_helpers_read_what_is_shown() -> None:
    teacher, _ = teacher_of(thinks())
    assert shown_in(teacher.messages(toy_list("list", (0, 3)))[-1]["content"]) == {"A": (0, "c0"), "B": (3, "c1")}
    teacher, _ = teacher_of(thinks(), style="compact")
    assert shown_in(teacher.messages(toy_list("list", (0, 3)))[-1]["content"]) == {"A": (0, "c0"), "B": (3, "c1")}
    assert best_first({"A": 0, "B": 3}) == "B > A"
