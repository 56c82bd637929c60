from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from unified_ranker import Candidate, Ranker, RankingExample
from unified_ranker.backends import ScriptedBackend
from unified_ranker.errors import BackendError, DataError, OptionError
from unified_ranker.exchange import Request


def last_choice(request: Request) -> str:
    return request.choices[-1]


def make_ranker(**options: Any) -> Ranker:
    return Ranker(ScriptedBackend(last_choice), **options)


def requests_of(ranker: Ranker) -> list[Request]:
    assert isinstance(ranker.backend, ScriptedBackend)
    return ranker.backend.requests


def examples(*lengths: int) -> list[RankingExample]:
    return [
        RankingExample(id=f"list{i}", query="q", candidates=tuple(Candidate(str(c), f"text {c}") for c in range(n)))
        for i, n in enumerate(lengths)
    ]


def test_strings_mappings_and_candidates_may_be_mixed() -> None:
    ranker = make_ranker()
    ranking = ranker.rank(
        "q", ["plain", {"text": "mapped", "title": "Map"}, {"id": "m", "text": "b"}, Candidate("c", "d")]
    )
    assert ranking.order == (
        Candidate("0", "plain"),
        Candidate("1", "mapped", "Map"),
        Candidate("m", "b"),
        Candidate("c", "d"),
    )
    assert "Map: mapped" in requests_of(ranker)[0].messages[-1].content


def test_candidates_may_come_from_a_generator() -> None:
    assert make_ranker().rank("q", (text for text in "abc")).ids == ("0", "1", "2")


def test_one_candidate_is_ranked_without_a_call() -> None:
    ranker = make_ranker()
    assert ranker.rank("q", ["alone"]).ids == ("0",)
    assert requests_of(ranker) == []


def test_an_empty_list_is_refused() -> None:
    with pytest.raises(DataError, match="'candidates' is empty"):
        make_ranker().rank("q", [])


def test_an_id_that_repeats_is_refused() -> None:
    with pytest.raises(DataError, match="holds the id 'x' 2 times"):
        make_ranker().rank("q", [Candidate("x", "a"), Candidate("x", "b")])


@pytest.mark.parametrize(
    "candidates",
    [
        None,
        5,
        "abc",
        b"abc",
        {"text": "a"},
        ["a", 1],
        ["a", None],
        [b"a"],
        [["a"]],
        [{"title": "no text"}],
        [{"text": "a", "score": 1}],
        [{"text": 1}],
        [{"id": 1, "text": "a"}],
        [{"id": "", "text": "a"}],
        [Candidate("x", 3)],  # type: ignore[arg-type]  # what a caller may do
    ],
    ids=repr,
)
def test_candidates_of_a_wrong_type_are_refused(candidates: Any) -> None:
    with pytest.raises(DataError, match="rank"):
        make_ranker().rank("q", candidates)


@pytest.mark.parametrize("query", [None, 1, b"q", ["q"]])
def test_a_query_that_is_no_string_is_refused(query: Any) -> None:
    with pytest.raises(DataError, match="'query'"):
        make_ranker().rank(query, ["a"])


@pytest.mark.parametrize("context", ["one string", 5, [1], ["a", None]])
def test_a_context_that_is_no_list_of_strings_is_refused(context: Any) -> None:
    with pytest.raises(DataError, match="context"):
        make_ranker().rank("q", ["a"], context=context)


@pytest.mark.parametrize("top_k", [0, -1, 4, 1.5, "2"])
def test_a_top_k_out_of_range_is_refused(top_k: Any) -> None:
    with pytest.raises(OptionError, match="top_k"):
        make_ranker().rank("q", ["a", "b", "c"], top_k=top_k)


@pytest.mark.parametrize("top_k", [1, 2, 3, None])
def test_top_k_shows_the_first_places_and_keeps_all(top_k: int | None) -> None:
    ranking = make_ranker().rank("q", ["a", "b", "c"], top_k=top_k)
    shown = top_k or 3
    assert ranking.ids == ("0", "1", "2")[:shown]
    assert len(ranking) == len(list(ranking)) == len(ranking.to_dict()["ranking"]) == shown
    assert len(ranking.to_trec().splitlines()) == shown
    assert len(ranking.order) == 3


@pytest.mark.parametrize("domain", ["music", "pasage", ""])
def test_an_unknown_domain_is_refused_and_the_known_are_named(domain: str) -> None:
    with pytest.raises(OptionError, match=f"domain='{domain}'.*recommendation, routing, passage"):
        make_ranker().rank("q", ["a", "b"], domain=domain)


@pytest.mark.parametrize("method", ["iranker", "dranker"])
@pytest.mark.parametrize("style", ["natural", "compact"])
def test_each_domain_has_a_prompt_of_its_own_kind(method: str, style: str) -> None:
    backend = ScriptedBackend(lambda request: "A")
    ranker = Ranker(backend, method=method, style=style)
    for domain in ("passage", "recommendation", "routing"):
        assert set(ranker.rank("q", ["a", "b"], domain=domain, context=["earlier"]).ids) == {"0", "1"}
        assert "earlier" in backend.requests[-1].messages[-1].content


def test_context_is_shown_oldest_first() -> None:
    ranker = make_ranker()
    ranker.rank("q", ["a", "b"], domain="recommendation", context=["seen first", "seen second"])
    content = requests_of(ranker)[0].messages[-1].content
    assert content.index("seen first") < content.index("seen second")


def test_without_context_none_is_mentioned() -> None:
    ranker = make_ranker()
    ranker.rank("q", ["a", "b"])
    assert "before" not in requests_of(ranker)[0].messages[-1].content


def test_an_unknown_option_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(OptionError, match="option='temperatur' is not known; did you mean 'temperature'"):
        make_ranker(temperatur=1)


def test_an_unknown_method_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(OptionError, match=r"method='iranked' is not known; did you mean 'iranker'\? Choose one of: "):
        make_ranker(method="iranked")


def test_an_unknown_style_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(OptionError, match="did you mean 'compact/elimination/passage'"):
        make_ranker(style="compct")


def test_an_unknown_method_or_backend_is_refused_before_a_model_is_loaded() -> None:
    with pytest.raises(OptionError, match="did you mean 'dranker'"):
        Ranker.from_pretrained("/nowhere", method="dranked")
    with pytest.raises(OptionError, match="did you mean 'transformers'"):
        Ranker.from_pretrained("/nowhere", backend="transformer")


def test_a_ranking_is_walked_best_first() -> None:
    ranking = make_ranker().rank("q", ["a", "b", "c"])
    assert [(place.rank, place.id, place.text, place.score) for place in ranking] == [
        (1, "0", "a", 2.0),
        (2, "1", "b", 1.0),
        (3, "2", "c", 0.0),
    ]
    assert ranking[0].candidate == Candidate("0", "a")
    assert ranking[-1].id == "2"


def test_a_ranking_becomes_plain_types() -> None:
    record = json.loads(json.dumps(make_ranker().rank("q", ["a", "b"], top_k=1).to_dict()))
    assert record["id"] == "query"
    assert record["method"] == "iranker"
    assert record["ranking"] == [{"rank": 1, "id": "0", "title": "", "text": "a", "score": 1.0}]
    assert record["steps"][0]["chosen"] == ["1"]
    assert record["usage"]["calls"] == 1


def test_a_ranking_becomes_a_trec_run() -> None:
    assert make_ranker().rank("q", ["a", "b"]).to_trec(tag="mine") == "query Q0 0 1 1.0 mine\nquery Q0 1 2 0.0 mine\n"


def test_a_batch_shows_all_places_of_a_list_shorter_than_top_k() -> None:
    rankings = list(make_ranker().rank_batch(examples(2, 5, 1), top_k=3))
    assert [len(ranking) for ranking in rankings] == [2, 3, 1]
    assert [len(ranking.order) for ranking in rankings] == [2, 5, 1]


def test_a_batch_may_mix_domains() -> None:
    mixed = [
        RankingExample(id=domain, query="q", domain=domain, candidates=(Candidate("a", "x"), Candidate("b", "y")))
        for domain in ("passage", "recommendation", "routing")
    ]
    ranker = make_ranker()
    assert [ranking.example_id for ranking in ranker.rank_batch(mixed)] == ["passage", "recommendation", "routing"]
    assert len({request.messages[-1].content for request in requests_of(ranker)}) == 3


def test_a_batch_is_read_as_needed() -> None:
    read: list[str] = []

    def source() -> Iterator[RankingExample]:
        for example in examples(*[2] * 10):
            read.append(example.id)
            yield example

    rankings = make_ranker().rank_batch(source(), concurrency=2)
    assert read == []
    assert next(rankings).example_id == "list0"
    assert len(read) <= 3


def test_an_empty_batch_gives_nothing() -> None:
    assert list(make_ranker().rank_batch([])) == []


@pytest.mark.parametrize("option", ["top_k", "concurrency"])
def test_a_batch_option_below_1_is_refused(option: str) -> None:
    values: dict[str, int] = {option: 0}
    with pytest.raises(OptionError, match=f"{option}=0 must be a whole number ≥ 1"):
        list(make_ranker().rank_batch(examples(2), **values))


def test_a_malformed_list_of_a_batch_is_named() -> None:
    broken = RankingExample(id="broken", query="q", candidates=())
    with pytest.raises(DataError, match="example 'broken': field 'candidates' is empty"):
        list(make_ranker().rank_batch([broken]))


def test_progress_goes_to_stderr_alone(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    list(make_ranker().rank_batch(examples(3, 2), progress=True))
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "2/2" in captured.err


def test_no_progress_is_shown_unasked(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    list(make_ranker().rank_batch(examples(3, 2)))
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "")


def test_a_batch_ranks_as_single_calls_do() -> None:
    ranker = Ranker(ScriptedBackend(lambda request: request.choices[len(request.reply_prefix) % len(request.choices)]))
    for example, ranking in zip(examples(4, 6, 2), ranker.rank_batch(examples(4, 6, 2)), strict=True):
        assert ranking.ids == ranker.rank("q", example.candidates).ids


def test_a_missing_embedded_model_is_told_with_a_way_out(monkeypatch: pytest.MonkeyPatch) -> None:
    from unified_ranker import model_settings

    monkeypatch.setattr(model_settings, "files", lambda package: "/nowhere")
    with pytest.raises(BackendError, match=r"no embedded model.*Ranker\.from_pretrained"):
        Ranker()
