"""Where a run computes and in what precision: accelerate's view of it, and what a CPU needs to be quick."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Literal

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedDataParallelKwargs
from torch.nn.attention import SDPBackend, sdpa_kernel

Precision = Literal["auto", "fp32", "bf16"]
"""`auto`: bf16 where the processor multiplies in it, else fp32. Weights and optimizer stay fp32 in every case."""


def bf16_is_native(device: torch.device) -> bool:
    """Whether `device` multiplies bfloat16 in hardware. Elsewhere it is emulated, up to hundreds of times slower."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type == "cpu":
        able = torch.cpu.get_capabilities()
        return bool(able.get("avx512_bf16") or able.get("amx_bf16"))
    return False


def make_accelerator() -> Accelerator:
    """Accelerate's view of the processes and devices that the run was launched on.

    Raises:
        ValueError: its settings ask for something that a resumed run could not continue exactly.
    """
    # Parameters without a gradient are normal here: the coarse projections when their loss has no weight (D5), or a
    # layer that owns no reference pixel in one process's batch.
    accelerator = Accelerator(kwargs_handlers=[DistributedDataParallelKwargs(find_unused_parameters=True)])
    if accelerator.gradient_accumulation_steps != 1:
        raise ValueError("gradient accumulation is not supported: raise batch_size in the recipe instead")
    if accelerator.mixed_precision == "fp16":
        raise ValueError("fp16 training is not supported (its loss scale is not checkpointed): use bf16 or no")
    return accelerator


@contextmanager
def forward_pass(device: torch.device, precision: Precision) -> Iterator[None]:
    """What a stage's forward pass runs in: autocast as `precision` says, and attention that is quick on a CPU.

    Torch's blocked CPU attention saves memory, but its backward pass takes a third of a training step at our lengths
    (`benchmarks/bench_training.py`); two products and a softmax are used instead. What `accelerate launch
    --mixed_precision` asks for is accelerate's to do and holds as well.
    """
    bf16 = precision == "bf16" or (precision == "auto" and bf16_is_native(device))
    before = torch.backends.cuda.fp16_bf16_reduction_math_sdp_allowed()
    with ExitStack() as stack:
        if bf16:
            stack.enter_context(torch.autocast(device.type, dtype=torch.bfloat16))
        if device.type == "cpu":
            # The name says cuda, the switch serves both: without it the plain form multiplies in fp32.
            torch.backends.cuda.allow_fp16_bf16_reduction_math_sdp(True)
            stack.callback(torch.backends.cuda.allow_fp16_bf16_reduction_math_sdp, before)
            stack.enter_context(sdpa_kernel(SDPBackend.MATH))
        yield
