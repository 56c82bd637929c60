from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from unified_ranker import model_settings
from unified_ranker.errors import BackendError, DataError
from unified_ranker.model_settings import FILE_NAME, ModelSettings, embedded_path, read_settings, write_settings
from unified_ranker.ranker import Ranker

FULL = ModelSettings(
    method="dranker", style="compact", token_budget=4096, labels=("<1>", "é", "漢"), options={"layout": "rounds"}
)


@pytest.mark.parametrize("settings", [ModelSettings(), FULL], ids=["defaults", "all given"])
def test_what_is_written_reads_back_equal(settings: ModelSettings, tmp_path: Path) -> None:
    write_settings(tmp_path, settings)
    assert read_settings(tmp_path) == settings
    assert read_settings(str(tmp_path)) == settings


def test_writing_again_replaces_what_was_there(tmp_path: Path) -> None:
    write_settings(tmp_path, FULL)
    write_settings(tmp_path, ModelSettings())
    assert read_settings(tmp_path) == ModelSettings()


def test_a_model_without_the_file_gets_the_defaults(tmp_path: Path) -> None:
    settings = read_settings(tmp_path)
    assert settings == ModelSettings()
    assert (settings.method, settings.style, settings.token_budget) == ("iranker", "natural", None)
    assert (settings.labels, dict(settings.options)) == ((), {})


@pytest.mark.parametrize("record", [{}, {"style": "compact"}, {"labels": ["A", "B"]}, {"token_budget": None}])
def test_a_field_that_is_left_out_has_its_default(record: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / FILE_NAME).write_text(json.dumps(record), encoding="utf-8")
    expected = {**record, "labels": tuple(record.get("labels", ()))}
    assert read_settings(tmp_path) == ModelSettings(**expected)


def test_a_field_that_is_not_known_is_named(tmp_path: Path) -> None:
    (tmp_path / FILE_NAME).write_text('{"style": "compact", "lables": ["A"]}', encoding="utf-8")
    with pytest.raises(DataError, match=r"ranker\.json: field 'lables' is not known"):
        read_settings(tmp_path)


@pytest.mark.parametrize("content", [b"", b"{", b"nonsense", b"{'style': 'compact'}", b'{"style": "\xe9"}'])
def test_a_file_that_is_not_json_is_told(content: bytes, tmp_path: Path) -> None:
    (tmp_path / FILE_NAME).write_bytes(content)
    with pytest.raises(DataError, match=r"ranker\.json: not "):
        read_settings(tmp_path)


@pytest.mark.parametrize(
    "record",
    [
        [],
        17,
        None,
        "compact",
        {"labels": 3},
        {"labels": "ABC"},
        {"labels": [1, 2]},
        {"token_budget": "many"},
        {"options": []},
        {"method": 3},
        {"style": None},
    ],
    ids=json.dumps,
)
def test_a_value_of_the_wrong_type_is_told_with_the_file(record: Any, tmp_path: Path) -> None:
    (tmp_path / FILE_NAME).write_text(json.dumps(record), encoding="utf-8")
    with pytest.raises(DataError, match=r"ranker\.json"):
        read_settings(tmp_path)


@pytest.mark.timeout(30)
@pytest.mark.parametrize("revision", [None, "main"])
@pytest.mark.parametrize("name", ["nobody/no-such-model", "no-such-model"])
def test_a_hub_name_offline_gets_the_defaults(name: str, revision: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub.constants

    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    assert read_settings(name, revision=revision) == ModelSettings()


def test_the_file_of_a_hub_model_is_read_from_its_revision(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_settings(tmp_path, FULL)
    asked: list[tuple[Any, ...]] = []

    def cached_file(model: str, name: str, *, revision: str | None = None, **options: Any) -> str:
        asked.append((model, name, revision))
        return str(tmp_path / name)

    monkeypatch.setattr("transformers.utils.cached_file", cached_file)
    assert read_settings("somebody/some-model", revision="v2") == FULL
    assert asked == [("somebody/some-model", FILE_NAME, "v2")]


def test_without_weights_the_message_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model_settings, "files", lambda package: tmp_path)
    for load in (embedded_path, Ranker, Ranker.from_pretrained):
        with pytest.raises(BackendError, match=r"no embedded model.*reinstall.*Ranker\.from_pretrained"):
            load()


def test_with_weights_the_folder_is_returned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model_settings, "files", lambda package: tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"")
    assert embedded_path() == tmp_path
