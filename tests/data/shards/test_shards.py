"""Shards: random access, the index, resuming, and the webdataset library as a second reader."""

from __future__ import annotations

import json
import os
import pickle
import signal
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from anystory.data.bad_samples import BadSample
from anystory.data.reading import LoadedSample, read_sample
from anystory.data.shards.index import INDEX_NAME, load_index, rebuild_index
from anystory.data.shards.shard_set import ShardSet
from anystory.data.shards.tar_layout import add_member
from anystory.data.shards.webdataset import webdataset_stream
from anystory.data.shards.writer import ShardWriter
from anystory.files import sha256_file
from data.samples import make_sample

LONG = "k" * 128
KEYS = ("a", "b", LONG, "d", "e-1")


def write(folder: Path, keys: tuple[str, ...] = KEYS, name: str = "pets", **limits: int) -> None:
    with ShardWriter(folder, name, **({"max_samples": 2} | limits)) as writer:
        for key in keys:
            if key not in writer:
                record, files = make_sample(key, subjects=1 + len(key) % 3)
                writer.add(record, files.__getitem__)


def same(left: LoadedSample, right: LoadedSample) -> bool:
    arrays = [(left.image, right.image), (left.masks, right.masks)]
    for ours, theirs in zip(left.references, right.references, strict=True):
        arrays += zip(ours, theirs, strict=True)
    return all(np.array_equal(a, b) for a, b in arrays) and (left.key, left.caption) == (right.key, right.caption)


def original(key: str) -> LoadedSample:
    record, files = make_sample(key, subjects=1 + len(key) % 3)
    return read_sample(record, files.__getitem__)


def test_any_sample_is_read_as_it_was_written(tmp_path: Path) -> None:
    write(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [INDEX_NAME, *(f"pets-00000{i}.tar" for i in range(3))]
    shards = pickle.loads(pickle.dumps(ShardSet.open(tmp_path)))
    assert len(shards) == 5
    assert [list(group) for group in shards.groups] == [[0, 1], [2, 3], [4]]
    for index in (4, 0, 3, 2, 1):
        assert same(shards.read(index), original(KEYS[index]))
        assert shards.record(index).image == f"{KEYS[index]}.image.png"
    assert shards.table.keys == KEYS
    with pytest.raises(IndexError):
        shards.record(5)


def test_the_index_says_where_the_bytes_are(tmp_path: Path) -> None:
    """Read with nothing but the index and an open file."""
    write(tmp_path)
    entry = load_index(tmp_path).shards[0]
    path = tmp_path / entry.name
    assert entry.sha256 == sha256_file(path)
    block = path.read_bytes()[entry.offsets[1] : entry.offsets[1] + entry.sizes[1]]
    assert block[:6] == b"b.json"
    assert b'"caption":"2 things"' in block


def test_several_folders_are_one_set(tmp_path: Path) -> None:
    write(tmp_path / "one", ("a", "b"))
    write(tmp_path / "two", ("c",))
    shards = ShardSet.open([tmp_path / "one", tmp_path / "two"])
    assert [shards.record(i).key for i in range(3)] == ["a", "b", "c"]


def test_shards_are_full_by_bytes_too(tmp_path: Path) -> None:
    write(tmp_path, max_bytes=1, max_samples=100)
    assert [entry.samples for entry in load_index(tmp_path).shards] == [1] * 5


def test_webdataset_itself_reads_them(tmp_path: Path) -> None:
    webdataset = pytest.importorskip("webdataset")
    write(tmp_path)
    urls = [str(path) for path in sorted(tmp_path.glob("*.tar"))]
    streamed = list(webdataset.WebDataset(urls, shardshuffle=False))
    assert [sample["__key__"] for sample in streamed] == list(KEYS)
    record, files = make_sample("b", subjects=2)
    assert streamed[1]["image.png"] == files[record.image]
    assert streamed[1]["s1.r0.mask.png"] == files["b/photo1-mask.png"]
    decoded = list(webdataset.WebDataset(urls, shardshuffle=False).decode("rgb8"))
    assert np.array_equal(decoded[0]["image.png"], original("a").image)


def test_streaming_gives_checked_samples(tmp_path: Path) -> None:
    pytest.importorskip("webdataset")
    write(tmp_path)
    record, files = make_sample("bad")
    with ShardWriter(tmp_path, "worse") as writer:
        writer.add(record, (files | {record.image: b"no picture"}).__getitem__)
    found = list(webdataset_stream(tmp_path))
    assert [sample.key for sample in found] == list(KEYS)
    assert same(found[3], original("d"))


def test_a_run_that_raises_goes_on_and_ends_with_the_same_files(tmp_path: Path) -> None:
    write(tmp_path / "whole")
    with pytest.raises(RuntimeError), ShardWriter(tmp_path / "parts", "pets", max_samples=2) as writer:
        for key in KEYS[:3]:
            record, files = make_sample(key, subjects=1 + len(key) % 3)
            writer.add(record, files.__getitem__)
        raise RuntimeError
    assert [path.name for path in (tmp_path / "parts").iterdir()] == ["pets-000000.tar"]
    write(tmp_path / "parts")
    for path in (tmp_path / "whole").glob("*.tar"):
        assert path.read_bytes() == (tmp_path / "parts" / path.name).read_bytes()
    assert ShardSet.open(tmp_path / "parts").table.keys == KEYS


KILLED = """
import os, signal, sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from data.samples import make_sample
from anystory.data.shards.writer import ShardWriter
with ShardWriter(Path(sys.argv[1]), "pets", max_samples=2) as writer:
    for key in "abc":
        record, files = make_sample(key, subjects=2)
        writer.add(record, files.__getitem__)
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no kill -9 here")
def test_a_killed_run_leaves_only_whole_shards(tmp_path: Path) -> None:
    tests = str(Path(__file__).parents[2])
    done = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path), tests], env=os.environ)
    assert done.returncode == -signal.SIGKILL
    assert len(list(tmp_path.glob(".pets-000001-*.tar"))) == 1  # what was in work, under a name that no reader takes
    write(tmp_path, ("a", "b", "c"))
    assert ShardSet.open(tmp_path).table.keys == ("a", "b", "c")
    assert not list(tmp_path.glob(".pets*"))


def test_another_writer_s_file_in_work_is_left_alone(tmp_path: Path) -> None:
    with ShardWriter(tmp_path, "pets-2") as other:
        record, files = make_sample("z")
        other.add(record, files.__getitem__)
        write(tmp_path)
    assert ShardSet.open(tmp_path).table.keys == (*KEYS, "z")


def test_keys_are_unique(tmp_path: Path) -> None:
    record, files = make_sample("a")
    with ShardWriter(tmp_path, "pets") as writer:
        writer.add(record, files.__getitem__)
        with pytest.raises(ValueError, match="'a' is written already"):
            writer.add(record, files.__getitem__)
    with pytest.raises(ValueError, match=r"'a' is in cats-000000.tar and in pets-000000.tar"):
        write(tmp_path, ("a",), "cats")


def test_a_missing_file_or_wrong_suffix_writes_nothing(tmp_path: Path) -> None:
    record, files = make_sample("a")
    with ShardWriter(tmp_path, "pets") as writer:
        with pytest.raises(KeyError):
            writer.add(record, {}.__getitem__)
        with pytest.raises(ValueError, match=r"x\.gif: a picture in a shard ends in one of \.png"):
            writer.add(record.model_copy(update={"image": "x.gif"}), files.__getitem__)
        writer.add(record, files.__getitem__)
    assert same(ShardSet.open(tmp_path).read(0), read_sample(record, files.__getitem__))


def change_byte(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[600] ^= 1
    path.write_bytes(data)


STALE = {
    "another size": lambda folder: (folder / "pets-000001.tar").write_bytes(b"\0" * 20480),
    "same size, other content": lambda folder: change_byte(folder / "pets-000001.tar"),
    "gone": lambda folder: (folder / "pets-000001.tar").unlink(),
    "new": lambda folder: (folder / "more-000000.tar").write_bytes(b"\0" * 10240),
}


@pytest.mark.parametrize("case", STALE)
def test_a_stale_index_is_refused(tmp_path: Path, case: str) -> None:
    write(tmp_path)
    STALE[case](tmp_path)
    with pytest.raises(ValueError, match=r"is stale: .*`anystory data index FOLDER` writes it again"):
        ShardSet.open(tmp_path)


def test_a_copy_is_no_other_set(tmp_path: Path) -> None:
    write(tmp_path)
    path = tmp_path / "pets-000001.tar"
    os.utime(path, ns=(1, 1))
    assert len(ShardSet.open(tmp_path)) == 5
    assert load_index(tmp_path).shards[1].mtime_ns == 1  # noted: the next opening need not hash


def test_no_index_and_a_damaged_one_are_told(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="is not a folder of shards"):
        ShardSet.open(tmp_path / "nowhere")
    write(tmp_path)
    (tmp_path / INDEX_NAME).write_text('{"format": 7}')
    with pytest.raises(ValueError, match="is no index of shards"):
        ShardSet.open(tmp_path)
    (tmp_path / INDEX_NAME).unlink()
    with pytest.raises(ValueError, match=f"has no {INDEX_NAME}"):
        ShardSet.open(tmp_path)


def test_a_rebuilt_index_equals_the_writer_s(tmp_path: Path) -> None:
    write(tmp_path)
    before = (tmp_path / INDEX_NAME).read_bytes()
    (tmp_path / INDEX_NAME).unlink()
    rebuild_index(tmp_path)
    assert (tmp_path / INDEX_NAME).read_bytes() == before


def test_tars_of_other_programs_get_an_index(tmp_path: Path) -> None:
    """Members in another order, in a folder, beside members of their own; and one sample without a record."""
    record, files = make_sample("a", subjects=1)
    record = record.model_copy(update={"image": "a.jpg"})
    with tarfile.open(tmp_path / "foreign.tar", "w") as tar:
        for name, data in (("a.jpg", files["a/target.png"]), ("a.cls", b"7")):
            add_member(tar, f"./part/{name}", data)
        renamed = (
            record.model_copy(update={"subjects": (record.subjects[0].model_copy(update={"mask": None}),)})
            .model_dump_json()
            .replace("a/photo0.png", "a.photo.png")
        )
        add_member(tar, "./part/a.photo.png", files["a/photo0.png"])
        add_member(tar, "./part/a.json", renamed.encode())
        add_member(tar, "./part/b.jpg", files["a/target.png"])
    index = rebuild_index(tmp_path)
    assert (index.shards[0].keys, index.shards[0].subjects, index.shards[0].masked) == (
        ("a", "b"),
        (1, 0),
        (False,) * 2,
    )
    shards = ShardSet.open(tmp_path)
    assert shards.read(0).image.shape == (48, 64, 3)
    with pytest.raises(BadSample, match=r"no member b\.json") as caught:
        shards.read(1)
    assert caught.value.reason == "bad_record"


def test_a_tar_that_is_cut_short_is_refused(tmp_path: Path) -> None:
    write(tmp_path)
    path = tmp_path / "pets-000000.tar"
    os.truncate(path, path.stat().st_size // 2)
    with pytest.raises(ValueError, match=r"pets-000000\.tar is (cut short|not a whole tar file)"):
        rebuild_index(tmp_path)
    with pytest.raises(ValueError, match="holds no shards"):
        rebuild_index(tmp_path / "nothing")


def test_a_tar_whose_samples_are_torn_apart_is_refused(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "torn.tar", "w") as tar:
        for name in ("a.json", "b.json", "a.png"):
            add_member(tar, name, b"{}")
    with pytest.raises(ValueError, match="members of 'a' do not lie together"):
        rebuild_index(tmp_path)


def test_a_key_of_another_record_is_bad(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "x.tar", "w") as tar:
        add_member(tar, "a.json", make_sample("b")[0].model_dump_json().encode())
        add_member(tar, "c.json", b"[]")
    rebuild_index(tmp_path)
    shards = ShardSet.open(tmp_path)
    for index, words in ((0, "has the key 'b'"), (1, "does not fit")):
        with pytest.raises(BadSample, match=words):
            shards.read(index)


def test_a_damaged_header_is_no_end_of_the_file(tmp_path: Path) -> None:
    """To Python's tarfile it is: what follows would be lost without a word."""
    write(tmp_path, max_samples=100)
    path = tmp_path / "pets-000000.tar"
    data = bytearray(path.read_bytes())
    data[load_index(tmp_path).shards[0].offsets[2] + 3] ^= 1
    path.write_bytes(data)
    with pytest.raises(ValueError, match=r"pets-000000\.tar is damaged at byte \d+"):
        rebuild_index(tmp_path)


def test_a_tar_that_is_cut_between_members_is_refused(tmp_path: Path) -> None:
    write(tmp_path, max_samples=100)
    os.truncate(tmp_path / "pets-000000.tar", load_index(tmp_path).shards[0].offsets[2])
    with pytest.raises(ValueError, match=r"pets-000000\.tar is cut short"):
        rebuild_index(tmp_path)


def test_equal_names_in_two_folders_of_a_tar_are_two_samples(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "x.tar", "w") as tar:
        for name in ("one/a.json", "one/a.jpg", "two/a.json", "two/a.jpg"):
            add_member(tar, name, b"{}")
    with pytest.raises(ValueError, match="two samples have the key 'a', in one and in two"):
        rebuild_index(tmp_path)


def test_a_sparse_member_is_not_blown_up(tmp_path: Path) -> None:
    """A terabyte of zeros fits into two kilobytes."""
    record, _ = make_sample("a", subjects=1)
    info = tarfile.TarInfo("a.image.png")
    info.pax_headers = {"GNU.sparse.major": "0", "GNU.sparse.minor": "1", "GNU.sparse.size": str(1 << 40)}
    info.pax_headers["GNU.sparse.map"] = "0,0"
    with tarfile.open(tmp_path / "x.tar", "w", format=tarfile.PAX_FORMAT) as tar:
        add_member(tar, "a.json", record.model_copy(update={"image": "a.image.png"}).model_dump_json().encode())
        tar.addfile(info)
    rebuild_index(tmp_path)
    with pytest.raises(BadSample, match=r"file a\.image\.png is missing") as caught:
        ShardSet.open(tmp_path).read(0)
    assert caught.value.reason == "missing_file"


def test_a_name_that_is_not_utf8_is_told(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "x.tar", "w", format=tarfile.GNU_FORMAT) as tar:
        add_member(tar, "caf\udce9.json", b"{}")
    with pytest.raises(ValueError, match=r"x\.tar: the name 'caf\\udce9\.json' is not UTF-8"):
        rebuild_index(tmp_path)


@pytest.mark.parametrize(
    ("change", "words"),
    [({"name": "../pets-000000.tar"}, "name: "), ({"offsets": [-512, 0]}, "outside"), ({"sizes": [512, 1 << 50]}, "")],
)
def test_an_index_cannot_point_outside_its_shards(tmp_path: Path, change: dict[str, Any], words: str) -> None:
    write(tmp_path / "in")
    index = json.loads((tmp_path / "in" / INDEX_NAME).read_text())
    index["shards"][0] |= change
    (tmp_path / "in" / INDEX_NAME).write_text(json.dumps(index))
    with pytest.raises(ValueError, match=f"is no index of shards .*{words}"):
        ShardSet.open(tmp_path / "in")


def test_two_writers_of_one_name_would_overwrite_each_other(tmp_path: Path) -> None:
    with ShardWriter(tmp_path, "pets") as writer:
        record, files = make_sample("a")
        writer.add(record, files.__getitem__)
        with pytest.raises(ValueError, match="another program is writing the shards 'pets'"):
            ShardWriter(tmp_path, "pets").__enter__()
        with ShardWriter(tmp_path, "cats"):
            pass
    write(tmp_path, ("a", "b"))
    assert sorted(ShardSet.open(tmp_path).table.keys) == ["a", "b"]
    assert not list(tmp_path.glob(".*"))


def test_a_stream_crosses_processes(tmp_path: Path) -> None:
    """A loader's workers get it pickled where they are spawned."""
    pytest.importorskip("webdataset")
    write(tmp_path)
    assert [sample.key for sample in pickle.loads(pickle.dumps(webdataset_stream(tmp_path)))] == list(KEYS)
