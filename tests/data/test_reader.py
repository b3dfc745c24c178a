"""Going through a data set, counting, packing: bad samples are passed over until there are too many."""

from __future__ import annotations

from pathlib import Path

import pytest

from anystory.data.bad import REASONS, BadSample
from anystory.data.census import take_census
from anystory.data.manifest import Manifest, write_manifest
from anystory.data.packing import pack_manifest
from anystory.data.pixels import ReadLimits
from anystory.data.reader import SampleReader
from anystory.data.shards import ShardSet
from data.samples import make_sample


def manifest(folder: Path, bad: dict[int, str], count: int = 10) -> Manifest:
    """Samples k0 …; `bad` says which have no caption, an unreadable target, or a missing reference."""
    records = []
    for i in range(count):
        kind = bad.get(i)
        record, files = make_sample(f"k{i}", subjects=1 + i % 2, caption="" if kind == "caption" else "some words")
        if kind == "picture":
            files[record.image] = b""
        if kind == "reference":
            del files[record.subjects[0].references[0].image]
        for name, data in files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(data)
        records.append(record)
    write_manifest(records, folder / "manifest.jsonl")
    return Manifest(folder / "manifest.jsonl")


BAD = {2: "caption", 5: "picture", 6: "picture"}


def test_bad_samples_are_passed_over_and_counted(tmp_path: Path) -> None:
    reader = SampleReader(manifest(tmp_path, BAD), limit=0.5)
    assert [sample.key for sample in reader] == [f"k{i}" for i in (0, 1, 3, 4, 7, 8, 9)]
    assert (reader.tally.seen, dict(reader.tally.counts)) == (10, {"empty_caption": 1, "unreadable_image": 2})
    assert set(reader.tally.counts) <= set(REASONS)
    assert reader.tally.summary().startswith(
        "3 of 10 samples are bad (unreadable_image 2, empty_caption 1); for example k5: "
    )
    with pytest.raises(BadSample):
        reader[2]


def test_too_many_stop_the_run(tmp_path: Path) -> None:
    source = manifest(tmp_path, BAD)
    early = SampleReader(source, limit=0.3, least_seen=6)
    found = []
    with pytest.raises(ValueError, match=r"too many bad samples: 2 of 6 samples are bad .*At most 30\.0% may be bad"):
        found.extend(sample.key for sample in early)
    assert found == ["k0", "k1", "k3", "k4"]
    with pytest.raises(ValueError, match="3 of 10"):  # fewer than 100, but the set ends
        list(SampleReader(source, limit=0.2))
    assert len(list(SampleReader(source, limit=None))) == 7
    with pytest.raises(ValueError, match="`limit` is the largest share"):
        SampleReader(source, limit=3)


def test_the_census_counts_what_is_there(tmp_path: Path) -> None:
    census = take_census(manifest(tmp_path, {0: "reference"}, count=5))
    found = census.to_dict()
    assert (found["samples"], found["bad_by_reason"], found["subjects"]) == (5, {"missing_reference": 1}, {2: 2, 1: 2})
    assert found["widths"] == {"least": 64, "median": 64.0, "greatest": 64}
    assert found["mask_shares"]["greatest"] == pytest.approx(60 * 32 / (64 * 48))
    assert (found["words"]["median"], found["licences"]) == (2, {"CC0-1.0": 4})
    assert found["bad_examples"]["missing_reference"][0][0] == "k0"


def test_a_census_by_several_processes_is_the_same(tmp_path: Path) -> None:
    bad = {3: "caption", **dict.fromkeys(range(10, 27), "picture"), 33: "reference"}
    source = manifest(tmp_path, bad, count=40)
    told: list[int] = []
    alone = take_census(source)
    assert take_census(source, workers=2, seen=told.append) == alone
    assert told == list(range(1, 41))
    assert [key for key, _ in alone.tally.examples["unreadable_image"]] == [f"k{i}" for i in range(10, 15)]
    strict = ReadLimits(min_side=60)
    assert take_census(source, limits=strict, workers=2) == take_census(source, limits=strict)
    assert take_census(source, limits=strict).tally.counts["too_small"] > 20


def test_a_manifest_is_packed_without_its_bad_samples(tmp_path: Path) -> None:
    source = manifest(tmp_path / "files", BAD)
    with pytest.raises(ValueError, match=r"3 of 10 samples are bad .*\(--limit\)"):
        pack_manifest(source, tmp_path / "shards", "set")
    pack_manifest(source, tmp_path / "shards", "set", limit=0.5)
    shards = ShardSet.open(tmp_path / "shards")
    assert shards.table.keys == tuple(f"k{i}" for i in (0, 1, 3, 4, 7, 8, 9))
    assert shards.read(3).masks.shape == (1, 48, 64)


def test_packing_that_goes_on_does_not_take_the_rest_for_the_whole(tmp_path: Path) -> None:
    """Killed near its end, or started again: the good ones that are there count beside the bad ones."""
    source = manifest(tmp_path / "files", BAD)
    for _ in range(2):
        tally = pack_manifest(source, tmp_path / "shards", "set", limit=0.3)
        assert (tally.seen, tally.bad) == (10, 3)


def test_a_picture_with_an_ending_that_no_shard_has_stops_nothing(tmp_path: Path) -> None:
    source = manifest(tmp_path, {}, count=3)
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
