"""What the rows of a FLUX.2 block read, for subjects that must not mix.

The tokens of a sample are [text | picture | reference 1 | reference 2 | …]. The stock model lets all of them read all.
Here

- a reference reads itself only (isolation);
- a pixel reads a subject's references if the subject is held to no place, or the pixel lies in its place;
- text rows read the references but for those that the text gate closes;
- with strict isolation nothing that a place holds leaves it: a pixel, and text, reads no pixel of a place that it does
  not lie in, and text no reference of a subject that has a place.

`dense_bias` says this as one matrix for the stock attention: the plain form. `reading_plan` groups rows that read the
same keys, so that no matrix and no masked operation is needed: the fast form.

Shapes: Q all tokens of a sample, L of text, S of the picture, K keys, H heads of width e.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from typing import Literal, TypeAlias

import torch
from diffusers.models.attention_dispatch import dispatch_attention_fn
from torch import Tensor

__all__ = ["Isolation", "ReadingPlan", "ReferencePart", "SampleReads", "dense_bias", "reading_plan"]

Isolation: TypeAlias = Literal["off", "on", "strict"]
_LEFT_OUT = -math.inf


@dataclass(frozen=True, kw_only=True)
class ReferencePart:
    """The tokens of one reference."""

    length: int
    subject: int | None
    """Whose photo it is; None for a picture that every pixel may read."""
    bias: float = 0.0
    """Added to the scores of all rows that read it, the log of the subject's strength; −∞ where it is not there."""


@dataclass(frozen=True, kw_only=True, eq=False)
class SampleReads:
    """All that decides what the rows of one sample read. Its tensors are on the CPU."""

    text: int
    """L."""
    pixels: int
    """S."""
    references: tuple[ReferencePart, ...]
    placed: frozenset[int] = frozenset()
    """The subjects that are held to a place."""
    owners: Tensor | None = None
    """(S,) int64 with bit n set where subject n of `placed` is; None where none is placed."""
    closed: Tensor | None = None
    """(L,) bool: text rows that read no reference of a subject; None for none."""
    isolation: Isolation = "on"

    @property
    def is_stock(self) -> bool:
        """Whether all rows read everything, as in the stock model."""
        if not self.references:
            return self.isolation != "strict" or not self.placed
        plain = self.isolation == "off" and not self.placed and self.closed is None
        return plain and not any(part.bias for part in self.references)

    @property
    def tokens(self) -> int:
        """Q."""
        return self.text + self.pixels + sum(part.length for part in self.references)

    def inside(self, subject: int) -> Tensor:
        """(S,) bool: the pixels in the place of a subject that has one."""
        assert self.owners is not None
        return self.owners >> subject & 1 == 1

    def spans(self) -> Iterator[tuple[ReferencePart, slice]]:
        """Each reference with its place in the sequence."""
        start = self.text + self.pixels
        for part in self.references:
            yield part, slice(start, start + part.length)
            start += part.length


def dense_bias(reads: SampleReads) -> Tensor:
    """The plain form: (Q, Q) float32, what is added to the score of each row and key; −∞ where a row does not read."""
    text, end = reads.text, reads.text + reads.pixels
    bias = torch.zeros(reads.tokens, reads.tokens)
    for part, own in reads.spans():
        bias[:end, own] = part.bias
        if part.subject is not None and reads.closed is not None:
            bias[:text, own].masked_fill_(reads.closed[:, None], _LEFT_OUT)
        if part.subject in reads.placed:
            bias[text:end, own].masked_fill_(~reads.inside(part.subject)[:, None], _LEFT_OUT)
            if reads.isolation == "strict":
                bias[:text, own] = _LEFT_OUT
        if reads.isolation != "off":
            bias[own] = _LEFT_OUT
            bias[own, own] = 0
        elif part.bias == _LEFT_OUT:
            bias[end:, own] = _LEFT_OUT
    for inside in map(reads.inside, reads.placed if reads.isolation == "strict" else ()):
        bias[:text, text:end].masked_fill_(inside, _LEFT_OUT)
        bias[text:end, text:end].masked_fill_(inside & ~inside[:, None], _LEFT_OUT)
    return bias


@dataclass(frozen=True, kw_only=True, eq=False)
class RowGroup:
    """Rows that read the same keys."""

    rows: slice | Tensor
    keys: slice | Tensor
    bias: Tensor | None
    """(1, K) or None."""


@dataclass(frozen=True, kw_only=True, eq=False)
class ReadingPlan:
    """The fast form of what rows read: every row is in one of the groups or in one of the runs."""

    groups: tuple[RowGroup, ...]
    alone: tuple[tuple[int, int, int], ...]
    """(start, count, length) of references, one after another, that each read themselves only."""

    def attend(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """Attention of samples that read alike.

        Args:
            query, key, value: (B, Q, H, e).

        Returns:
            (B, Q, H, e).
        """
        out = torch.empty_like(query)
        for group in self.groups:
            mask = None if group.bias is None else group.bias[None, None]
            keys, values = key[:, group.keys], value[:, group.keys]
            out[:, group.rows] = dispatch_attention_fn(query[:, group.rows], keys, values, attn_mask=mask)
        for start, count, length in self.alone:
            own = slice(start, start + count * length)
            q, k, v = (x[:, own].unflatten(1, (count, length)).flatten(0, 1) for x in (query, key, value))
            found = dispatch_attention_fn(q, k, v)
            out[:, own] = found.unflatten(0, (-1, count)).flatten(1, 2)
        return out


def reading_plan(reads: SampleReads, device: torch.device, dtype: torch.dtype) -> ReadingPlan:
    """The fast form of what the rows of a sample read.

    Args:
        reads: It.
        device, dtype: Of the attention.
    """
    rows_of: dict[tuple[Tensor | None, tuple[int, ...]], list[Tensor]] = {}
    masks: dict[int, Tensor | None] = {}
    for rows, owner, parts in _row_classes(reads):
        if len(rows):
            mask = masks.setdefault(owner, _readable_pixels(reads, owner))
            rows_of.setdefault((mask, parts), []).append(rows)
    groups = [
        RowGroup(
            rows=_compact(torch.cat(rows).sort().values, device),
            keys=_compact(_keys(reads, mask, parts), device),
            bias=_bias(reads, mask, parts, device, dtype),
        )
        for (mask, parts), rows in rows_of.items()
    ]
    end, rest = reads.text + reads.pixels, tuple(range(len(reads.references)))
    if reads.isolation == "off":
        there = tuple(i for i in rest if reads.references[i].bias > _LEFT_OUT)
        if rest:
            keys = _compact(_keys(reads, None, there), device)
            groups.append(RowGroup(rows=slice(end, reads.tokens), keys=keys, bias=None))
        return ReadingPlan(groups=tuple(groups), alone=())
    alone, start = [], end
    for length, run in groupby(reads.references, key=lambda part: part.length):
        count = len(list(run))
        alone.append((start, count, length))
        start += count * length
    return ReadingPlan(groups=tuple(groups), alone=tuple(alone))


def _row_classes(reads: SampleReads) -> Iterator[tuple[Tensor, int, tuple[int, ...]]]:
    """Rows of text and picture, the bits of the places that they lie in, and the references that they read."""
    parts = [(i, part) for i, part in enumerate(reads.references) if part.bias > _LEFT_OUT]
    text = torch.arange(reads.text)
    held = reads.placed if reads.isolation == "strict" else frozenset()
    closed = torch.zeros(reads.text, dtype=torch.bool) if reads.closed is None else reads.closed
    yield text[~closed], 0, tuple(i for i, part in parts if part.subject not in held)
    if closed.any():
        yield text[closed], 0, tuple(i for i, part in parts if part.subject is None)
    pixels = torch.arange(reads.text, reads.text + reads.pixels)
    owners = torch.zeros(reads.pixels, dtype=torch.int64) if reads.owners is None else reads.owners
    for owner in owners.unique().tolist():
        read = (i for i, part in parts if part.subject not in reads.placed or owner >> part.subject & 1)
        yield pixels[owners == owner], owner, tuple(read)


def _readable_pixels(reads: SampleReads, owner: int) -> Tensor | None:
    """(S,) the pixels that rows in these places read; None for all."""
    if reads.isolation != "strict" or reads.owners is None:
        return None
    return reads.owners & ~owner == 0


def _keys(reads: SampleReads, mask: Tensor | None, parts: tuple[int, ...]) -> Tensor:
    """(K,) indices, ascending."""
    picture = torch.arange(reads.text, reads.text + reads.pixels)
    spans = [torch.arange(own.start, own.stop) for _, own in reads.spans()]
    return torch.cat([torch.arange(reads.text), picture if mask is None else picture[mask], *(spans[i] for i in parts)])


def _bias(
    reads: SampleReads, mask: Tensor | None, parts: tuple[int, ...], device: torch.device, dtype: torch.dtype
) -> Tensor | None:
    chosen = [reads.references[i] for i in parts]
    if not any(part.bias for part in chosen):
        return None
    plain = reads.text + (reads.pixels if mask is None else int(mask.sum()))
    values = [0.0] * plain + [part.bias for part in chosen for _ in range(part.length)]
    return torch.tensor([values], device=device, dtype=dtype)


def _compact(indices: Tensor, device: torch.device) -> slice | Tensor:
    """Ascending indices, at least one, as a slice where they follow one another, which needs no copy."""
    first, last = int(indices[0]), int(indices[-1])
    return slice(first, last + 1) if last - first + 1 == len(indices) else indices.to(device)
