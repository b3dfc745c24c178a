"""Which mask file belongs to which picture of its folder, and to which subject."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from pathlib import PurePosixPath

from anystory.data.build.candidates import Rejection
from anystory.data.build.sources.listing import left_out_file
from anystory.data.build.sources.names import fold

__all__ = ["is_mask", "match_masks"]

_MASK = re.compile(r"\.mask\.", re.IGNORECASE)


def is_mask(file: PurePosixPath) -> bool:
    """Whether a file's name is that of a mask: `party.mask.png`, `party.mask.ann.png`, `party.jpg.mask.png`."""
    return bool(_parts(file)[0])


def match_masks(
    files: Iterable[PurePosixPath], left_out: list[Rejection]
) -> dict[PurePosixPath, dict[str, PurePosixPath]]:
    """The pictures of a folder with their masks: {picture: {subject, or "" if not named: mask}}, in order.

    A mask names its picture with or without the ending. Where the name without ending fits two pictures, neither gets
    the mask.

    Args:
        files: Pictures and masks of one folder.
        left_out: Gets masks of no picture, of more than one, and further masks of the same subject.
    """
    files = list(files)
    found: dict[PurePosixPath, dict[str, PurePosixPath]] = {file: {} for file in files if not is_mask(file)}
    owners_of = _owners(found)
    for mask in filter(is_mask, files):
        picture, rest = _parts(mask)
        who = rest.rpartition(".")[0]
        owners = owners_of(picture)
        if len(owners) != 1:
            left_out.append(_unowned(mask, owners))
        elif who in found[owners[0]]:
            detail = f"{mask}: {owners[0].name} has the mask {found[owners[0]][who].name} already"
            left_out.append(left_out_file("spare_mask", mask, detail))
        else:
            found[owners[0]][who] = mask
    return found


def _owners(pictures: Iterable[PurePosixPath]) -> Callable[[str], list[PurePosixPath]]:
    """Finds pictures by name: exactly, else without ending, else each of these folded."""
    by_name: tuple[dict[str, list[PurePosixPath]], ...] = ({}, {}, {}, {})
    for file in pictures:
        for index, name in zip(by_name, (file.name, file.stem, fold(file.name), fold(file.stem)), strict=True):
            index.setdefault(name, []).append(file)

    def find(name: str) -> list[PurePosixPath]:
        names = (name, name, fold(name), fold(name))
        return next((index[own] for index, own in zip(by_name, names, strict=True) if own in index), [])

    return find


def _unowned(mask: PurePosixPath, owners: list[PurePosixPath]) -> Rejection:
    if not owners:
        return left_out_file("lost_mask", mask, f"{mask} belongs to no picture")
    names = " or to ".join(owner.name for owner in owners)
    better = f"{owners[0].name}.mask.{_parts(mask)[1]}"
    return left_out_file("shared_mask", mask, f"{mask} may belong to {names}: say which with its ending, as {better}")


def _parts(file: PurePosixPath) -> tuple[str, str]:
    """The name of a mask's picture, and the rest of its name; the first is empty if the file is no mask."""
    picture, *rest = _MASK.split(file.name, maxsplit=1)
    return (picture, rest[0]) if rest else ("", "")
