"""A data set by its path: a manifest, or a folder of shards."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from anystory.data.manifest import MANIFEST_SUFFIXES, Manifest
from anystory.data.shard_index import shard_paths
from anystory.data.shards import ShardSet
from anystory.data.table import SampleSource

__all__ = ["open_source"]


def open_source(paths: str | Path | Sequence[str | Path]) -> SampleSource:
    """Open a manifest (`.jsonl`, `.parquet`), a folder with a `manifest.jsonl` or shards, or several folders of shards.

    Raises:
        ValueError: nothing of that kind, or what the manifest or index says is wrong with it.
    """
    listed = [Path(path) for path in ([paths] if isinstance(paths, (str, Path)) else paths)]
    if len(listed) == 1:
        path = listed[0]
        if path.suffix in MANIFEST_SUFFIXES and not path.is_dir():
            if not path.is_file():
                raise ValueError(f"no manifest at {path}")
            return Manifest(path)
        manifests = [path / f"manifest{suffix}" for suffix in MANIFEST_SUFFIXES]
        if path.is_dir() and not shard_paths(path):
            for manifest in manifests:
                if manifest.is_file():
                    return Manifest(manifest)
            raise ValueError(f"{path} holds neither shards (NAME-000000.tar) nor a manifest ({manifests[0].name})")
    return ShardSet.open(listed)
