"""Encoded pictures and masks to arrays, or a BadSample with the kind of defect.

Legend: H × W pixels, row first. PNG, JPEG, WebP, TIFF and the like, and NumPy's .npy.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Literal

import numpy as np

from anystory.data.bad_samples import BadSample
from anystory.subjects.arrays import picture_from_array
from anystory.subjects.pictures import MAX_PIXELS, brightness, image_to_array, open_image

__all__ = ["PixelCount", "ReadLimits", "decode_mask", "decode_picture", "encode_png"]


@dataclass(frozen=True, kw_only=True)
class ReadLimits:
    """What a sample must fulfil.

    Raises:
        ValueError: a limit outside its range.
    """

    max_pixels: int = MAX_PIXELS
    """Largest picture, width × height; larger ones are refused from their header, before any pixel is decoded."""
    max_sample_pixels: int = 1_000_000_000
    """Most pixels of all pictures and masks of one sample: its memory is at most 4 bytes for each."""
    min_side: int = 32
    """Least width and height of the target, in pixels."""
    min_reference_side: int = 16
    """The same for references."""
    min_mask_share: float = 1e-4
    """Least share of the target that a subject's mask covers."""
    max_overlap: float = 0.05
    """Largest share of a subject's mask that other subjects may cover; the later subject is in front."""

    def __post_init__(self) -> None:
        if not 1 <= self.max_pixels <= MAX_PIXELS:
            raise ValueError(f"`max_pixels` must be 1 to {MAX_PIXELS:,}, got {self.max_pixels!r}")
        for name in ("max_sample_pixels", "min_side", "min_reference_side"):
            if getattr(self, name) < 1:
                raise ValueError(f"`{name}` must be at least 1 pixel, got {getattr(self, name)!r}")
        for name in ("min_mask_share", "max_overlap"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"`{name}` is a share from 0 to 1, got {getattr(self, name)!r}")


class PixelCount:
    """The pixels that are decoded together, for one sample or item.

    Args:
        limits: Set the largest number.
        of: What they are for, in messages.
    """

    def __init__(self, limits: ReadLimits, of: str = "the sample") -> None:
        self.limits, self.of = limits, of
        self.pixels = 0

    def add(self, width: int, height: int, what: str, times: int = 1) -> None:
        """Count a picture, or `times` of one size that are about to be decoded.

        Raises:
            BadSample: with them there are too many; they are not counted.
        """
        pixels = self.pixels + width * height * times
        if pixels > self.limits.max_sample_pixels:
            raise BadSample(
                "too_many_pixels",
                f"with {what} ({width}×{height}) the pictures and masks of {self.of} have {pixels:,} pixels together: "
                f"more than {self.limits.max_sample_pixels:,}. Make them smaller, or leave some out",
            )
        self.pixels = pixels


def decode_picture(data: bytes, name: str, limits: ReadLimits, *, profile: bool = True) -> np.ndarray:
    """Decode a picture: uint8 (H, W, 3), or (H, W, 4) straight alpha where it is transparent, in sRGB.

    EXIF rotation is applied, and so is a colour profile unless `profile` is False.

    Raises:
        BadSample: too many pixels, NaN or infinite values, not a picture or a damaged one.
    """
    if name.lower().endswith(".npy"):
        return _colours(_decode_npy(data, name, limits), name)
    try:
        with open_image(data, name) as image:
            _check_pixels(image.width, image.height, name, limits)
            return image_to_array(image, name, profile=profile)
    except BadSample:
        raise
    except ValueError as error:
        reason: Literal["not_finite", "too_many_pixels", "unreadable_image"] = "unreadable_image"
        if "too large" in str(error):  # Pillow's own limit, where ours is never reached
            reason = "too_many_pixels"
        elif "NaN or infinite" in str(error):  # of a TIFF with floats
            reason = "not_finite"
        raise BadSample(reason, str(error)) from None


def decode_mask(data: bytes, name: str, limits: ReadLimits) -> np.ndarray:
    """Decode a mask: uint8 (H, W), 255 is the subject. For coloured ones see `pictures.brightness`.

    Raises:
        BadSample: as for `decode_picture`.
    """
    if name.lower().endswith(".npy"):
        array = _decode_npy(data, name, limits)
        if array.dtype == bool:
            array = array.astype(np.uint8) * np.uint8(255)
        pixels = _colours(array, name)
    else:
        pixels = decode_picture(data, name, limits, profile=False)
    return brightness(pixels[..., :3], pixels[..., 3] if pixels.shape[-1] == 4 else None)


def encode_png(pixels: np.ndarray) -> bytes:
    """uint8 (H, W), (H, W, 3) or (H, W, 4) as a PNG file's bytes; bool becomes 0 and 255."""
    import cv2

    if pixels.dtype == bool:
        pixels = pixels.astype(np.uint8) * np.uint8(255)
    if pixels.ndim == 3:
        pixels = cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR if pixels.shape[-1] == 3 else cv2.COLOR_RGBA2BGRA)
    done, data = cv2.imencode(".png", pixels)
    assert done, "a uint8 picture can always be written as PNG"
    return data.tobytes()


def _decode_npy(data: bytes, name: str, limits: ReadLimits) -> np.ndarray:
    """An array from a .npy file; it is not compressed, so it cannot be larger than the file."""
    try:
        array = np.load(io.BytesIO(data), allow_pickle=False)
    except Exception as error:  # a damaged header ends in a SyntaxError, TokenError, MemoryError, BadZipFile, …
        raise BadSample("unreadable_image", f"{name} is not a complete .npy file ({error})") from None
    if not isinstance(array, np.ndarray) or array.ndim not in (2, 3) or 0 in array.shape:
        raise BadSample("unreadable_image", f"{name} holds no picture: expected an array (H, W) or (H, W, channels)")
    _check_pixels(array.shape[1], array.shape[0], name, limits)
    return array


def _colours(array: np.ndarray, name: str) -> np.ndarray:
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        count = np.count_nonzero(~np.isfinite(array))
        raise BadSample("not_finite", f"{name} holds {count} values that are NaN or infinite")
    try:
        return picture_from_array(array, name)
    except ValueError as error:
        raise BadSample("unreadable_image", str(error)) from None


def _check_pixels(width: int, height: int, name: str, limits: ReadLimits) -> None:
    if width * height > limits.max_pixels:
        raise BadSample(
            "too_many_pixels", f"{name} is {width}×{height}: more than {limits.max_pixels:,} pixels. Make it smaller"
        )
