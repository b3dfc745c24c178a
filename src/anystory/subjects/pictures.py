"""Pictures and masks of any kind to plain arrays, or a ValueError that says what was wrong with them.

Legend: H × W pixels, row first. All arrays are uint8.
"""

from __future__ import annotations

import hashlib
import io
import os
import warnings
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from anystory.subjects.arrays import is_tensor, picture_from_array, tensor_to_array

__all__ = [
    "MAX_PIXELS",
    "Picture",
    "Source",
    "brightness",
    "describe",
    "image_to_array",
    "load_mask",
    "load_picture",
    "open_image",
]

Source: TypeAlias = Any
"""A path, a PIL image, a NumPy array or a torch tensor; see `load_picture`."""

MAX_PIXELS = 64_000_000
"""Largest picture taken, in pixels (8000 × 8000): more is a mistake or an attack (a "decompression bomb")."""

_FORMATS = ("PNG", "JPEG", "MPO", "JPEG2000", "WEBP", "AVIF", "GIF", "BMP", "TIFF", "PPM", "TGA", "ICO")
"""Pixel formats only: Pillow would also open EPS, by running Ghostscript on it."""


class Picture(NamedTuple):
    """A decoded picture."""

    rgb: np.ndarray
    """(H, W, 3)."""
    alpha: np.ndarray | None
    """(H, W), straight; None when there is none or it is opaque everywhere."""
    sha256: str
    """Of the file's bytes; for pictures that come from memory, of size and pixels."""


def load_picture(source: Source, what: str = "image") -> Picture:
    """Decode a picture.

    Args:
        source: A path; a PIL image of any mode; an array (H, W), (H, W, 1|2|3|4) of uint8, uint16, or float in
            [0, 1]; a tensor (H, W), (1|3|4, H, W) of uint8 or float in [0, 1]. EXIF rotation is applied. Of an
            animated file the first frame is taken, with a warning.
        what: What the picture is, for messages.

    Raises:
        ValueError: not a picture, damaged, larger than `MAX_PIXELS`, of no size, or numbers that are no colours.
        FileNotFoundError: no such file.
    """
    label = f"{what} {describe(source)}"
    if isinstance(source, (str, os.PathLike)):
        data = _read(Path(source), label)
        pixels, digest = _decode(data, label), hashlib.sha256(data).hexdigest()
    elif isinstance(source, Image.Image):
        pixels = image_to_array(source, label)
        digest = _hash_pixels(pixels)
    elif isinstance(source, np.ndarray) or is_tensor(source):
        array = source if isinstance(source, np.ndarray) else tensor_to_array(source, label)
        if array.ndim >= 2:
            _check_size(array.shape[1], array.shape[0], label)
        pixels = picture_from_array(array, label)
        digest = _hash_pixels(pixels)
    else:
        raise ValueError(f"{label}: expected a path, a PIL image, a NumPy array or a torch tensor")
    alpha = pixels[..., 3] if pixels.shape[-1] == 4 and not (pixels[..., 3] == 255).all() else None
    return Picture(pixels[..., :3], alpha, digest)


def load_mask(source: Source, what: str = "mask") -> np.ndarray:
    """Decode a mask: white (255, 1, 1.0 or True) where the subject is, black elsewhere; greys are soft edges.

    Args:
        source: As for `load_picture`; also bool arrays, and integer arrays that hold only 0 and 1.

    Returns:
        (H, W) in 0…255. Of a coloured mask the brightness counts, times its alpha.

    Raises:
        ValueError: as for `load_picture`; or a mask without a pixel that is at least half white.
    """
    if is_tensor(source):
        source = tensor_to_array(source, f"{what} {describe(source)}")
    if isinstance(source, np.ndarray) and (source.dtype == bool or _only_zero_and_one(source)):
        source = source.astype(np.uint8) * np.uint8(255)
    picture = load_picture(source, what)
    mask = brightness(picture.rgb, picture.alpha)
    if mask.max() < 128:
        raise ValueError(
            f"{what} {describe(source)} is empty: no pixel is even half white (the brightest is {mask.max()} of 255). "
            "A mask is white where the subject is and black elsewhere"
        )
    return mask


def brightness(rgb: np.ndarray, alpha: np.ndarray | None) -> np.ndarray:
    """A coloured mask's (H, W, 3) brightness, times its alpha (H, W) where it has one: (H, W)."""
    grey = np.asarray(Image.fromarray(rgb).convert("L"))
    return grey if alpha is None else (grey.astype(np.uint16) * alpha // 255).astype(np.uint8)


def describe(source: Source) -> str:
    """A short name of a picture's source for messages: its path, or what kind of object it is."""
    if isinstance(source, (str, os.PathLike)):
        return repr(os.fspath(source))
    if isinstance(source, Image.Image):
        return f"<PIL {source.mode} {source.width}×{source.height}>"
    if isinstance(source, np.ndarray) or is_tensor(source):
        kind = "array" if isinstance(source, np.ndarray) else "tensor"
        return f"<{kind} {tuple(source.shape)} {str(source.dtype).removeprefix('torch.')}>"
    return f"<{type(source).__name__}>"


def _read(path: Path, label: str) -> bytes:
    if path.is_dir():
        raise ValueError(f"{label} is a folder: give the picture's file")
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise FileNotFoundError(f"{label}: no such file") from None


def _decode(data: bytes, label: str) -> np.ndarray:
    with open_image(data, label) as image:
        return image_to_array(image, label)


def open_image(data: bytes, label: str) -> Image.Image:
    """Read the header of an encoded picture: size and mode are known, no pixel is decoded yet.

    Args:
        data: A file's bytes.
        label: What and which picture it is, for messages.

    Raises:
        ValueError: not a picture, or one that Pillow already refuses for its size.
    """
    Image.init()
    try:
        # Pillow's own bomb limits are global; ours is checked in `image_to_array`, before any pixel is decoded.
        return Image.open(io.BytesIO(data), formats=[name for name in _FORMATS if name in Image.OPEN])
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise ValueError(f"{label} is too large: more than {MAX_PIXELS:,} pixels. Make it smaller first") from None
    except UnidentifiedImageError:
        raise ValueError(f"{label} is not a picture that can be read: expected PNG, JPEG, WebP or similar") from None
    except Exception as error:  # each of Pillow's formats fails in a way of its own: TypeError, RuntimeError, …
        raise ValueError(f"{label} is damaged and cannot be read ({error}). Save or download it again") from None


def image_to_array(image: Image.Image, label: str) -> np.ndarray:
    """A PIL image of any mode as (H, W, 3) or, where it is transparent, (H, W, 4).

    Raises:
        ValueError: as for `load_picture`.
    """
    _check_size(image.width, image.height, label)
    try:
        frames = getattr(image, "n_frames", 1)
        image.load()
        upright = ImageOps.exif_transpose(image)
    except Exception as error:  # as in `open_image`; and EXIF data are read with no less variety
        raise ValueError(f"{label} is damaged: {error}. Save or download it again") from None
    if frames > 1 and image.format != "MPO":  # an MPO is one photograph and its preview or depth map
        warnings.warn(f"{label} has {frames} frames: only frame {image.tell() + 1} is used", stacklevel=2)
    return _convert(upright, label)


def _convert(image: Image.Image, label: str) -> np.ndarray:
    if image.mode == "F":
        return picture_from_array(np.asarray(image), label)
    if image.mode == "I" or image.mode.startswith("I;16"):
        grey = np.asarray(image)
        if grey.min() < 0 or grey.max() > 65535:
            raise ValueError(f"{label}: greys must lie in 0…65535, got {grey.min()}…{grey.max()}. Save it with 8 bits")
        return picture_from_array(grey.astype(np.uint16), label)
    if image.mode == "La":
        image = image.convert("LA")
    try:
        return np.asarray(image.convert("RGBA" if image.has_transparency_data else "RGB"))
    except ValueError as error:
        raise ValueError(f"{label}: colour mode {image.mode} cannot be read ({error}). Save it as RGB") from None


def _check_size(width: int, height: int, label: str) -> None:
    if width * height == 0:
        raise ValueError(f"{label} has no pixels: its size is {width}×{height}")
    if width * height > MAX_PIXELS:
        raise ValueError(
            f"{label} is too large: {width}×{height} is more than {MAX_PIXELS:,} pixels. Make it smaller first"
        )


def _hash_pixels(pixels: np.ndarray) -> str:
    return hashlib.sha256(repr(pixels.shape).encode() + pixels.tobytes()).hexdigest()


def _only_zero_and_one(array: np.ndarray) -> bool:
    return array.dtype.kind in "ui" and array.size > 0 and array.min() >= 0 and array.max() <= 1
