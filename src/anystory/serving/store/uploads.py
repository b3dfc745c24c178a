"""Pictures that clients sent: checked by their content, and kept for a while."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from anystory.files import atomic_write
from anystory.serving.store.data_folder import DataFolder
from anystory.serving.store.database import Database
from anystory.subjects.pictures import image_to_array, open_image

__all__ = ["Upload", "UploadStore", "check_picture"]

_ENDINGS = {"PNG": ".png", "JPEG": ".jpg", "MPO": ".jpg", "WEBP": ".webp", "GIF": ".gif", "AVIF": ".avif"}
"""Formats that are taken, as Pillow names them, and the endings that their files get."""


@dataclass(frozen=True, kw_only=True)
class Upload:
    """A picture that a client sent."""

    id: str
    owner: str
    ending: str
    width: int
    height: int
    bytes: int
    created: float
    """Seconds since 1970."""


def check_picture(data: bytes, label: str, most_pixels: int) -> tuple[str, int, int]:
    """Decode a picture once, whatever its name says.

    Args:
        data: The file.
        label: What messages call it.
        most_pixels: The largest that is taken.

    Returns:
        (ending of its file, width, height).

    Raises:
        ValueError: no picture, a damaged one, a format that is not taken, or too many pixels.
    """
    with open_image(data, label) as image:
        if image.format not in _ENDINGS:
            kinds = "PNG, JPEG, WebP, GIF or AVIF"
            raise ValueError(f"{label} is in the format {image.format}, which is not taken: send it as {kinds}")
        if image.width * image.height > most_pixels:
            size = f"{image.width}×{image.height}"
            raise ValueError(f"{label} is {size}, more than {most_pixels:,} pixels, the most that is taken: shrink it")
        image_to_array(image, label)
        return _ENDINGS[image.format], image.width, image.height


class UploadStore:
    """All uploads. Any thread may use it.

    Args:
        database: Where their entries are kept.
        data: Where their files lie.
        most_pixels: See `check_picture`.
        clock: Seconds since 1970.
    """

    def __init__(
        self, database: Database, data: DataFolder, most_pixels: int, clock: Callable[[], float] = time.time
    ) -> None:
        self._database, self._data, self._most_pixels, self._clock = database, data, most_pixels, clock

    def add(self, owner: str, content: bytes, label: str) -> Upload:
        """Keep a picture.

        Raises:
            ValueError: see `check_picture`.
        """
        ending, width, height = check_picture(content, label, self._most_pixels)
        upload = Upload(
            id=f"upl_{secrets.token_hex(12)}",
            owner=owner,
            ending=ending,
            width=width,
            height=height,
            bytes=len(content),
            created=self._clock(),
        )
        with atomic_write(self.path(upload), overwrite=False) as temporary:
            temporary.write_bytes(content)
        self._database.execute(
            "INSERT INTO uploads (id, owner, ending, width, height, bytes, created) VALUES (?, ?, ?, ?, ?, ?, ?)",
            (upload.id, owner, ending, width, height, upload.bytes, upload.created),
        )
        return upload

    def find(self, upload: str, owner: str) -> Upload | None:
        """An owner's upload by its id."""
        rows = self._database.execute("SELECT * FROM uploads WHERE id = ? AND owner = ?", (upload, owner))
        return Upload(**dict(rows[0])) if rows else None

    def path(self, upload: Upload) -> Path:
        """Where its file lies."""
        return self._data.uploads / f"{upload.id}{upload.ending}"

    def drop(self, upload: Upload) -> None:
        """Remove an upload. Jobs that were accepted with it keep it."""
        self._database.execute("DELETE FROM uploads WHERE id = ?", (upload.id,))
        with suppress(FileNotFoundError):
            self.path(upload).unlink()

    def before(self, moment: float) -> list[Upload]:
        """The uploads that are older than a moment."""
        return [
            Upload(**dict(row)) for row in self._database.execute("SELECT * FROM uploads WHERE created < ?", (moment,))
        ]

    def ids(self) -> set[str]:
        """The ids of all uploads."""
        return {row["id"] for row in self._database.execute("SELECT id FROM uploads")}

    def held_by(self, owner: str) -> int:
        """Bytes of all of an owner's uploads."""
        [[held]] = self._database.execute("SELECT COALESCE(SUM(bytes), 0) FROM uploads WHERE owner = ?", (owner,))
        return held
