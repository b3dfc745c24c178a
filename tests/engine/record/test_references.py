"""Files that went into a picture, copied beside it."""

from __future__ import annotations

import hashlib

import pytest

from anystory.engine.record.references import check_files, keep_file


def test_files_are_kept_once_per_content(tmp_path):
    a, b = tmp_path / "a" / "fox.png", tmp_path / "b" / "fox.png"
    for path, content in ((a, b"one"), (b, b"two")):
        path.parent.mkdir()
        path.write_bytes(content)
    out = tmp_path / "out"
    kept = [keep_file(path, out / "references", out) for path in (a, b, a)]
    assert kept[0] == kept[2]
    assert len(list((out / "references").iterdir())) == 2
    assert kept[1].sha256 == hashlib.sha256(b"two").hexdigest()
    assert (out / kept[1].file).read_bytes() == b"two"
    assert kept[1].original == str(b)
    assert check_files(kept, out) == []
    (out / kept[1].file).write_bytes(b"new")
    assert [line.split(":")[0] for line in check_files(kept, out)] == [kept[1].file]
    (out / kept[0].file).unlink()
    with pytest.raises(ValueError, match="is missing"):
        check_files(kept, out)


def test_another_file_in_a_copys_place_stays_and_the_copy_gets_another_name(tmp_path):
    source = tmp_path / "fox.png"
    source.write_bytes(b"one")
    kept = keep_file(source, tmp_path / "references", tmp_path)
    (tmp_path / kept.file).write_bytes(b"rubbish")
    again = keep_file(source, tmp_path / "references", tmp_path)
    assert again.file != kept.file
    assert (tmp_path / kept.file).read_bytes() == b"rubbish"
    assert (tmp_path / again.file).read_bytes() == b"one"
    assert keep_file(source, tmp_path / "references", tmp_path) == again


def test_a_copy_of_a_copy_keeps_its_name(tmp_path):
    source = tmp_path / "fox.png"
    source.write_bytes(b"one")
    first = keep_file(source, tmp_path / "a" / "references", tmp_path / "a")
    second = keep_file(tmp_path / "a" / first.file, tmp_path / "b" / "references", tmp_path / "b")
    assert (second.file, second.sha256) == (first.file, first.sha256)
    (tmp_path / "b" / first.file).write_bytes(b"two")  # in its way: the copy takes more of the hash, once
    third = keep_file(tmp_path / "a" / first.file, tmp_path / "b" / "references", tmp_path / "b")
    assert third.file == f"references/fox-{first.sha256[:16]}.png"
    again = keep_file(tmp_path / "b" / third.file, tmp_path / "c" / "references", tmp_path / "c")
    assert again.file == first.file
