"""Amazon Video Games as LLMRank publishes it: one row a user with the whole ordered history and the next item."""

from __future__ import annotations

import html

from unified_ranker.tasks.base import BuildOptions, Source, open_text
from unified_ranker.tasks.recommendation import Interactions

from unified_ranker.errors import DataError
from unified_ranker.schema.types import Candidate

SOURCE = Source(
    folder="rec_game_amazon-games-6k",
    title="Amazon Video Games (LLMRank Games-6k)",
    url="https://github.com/RUCAIBox/LLMRank (llmrank/dataset/Games-6k)",
    licence="repository MIT; underlying Amazon Review Data 2018 without an explicit redistribution licence",
)


def read(options: BuildOptions) -> Interactions:
    """Read each user's history with the last item appended; an item chosen twice counts the first time.

    Raises:
        DataError: a row does not have three columns or names an unknown item.
    """
    items: dict[str, Candidate] = {}
    with open_text(options.find(SOURCE, "Games-6k.item")) as file:
        next(file)
        for line in file:
            item, _, title = line.rstrip("\r\n").partition("\t")
            items[item] = Candidate(id=item, title=html.unescape(title), text="")
    histories: dict[str, list[str]] = {}
    path = options.find(SOURCE, "Games-6k.test.inter")
    with open_text(path) as file:
        next(file)
        for number, line in enumerate(file, start=2):
            parts = line.rstrip("\r\n").split("\t")
            if len(parts) != 3:
                raise DataError(f"{path}, row {number}: {len(parts)} columns; expected user, history, next item")
            chosen = list(dict.fromkeys([*parts[1].split(), parts[2]]))
            for item in chosen:
                if item not in items:
                    raise DataError(f"{path}, row {number}: item {item!r} is not in the item file")
            histories[parts[0]] = chosen
    return Interactions(histories, items)
