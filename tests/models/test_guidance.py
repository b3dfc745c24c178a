"""Guidance: both forms of the rule for the unconditional half say the same."""

from __future__ import annotations

import pytest
import torch

from anystory.models.attention import slot_attention
from anystory.models.guidance import (
    background_everywhere,
    check_unconditional,
    gate_of_both_halves,
    unconditional_term,
)
from models.tiny import gate_of, seeded


def test_all_background_is_one_slot():
    gate = gate_of(torch.tensor([[0, 1, 2, 1]]), 3)
    assert background_everywhere(gate)[0].tolist() == [[0] * 4, [0] * 4, [1] * 4]
    assert background_everywhere(gate.unflatten(2, (2, 2))).shape == (1, 3, 2, 2)


@pytest.mark.parametrize("unconditional", ["empty", "base"])
def test_the_unconditional_term_is_what_the_gate_says(unconditional):
    generator = seeded(0)
    query = torch.randn(2, 2, 6, 4, generator=generator)
    key, value = torch.randn(2, 2, 3, 2, 5, 4, generator=generator)
    gate = gate_of(torch.randint(0, 3, (2, 6), generator=generator), 3)
    both = gate_of_both_halves(gate, unconditional)
    assert torch.equal(both[2:], gate)
    assert not both[:2, :-1].any(), "no subject, so no reference"
    expected = slot_attention(query, key, value, both[:2])
    torch.testing.assert_close(unconditional_term(query, key, value, unconditional), expected)


def test_another_rule_is_refused():
    with pytest.raises(ValueError, match="unconditional must be 'empty' or 'base', got 'none'"):
        check_unconditional("none")
