"""Pictures of several subjects, with a mask for each."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby
from pathlib import PurePosixPath

from anystory.data.build.candidates import Candidate, Rejected, Rejection
from anystory.data.build.sources.base import Item, ItemSource, PhotoFile, SourceOptions, item_key
from anystory.data.build.sources.captions import Captions
from anystory.data.build.sources.listing import PICTURES, find_files, left_out_file, nothing_in
from anystory.data.build.sources.masks import match_masks
from anystory.data.build.sources.names import NameIndex, fold
from anystory.data.build.sources.subjects import photo_files, read_photos

__all__ = ["MaskedScenes"]

_REFERENCES = "references"


class MaskedScenes(ItemSource[SourceOptions]):
    """`party.jpg` with `party.mask.png`, or with `party.mask.ann.png` and `party.mask.bob.png`: an item per picture.

    `party.mask.png` is a label map: 0 is the background, 1, 2, … are the subjects. Photos in `references/party/ann/`
    show Ann of that picture, photos in `references/ann/` the Ann of every picture; of a subject without such photos
    the reference is cut out of the picture itself, as in stage 2 of the paper.
    """

    name = "scenes"
    version = 3

    def items(self, left_out: list[Rejection] | None = None) -> Iterator[Item]:
        left_out = [] if left_out is None else left_out
        files, texts = find_files(self.folder, "pictures with masks", PICTURES, left_out)
        captions = Captions(self.folder)
        references = _References([file for file in files if file.parts[0] == _REFERENCES], captions, left_out)
        any_yet = False
        scenes = (file for file in files if file.parts[0] != _REFERENCES)
        for _, group in groupby(scenes, key=lambda file: file.parent):
            for file, masks in match_masks(group, left_out).items():
                any_yet = True
                yield _item(file, masks, captions, references)
        if not any_yet:
            raise nothing_in(self.folder, "pictures", PICTURES, left_out)
        left_out += references.lost()
        left_out += captions.lost(texts)

    def read(self, item: Item) -> Candidate | Rejected:
        scene = item.photos[0]
        if not scene.masks and not scene.labels:
            stem = PurePosixPath(scene.image).stem
            detail = f"{scene.image} has no mask: expected {stem}.mask.png (a label map) or {stem}.mask.NAME.png"
            return Rejected(reason="no_mask", detail=detail, bad=True)
        return read_photos(self.folder, item, self.options.longest)


def _item(file: PurePosixPath, masks: dict[str, PurePosixPath], captions: Captions, references: _References) -> Item:
    labels = masks.get("")
    named = tuple((who, str(mask)) for who, mask in masks.items() if who)
    scene = PhotoFile(
        image=str(file),
        masks=named,
        labels=None if named or labels is None else str(labels),
        caption=captions.of(file),
        target=True,
    )
    photos = references.of(file.stem, [who for who, _ in named])
    return Item(key=item_key(str(file)), where=str(file), photos=(scene, *photos))


class _References:
    """The photos below `references/`: `party/ann/1.jpg` is Ann's of one picture, `ann/1.jpg` Ann's of all.

    Args:
        files: These pictures and masks, relative to the source's folder.
        captions: The source's captions.
        left_out: Gets masks that cannot be used.
    """

    def __init__(self, files: list[PurePosixPath], captions: Captions, left_out: list[Rejection]) -> None:
        self._captions, self._left_out = captions, left_out
        self._folders = {str(at): list(group) for at, group in groupby(files, key=lambda file: file.parent)}
        self._names = NameIndex(self._folders)
        self._own: dict[str, list[str]] = {}
        for at in map(PurePosixPath, self._folders):
            if len(at.parts) == 3:
                self._own.setdefault(fold(at.parts[1]), []).append(at.name)
        self._used: set[str] = set()

    def of(self, scene: str, names: list[str]) -> list[PhotoFile]:
        """The references of a picture.

        Args:
            scene: The picture's name without its ending.
            names: Its subjects; empty if it has a label map: then the folders of its own references name them.
        """
        found: list[PhotoFile] = []
        for who in names or sorted(self._own.get(fold(scene), ())):
            places = [f"{_REFERENCES}/{scene}/{who}", *([f"{_REFERENCES}/{who}"] if names else [])]
            place = next((at for at in map(self._names.find, places) if at is not None), None)
            if place is not None:
                told = self._left_out if place not in self._used else []
                photos = photo_files(self._folders[place], who, self._captions, told)
                self._used.add(place)
                found += [photo.model_copy(update={"target": False}) for photo in photos]
        return found

    def lost(self) -> Iterator[Rejection]:
        """Photos of no picture's subjects, after `of` was called for all pictures."""
        for at, files in self._folders.items():
            if at not in self._used:
                for file in files:
                    detail = f"{file} shows no subject of a picture: name its folder after a mask's NAME"
                    yield left_out_file("lost_reference", file, detail)
