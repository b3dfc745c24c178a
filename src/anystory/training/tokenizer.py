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
        words: The vocabulary; order does not matter.
        max_tokens: Length every prompt is padded or cut to.

    Raises:
        ValueError: a word that does not come out as one token (it holds something other than letters or one digit).
    """
    words = sorted(set(words))
    trainer = BpeTrainer(  # pyright: ignore[reportCallIssue]
        vocab_size=1_000_000,  # no limit: merge until whole words are reached
        min_frequency=0,
        show_progress=False,
        end_of_word_suffix="</w>",
        # Every printable character, also as a word's last, so that an unknown word still has pieces.
        initial_alphabet=[chr(c) for c in range(33, 127)],
    )
    model = Tokenizer(BPE(end_of_word_suffix="</w>"))
    model.train_from_iterator(words, trainer)
    trained = json.loads(model.to_str())["model"]
    pieces = sorted(trained["vocab"], key=trained["vocab"].__getitem__)
    pieces += [f"{chr(c)}</w>" for c in range(33, 127)]
    vocab = {piece: index for index, piece in enumerate(dict.fromkeys(pieces))}
    for special in (START, END):
        vocab[special] = len(vocab)
    tokenizer = CLIPTokenizer(
        vocab=vocab,  # pyright: ignore[reportArgumentType]
        merges=[tuple(m) for m in trained["merges"]],  # pyright: ignore[reportArgumentType]
        model_max_length=max_tokens,
    )
    broken = [word for word in words if len(tokenizer.tokenize(word)) != 1]
    if broken:
        raise ValueError(f"words that do not become one token (letters only, or one digit): {broken[:8]}")
    return tokenizer
