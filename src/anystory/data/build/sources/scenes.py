"""Pictures of several subjects, with a mask for each."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from pathlib import PurePosixPath

from anystory.data.build.candidates import Candidate, Rejected
from anystory.data.build.sources.base import Item, PhotoFile, Source, SourceOptions, item_key
from anystory.data.build.sources.listing import (
    PICTURES,
    Captions,
    check_folder,
    list_files,
    mask_of,
    warn_of_lost_masks,
)
from anystory.data.build.sources.subjects import photo_files, read_photos

__all__ = ["MaskedScenes"]

_REFERENCES = "references"


class MaskedScenes(Source[SourceOptions]):
    """`party.jpg` with `party.mask.png`, or with `party.mask.ann.png` and `party.mask.bob.png`: an item per picture.

    `party.mask.png` is a label map: 0 is the background, 1, 2, … are the subjects. Photos in `references/party/ann/`
    show Ann of that picture, photos in `references/ann/` the Ann of every picture; of a subject without such photos
    the reference is cut out of the picture itself, as in stage 2 of the paper.
    """

    name = "scenes"
    version = 3

    def items(self) -> Iterator[Item]:
        check_folder(self.folder, "pictures with masks")
        captions = Captions(self.folder)
        files = [file for file in list_files(self.folder, PICTURES) if file.parts[0] != _REFERENCES]
        masks = _masks_by_picture(files)
        pictures = [file for file in files if not mask_of(file)]
        if not pictures:
            raise ValueError(f"{self.folder}: no pictures in it or in its folders ({' '.join(sorted(PICTURES))})")
        warn_of_lost_masks(set(masks) - {file.with_suffix("") for file in pictures})
        for file in pictures:
            yield self._item(file, masks.get(file.with_suffix(""), {}), captions)

    def read(self, item: Item) -> Candidate | Rejected:
        scene = item.photos[0]
        if not scene.masks and not scene.labels:
            stem = PurePosixPath(scene.image).stem
            detail = f"{scene.image} has no mask: expected {stem}.mask.png (a label map) or {stem}.mask.NAME.png"
            return Rejected(reason="no_mask", detail=detail, bad=True)
        return read_photos(self.folder, item, self.options.longest)

    def _item(self, file: PurePosixPath, masks: dict[str, str], captions: Captions) -> Item:
        labels = masks.get("")
        named = tuple((who, mask) for who, mask in masks.items() if who)
        scene = PhotoFile(
            image=str(file), masks=named, labels=None if named else labels, caption=captions.of(file), target=True
        )
        references: list[PhotoFile] = []
        own = self.folder / _REFERENCES / file.stem
        names = [who for who, _ in named] or sorted(path.name for path in own.glob("*") if path.is_dir())
        for who in names:
            shared = self.folder / _REFERENCES / who
            place = own / who if (own / who).is_dir() else shared if named else None
            if place is not None and place.is_dir():
                inside = PurePosixPath(place.relative_to(self.folder).as_posix())
                found = [inside / path for path in list_files(place, PICTURES) if len(path.parts) == 1]
                photos = photo_files(found, who, captions)
                references += [photo.model_copy(update={"target": False}) for photo in photos]
        return Item(key=item_key(str(file)), where=str(file), photos=(scene, *references))


def _masks_by_picture(files: list[PurePosixPath]) -> dict[PurePosixPath, dict[str, str]]:
    """{picture without its ending: {who, or "" for a label map: mask file}}, in the files' order."""
    found: dict[PurePosixPath, dict[str, str]] = defaultdict(dict)
    for file in files:
        if mask := mask_of(file):
            picture, who = mask
            found[picture][who] = str(file)
    return found
