"""The text condition of a U-Net of SDXL's kind, from one text encoder or two."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from transformers import CLIPTextModelWithProjection, CLIPTokenizer

from anystory.training.model.components import ModelFolder
from anystory.training.stages.common import tokenize


class TextEncoders(nn.Module):
    """A model's text encoders in SDXL's order; the last one, which every such model has, is also the pooled one.

    Args:
        folder: whose they are.
    """

    encoders: Any
    """A ModuleList of one or two."""
    names: tuple[str, ...]
    """What they are called in a model's folder."""

    def __init__(self, folder: ModelFolder) -> None:
        super().__init__()
        first: Any = folder.load_if_any("text_encoder")
        tokenizer: Any = folder.load_if_any("tokenizer")
        both = first is not None and tokenizer is not None
        tokenizers: list[Any] = [*([tokenizer] if both else []), folder.load("tokenizer_2")]
        encoders: list[Any] = [*([first] if both else []), folder.load("text_encoder_2")]
        self.tokenizers: list[CLIPTokenizer] = tokenizers
        self.encoders = nn.ModuleList(encoders)
        self.names = ("text_encoder", "text_encoder_2") if both else ("text_encoder_2",)
        self.resting = False

    def rest(self) -> None:
        """From now on keep frozen encoders in main memory, and bring them to the device for the time of a call.

        They are no longer part of the module that holds them: moving it leaves them where they are.
        """
        encoders = self.encoders.requires_grad_(False)
        del self.encoders
        object.__setattr__(self, "encoders", encoders)  # past Module's own, which would register it
        self.resting = True

    @property
    def pooled(self) -> CLIPTextModelWithProjection:
        """The encoder that gives the pooled text."""
        return self.encoders[-1]

    def forward(self, captions: Sequence[str], device: torch.device) -> tuple[Tensor, Tensor]:
        """SDXL's text condition: penultimate hidden states of all encoders side by side (B, L, d), pooled (B, p)."""
        return self.encode_ids([tokenize(tokenizer, captions, device) for tokenizer in self.tokenizers])

    def encode_ids(self, ids: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """The same for each encoder's token ids (B, L)."""
        outputs = [self._run(encoder, own) for encoder, own in zip(self.encoders, ids, strict=True)]
        hidden = [output.hidden_states[-2] for output in outputs]
        return torch.cat(hidden, dim=-1) if len(hidden) > 1 else hidden[0], outputs[-1].text_embeds

    def _run(self, encoder: Any, ids: Tensor) -> Any:
        if not self.resting:
            return encoder(ids, output_hidden_states=True)
        try:
            return encoder.to(ids.device)(ids, output_hidden_states=True)
        finally:
            encoder.to("cpu")
