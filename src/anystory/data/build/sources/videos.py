"""Clips of one subject each: frames that lie apart in time are photos of it."""

from __future__ import annotations

from collections.abc import Iterator

from pydantic import Field

from anystory.data.build.candidates import Candidate, Rejected
from anystory.data.build.sources.base import Item, PhotoFile, Source, SourceOptions, item_key
from anystory.data.build.sources.frames import need_pyav, read_frames
from anystory.data.build.sources.listing import VIDEOS, Captions, check_folder, list_files

__all__ = ["VideoOptions", "Videos"]


class VideoOptions(SourceOptions):
    """Which frames are taken."""

    seconds: float = Field(default=2.0, gt=0)
    """Frames lie at least this far apart."""
    frames: int = Field(default=8, ge=2, le=1000)
    """Of a clip at most this many, spread over all of it."""


class Videos(Source[VideoOptions]):
    """`clips/ann.mp4`, `clips/zoo/bear.mov`, …: an item per clip. The clip's name is the subject's."""

    name = "videos"
    version = 2
    Options = VideoOptions

    def items(self) -> Iterator[Item]:
        check_folder(self.folder, "the videos")
        need_pyav()
        captions = Captions(self.folder)
        any_yet = False
        for file in list_files(self.folder, VIDEOS):
            any_yet = True
            photo = PhotoFile(image=str(file), subjects=(file.stem,), caption=captions.of(file))
            yield Item(key=item_key(str(file)), where=str(file), photos=(photo,))
        if not any_yet:
            raise ValueError(f"{self.folder}: no videos in it or in its folders ({' '.join(sorted(VIDEOS))})")

    def read(self, item: Item) -> Candidate | Rejected:
        (clip,) = item.photos
        frames = read_frames(self.folder, clip, self.options.seconds, self.options.frames, self.options.longest)
        if isinstance(frames, Rejected):
            return frames
        photos, dropped = frames
        return Candidate(key=item.key, photos=photos, dropped=dropped)
