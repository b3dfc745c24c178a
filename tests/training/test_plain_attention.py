"""Plain attention equals torch's own, in values and gradients, and leaves to torch what it does not compute."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from anystory.training.launch.devices import forward_pass
from anystory.training.launch.plain_attention import plain_attention

CPU = torch.device("cpu")

ALLOWED = torch.rand(2, 1, 16, 12, generator=torch.Generator().manual_seed(1)) > 0.5
ALLOWED[..., 0] = True  # no row without anything
EMPTY_ROW = ALLOWED.clone()
EMPTY_ROW[0, 0, 3] = False
NUMBERS = torch.randn(2, 1, 16, 12, generator=torch.Generator().manual_seed(2)).masked_fill(~ALLOWED, float("-inf"))


def inputs() -> list[Tensor]:
    """Query (2, 4, 16, 8), key and value (2, 4, 12, 8)."""
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(2, 4, length, 8, generator=generator, requires_grad=True) for length in (16, 12, 12)]


def attention_and_gradients(**arguments: Any) -> list[Tensor]:
    query, key, value = given = inputs()
    out = F.scaled_dot_product_attention(query, key, value, **arguments)
    out.square().sum().backward()
    gradients = [one.grad for one in given]
    return [out, *(gradient for gradient in gradients if gradient is not None)]


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"scale": 0.1},
        {"attn_mask": ALLOWED},
        {"attn_mask": NUMBERS},
        {"attn_mask": EMPTY_ROW},
        {"attn_mask": torch.zeros(16, 12).masked_fill(~EMPTY_ROW[0, 0], float("-inf"))},
        {"is_causal": True},
    ],
    ids=["nothing", "scale", "bools", "numbers", "bools, an empty row", "numbers, an empty row", "causal"],
)
def test_it_equals_torchs_own(arguments: dict[str, Any]) -> None:
    expected = attention_and_gradients(**arguments)
    with forward_pass(CPU, "fp32"):
        found = attention_and_gradients(**arguments)
    assert len(found) == len(expected) == 4
    torch.testing.assert_close(found[0], expected[0], rtol=1e-5, atol=1e-6)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "arguments",
    [{"dropout_p": 0.1}, {"is_causal": True}, {"enable_gqa": True}, {"attn_mask": EMPTY_ROW}],
    ids=["dropout", "causal", "grouped", "an empty row"],
)
def test_what_it_does_not_compute_is_left_to_torch(arguments: dict[str, Any]) -> None:
    query, key, value = inputs()
    assert plain_attention(query, key, value, **arguments) is None


@pytest.mark.parametrize("mask", [None, ALLOWED], ids=["no mask", "a mask"])
def test_a_forward_pass_takes_it_and_multiplies_in_bf16(mask: Tensor | None) -> None:
    """Torch's own form would look for rows of −∞ among all scores."""
    seen: list[tuple[str, torch.dtype]] = []

    class Watch(TorchDispatchMode):
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            seen.append((func.overloadpacket.__name__, args[0].dtype if isinstance(args[0], Tensor) else torch.float32))
            return func(*args, **(kwargs or {}))

    query, key, value = inputs()
    with forward_pass(CPU, "bf16"), Watch():
        F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
    assert [dtype for name, dtype in seen if name == "bmm"] == [torch.bfloat16] * 2
    assert {name for name, _ in seen}.isdisjoint({"_safe_softmax", "isneginf"})
