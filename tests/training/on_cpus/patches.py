"""FSDP2 and DeepSpeed in processes on CPUs, where accelerate would take DDP, and say nothing, or one process alone."""

from __future__ import annotations

import os
from importlib import import_module
from typing import Any

from accelerate import PartialState
from accelerate.state import AcceleratorState
from accelerate.utils import DistributedType


def run_as_asked() -> None:
    """Let accelerate do what the environment asks for; nothing else of it is exchanged."""
    if os.environ.get("ACCELERATE_USE_DEEPSPEED"):
        let_deepspeed_run_on_cpus()
    if os.environ.get("ACCELERATE_USE_FSDP"):
        let_fsdp_run_on_cpus()


def let_fsdp_run_on_cpus() -> None:
    """Accelerate would take DDP there, and say nothing."""
    plain = AcceleratorState.__init__

    def init(self: AcceleratorState, *given: Any, fsdp_plugin: Any = None, **named: Any) -> None:
        plain(self, *given, fsdp_plugin=fsdp_plugin, **named)
        if fsdp_plugin is not None:
            self.distributed_type, self.fsdp_plugin = DistributedType.FSDP, fsdp_plugin
            PartialState._shared_state["distributed_type"] = DistributedType.FSDP

    AcceleratorState.__init__ = init


def let_deepspeed_run_on_cpus() -> None:
    """Accelerate would start DeepSpeed on GPUs only, and DeepSpeed would first compile messages of its own."""
    found = DistributedType.MULTI_CPU
    PartialState._prepare_backend = lambda self, *_, **__: ("gloo", found)  # pyright: ignore[reportAttributeAccessIssue]
    messages: Any = import_module("deepspeed.comm.torch")
    messages.build_shm_op = lambda: None
