from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from unified_ranker.errors import OptionError, TemplateError
from unified_ranker.prompts import load_template, template_names
from unified_ranker.prompts.template import Limits, load_template_file, parse_template
from unified_ranker.schema.types import DOMAINS

GOOD: dict[str, Any] = {
    "user": "{query}\n{history}{candidates}\n{instruction}",
    "candidate": "[{label}] {text}",
    "history": "before:\n{items}\n",
    "instructions": {"rounds": "Name the worst."},
}
BARE: dict[str, Any] = {"user": "{query} {candidates}", "candidate": "{label} {text}"}


@pytest.mark.parametrize(
    ("record", "parts"),
    [
        (None, ["expected a mapping, found NoneType"]),
        ([BARE], ["expected a mapping, found list"]),
        ("text", ["expected a mapping, found str"]),
        ({**BARE, "usr": "x"}, ["part 'usr' is not known", "user"]),
        ({**BARE, 1: "x"}, ["part 1 is not known"]),
        ({**BARE, 1: "x", "usr": "x"}, ["is not known"]),
        ({"candidate": "{label} {text}"}, ["part 'user' is missing"]),
        ({"user": "{query} {candidates}"}, ["part 'candidate' is missing"]),
        ({**BARE, "user": None}, ["part 'user' is NoneType"]),
        ({**BARE, "system": ["x"]}, ["part 'system' is list"]),
        ({**BARE, "candidate": 3}, ["part 'candidate' is int"]),
        ({**GOOD, "history": {}}, ["part 'history' is dict"]),
        ({**GOOD, "history_item": 3}, ["part 'history_item' is int"]),
        ({**BARE, "user": "{candidates}"}, ["part 'user' lacks {query}"]),
        ({**BARE, "user": "{query}"}, ["part 'user' lacks {candidates}"]),
        ({**BARE, "user": "{{query}} {candidates}"}, ["part 'user' lacks {query}"]),
        ({**BARE, "candidate": "{text}"}, ["part 'candidate' lacks {label}"]),
        ({**BARE, "candidate": "{label}"}, ["part 'candidate' lacks {text}"]),
        ({**BARE, "candidate": "{text}", "unlabelled": False}, ["part 'candidate' lacks {label}"]),
        ({**BARE, "candidate": "alone", "unlabelled": True}, ["part 'candidate' lacks {text}"]),
        ({**BARE, "candidate": "{text}", "user": "{query}", "unlabelled": True}, ["'user' lacks {candidates}"]),
        ({**BARE, "unlabelled": "yes"}, ["part 'unlabelled' is 'yes'; it must be true or false"]),
        ({**BARE, "unlabelled": 1}, ["part 'unlabelled' is 1; it must be true or false"]),
        ({**BARE, "unlabelled": None}, ["part 'unlabelled' is None; it must be true or false"]),
        ({**BARE, "user": "{query} {candidates} {quary}"}, ["part 'user' holds {quary}", "{candidates}"]),
        ({**BARE, "system": "You know {query}."}, ["part 'system' holds {query}", "known here: none"]),
        ({**BARE, "candidate": "{label} {text} {score}"}, ["part 'candidate' holds {score}", "{title}"]),
        ({**GOOD, "history": "{items} {query}"}, ["part 'history' holds {query}", "{items}"]),
        ({**GOOD, "history_item": "{item}"}, ["part 'history_item' holds {item}", "{text}"]),
        ({**GOOD, "history": "before"}, ["part 'history' lacks {items}"]),
        ({**GOOD, "history": ""}, ["part 'history'", "{history}", "need each other"]),
        ({**BARE, "history": "{items}"}, ["part 'history'", "{history}", "need each other"]),
        ({**BARE, "instructions": {"rounds": "x"}}, ["part 'instructions'", "{instruction}", "need each other"]),
        (
            {**BARE, "user": "{query} {candidates} {instruction}"},
            ["part 'instructions'", "{instruction}", "need each other"],
        ),
        ({**GOOD, "instructions": "Name the worst."}, ["part 'instructions' must map names to strings"]),
        ({**GOOD, "instructions": {"rounds": 1}}, ["part 'instructions' must map names to strings"]),
        ({**BARE, "user": "{query} {candidates"}, ["part 'user'", "{{ and }}"]),
        ({**BARE, "user": "query} {candidates}"}, ["part 'user'", "{{ and }}"]),
        ({**BARE, "user": "{query} {candidates} {}"}, ["part 'user'", "placeholder {}", "plain name"]),
        ({**BARE, "user": "{query} {candidates} {0}"}, ["part 'user'", "placeholder {0}", "plain name"]),
        ({**BARE, "user": "{query!r} {candidates}"}, ["part 'user'", "placeholder {query}", "plain name"]),
        ({**BARE, "user": "{query:>9} {candidates}"}, ["part 'user'", "placeholder {query}", "plain name"]),
        ({**BARE, "candidate": "{label} {text.upper}"}, ["part 'candidate'", "placeholder {text.upper}"]),
        ({**BARE, "candidate": "{label} {text[0]}"}, ["part 'candidate'", "placeholder {text[0]}"]),
        ({**BARE, "candidate": "{label} { text }"}, ["part 'candidate'", "placeholder { text }"]),
        ({**BARE, "candidate_separator": 1}, ["part 'candidate_separator' is 1"]),
        ({**BARE, "history_separator": None}, ["part 'history_separator' is None"]),
        ({**BARE, "label_separator": [" "]}, ["part 'label_separator' is [' ']"]),
        ({**BARE, "limits": [1]}, ["part 'limits' must be a mapping"]),
        ({**BARE, "limits": "short"}, ["part 'limits' must be a mapping"]),
        ({**BARE, "limits": {"tokens": 3}}, ["limit 'tokens' is not known", "candidate_tokens"]),
        ({**BARE, "limits": {"query_tokens": 0}}, ["limit 'query_tokens' is 0"]),
        ({**BARE, "limits": {"history": -1}}, ["limit 'history' is -1"]),
        ({**BARE, "limits": {"history_tokens": 1.5}}, ["limit 'history_tokens' is 1.5"]),
        ({**BARE, "limits": {"candidate_tokens": True}}, ["limit 'candidate_tokens' is True"]),
        ({**BARE, "limits": {"candidate_tokens": "9"}}, ["limit 'candidate_tokens' is '9'"]),
        ({**BARE, "limits": {"candidate_tokens": None}}, ["limit 'candidate_tokens' is None"]),
        ({**BARE, "limits": {"snippet": "tail"}}, ["limit 'snippet' is 'tail'", "head, query"]),
        ({**BARE, "limits": {"words": "twice"}}, ["limit 'words' is 'twice'", "all, once"]),
        ({**BARE, "limits": {"history_twice": 0}}, ["limit 'history_twice' is 0"]),
    ],
)
def test_a_malformed_template_is_refused_by_name_part_and_placeholder(record: Any, parts: list[str]) -> None:
    with pytest.raises(TemplateError) as caught:
        parse_template(record, name="mine.yaml")
    message = str(caught.value)
    assert message.startswith("template 'mine.yaml'")
    assert [part for part in parts if part not in message] == []


@pytest.mark.parametrize("record", [GOOD, BARE, {**BARE, "candidate": "{title}: {label}"}, {**BARE, "limits": None}])
def test_a_well_formed_template_is_read(record: dict[str, Any]) -> None:
    found = parse_template(record, name="mine")
    assert (found.name, found.user, found.candidate) == ("mine", record["user"], record["candidate"])
    assert found.limits == Limits()


def test_every_limit_is_read() -> None:
    numbers = {"history": 1, "history_twice": 5, "candidate_tokens": 2, "query_tokens": 3, "history_tokens": 4}
    limits = {**numbers, "snippet": "query", "words": "once"}
    found = parse_template({**BARE, "limits": limits}, name="mine").limits
    assert found == Limits(**numbers, snippet="query", words="once")


def test_doubled_braces_are_plain_ones() -> None:
    template = parse_template({**BARE, "user": "{{{query}}} {{x}} {candidates}"}, name="mine")
    assert template.user.format(query="q", candidates="c") == "{q} {x} c"


def test_a_missing_instruction_names_the_form_and_those_there_are() -> None:
    with pytest.raises(TemplateError, match="'mine' has no instruction for 'append'; it has: rounds"):
        parse_template(GOOD, name="mine").instruction("append")
    with pytest.raises(TemplateError, match="it has: none"):
        parse_template(BARE, name="mine").instruction("append")


def test_the_package_has_a_template_for_every_style_strategy_and_domain() -> None:
    expected = {f"{s}/{m}/{d}" for s in ("natural", "compact") for m in FORMS for d in DOMAINS}
    assert set(template_names()) == expected


FORMS = {
    "elimination": {"rounds", "append", "rounds_reasoning", "append_reasoning"},
    "one_shot": {"direct", "reasoning"},
    "selection": {"rounds", "append", "rounds_reasoning", "append_reasoning"},
    "pointwise": {"grades", "yes_no", "grades_reasoning", "yes_no_reasoning"},
}


@pytest.mark.parametrize("name", template_names())
def test_every_template_of_the_package_loads_and_takes_a_history(name: str) -> None:
    style, strategy, domain = name.split("/")
    template = load_template(style, strategy, domain)
    assert template.name == name
    assert "{items}" in template.history
    assert set(template.instructions) == (FORMS[strategy] if style == "natural" else set())


@pytest.mark.parametrize("name", template_names())
def test_only_natural_prompts_of_one_candidate_do_without_labels(name: str) -> None:
    style, strategy, domain = name.split("/")
    template = load_template(style, strategy, domain)
    alone = (style, strategy) == ("natural", "pointwise")
    assert template.unlabelled == alone == ("{label}" not in template.candidate)


@pytest.mark.parametrize("domain", DOMAINS)
def test_the_grades_of_a_prompt_are_filled_in_and_nothing_else_is_left_in_braces(domain: str) -> None:
    instructions = load_template("natural", "pointwise", domain).instructions
    assert {form for form, text in instructions.items() if "{top_grade}" in text} == {"grades", "grades_reasoning"}
    assert all("{" not in text.replace("{top_grade}", "") for text in instructions.values())
    assert all(("<think>" in text) == form.endswith("_reasoning") for form, text in instructions.items())


@pytest.mark.parametrize("domain", DOMAINS)
def test_a_selection_asks_for_the_other_end_of_what_an_elimination_asks_for(domain: str) -> None:
    best, worst = (load_template("natural", folder, domain) for folder in ("selection", "elimination"))
    assert (best.user, best.system, best.candidate, best.label_separator) == (
        worst.user,
        worst.system,
        worst.candidate,
        worst.label_separator,
    )
    assert "best first" in best.instruction("append")
    assert "worst first" in worst.instruction("append")
    compact = load_template("compact", "selection", domain)
    assert compact.user.endswith("<|best|>")
    assert compact.user == load_template("compact", "elimination", domain).user.replace("<|worst|>", "<|best|>")


def test_a_template_of_one_candidate_may_do_without_labels_or_have_them() -> None:
    for candidate in ("{text}", "{title}", "{label} {text}"):
        template = parse_template({**BARE, "candidate": candidate, "unlabelled": True}, name="mine")
        assert (template.candidate, template.unlabelled) == (candidate, True)
    assert not parse_template(BARE, name="mine").unlabelled
    assert not parse_template({**BARE, "unlabelled": False}, name="mine").unlabelled


def test_an_unknown_template_is_told_with_the_nearest_name() -> None:
    with pytest.raises(OptionError, match=r"natural/elimination/pasage.*did you mean 'natural/elimination/passage'"):
        load_template("natural", "elimination", "pasage")


def test_a_template_file_of_ones_own_is_read(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text('user: "Für {query}: {candidates}"\ncandidate: "{label}) {text}"\n', encoding="utf-8")
    found = load_template_file(path)
    assert (found.name, found.user) == (str(path), "Für {query}: {candidates}")
    assert load_template_file(str(path)) == found


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "expected a mapping, found NoneType"),
        (b"just words", "expected a mapping, found str"),
        (b"user: [", "is not YAML"),
        (b"user: {query} {candidates}\n", "is not YAML"),
        (b"user: \x00", "is not YAML"),
        (b"!!python/object/apply:os.getcwd []", "is not YAML"),
        (b"user: \xff\xfe\xfd", "mine.yaml"),
        (b"user: '{query}'\ncandidate: '{label} {text}'", "lacks {candidates}"),
    ],
)
def test_a_template_file_that_cannot_be_read_is_named(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "mine.yaml"
    path.write_bytes(content)
    with pytest.raises(TemplateError) as caught:
        load_template_file(path)
    assert str(path) in str(caught.value)
    assert message in str(caught.value)


def test_a_template_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(TemplateError, match=r"gone\.yaml' does not exist"):
        load_template_file(tmp_path / "gone.yaml")
