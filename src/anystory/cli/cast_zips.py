"""`anystory cast export` and `anystory cast import`: characters as zips, to share them."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from anystory.cli.flags.cast import LibraryFolder
from anystory.cli.flags.outputs import Overwrite, check_out_file, check_out_folder
from anystory.cli.terminal.characters import count

if TYPE_CHECKING:
    from anystory.cast import Library

__all__ = ["DropAliases", "export", "import_zips"]

DropAliases = Annotated[list[str] | None, typer.Option("--drop-alias", help="An alias that goes. Repeatable.")]


def export(
    names: Annotated[list[str], typer.Argument(metavar="NAME...", help="Whole characters, with their variants.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the zips.")] = Path(),
    photos: Annotated[
        bool,
        typer.Option(
            "--photos/--no-photos",
            help="With the photos as you gave them, and all that a camera wrote into them (place and time, for "
            "example); or only the cut-outs, which suffice to draw.",
        ),
    ] = True,
    overwrite: Overwrite = False,
    library: LibraryFolder = None,
) -> None:
    """Write a zip for each character, which others can import."""
    from anystory.cast import Library
    from anystory.cast.names import folder_name

    check_out_folder(out)
    cast = Library(library)
    targets: dict[Path, str] = {}
    for character, variant in map(cast.find, names):
        if variant is not None:
            raise ValueError(f"{character.name}@{variant}: a character is exported whole: give {character.name!r}")
        path = out / f"{folder_name(character.name)}.zip"
        if targets.setdefault(path, character.name) != character.name:
            raise ValueError(f"{character.name} and {targets[path]} would both be {path}: export them one by one")
        check_out_file(path, overwrite=overwrite)
    for path, name in targets.items():
        cast.export(name, path, photos=photos, overwrite=overwrite)
        print(f"{name}: {path}", flush=True)


def import_zips(
    zips: Annotated[list[Path], typer.Argument(metavar="ZIP...", help="What `anystory cast export` wrote.")],
    rename: Annotated[str | None, typer.Option(metavar="NAME", help="Its name here, if its own is taken.")] = None,
    drop_alias: DropAliases = None,
    library: LibraryFolder = None,
) -> None:
    """Add the characters of zips. They may come from anybody: nothing of a zip is kept unless all of it is sound."""
    if len(zips) > 1 and (rename is not None or drop_alias):
        raise ValueError("--rename and --drop-alias are for one character: import this zip alone")
    from anystory.cast import Library

    cast = Library(library)
    if len(zips) == 1:
        _import(cast, zips[0], rename, drop_alias or ())
        return
    done = [_tried(cast, path) for path in zips]
    if not all(done):
        raise typer.Exit(2)


def _tried(cast: Library, path: Path) -> bool:
    """Import one of several; a bad one must not keep the others out."""
    try:
        _import(cast, path)
    except (ValueError, OSError) as error:
        said = f"{error.filename}: {error.strerror}" if isinstance(error, OSError) and error.filename else error
        print(f"anystory: {said}", file=sys.stderr)
        return False
    return True


def _import(cast: Library, path: Path, rename: str | None = None, drop_aliases: Sequence[str] = ()) -> None:
    character = cast.import_zip(path, rename=rename, drop_aliases=drop_aliases)
    print(f"{path}: {character.name}, {count(len(character.photos), 'photo')}, {character.folder}", flush=True)
