"""The census: what is counted, and that several processes count the same."""

from __future__ import annotations

from pathlib import Path

import pytest

from anystory.data.bad_samples import REASONS
from anystory.data.inspection.census import take_census
from anystory.data.pixels import ReadLimits
from data.samples import make_manifest

BAD = {2: "caption", 5: "picture", 6: "picture"}


def test_bad_samples_are_skipped_and_counted(tmp_path: Path) -> None:
    tally = take_census(make_manifest(tmp_path, BAD)).tally
    assert (tally.seen, dict(tally.counts)) == (10, {"empty_caption": 1, "unreadable_image": 2})
    assert set(tally.counts) <= set(REASONS)
    assert tally.summary().startswith("3 of 10 samples are bad (unreadable_image 2, empty_caption 1); for example k5: ")


def test_the_census_counts_what_is_there(tmp_path: Path) -> None:
    census = take_census(make_manifest(tmp_path, {0: "reference"}, count=5))
    found = census.to_dict()
    assert (found["samples"], found["bad_by_reason"], found["subjects"]) == (5, {"missing_reference": 1}, {2: 2, 1: 2})
    assert found["widths"] == {"least": 64, "median": 64.0, "greatest": 64}
    assert found["mask_shares"]["greatest"] == pytest.approx(60 * 32 / (64 * 48))
    assert (found["words"]["median"], found["licences"]) == (2, {"CC0-1.0": 4})
    assert found["bad_examples"]["missing_reference"][0][0] == "k0"


def test_a_census_by_several_processes_is_the_same(tmp_path: Path) -> None:
    bad = {3: "caption", **dict.fromkeys(range(10, 27), "picture"), 33: "reference"}
    source = make_manifest(tmp_path, bad, count=40)
    told: list[int] = []
    alone = take_census(source)
    assert take_census(source, workers=2, seen=told.append) == alone
    assert told == list(range(1, 41))
    assert [key for key, _ in alone.tally.examples["unreadable_image"]] == [f"k{i}" for i in range(10, 15)]
    strict = ReadLimits(min_side=60)
    assert take_census(source, limits=strict, workers=2) == take_census(source, limits=strict)
    assert take_census(source, limits=strict).tally.counts["too_small"] > 20
