"""The stream that training reads: what a sample holds, in which order samples come, what a bad one does."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from anystory.data.pixels import ReadLimits, encode_png
from anystory.data.shards.writer import ShardWriter
from anystory.data.stream.order import EpochOrder
from anystory.data.stream.training_set import TrainingSet
from anystory.training.data.storyworld import personal_sample
from anystory.training.data.stream import stream_batches
from data.samples import make_sample

SIZES: dict[str, Any] = {"resolution": 32, "reference_size": 24, "max_subjects": 2}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve training samples with one to three subjects, and two held out."""
    found = tmp_path_factory.mktemp("shards")
    with ShardWriter(found, "set", max_samples=3) as writer:
        for i in range(14):
            split = "heldout" if i >= 12 else "train"
            record, files = make_sample(f"k{i}", subjects=1 + i % 3, split=split, caption=f"k{i}")
            writer.add(record, files.__getitem__)
    return found


def captions(samples: TrainingSet, positions: range) -> list[str]:
    return [samples(position)["caption"] for position in positions]


def equal(left: dict, right: dict) -> bool:
    return left.keys() == right.keys() and all(np.array_equal(left[key], right[key]) for key in left)


def test_keys_shapes_and_dtypes_are_those_of_storyworld(folder: Path) -> None:
    theirs = personal_sample(0, level="level1", size=32, reference_size=24, seed=0, min_subjects=1, max_subjects=2)
    ours = TrainingSet(folder, **SIZES)(0)
    assert set(ours) == {*theirs, "size_condition", "bad"}
    for key, value in theirs.items():
        if key != "caption":
            assert (ours[key].shape, ours[key].dtype) == (value.shape, value.dtype), key
    assert (ours["size_condition"].shape, ours["size_condition"].dtype) == ((6,), np.float32)


def test_ids_and_references_belong_together(folder: Path) -> None:
    samples = TrainingSet(folder, **SIZES)
    for position in range(len(samples)):
        sample = samples(position)
        count = int(sample["present"].sum())
        assert set(np.unique(sample["instances"])) - {0} == set(range(1, count + 1))
        assert sample["reference_alpha"][:count].max(axis=(1, 2)).min() > 200
        assert (sample["references"][count:] == 255).all()
        assert not sample["reference_alpha"][count:].any()


def test_an_epoch_shows_each_sample_once_in_its_own_order(folder: Path) -> None:
    samples = TrainingSet(folder, **SIZES)
    assert len(samples) == 8  # those with one or two subjects
    first, second = captions(samples, range(8)), captions(samples, range(8, 16))
    assert sorted(first) == sorted(second) == sorted(f"k{i}" for i in range(12) if i % 3 < 2)
    assert first != second
    assert captions(TrainingSet(folder, **SIZES), range(8)) == first
    assert captions(TrainingSet(folder, **SIZES, seed=1), range(8)) != first


def test_a_sample_is_a_function_of_seed_and_position(folder: Path) -> None:
    """In whatever order, process or copy."""
    samples = TrainingSet(folder, **SIZES)
    forward = [samples(position) for position in range(20)]
    copy = pickle.loads(pickle.dumps(samples))
    assert all(equal(copy(position), forward[position]) for position in reversed(range(20)))
    assert equal(samples(2**40 + 3), copy(2**40 + 3))
    assert len({s["image"].tobytes() for s in forward}) > len({s["caption"] for s in forward})  # other crops later


def test_workers_and_ranks_share_an_epoch_without_overlap(folder: Path) -> None:
    samples = TrainingSet(folder, **SIZES)
    seen: list[str] = []
    for rank in range(2):
        batches = stream_batches(samples, start=0, batch_size=2, workers=2 if rank else 0, rank=rank, world_size=2)
        for _ in range(2):
            batch = next(batches)
            assert batch["bad"].tolist() == [0, 0]
            seen += batch["caption"]
    assert sorted(seen) == sorted(captions(samples, range(8)))


def test_without_augmentation_nothing_varies(folder: Path) -> None:
    samples = TrainingSet(folder, **SIZES, split="heldout", augment=False)
    assert {samples(i)["caption"] for i in range(2)} == {"k12", "k13"}
    wanted = samples(0)
    later = next(samples(i) for i in range(2, 50) if samples(i)["caption"] == wanted["caption"])
    assert equal(wanted, later)


def test_a_fixed_crop_stays_and_references_still_vary(folder: Path) -> None:
    samples = TrainingSet(folder, **SIZES, fixed_crop=True)
    seen = [s for s in map(samples, range(32)) if s["caption"] == "k1"]
    assert len(seen) == 4
    assert all(np.array_equal(s["image"], seen[0]["image"]) for s in seen)
    assert len({s["references"].tobytes() for s in seen}) > 1


def test_references_are_augmented(folder: Path) -> None:
    """Most of them (paper, section 4.1): turned, cropped or padded."""
    samples, plain = (TrainingSet(folder, **SIZES, augment=augment) for augment in (True, False))
    changed = [not np.array_equal(samples(p)["references"], plain(p)["references"]) for p in range(8)]
    assert sum(changed) >= 4


def test_one_of_several_photos_is_chosen(tmp_path: Path) -> None:
    """Each of them, whether it is augmented or not, and one after the other in later epochs."""
    colours = [(200, 30, 30), (30, 200, 30), (30, 30, 200)]
    record, files = make_sample("a", subjects=1)
    for i, colour in enumerate(colours):
        photo = np.zeros((40, 30, 4), np.uint8)
        photo[4:36, 6:24] = (*colour, 255)
        files[f"{i}.png"] = encode_png(photo)
    photo = record.subjects[0].references[0]
    photos = tuple(photo.model_copy(update={"image": f"{i}.png"}) for i in range(len(colours)))
    record = record.model_copy(update={"subjects": (record.subjects[0].model_copy(update={"references": photos}),)})
    with ShardWriter(tmp_path, "set") as writer:
        writer.add(record, files.__getitem__)

    def shown(samples: TrainingSet, position: int) -> int:
        sample = samples(position)
        inside = sample["references"][0][sample["reference_alpha"][0] > 250]
        return int(np.argmax(inside.mean(axis=0)))

    plain, samples = (TrainingSet(tmp_path, **SIZES, augment=augment) for augment in (False, True))
    assert [shown(plain, i) for i in range(6)] == [0] * 6
    counts = np.bincount([shown(samples, i) for i in range(60)], minlength=3)
    assert counts.min() > 8, counts


def write_with_defects(folder: Path, bad: set[int], count: int = 20) -> None:
    with ShardWriter(folder, "set", max_samples=5) as writer:
        for i in range(count):
            record, files = make_sample(f"k{i}", caption=f"k{i}")
            if i in bad:
                files[record.image] = b"no picture"
            writer.add(record, files.__getitem__)


def test_a_bad_sample_is_replaced_by_the_next_good_one(tmp_path: Path) -> None:
    write_with_defects(tmp_path, {3, 4, 11})
    samples = TrainingSet(tmp_path, **SIZES, bad_limit=0.5)
    order = [samples.source.table.keys[i] for i in samples.order.permutation(0)]
    good = [key for key in order if key not in {"k3", "k4", "k11"}]
    for position, key in enumerate(order):
        found = samples(position)
        wanted = next((k for k in order[position:] if k in good), good[0])
        steps = (order.index(wanted) - position) % 20
        assert (found["caption"], found["bad"]) == (wanted, steps), key
    assert samples.tally.counts["unreadable_image"] >= 3


def test_too_many_bad_samples_stop_the_run(tmp_path: Path) -> None:
    write_with_defects(tmp_path / "some", {3, 4, 11})
    samples = TrainingSet(tmp_path / "some", **SIZES)
    with pytest.raises(ValueError, match=r"too many bad samples: .*unreadable_image.*At most 5\.0% of the last 100"):
        captions(samples, range(200))
    write_with_defects(tmp_path / "all", set(range(20)))
    with pytest.raises(ValueError, match="no sample can be used"):
        TrainingSet(tmp_path / "all", **SIZES, bad_limit=1.0)(0)


def test_pixels_are_counted_for_each_sample_by_itself(folder: Path) -> None:
    alone = SIZES | {"max_subjects": 1, "bad_limit": 1.0}
    needed = 2 * 48 * 64 + 40 * 30  # target, mask, photo
    enough = TrainingSet(folder, **alone, limits=ReadLimits(max_sample_pixels=needed))
    assert [enough(position)["bad"] for position in range(8)] == [0] * 8
    with pytest.raises(ValueError, match=r"no sample can be used: .*too_many_pixels 4\)"):
        TrainingSet(folder, **alone, limits=ReadLimits(max_sample_pixels=needed - 1))(0)


def test_what_cannot_be_trained_on_is_refused(folder: Path) -> None:
    cases: list[tuple[dict[str, Any], str]] = [
        ({"max_subjects": 0}, "1 ≤ min_subjects ≤ max_subjects"),
        ({"resolution": 0}, "`resolution`"),
        ({"bad_limit": 2.0}, "`bad_limit`"),
        ({"min_subjects": 4, "max_subjects": 9}, r"none of 14 samples has 4 to 9 subjects in split 'train'"),
    ]
    for changes, words in cases:
        with pytest.raises(ValueError, match=words):
            TrainingSet(folder, **(SIZES | changes))


def test_samples_without_masks_can_be_left_out(tmp_path: Path) -> None:
    with ShardWriter(tmp_path, "set") as writer:
        for i in range(4):
            record, files = make_sample(f"k{i}", subjects=1)
            if i % 2:
                record = record.model_copy(update={"subjects": (record.subjects[0].model_copy(update={"mask": None}),)})
            writer.add(record, files.__getitem__)
    assert len(TrainingSet(tmp_path, **SIZES)) == 4
    assert len(TrainingSet(tmp_path, **SIZES, require_masks=True)) == 2
    unmasked = TrainingSet(tmp_path, **SIZES).target(1, 0)[0]
    assert (unmasked["instances"] == 1).all()


def test_the_order_is_local_and_complete() -> None:
    groups = [np.arange(i * 1500, (i + 1) * 1500) for i in range(12)]
    order = EpochOrder(groups, seed=3)
    found = order.permutation(5)
    assert np.array_equal(np.sort(found), np.arange(18_000))
    assert np.array_equal(found, order.permutation(5))
    assert not np.array_equal(found, order.permutation(6))
    blocks = found.reshape(3, 6000) // 1500
    assert [len(np.unique(block)) for block in blocks] == [4, 4, 4]  # each block reads four shards only
    assert len(np.unique(blocks[0][:40])) == 4  # and mixes them


def test_the_order_stays_the_same_in_every_version() -> None:
    """Resuming a run with another NumPy must not change what it sees."""
    assert EpochOrder([np.arange(3), np.arange(3, 8)], 0).permutation(0).tolist() == [4, 3, 1, 7, 0, 5, 6, 2]
