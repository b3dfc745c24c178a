"""Counting what a computation holds and does while it runs, on any device; on the meta device nothing is computed.

`Meter` follows every storage from its first operation to its end, as an allocator would: what autograd keeps, what a
block needs in passing, what is computed twice. Fragmentation and what lies outside torch are not in it.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map
from torch.utils.flop_counter import flop_registry


class Meter(TorchDispatchMode):
    """Inside, bytes of the storages that are made (`live`, at most `peak`), and operations (`flops`).

    Storages that exist before are not counted.
    """

    def __init__(self) -> None:
        super().__init__()
        self.live = self.peak = self.flops = 0
        self._known: dict[int, int] = {}

    def ignore(self, tensors: list[Tensor]) -> None:
        """Leave these storages out."""
        for tensor in tensors:
            self._follow(tensor.untyped_storage(), 0)

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        before = {leaf.untyped_storage()._cdata for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)}
        result = func(*args, **kwargs)
        packet = func._overloadpacket
        if packet in flop_registry:
            self.flops += flop_registry[packet](*args, **kwargs, out_val=result)
        for leaf in tree_leaves(result):
            if isinstance(leaf, Tensor):
                storage = leaf.untyped_storage()
                if storage._cdata not in before and storage._cdata not in self._known:
                    self._follow(storage, storage.nbytes())
        return result

    def _follow(self, storage: Any, size: int) -> None:
        key = storage._cdata
        self._known[key] = size
        self.live += size
        self.peak = max(self.peak, self.live)
        weakref.finalize(storage, self._forget, key)

    def _forget(self, key: int) -> None:
        self.live -= self._known.pop(key, 0)


_LOWER: set[Any] = {
    F.linear, F.conv2d, torch.matmul, Tensor.matmul, Tensor.__matmul__, torch.bmm, torch.baddbmm, torch.einsum,
}  # fmt: skip
_UPPER: set[Any] = {
    F.group_norm, F.layer_norm, F.softmax, torch.softmax, Tensor.softmax, torch.exp, Tensor.exp, torch.log, Tensor.log,
    torch.sum, Tensor.sum, Tensor.pow, Tensor.square,
}  # fmt: skip


class LikeAGpu(TorchFunctionMode):
    """Inside, operations take the types and kernels that they take on a GPU, whatever the device is.

    Args:
        bf16: as under `torch.autocast`, whose lists of operations are repeated here: the meta device has no autocast.
    """

    def __init__(self, bf16: bool) -> None:
        super().__init__()
        self.bf16 = bf16

    @contextmanager
    def exact(self) -> Iterator[None]:
        """Inside, types are left as they are: `torch.autocast(…, enabled=False)`."""
        before, self.bf16 = self.bf16, False
        try:
            yield
        finally:
            self.bf16 = before

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func is F.scaled_dot_product_attention:
            return _fused_attention(self.bf16, *args, **kwargs)
        if self.bf16 and (func in _LOWER or func in _UPPER):
            cast = _to(torch.bfloat16 if func in _LOWER else torch.float32)
            args = tree_map(cast, args)
            kwargs = {name: tree_map(cast, value) for name, value in kwargs.items()}
        return func(*args, **kwargs)


def _to(dtype: torch.dtype) -> Callable[[Any], Any]:
    return lambda leaf: leaf.to(dtype) if isinstance(leaf, Tensor) and leaf.is_floating_point() else leaf


def _fused_attention(
    bf16: bool, query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None = None, *_: Any, **__: Any
) -> Tensor:
    """The kernels that a GPU takes: neither holds the scores."""
    aten: Any = torch.ops.aten
    if bf16:
        query, key, value = (part.to(torch.bfloat16) for part in (query, key, value))
    if attn_mask is None:
        return aten._scaled_dot_product_flash_attention(query, key, value, 0.0, False)[0]
    if attn_mask.dtype == torch.bool:  # the kernel takes numbers only
        attn_mask = torch.zeros_like(attn_mask, dtype=query.dtype).masked_fill(~attn_mask, float("-inf"))
    shape = (*query.shape[:-1], key.shape[-2])
    return aten._scaled_dot_product_efficient_attention(
        query, key, value, attn_mask.to(query.dtype).expand(shape), torch.is_grad_enabled()
    )[0]
