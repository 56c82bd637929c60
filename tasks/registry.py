"""The registry: every task by name, with its builder for each edition."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from unified_ranker.tasks import passage, recommendation, routing
from unified_ranker.tasks.base import BuildOptions, Built, Source, Task
from unified_ranker.tasks.sources import (
    amazon_games,
    graphrouter,
    lastfm,
    llmrouter,
    movielens,
    ms_marco,
    ranking_bench,
    recbole_atomic,
    routerbench,
    scifact,
    trec_dl,
    wikiqa,
)

from unified_ranker.errors import unknown_choice

MOVIE_QUERY = "Which movie will this user watch next?"
MUSIC_QUERY = "Which music will this user choose next?"
GAME_QUERY = "Which game will this user buy next?"

ML_1M = recbole_atomic.source("ml-1m", title="MovieLens ml-1m, RecBole atomic files")
CDS = recbole_atomic.source("Amazon_CDs_and_Vinyl", title="Amazon CDs and Vinyl, RecBole atomic files")
VIDEO_GAMES = recbole_atomic.source("Amazon_Video_Games", title="Amazon Video Games, RecBole atomic files")


def _open_movie(options: BuildOptions) -> Built:
    data = movielens.read(options)
    return recommendation.build_open(
        "movie", MOVIE_QUERY, data, movielens.SOURCE, options, lists_per_user=40, test_share=0.2, validation_share=0.1
    )


def _open_music(options: BuildOptions) -> Built:
    data = lastfm.read(options)
    return recommendation.build_open(
        "music", MUSIC_QUERY, data, lastfm.SOURCE, options, lists_per_user=20, test_share=0.2, validation_share=0.1
    )


def _open_game(options: BuildOptions) -> Built:
    data = amazon_games.read(options)
    return recommendation.build_open(
        "game",
        GAME_QUERY,
        data,
        amazon_games.SOURCE,
        options,
        lists_per_user=3,
        test_share=0.1,
        validation_share=0.05,
        most_train_users=10_000,
        most_test_users=500,
    )


def _paper_recommendation(task: str, query: str, source: Source, options: BuildOptions) -> Built:
    if options.from_hub:
        return ranking_bench.build(task, "recommendation", options)
    return recommendation.build_paper(task, query, recbole_atomic.read(options, source), source, options)


def _open_routing(task: str, options: BuildOptions) -> Built:
    pools = [llmrouter.nine_models(options), llmrouter.natural_questions(options), routerbench.read(options)]
    return routing.build(task, pools, options)


def _paper_routing(task: str, options: BuildOptions) -> Built:
    if options.from_hub:
        return ranking_bench.build(task, "routing", options)
    return routing.build(task, [graphrouter.read(options)], options)


def _open_passage(task: str, size: int, options: BuildOptions) -> Built:
    return passage.build_open(task, size, [scifact.read(options), wikiqa.read(options)], options)


def _paper_passage(task: str, size: int, options: BuildOptions) -> Built:
    return passage.build_paper(task, size, ms_marco.read(options), ms_marco.SOURCE, options)


def _recommendation(
    name: str, title: str, query: str, *, paper: Source, free: Source, build: Callable[[BuildOptions], Built]
) -> Task:
    return Task(
        name=name,
        domain="recommendation",
        title=title,
        binary="positive",
        build={"paper": partial(_paper_recommendation, name, query, paper), "open": build},
        sources={"paper": (paper,), "open": (free,)},
    )


def _routing(name: str, title: str) -> Task:
    return Task(
        name=name,
        domain="routing",
        title=title,
        binary="top",
        build={"paper": partial(_paper_routing, name), "open": partial(_open_routing, name)},
        sources={"paper": (graphrouter.SOURCE,), "open": (llmrouter.SOURCE, routerbench.SOURCE)},
    )


def _passage(size: int) -> Task:
    name = f"passage-{size}"
    return Task(
        name=name,
        domain="passage",
        title=f"one relevant passage of {size}",
        binary="positive",
        build={"paper": partial(_paper_passage, name, size), "open": partial(_open_passage, name, size)},
        sources={"paper": (ms_marco.SOURCE,), "open": (scifact.SOURCE, wikiqa.SOURCE)},
    )


def _trec(year: str) -> Task:
    return Task(
        name=f"trec-dl-20{year}",
        domain="passage",
        title=f"TREC Deep Learning 20{year}: rerank BM25's best 100",
        binary="2",
        build={"open": partial(trec_dl.build, year), "paper": partial(trec_dl.build, year)},
        sources={"open": (trec_dl.SOURCES[year],), "paper": (trec_dl.SOURCES[year],)},
    )


_ALL = (
    _recommendation(
        "movie",
        "the movie that a user watches next",
        MOVIE_QUERY,
        paper=ML_1M,
        free=movielens.SOURCE,
        build=_open_movie,
    ),
    _recommendation(
        "music", "the music that a user chooses next", MUSIC_QUERY, paper=CDS, free=lastfm.SOURCE, build=_open_music
    ),
    _recommendation(
        "game",
        "the game that a user buys next",
        GAME_QUERY,
        paper=VIDEO_GAMES,
        free=amazon_games.SOURCE,
        build=_open_game,
    ),
    _routing("router-performance", "the LLM with the best answer"),
    _routing("router-balance", "the LLM with the best balance of quality and cost"),
    _routing("router-cost", "the LLM that is cheap and, if it costs no more, good"),
    _passage(5),
    _passage(7),
    _passage(9),
    _trec("19"),
    _trec("20"),
)

TASKS: dict[str, Task] = {task.name: task for task in _ALL}
ALL_TASKS: tuple[str, ...] = tuple(TASKS)
#: The nine data sets of R1-Ranker, without the retrieval field's own tests.
NINE: tuple[str, ...] = ALL_TASKS[:9]


def task_named(name: str) -> Task:
    """Return a task.

    Raises:
        OptionError: there is none of that name.
    """
    if name not in TASKS:
        raise unknown_choice("task", name, TASKS)
    return TASKS[name]
