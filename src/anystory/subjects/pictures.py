"""Pictures and masks of any kind to plain arrays, or a ValueError that says what was wrong with them.

Legend: H × W pixels, row first. All arrays are uint8.
"""

from __future__ import annotations

import hashlib
import io
import os
import warnings
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from anystory.input_files import MOST_PICTURE, read_bytes
from anystory.subjects.arrays import is_tensor, picture_from_array, tensor_to_array
from anystory.subjects.colour import to_srgb

__all__ = [
    "HEIF_ENDINGS",
    "MAX_PIXELS",
    "Picture",
    "Source",
    "black_and_white",
    "brightness",
    "describe",
    "image_to_array",
    "load_mask",
    "load_picture",
    "open_image",
    "over_white",
    "picture_endings",
]

Source: TypeAlias = Any
"""A path, a PIL image, a NumPy array or a torch tensor; see `load_picture`."""

MAX_PIXELS = 64_000_000
"""The largest picture that is read, in pixels (8000 × 8000): more is a mistake or a "decompression bomb"."""

_FORMATS = ("PNG", "JPEG", "MPO", "JPEG2000", "WEBP", "AVIF", "GIF", "BMP", "TIFF", "PPM", "TGA", "ICO", "HEIF")
"""Pixel formats only: Pillow would also open EPS, by running Ghostscript on it."""

HEIF_ENDINGS = frozenset((".heic", ".heif", ".hif", ".heics", ".heifs"))
"""What phones save. pillow-heif (the extra `heif`) reads it if it is installed."""


class Picture(NamedTuple):
    """A decoded picture."""

    rgb: np.ndarray
    """(H, W, 3)."""
    alpha: np.ndarray | None
    """(H, W), straight; None when there is none or it is opaque everywhere."""
    sha256: str
    """Of the file's bytes; for pictures that come from memory, of size and pixels."""


def load_picture(source: Source, what: str = "image", *, profile: bool = True) -> Picture:
    """Decode a picture, in sRGB.

    Args:
        source: A path; a PIL image of any mode; an array (H, W), (H, W, 1|2|3|4) of uint8, uint16, or float in
            [0, 1]; a tensor (H, W), (1|3|4, H, W) of uint8 or float in [0, 1]. EXIF rotation is applied. Of an
            animated file the first frame is taken, with a warning.
        what: What messages call it.
        profile: Whether to apply its colour profile, if it has one (see `colour.to_srgb`).

    Raises:
        ValueError: not a picture, damaged, larger than `MAX_PIXELS`, of no size, or numbers that are no colours.
        FileNotFoundError: no such file.
    """
    label = f"{what} {describe(source)}"
    if isinstance(source, (str, os.PathLike)):
        data = _read(Path(source), label)
        pixels, digest = _decode(data, label, profile), hashlib.sha256(data).hexdigest()
    elif isinstance(source, Image.Image):
        pixels = image_to_array(source, label, profile=profile)
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


def over_white(picture: Picture) -> Image.Image:
    """A picture as RGB; what is transparent lies on white."""
    rgb = Image.fromarray(picture.rgb)
    if picture.alpha is None:
        return rgb
    return Image.composite(rgb, Image.new("RGB", rgb.size, "white"), Image.fromarray(picture.alpha))


def load_mask(source: Source, what: str = "mask") -> np.ndarray:
    """Decode a mask: white (255, 1, 1.0 or True) where the subject is, black elsewhere; greys are soft edges.

    Args:
        source: As for `load_picture`; also bool arrays, and integer arrays that hold only 0 and 1.

    Returns:
        (H, W) in 0…255. A coloured mask counts by its brightness times its alpha, or by its alpha alone where all that
        can be seen has one colour. Colour profiles do not count.

    Raises:
        ValueError: as for `load_picture`; or a mask without a pixel that is at least half white.
    """
    if is_tensor(source):
        source = tensor_to_array(source, f"{what} {describe(source)}")
    if isinstance(source, np.ndarray):
        source = black_and_white(source)
    picture = load_picture(source, what, profile=False)
    mask = brightness(picture.rgb, picture.alpha)
    if mask.max() < 128:
        raise ValueError(
            f"{what} {describe(source)} is empty: no pixel is even half white (the brightest is {mask.max()} of 255). "
            "A mask is white where the subject is and black elsewhere"
        )
    return mask


def brightness(rgb: np.ndarray, alpha: np.ndarray | None) -> np.ndarray:
    """A coloured mask's (H, W, 3) brightness, times its alpha (H, W) where it has one: (H, W).

    Where all that can be seen has one colour, black for instance, the mask lies in the alpha.
    """
    grey = np.asarray(Image.fromarray(rgb).convert("L"))
    if alpha is not None and len(seen := rgb[alpha > 0]) and (seen == seen[0]).all():
        return alpha
    return grey if alpha is None else (grey.astype(np.uint16) * alpha // 255).astype(np.uint8)


def black_and_white(mask: np.ndarray) -> np.ndarray:
    """A mask of bools, or of whole numbers that are all 0 or 1, as 0 and 255; any other as it is."""
    whole = mask.dtype.kind in "ui" and mask.size > 0 and mask.min() >= 0 and mask.max() <= 1
    return mask.astype(np.uint8) * np.uint8(255) if mask.dtype == bool or whole else mask


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
        return read_bytes(path, MOST_PICTURE, label)
    except FileNotFoundError:
        raise FileNotFoundError(f"{label}: no such file") from None


def _decode(data: bytes, label: str, profile: bool) -> np.ndarray:
    with open_image(data, label) as image:
        return image_to_array(image, label, profile=profile)


def open_image(data: bytes, label: str) -> Image.Image:
    """Read the header of an encoded picture: size and mode are known, no pixel is decoded yet.

    Args:
        data: A file's bytes.
        label: What and which picture it is, for messages.

    Raises:
        ValueError: not a picture, or one that Pillow already refuses for its size.
    """
    formats = _formats()
    try:
        # Pillow's own bomb limits are global; ours is checked in `image_to_array`, before any pixel is decoded.
        return Image.open(io.BytesIO(data), formats=formats)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise ValueError(f"{label} is too large: more than {MAX_PIXELS:,} pixels. Make it smaller first") from None
    except UnidentifiedImageError:
        raise ValueError(f"{label} is not a picture that can be read: {_what_instead(data)}") from None
    except Exception as error:  # each of Pillow's formats fails in a way of its own: TypeError, RuntimeError, …
        raise ValueError(f"{label} is damaged and cannot be read ({error}). Save or download it again") from None


def picture_endings() -> frozenset[str]:
    """The endings of the files that can be read here, in lower case with the dot."""
    formats = _formats()
    return frozenset(ending for ending, name in Image.registered_extensions().items() if name in formats)


@cache
def _formats() -> list[str]:
    """The `_FORMATS` that this machine's Pillow reads."""
    Image.init()
    try:
        from pillow_heif import register_heif_opener  # pyright: ignore[reportMissingImports]
    except ImportError:
        pass
    else:
        register_heif_opener()
    return [name for name in _FORMATS if name in Image.OPEN]


def _what_instead(data: bytes) -> str:
    """What a file is that is not a picture, or what was expected."""
    if data[4:8] == b"ftyp" and data[8:12] in (b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"mif1", b"msf1"):
        return "it is HEIF, which needs pillow-heif (pip install 'anystory[heif]'); or save it as JPEG"
    if data.startswith((b"\xff\x0a", b"\x00\x00\x00\x0cJXL ")):
        return "it is JPEG XL. Save it as PNG"
    return "expected PNG, JPEG, WebP or similar"


def image_to_array(image: Image.Image, label: str, *, profile: bool = True) -> np.ndarray:
    """A PIL image of any mode as (H, W, 3) or, where it is transparent, (H, W, 4); `profile` as for `load_picture`.

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
    eight_bits = _eight_bits(upright, label)
    coloured = profile and upright.info.get("icc_profile")
    return _convert(to_srgb(eight_bits, label) if coloured else eight_bits, label)


def _eight_bits(image: Image.Image, label: str) -> Image.Image:
    """A picture of more than 8 bits, with floats, or with an alpha that is multiplied in, as a plain one."""
    if image.mode in ("La", "RGBa"):
        return image.convert({"La": "LA", "RGBa": "RGBA"}[image.mode])
    if image.mode != "F" and image.mode != "I" and not image.mode.startswith("I;16"):
        return image
    grey = np.asarray(image)
    if image.mode != "F":
        if grey.min() < 0 or grey.max() > 65535:
            raise ValueError(f"{label}: greys must lie in 0…65535, got {grey.min()}…{grey.max()}. Save it with 8 bits")
        grey = grey.astype(np.uint16)
    plain = Image.fromarray(picture_from_array(grey, label)[..., 0])
    plain.info = image.info
    return plain


def _convert(image: Image.Image, label: str) -> np.ndarray:
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
