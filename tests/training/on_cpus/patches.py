"""FSDP2 in processes on CPUs, where accelerate would choose DDP without a word."""

from __future__ import annotations

import os
from typing import Any

from accelerate import PartialState
from accelerate.state import AcceleratorState
from accelerate.utils import DistributedType


def run_as_asked() -> None:
    """Let accelerate do what the environment asks for; nothing else of it is exchanged."""
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
