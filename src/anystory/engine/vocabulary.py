"""Words that a model cannot know, for models with a small vocabulary of whole words."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterable
from typing import Any, NamedTuple

__all__ = ["UnknownWord", "unknown_words"]

WORD_LEVEL = 5000
"""A tokenizer with fewer entries than this was made for a small world, one entry per word; one with more (CLIP's has
49,408) composes any word from pieces that its text encoder has seen."""

_END = "</w>"


class UnknownWord(NamedTuple):
    """A word of the prompt, and the known words that look most like it, best first (there may be none)."""

    word: str
    nearest: tuple[str, ...]


def unknown_words(prompt: str, tokenizers: Iterable[Any]) -> list[UnknownWord]:
    """The words of a prompt that a model with a small vocabulary does not know, each once, in their order.

    A word is known when a tokenizer maps it to one token. Models whose tokenizers are large know all words.

    Args:
        prompt: The text.
        tokenizers: The model's tokenizers; None among them is passed over.
    """
    small = [tokenizer for tokenizer in tokenizers if tokenizer is not None]
    if not small or any(len(tokenizer) >= WORD_LEVEL for tokenizer in small):
        return []
    known = sorted({word for tokenizer in small for word in _words_of(tokenizer)})
    found = dict.fromkeys(re.findall(r"[^\W_]+|[^\w\s]", prompt.lower()))
    return [
        UnknownWord(word, tuple(difflib.get_close_matches(word, known, n=3, cutoff=0.6)))
        for word in found
        if not any(_is_one_token(tokenizer, word) for tokenizer in small)
    ]


def _is_one_token(tokenizer: Any, word: str) -> bool:
    tokens = tokenizer.tokenize(word)
    return len(tokens) == 1 and tokens[0] != tokenizer.unk_token


def _words_of(tokenizer: Any) -> list[str]:
    """Whole words of a vocabulary, to suggest.

    Of a byte-pair encoding these are the entries that end a word and that no merge uses further: "oon" is only there to
    make "moon". That loses the few words that end another one ("hat" in "that"), which is no harm in a suggestion.
    """
    specials = {*tokenizer.all_special_tokens, *_merged_further(tokenizer)}
    entries = [entry for entry in tokenizer.get_vocab() if entry not in specials]
    ends = [entry.removesuffix(_END) for entry in entries if entry.endswith(_END)]
    return [word for word in (ends or entries) if len(word) > 1 and _is_one_token(tokenizer, word)]


def _merged_further(tokenizer: Any) -> set[str]:
    """The entries of a byte-pair encoding that merges use as a part of longer ones."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        return set()
    merges = json.loads(backend.to_str())["model"].get("merges", [])
    pairs = (merge.split(" ") if isinstance(merge, str) else merge for merge in merges)
    return {part for pair in pairs for part in pair}
