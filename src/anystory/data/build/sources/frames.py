"""Frames of a video that lie apart in time, by PyAV (the extra `video`)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from anystory.data.bad_samples import BadSample
from anystory.data.build.candidates import Instance, Photo, Rejected, Rejection
from anystory.data.build.sources.base import PhotoFile
from anystory.data.build.sources.stills import shrink
from anystory.data.pixels import PixelCount, ReadLimits
from anystory.extras import need
from anystory.subjects.pictures import MAX_PIXELS

__all__ = ["need_pyav", "read_frames"]


def read_frames(
    folder: Path, clip: PhotoFile, seconds: float, most: int, longest: int
) -> tuple[tuple[Photo, ...], tuple[Rejection, ...]] | Rejected:
    """Decode some frames of a clip.

    Args:
        folder: The source's folder.
        clip: The file, with the name of its subject.
        seconds: Frames lie at least this far apart.
        most: At most this many frames, spread over the clip.
        longest: Larger frames are reduced to this longer side, in pixels.

    Returns:
        The frames and what could not be read; or why there are none.

    Raises:
        ValueError: PyAV is not installed.
    """
    av = need_pyav()
    photos: list[Photo] = []
    dropped: list[Rejection] = []
    count = PixelCount(ReadLimits(), clip.image)
    limit = {"max_pixels": str(MAX_PIXELS)}  # FFmpeg checks it before it decodes a frame,
    try:
        with av.open(str(folder / clip.image), options=limit) as container:  # which opening a file may do
            if not container.streams.video:
                return Rejected(reason="no_frames", detail=f"{clip.image} has no pictures, only sound", bad=True)
            stream = container.streams.video[0]
            if fault := _size_fault(clip.image, stream.width, stream.height):
                return Rejected(reason="unreadable", detail=fault, bad=True)
            stream.codec_context.options = limit
            stream.thread_type = "NONE"  # the repair of a damaged frame must not depend on threads
            try:
                for time, rgb in _spread(container, stream, seconds, most):
                    photo = _photo(clip, time, rgb, longest)
                    count.add(photo.rgb.shape[1], photo.rgb.shape[0], photo.name)
                    photos.append(photo)
            except BadSample as error:
                dropped.append(Rejection(reason=error.reason, what=clip.image, detail=str(error)))
            except (av.error.FFmpegError, OSError) as error:
                # An incomplete download still has its beginning.
                detail = f"{clip.image} can be read in part only ({len(photos)} frames): {error}"
                dropped.append(Rejection(reason="unreadable", what=clip.image, detail=detail, bad=True))
    except (av.error.FFmpegError, OSError) as error:
        return Rejected(reason="unreadable", detail=f"{clip.image} is not a video that can be read ({error})", bad=True)
    if not photos:
        detail = dropped[0].detail if dropped else f"{clip.image} is a video without a single frame"
        return Rejected(reason="no_frames", detail=detail, bad=True)
    return tuple(photos), tuple(dropped)


def _size_fault(name: str, width: int, height: int) -> str:
    """What is wrong with the size of a video's frames; empty if nothing is."""
    if width * height > MAX_PIXELS:
        return f"{name} is too large: {width}×{height} is more than {MAX_PIXELS:,} pixels. Make it smaller first"
    if not width * height:  # the first frame was refused for its size
        return f"{name} is a video whose frames have more than {MAX_PIXELS:,} pixels, or no size at all"
    return ""


def _spread(container: Any, stream: Any, seconds: float, most: int) -> Any:
    """(time in seconds since the first frame, RGB) of frames at least `seconds` apart.

    Jumps to the key frame before each moment and decodes from there: an hour of video costs no more than a minute.
    """
    length = float(container.duration or 0) / 1_000_000  # FFmpeg counts a container's length in microseconds
    apart = max(seconds, length / most)
    start: float | None = None
    wanted = 0.0
    for number in range(most):
        if start is not None:
            container.seek(int((start + wanted) / stream.time_base), stream=stream)
        frame = next(
            (f for f in container.decode(stream) if start is None or _time(f) >= start + wanted - 1e-6),
            None,
        )
        if frame is None:
            return
        start = _time(frame) if start is None else start
        time = _time(frame) - start
        yield time, _upright(frame)
        wanted = max((number + 1) * apart, time + seconds)


def _time(frame: Any) -> float:
    return 0.0 if frame.time is None else float(frame.time)


def _upright(frame: Any) -> np.ndarray:
    """(H, W, 3) uint8, rotated as the clip's header says (in degrees, counterclockwise)."""
    rgb = frame.to_ndarray(format="rgb24")
    return np.ascontiguousarray(np.rot90(rgb, round(getattr(frame, "rotation", 0) / 90)))


def _photo(clip: PhotoFile, time: float, rgb: np.ndarray, longest: int) -> Photo:
    return Photo(
        name=f"{clip.image}@{time:.2f}s",
        rgb=shrink(rgb, longest),
        instances=tuple(Instance(name=who, matte=None) for who in clip.subjects),
        caption=clip.caption,
        original=(rgb.shape[0], rgb.shape[1]),
    )


def need_pyav() -> Any:
    """PyAV.

    Raises:
        ValueError: it is not installed.
    """
    need("av.error", "reading videos", "video")
    return need("av", "reading videos", "video")
