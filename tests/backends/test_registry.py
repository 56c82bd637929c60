from __future__ import annotations

import functools
from typing import Any

import pytest

from unified_ranker import Ranker
from unified_ranker.backends import BACKENDS, load_backend, openai, transformers
from unified_ranker.errors import OptionError

CLASSES: dict[str, Any] = {
    "transformers": transformers.TransformersBackend,
    "openai": openai.OpenAIBackend,
}
NOTHING_TAKES = ["nope", "base-url", "", "temperature"]


@pytest.fixture
def loaded(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Return what reaches the backends, none of which is loaded."""
    found: list[dict[str, Any]] = []

    def stand_in(real: Any) -> Any:
        @functools.wraps(real)
        def from_pretrained(name_or_path: str, **options: Any) -> str:
            found.append({"model": name_or_path, **options})
            return "loaded"

        return from_pretrained

    for kind in CLASSES.values():
        monkeypatch.setattr(kind, "from_pretrained", stand_in(kind.from_pretrained))
    return found


@pytest.mark.parametrize("option", NOTHING_TAKES)
@pytest.mark.parametrize("name", CLASSES)
def test_an_option_that_a_backend_does_not_take_is_refused_with_those_it_takes(
    name: str, option: str, loaded: list[dict[str, Any]]
) -> None:
    with pytest.raises(OptionError) as caught:
        load_backend(name, "model", **{option: 17})
    assert f"{option}=17: backend={name!r} does not take it; it takes " in str(caught.value)
    assert "revision" in str(caught.value).split("it takes ")[1].split(", ")
    assert loaded == []


@pytest.mark.parametrize(
    ("name", "option"),
    [("openai", "dtype"), ("openai", "device"), ("openai", "batch_tokens"), ("transformers", "base_url")],
)
def test_an_option_of_another_backend_is_refused(name: str, option: str, loaded: list[dict[str, Any]]) -> None:
    with pytest.raises(OptionError, match=f"backend='{name}' does not take it"):
        load_backend(name, "model", **{option: 1})
    with pytest.raises(OptionError, match=f"backend='{name}' does not take it"):
        Ranker.from_pretrained("model", backend=name, backend_options={option: 1})
    assert loaded == []


@pytest.mark.parametrize("option", ["dtype", "device", "batch_tokens"])
def test_an_option_of_ranker_that_the_backend_does_not_take_is_refused(
    option: str, loaded: list[dict[str, Any]]
) -> None:
    with pytest.raises(OptionError, match=f"^{option}=.*: backend='openai' does not take it"):
        Ranker.from_pretrained("model", backend="openai", **{option: 1})
    assert loaded == []


@pytest.mark.parametrize("option", ["name", "model", "name_or_path"])
@pytest.mark.parametrize("name", CLASSES)
def test_the_model_cannot_be_named_twice(name: str, option: str, loaded: list[dict[str, Any]]) -> None:
    with pytest.raises(OptionError):
        Ranker.from_pretrained("model", backend=name, backend_options={option: "other"})
    assert loaded == []


def test_options_reach_the_backend_as_they_are(loaded: list[dict[str, Any]]) -> None:
    options = {"base_url": "http://127.0.0.1:9/v1", "retries": 0, "logprobs": True, "context_tokens": None}
    assert load_backend("openai", "some/model", **options) == "loaded"
    assert load_backend("transformers", "folder", dtype="float32", batch_tokens=7) == "loaded"
    assert loaded == [{"model": "some/model", **options}, {"model": "folder", "dtype": "float32", "batch_tokens": 7}]


@pytest.mark.parametrize("name", ["opnai", "vlm", "transformer"])
def test_a_backend_that_is_not_known_is_refused_with_the_nearest(name: str) -> None:
    with pytest.raises(OptionError, match=r"is not known; did you mean '(openai|vllm|transformers)'\?"):
        load_backend(name, "model")
    assert name not in BACKENDS
