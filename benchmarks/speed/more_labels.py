"""A copy of a local model with more labels, so that lists can be longer than those it was trained for.

Its new labels are untrained: for measuring time and tokens, not for ranking. Its first labels answer as before.
"""

from __future__ import annotations

import json
from pathlib import Path

from unified_ranker.errors import OptionError
from unified_ranker.model_settings import FILE_NAME, read_settings


def with_labels(model: Path, count: int, *, out: Path) -> Path:
    """Return a folder of the model with at least ``count`` labels; the model's own where it has enough or needs none.

    Args:
        model: A folder.
        count: How many labels are needed.
        out: Where a copy is written.

    Raises:
        OptionError: the model's labels do not count up, so that nobody knows what the next would be.
    """
    settings = read_settings(model)
    labels = settings.labels
    if not labels or len(labels) >= count:
        return model
    if labels != tuple(f"<{number}>" for number in range(1, len(labels) + 1)):
        raise OptionError(f"the model has {len(labels)} labels that do not count up; ask for no longer lists")
    import torch
    from transformers import AutoModelForCausalLM

    from unified_ranker.backends.tokenizer import load_tokenizer

    tokenizer = load_tokenizer(str(model))
    more = [f"<{number}>" for number in range(len(labels) + 1, count + 1)]
    tokenizer.add_tokens(more, special_tokens=False)
    loaded = AutoModelForCausalLM.from_pretrained(model)
    torch.manual_seed(0)
    loaded.resize_token_embeddings(len(tokenizer))
    loaded.save_pretrained(out)
    tokenizer.save_pretrained(out)
    record = json.loads((model / FILE_NAME).read_text(encoding="utf-8"))
    record["labels"] = [*labels, *more]
    (out / FILE_NAME).write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    return out
