"""What made a picture besides its settings: weights by their hashes, versions, the machine.

torch is not imported before the environment is asked for.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from functools import lru_cache
from importlib import metadata
from pathlib import Path

from anystory.files import sha256_file

__all__ = ["differences", "environment", "weight_hashes"]

_PACKAGES = (
    "anystory", "torch", "diffusers", "transformers", "tokenizers", "safetensors", "accelerate", "numpy", "pillow",
    "opencv-python-headless", "peft", "bitsandbytes",
)  # fmt: skip
"""Packages whose version can change a picture."""

_MODEL_FILES = (".safetensors", ".json", ".txt")
"""Files of a model folder that can change a picture: weights, configurations, vocabularies."""


def weight_hashes(places: Mapping[str, str | os.PathLike[str]]) -> dict[str, str]:
    """SHA-256 of single files, and of every weight, configuration and vocabulary file below model folders.

    Args:
        places: A name for each folder or file ("model", "adapter"), which begins its files' names in the result; a
            single file has this name and its own suffix, wherever it lies.
    """
    found = {}
    for name, place in places.items():
        if Path(place).is_file():
            found[f"{name}{Path(place).suffix}"] = _hash(Path(place))
            continue
        for path in sorted(Path(place).rglob("*")):
            if path.suffix in _MODEL_FILES and path.is_file():
                found[f"{name}/{path.relative_to(place).as_posix()}"] = _hash(path)
    return found


def _hash(path: Path) -> str:
    """Of a file as it is now: a large model is read once, not for each purpose again."""
    facts = path.stat()
    return _hash_of_version(path.resolve(), facts.st_size, facts.st_mtime_ns, facts.st_ino)


@lru_cache(maxsize=4096)
def _hash_of_version(path: Path, size: int, changed: int, inode: int) -> str:
    return sha256_file(path)


def environment(device: str) -> dict[str, str]:
    """What besides the settings can change a picture: versions, processor, number of threads."""
    import torch

    found = {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "processor": _processor(),
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "threads": str(torch.get_num_threads()),
    }
    if torch.device(device).type == "cuda":
        found["gpu"] = torch.cuda.get_device_name(device)
        found["cuda"] = str(torch.version.cuda)
    return found | {package: _version(package) for package in _PACKAGES}


def differences(then: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    """One line for each entry that differs between two mappings."""
    return [
        f"{name}: {then.get(name, 'absent')} then, {now.get(name, 'absent')} now"
        for name in [*then, *(name for name in now if name not in then)]
        if then.get(name) != now.get(name)
    ]


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "absent"


def _processor() -> str:
    try:  # platform.processor() is empty or just "x86_64" on Linux
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
