"""Convert pictures with a colour profile (ICC) to sRGB, which is what red, green and blue mean everywhere here."""

from __future__ import annotations

import io
import warnings
from typing import Any

import numpy as np
from PIL import Image, ImageCms

__all__ = ["to_srgb"]

_MODES = {
    "RGB": ("RGB", ("RGB", "RGBA", "P", "PA", "L", "LA", "1")),
    "GRAY": ("L", ("L", "LA", "1")),
    "CMYK": ("CMYK", ("CMYK",)),
    "Lab": ("LAB", ("LAB",)),
}
"""{what a profile describes: the mode of what it converts, the modes of pictures that it can be for}."""

_SAME = 2
"""Of 255: a profile that changes no colour by more is sRGB under another name; the pixels stay as they are."""


def to_srgb(image: Image.Image, label: str) -> Image.Image:
    """Give a picture the colours that it has on a screen, without its profile.

    The conversion is relative colorimetric with black point compensation, as in browsers and editors; colours outside
    sRGB are clipped. Pictures without a profile, or with sRGB's, come back as they are.

    Args:
        image: decoded, with at most 8 bits.
        label: what warnings call it.

    Returns:
        RGB or RGBA where it was converted; else `image`.
    """
    data = image.info.get("icc_profile")
    if not data:
        return image
    try:
        profile = ImageCms.ImageCmsProfile(io.BytesIO(data))
        described: Any = profile.profile  # whose attributes no type knows
        space = described.xcolor_space.strip()
        mode, modes = _MODES.get(space, (space, ()))
        if image.mode not in modes:
            raise ValueError(f"it is for {space}, the picture is {image.mode}")
        return _converted(image, profile, mode)
    except (ImageCms.PyCMSError, OSError, ValueError) as error:
        warnings.warn(
            f"{label}: its colour profile cannot be used ({error}), so its colours are taken for sRGB", stacklevel=2
        )
        return image


def _converted(image: Image.Image, profile: ImageCms.ImageCmsProfile, mode: str) -> Image.Image:
    alpha = image.convert("RGBA").getchannel("A") if image.has_transparency_data else None
    plain = image if image.mode == mode else image.convert("RGB").convert(mode)
    transform = ImageCms.buildTransform(
        profile,
        ImageCms.createProfile("sRGB"),
        mode,
        "RGB",
        renderingIntent=ImageCms.Intent.RELATIVE_COLORIMETRIC,
        flags=ImageCms.Flags.BLACKPOINTCOMPENSATION,
    )
    if mode in ("RGB", "L") and _changes_nothing(transform, mode):
        return image
    converted = ImageCms.applyTransform(plain, transform)
    assert converted is not None, "not in place"
    converted.info.pop("icc_profile", None)
    if alpha is not None:
        converted.putalpha(alpha)
    return converted


def _changes_nothing(transform: ImageCms.ImageCmsTransform, mode: str) -> bool:
    """Whether it leaves a lattice of colours where they are."""
    steps = np.linspace(0, 255, 9).astype(np.uint8)
    lattice = np.stack(np.meshgrid(steps, steps, steps), axis=-1).reshape(27, 27, 3)
    before = Image.fromarray(lattice) if mode == "RGB" else Image.fromarray(lattice[..., 0])
    after = ImageCms.applyTransform(before, transform)
    assert after is not None, "not in place"
    return int(np.abs(np.asarray(after).astype(int) - np.asarray(before.convert("RGB"))).max()) <= _SAME
