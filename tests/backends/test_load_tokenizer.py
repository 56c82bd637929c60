from __future__ import annotations

from pathlib import Path

from tokenizers import Tokenizer, models, normalizers, pre_tokenizers
from transformers import PreTrainedTokenizerFast, Qwen2Config

from unified_ranker.backends.tokenizer import load_tokenizer


def test_a_word_tokenizer_beside_a_qwen2_model_comes_back_as_it_was(tmp_path: Path) -> None:
    # AutoTokenizer builds Qwen2's own tokenizer here, which splits the words into letters.
    core = Tokenizer(models.WordPiece({"[UNK]": 0, "red": 1, "stone": 2, "##s": 3}, unk_token="[UNK]"))
    core.normalizer = normalizers.Lowercase()
    core.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=core, unk_token="[UNK]")
    tokenizer.save_pretrained(tmp_path)
    Qwen2Config(vocab_size=4, hidden_size=8, num_hidden_layers=1, num_attention_heads=1).save_pretrained(tmp_path)
    assert load_tokenizer(str(tmp_path))("Red stones", add_special_tokens=False)["input_ids"] == [1, 2, 3]
