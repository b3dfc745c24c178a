"""Paths in a record that lead out of its folder: its author would choose which of your files are read."""

from __future__ import annotations

import os
from collections.abc import Collection
from pathlib import Path

from anystory.engine.record.schema import PictureRecord
from anystory.pipelines.loading.assets import embedded_models

__all__ = ["paths_outside"]


def paths_outside(record: PictureRecord, folder: Path, given: Collection[str] = ()) -> list[tuple[str, str]]:
    """Everything in a record that is a path out of the record's folder, with what it is: ("model", "/home/…").

    Names of embedded models and hub ids are no paths, unless something of that name lies in the current directory.

    Args:
        record: what was read.
        folder: where.
        given: fields of the record that are not followed.
    """
    from anystory.subjects.cutout import BUILT_IN_SEGMENTERS

    named: list[tuple[str, str | None]] = [
        (name, getattr(record, name)) for name in ("model", "adapter", "config", "image_encoder") if name not in given
    ]
    if "loras" not in given:
        named += [("LoRA", lora.file) for lora in record.loras]
    names = (*BUILT_IN_SEGMENTERS, *embedded_models())
    if "segmenter" not in given:
        named += [("segmenter", subject.segmenter) for subject in record.subjects]
    found = [(what, name) for what, name in named if name is not None and name not in names and _is_path(name)]
    outside = [(what, name) for what, name in found if not _lies_in(Path(name), folder)]
    files = [file.file for file in record.files] + [name for name in (record.picture, record.routing_sheet) if name]
    return outside + [("file", name) for name in files if not _lies_in(folder / name, folder)]


def _is_path(name: str) -> bool:
    parts = name.replace("\\", "/").split("/")
    leads_away = parts[0] in ("", ".") or parts[0].startswith("~") or ".." in parts or os.path.isabs(name)
    return leads_away or name.endswith((".safetensors", ".onnx")) or os.path.lexists(name)


def _lies_in(path: Path, folder: Path) -> bool:
    try:
        return path.resolve().is_relative_to(folder.resolve())
    except (OSError, ValueError, RuntimeError):  # no name that a file can have, or links in a circle
        return False
