"""Panels as layered pictures (OpenRaster): background, each subject, and the lettering, each on a layer of its own.

OpenRaster is what Krita, GIMP and MyPaint read. A subject's layer is what its routing mask owns, but for parts that lie
apart from it and touch another subject: these are that one's. All layers together are the panel.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple
from xml.sax.saxutils import quoteattr

import numpy as np
import skia
from PIL import Image

from anystory.story.book.exports.archive import Archive
from anystory.story.book.pages.page import LaidOutBook, PanelOnPage
from anystory.story.book.painting import paint_words, png

__all__ = ["whole_subjects", "write_layers"]

_SHORTEST = 1024
"""Pixels that the longer side of a panel has at least: small pictures are scaled up, so that letters are sharp."""
_THUMBNAIL = 256


class _Layer(NamedTuple):
    name: str
    picture: Image.Image


def write_layers(laid_out: LaidOutBook, folder: Path, dpi: float) -> None:
    """Write each panel as one .ora into an existing folder.

    A panel shows what its frame on the page shows. It has as many pixels as its picture has there, or as many as the
    frame has at `dpi` if those are more.
    """
    for page in laid_out.pages:
        if page.label != "Cover":
            for on_page in page.panels:
                _write(laid_out, on_page, folder / f"panel-{on_page.panel.number:03}.ora", dpi)


def _write(laid_out: LaidOutBook, on_page: PanelOnPage, path: Path, dpi: float) -> None:
    size = _size(on_page, dpi)
    layers = [*_split(on_page, size)]
    if on_page.words:
        layers.append(_Layer("lettering", _lettering(laid_out, on_page, size)))
    merged = Image.new("RGBA", size)
    for layer in layers:
        merged = Image.alpha_composite(merged, layer.picture)
    thumbnail = merged.copy()
    thumbnail.thumbnail((_THUMBNAIL, _THUMBNAIL))
    with Archive(path) as archive:
        archive.add("mimetype", b"image/openraster", packed=False)
        archive.add("stack.xml", _stack(layers, size).encode("utf-8"))
        for index, layer in enumerate(layers):
            archive.add(f"data/layer{index}.png", png(layer.picture, dpi), packed=False)
        archive.add("Thumbnails/thumbnail.png", png(thumbnail, dpi), packed=False)
        archive.add("mergedimage.png", png(merged, dpi), packed=False)


def _size(on_page: PanelOnPage, dpi: float) -> tuple[int, int]:
    """Width and height in pixels."""
    window, frame = on_page.window, on_page.frame
    longest = max(window.width, window.height, max(frame.width, frame.height) * dpi / 72, _SHORTEST)
    scale = longest / max(frame.width, frame.height)
    return round(frame.width * scale), round(frame.height * scale)


def _split(on_page: PanelOnPage, size: tuple[int, int]) -> list[_Layer]:
    """The background and the subjects. Every pixel belongs to one layer, wholly, so that they add up to the picture."""
    window = on_page.window
    box = (window.x, window.y, window.right, window.bottom)
    picture = on_page.panel.picture.convert("RGB").resize(size, Image.Resampling.LANCZOS, box=box)
    owners = _owners(whole_subjects(on_page.panel.masks), size, box)
    layers = []
    for index, name in enumerate(["background", *on_page.panel.masks]):
        alpha = Image.fromarray(np.where(owners == index, 255, 0).astype(np.uint8))
        layer = picture.convert("RGBA")
        layer.putalpha(alpha)
        layers.append(_Layer(name, layer))
    return layers


def whole_subjects(masks: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The masks with each stray part given to the subject that it touches most.

    A router that takes the robot's yellow hat for the orange fox's leaves it on the fox's layer. A part is stray if it
    does not hang together with the largest part of its mask; one that touches nobody else stays.

    Args:
        masks: name -> (H, W) bool; no pixel is in two of them.
    """
    import cv2

    owned = {name: mask.copy() for name, mask in masks.items()}
    parts = {name: _parts(mask) for name, mask in masks.items()}
    for name, (_, *stray) in ((name, found) for name, found in parts.items() if found):
        for part in stray:
            edge = cv2.dilate(part.astype(np.uint8), np.ones((3, 3), np.uint8)).astype(bool) & ~part
            touched = {other: int((edge & found[0]).sum()) for other, found in parts.items() if found and other != name}
            nearest = max(touched, key=touched.__getitem__, default=name)
            if touched.get(nearest):
                owned[name] &= ~part
                owned[nearest] |= part
    return owned


def _parts(mask: np.ndarray) -> list[np.ndarray]:
    """What hangs together in a mask, the largest first."""
    import cv2

    count, labels = cv2.connectedComponents(mask.astype(np.uint8), connectivity=8)
    parts = [labels == label for label in range(1, count)]
    return sorted(parts, key=lambda part: int(part.sum()), reverse=True)


def _owners(
    masks: Mapping[str, np.ndarray], size: tuple[int, int], box: tuple[float, float, float, float]
) -> np.ndarray:
    """Whose each pixel is: 0 for the background, else the subject's number from 1; outlines are smooth, edges hard."""
    best = np.full((size[1], size[0]), 0.5, np.float32)
    owners = np.zeros((size[1], size[0]), np.uint8)
    for number, mask in enumerate(masks.values(), start=1):
        shares = Image.fromarray(mask.astype(np.float32)).resize(size, Image.Resampling.BICUBIC, box=box)
        share = np.asarray(shares)
        mine = share > best
        owners[mine], best[mine] = number, share[mine]
    return owners


def _lettering(laid_out: LaidOutBook, on_page: PanelOnPage, size: tuple[int, int]) -> Image.Image:
    pixels = np.zeros((size[1], size[0], 4), np.uint8)
    frame = on_page.frame
    with skia.Surface(pixels) as canvas:
        canvas.scale(size[0] / frame.width, size[1] / frame.height)
        canvas.translate(-frame.x, -frame.y)
        paint_words(canvas, on_page.words, laid_out.typefaces)
    return Image.fromarray(_straight(pixels))


def _straight(pixels: np.ndarray) -> np.ndarray:
    """skia's premultiplied RGBA as PNG wants it."""
    alpha = pixels[..., 3:].astype(np.uint16)
    colour = (pixels[..., :3].astype(np.uint16) * 255 + alpha // 2) // np.maximum(alpha, 1)
    return np.concatenate([np.minimum(colour, 255).astype(np.uint8), pixels[..., 3:]], axis=2)


def _stack(layers: list[_Layer], size: tuple[int, int]) -> str:
    """The stack as XML; its first layer is the uppermost."""
    rows = [
        f'    <layer name={quoteattr(layer.name)} src="data/layer{index}.png" x="0" y="0" opacity="1.0" '
        'composite-op="svg:src-over" visibility="visible"/>'
        for index, layer in reversed(list(enumerate(layers)))
    ]
    return "\n".join(
        [
            '<?xml version="1.0" encoding="UTF-8"?>',
            f'<image version="0.0.3" w="{size[0]}" h="{size[1]}">',
            "  <stack>",
            *rows,
            "  </stack>",
            "</image>",
            "",
        ]
    )
