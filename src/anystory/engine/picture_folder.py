"""A picture in a folder of its own, with its record and more: whole, by one rename, or not at all."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from anystory.engine.saving import REFERENCES, keep
from anystory.files import flush_file, flush_folder

if TYPE_CHECKING:
    import numpy as np

    from anystory.engine.backends.base import DrawnPicture, Model
    from anystory.engine.job import Job

__all__ = ["OWNERS", "clear_unfinished", "draft_folder", "keep_folder"]

OWNERS = "owners.png"
"""Who owns each pixel; see `saving.owners_of`."""
_UNFINISHED = ".drawing-"


def keep_folder(
    target: Path,
    root: Path,
    picture: DrawnPicture,
    job: Job,
    model: Model,
    *,
    owners: np.ndarray | None,
    texts: Mapping[str, str],
    sheet: bool = True,
) -> None:
    """Write a picture's folder. Its copies of references are hard links to those in `root`, where the disk has such.

    Args:
        target: The folder; it does not exist yet.
        root: The folder of the whole work, above it.
        picture, job, model: What was drawn, and how.
        owners: See `saving.owners_of`.
        texts: Further files: {name: content}.
        sheet: Whether to write the sheet of the routing maps.

    Raises:
        OSError: it cannot be written.
    """
    with draft_folder(target, root) as draft:
        keep(picture, job, model, draft, sheet=sheet)
        if owners is not None:
            from PIL import Image

            Image.fromarray(owners).save(draft / OWNERS)
        for name, text in texts.items():
            (draft / name).write_text(text, encoding="utf-8")


@contextmanager
def draft_folder(target: Path, root: Path) -> Iterator[Path]:
    """Yield a folder to write a picture's files into (it is not there yet); after the block it is `target`, whole.

    Args:
        target, root: See `keep_folder`.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix=_UNFINISHED, dir=root) as temporary:
        draft = Path(temporary, "picture")
        yield draft
        _share_references(draft / REFERENCES, root / REFERENCES)
        for path in sorted(draft.rglob("*")):
            flush_folder(path) if path.is_dir() else flush_file(path)
        flush_folder(draft)
        os.rename(draft, target)
    flush_folder(target.parent)


def clear_unfinished(root: Path) -> None:
    """Remove what a killed program was writing; call it while nobody else writes there."""
    for left in root.glob(f"{_UNFINISHED}*"):
        shutil.rmtree(left, ignore_errors=True)


def _share_references(own: Path, shared: Path) -> None:
    """Make a picture's copies of references hard links to the shared ones, where the disk has such links.

    A copy's name ends with its hash, so equal names have equal content.
    """
    if not own.is_dir():
        return
    shared.mkdir(exist_ok=True)
    for copy in own.iterdir():
        common = shared / copy.name
        with suppress(OSError):
            if not common.exists():
                os.link(copy, common)
            elif common.stat().st_size == copy.stat().st_size:
                link = copy.with_name(f".{copy.name[-64:]}")
                os.link(common, link)
                os.replace(link, copy)
