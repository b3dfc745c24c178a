"""FSDP2 shards every trained tensor between the processes; here full tensors become shards, and shards full tensors."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from anystory.models.adapter import SubjectAdapter

WRAPPED = ("BasicTransformerBlock", "ResnetBlock2D", "KeyValue", "Router", "IPAdapterPlusImageProjectionBlock")
"""Modules that are gathered as a whole when they run, and sharded again after: `configs/accelerate/fsdp2.yaml`."""


def is_sharded(accelerator: Accelerator) -> bool:
    """Whether the run shards its weights (FSDP2)."""
    return bool(accelerator.is_fsdp2)


def ignore_frozen(accelerator: Accelerator, frozen: Iterable[nn.Parameter]) -> None:
    """Shard no frozen weights: each process has them all, in a type of their own."""
    plugin: Any = accelerator.state.fsdp_plugin
    plugin.ignored_modules = [nn.ParameterList(frozen)]


def full_tensor(tensor: Tensor) -> Tensor:
    """All of a tensor that may be sharded. If it is, every process must call this."""
    return tensor.full_tensor() if _is_shard(tensor) else tensor  # pyright: ignore[reportAttributeAccessIssue]


def full_copy(tensor: Tensor) -> Tensor:
    """A contiguous copy of `full_tensor` in main memory, as files take it."""
    return full_tensor(tensor).detach().cpu().contiguous().clone()


def shard(value: Tensor, like: Tensor) -> Tensor:
    """The full tensor `value`, sharded as `like` is."""
    if not _is_shard(like):
        return value
    from torch.distributed.tensor import DTensor, distribute_tensor  # from torch 2.5 on, as FSDP2 is

    assert isinstance(like, DTensor)
    return distribute_tensor(value.to(like.device), like.device_mesh, like.placements)


@contextmanager
def unsharded(module: nn.Module) -> Iterator[None]:
    """Inside, every process has all weights of a module, whose parts may then be run by themselves, without gradients.

    Every process must enter and run the same: FSDP2 notes in which order parts have run, and gathers them in that order
    later. Left to itself it gathers weights only where a module, and at first the whole, runs as such.
    """
    if not any(_is_shard(parameter) for parameter in module.parameters()):
        yield
        return
    from torch.distributed.fsdp import FSDPModule

    parts = [part for part in module.modules() if isinstance(part, FSDPModule)]
    kept = [part for part in parts if _reshards(part)]
    for part in parts:
        part.reshard()  # what a forward pass has left gathered may be older than the shards
        part.set_reshard_after_forward(False, recurse=False)
        part.unshard()
    try:
        yield
    finally:
        for part in parts:
            part.reshard()
        for part in kept:
            part.set_reshard_after_forward(True, recurse=False)


def unsharded_adapter(adapter: SubjectAdapter, keep: bool) -> SubjectAdapter | None:
    """An adapter with full weights, as files hold them: itself, or a copy in main memory if it is sharded.

    Args:
        adapter: if it is sharded, every process must call this.
        keep: whether this process, the main one, wants it; the others get None and spend no memory on it.
    """
    if not any(_is_shard(parameter) for parameter in adapter.parameters()):
        return adapter if keep else None
    from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict

    tensors = get_model_state_dict(adapter, options=StateDictOptions(full_state_dict=True, cpu_offload=True))
    if not keep:
        return None
    with torch.device("meta"):
        copy: Any = SubjectAdapter.from_config(adapter.config)
    copy.load_state_dict(tensors, assign=True)
    return copy.eval()


def _is_shard(tensor: Tensor) -> bool:
    """Whether this is one process's part of a tensor (a DTensor)."""
    return hasattr(tensor, "full_tensor")


def _reshards(part: Any) -> bool:
    """Whether FSDP2 shards a module again after its forward pass: it can be told, but not asked."""
    return any(group._reshard_after_forward for group in part._get_fsdp_state()._fsdp_param_groups)
