"""What an error means for a job. Nothing heavy is imported."""

from __future__ import annotations

from pathlib import Path

from anystory.engine.screening import UnsafePicture
from anystory.serving.work.messages import Failed

__all__ = ["EXPECTED", "failure"]

EXPECTED = (ValueError, OSError, ArithmeticError, MemoryError)
"""Errors after which a worker continues; FloatingPointError is an ArithmeticError."""


def failure(job: str, error: BaseException, folder: Path) -> Failed | None:
    """What is told of an error, without the folders of this machine; None for a bug, or a device that has failed.

    Args:
        job: The job's id.
        error: What was raised.
        folder: The job's.
    """
    said = " ".join(str(error).split()).replace(f"{folder}/", "")
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return Failed(job=job, kind="server_error", message="not enough memory: ask for fewer or smaller pictures")
    if isinstance(error, OSError):
        return Failed(job=job, kind="server_error", message=error.strerror or said)
    if isinstance(error, UnsafePicture):
        return Failed(job=job, kind="content_policy", message=said)
    if isinstance(error, EXPECTED):
        return Failed(job=job, kind="invalid_request", message=said or type(error).__name__)
    return None
