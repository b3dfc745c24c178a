"""Clips of one subject each: frames at some distance in time are its photos."""

from __future__ import annotations

from collections.abc import Iterator

from pydantic import Field

from anystory.data.build.candidates import Candidate, Rejected, Rejection
from anystory.data.build.sources.base import Item, ItemSource, PhotoFile, SourceOptions, item_key
from anystory.data.build.sources.captions import Captions
from anystory.data.build.sources.frames import need_pyav, read_frames
from anystory.data.build.sources.listing import VIDEOS, find_files, nothing_in

__all__ = ["VideoOptions", "Videos"]


class VideoOptions(SourceOptions):
    """Which frames are taken."""

    seconds: float = Field(default=2.0, gt=0)
    """Frames lie at least this far apart."""
    frames: int = Field(default=8, ge=2, le=1000)
    """Most frames of a clip, spread over all of it."""


class Videos(ItemSource[VideoOptions]):
    """`clips/ann.mp4`, `clips/zoo/bear.mov`, …: an item per clip. The clip's name is the subject's."""

    name = "videos"
    version = 2
    Options = VideoOptions

    def items(self, left_out: list[Rejection] | None = None) -> Iterator[Item]:
        left_out = [] if left_out is None else left_out
        clips, texts = find_files(self.folder, "the videos", VIDEOS, left_out)
        need_pyav()
        captions = Captions(self.folder)
        for file in clips:
            photo = PhotoFile(image=str(file), subjects=(file.stem,), caption=captions.of(file))
            yield Item(key=item_key(str(file)), where=str(file), photos=(photo,))
        if not clips:
            raise nothing_in(self.folder, "videos", VIDEOS, left_out)
        left_out += captions.lost(texts)

    def read(self, item: Item) -> Candidate | Rejected:
        (clip,) = item.photos
        frames = read_frames(self.folder, clip, self.options.seconds, self.options.frames, self.options.longest)
        if isinstance(frames, Rejected):
            return frames
        photos, dropped = frames
        return Candidate(key=item.key, photos=photos, dropped=dropped)
