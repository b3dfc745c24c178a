"""Where a run computes, in what precision and in what memory layout: accelerate's view of it, and what makes it quick.

Parameter names, and what is written to disk, are the same with every setting here.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from datetime import timedelta
from functools import partial
from typing import Any, Literal

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedDataParallelKwargs, DistributedType, InitProcessGroupKwargs
from diffusers.models.attention import FeedForward
from diffusers.models.resnet import ResnetBlock2D
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.checkpoint import checkpoint
from transformers.models.clip.modeling_clip import CLIPMLP

from anystory.models.patch_autoencoder import PatchAutoencoder
from anystory.precision import bf16_is_native
from anystory.training.launch.plain_attention import PlainAttention

Precision = Literal["auto", "fp32", "bf16"]
"""`auto`: bf16 where the processor multiplies in it, else fp32. Weights and optimizer stay fp32 in every case."""

PATIENCE = timedelta(hours=2)
"""How long processes wait for the main one, which writes checkpoints, validates and draws; NCCL's own 10 minutes are
soon over on a slow disk."""


def make_accelerator() -> Accelerator:
    """Accelerate's view of the processes and devices that the run was launched on.

    Raises:
        ValueError: its settings ask for something that is not supported.
    """
    # Parameters without a gradient are normal here: a layer that owns no reference pixel in one process's batch.
    ddp = DistributedDataParallelKwargs(find_unused_parameters=True, gradient_as_bucket_view=True)
    if _asked_for("DEEPSPEED"):
        raise ValueError(
            "DeepSpeed is not supported, FSDP2 does the same: use configs/accelerate/zero2.yaml for ZeRO-2, or "
            "configs/accelerate/fsdp2.yaml for ZeRO-3"
        )
    accelerator = Accelerator(kwargs_handlers=[ddp, InitProcessGroupKwargs(timeout=PATIENCE)])
    kind = accelerator.distributed_type
    if _asked_for("FSDP") and accelerator.num_processes > 1 and kind != DistributedType.FSDP:
        raise ValueError(
            f"FSDP was asked for and accelerate chose {kind.value}, as it does on CPUs: use "
            "configs/accelerate/ddp.yaml there"
        )
    if accelerator.gradient_accumulation_steps != 1:
        raise ValueError(
            "gradients are accumulated as the recipe's global_batch says, on any number of processes: leave "
            "gradient_accumulation_steps out of accelerate's settings"
        )
    if kind == DistributedType.FSDP and not accelerator.is_fsdp2:
        raise ValueError("FSDP's first version is not supported: set fsdp_version to 2 (configs/accelerate/fsdp2.yaml)")
    if accelerator.mixed_precision == "fp16":
        raise ValueError("fp16 training is not supported (its loss scale is not checkpointed): use bf16 or no")
    return accelerator


def _asked_for(plugin: str) -> bool:
    """Whether `accelerate launch` was given a configuration with this plugin."""
    return os.environ.get(f"ACCELERATE_USE_{plugin}", "false").lower() == "true"


@contextmanager
def forward_pass(device: torch.device, precision: Precision) -> Iterator[None]:
    """What a stage's forward pass runs in: autocast as `precision` says, and attention that is quick on a CPU.

    Torch's blocked CPU attention saves memory, but its backward pass takes a third of a training step at our lengths
    (`anystory bench training`); two products and a softmax are used instead. What `accelerate launch
    --mixed_precision` asks for is accelerate's to do and holds as well.
    """
    with ExitStack() as stack:
        if computes_in(device, precision) == torch.bfloat16:
            # Its cache would keep a copy of every trained weight to the end of the pass, recomputed blocks or not; each
            # weight is used once.
            stack.enter_context(torch.autocast(device.type, dtype=torch.bfloat16, cache_enabled=False))
        stack.enter_context(quick_attention(device))
        yield


def computes_in(device: torch.device, precision: Precision) -> torch.dtype:
    """The type that the heavy operations of a forward pass run in."""
    bf16 = precision == "bf16" or (precision == "auto" and bf16_is_native(device))
    return torch.bfloat16 if bf16 else torch.float32


@contextmanager
def quick_attention(device: torch.device) -> Iterator[None]:
    """Inside, attention takes the form that trains quickest on `device`: on a CPU the plain one."""
    before = torch.backends.cuda.fp16_bf16_reduction_math_sdp_allowed()
    with ExitStack() as stack:
        if device.type == "cpu":
            # For what `PlainAttention` leaves to torch. The name says cuda, the switch serves both: without it torch's
            # plain form multiplies in fp32.
            torch.backends.cuda.allow_fp16_bf16_reduction_math_sdp(True)
            stack.callback(torch.backends.cuda.allow_fp16_bf16_reduction_math_sdp, before)
            stack.enter_context(sdpa_kernel(SDPBackend.MATH))
            stack.enter_context(PlainAttention())
        yield


def recomputed(block: Callable[..., Any], *arguments: Any) -> Any:
    """Run a block and forget what is inside it; the backward pass runs it once more (Chen et al. 2016).

    The second run must meet what the first met. Autocast and the global random state are torch's to restore;
    attention's form is restored here, and the noise of the routing decisions is kept by `RoutingState`.
    """
    device = next(a.device for a in arguments if isinstance(a, torch.Tensor))
    contexts = partial(_run_contexts, device)
    return checkpoint(block, *arguments, use_reentrant=False, context_fn=contexts)


def _run_contexts(device: torch.device) -> tuple[AbstractContextManager[Any], AbstractContextManager[Any]]:
    """What the first and the second run of a block stand in."""
    return nullcontext(), quick_attention(device)


COMPILED_SHAPES = 64
"""Shapes that one kind of block may be compiled for, over torch's own 8: the mini's stages need up to 39 in all."""


def set_layout(module: nn.Module, device: torch.device, channels_last: bool) -> None:
    """Move a module to `device`, its convolutions' weights channels-last in memory or as usual.

    Parameters stay the same objects, so optimizers and names do not change.
    """
    module.to(device)
    module.to(memory_format=torch.channels_last if channels_last else torch.contiguous_format)  # pyright: ignore


@torch.no_grad()
def follow_layout(optimizer: torch.optim.Optimizer) -> None:
    """Lay the moments out as their parameters are: checkpoints hold them contiguous.

    The fused step goes through both as they lie in memory, and mixes up the weights where they differ.
    """
    for parameter, state in optimizer.state.items():
        for key, value in state.items():
            if isinstance(value, torch.Tensor) and value.shape == parameter.shape:
                state[key] = torch.empty_like(parameter, dtype=value.dtype).copy_(value)


def can_compile() -> bool:
    """Whether this torch can switch what it has compiled off again (2.6 and newer), which sample pictures need."""
    return hasattr(torch.compiler, "set_stance")


def compile_blocks(module: nn.Module, backend: str = "inductor") -> int:
    """Compile the heavy blocks of a module in place: residual and feed-forward blocks, the autoencoder's halves.

    Blocks, not whole networks: alike blocks share one compilation, which counts in a budget of minutes, and attention,
    whose processors depend on the call's subjects, is left as it is. Returns how many there are. Run them inside
    `compiled_shapes`.
    """
    blocks: list[nn.Module] = [m for m in module.modules() if isinstance(m, (ResnetBlock2D, FeedForward, CLIPMLP))]
    for part in module.modules():
        if isinstance(part, PatchAutoencoder):
            blocks += [part.encoder, part.decoder]
    for block in blocks:
        block.compile(backend=backend)
    return len(blocks)


@contextmanager
def compiled_shapes() -> Iterator[None]:
    """Inside, every block is compiled for every shape it meets; torch would soon stop compiling, with a warning."""
    with torch._dynamo.config.patch(recompile_limit=COMPILED_SHAPES):  # pyright: ignore
        yield


@contextmanager
def uncompiled() -> Iterator[None]:
    """Inside, compiled blocks run as written: pictures come in shapes of their own, each a compilation otherwise."""
    if not can_compile():
        yield
        return
    with torch.compiler.set_stance("force_eager"):
        yield
