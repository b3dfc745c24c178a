"""Seconds and peak memory of one call."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

_STATUS, _CLEAR_REFS = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def seconds_of(call: Callable[[], Any], device: torch.device) -> float:
    """Wall-clock seconds until the call's work is done, on a GPU as well."""
    _wait(device)
    start = time.perf_counter()
    call()
    _wait(device)
    return time.perf_counter() - start


def peak_bytes(call: Callable[[], Any], device: torch.device) -> int | None:
    """Most memory held during the call, weights included: allocated on a GPU; resident in RAM on Linux' CPUs.

    None where neither can be asked. What the allocator has kept from earlier calls counts as resident.
    """
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
        call()
        return torch.cuda.max_memory_allocated(device)
    try:
        _CLEAR_REFS.write_text("5")  # sets the peak back to what is resident now
    except OSError:
        call()
        return None
    call()
    found = re.search(r"^VmHWM:\s+(\d+) kB", _STATUS.read_text(), re.MULTILINE)
    return int(found.group(1)) * 1024 if found else None


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
