"""Pictures that came over a wire, as files: the engine's jobs name files, so that a record can hold them."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

from PIL import Image

from anystory.files import atomic_write

from .host import temporary_folder

__all__ = ["as_file"]

_LONGEST_STEM = 40
"""Letters; file systems take 255 bytes."""


def as_file(picture: Image.Image, stem: str) -> Path:
    """A picture as a PNG in ComfyUI's temporary folder; the same picture is written once.

    Args:
        picture: Of mode "L", "RGB" or "RGBA".
        stem: How the file's name begins.
    """
    digest = hashlib.sha256(f"{picture.mode}{picture.size}".encode() + picture.tobytes()).hexdigest()
    plain = re.sub(r"[^\w-]+", "_", stem)[:_LONGEST_STEM] or "picture"
    path = temporary_folder() / f"{plain}-{digest[:16]}.png"
    if not path.is_file():
        with atomic_write(path) as temporary:
            picture.save(temporary, format="PNG")
    return path
