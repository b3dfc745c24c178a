"""A figure: a picture, and the table that it was drawn from."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from anystory.files import atomic_write


@dataclass(frozen=True, kw_only=True, eq=False)
class Figure:
    """One figure, as it is kept."""

    name: str
    """Of its files."""
    title: str
    says: str
    """What it shows, in words: with numbers, sample counts and the unit of the intervals."""
    image: Image.Image
    rows: Sequence[Mapping[str, object]]
    """The table behind it; every row has the same columns."""

    def keep(self, folder: Path, *, overwrite: bool) -> list[Path]:
        """Write NAME.png and NAME.csv; returns both.

        Raises:
            FileExistsError: one is there, and `overwrite` is false.
        """
        picture, table = folder / f"{self.name}.png", folder / f"{self.name}.csv"
        with (
            atomic_write(table, overwrite=overwrite) as temporary,
            temporary.open("w", newline="", encoding="utf-8") as file,
        ):
            writer = csv.DictWriter(file, fieldnames=list(self.rows[0]))
            writer.writeheader()
            writer.writerows(self.rows)
        with atomic_write(picture, overwrite=overwrite) as temporary:
            self.image.save(temporary, format="PNG")
        return [picture, table]
