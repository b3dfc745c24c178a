"""An animatic: the panels one after the other as a film, with a slow pan and zoom, and the words as captions.

A caption stays as long as it takes to read. The camera goes from the whole picture towards the subjects, or back.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
import skia
from PIL import Image, ImageEnhance, ImageFilter, ImageOps

from anystory.extras import need
from anystory.story.book.contents import Line, PanelArt, Transition
from anystory.story.book.exports.transcript import speaker_name
from anystory.story.book.lettering.balloons import Box
from anystory.story.book.lettering.text_block import BreakableText, TextBlock
from anystory.story.book.lettering.typefaces import Typefaces
from anystory.story.book.pages.page import LaidOutBook

__all__ = ["write_animatic"]

WIDTH, HEIGHT, RATE = 1280, 720, 24
"""Pixels, and frames a second."""
_SILENT, _SHORTEST, _LETTERS_PER_SECOND, _PAUSE = 2.5, 1.6, 14.0, 0.4
"""Seconds of a panel without words; of the shortest caption; how fast people read; between captions."""
_CHANGE = 0.6
"""Seconds from one panel to the next, unless it is a cut."""
_STAGE = 1.5
"""Size of the stage relative to the film, so that coming nearer stays sharp."""
_ZOOM = 0.86
"""The camera's nearest view, as a share of its widest."""
_CAPTION_SIZES = (36.0, 32.0, 28.0, 24.0, 20.0)
_CAPTION_ROOM = 0.3
"""Share of the height that a caption may take."""
_ENCODER = {"crf": "20", "preset": "veryfast", "x264-params": "no-mbtree=1"}
"""Without x264's macroblock tree, whose result differs from run to run."""
_WHITE, _SHADE = 0xFFFFFFFF, 0xB0000000


@dataclass(frozen=True)
class _Caption:
    """What stands under the picture for a while."""

    pixels: np.ndarray | None
    """(HEIGHT, WIDTH, 4) premultiplied RGBA, or None."""
    seconds: float


def write_animatic(laid_out: LaidOutBook, path: Path, dpi: float) -> None:
    """Write the book as an MP4 (H.264, 1280 × 720); `dpi` does not matter.

    Raises:
        ValueError: PyAV is missing (extra `video`); or a caption does not fit even at its smallest size.
    """
    av = need("av", "an animatic", extra="video")
    with av.open(str(path), "w", format="mp4", options={"movflags": "+faststart"}) as container:
        stream = container.add_stream("libx264", rate=RATE, options=_ENCODER)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        stream.thread_count = 1
        stream.time_base = Fraction(1, RATE)
        container.metadata["title"] = laid_out.book.title
        for index, pixels in enumerate(_frames(laid_out)):
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            frame.pts, frame.time_base = index, Fraction(1, RATE)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def _frames(laid_out: LaidOutBook) -> Iterator[np.ndarray]:
    """All frames, (HEIGHT, WIDTH, 3) uint8."""
    before: tuple[np.ndarray, Transition] | None = None
    frame = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    for index, panel in enumerate(laid_out.book.panels):
        captions = list(_captions(panel, laid_out.typefaces))
        counts = [max(round(caption.seconds * RATE), 1) for caption in captions]
        total, at = sum(counts), 0
        camera = _Camera(panel, inward=index % 2 == 0)
        if before is not None:
            yield from _change(before[0], camera.view(0.0), before[1], backwards=laid_out.right_to_left)
        for caption, count in zip(captions, counts, strict=True):
            for _ in range(count):
                frame = camera.view(at / max(total - 1, 1))
                yield _under(frame, caption.pixels)
                at += 1
        before = (frame, panel.transition)


def _change(before: np.ndarray, after: np.ndarray, how: Transition, *, backwards: bool) -> Iterator[np.ndarray]:
    """The frames from one panel to the next; none for a cut. A wipe moves as the book is read."""
    count = 0 if how == "cut" else round(_CHANGE * RATE)
    black = np.zeros_like(before)
    for step in range(1, count + 1):
        share = step / (count + 1)
        if how == "fade":
            yield _mix(before, black, 2 * share) if share < 0.5 else _mix(black, after, 2 * share - 1)
        elif how == "dissolve":
            yield _mix(before, after, share)
        else:
            gone = round(share * WIDTH)
            wiped = before.copy()
            columns = slice(WIDTH - gone, WIDTH) if backwards else slice(0, gone)
            wiped[:, columns] = after[:, columns]
            yield wiped


def _mix(before: np.ndarray, after: np.ndarray, share: float) -> np.ndarray:
    return (before * (1 - share) + after * share + 0.5).astype(np.uint8)


class _Camera:
    """Looks at a stage, the panel's picture on a blurred one of itself: from all of it to the subjects, or back."""

    def __init__(self, panel: PanelArt, *, inward: bool) -> None:
        width, height = round(_STAGE * WIDTH), round(_STAGE * HEIGHT)
        picture = panel.picture.convert("RGB")
        scale = min(width / picture.width, height / picture.height)
        shown = picture.resize((round(picture.width * scale), round(picture.height * scale)), Image.Resampling.LANCZOS)
        stage = _backdrop(picture, width, height)
        corner = (width - shown.width) // 2, (height - shown.height) // 2
        stage.paste(shown, corner)
        self._stage = np.asarray(stage)
        wide = Box(0, 0, width, height)
        near = _nearer(wide, _middle(panel, scale, corner) or wide.centre)
        self._start, self._end = (wide, near) if inward else (near, wide)

    def view(self, share: float) -> np.ndarray:
        """The frame at a share of the way, in [0, 1]; the camera starts and stops softly."""
        import cv2

        eased = share * share * (3 - 2 * share)
        x, y, width, _ = (a + (b - a) * eased for a, b in zip(self._start, self._end, strict=True))
        scale = width / WIDTH
        move = np.array([[scale, 0, x], [0, scale, y]], np.float32)
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        return cv2.warpAffine(self._stage, move, (WIDTH, HEIGHT), flags=flags, borderMode=cv2.BORDER_REPLICATE)


def _backdrop(picture: Image.Image, width: int, height: int) -> Image.Image:
    """The picture, so large that it fills the stage, blurred and darkened."""
    filled = ImageOps.fit(picture, (width // 24, height // 24), Image.Resampling.BOX)
    blurred = filled.filter(ImageFilter.GaussianBlur(2)).resize((width, height), Image.Resampling.BICUBIC)
    return ImageEnhance.Brightness(blurred).enhance(0.5)


def _middle(panel: PanelArt, scale: float, corner: tuple[int, int]) -> tuple[float, float] | None:
    """The middle of all subjects on the stage, in pixels."""
    masks = list(panel.masks.values())
    if not any(mask.any() for mask in masks):
        return None
    rows, columns = np.nonzero(np.any(masks, axis=0))
    return corner[0] + float(columns.mean() + 0.5) * scale, corner[1] + float(rows.mean() + 0.5) * scale


def _nearer(wide: Box, towards: tuple[float, float]) -> Box:
    width, height = wide.width * _ZOOM, wide.height * _ZOOM
    x = min(max(towards[0] - width / 2, wide.x), wide.right - width)
    y = min(max(towards[1] - height / 2, wide.y), wide.bottom - height)
    return Box(x, y, width, height)


def _captions(panel: PanelArt, typefaces: Typefaces) -> Iterator[_Caption]:
    said = [(panel.narration, False)] if panel.narration.strip() else []
    said += [(_with_name(line), line.kind == "shout") for line in panel.lines]
    if not said:
        yield _Caption(None, _SILENT)
    for text, bold in said:
        seconds = max(len(" ".join(text.split())) / _LETTERS_PER_SECOND, _SHORTEST)
        yield _Caption(_drawn(text, bold, panel.number, typefaces), seconds)
        yield _Caption(None, _PAUSE)


def _with_name(line: Line) -> str:
    name = speaker_name(line)
    return f"{name}: {line.text}" if name else line.text


def _drawn(text: str, bold: bool, number: int, typefaces: Typefaces) -> np.ndarray:
    """A caption on a shaded band at the lower edge."""
    size, block = _fitted(text, bold, number, typefaces)
    pixels = np.zeros((HEIGHT, WIDTH, 4), np.uint8)
    with skia.Surface(pixels) as canvas:
        high = block.height * size + size
        canvas.drawRect(skia.Rect.MakeXYWH(0, HEIGHT - high, WIDTH, high), skia.Paint(Color=_SHADE))
        for row, (line, width) in enumerate(zip(block.lines, block.widths, strict=True)):
            baseline = HEIGHT - high + size / 2 + (row * block.line_height + block.ascent) * size
            typefaces.draw(canvas, line, (WIDTH - width * size) / 2, baseline, size, colour=_WHITE, bold=bold)
    return pixels


def _fitted(text: str, bold: bool, number: int, typefaces: Typefaces) -> tuple[float, TextBlock]:
    """The largest size at which a caption fits, and its lines."""
    breakable = BreakableText(text, typefaces, bold=bold)
    for size in _CAPTION_SIZES:
        for block in breakable.blocks(WIDTH * 0.86 / size, HEIGHT * _CAPTION_ROOM / size):
            return size, block
    raise ValueError(
        f'panel {number}: "{text[:40]}…" is too long for a caption in the animatic: shorten it, or split the line'
    )


def _under(picture: np.ndarray, caption: np.ndarray | None) -> np.ndarray:
    """A caption over a picture."""
    if caption is None:
        return picture
    shown = picture.copy()
    rows = np.flatnonzero(caption[:, 0, 3])
    part, over = shown[rows[0] :].astype(np.uint16), caption[rows[0] :].astype(np.uint16)
    shown[rows[0] :] = (part * (255 - over[..., 3:]) // 255 + over[..., :3]).astype(np.uint8)
    return shown
