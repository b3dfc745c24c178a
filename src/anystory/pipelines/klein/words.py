"""Which text tokens of FLUX.2 are padding, and which name a subject.

Shapes: B prompts, L tokens of text.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

__all__ = ["padding_of", "word_tokens"]


def padding_of(tokenizer: Any, prompts: Sequence[str], length: int) -> Tensor:
    """(B, L) bool: the tokens that only fill a prompt up.

    Args:
        tokenizer: The pipeline's.
        prompts: Texts of the user.
        length: L.
    """
    masks = [_tokenized(tokenizer, prompt, length)["attention_mask"] for prompt in prompts]
    return torch.tensor(masks) == 0


def word_tokens(tokenizer: Any, prompt: str, name: str | None, length: int) -> list[int]:
    """The tokens of all places where a name stands in a prompt as whole words, in any case; none without a name.

    Args:
        tokenizer, length: As for `padding_of`.
        prompt: A text of the user.
        name: A subject's.
    """
    if name is None:
        return []
    text = _chat(tokenizer, prompt)
    pattern = rf"(?<!\w){re.escape(name.strip())}(?!\w)"
    places = [match.span() for match in re.finditer(pattern, text, flags=re.IGNORECASE)]
    offsets = _tokenized(tokenizer, prompt, length, return_offsets_mapping=True)["offset_mapping"]
    return [i for i, (first, last) in enumerate(offsets) if any(first < end and start < last for start, end in places)]


def _chat(tokenizer: Any, prompt: str) -> str:
    """What the stock pipeline makes of a prompt before it is tokenised."""
    messages = [{"role": "user", "content": prompt}]
    return tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True, enable_thinking=False)


def _tokenized(tokenizer: Any, prompt: str, length: int, **more: Any) -> Any:
    return tokenizer(_chat(tokenizer, prompt), padding="max_length", truncation=True, max_length=length, **more)
