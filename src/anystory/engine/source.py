"""The existing picture that a job draws over, and what of it stays."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from anystory.engine.errors import OptionError

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["SourcePicture", "drawing_size", "load_source"]

STRENGTH = {"image": 0.8, "mask": 1.0}
"""Where neither the caller nor the model says how much to change. diffusers' 0.3 is for finishing touches: a subject
that is not in the picture yet would not appear."""


class SourcePicture(NamedTuple):
    """A picture, and a mask of its size that is white where it is to be drawn anew; None for all of it."""

    image: Image.Image
    mask: Image.Image | None

    def resized(self, width: int, height: int) -> SourcePicture:
        """The same at another size, stretched where the shape differs."""
        from PIL import Image

        size, way = (width, height), Image.Resampling.LANCZOS
        return SourcePicture(self.image.resize(size, way), None if self.mask is None else self.mask.resize(size, way))

    def keep_rest(self, drawn: Image.Image) -> Image.Image:
        """A drawn picture with everything outside the mask as it was, pixel for pixel; a grey mask mixes."""
        from PIL import Image

        return drawn if self.mask is None else Image.composite(drawn, self.image, self.mask)


def load_source(image: Path, mask: Path | None) -> SourcePicture:
    """Read a picture, transparent parts over white, and its mask.

    Raises:
        ValueError: a file that is no picture, an empty mask.
        OptionError: a mask of another size than its picture.
        FileNotFoundError: no such file.
    """
    from PIL import Image

    from anystory.subjects.pictures import load_mask, load_picture, over_white

    rgb = over_white(load_picture(image, "the picture to draw over"))
    if mask is None:
        return SourcePicture(rgb, None)
    white = Image.fromarray(load_mask(mask, "the mask of the picture to draw over"))
    if white.size != rgb.size:
        raise OptionError(
            "mask",
            f"{mask} is {white.width}×{white.height}, but the image {image} is {rgb.width}×{rgb.height}: both must have"
            " the same size",
        )
    return SourcePicture(rgb, white)


def drawing_size(size: tuple[int, int], most_pixels: int, multiple: int) -> tuple[int, int]:
    """The size at which a picture is drawn over when none is asked for.

    Args:
        size: (width, height) of the picture.
        most_pixels: What the model was trained on; a picture with more is shrunk to about this, others stay.
        multiple: Of which both sides must be multiples.

    Returns:
        (width, height) of about the picture's shape, rounded to `multiple`, at least one of it.
    """
    width, height = size
    factor = min(1.0, math.sqrt(most_pixels / (width * height)))
    return tuple(max(round(side * factor / multiple), 1) * multiple for side in (width, height))  # type: ignore[return-value]
