"""Why a run has to end early, in sentences for its user: the command line prints them and exits with 1."""

from __future__ import annotations

import errno

from safetensors import SafetensorError

_FULL = (errno.ENOSPC, errno.EDQUOT)


class RunFailed(Exception):
    """A run that has to end early although nothing was wrong with how it was started."""


class DiskFull(RunFailed):
    """There is no room for what has to be written."""


class DrawingFailed(RunFailed):
    """A process that draws samples died."""


class NotFinite(RunFailed):
    """A loss or a gradient is not a number, or infinite."""


def is_disk_full(error: BaseException) -> bool:
    """Whether an error says that the disk, or what a user may have of it, is full."""
    if isinstance(error, OSError):
        return error.errno in _FULL
    # safetensors hands the system's error on as text only.
    return isinstance(error, SafetensorError) and any(f"os error {number}" in str(error) for number in _FULL)
