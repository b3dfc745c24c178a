"""Unknown words are told by the tokenizer itself."""

from __future__ import annotations

from typing import Any

import pytest

from anystory.engine.vocabulary import WORD_LEVEL, unknown_words
from anystory.training.model.tokenizer import build_tokenizer

WORDS = ("a", "fox", "robot", "rabbit", "moon", "on", "beach", "the", "that", "hat", ",")


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return build_tokenizer(WORDS, max_tokens=16)


def test_known_words_are_not_named(tokenizer):
    assert unknown_words("A fox, on the BEACH", [tokenizer]) == []


def test_unknown_words_come_with_the_nearest_known_ones(tokenizer):
    found = unknown_words("a foxx and that robots on the moon, foxx", [None, tokenizer])
    assert [word for word, _ in found] == ["foxx", "and", "robots"]
    assert found[0].nearest[0] == "fox"
    assert found[2].nearest[0] == "robot"
    assert found[1].nearest == ()


def test_pieces_of_words_are_not_suggested(tokenizer):
    ends = [entry.removesuffix("</w>") for entry in tokenizer.get_vocab() if entry.endswith("</w>")]
    pieces = {end for end in ends if len(end) > 1 and end not in WORDS}  # steps on the way to a word
    assert pieces
    for piece in pieces:
        (word,) = unknown_words(f"{piece}q", [tokenizer])
        assert not pieces & set(word.nearest)


def test_large_vocabularies_know_all_words(tokenizer):
    class Large:
        def __len__(self) -> int:
            return WORD_LEVEL

    assert unknown_words("xyzzy", [Large()]) == []
    assert unknown_words("xyzzy", [None]) == []
    assert len(unknown_words("xyzzy", [tokenizer])) == 1
