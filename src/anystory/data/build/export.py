"""A paired candidate to a record and its files.

Legend: H × W pixels, row first.
"""

from __future__ import annotations

import io

import numpy as np
from PIL import Image
from pydantic import Field

from anystory.data.bad_samples import BadSample
from anystory.data.build.candidates import Candidate, Photo, Rejection
from anystory.data.build.sources.base import BuildOptions
from anystory.data.pixels import encode_png
from anystory.data.reading import read_sample
from anystory.data.records import SampleRecord, SampleReference, SampleSubject, Split
from anystory.subjects.prepare import MARGIN, matte_box

__all__ = ["WriteOptions", "export"]


class WriteOptions(BuildOptions):
    """How pictures are stored, and the size of shards."""

    format: str = Field(default="auto", pattern="^(auto|png|jpeg|webp)$")
    """"auto": PNG for pictures that come from a lossless file, JPEG for all others. Masks are always PNG."""
    quality: int = Field(default=95, ge=1, le=100)
    """Of JPEG and WebP."""
    max_samples: int = Field(default=10_000, ge=1)
    """Most samples in a shard."""
    max_megabytes: int = Field(default=1000, ge=1)
    """Largest shard."""


def export(
    candidate: Candidate, options: WriteOptions, *, split: Split, source: str, licence: str
) -> tuple[SampleRecord, dict[str, bytes]] | Rejection:
    """The record of a candidate and {file: content}, read back with every check of training; or why it is no sample."""
    target = candidate.target
    assert candidate.references is not None, "only paired candidates are exported"
    if not target.caption:
        detail = f"{target.name} has no caption: add the step `caption`, or a text file beside it"
        return Rejection(reason="no_caption", what=candidate.key, detail=detail, unit="sample")
    files: dict[str, bytes] = {}

    def put(stem: str, photo: Photo, rgb: np.ndarray) -> str:
        ending, data = _encode(rgb, options, photo.lossless)
        files[stem + ending] = data
        return stem + ending

    def put_mask(stem: str, matte: np.ndarray) -> str:
        files[f"{stem}.mask.png"] = encode_png(matte)
        return f"{stem}.mask.png"

    image = put("image", target, target.rgb)
    subjects = []
    owners = _without_overlap([instance.matte for instance in target.instances if instance.matte is not None])
    for i, (instance, references) in enumerate(zip(target.instances, candidate.references, strict=True)):
        photos = []
        for j, photo in enumerate(references or (target,)):
            matte = photo.instances[i if not references else 0].matte
            assert matte is not None, "pairing refuses photos without a mask"
            rgb, cut = _cropped(photo.rgb, matte)
            name = f"s{i}.r{j}"
            photos.append(SampleReference(image=put(name, photo, rgb), mask=put_mask(name, cut)))
        subjects.append(SampleSubject(name=instance.name, mask=put_mask(f"s{i}", owners[i]), references=tuple(photos)))
    record = SampleRecord(
        key=candidate.key,
        image=image,
        caption=target.caption,
        subjects=tuple(subjects),
        source=source,
        licence=licence,
        split=split,
    )
    try:
        read_sample(record, files.__getitem__)
    except BadSample as error:
        return Rejection(reason=error.reason, what=candidate.key, detail=f"{target.name}: {error}", unit="sample")
    return record, files


def _without_overlap(mattes: list[np.ndarray]) -> list[np.ndarray]:
    """The mattes, each pixel with its largest one only; of equals with the later one, which is in front."""
    if len(mattes) < 2:
        return mattes
    stack = np.stack(mattes)
    owner = len(mattes) - 1 - stack[::-1].argmax(axis=0)
    return [np.where(owner == i, matte, np.uint8(0)) for i, matte in enumerate(stack)]


def _cropped(rgb: np.ndarray, matte: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The part of a photo around its subject: training would cut away the rest."""
    left, top, right, bottom = matte_box(matte)
    margin = round(2 * MARGIN * max(right - left, bottom - top))
    rows = slice(max(top - margin, 0), bottom + margin)
    columns = slice(max(left - margin, 0), right + margin)
    return np.ascontiguousarray(rgb[rows, columns]), np.ascontiguousarray(matte[rows, columns])


def _encode(rgb: np.ndarray, options: WriteOptions, lossless: bool) -> tuple[str, bytes]:
    """(ending, content), without the camera's metadata."""
    kind = options.format if options.format != "auto" else "png" if lossless else "jpeg"
    if kind == "png":
        return ".png", encode_png(rgb)
    buffer = io.BytesIO()
    if kind == "jpeg":
        Image.fromarray(rgb).save(buffer, "JPEG", quality=options.quality, subsampling=0)
        return ".jpg", buffer.getvalue()
    Image.fromarray(rgb).save(buffer, "WEBP", quality=options.quality)
    return ".webp", buffer.getvalue()
