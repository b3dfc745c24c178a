"""StoryWorld as shards: the pairs themselves, whatever draws them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from anystory.data.inspection.census import take_census
from anystory.data.shards.shard_set import ShardSet
from anystory.data.storyworld_writer import write_storyworld
from anystory.storyworld import dataset


def test_shards_hold_the_pairs_of_the_world(tmp_path: Path) -> None:
    assert write_storyworld(tmp_path, 6, size=32, start=5) == 6
    shards = ShardSet.open(tmp_path)
    for index in range(6):
        sample, pair = shards.read(index), dataset.pairs(5 + index, size=32)
        assert np.array_equal(sample.image, pair["image"])
        numbers = np.arange(1, pair["count"] + 1)[:, None, None]
        assert np.array_equal(sample.masks, pair["instances"] == numbers)
        assert (sample.caption, sample.names) == (pair["caption"], pair["kinds"])
        for i, (photo,) in enumerate(sample.references):
            seen = photo[..., 3] > 0
            assert np.array_equal(photo[..., 3], pair["references"][i, ..., 3])
            assert np.array_equal(photo[seen], pair["references"][i][seen])


def test_drawing_goes_on_where_it_was(tmp_path: Path) -> None:
    write_storyworld(tmp_path, 3, size=32, max_samples=2)
    counts: list[int] = []
    assert write_storyworld(tmp_path, 5, size=32, max_samples=2, written=counts.append) == 2
    assert counts == [3, 4, 5]
    assert len(ShardSet.open(tmp_path)) == 5


def test_processes_draw_the_same_files(tmp_path: Path) -> None:
    write_storyworld(tmp_path / "one", 4, size=16, level=2, split="heldout")
    write_storyworld(tmp_path / "two", 4, size=16, level=2, split="heldout", workers=1)
    name = "level2-heldout-16-000000.tar"
    assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
    assert ShardSet.open(tmp_path / "one").table.heldout.all()


def test_every_level_gives_good_samples(tmp_path: Path) -> None:
    for level in (1, 2, 3):
        write_storyworld(tmp_path, 12, size=48, level=level)
    tally = take_census(ShardSet.open(tmp_path)).tally
    assert (tally.seen, tally.bad) == (36, 0)


def test_wrong_numbers_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="`n` must be at least 1"):
        write_storyworld(tmp_path, 0)
    with pytest.raises(ValueError, match="no level 9"):
        write_storyworld(tmp_path, 1, level=9)
