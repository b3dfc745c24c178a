"""Reading a picture with its masks from a folder.

Legend: H × W pixels, row first.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath

import cv2
import numpy as np
from PIL import ImageOps

from anystory.data.bad_samples import BadSample
from anystory.data.build.candidates import Instance, Photo, Rejection
from anystory.data.build.sources.base import PhotoFile
from anystory.data.pixels import PixelCount
from anystory.data.records import MOST_SUBJECTS
from anystory.subjects.arrays import rgba_on_white
from anystory.subjects.pictures import MAX_PIXELS, load_mask, load_picture, open_image

__all__ = ["read_photo", "shrink"]

_LOSSLESS = frozenset((".png", ".apng", ".bmp", ".tif", ".tiff", ".gif", ".tga", ".ppm", ".pgm", ".pbm", ".pnm"))

_VOID = 255
"""In a label map: pixels of no subject (outlines, in many data sets), unless it is the only number."""

_SOFT = 32
"""A mostly white picture with more numbers than this is a soft mask, and not a label map."""


def read_photo(folder: Path, file: PhotoFile, longest: int, count: PixelCount) -> Photo | Rejection:
    """Decode a picture and its subjects' masks.

    Args:
        folder: The source's folder.
        file: What to read.
        longest: Larger pictures are reduced to this longer side, in pixels.
        count: Counts the item's pixels.

    Returns:
        The photo, or why it or a mask cannot be used.
    """
    reason = "unreadable"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about animated files: the first frame is used
            picture = load_picture(folder / file.image)
            height, width = picture.rgb.shape[:2]
            rgb = picture.rgb if picture.alpha is None else rgba_on_white(np.dstack((picture.rgb, picture.alpha)))
            rgb = shrink(rgb, longest)
            reason = "unusable_mask"
            number, masks = _masks(folder, file, picture.alpha)
            more = f" and {number} mask{'s' * (number > 1)}" if number else ""
            count.add(rgb.shape[1], rgb.shape[0], file.image + more, 1 + number)
            mattes: dict[str, np.ndarray] = {}
            for who, matte in masks:
                if matte.shape != (height, width):
                    detail = (
                        f"the mask of {who} in {file.image} is {matte.shape[1]}×{matte.shape[0]}, "
                        f"the picture {width}×{height}: both must have the same size"
                    )
                    return Rejection(reason="mask_size", what=file.image, detail=detail, bad=True)
                if picture.alpha is not None:  # transparent pixels show nothing, whatever a mask says
                    matte = np.minimum(matte, picture.alpha)
                    if matte.max() < 128:
                        detail = f"nothing of {who} is visible in {file.image}: all of it is transparent"
                        return Rejection(reason=reason, what=file.image, detail=detail, bad=True)
                mattes[who] = shrink(matte, longest)
    except BadSample as error:
        return Rejection(reason=error.reason, what=file.image, detail=str(error))
    except (ValueError, OSError) as error:
        return Rejection(reason=reason, what=file.image, detail=str(error), bad=True)
    return Photo(
        name=file.image,
        rgb=rgb,
        instances=tuple(Instance(name=who, matte=mattes.get(who)) for who in dict.fromkeys((*mattes, *file.subjects))),
        caption=file.caption,
        original=(height, width),
        lossless=PurePosixPath(file.image).suffix.lower() in _LOSSLESS,
        target=file.target,
    )


def _masks(
    folder: Path, file: PhotoFile, alpha: np.ndarray | None
) -> tuple[int, Iterator[tuple[str, np.ndarray]] | Sequence[tuple[str, np.ndarray]]]:
    """The number of a picture's masks, and (subject, (H, W) uint8) of each.

    They are read one by one, as all of them at full size might fill the memory.
    """
    if file.labels:
        numbers, labels = _read_labels(folder / file.labels)
        return len(numbers), ((str(n), (labels == n).astype(np.uint8) * np.uint8(255)) for n in numbers)
    if file.masks:
        return len(file.masks), ((who, load_mask(folder / name)) for who, name in file.masks)
    if alpha is not None and len(file.subjects) == 1:
        return 1, [(file.subjects[0], alpha)]
    return 0, ()


def shrink(pixels: np.ndarray, longest: int) -> np.ndarray:
    """uint8 (H, W[, 3]), reduced to a longer side of at most `longest` pixels."""
    height, width = pixels.shape[:2]
    factor = longest / max(height, width)
    if factor >= 1:
        return pixels
    size = max(round(width * factor), 1), max(round(height * factor), 1)
    return cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)


def _read_labels(path: Path) -> tuple[list[int], np.ndarray]:
    """The subjects' numbers and the map (H, W) of a label map: grey with 8 or 16 bits, or a palette.

    Raises:
        ValueError: not a label map, or one without a subject.
    """
    named = f"{path.name.partition('.mask.')[0]}.mask.NAME.png"
    with open_image(path.read_bytes(), repr(str(path))) as image:
        if image.mode not in ("1", "L", "P", "I", "I;16", "I;16B"):
            raise ValueError(
                f"{path} is not a label map: expected one number per pixel (grey or palette), got {image.mode}. "
                f"For a mask per subject name the files {named}"
            )
        if image.width * image.height > MAX_PIXELS:
            raise ValueError(f"{path} is too large: {image.width}×{image.height} is more than {MAX_PIXELS:,} pixels")
        labels = np.asarray(ImageOps.exif_transpose(image))
    numbers = [int(number) for number in np.unique(labels) if number > 0]
    if not numbers:
        raise ValueError(f"{path} is empty: every pixel is background (0)")
    if len(numbers) == 1:
        return [1], labels > 0
    if len(numbers) > _SOFT and np.count_nonzero(labels == _VOID) > np.count_nonzero(labels) / 2:
        raise ValueError(f"{path} is not a label map, but shows the soft edges of one subject: name it {named}")
    numbers = [number for number in numbers if number != _VOID]
    if len(numbers) > MOST_SUBJECTS:
        raise ValueError(f"{path} is not a label map: it holds {len(numbers)} numbers, more than {MOST_SUBJECTS}")
    return numbers, labels
