"""A record and its files to arrays, with every check: the result can be trained on.

Legend: N subjects, H × W pixels of the target, row first.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

import numpy as np

from anystory.data.bad_samples import BadSample
from anystory.data.pixels import PixelCount, ReadLimits, decode_mask, decode_picture
from anystory.data.records import SampleRecord, SampleReference
from anystory.subjects.arrays import rgba_on_white

__all__ = ["LoadedSample", "OpenMember", "Target", "read_reference", "read_sample", "read_target"]

OpenMember: TypeAlias = Callable[[str], bytes]
"""A file's content by the name that the record gives it; FileNotFoundError or KeyError where there is none."""


class Target(NamedTuple):
    """The picture to be drawn, and whose pixels are whose."""

    image: np.ndarray
    """(H, W, 3) uint8."""
    masks: np.ndarray
    """(N, H, W) bool; subject i's pixels. They do not overlap."""
    masked: bool
    """False: the only subject came without a mask, and `masks` is True everywhere."""


@dataclass(frozen=True, kw_only=True, eq=False)
class LoadedSample:
    """A sample, decoded and checked."""

    key: str
    caption: str
    image: np.ndarray
    """(H, W, 3) uint8."""
    masks: np.ndarray
    """(N, H, W) bool; subject i's pixels. They do not overlap."""
    masked: bool
    """False: the only subject came without a mask, and `masks` is True everywhere."""
    references: tuple[tuple[np.ndarray, ...], ...]
    """Per subject its photos (h, w, 4), uint8, straight alpha: 255 is the subject."""
    names: tuple[str, ...]
    """What the subjects are called; may be empty strings."""
    place: np.ndarray | None
    """(h, w, 3) uint8: the place without the subjects."""
    source: str
    licence: str


def read_sample(
    record: SampleRecord,
    open_member: OpenMember,
    *,
    limits: ReadLimits | None = None,
) -> LoadedSample:
    """Decode and check a sample.

    Args:
        record: The sample's record.
        open_member: Reads a file that the record names.
        limits: What makes a sample bad; None takes the defaults.

    Raises:
        BadSample: it cannot be used.
    """
    count = PixelCount(limits or ReadLimits())
    image, masks, masked = read_target(record, open_member, count)
    references = tuple(
        tuple(read_reference(photo, open_member, count) for photo in subject.references) for subject in record.subjects
    )
    background = None
    if record.place is not None:
        background = _over_white(_picture(open_member, record.place, f"place {record.place}", count))
    return LoadedSample(
        key=record.key,
        caption=record.caption,
        image=image,
        masks=masks,
        masked=masked,
        references=references,
        names=tuple(subject.name for subject in record.subjects),
        place=background,
        source=record.source,
        licence=record.licence,
    )


def read_target(record: SampleRecord, open_member: OpenMember, count: PixelCount) -> Target:
    """The target with its masks. The caption is checked, too.

    Args:
        record: The sample's record.
        open_member: Reads a file that the record names.
        count: Counts the sample's pixels, and holds the limits.

    Raises:
        BadSample: no caption; the picture or a mask is missing, unreadable, too small or too large; a mask of another
            size, empty, or overlapping another; too many masks of this size.
    """
    if not record.caption.strip():
        raise BadSample("empty_caption", "the caption is empty")
    image = _over_white(_picture(open_member, record.image, f"image {record.image}", count))
    _check_side(image.shape[1], image.shape[0], f"image {record.image}", count.limits.min_side)
    return Target(image, *_masks(record, open_member, image.shape[:2], count))


def read_reference(reference: SampleReference, open_member: OpenMember, count: PixelCount) -> np.ndarray:
    """One photo of a subject, (h, w, 4) uint8 with straight alpha: 255 is the subject.

    Args:
        reference: Which photo.
        open_member: Reads a file that the record names.
        count: Counts the sample's pixels, and holds the limits.

    Raises:
        BadSample: the photo or its mask is missing, unreadable, too small, of another size or empty; or the sample has
            too many pixels with it.
    """
    name, limits = reference.image, count.limits
    try:
        pixels = _picture(open_member, name, f"reference {name}", count)
    except BadSample as error:
        if error.reason != "missing_file":
            raise
        raise BadSample("missing_reference", f"reference{str(error).removeprefix('file')}") from None
    height, width = pixels.shape[:2]
    _check_side(width, height, f"reference {name}", limits.min_reference_side)
    alpha = pixels[..., 3] if pixels.shape[-1] == 4 else np.full((height, width), 255, np.uint8)
    if reference.mask is not None:
        count.add(width, height, f"mask {reference.mask}")
        mask = decode_mask(_read(open_member, reference.mask), reference.mask, limits)
        _check_mask_size(mask, (height, width), reference.mask, name)
        alpha = np.minimum(alpha, mask)  # transparent pixels show nothing, whatever the mask says
    if alpha.max() < 128:
        raise BadSample(
            "empty_reference", f"reference {name} shows no subject: its mask or alpha is at most {alpha.max()} of 255"
        )
    return np.concatenate([pixels[..., :3], alpha[..., None]], axis=-1)


def _masks(
    record: SampleRecord, open_member: OpenMember, size: tuple[int, int], count: PixelCount
) -> tuple[np.ndarray, bool]:
    """(N, H, W) bool without overlap, and whether they were given."""
    names, limits = [subject.mask for subject in record.subjects], count.limits
    if names == [None]:
        return np.ones((1, *size), bool), False
    count.add(size[1], size[0], f"{len(names)} masks", len(names))
    masks = np.empty((len(names), *size), bool)
    for number, name in enumerate(names):
        assert name is not None, "only a lone subject may lack a mask: SampleRecord checks"
        mask = decode_mask(_read(open_member, name), name, limits)
        _check_mask_size(mask, size, name, record.image)
        masks[number] = mask > 127
        share = masks[number].mean()
        if not share or share < limits.min_mask_share:
            raise BadSample(
                "empty_mask",
                f"mask {name} covers {share:.4%} of the picture, less than {limits.min_mask_share:.4%} (its brightest "
                f"pixel is {mask.max()}; only pixels above 127 of 255 count)",
            )
    _check_overlap(masks, names, limits)
    # What little overlap there is goes to the later subject, which is in front.
    covered = np.zeros(size, bool)
    for mask, name in zip(masks[::-1], names[::-1], strict=True):
        mask &= ~covered
        if not mask.any():
            raise BadSample("overlapping_masks", f"nothing of mask {name} is left: other subjects cover all of it")
        covered |= mask
    return masks, True


def _check_overlap(masks: np.ndarray, names: Sequence[str | None], limits: ReadLimits) -> None:
    shared = masks.sum(axis=0, dtype=np.uint8) > 1
    for mask, name in zip(masks, names, strict=True):
        share = np.count_nonzero(mask & shared) / np.count_nonzero(mask)
        if share > limits.max_overlap:
            raise BadSample(
                "overlapping_masks",
                f"{share:.0%} of mask {name} also belongs to another subject, more than {limits.max_overlap:.0%}",
            )


def _picture(open_member: OpenMember, name: str, what: str, count: PixelCount) -> np.ndarray:
    """Decode a picture and count it."""
    pixels = decode_picture(_read(open_member, name), name, count.limits)
    count.add(pixels.shape[1], pixels.shape[0], what)
    return pixels


def _read(open_member: OpenMember, name: str) -> bytes:
    try:
        return open_member(name)
    except (FileNotFoundError, KeyError):
        raise BadSample("missing_file", f"file {name} is missing") from None
    except OSError as error:
        raise BadSample("missing_file", f"file {name} cannot be read: {error.strerror or error}") from None


def _over_white(pixels: np.ndarray) -> np.ndarray:
    return rgba_on_white(pixels) if pixels.shape[-1] == 4 else pixels


def _check_side(width: int, height: int, what: str, least: int) -> None:
    if min(width, height) < least:
        raise BadSample("too_small", f"{what} is {width}×{height}: each side must be at least {least} pixels")


def _check_mask_size(mask: np.ndarray, size: tuple[int, int], name: str, image: str) -> None:
    if mask.shape != size:
        raise BadSample(
            "mask_size",
            f"mask {name} is {mask.shape[1]}×{mask.shape[0]}, but {image} is {size[1]}×{size[0]}: "
            "both must have the same size",
        )
