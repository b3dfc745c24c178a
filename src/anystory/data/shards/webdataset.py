"""Streaming shards by the webdataset library, for example from a pipe or an object store."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from anystory.data.bad_samples import BadSample
from anystory.data.pixels import ReadLimits
from anystory.data.reading import LoadedSample, read_sample
from anystory.data.shards.index import shard_paths
from anystory.data.shards.tar_layout import record_of
from anystory.extras import need

__all__ = ["decode_streamed", "webdataset_stream"]


def webdataset_stream(
    folders: str | Path | Sequence[str | Path], *, limits: ReadLimits | None = None, **options: Any
) -> Any:
    """A `webdataset.WebDataset` of `LoadedSample`s that reads shards from front to back; bad samples are left out.

    It needs no index and has no random access. For local files use `TrainingSet`.

    Args:
        folders: Folders of shards.
        limits: What makes a sample bad; None takes the defaults.
        **options: For `WebDataset`: `shardshuffle`, `nodesplitter`, `seed`, …

    Raises:
        ValueError: webdataset is not installed, or a folder holds no shards.
    """
    webdataset = need("webdataset", "streaming shards")
    listed = [Path(folder) for folder in ([folders] if isinstance(folders, (str, Path)) else folders)]
    found = [(folder, shard_paths(folder)) for folder in listed]
    for folder, paths in found:
        if not paths:
            raise ValueError(f"{folder} holds no shards (tar files)")
    urls = [str(path) for _, paths in found for path in paths]
    options = {"shardshuffle": False, "empty_check": False} | options
    # No lambdas: spawned workers get the stream pickled.
    return webdataset.WebDataset(urls, **options).map(partial(decode_streamed, limits=limits)).select(_is_good)


def decode_streamed(sample: dict[str, Any], limits: ReadLimits | None = None) -> LoadedSample | None:
    """One of webdataset's samples {"__key__": …, "json": bytes, "image.png": bytes, …}; None if it is bad."""
    key = sample["__key__"].rpartition("/")[2]
    members = {f"{key}.{name}": data for name, data in sample.items() if not name.startswith("__")}
    try:
        return read_sample(*record_of(key, members), limits=limits)
    except BadSample:
        return None


def _is_good(sample: LoadedSample | None) -> bool:
    return sample is not None
