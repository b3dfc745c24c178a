"""bfloat16 is used where the processor multiplies in it, and nowhere else."""

from __future__ import annotations

import pytest
import torch

from anystory.precision import bf16_is_native, native_bf16

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("able", "native"),
    [({"avx512_bf16": True}, True), ({"amx_bf16": True}, True), ({"avx512_bf16": False}, False), ({}, False)],
)
def test_a_processor_without_bf16_is_spared_it(monkeypatch, able, native):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: able)
    assert bf16_is_native(CPU) == native
    with native_bf16(CPU):
        product = torch.ones(2, 2) @ torch.ones(2, 2)
    assert product.dtype == (torch.bfloat16 if native else torch.float32)


def test_unknown_devices_are_spared_it():
    assert not bf16_is_native(torch.device("meta"))
