"""Prompt templates: one YAML file per style, strategy and domain, checked when loaded.

A template file holds

- ``system`` (optional) and ``user``: the two messages. ``user`` must hold ``{query}`` and ``{candidates}``, and may
  hold ``{history}`` and ``{instruction}``;
- ``candidate``: how one candidate is shown; must hold ``{label}``, and ``{text}`` or ``{title}``. With ``{text}``
  alone a title stands before the text; with ``{title}`` alone the title (or the text of a candidate without one) is
  all that is shown; with both, each in its place. ``{query}`` says the query again with each candidate;
- ``unlabelled`` (optional): ``true`` for templates that show one candidate at a time; ``candidate`` then needs no
  ``{label}``;
- ``history`` (optional): what stands for ``{history}`` where an example has a context; must hold ``{items}``;
- ``instructions``: what stands for ``{instruction}``, by form of the conversation (see the strategies);
- ``label_separator``: what the model writes between two labels;
- ``limits`` (optional): ``history`` (most entries), ``history_twice`` (how many of the latest entries are said again at
  its end), ``candidate_tokens``, ``query_tokens``, ``history_tokens`` (most tokens of each text), ``snippet`` (``head``
  keeps the beginning of a text that is cut, ``query`` the stretch with most words of the query) and ``words``: ``once``
  leaves out of a candidate's text, and of a query that is said again, what it has said before, ``all`` nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from importlib.resources import files
from pathlib import Path
from string import Formatter
from typing import Any

import yaml

from unified_ranker.errors import TemplateError, unknown_choice

_ALLOWED = {
    "system": set[str](),
    "user": {"query", "candidates", "history", "instruction"},
    "candidate": {"label", "text", "title", "query"},
    "history": {"items"},
    "history_item": {"text"},
}
_KEYS = {
    *_ALLOWED,
    "instructions",
    "candidate_separator",
    "history_separator",
    "label_separator",
    "limits",
    "unlabelled",
}
# What a limit may be that is no number.
_CHOICES = {"snippet": ("head", "query"), "words": ("all", "once")}


@dataclass(frozen=True, slots=True)
class Limits:
    """How much of each text a template shows; None for no limit of its own."""

    history: int | None = None
    history_twice: int | None = None
    candidate_tokens: int | None = None
    query_tokens: int | None = None
    history_tokens: int | None = None
    snippet: str = "head"
    words: str = "all"


@dataclass(frozen=True, slots=True)
class Template:
    """A checked template; see the module for what each part is."""

    name: str
    user: str
    candidate: str
    system: str = ""
    history: str = ""
    history_item: str = "{text}"
    instructions: Mapping[str, str] = field(default_factory=dict)
    candidate_separator: str = "\n"
    history_separator: str = "\n"
    label_separator: str = "\n"
    limits: Limits = Limits()
    unlabelled: bool = False

    def instruction(self, form: str) -> str:
        """Return the instruction for a form of conversation.

        Raises:
            TemplateError: the template has none.
        """
        if form not in self.instructions:
            raise TemplateError(
                f"template {self.name!r} has no instruction for {form!r}; it has: "
                f"{', '.join(sorted(self.instructions)) or 'none'}. "
                f"Add 'instructions: {{{form}: …}}'"
            )
        return self.instructions[form]


def placeholders(text: str, *, where: str) -> set[str]:
    """Return the names in braces.

    Raises:
        TemplateError: braces do not match, or hold more than a plain name.
    """
    try:
        parts = list(Formatter().parse(text))
    except ValueError as error:
        raise TemplateError(f"{where}: {error}; write {{{{ and }}}} for plain braces") from error
    names = set()
    for _, name, spec, conversion in parts:
        if name is None:
            continue
        if not name.isidentifier() or spec or conversion:
            raise TemplateError(f"{where}: placeholder {{{name}}} must be a plain name, without format or conversion")
        names.add(name)
    return names


def parse_template(record: Any, *, name: str) -> Template:
    """Check a template.

    Args:
        record: What the YAML file holds.
        name: What to call it in messages.

    Raises:
        TemplateError: naming the part, the placeholder and the mend.
    """
    if not isinstance(record, Mapping):
        raise TemplateError(f"template {name!r}: expected a mapping, found {type(record).__name__}")
    unknown = set(record) - _KEYS
    if unknown:
        raise TemplateError(
            f"template {name!r}: part {min(unknown, key=str)!r} is not known; known are {', '.join(sorted(_KEYS))}"
        )
    for part in ("user", "candidate"):
        if part not in record:
            raise TemplateError(f"template {name!r}: part {part!r} is missing")
    found: dict[str, set[str]] = {}
    for part, allowed in _ALLOWED.items():
        text = record.get(part, "")
        if not isinstance(text, str):
            raise TemplateError(f"template {name!r}: part {part!r} is {type(text).__name__}; it must be a string")
        found[part] = placeholders(text, where=f"template {name!r}, part {part!r}")
        stray = found[part] - allowed
        if stray:
            known = ", ".join("{" + entry + "}" for entry in sorted(allowed)) or "none"
            raise TemplateError(
                f"template {name!r}: part {part!r} holds {{{sorted(stray)[0]}}}, which nobody fills; known "
                f"here: {known}"
            )
    unlabelled = record.get("unlabelled", False)
    if not isinstance(unlabelled, bool):
        raise TemplateError(f"template {name!r}: part 'unlabelled' is {unlabelled!r}; it must be true or false")
    labelled = () if unlabelled else (("candidate", "label"),)
    for part, needed in (("user", "query"), ("user", "candidates"), *labelled):
        if needed not in found[part]:
            raise TemplateError(f"template {name!r}: part {part!r} lacks {{{needed}}}; add it")
    if not found["candidate"] & {"text", "title"}:
        raise TemplateError(f"template {name!r}: part 'candidate' lacks {{text}} (or {{title}}); add it")
    if record.get("history") and "items" not in found["history"]:
        raise TemplateError(f"template {name!r}: part 'history' lacks {{items}}; add it")
    if bool(record.get("history")) != ("history" in found["user"]):
        raise TemplateError(
            f"template {name!r}: part 'history' and the placeholder {{history}} in 'user' need each other"
        )
    instructions = record.get("instructions") or {}
    if not isinstance(instructions, Mapping) or not all(isinstance(v, str) for v in instructions.values()):
        raise TemplateError(f"template {name!r}: part 'instructions' must map names to strings")
    if bool(instructions) != ("instruction" in found["user"]):
        raise TemplateError(
            f"template {name!r}: part 'instructions' and the placeholder {{instruction}} in 'user' need each other"
        )
    texts = {key: record[key] for key in _KEYS - {"instructions", "limits", "unlabelled"} if key in record}
    for key, value in texts.items():
        if not isinstance(value, str):
            raise TemplateError(f"template {name!r}: part {key!r} is {value!r}; it must be a string")
    return Template(
        name=name,
        instructions=dict(instructions),
        limits=_parse_limits(record.get("limits") or {}, name=name),
        unlabelled=unlabelled,
        **texts,
    )


def _parse_limits(record: Any, *, name: str) -> Limits:
    if not isinstance(record, Mapping):
        raise TemplateError(f"template {name!r}: part 'limits' must be a mapping")
    known = [part.name for part in fields(Limits)]
    for key, value in record.items():
        if key not in known:
            raise TemplateError(f"template {name!r}: limit {key!r} is not known; known are {', '.join(sorted(known))}")
        if key in _CHOICES:
            if value not in _CHOICES[key]:
                raise TemplateError(
                    f"template {name!r}: limit {key!r} is {value!r}; it must be one of {', '.join(_CHOICES[key])}"
                )
        elif isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise TemplateError(f"template {name!r}: limit {key!r} is {value!r}; it must be a whole number ≥ 1")
    return Limits(**record)


def load_template_file(path: str | Path) -> Template:
    """Read and check a user's own template file.

    Raises:
        TemplateError: the file is missing, no YAML, or malformed.
    """
    source = Path(path)
    if not source.is_file():
        raise TemplateError(f"template file {str(path)!r} does not exist")
    try:
        text = source.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise TemplateError(f"template file {str(path)!r} is not UTF-8: {error}") from error
    return _from_text(text, name=str(path))


def _from_text(text: str, *, name: str) -> Template:
    try:
        record = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise TemplateError(f"template {name!r} is not YAML: {error}") from error
    return parse_template(record, name=name)


def template_names() -> list[str]:
    """Return the names of the templates in the package, as ``style/strategy/domain``."""
    root = files("unified_ranker.prompts") / "templates"
    return sorted(
        f"{style.name}/{strategy.name}/{file.name.removesuffix('.yaml')}"
        for style in root.iterdir()
        if style.is_dir()
        for strategy in style.iterdir()
        if strategy.is_dir()
        for file in strategy.iterdir()
        if file.name.endswith(".yaml")
    )


def load_template(style: str, strategy: str, domain: str) -> Template:
    """Load a template of the package.

    Args:
        style: ``"natural"`` for instruction-tuned models, ``"compact"`` for small ones that we train.
        strategy: Name of the strategy, such as ``"elimination"``.
        domain: One of the three domains.

    Raises:
        OptionError: there is none of that name.
    """
    name = f"{style}/{strategy}/{domain}"
    known = template_names()
    if name not in known:
        raise unknown_choice("template", name, known)
    resource = files("unified_ranker.prompts") / "templates" / style / strategy / f"{domain}.yaml"
    return _from_text(resource.read_text(encoding="utf-8"), name=name)
