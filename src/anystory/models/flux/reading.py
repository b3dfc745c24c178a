"""What the rows of a FLUX block read.

Text and appearances read everything; a pixel reads the text, the picture, and its owner's appearance and reference.

The keys of a sample come in parts: [text | appearance of each subject | picture | reference of each subject].

Shapes: N subjects, L tokens of text and appearances, S of the picture, K keys, H heads of width e.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from diffusers.models.attention_dispatch import dispatch_attention_fn
from torch import Tensor

from anystory.models.flux.owners import NOBODY, Groups

__all__ = ["KeyLayout", "KeyPart", "dense_attention", "grouped_attention"]

_EVERYTHING = NOBODY - 1
"""The reader of all parts: text and appearances, and pixels where nothing is routed."""
_LEFT_OUT = -math.inf


@dataclass(frozen=True, kw_only=True)
class KeyPart:
    """Keys that stand together."""

    length: int
    subject: int = NOBODY
    """Whose appearance or reference they are; NOBODY for text and picture."""
    bias: float = 0.0
    """Added to the scores of every row: shift and log of the scale, −∞ for what does not act."""


@dataclass(kw_only=True, eq=False)
class KeyLayout:
    """The parts of one sample's keys: the same in all layers of one call of the transformer."""

    parts: Sequence[KeyPart]
    device: torch.device
    dtype: torch.dtype
    _biases: dict[tuple[int, ...], Tensor | None] = field(default_factory=dict)

    def read_by(self, reader: int) -> tuple[int, ...]:
        """The parts that act and that a reader reads: pixels of an owner, or text."""
        acting = [(i, part) for i, part in enumerate(self.parts) if part.bias > _LEFT_OUT]
        return tuple(i for i, part in acting if reader == _EVERYTHING or part.subject in (NOBODY, reader))

    def bias(self, parts: tuple[int, ...]) -> Tensor | None:
        """(1, K) over the keys of these parts; None where there is none."""
        if parts not in self._biases:
            chosen = [self.parts[i] for i in parts]
            values = [value for part in chosen for value in [part.bias] * part.length]
            row = torch.tensor([values], device=self.device, dtype=self.dtype)
            self._biases[parts] = row if any(part.bias for part in chosen) else None
        return self._biases[parts]


def dense_attention(
    query: Tensor, keys: Sequence[Tensor], values: Sequence[Tensor], layout: KeyLayout, owners: Tensor | None
) -> Tensor:
    """The plain form: one bias over every row and key, −∞ for pixels on keys of a subject that is not their owner.

    Args:
        query: (L + S, H, e) of one sample.
        keys, values: (K_p, H, e) of each of the layout's parts.
        layout: The parts.
        owners: (S,) of its pixels, or None where nothing is routed.

    Returns:
        (L + S, H, e).
    """
    lengths, count = [part.length for part in layout.parts], sum(part.length for part in layout.parts)

    def each(values: list[Any]) -> Tensor:
        """(K,) a part's value for each of its keys."""
        repeats = torch.tensor(lengths, device=query.device)
        return torch.tensor(values, device=query.device).repeat_interleave(repeats, output_size=count)

    bias = each([part.bias for part in layout.parts]).expand(len(query), -1)
    if owners is not None:
        subject = each([part.subject for part in layout.parts])
        foreign = (subject != NOBODY) & (subject != owners[:, None])  # (S, K)
        bias = bias.clone()
        bias[-len(owners) :] = bias[-len(owners) :].masked_fill(foreign, _LEFT_OUT)
    return _attention(query, torch.cat([*keys]), torch.cat([*values]), bias.to(query.dtype))


def grouped_attention(
    query: Tensor, keys: Sequence[Tensor], values: Sequence[Tensor], layout: KeyLayout, groups: Groups | None
) -> Tensor:
    """The same, exactly, without the keys that a row does not read: rows go together by what they read.

    Args:
        query, keys, values, layout: As for the plain form.
        groups: The pixels by owner, or None where nothing is routed.
    """

    def read(rows: Tensor, reader: int) -> Tensor:
        parts = layout.read_by(reader)
        own_keys, own_values = (torch.cat([all_parts[i] for i in parts]) for all_parts in (keys, values))
        return _attention(rows, own_keys, own_values, layout.bias(parts))

    if groups is None:
        return read(query, _EVERYTHING)
    texts = len(query) - len(groups.order)
    owners, sizes = zip(*groups.sizes, strict=True)
    rows = query[texts:][groups.order].split(sizes)
    pixels = torch.cat([read(own, owner) for own, owner in zip(rows, owners, strict=True)])
    return torch.cat([read(query[:texts], _EVERYTHING), torch.empty_like(pixels).index_copy_(0, groups.order, pixels)])


def _attention(query: Tensor, key: Tensor, value: Tensor, bias: Tensor | None) -> Tensor:
    mask = None if bias is None else bias[None, None]
    return dispatch_attention_fn(query[None], key[None], value[None], attn_mask=mask)[0]
