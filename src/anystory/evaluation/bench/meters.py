"""Seconds and peak memory of calls, and the machine that they were taken on."""

from __future__ import annotations

import platform
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch.utils.benchmark import Measurement, Timer

_STATUS, _CLEAR_REFS = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def in_turns(cases: Sequence[Callable[[], Any]], rounds: int, seconds: float) -> list[Measurement]:
    """Times of each case over all rounds, in which the cases take turns: what else the machine does falls on all alike.

    Args:
        cases: functions without arguments; a GPU's work is waited for.
        rounds: turns of each case; each begins with a call that is not timed.
        seconds: length of a turn, but at least one call.
    """
    timers = [Timer("call()", globals={"call": case}, num_threads=torch.get_num_threads()) for case in cases]
    turns = [[timer.blocked_autorange(min_run_time=seconds) for timer in timers] for _ in range(rounds)]
    return [Measurement.merge(own)[0] for own in zip(*turns, strict=True)]


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


def hardware(device: torch.device) -> str:
    """The name of the GPU, or of the processor."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor() or "CPU"


def over_first(values: Sequence[int | None], place: int) -> float | None:
    """A value as a share of the first one; None where one of them is unknown."""
    value, first = values[place], values[0]
    return None if value is None or not first else value / first
