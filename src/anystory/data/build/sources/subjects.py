"""A folder per subject: every photo in it shows the same person, animal or thing."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import groupby
from pathlib import Path, PurePosixPath

from anystory.data.build.candidates import Candidate, Photo, Rejected, Rejection
from anystory.data.build.sources.base import Item, ItemSource, PhotoFile, SourceOptions, item_key
from anystory.data.build.sources.captions import Captions
from anystory.data.build.sources.listing import PICTURES, find_files, left_out_file, nothing_in
from anystory.data.build.sources.masks import match_masks
from anystory.data.build.sources.names import subject_name
from anystory.data.build.sources.stills import read_photo
from anystory.data.pixels import PixelCount, ReadLimits

__all__ = ["SubjectFolders", "photo_files", "read_photos"]


class SubjectFolders(ItemSource[SourceOptions]):
    """`photos/ann/1.jpg`, `photos/ann/2.jpg`, `photos/bob/…`: an item per folder that holds photos, at any depth.

    `1.mask.png` beside `1.jpg` is its mask. Photos in the source's folder itself are one subject if there are no
    others, and are left out otherwise. A subject has its folder's name, without the repeats of kohya's `10_ann woman`.
    """

    name = "subjects"
    version = 2

    def items(self, left_out: list[Rejection] | None = None) -> Iterator[Item]:
        left_out = [] if left_out is None else left_out
        pictures, texts = find_files(self.folder, "one folder per subject", PICTURES, left_out)
        captions = Captions(self.folder)
        loose: list[PurePosixPath] = []
        any_yet = False
        for parent, group in groupby(pictures, key=lambda file: file.parent):
            if not parent.parts:
                loose = list(group)
            elif photos := photo_files(group, subject_name(parent.name), captions, left_out):
                any_yet = True
                yield Item(key=item_key(str(parent)), where=str(parent), photos=photos)
        if any_yet:
            reason = f"lies in {self.folder} itself: a subject's photos go into a folder of their own"
            left_out += [left_out_file("loose", file, f"{file} {reason}") for file in loose]
        else:
            name = self.folder.resolve().name
            if not (photos := photo_files(loose, subject_name(name), captions, left_out)):
                raise nothing_in(self.folder, "photos", PICTURES, left_out)
            yield Item(key=item_key(name), where=name, photos=photos)
        left_out += captions.lost(texts)

    def read(self, item: Item) -> Candidate | Rejected:
        return read_photos(self.folder, item, self.options.longest)


def photo_files(
    files: Iterable[PurePosixPath], subject: str, captions: Captions, left_out: list[Rejection]
) -> tuple[PhotoFile, ...]:
    """The photos among `files` of a folder, each of one subject, with the mask that lies beside it."""
    found = []
    for file, masks in match_masks(files, left_out).items():
        own = [masks[who] for who in sorted(masks)]  # the one without a name first
        mask = own[0] if own else None
        left_out += [left_out_file("spare_mask", m, f"{m}: {file.name} has the mask {mask} already") for m in own[1:]]
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
    """Decode an item's photos. Those that cannot be used are dropped; if none is left the item is rejected."""
    photos: list[Photo] = []
    dropped: list[Rejection] = []
    count = PixelCount(ReadLimits(), item.where)
    for file in item.photos:
        photo = read_photo(folder, file, longest, count)
        if isinstance(photo, Photo):
            photos.append(photo)
        else:
            dropped.append(photo)
    found = Candidate(key=item.key, photos=()).left_with(photos, dropped)
    return replace(found, bad=True) if isinstance(found, Rejected) else found[0]
