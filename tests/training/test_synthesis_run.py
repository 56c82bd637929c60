"""A synthesis from end to end: stopped and started again, with other options, and what it says of its cost."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from scripted_teachers import (
    is_order,
    said_in,
    sent,
    setting_of,
    silent,
    talks_in,
    teacher_of,
    thinks,
    worst_first,
)
from toy_tasks import build_toy
from unified_ranker.tasks.build import read_split

from unified_ranker.backends import WordTools
from unified_ranker.errors import BackendError, DataError, MissingSourceError, PromptTooLongError
from unified_ranker.exchange import Request
from unified_ranker.schema.parquet import write_parquet
from unified_ranker.schema.types import Candidate, RankingExample
from unified_ranker.training.synthesis import run as module
from unified_ranker.training.synthesis.run import lists_of, plan, priced, run
from unified_ranker.training.synthesis.teacher import Cost

LISTS = [(0, 3, 1), (2, 0), (1, 0, 4, 0), (0, 2), (3, 0, 1)]
CALLS = [len(grades) + 1 for grades in LISTS]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("built")
    # The last list is one of equals, which teaches nothing and is not asked about.
    return build_toy(folder, "passage-5", train=[*LISTS, (1, 1)], test=[(0, 1)])


@pytest.fixture
def data(built: Path) -> Path:
    return built


def start(
    script: Callable[[Request], str],
    data: Path,
    out: Path,
    *,
    concurrency: int = 1,
    style: str = "natural",
    text: WordTools | None = None,
    prices: tuple[float | None, float | None] = (None, None),
    **changes: Any,
) -> tuple[dict[str, Any], list[Request], list[str]]:
    """Run a synthesis; return its summary, what was asked, and what was said on the way."""
    setting, said = setting_of(**changes), list[str]()
    teacher, backend = teacher_of(script, setting, style=style, text=text or WordTools())
    prompt, reply = prices
    summary = run(
        setting,
        teacher,
        data=data,
        out=out,
        concurrency=concurrency,
        prompt_price=prompt,
        reply_price=reply,
        say=said.append,
    )
    return summary, backend.requests, said


def dying(lists: int, error: type[BaseException], *, at_order: bool = False) -> Callable[[Request], str]:
    """Return a teacher that fails at the list after so many."""

    def reply(request: Request) -> str:
        prompt = request.messages[-1].content
        if f"query of train{lists}\n" in prompt and (is_order(prompt) or not at_order):
            raise error("the power is gone")
        return thinks()(request)

    return reply


@pytest.fixture(scope="module")
def finished(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a run of a contradictory teacher."""
    out = tmp_path_factory.mktemp("finished") / "out"
    start(thinks(order=worst_first), built, out)
    return out


@pytest.fixture(scope="module")
def whole(built: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Request]]:
    """Return the folder of a run of a perfect teacher, and what was asked."""
    out = tmp_path_factory.mktemp("whole") / "out"
    return out, start(thinks(), built, out)[1]


def files_of(out: Path) -> dict[str, bytes]:
    return {str(path.relative_to(out)): path.read_bytes() for path in sorted(out.rglob("*")) if path.is_file()}


@pytest.mark.parametrize(
    ("lists", "at_order", "error"),
    [(0, False, BackendError), (3, False, BackendError), (3, True, BackendError), (4, True, KeyboardInterrupt)],
)
def test_a_run_that_was_killed_goes_on_and_asks_only_for_what_is_missing(
    data: Path,
    whole: tuple[Path, list[Request]],
    tmp_path: Path,
    lists: int,
    at_order: bool,
    error: type[BaseException],
) -> None:
    out = tmp_path / "out"
    with pytest.raises(error):
        start(dying(lists, error, at_order=at_order), data, out)
    assert list(said_in(out)) == [f"passage-5/train{n}" for n in range(lists)]
    _, asked, said = start(thinks(), data, out)
    assert len(asked) == sum(CALLS[lists:])
    assert sent(asked) == sent(whole[1])[-len(asked) :]
    assert said[0].startswith(f"to ask: {5 - lists} lists, {sum(CALLS[lists:])} calls")
    assert files_of(out) == files_of(whole[0])


def test_a_batch_that_dies_takes_no_finished_list_with_it(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with pytest.raises(BackendError):
        start(dying(4, BackendError, at_order=True), data, out, concurrency=2)
    there = list(said_in(out))
    assert there == [f"passage-5/train{n}" for n in range(len(there))]
    assert len(there) >= 2
    _, asked, _ = start(thinks(), data, out, concurrency=64)
    counts = Counter(entry.messages[-1].content.split("query of ")[1].split("\n")[0] for entry in asked)
    assert counts == {f"train{n}": CALLS[n] for n in range(len(there), 5)}
    assert list(said_in(out)) == [f"passage-5/train{n}" for n in range(5)]


def test_a_finished_run_asks_nothing_again(data: Path, tmp_path: Path) -> None:
    summary, _, _ = start(thinks(), data, tmp_path / "out")
    before = files_of(tmp_path / "out")
    again, asked, said = start(silent, data, tmp_path / "out")
    assert (again, asked) == (summary, [])
    assert said[0] == "to ask: 0 lists, 0 calls, 0 prompt tokens, at most 0 reply tokens"
    assert files_of(tmp_path / "out") == before


@pytest.mark.parametrize("missing", [1, 40, 600])
def test_a_last_line_that_was_cut_off_is_mended(
    data: Path, whole: tuple[Path, list[Request]], tmp_path: Path, missing: int
) -> None:
    out = shutil.copytree(whole[0], tmp_path / "out")
    before = files_of(out)
    path = out / "teacher.jsonl"
    last = path.read_bytes().splitlines(keepends=True)[-1]
    assert missing < len(last)
    path.write_bytes(path.read_bytes()[:-missing])
    _, asked, _ = start(thinks(), data, out)
    assert len(asked) == CALLS[-1]
    assert {"train4" in request.messages[-1].content for request in asked} == {True}
    assert files_of(out) == before


def test_a_cut_in_the_middle_of_a_letter_is_mended(tmp_path: Path) -> None:
    data, out = tmp_path / "data", tmp_path / "out"
    build_toy(data, "passage-5", train=[(0, 1), (1, 0)])
    start(lambda request: thinks()(request).replace("I see", "我看到\u2028é"), data, out)
    path = out / "teacher.jsonl"
    assert len(said_in_bytes(path)) == 2
    raw = path.read_bytes()
    path.write_bytes(raw[: raw.rfind("看".encode()) + 1])
    _, asked, _ = start(thinks(), data, out)
    assert len(asked) == 3
    assert [record["id"] for record in said_in_bytes(path)] == ["passage-5/train0", "passage-5/train1"]
    assert "我看到\u2028é" in talks_in(out)[0][-1]["content"]


def said_in_bytes(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_bytes().split(b"\n") if line]


def test_a_line_that_is_no_record_is_named(data: Path, tmp_path: Path) -> None:
    start(thinks(), data, tmp_path / "out")
    path = tmp_path / "out" / "teacher.jsonl"
    path.write_bytes(b"what is this\n" + path.read_bytes())
    with pytest.raises(DataError, match=r"teacher\.jsonl, row 1"):
        start(silent, data, tmp_path / "out")


def test_thoughts_that_no_file_can_hold_do_not_end_the_run(data: Path, tmp_path: Path) -> None:
    # UnicodeEncodeError, after the list was paid for, and every new start asks and ends at the same list.
    summary, _, _ = start(lambda request: thinks()(request).replace("I see", "I see \ud83d"), data, tmp_path / "out")
    assert summary["lists"] == 5


@pytest.mark.parametrize(
    "changes",
    [
        {"threshold": 0.99},
        {"threshold": 0.0},
        {"keep": "promoting"},
        {"methods": ("pointwise", "dranker")},
        {"validation": 0.5},
        {"limit": 2},
    ],
    ids=str,
)
def test_what_decides_only_what_is_kept_asks_nothing(
    data: Path, finished: Path, tmp_path: Path, changes: dict[str, Any]
) -> None:
    script = thinks(order=worst_first)
    shutil.copytree(finished, tmp_path / "out")
    there = (tmp_path / "out" / "teacher.jsonl").read_bytes()
    summary, asked, _ = start(silent, data, tmp_path / "out", **changes)
    fresh, _, _ = start(script, data, tmp_path / "fresh", **changes)
    assert asked == []
    assert summary == fresh
    assert (tmp_path / "out" / "teacher.jsonl").read_bytes() == there
    assert talks_in(tmp_path / "out") == talks_in(tmp_path / "fresh")
    for split in ("train", "validation"):
        one, other = (list(read_split(tmp_path / n / "lists", "passage-5", split)) for n in ("out", "fresh"))
        assert one == other


def test_another_threshold_keeps_other_lists(data: Path, finished: Path, tmp_path: Path) -> None:
    # nDCG@10 of the worst order of the teacher's own grades: (0, 3, 1) .54, (2, 0) .63, (1, 0, 4, 0) .50,
    # (0, 2) .63, (3, 0, 1) .54.
    out = shutil.copytree(finished, tmp_path / "out")
    kept = {limit: start(silent, data, out, threshold=limit)[0]["kept"] for limit in (0.4, 0.51, 0.6, 0.7)}
    assert kept == {0.4: 5, 0.51: 4, 0.6: 2, 0.7: 0}
    # And back again.
    assert start(silent, data, out)[0]["kept"] == 5


def test_more_lists_and_tasks_ask_for_themselves_alone(data: Path, tmp_path: Path) -> None:
    both = tmp_path / "data"
    shutil.copytree(data, both)
    build_toy(both, "movie", train=[(0, 1, 0)])
    out = tmp_path / "out"
    assert len(start(thinks(), both, out, limit=2)[1]) == sum(CALLS[:2])
    assert len(start(thinks(), both, out, limit=3)[1]) == CALLS[2]
    tasks = ("movie", "passage-5")
    summary, asked, _ = start(thinks(), both, out, limit=3, tasks=tasks)
    assert len(asked) == 4
    assert summary["lists"] == 4
    assert summary["usage"]["calls"] == sum(CALLS[:3]) + 4


def test_a_task_that_is_named_twice_is_asked_about_once(data: Path, tmp_path: Path) -> None:
    from unified_ranker.errors import OptionError

    try:
        summary, asked, _ = start(thinks(), data, tmp_path / "out", tasks=("passage-5", "passage-5"))
    except OptionError:
        return
    assert len(asked) == sum(CALLS)
    assert summary["lists"] == 5


ASKED: dict[str, Any] = {
    "samples": 2,
    "negatives": "hard",
    "top_grade": 9,
    "reasoning": False,
    "temperature": 0.5,
    "max_tokens": 77,
    "seed": 3,
}


@pytest.mark.parametrize("name", ASKED)
def test_what_decides_a_question_is_refused_for_a_folder_that_asked_otherwise(
    data: Path, finished: Path, tmp_path: Path, name: str
) -> None:
    out = tmp_path / "out"
    own: dict[str, Any] = {"temperature": 0.25} if name in ("samples", "temperature") else {}
    if own:
        start(thinks(), data, out, **own)
    else:
        shutil.copytree(finished, out)
    before = files_of(out)
    known = getattr(setting_of(**own), name)
    with pytest.raises(DataError) as refused:
        start(silent, data, out, **{**own, name: ASKED[name]})
    assert f"{name}={known!r}, not {ASKED[name]!r}" in str(refused.value)
    assert str(out) in str(refused.value)
    assert "--out" in str(refused.value)
    assert files_of(out) == before


def asked_or_refused(data: Path, out: Path, asked: list[Request], **options: Any) -> None:
    """Start again without asking; what is then taught has to be what was asked, unless the start is refused."""
    try:
        start(silent, data, out, **options)
    except DataError:
        return
    prompts = sent(asked)
    assert [talk[:-1] for talk in talks_in(out) if talk[:-1] not in prompts] == []


def test_another_style_is_refused_or_teaches_what_was_asked(data: Path, tmp_path: Path) -> None:
    # the new style's form that the teacher gave to the old one.
    _, asked, _ = start(thinks(), data, tmp_path / "out")
    asked_or_refused(data, tmp_path / "out", asked, style="compact")


def test_another_teacher_is_refused_or_teaches_what_was_asked(data: Path, tmp_path: Path) -> None:
    # replies still name the first one's ("B > A").
    _, asked, _ = start(thinks(), data, tmp_path / "out")
    asked_or_refused(data, tmp_path / "out", asked, text=WordTools(labels=("<1>", "<2>", "<3>", "<4>", "<5>")))


def test_a_smaller_context_is_refused_or_teaches_what_was_asked(tmp_path: Path) -> None:
    data, out = tmp_path / "data", tmp_path / "out"
    build_toy(data, "passage-5")
    long = [
        RankingExample(
            "long",
            "query of long",
            tuple(Candidate(f"c{n}", f"grade {n} of place 0{n} " + "word " * 80) for n in range(3)),
            task="passage-5",
            relevance={"c0": 0.0, "c1": 1.0, "c2": 2.0},
            split="train",
            group="long",
        )
    ]
    write_parquet(data / "passage-5" / "train.parquet", long)
    _, asked, _ = start(thinks(), data, out, max_tokens=60)
    asked_or_refused(data, out, asked, max_tokens=60, text=WordTools(context_tokens=250))


def test_a_start_that_asked_nothing_binds_nobody(data: Path, tmp_path: Path) -> None:
    # is told to choose another --out.
    text = WordTools(context_tokens=300)
    with pytest.raises(PromptTooLongError):
        start(silent, data, tmp_path / "out", text=text, max_tokens=2048)
    assert start(thinks(), data, tmp_path / "out", text=text, max_tokens=64)[0]["lists"] == 5


def test_a_task_that_is_not_built_is_named(data: Path, tmp_path: Path) -> None:
    with pytest.raises(MissingSourceError, match="movie"):
        start(silent, data, tmp_path / "out", tasks=("movie",))


def test_a_task_without_training_lists_is_named(tmp_path: Path) -> None:
    build_toy(tmp_path / "data", "passage-5", train=[(1, 1), (0, 0)], test=[(0, 1)])
    with pytest.raises(DataError, match="'passage-5' has no training lists"):
        start(silent, tmp_path / "data", tmp_path / "out")


def test_the_lists_are_the_first_of_each_task_with_ids_of_their_own(data: Path, tmp_path: Path) -> None:
    both = tmp_path / "data"
    shutil.copytree(data, both)
    build_toy(both, "movie", train=[(0, 1), (1, 0)])
    found = lists_of(setting_of(tasks=("movie", "passage-5"), limit=2), both)
    assert [example.id for example in found] == [
        "movie/train0", "movie/train1", "passage-5/train0", "passage-5/train1"
    ]  # fmt: skip
    assert len(lists_of(setting_of(tasks=("movie", "passage-5")), both)) == 7


def hard_data(folder: Path) -> Path:
    """Write lists whose queries share words with passages of other lists; relevance names relevant ones alone."""
    build_toy(folder, "passage-5")
    names = ("river", "castle", "engine")

    def passage(list_name: str, other: str) -> Candidate:
        number = names.index(list_name) * 3 + names.index(other)
        return Candidate(f"{list_name}-{other}", f"grade {number % 5} of place 0{number} {other}")

    lists = [
        RankingExample(
            name,
            f"query of {name}",
            tuple(passage(name, other) for other in names),
            task="passage-5",
            relevance={f"{name}-{name}": 1.0},
            split="train",
            group=name,
        )
        for name in names
    ]
    write_parquet(folder / "passage-5" / "train.parquet", lists)
    return folder


def test_hard_negatives_are_shown_and_written(tmp_path: Path) -> None:
    data = hard_data(tmp_path / "data")
    summary, asked, _ = start(thinks(), data, tmp_path / "out", negatives="hard", threshold=0.0, limit=2)
    assert summary["lists"] == 2
    # "river-river" stays in its place; the others are now those of other lists that speak of a river.
    found = list(read_split(tmp_path / "out" / "lists", "passage-5", "train"))
    assert [c.id for c in found[0].candidates] == ["river-river", "castle-river", "engine-river"]
    assert [c.id for c in found[1].candidates] == ["engine-castle", "castle-castle", "river-castle"]
    # The teacher says what they are worth.
    assert dict(found[0].relevance) == {"river-river": 0.0, "castle-river": 3.0, "engine-river": 1.0}
    assert any(
        "place 03 river" in request.messages[-1].content for request in asked if is_order(request.messages[-1].content)
    )
    again, _, _ = start(silent, data, tmp_path / "out", negatives="hard", threshold=0.0, limit=2)
    assert again == summary


def test_hard_negatives_go_with_relevance_that_names_irrelevant_ones(data: Path, tmp_path: Path) -> None:
    path = tmp_path / "data"
    hard_data(path)
    from dataclasses import replace

    named = [
        replace(e, relevance={c.id: e.grade(c.id) for c in e.candidates})
        for e in list(read_split(path, "passage-5", "train"))
    ]
    write_parquet(path / "passage-5" / "train.parquet", named)
    assert start(thinks(), path, tmp_path / "out", negatives="hard", threshold=0.0)[0]["lists"] == 3


@pytest.mark.parametrize(
    ("prices", "end"),
    [
        ((None, None), ""),
        ((2.0, None), ": at most 6.00"),
        ((None, 0.5), ": at most 2.00"),
        ((2.0, 0.5), ": at most 8.00"),
        ((0.0, 0.0), ": at most 0.00"),
        ((500.0, 0.0), ": at most 1,500.00"),
    ],
)
def test_a_cost_in_words(prices: tuple[float | None, float | None], end: str) -> None:
    prompt, reply = prices
    line = priced(Cost(1000, 20, 3_000_000, 4_000_000), prompt=prompt, reply=reply)
    assert line == "1,000 lists, 20 calls, 3,000,000 prompt tokens, at most 4,000,000 reply tokens" + end
    spent = priced(Cost(1000, 20, 3_000_000, 4_000_000), prompt=prompt, reply=reply, most="")
    assert spent == line.replace("at most ", "")


def test_the_cost_is_said_before_while_and_after(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "REPORT_EVERY", 2)
    said = list[str]()
    asked_by: list[int] = []
    setting = setting_of(max_tokens=100)
    teacher, backend = teacher_of(thinks(), setting)

    def say(line: str) -> None:
        said.append(line)
        asked_by.append(len(backend.requests))

    cost = plan(setting, teacher, lists_of(setting, data))
    summary = run(
        setting, teacher, data=data, out=tmp_path / "out", concurrency=1, prompt_price=1e6, reply_price=0.0, say=say
    )
    total = sum(CALLS)
    tokens = summary["usage"]["prompt_tokens"]
    assert said[0] == (
        f"to ask: 5 lists, {total} calls, {tokens:,} prompt tokens, at most {total * 100:,} reply tokens: "
        f"at most {tokens:,}.00"
    )
    assert asked_by[0] == 0
    assert [line.split(",")[0] for line in said[1:-1]] == ["asked: 2 lists", "asked: 4 lists", "asked: 5 lists"]
    written = summary["usage"]["generated_tokens"]
    assert said[-2] == (
        f"asked: 5 lists, {total} calls, {tokens:,} prompt tokens, {written:,} reply tokens: {tokens:,}.00"
    )
    assert said[-1] == "kept 5 of 5 lists, 5 conversations"
    assert asked_by[1] == sum(CALLS[:2])
    assert cost.prompt_tokens == tokens
    assert cost.reply_tokens >= written > 0


def test_a_run_that_goes_on_says_what_is_left_and_sums_up_all(data: Path, tmp_path: Path) -> None:
    whole, _, _ = start(thinks(), data, tmp_path / "whole")
    with pytest.raises(BackendError):
        start(dying(3, BackendError), data, tmp_path / "out")
    summary, asked, said = start(thinks(), data, tmp_path / "out")
    size = sum(len(entry.content.split()) for request in asked for entry in request.messages)
    assert said[0].startswith(f"to ask: 2 lists, {sum(CALLS[3:])} calls, {size:,} prompt tokens, at most")
    assert said[1].startswith(f"asked: 2 lists, {sum(CALLS[3:])} calls, {size:,} prompt tokens, ")
    assert summary == whole
