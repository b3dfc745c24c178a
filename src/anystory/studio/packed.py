"""Pictures and files as bytes, to be shown and given away."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping
from pathlib import Path

from PIL import Image

__all__ = ["png_bytes", "zip_bytes", "zipped_folder"]


def png_bytes(image: Image.Image) -> bytes:
    """A picture as a PNG, written quickly."""
    buffer = io.BytesIO()
    image.save(buffer, format="PNG", compress_level=1)
    return buffer.getvalue()


def zip_bytes(files: Mapping[str, bytes]) -> bytes:
    """Files by their names as a zip; pictures are small already, so nothing is compressed."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return buffer.getvalue()


def zipped_folder(folder: Path) -> bytes:
    """A folder with all that is in it, as a zip."""
    found = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return zip_bytes({path.relative_to(folder.parent).as_posix(): path.read_bytes() for path in found})
