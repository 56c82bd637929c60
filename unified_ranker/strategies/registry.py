"""Methods by name, with the template that each uses by default."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from unified_ranker.errors import OptionError, TemplateError, unknown_choice
from unified_ranker.prompts import PromptWriter
from unified_ranker.strategies.aggregate import Aggregate
from unified_ranker.strategies.base import Sampling, Strategy, Writers, check_whole
from unified_ranker.strategies.cascade import Cascade
from unified_ranker.strategies.consistency import Consistency
from unified_ranker.strategies.elimination import Elimination
from unified_ranker.strategies.first_token import FirstToken
from unified_ranker.strategies.one_shot import OneShot
from unified_ranker.strategies.pointwise import Pointwise
from unified_ranker.strategies.selection import Selection
from unified_ranker.strategies.setwise import Setwise
from unified_ranker.strategies.tournament import Tournament
from unified_ranker.strategies.window import Window


@dataclass(frozen=True, slots=True)
class Method:
    """A ranking method.

    Attributes:
        template: Folder of its templates within a style.
        options: Names of its own options.
        summary: One line for ``--help`` and ``doctor``.
    """

    template: str
    options: tuple[str, ...]
    summary: str


ELIMINATION = ("layout", "permute", "max_steps", "stop_at", "finish", "drop_per_step")

METHODS: dict[str, Method] = {
    "iranker": Method("elimination", ELIMINATION, "eliminate the worst candidate step by step (IRanker)"),
    "dranker": Method("one_shot", ("permute", "guided"), "write the whole ranking in one reply (DRanker)"),
    "tournament": Method(
        "elimination",
        ("layout", "permute", "drop_per_step", "block", "survivors"),
        "eliminate the worst of blocks, round after round, for long lists",
    ),
    "best_first": Method("selection", ("layout", "permute", "picks"), "pick the best candidate step by step"),
    "setwise": Method(
        "selection", ("sort", "set_size", "places", "ask"), "sort by asking for the best of sets (Rank-R1)"
    ),
    "window": Method(
        "one_shot",
        ("inner", "size", "step", "passes", "order", "pivot"),
        "rank a window that slides over a long list (ReasonRank, RankGPT)",
    ),
    "pointwise": Method(
        "pointwise", ("scale", "top_grade", "score"), "grade each candidate on its own (ERank, TFRank)"
    ),
    "first_token": Method("one_shot", ("ask",), "read the order from the first label's log-probabilities (FIRST)"),
    "cascade": Method("one_shot", ("first", "then", "depth"), "rank the list one way, its top another (CoRanking)"),
    "aggregate": Method("one_shot", ("of", "chains", "fusion", "listed"), "join the rankings of several ways to rank"),
}

#: Methods whose replies training teaches; the others are made of the same questions.
TRAINED = ("iranker", "dranker", "setwise", "pointwise")

#: Options of methods that bring another method's prompts along.
PARTS = ("finish", "ask")

SAMPLING_OPTIONS = tuple(entry.name for entry in fields(Sampling))
#: Options of every method that are no part of a strategy: they say how many of it run side by side.
COMMON_OPTIONS = (*SAMPLING_OPTIONS, "shuffles")


def method_named(name: str) -> Method:
    """Return a method.

    Raises:
        OptionError: there is none of that name.
    """
    if name not in METHODS:
        raise unknown_choice("method", name, METHODS)
    return METHODS[name]


def check_options(name: str, options: dict[str, Any]) -> None:
    """Check that a method takes all of the given options.

    Raises:
        OptionError: naming the first that it does not take.
    """
    known = (*method_named(name).options, *COMMON_OPTIONS)
    for key in options:
        if key not in known:
            if any(key in method.options for method in METHODS.values()):
                raise OptionError(f"{key}={options[key]!r}: the method {name!r} does not take it")
            raise unknown_choice("option", key, known)


def make_strategy(
    name: str, *, writer: PromptWriter, writers: Writers | None = None, shuffles: int = 1, **options: Any
) -> Strategy:
    """Build a strategy.

    Args:
        name: One of :data:`METHODS`.
        writer: Writes the prompts.
        writers: Gives the writer of another template folder, for a ``finish`` of another method; None where there is
            no such method.
        shuffles: Rank so many random orders of the list, and join the rankings; see
            :class:`~unified_ranker.strategies.consistency.Consistency`. 1 for the list as it is.
        **options: The method's own options, and those of :class:`Sampling`.

    Raises:
        OptionError: the name or an option is not known, or a value cannot be used.
    """
    check_options(name, options)
    if isinstance(shuffles, bool) or not isinstance(shuffles, int) or shuffles < 1:
        raise OptionError(f"shuffles={shuffles!r} must be a whole number ≥ 1")
    sampling = Sampling(**{key: value for key, value in options.items() if key in SAMPLING_OPTIONS})
    own = {key: value for key, value in options.items() if key not in SAMPLING_OPTIONS}
    if shuffles == 1:
        return _make(name, writer, writers, sampling, own)
    first = sampling.shuffle_seed or 0
    return Consistency(
        shuffles=tuple(
            _make(name, writer, writers, replace(sampling, shuffle_seed=first + number), own)
            for number in range(shuffles)
        )
    )


def _make(
    name: str, writer: PromptWriter, writers: Writers | None, sampling: Sampling, own: dict[str, Any]
) -> Strategy:
    made = _build(name, writer, writers, sampling, own)
    if name not in JOINED and name != "pointwise" and writer.template.unlabelled:
        raise TemplateError(
            f"template {writer.template.name!r} is unlabelled, and method {name!r} asks for labels; drop it, or "
            "use method='pointwise'"
        )
    return made


def _build(
    name: str, writer: PromptWriter, writers: Writers | None, sampling: Sampling, own: dict[str, Any]
) -> Strategy:
    if name in JOINED:
        return JOINED[name](writers, sampling, own)
    if name == "dranker":
        return OneShot(writer=writer, sampling=sampling, **own)
    if name == "best_first":
        return Selection(writer=writer, sampling=sampling, **own)
    if name == "pointwise":
        return Pointwise(writer=writer, sampling=sampling, **own)
    if name in ("setwise", "first_token"):
        if own.get("ask") == "worst":
            # The prompt of an elimination, read from its other end.
            writer = _writer("elimination", writers, option="ask='worst'")
        return (Setwise if name == "setwise" else FirstToken)(writer=writer, sampling=sampling, **own)
    if name == "tournament":
        rules = {key: value for key, value in own.items() if key in ("block", "survivors")}
        steps = {key: value for key, value in own.items() if key not in rules}
        return Tournament(elimination=Elimination(writer=writer, sampling=sampling, **steps), **rules)
    finish = own.get("finish")
    if finish is None:
        return Elimination(writer=writer, sampling=sampling, **own)
    # Those that are left are listed as the elimination left them: the order was drawn once.
    last = _part("finish", finish, writers, replace(sampling, shuffle_seed=None))
    return Elimination(writer=writer, sampling=sampling, **{**own, "finish": last})


def _writer(template: str, writers: Writers | None, *, option: str) -> PromptWriter:
    if writers is None:
        raise OptionError(f"{option}: this method's writer knows no other template")
    return writers(template)


def _part(option: str, given: Any, writers: Writers | None, sampling: Sampling) -> Strategy:
    """Build a method that is part of another: a name, or a mapping of ``method`` and its options."""
    if isinstance(given, str):
        name, own = given, dict[str, Any]()
    elif isinstance(given, Mapping) and isinstance(given.get("method"), str):
        name, own = given["method"], {key: value for key, value in given.items() if key != "method"}
    else:
        raise OptionError(
            f"{option}={given!r} must be the name of a method, or a mapping such as "
            "{'method': 'dranker', 'permute': True}"
        )
    if name not in METHODS:
        raise unknown_choice(option, name, METHODS)
    writer = _writer(METHODS[name].template, writers, option=f"{option}={given!r}")
    return make_strategy(name, writer=writer, writers=writers, **{**asdict(sampling), **own})


def _window(writers: Writers | None, sampling: Sampling, own: dict[str, Any]) -> Strategy:
    # The list is shuffled once, not each window of it.
    inner = _part("inner", own.get("inner", "dranker"), writers, replace(sampling, shuffle_seed=None))
    return Window(**{**own, "inner": inner}, shuffle_seed=sampling.shuffle_seed)


def _cascade(writers: Writers | None, sampling: Sampling, own: dict[str, Any]) -> Strategy:
    # What nobody asked for in particular reads one forward pass, and does not think.
    quick = replace(sampling, reasoning=False, unguided=False, temperature=0.0)
    first = _part("first", own.get("first", "first_token"), writers, sampling if "first" in own else quick)
    then = _part("then", own.get("then", "iranker"), writers, replace(sampling, shuffle_seed=None))
    return Cascade(**{**own, "first": first, "then": then})


def _aggregate(writers: Writers | None, sampling: Sampling, own: dict[str, Any]) -> Strategy:
    of, chains = own.get("of", ("iranker",)), own.get("chains", 1)
    check_whole("chains", chains, least=1)
    if isinstance(of, (str, Mapping)):
        of = (of,)
    if not isinstance(of, (list, tuple)):
        raise OptionError(f"of={of!r} must be a list of methods, such as ['iranker', 'first_token']")
    ways = []
    for given in of:
        part = dict(given) if isinstance(given, Mapping) else given
        if chains == 1:
            ways.append(_part("of", part, writers, sampling))
            continue
        of_its_own = part if isinstance(part, dict) else {"method": part}
        temperature = of_its_own.get("temperature", sampling.temperature)
        if not temperature > 0:
            raise OptionError(
                f"chains={chains} at temperature={temperature} would be {chains} times the same; give temperature > 0"
            )
        seed = of_its_own.get("seed", sampling.seed) or 0
        ways += [_part("of", {**of_its_own, "seed": seed + number}, writers, sampling) for number in range(chains)]
    rest = {key: value for key, value in own.items() if key in ("fusion", "listed")}
    return Aggregate(of=tuple(ways), **rest)


#: Methods that are made of others.
JOINED = {"window": _window, "cascade": _cascade, "aggregate": _aggregate}
