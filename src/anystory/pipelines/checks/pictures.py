"""Convert a call's pictures and masks of any kind for diffusers' pipelines: RGB, or one channel for a mask.

diffusers takes anything with as many channels as its latents for latents, even a picture with an alpha. It drops a
mask's alpha, reads uint8 arrays as if white were 1, and fails on greys. What it reads correctly passes unchanged.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, TypeAlias

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from anystory.subjects.arrays import picture_from_array
from anystory.subjects.pictures import black_and_white, brightness, describe, image_to_array

__all__ = ["PictureKind", "as_drawn"]

PictureKind: TypeAlias = Literal["scene", "map", "mask"]
"""What a picture is: a scene (transparent parts are white, its colour profile counts), a ControlNet's map (transparent
parts are black: nothing is there), or a mask, white where to draw."""

_GROUND = {"scene": 255, "map": 0}
_ORIENTATION = 0x0112
_EMPTY = (None, "")


def as_drawn(given: Mapping[str, Any], kinds: Mapping[str, PictureKind], latent_channels: int) -> dict[str, Any]:
    """Convert the pictures among a call's arguments.

    Args:
        given: The arguments. Pictures are PIL images of any mode; arrays (H, W), (H, W, 1|2|3|4) or batches
            (B, H, W[, C]) of uint8, uint16, bool or floats in [0, 1]; tensors (H, W), (C, H, W), for masks (B, H, W),
            or (B, C, H, W) of uint8, bool or floats; and lists of them.
        kinds: {argument: what it is}.
        latent_channels: Scenes that are floating tensors with this many channels are latents and stay as they are.

    Returns:
        The given ones of `kinds`: unchanged where diffusers reads them correctly, else RGB, or L for masks, of the same
        type (arrays become PIL images), in sRGB and upright.

    Raises:
        ValueError: as for `subjects.pictures.load_picture`.
    """
    return {
        name: _each(given[name], kind, latent_channels, name)
        for name, kind in kinds.items()
        if given.get(name) is not None
    }


def _each(picture: Any, kind: PictureKind, latent_channels: int, name: str) -> Any:
    if isinstance(picture, (list, tuple)):
        return [_each(one, kind, latent_channels, name) for one in picture]
    if isinstance(picture, Image.Image):
        return picture if _is_plain(picture, kind) else _from_image(picture, kind, f"`{name}` {describe(picture)}")
    if isinstance(picture, np.ndarray):
        return _from_array(picture, kind, f"`{name}` {describe(picture)}")
    if isinstance(picture, Tensor):
        return _from_tensor(picture, kind, latent_channels)
    return picture  # diffusers refuses it


def _is_plain(image: Image.Image, kind: PictureKind) -> bool:
    """Whether diffusers sees what a person sees."""
    try:
        turned = image.getexif().get(_ORIENTATION, 1) != 1
    except Exception:  # damaged EXIF data say nothing about the pixels
        turned = False
    modes = ("RGB", "L", "1") if kind == "mask" else ("RGB",)
    profiled = kind == "scene" and image.info.get("icc_profile") not in _EMPTY
    return image.mode in modes and not (turned or profiled or image.has_transparency_data)


def _from_image(image: Image.Image, kind: PictureKind, label: str) -> Image.Image:
    pixels = image_to_array(image, label, profile=kind == "scene")
    return _from_pixels(pixels, kind)


def _from_pixels(pixels: np.ndarray, kind: PictureKind) -> Image.Image:
    """uint8 (H, W, 3|4) as RGB, or for masks as L."""
    alpha = pixels[..., 3] if pixels.shape[-1] == 4 else None
    if kind == "mask":
        return Image.fromarray(brightness(np.ascontiguousarray(pixels[..., :3]), alpha))
    rgb = Image.fromarray(np.ascontiguousarray(pixels[..., :3]))
    if alpha is None:
        return rgb
    ground = Image.new("RGB", rgb.size, (_GROUND[kind],) * 3)
    return Image.composite(rgb, ground, Image.fromarray(np.ascontiguousarray(alpha)))


def _from_array(array: np.ndarray, kind: PictureKind, label: str) -> Any:
    coloured = array.ndim >= 3 and array.shape[-1] in (1, 2, 3, 4)
    channels = array.shape[-1] if coloured else 1
    if array.dtype.kind == "f" and channels == (1 if kind == "mask" else 3):
        return array
    if array.ndim == (4 if coloured else 3):
        return [_from_array(one, kind, label) for one in array]
    if kind == "mask" or array.dtype == bool:
        array = black_and_white(array)
    return _from_pixels(picture_from_array(array, label), kind)


def _from_tensor(tensor: Tensor, kind: PictureKind, latent_channels: int) -> Tensor:
    floating = tensor.is_floating_point()
    colours = tensor.ndim == 4 or (tensor.ndim == 3 and kind != "mask")  # of masks, three axes are a batch
    channels = tensor.shape[-3] if colours else 1
    if floating and (channels == (1 if kind == "mask" else 3) or (kind == "scene" and channels == latent_channels)):
        return tensor
    if not floating:
        by_one = tensor.dtype == torch.bool or (kind == "mask" and tensor.numel() > 0 and int(tensor.max()) <= 1)
        tensor = tensor.float() / (1 if by_one else 255)
    if kind == "mask":
        return _grey(tensor) if channels in (3, 4) else tensor
    if tensor.ndim == 2:
        tensor = tensor[None]
    alpha = tensor.narrow(-3, channels - 1, 1) if channels in (2, 4) else None
    seen = tensor if alpha is None else tensor.narrow(-3, 0, channels - 1)
    if seen.shape[-3] == 1:
        seen = seen.expand(*seen.shape[:-3], 3, *seen.shape[-2:])
    return seen if alpha is None else seen * alpha + (1 - alpha) * (_GROUND[kind] / 255)


def _grey(tensor: Tensor) -> Tensor:
    """(B, 3|4, H, W) as (B, 1, H, W): the brightness, as Pillow weighs it, times the alpha."""
    weights = tensor.new_tensor([0.299, 0.587, 0.114]).view(3, 1, 1)
    grey = (tensor[:, :3] * weights).sum(1, keepdim=True)
    return grey * tensor[:, 3:] if tensor.shape[1] == 4 else grey
