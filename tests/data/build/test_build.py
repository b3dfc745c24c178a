"""Whole builds: what comes out, going on after a kill, what is counted, when it stops."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from anystory.data.build.build import BuildPlaces, build, find_todo, runner
from anystory.data.build.candidates import Candidate
from anystory.data.build.plan import Plan, default_plan, with_settings
from anystory.data.build.report import Report
from anystory.data.reading import read_sample
from anystory.data.shards.shard_set import ShardSet
from data.build.folders import DEADLY, LOW, POSES, drawn, identity, save


def plan_of(kind: str = "subjects", *settings: str) -> Plan:
    return with_settings(default_plan(kind), [*LOW, *settings])


def places(source: Path, name: str = "out") -> BuildPlaces:
    return BuildPlaces(source, source.parent / name, source.parent / f"{name}.work")


def built(source: Path, name: str = "out", *, plan: Plan | None = None, workers: int = 1, **options) -> Report:
    return build(plan or plan_of(), places(source, name), runner(workers), **options)


def files(folder: Path) -> dict[str, bytes]:
    """All that is written but the index, which knows when its shards were written."""
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir()) if path.name != "index.json"}


def test_subjects_become_pairs_that_pass_every_check(photos):
    report = built(photos)
    assert (report.items, report.samples, report.references, report.rejected) == (3, 9, 18, {})
    shards = ShardSet.open(photos.parent / "out")
    captions = {}
    for index in range(len(shards)):
        record, read = shards.open_sample(index)
        sample = read_sample(record, read)
        captions[record.key] = record.caption
        assert sample.masked
        assert 0.02 < sample.masks[0].mean() < 0.6
        assert [photo.shape[2] for photo in sample.references[0]] == [4, 4]
    assert list(captions) == sorted(captions)
    assert list(captions.values()) == ["Ann stands there", "ann", "ann", "bob", "Bob waves", "bob", "cat", "cat",
                                       "a cat, walking"]  # fmt: skip


def test_references_show_the_subject_of_another_photo(photos):
    """The target's pixels under its mask and the reference's differ, as poses do; the colours are the same."""
    built(photos)
    shards = ShardSet.open(photos.parent / "out")
    for index in range(len(shards)):
        sample = read_sample(*shards.open_sample(index))
        for photo in sample.references[0]:
            inside = photo[..., 3] >= 128
            assert np.abs(photo[..., :3][inside].mean(axis=0) - sample.image[sample.masks[0]].mean(axis=0)).max() < 40
            assert inside.sum() != sample.masks[0].sum()


def test_scenes_with_label_maps_and_named_masks(scenes):
    report = built(scenes, plan=plan_of("scenes"))
    assert (report.samples, report.subjects, report.references) == (2, 4, 4)
    shards = ShardSet.open(scenes.parent / "out")
    beach, party = (read_sample(*shards.open_sample(index)) for index in range(2))
    assert (beach.names, party.names) == (("ann", "bob"), ("1", "2"))
    from PIL import Image

    labels = np.asarray(Image.open(scenes / "party.mask.png"))
    for number in (1, 2):
        np.testing.assert_array_equal(party.masks[number - 1], labels == number)
    # Bob's reference is cut out of the target, Ann's is the photo in references/.
    mask = beach.masks[1]
    np.testing.assert_array_equal(np.unique(beach.references[1][0][beach.references[1][0][..., 3] > 0][:, :3], axis=0),
                                  np.unique(beach.image[mask], axis=0))  # fmt: skip
    assert beach.references[0][0].shape[:2] != beach.references[1][0].shape[:2]


def test_workers_and_repeats_give_the_same_shards(photos):
    built(photos)
    built(photos, "two", workers=2)
    assert files(photos.parent / "out") == files(photos.parent / "two")
    assert find_todo(plan_of(), places(photos, "two")).left == ()
    built(photos)
    assert files(photos.parent / "out") == files(photos.parent / "two")


@pytest.fixture
def many(tmp_path: Path) -> Path:
    folder = tmp_path / "many"
    for number in range(30):
        for pose in POSES[:2]:
            save(
                drawn(identity(number), pose, (40 + 6 * number, 200, 240), 64),
                folder / f"s{number:02d}" / f"{pose}.png",
            )
    return folder


_RUN = """
import sys
from pathlib import Path
from anystory.data.build.build import BuildPlaces, build, runner
from anystory.data.build.plan import default_plan, with_settings
if __name__ == "__main__":
    source = Path(sys.argv[1])
    plan = with_settings(default_plan("subjects"), sys.argv[3:])
    places = BuildPlaces(source, source.parent / "killed", source.parent / "killed.work")
    build(plan, places, runner(int(sys.argv[2])))
"""


@pytest.mark.parametrize("workers", [1, 2])
def test_a_killed_build_goes_on_and_ends_with_the_same_bytes(many, tmp_path, workers):
    """Killed with SIGKILL, again and again, wherever it is: while items are done and while shards are written."""
    whole = plan_of("subjects", "write.max_samples=7")
    built(many, "whole", plan=whole)
    script = tmp_path / "run.py"
    script.write_text(_RUN)
    work, out = many.parent / "killed.work", many.parent / "killed"
    seen = []
    command = [sys.executable, str(script), str(many), str(workers), *LOW, "write.max_samples=7"]
    for least in (3, 60):
        process = subprocess.Popen(command, start_new_session=True)
        while process.poll() is None and len(list(work.rglob("*.zip"))) < min(least, 30):
            time.sleep(0.005)
        while least == 60 and process.poll() is None and not list(out.glob("*.tar")):
            time.sleep(0.001)  # the last time: in the middle of the shards
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        seen.append(len(list(work.rglob("*.zip"))))
    assert 3 <= seen[0] < 30, "the first kill came while items were done"
    assert seen == sorted(seen), "nothing that was done is lost"
    done = {path: path.stat().st_mtime_ns for path in work.rglob("*.zip")}
    built(many, "killed", plan=whole)
    assert {path: path.stat().st_mtime_ns for path in done} == done, "nothing is done twice"
    assert files(out) == files(many.parent / "whole")
    assert len(list(out.glob("*.tar"))) == 9


def test_only_what_changed_is_done_again(photos):
    built(photos)
    assert find_todo(plan_of(), places(photos)).left == ()
    os.utime(photos / "ann" / "IMG_0.png")  # touched, not changed
    assert find_todo(plan_of(), places(photos)).left == ()
    save(drawn(identity(0), "sitting"), photos / "ann" / "IMG_0.png")
    (photos / "cat" / "IMG_0.txt").write_text("now with words")
    assert [item.where for item in find_todo(plan_of(), places(photos)).left] == ["ann", "cat"]
    assert len(find_todo(plan_of("subjects", "pair.references=1"), places(photos)).left) == 3


def test_a_step_of_a_newer_version_does_its_work_again(photos, monkeypatch):
    from anystory.data.build.steps.pair import Pair

    built(photos)
    monkeypatch.setattr(Pair, "version", 2)
    assert len(find_todo(plan_of(), places(photos)).left) == 3


def test_bad_files_are_counted_and_stop_nothing(photos):
    (photos / "ann" / "IMG_1.png").write_bytes(b"no picture")
    whole = (photos / "bob" / "IMG_1.png").read_bytes()
    (photos / "bob" / "IMG_1.png").write_bytes(whole[: len(whole) // 2])
    save(np.full((40, 40), 255, np.uint8), photos / "cat" / "IMG_1.mask.png")
    save(drawn(identity(5), "standing"), photos / "dan" / "only.png")
    report = built(photos)
    assert (report.items, report.samples) == (4, 6)
    content = json.loads((photos.parent / "out" / "report.json").read_text())
    counts = {reason: (found["items"], found["photos"]) for reason, found in content["rejected"].items()}
    assert counts == {"unreadable": (0, 2), "mask_size": (0, 1), "one_photo": (1, 0)}
    assert "both must have the same size" in content["rejected"]["mask_size"]["examples"][0]
    assert "no other photo of dan" in content["rejected"]["one_photo"]["examples"][0]


def test_too_many_bad_items_stop_the_build_with_a_sentence(many):
    for number in range(4):
        for path in (many / f"s{number:02d}").iterdir():
            path.write_bytes(b"")
    with pytest.raises(ValueError, match=r"4 of the first \d+ items cannot be used, more than 10%.*unreadable"):
        built(many)
    assert not (many.parent / "out").exists()
    assert built(many, most_bad=0.2).bad == 4


def test_a_worker_that_dies_costs_one_item_and_is_tried_again(photos, tmp_path, monkeypatch):
    (tmp_path / "deadly_step.py").write_text(DEADLY)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setenv("SPARE", str(tmp_path / "spare"))
    steps = ["segment", "deadly_step:Deadly", "filter", "pair", "caption"]
    plan = with_settings({**default_plan("subjects"), "steps": steps}, LOW)
    report = built(photos, plan=plan, workers=2)
    assert report.rejected["failed"]["item"] == 1
    assert "exit code 7" in report.examples["failed"][0]
    (tmp_path / "spare").touch()
    with pytest.raises(ValueError, match="another build"):
        built(photos, plan=plan, workers=2)
    assert built(photos, plan=plan, workers=2, overwrite=True).rejected == {}


def test_an_item_that_the_memory_is_not_enough_for_is_tried_again(photos, monkeypatch):
    from anystory.data.build.steps.pair import Pair

    def starved(_: Pair, candidate: Candidate) -> list[Candidate]:
        raise MemoryError if candidate.key.startswith("bob") else ValueError("another fault")

    monkeypatch.setattr(Pair, "__call__", starved)
    with pytest.raises(ValueError, match="no sample came out of 3 items"):
        built(photos)
    content = json.loads((photos.parent / "out" / "report.json").read_text())
    assert "bob: there is not enough memory for it" in content["rejected"]["failed"]["examples"]
    assert [item.where for item in find_todo(plan_of(), places(photos)).left] == ["bob"]


def test_a_step_that_cannot_be_made_stops_the_build_and_no_item_is_blamed(photos, tmp_path, monkeypatch):
    refusing = DEADLY.replace("self.options = options", "self.options = options.nothing")
    (tmp_path / "refusing_step.py").write_text(refusing)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    plan = with_settings(
        {**default_plan("subjects"), "steps": ["segment", "refusing_step:Deadly", "filter", "pair"]}, LOW
    )
    for workers in (1, 2):
        with pytest.raises(ValueError, match=r"step deadly cannot be made with .*\(AttributeError: "):
            built(photos, plan=plan, workers=workers)
    assert not list((tmp_path / "out.work").rglob("*.zip"))


def test_copies_of_a_target_in_other_items_are_left_out(photos):
    shutil.copytree(photos / "ann", photos / "zoe")
    report = built(photos)
    assert report.samples == 9
    assert report.rejected["duplicate"]["sample"] == 3
    assert built(photos, "all", plan=plan_of("subjects", "duplicate_bits=-1")).samples == 12


def test_held_out_items_are_chosen_by_their_keys(many):
    report = built(many, plan=plan_of("subjects", "heldout=0.3"))
    shards = ShardSet.open(many.parent / "out")
    splits = {}
    for index in range(len(shards)):
        record, _ = shards.open_sample(index)
        splits.setdefault(record.key[:-4], set()).add(record.split)
    assert all(len(found) == 1 for found in splits.values()), "an item is on one side only"
    held = sum(found == {"heldout"} for found in splits.values())
    assert 3 <= held <= 16
    assert report.heldout == 2 * held


def test_folders_of_others_are_left_alone(photos):
    out = photos.parent / "out"
    out.mkdir()
    (out / "thesis.tex").write_text("mine")
    with pytest.raises(ValueError, match=r"holds other files \(thesis.tex\)"):
        built(photos)
    assert files(out) == {"thesis.tex": b"mine"}


def test_no_sample_at_all_is_an_error_that_says_why(photos):
    with pytest.raises(ValueError, match=r"no sample came out of 3 items.*small: ann/IMG_0.png is 96×96"):
        built(photos, plan=plan_of("subjects", "filter.least_side=500"))
    content = json.loads((photos.parent / "out" / "report.json").read_text())
    assert content["rejected"]["small"]["photos"] == 9


def test_a_kill_before_anything_is_written_stops_nothing(photos):
    """Of a file that was being written a hidden one is left."""
    (photos.parent / "out").mkdir()
    (photos.parent / "out" / ".build.0123abcd.json").write_text("{")
    assert built(photos).samples == 9
