"""Small samples made in the tests: files in memory, and the record that names them."""

from __future__ import annotations

import io
import random
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from anystory.data.manifest import Manifest, write_manifest
from anystory.data.pixels import encode_png
from anystory.data.records import SampleRecord, SampleReference, SampleSubject


def jpeg(pixels: np.ndarray) -> bytes:
    data = io.BytesIO()
    Image.fromarray(pixels).save(data, "JPEG", quality=95)
    return data.getvalue()


def make_sample(
    key: str = "a", *, subjects: int = 2, size: tuple[int, int] = (48, 64), seed: int = 0, **changes: Any
) -> tuple[SampleRecord, dict[str, bytes]]:
    """A target (H, W) with side-by-side subjects; references with alpha (even) or a mask of their own (odd)."""
    rng = np.random.default_rng(random.Random(f"{key}/{seed}").randrange(2**32))
    height, width = size
    image = rng.integers(0, 255, (height // 8, width // 8, 3), dtype=np.uint8).repeat(8, 0).repeat(8, 1)
    files = {f"{key}/target.png": encode_png(image)}
    records = []
    for i in range(subjects):
        mask = np.zeros((height, width), np.uint8)
        left = width * i // subjects
        mask[8 : height - 8, left + 2 : left + width // subjects - 2] = 255
        files[f"{key}/mask{i}.png"] = encode_png(mask)
        photo = rng.integers(0, 255, (40, 30, 4), dtype=np.uint8)
        photo[..., 3] = 0
        photo[4:36, 6:24, 3] = 255
        if i % 2:
            files[f"{key}/photo{i}.jpeg"] = jpeg(photo[..., :3])
            files[f"{key}/photo{i}-mask.png"] = encode_png(np.ascontiguousarray(photo[..., 3]))
            reference = SampleReference(image=f"{key}/photo{i}.jpeg", mask=f"{key}/photo{i}-mask.png")
        else:
            files[f"{key}/photo{i}.png"] = encode_png(photo)
            reference = SampleReference(image=f"{key}/photo{i}.png")
        records.append(SampleSubject(name=f"subject {i}", mask=f"{key}/mask{i}.png", references=(reference,)))
    values = {"caption": f"{subjects} things", "source": "made here", "licence": "CC0-1.0", **changes}
    return SampleRecord(key=key, image=f"{key}/target.png", subjects=tuple(records), **values), files


def make_manifest(folder: Path, bad: dict[int, str], count: int = 10) -> Manifest:
    """Samples k0 …; `bad` says which have no caption, an unreadable target, or a missing reference."""
    records = []
    for i in range(count):
        kind = bad.get(i)
        record, files = make_sample(f"k{i}", subjects=1 + i % 2, caption="" if kind == "caption" else "some words")
        if kind == "picture":
            files[record.image] = b""
        if kind == "reference":
            del files[record.subjects[0].references[0].image]
        for name, data in files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(data)
        records.append(record)
    write_manifest(records, folder / "manifest.jsonl")
    return Manifest(folder / "manifest.jsonl")
