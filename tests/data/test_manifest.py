"""Manifests: both kinds hold the same, and what is wrong is told by its line."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from anystory.data.bad_samples import BadSample
from anystory.data.manifest import Manifest, read_manifest, write_manifest
from anystory.data.reading import LoadedSample, read_sample
from anystory.data.sources import open_source
from data.samples import make_sample


def first_of(path: Path) -> LoadedSample:
    return read_sample(*open_source(path).open_sample(0))


def write_files(folder: Path, files: dict[str, bytes]) -> None:
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)


@pytest.mark.parametrize("name", ["manifest.jsonl", "other.parquet"])
def test_records_survive_a_manifest(tmp_path: Path, name: str) -> None:
    if name.endswith(".parquet"):
        pytest.importorskip("pyarrow")
    records = [make_sample(key, subjects=n)[0] for key, n in (("a", 1), ("b", 3))]
    records[0] = records[0].model_copy(update={"caption": 'a "quoted"\u2028 ünï caption', "split": "heldout"})
    write_manifest(records, tmp_path / name)
    assert list(read_manifest(tmp_path / name)) == records


def test_files_are_found_beside_the_manifest(tmp_path: Path) -> None:
    record, files = make_sample("a")
    write_files(tmp_path, files)
    write_manifest([record], tmp_path / "manifest.jsonl")
    for path in (tmp_path, tmp_path / "manifest.jsonl"):
        assert first_of(path).masks.shape == (2, 48, 64)
    (tmp_path / "a" / "mask0.png").unlink()
    with pytest.raises(BadSample, match="file a/mask0.png is missing"):
        first_of(tmp_path)


def test_the_table_says_what_is_there(tmp_path: Path) -> None:
    records = [make_sample("a", subjects=1, split="heldout")[0], make_sample("b", subjects=3)[0]]
    lone = records[0].subjects[0].model_copy(update={"mask": None})
    records[0] = records[0].model_copy(update={"subjects": (lone,)})
    write_manifest(records, tmp_path / "m.jsonl")
    table = Manifest(tmp_path / "m.jsonl").table
    assert (table.keys, table.subjects.tolist()) == (("a", "b"), [1, 3])
    assert (table.heldout.tolist(), table.masked.tolist()) == ([True, False], [False, True])


def test_wrong_lines_are_named(tmp_path: Path) -> None:
    good = make_sample("a")[0].model_dump_json()
    nameless = json.dumps({"image": "x.png", "caption": "x", "subjects": []})
    path = tmp_path / "m.jsonl"
    path.write_text(f"{good}\n\nnot json\n{good}\n{nameless}\n")
    with pytest.raises(ValueError) as caught:
        read_manifest(path)
    text = str(caught.value)
    assert "line 3: Invalid JSON" in text
    assert "line 4: the key 'a' is that of line 1 already" in text
    assert "line 5: key: Field required" in text


def test_what_is_no_manifest_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty.jsonl").write_text("\n")
    (tmp_path / "binary.jsonl").write_bytes(b"\xff\xfe\x00")
    (tmp_path / "wrong.parquet").write_bytes(b"PAR0")
    for name, words in (("empty.jsonl", "no samples"), ("binary.jsonl", "UTF-8"), ("m.csv", "ends in .jsonl or")):
        with pytest.raises(ValueError, match=words):
            read_manifest(tmp_path / name)
    pytest.importorskip("pyarrow")
    with pytest.raises(ValueError, match="not a readable Parquet file"):
        read_manifest(tmp_path / "wrong.parquet")
    record = make_sample("a")[0]
    with pytest.raises(ValueError, match="two samples have the key 'a'"):
        write_manifest([record, record], tmp_path / "m.jsonl")
    with pytest.raises(ValueError, match="neither shards"):
        open_source(tmp_path)
    with pytest.raises(ValueError, match="no manifest at"):
        open_source(tmp_path / "nothing.jsonl")


def test_a_null_in_parquet_is_a_field_left_out(tmp_path: Path) -> None:
    """Other programs' tables have a column for each optional field, and fill it with nulls."""
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    subjects = [{"name": None, "mask": None, "references": [{"image": "r.png", "mask": None}]}]
    row = {"key": "a", "image": "x.png", "caption": "x", "subjects": subjects, "source": None, "split": None}
    parquet.write_table(pyarrow.Table.from_pylist([row]), tmp_path / "m.parquet")
    (record,) = read_manifest(tmp_path / "m.parquet")
    assert (record.subjects[0].name, record.subjects[0].mask, record.source, record.split) == ("", None, "", "train")


def test_a_damaged_parquet_file_is_told(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    path = tmp_path / "m.parquet"
    write_manifest([make_sample("a")[0]], path)
    data = bytearray(path.read_bytes())
    data[-60:-30] = b"\xff" * 30
    path.write_bytes(data)
    with pytest.raises(ValueError, match=r"m\.parquet is not a readable Parquet file"):
        read_manifest(path)
    with pytest.raises(FileNotFoundError):
        read_manifest(tmp_path / "none.parquet")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes with names here")
def test_what_is_no_plain_file_is_not_read(tmp_path: Path) -> None:
    """A pipe or a device would never end."""
    record, files = make_sample("a")
    write_files(tmp_path, files)
    write_manifest([record], tmp_path / "manifest.jsonl")
    (tmp_path / record.image).unlink()
    os.mkfifo(tmp_path / record.image)
    with pytest.raises(BadSample, match=r"file a/target\.png is missing"):
        first_of(tmp_path)


def test_windows_line_ends_and_links_are_read(tmp_path: Path) -> None:
    record, files = make_sample("ä".encode().hex())
    write_files(tmp_path / "elsewhere", files)
    (tmp_path / record.key).symlink_to(tmp_path / "elsewhere" / record.key)
    (tmp_path / "manifest.jsonl").write_bytes(f"\ufeff{record.model_dump_json()}\r\n\r\n".encode())
    assert first_of(tmp_path).key == record.key
