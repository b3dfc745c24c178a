"""Weights in pieces: FSDP2 cuts every trained tensor between the processes, and what is whole must be asked for."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from anystory.models.adapter import SubjectAdapter

WRAPPED = ("BasicTransformerBlock", "ResnetBlock2D", "KeyValue", "Router", "IPAdapterPlusImageProjectionBlock")
"""Modules that are put together as a whole when they run, and cut again after: `configs/accelerate/fsdp2.yaml`."""


def is_sharded(accelerator: Accelerator) -> bool:
    """Whether the run cuts its weights into pieces (FSDP2)."""
    return bool(accelerator.is_fsdp2)


def keep_whole(accelerator: Accelerator, frozen: Iterable[nn.Parameter]) -> None:
    """Leave frozen weights out of what is cut: each process has them all, in a type of their own."""
    plugin: Any = accelerator.state.fsdp_plugin
    plugin.ignored_modules = [nn.ParameterList(frozen)]


def is_cut(tensor: Tensor) -> bool:
    """Whether this is one process's piece of a tensor (a DTensor)."""
    return hasattr(tensor, "full_tensor")


def whole(tensor: Tensor) -> Tensor:
    """The whole of a tensor that may be in pieces. With pieces, every process must ask."""
    return tensor.full_tensor() if is_cut(tensor) else tensor  # pyright: ignore[reportAttributeAccessIssue]


def stored(tensor: Tensor) -> Tensor:
    """The whole of a tensor as files take it: a copy of its own in main memory. With pieces, every process must ask."""
    return whole(tensor).detach().cpu().contiguous().clone()


def like(value: Tensor, target: Tensor) -> Tensor:
    """`value`, which is whole, in pieces as `target` is, where it is."""
    if not is_cut(target):
        return value
    from torch.distributed.tensor import DTensor, distribute_tensor  # from torch 2.5 on, as cutting is

    assert isinstance(target, DTensor)
    return distribute_tensor(value.to(target.device), target.device_mesh, target.placements)


@contextmanager
def gathered(module: nn.Module) -> Iterator[None]:
    """Inside, every process has all weights of a module, whose parts may then be run by themselves, without gradients.

    Every process must enter and run the same: FSDP2 notes in which order parts have run, and fetches them in that order
    later. Left to itself it puts weights together only where a module, and at first the whole, runs as such.
    """
    if not any(is_cut(parameter) for parameter in module.parameters()):
        yield
        return
    from torch.distributed.fsdp import FSDPModule

    pieces = [piece for piece in module.modules() if isinstance(piece, FSDPModule)]
    kept = [piece for piece in pieces if _cuts_again(piece)]
    for piece in pieces:
        piece.reshard()  # what a forward pass has left together may be older than the pieces
        piece.set_reshard_after_forward(False, recurse=False)
        piece.unshard()
    try:
        yield
    finally:
        for piece in pieces:
            piece.reshard()
        for piece in kept:
            piece.set_reshard_after_forward(True, recurse=False)


def _cuts_again(piece: Any) -> bool:
    """Whether a module of FSDP2's is cut again after its forward pass: it can be told, but not asked."""
    return any(group._reshard_after_forward for group in piece._get_fsdp_state()._fsdp_param_groups)


def assembled(module: SubjectAdapter, keep: bool) -> SubjectAdapter | None:
    """An adapter with whole weights, as files hold them: itself, or a copy in main memory if it is in pieces.

    With pieces, every process must ask; those with `keep` false get None and spend no memory on it.
    """
    if not any(is_cut(parameter) for parameter in module.parameters()):
        return module if keep else None
    tensors: dict[str, Tensor] = {}
    for name, value in module.state_dict().items():
        full = whole(value)
        if keep:
            tensors[name] = full.detach().cpu()
    if not keep:
        return None
    with torch.device("meta"):
        copy: Any = SubjectAdapter.from_config(module.config)
    copy.load_state_dict(tensors, assign=True)
    return copy.eval()
