from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from unified_ranker.benchmarks.speed.more_labels import with_labels

from unified_ranker.backends import load_backend
from unified_ranker.errors import BackendError, OptionError
from unified_ranker.model_settings import FILE_NAME, ModelSettings, embedded_path, read_settings, write_settings
from unified_ranker.ranker import Ranker
from unified_ranker.schema.types import Candidate, RankingExample


@pytest.fixture(scope="module")
def embedded() -> Path:
    try:
        return embedded_path()
    except BackendError:
        pytest.skip("the embedded model is not there")


@pytest.fixture(scope="module")
def longer(embedded: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("longer") / "model"
    assert with_labels(embedded, 120, out=out) == out
    return out


def rank(backend: Any, count: int, **options: Any) -> Any:
    words = ["red", "green", "blue", "old", "new", "small", "large", "quick", "slow", "warm", "cold", "round", "soft"]
    texts = [f"{words[n % 13]} {words[n // 13]} fruit" for n in range(count)]
    example = RankingExample(
        id="q", query="a red fruit", candidates=tuple(Candidate(str(n), text) for n, text in enumerate(texts))
    )
    return next(Ranker(backend, settings=backend.settings, **options).rank_batch([example]))


@pytest.fixture(scope="module")
def backends(embedded: Path, longer: Path) -> tuple[Any, Any]:
    return load_backend("transformers", str(embedded)), load_backend("transformers", str(longer))


def test_the_labels_that_were_there_answer_as_before(backends: tuple[Any, Any]) -> None:
    before, after = (rank(backend, 100, permute=True) for backend in backends)
    assert after.ids == before.ids
    assert after.usage.prompt_tokens == before.usage.prompt_tokens
    before, after = (rank(backend, 6) for backend in backends)
    assert after.ids == before.ids
    for old, new in zip(before.steps, after.steps, strict=True):
        assert new.logprobs == pytest.approx(dict(old.logprobs), abs=1e-4)


def test_longer_lists_can_be_ranked(backends: tuple[Any, Any]) -> None:
    short, long = backends
    with pytest.raises(OptionError, match="120 candidates, but this model was trained with 100 labels"):
        rank(short, 120, permute=True)
    ranking = rank(long, 120, permute=True)
    assert sorted(ranking.ids, key=int) == [str(n) for n in range(120)]
    assert (ranking.usage.calls, ranking.usage.generated_tokens, ranking.usage.failed_steps) == (1, 119, 0)


def test_the_copy_has_the_settings_of_the_model_with_more_labels(embedded: Path, longer: Path) -> None:
    before, after = read_settings(embedded), read_settings(longer)
    assert after.labels == tuple(f"<{n}>" for n in range(1, 121))
    assert (after.method, after.style, after.token_budget, after.options) == (
        before.method,
        before.style,
        before.token_budget,
        before.options,
    )
    assert set(json.loads((longer / FILE_NAME).read_text(encoding="utf-8"))) == set(
        json.loads((embedded / FILE_NAME).read_text(encoding="utf-8"))
    )


def test_the_model_itself_is_left_as_it_is(embedded: Path, longer: Path) -> None:
    assert len(read_settings(embedded).labels) == 100
    assert not longer.is_relative_to(embedded)


@pytest.mark.parametrize("count", [2, 99, 100])
def test_a_model_that_has_enough_labels_is_returned_as_it_is(embedded: Path, tmp_path: Path, count: int) -> None:
    assert with_labels(embedded, count, out=tmp_path / "out") == embedded
    assert list(tmp_path.iterdir()) == []


def test_a_model_without_labels_of_its_own_is_returned_as_it_is(tiny_model: Path, tmp_path: Path) -> None:
    assert with_labels(tiny_model, 500, out=tmp_path / "out") == tiny_model
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("labels", [("A", "B", "C"), ("<1>", "<3>"), ("<0>", "<1>"), ("<2>", "<1>"), ("1", "2")])
def test_labels_that_do_not_count_up_are_refused(tmp_path: Path, labels: tuple[str, ...]) -> None:
    write_settings(tmp_path, ModelSettings(labels=labels))
    assert with_labels(tmp_path, len(labels), out=tmp_path / "out") == tmp_path
    with pytest.raises(OptionError, match=f"the model has {len(labels)} labels that do not count up"):
        with_labels(tmp_path, len(labels) + 1, out=tmp_path / "out")
    assert not (tmp_path / "out").exists()
