"""SubjectConditioning: a value that is checked, and what steps share."""

from __future__ import annotations

import gc
import math
import weakref
from dataclasses import FrozenInstanceError, replace

import pytest
import torch

from anystory.models import Everywhere, Gumbel, RecordedMaps, SubjectConditioning
from models.tiny import encode, run_unet, seeded


def test_scales_of_a_later_step_are_another_value(encoded):
    first = SubjectConditioning(encoded=encoded)
    assert first.slot_scales().tolist() == [[1, 1, 1]]
    second = replace(first, scales=torch.tensor([[0, 2]]))
    assert second.slot_scales().tolist() == [[0, 2, 1]]
    assert second.reference_bias().tolist() == [[0, 0]]
    third = replace(second, reference_scales=torch.tensor([[0.0, math.e]]))
    torch.testing.assert_close(third.reference_bias(), torch.tensor([[-math.inf, 1.0]]))
    assert third.slot_scales().tolist() == [[0, 2, 1]]
    assert first.slot_scales().tolist() == [[1, 1, 1]]
    with pytest.raises(FrozenInstanceError):
        first.scales = second.scales  # type: ignore[misc]  # pyright: ignore[reportAttributeAccessIssue]


def test_steps_share_what_is_kept_and_other_subjects_do_not(adapter, encoded):
    first = SubjectConditioning(encoded=encoded)
    assert replace(first, scales=torch.zeros(1, 2)).cache is first.cache
    with torch.no_grad():
        others = encode(adapter, 1, 2)
    assert replace(first, encoded=others).cache is not first.cache


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"scales": torch.ones(2)}, "scales must be"),
        ({"scales": torch.tensor([[1.0, torch.nan]])}, "scales must be finite"),
        ({"reference_scales": torch.ones(1, 3)}, "reference_scales must be"),
        ({"reference_scales": torch.tensor([[1.0, -0.1]])}, "reference_scales must be at least 0"),
        ({"unconditional": "none"}, "unconditional must be 'empty' or 'base'"),
        ({"gate": Everywhere(), "record": RecordedMaps()}, "without the router there are no maps to record"),
    ],
)
def test_values_are_checked(encoded, changes, message):
    with pytest.raises(ValueError, match=message):
        SubjectConditioning(encoded=encoded, **changes)


def test_the_fast_form_is_for_what_asks_no_gradient(encoded):
    call = SubjectConditioning(encoded=encoded)
    assert not call.takes_fast_form
    with torch.no_grad():
        assert call.takes_fast_form
        assert not replace(call, gate=Gumbel()).takes_fast_form
        assert not replace(call, fast=False).takes_fast_form


def test_a_graph_ends_with_its_step(unet, adapter):
    """No circle of references: in one, a step's graph would stay in memory until the garbage collector comes."""
    record = RecordedMaps(keep_graph=True)
    call = SubjectConditioning(encoded=encode(adapter, 1, 1), gate=Gumbel(1.0, seeded(0)), record=record)
    with adapter.installed_on(unet):
        run_unet(unet, call)
    held = weakref.ref(next(iter(record.maps.values())).refined)
    gc.disable()
    try:
        del call, record
        assert held() is None
    finally:
        gc.enable()
