"""What a run leaves: the model in half precision, and the logs, in few small files.

python scripts/gpu/handover.py WORK OUT

Writes OUT/model.tar.00, .01, … (join them to unpack: `cat model.tar.* | tar -x`) and OUT/logs.tar.gz. Unlike
`anystory train --pack-to` it takes a model that is not complete yet.
"""

from __future__ import annotations

import io
import shutil
import sys
import tarfile
import tempfile
from pathlib import Path

from safetensors import safe_open
from safetensors.torch import load_file, save_file

PART = 15 * 2**20
"""Bytes of one file; small enough for most ways of copying."""

MAX_BYTES = 48 * 2**20


def halve(model: Path, target: Path) -> None:
    """Copy a model folder, its floating-point tensors in half precision."""
    shutil.copytree(model, target, ignore=shutil.ignore_patterns("*.safetensors"))
    for path in model.rglob("*.safetensors"):
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata()
        halved = {key: value.half() if value.is_floating_point() else value for key, value in load_file(path).items()}
        save_file(halved, target / path.relative_to(model), metadata=metadata)


def parts(folder: Path) -> list[bytes]:
    """The folder's content as a tar archive in pieces of at most `PART` bytes.

    Raises:
        ValueError: it is larger than the shipping limit.
    """
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        archive.add(folder, arcname=".")
    whole = buffer.getvalue()
    if len(whole) > MAX_BYTES:
        raise ValueError(f"the model has {len(whole) / 2**20:.1f} MiB in half precision, the limit is 48 MiB")
    return [whole[i : i + PART] for i in range(0, len(whole), PART)]


def main(work: Path, out: Path) -> None:
    """Write both archives, replacing what an earlier call left."""
    with tempfile.TemporaryDirectory() as scratch:
        halve(work / "main" / "model", Path(scratch) / "model")
        pieces = parts(Path(scratch) / "model")
    for old in out.glob("model.tar.*"):
        old.unlink()
    for number, piece in enumerate(pieces):
        (out / f"model.tar.{number:02d}").write_bytes(piece)
    with tarfile.open(out / "logs.tar.gz", "w:gz") as archive:
        for log in sorted([*work.glob("*.log"), *work.glob("*/*/*/log.jsonl")]):
            own = log if log.suffix == ".log" else log.parent
            archive.add(own, arcname=own.relative_to(work).as_posix(), filter=_logs_only)
    print(f"handed on: {sum(map(len, pieces)) / 2**20:.1f} MiB in {len(pieces)} files")


def _logs_only(entry: tarfile.TarInfo) -> tarfile.TarInfo | None:
    """What is worth its bytes: the losses and the sample pictures."""
    return None if {"checkpoints", "tensorboard"} & set(Path(entry.name).parts) else entry


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
