"""The embedded model's tokenizer: CLIP's byte-pair encoding trained until every StoryWorld word is one token."""

from __future__ import annotations

import json
from collections.abc import Sequence

from tokenizers import Tokenizer
from tokenizers.models import BPE
from tokenizers.trainers import BpeTrainer
from transformers import CLIPTokenizer

START, END = "<|startoftext|>", "<|endoftext|>"


def build_tokenizer(words: Sequence[str], max_tokens: int) -> CLIPTokenizer:
    """A `CLIPTokenizer` for which each of `words` (lower case) is one token; other words fall apart into pieces.

    Args:
        words: The vocabulary; its order does not matter. Equal words give equal ids in every process.
        max_tokens: Length every prompt is padded or cut to.

    Raises:
        ValueError: a word that does not come out as one token (it holds something other than letters or one digit).
    """
    words = sorted(set(words))
    # Every printable character, also as a word's last, so that an unknown word still has pieces. All are named before:
    # the trainer numbers what it has to find itself in a hash table's order, and merges in the order of the numbers.
    alphabet = [chr(c) for c in range(33, 127)]
    _check_one_token([word for word in words if not set(word) <= set(alphabet)])
    characters = alphabet + [f"{character}</w>" for character in alphabet]
    trainer = BpeTrainer(  # pyright: ignore[reportCallIssue]
        vocab_size=1_000_000,  # no limit: merge until whole words are reached
        min_frequency=0,
        show_progress=False,
        end_of_word_suffix="</w>",
        special_tokens=characters,
    )
    model = Tokenizer(BPE(end_of_word_suffix="</w>"))
    model.train_from_iterator(words, trainer)
    merges = [tuple(pair) for pair in json.loads(model.to_str())["model"]["merges"]]
    merged = dict.fromkeys(left + right for left, right in merges)  # two merges may make the same piece
    pieces = [*characters, *merged, START, END]
    tokenizer = CLIPTokenizer(
        vocab={piece: index for index, piece in enumerate(pieces)},  # pyright: ignore[reportArgumentType]
        merges=merges,  # pyright: ignore[reportArgumentType]
        model_max_length=max_tokens,
    )
    _check_one_token([word for word in words if len(tokenizer.tokenize(word)) != 1])
    return tokenizer


def _check_one_token(broken: Sequence[str]) -> None:
    if broken:
        raise ValueError(f"words that do not become one token (letters only, or one digit): {broken[:8]}")
