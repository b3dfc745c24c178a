"""What rows read on FLUX.2: the fast form against the matrix, and the matrix against the rules in words."""

from __future__ import annotations

import math
from itertools import product
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from anystory.models.klein.reading import ReferencePart, SampleReads, dense_bias, reading_plan

TEXT, PIXELS = 3, 8
CPU = torch.device("cpu")
OWNERS = torch.tensor([0, 1, 1, 3, 3, 2, 0, 2])
"""Subject 0 is at pixels 1 to 4, subject 1 at 3, 4, 5 and 7."""


def part(length: int = 2, subject: int | None = None, strength: float = 1.0) -> ReferencePart:
    return ReferencePart(length=length, subject=subject, bias=math.log(strength) if strength else -math.inf)


def reads(*parts: ReferencePart, placed: tuple[int, ...] = (), **settings: Any) -> SampleReads:
    owners = OWNERS & sum(1 << n for n in placed) if placed else None
    return SampleReads(text=TEXT, pixels=PIXELS, references=parts, placed=frozenset(placed), owners=owners, **settings)


def random_qkv(count: int) -> list[Tensor]:
    draws = torch.Generator().manual_seed(0)
    return [torch.randn(2, count, 2, 8, generator=draws) for _ in range(3)]


def plainly(given: SampleReads, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    query, key, value = (x.transpose(1, 2) for x in (query, key, value))
    return F.scaled_dot_product_attention(query, key, value, attn_mask=dense_bias(given)).transpose(1, 2)


PARTS = {
    "none": (),
    "two photos of one": (part(subject=0), part(subject=0)),
    "three": (part(subject=0, strength=0.5), part(subject=1, strength=2.0), part(3, subject=2)),
    "one of them not there": (part(subject=0, strength=0), part(subject=1)),
    "a picture of the call": (part(4), part(subject=0), part(subject=1)),
}
CLOSED = {"open": None, "padding": torch.tensor([False, True, True]), "all": torch.ones(TEXT, dtype=torch.bool)}


@pytest.mark.parametrize("closed", CLOSED)
@pytest.mark.parametrize("parts", PARTS)
def test_both_forms_attend_alike(parts: str, closed: str) -> None:
    for isolation, placed in product(("off", "on", "strict"), ((), (1,), (0, 1))):
        given = reads(*PARTS[parts], placed=placed, closed=CLOSED[closed], isolation=isolation)
        qkv = random_qkv(given.tokens)
        plan = reading_plan(given, CPU, torch.float32)
        torch.testing.assert_close(plan.attend(*qkv), plainly(given, *qkv), rtol=1e-5, atol=1e-6)


def test_every_row_is_in_one_group_and_contiguous_ones_are_not_copied() -> None:
    given = reads(part(), part(subject=0), part(3, subject=1))
    plan = reading_plan(given, CPU, torch.float32)
    [group] = plan.groups  # text and picture read everything
    assert (group.rows, group.keys, group.bias) == (slice(0, 11), slice(0, 18), None)
    assert plan.alone == ((11, 2, 2), (15, 1, 3))
    split = reading_plan(reads(part(subject=0), part(subject=1), placed=(0, 1)), CPU, torch.float32)
    rows = torch.cat([torch.arange(15)[group.rows] for group in split.groups])
    assert sorted(rows.tolist()) == list(range(11))
    assert len(split.groups) == 4  # with both (text, and two pixels), with either, with nobody


def seen(given: SampleReads) -> Tensor:
    """(Q, Q) bool."""
    return dense_bias(given) > -math.inf


def test_what_is_isolated_reads_itself_only() -> None:
    matrix = seen(reads(part(), part(subject=0), part(subject=1)))
    assert matrix[:11].all()
    assert torch.equal(matrix[11:, 11:], torch.block_diag(*[torch.ones(2, 2)] * 3).bool())
    assert not matrix[11:, :11].any()
    assert seen(reads(part(), part(subject=0), isolation="off")).all()


def test_a_place_is_who_reads_a_subject_and_strict_isolation_keeps_its_pixels_in() -> None:
    on = seen(reads(part(subject=0), part(subject=1), placed=(0,)))
    inside = (OWNERS & 1).bool()
    assert torch.equal(on[TEXT:11, 11], inside)
    assert on[:TEXT].all()
    assert on[TEXT:11, 13].all()
    assert on[:11, :11].all()
    strict = seen(reads(part(subject=0), part(subject=1), placed=(0,), isolation="strict"))
    assert torch.equal(strict[TEXT:11, 11], inside)
    assert not strict[:TEXT, 11:13].any()
    assert strict[:TEXT, 13:].all()
    assert torch.equal(strict[0, TEXT:11], ~inside)
    assert torch.equal(strict[TEXT:11, TEXT:11], inside[:, None] | ~inside[None])


def test_gates_and_strengths() -> None:
    bias = dense_bias(reads(part(), part(subject=0, strength=0.5), closed=CLOSED["padding"]))
    assert bias[0, 13] == pytest.approx(math.log(0.5))
    assert bias[5, 13] == pytest.approx(math.log(0.5))
    assert (bias[1:3, 13:] == -math.inf).all()
    assert (bias[:3, 11:13] == 0).all()  # a picture of the call's own is not gated
    assert (bias[13:, 13:] == 0).all()


def test_what_is_the_stock_model() -> None:
    both = (part(), part(subject=0))
    assert reads(*both, isolation="off").is_stock
    assert reads(isolation="on").is_stock
    assert not reads(*both).is_stock
    assert not reads(part(subject=0, strength=0.5), isolation="off").is_stock
    assert not reads(*both, isolation="off", closed=CLOSED["all"]).is_stock
    assert not reads(part(subject=0), isolation="off", placed=(0,)).is_stock
