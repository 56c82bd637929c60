"""Amazon Video Games as LLMRank publishes it: one row a user with the whole ordered history and the next item."""

from __future__ import annotations

import html

from unified_ranker.tasks.base import BuildOptions, Source
from unified_ranker.tasks.recommendation import Interactions
from unified_ranker.tasks.sources.reading import table

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
        DataError: a row has not all columns, or names an unknown item.
    """
    games = table(options.find(SOURCE, "Games-6k.item"), ("item_id", "title"), delimiter="\t", quoted=False)
    items = {
        row["item_id"]: Candidate(id=row["item_id"], title=html.unescape(row["title"]), text="") for _, row in games
    }
    histories: dict[str, list[str]] = {}
    path = options.find(SOURCE, "Games-6k.test.inter")
    for number, row in table(path, ("user_id", "item_id_list", "item_id"), delimiter="\t", quoted=False):
        chosen = list(dict.fromkeys([*row["item_id_list"].split(), row["item_id"]]))
        for item in chosen:
            if item not in items:
                raise DataError(f"{path}, row {number}: item {item!r} is not in the item file")
        histories[row["user_id"]] = chosen
    return Interactions(histories, items)
