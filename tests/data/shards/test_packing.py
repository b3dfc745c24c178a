"""A manifest's good samples become shards; bad ones are left out until there are too many."""

from __future__ import annotations

from pathlib import Path

import pytest

from anystory.data.shards.packing import pack_manifest
from anystory.data.shards.shard_set import ShardSet
from data.samples import make_manifest

BAD = {2: "caption", 5: "picture", 6: "picture"}


def test_a_manifest_is_packed_without_its_bad_samples(tmp_path: Path) -> None:
    source = make_manifest(tmp_path / "files", BAD)
    with pytest.raises(ValueError, match=r"3 of 10 samples are bad .*\(--limit\)"):
        pack_manifest(source, tmp_path / "shards", "set")
    pack_manifest(source, tmp_path / "shards", "set", limit=0.5)
    shards = ShardSet.open(tmp_path / "shards")
    assert shards.table.keys == tuple(f"k{i}" for i in (0, 1, 3, 4, 7, 8, 9))
    assert shards.read(3).masks.shape == (1, 48, 64)


def test_packing_that_goes_on_does_not_take_the_rest_for_the_whole(tmp_path: Path) -> None:
    """Killed near its end, or started again: the good ones that are there count beside the bad ones."""
    source = make_manifest(tmp_path / "files", BAD)
    for _ in range(2):
        tally = pack_manifest(source, tmp_path / "shards", "set", limit=0.3)
        assert (tally.seen, tally.bad) == (10, 3)


def test_a_picture_with_an_ending_that_no_shard_has_stops_nothing(tmp_path: Path) -> None:
    source = make_manifest(tmp_path, {}, count=3)
    for index, name in ((0, "target.jfif"), (1, "target.what")):
        record = source.records[index]
        (tmp_path / record.image).rename(tmp_path / name)
        changed = record.model_copy(update={"image": name})
        source.records = (*source.records[:index], changed, *source.records[index + 1 :])
    tally = pack_manifest(source, tmp_path / "shards", "set", limit=0.5)
    assert tally.examples == {"bad_record": [("k1", tally.examples["bad_record"][0][1])]}
    assert "target.what: a picture in a shard ends in one of .png" in tally.examples["bad_record"][0][1]
    shards = ShardSet.open(tmp_path / "shards")
    assert (shards.table.keys, shards.record(0).image) == (("k0", "k2"), "k0.image.jpg")
