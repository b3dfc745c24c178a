"""The headers of safetensors files: names, types and shapes without values, and without torch."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path

from safetensors import SafetensorError, safe_open

__all__ = ["ModelPart", "Tensors", "part_of", "parts_by_prefix", "read_headers", "tensors_of", "weight_files"]

Tensors = dict[str, tuple[str, tuple[int, ...]]]
"""{name: (type, shape)} of a file's tensors."""

_SHARD = re.compile(r"(?P<stem>.+?)(-\d+-of-\d+)?(\.(?P<variant>[^.]+))?\.safetensors")


@dataclass(frozen=True, kw_only=True)
class ModelPart:
    """Weights that belong together."""

    name: str
    """A pipeline's component, an adapter's module, or a part of a single file."""
    parameters: int
    dtypes: str
    """Types of the tensors, the commonest first: `F16`, `F16, F32`."""
    bytes: int
    class_name: str = ""


def read_headers(files: Sequence[Path]) -> Tensors:
    """The tensors of some files together.

    Raises:
        ValueError: a file cannot be read as safetensors.
    """
    tensors: Tensors = {}
    for path in files:
        tensors |= _read_header(path)
    return tensors


def _read_header(path: Path) -> Tensors:
    try:
        with safe_open(path, framework="numpy") as file:
            views = {key: file.get_slice(key) for key in file.keys()}  # noqa: SIM118 (not a dict)
            return {key: (view.get_dtype(), tuple(view.get_shape())) for key, view in views.items()}
    except SafetensorError as error:
        raise ValueError(f"{path} cannot be read as safetensors ({error}): download or copy it again") from None


def weight_files(folder: Path) -> dict[str, list[Path]]:
    """{variant ("" for none): its files} of a component's folder."""
    variants: dict[str, list[Path]] = {}
    for path in sorted(folder.glob("*.safetensors")):
        match = _SHARD.fullmatch(path.name)
        variants.setdefault((match and match["variant"]) or "", []).append(path)
    return variants


def tensors_of(folder: Path) -> tuple[Tensors, int]:
    """Tensors of one variant of a component (the plain one if there is), and their files' bytes."""
    variants = weight_files(folder)
    files = variants.get("") or next(iter(variants.values()), [])
    return read_headers(files), sum(path.stat().st_size for path in files)


def part_of(name: str, tensors: Tensors, size: int, class_name: str = "") -> ModelPart:
    """All these tensors as one part of `size` bytes."""
    counts: Counter[str] = Counter()
    for dtype, shape in tensors.values():
        counts[dtype] += prod(shape)
    return ModelPart(
        name=name,
        parameters=sum(counts.values()),
        dtypes=", ".join(dtype for dtype, _ in counts.most_common()),
        bytes=size,
        class_name=class_name,
    )


def parts_by_prefix(tensors: Tensors, name_of: Callable[[str], str]) -> tuple[ModelPart, ...]:
    """Parts that lie in one file; `name_of` tells a tensor's part."""
    groups: dict[str, Tensors] = {}
    for key, value in tensors.items():
        groups.setdefault(name_of(key), {})[key] = value
    return tuple(
        part_of(name, group, sum(-(-prod(shape) * _bits(dtype) // 8) for dtype, shape in group.values()))
        for name, group in sorted(groups.items())
    )


def _bits(dtype: str) -> int:
    """Size of a number: types are called F32, BF16, I8, F8_E4M3, …, and BOOL, which takes a byte."""
    digits = re.search(r"\d+", dtype)
    return int(digits[0]) if digits else 8
