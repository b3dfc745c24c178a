"""A folder per subject: every photo in it shows the same person, animal or thing."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator
from itertools import groupby
from pathlib import Path, PurePosixPath

from anystory.data.build.candidates import Candidate, Photo, Rejected, Rejection
from anystory.data.build.sources.base import Item, PhotoFile, Source, SourceOptions, item_key
from anystory.data.build.sources.listing import (
    PICTURES,
    Captions,
    check_folder,
    list_files,
    mask_of,
    warn_of_lost_masks,
)
from anystory.data.build.sources.stills import read_photo
from anystory.data.pixels import PixelCount, ReadLimits

__all__ = ["SubjectFolders", "photo_files", "read_photos"]


class SubjectFolders(Source[SourceOptions]):
    """`photos/ann/1.jpg`, `photos/ann/2.jpg`, `photos/bob/…`: an item per folder that holds photos, at any depth.

    `1.mask.png` beside `1.jpg` is its mask. Photos that lie in the source's folder itself are one subject if there are
    no others, and are left out otherwise.
    """

    name = "subjects"
    version = 2

    def items(self) -> Iterator[Item]:
        check_folder(self.folder, "one folder per subject")
        captions = Captions(self.folder)
        loose: list[PurePosixPath] = []
        any_yet = False
        for parent, files in groupby(list_files(self.folder, PICTURES), key=lambda file: file.parent):
            if not parent.parts:
                loose = list(files)
            elif photos := photo_files(files, parent.name, captions):
                any_yet = True
                yield Item(key=item_key(str(parent)), where=str(parent), photos=photos)
        if loose and any_yet:
            warnings.warn(
                f"{len(loose)} pictures that lie in {self.folder} itself are left out: a subject's photos go into a "
                "folder of their own",
                stacklevel=2,
            )
            return
        name = self.folder.resolve().name
        if photos := photo_files(loose, name, captions):
            yield Item(key=item_key(name), where=name, photos=photos)
        elif not any_yet:
            raise ValueError(f"{self.folder}: no photos in it or in its folders ({' '.join(sorted(PICTURES))})")

    def read(self, item: Item) -> Candidate | Rejected:
        return read_photos(self.folder, item, self.options.longest)


def photo_files(files: Iterable[PurePosixPath], subject: str, captions: Captions) -> tuple[PhotoFile, ...]:
    """The photos among `files` of a folder, each of one subject, with the mask that lies beside it."""
    photos: list[PurePosixPath] = []
    masks: dict[PurePosixPath, PurePosixPath] = {}
    for file in files:
        if owner := mask_of(file):
            masks[owner[0]] = file
        else:
            photos.append(file)
    warn_of_lost_masks(set(masks) - {file.with_suffix("") for file in photos})
    found = []
    for file in photos:
        mask = masks.get(file.with_suffix(""))
        found.append(
            PhotoFile(
                image=str(file),
                subjects=(subject,) if mask is None else (),
                masks=() if mask is None else ((subject, str(mask)),),
                caption=captions.of(file),
            )
        )
    return tuple(found)


def read_photos(folder: Path, item: Item, longest: int) -> Candidate | Rejected:
    """Decode an item's photos; those that cannot be used are dropped, and if none is left the item is rejected."""
    photos: list[Photo] = []
    dropped: list[Rejection] = []
    count = PixelCount(ReadLimits(), item.where)
    for file in item.photos:
        photo = read_photo(folder, file, longest, count)
        if isinstance(photo, Photo):
            photos.append(photo)
        else:
            dropped.append(photo)
    if not any(photo.target for photo in photos):
        first = dropped[0]
        more = f" (and {len(dropped) - 1} more photos are left out)" if len(dropped) > 1 else ""
        return Rejected(reason=first.reason, detail=first.detail + more, bad=True, dropped=tuple(dropped))
    return Candidate(key=item.key, photos=tuple(photos), dropped=tuple(dropped))
