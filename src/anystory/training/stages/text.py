"""The text condition of a U-Net of SDXL's kind, from one text encoder or two."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from transformers import CLIPTextModelWithProjection, CLIPTokenizer

from ..components import ModelFolder
from .common import tokenize


class TextEncoders(nn.Module):
    """A model's text encoders in SDXL's order; the last one, which every such model has, is also the pooled one.

    Args:
        folder: whose they are.
    """

    encoders: Any
    """A ModuleList of one or two."""

    def __init__(self, folder: ModelFolder) -> None:
        super().__init__()
        first, tokenizer = folder.load_if_any("text_encoder"), folder.load_if_any("tokenizer")
        both = first is not None and tokenizer is not None
        self.tokenizers: list[CLIPTokenizer] = [*([tokenizer] if both else []), folder.load("tokenizer_2")]
        self.encoders = nn.ModuleList([*([first] if both else []), folder.load("text_encoder_2")])

    @property
    def pooled(self) -> CLIPTextModelWithProjection:
        """The encoder that gives the pooled text."""
        return self.encoders[-1]

    def forward(self, captions: Sequence[str], device: torch.device) -> tuple[Tensor, Tensor]:
        """SDXL's text condition: penultimate hidden states of all encoders side by side (B, L, d), pooled (B, p)."""
        return self.encode_ids([tokenize(tokenizer, captions, device) for tokenizer in self.tokenizers])

    def encode_ids(self, ids: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """The same for each encoder's token ids (B, L)."""
        outputs = [encoder(own, output_hidden_states=True) for encoder, own in zip(self.encoders, ids, strict=True)]
        hidden = [output.hidden_states[-2] for output in outputs]
        return torch.cat(hidden, dim=-1) if len(hidden) > 1 else hidden[0], outputs[-1].text_embeds
