"""Where a verb writes: looked at before anything is loaded, drawn or trained. Nothing heavy is imported."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from anystory.files import check_new_file

__all__ = ["Metadata", "OutFolder", "Overwrite", "Sheet", "check_out_file", "check_out_folder", "free_path"]

OutFolder = Annotated[Path, typer.Option("--out", "-o", help="Folder for the results; nothing in it is overwritten.")]

Sheet = Annotated[bool, typer.Option("--sheet/--no-sheet", help="Draw the sheet of routing maps.")]

Metadata = Annotated[
    bool,
    typer.Option(
        "--metadata/--no-metadata",
        help="Also keep the record inside the picture: everyone who gets the picture can read it.",
    ),
]

Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace existing files.")]


def check_out_folder(folder: Path, option: str = "--out") -> None:
    """Refuse a folder that nothing can be written into; it need not exist yet.

    Raises:
        ValueError: a file, or a link to nothing, is in its place or in that of a folder above it; or it may not be
            written into.
    """
    try:
        os.lstat(folder)
    except (FileNotFoundError, NotADirectoryError):
        pass  # it is to be made, or a folder above it is a file, which is reported below
    except OSError as error:  # a name too long, links in a circle
        raise ValueError(f"{option} {folder}: {error.strerror}: name another folder") from None
    there = folder
    while not os.path.lexists(there) and there.parent != there:
        there = there.parent
    if not there.is_dir():
        what = "a file" if there.exists() else "a link to nothing"
        place = f"must be a folder, but {folder}" if there == folder else f"{folder} cannot be made:"
        raise ValueError(f"{option} {place} {'' if there == folder else f'{there} '}is {what}: name another folder")
    if not os.access(there, os.W_OK | os.X_OK):
        raise ValueError(f"{option} {folder}: {there} may not be written into: name another folder")


def check_out_file(path: Path | None, option: str = "--out", *, overwrite: bool) -> None:
    """Refuse a file that cannot be written, or that is there already; None is no file, and fine.

    Raises:
        ValueError: it is there and `overwrite` is false, it is no file, or its folder will not do.
    """
    if path is None:
        return
    try:
        check_new_file(path, overwrite=overwrite)
    except FileExistsError:
        raise ValueError(f"{option} {path} exists already: name another file, or replace it with --overwrite") from None
    except OSError as error:
        raise ValueError(f"{option} {path} {error.strerror}: name a file") from None
    check_out_folder(path.parent, option)


def free_path(path: Path) -> Path:
    """The path, with a number after its name if that is taken."""
    number, free = 2, path
    while os.path.lexists(free):
        free = path.with_stem(f"{path.stem}-{number}")
        number += 1
    return free
