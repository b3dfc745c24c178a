"""Files appear whole or not at all."""

from __future__ import annotations

import os

import pytest
import torch
from safetensors.torch import save_file

from anystory.files import atomic_folder, atomic_write


def test_the_file_appears_only_when_the_block_ends(tmp_path):
    target = tmp_path / "new" / "a.txt"
    with atomic_write(target) as temporary:
        temporary.write_text("whole")
        assert temporary.suffix == ".txt"
        assert temporary.parent == target.parent
        assert not target.exists()
    assert target.read_text() == "whole"
    assert os.listdir(target.parent) == ["a.txt"]


def test_an_error_leaves_the_old_file_and_no_litter(tmp_path):
    target = tmp_path / "a.txt"
    target.write_text("old")
    with pytest.raises(RuntimeError, match="stop"), atomic_write(target) as temporary:
        temporary.write_text("half")
        raise RuntimeError("stop")
    assert target.read_text() == "old"
    assert os.listdir(tmp_path) == ["a.txt"]


def test_an_existing_file_is_not_overwritten(tmp_path):
    target = tmp_path / "a.txt"
    target.write_text("old")
    with pytest.raises(FileExistsError, match="a.txt"), atomic_write(target, overwrite=False):
        pytest.fail("the block must not run")


def test_a_file_that_appears_meanwhile_is_not_overwritten(tmp_path):
    target = tmp_path / "a.txt"
    with pytest.raises(FileExistsError, match="a.txt"), atomic_write(target, overwrite=False) as temporary:
        temporary.write_text("mine")
        target.write_text("theirs")
    assert target.read_text() == "theirs"
    assert os.listdir(tmp_path) == ["a.txt"]


def test_files_get_the_permissions_of_ordinary_files(tmp_path):
    ordinary, written = tmp_path / "ordinary", tmp_path / "written"
    ordinary.write_text("")
    with atomic_write(written) as temporary:
        temporary.write_text("")
    assert written.stat().st_mode == ordinary.stat().st_mode


def test_savers_that_hide_their_files_do_not_decide_who_may_read(tmp_path):
    """safetensors makes files that only their owner may read; on a shared disk others train on them too."""
    ordinary = tmp_path / "ordinary"
    ordinary.write_text("")
    with atomic_write(tmp_path / "a.safetensors") as temporary:
        save_file({"x": torch.zeros(1)}, temporary)
    with atomic_folder(tmp_path / "folder") as fresh:
        (fresh / "deep").mkdir()
        save_file({"x": torch.zeros(1)}, fresh / "deep" / "a.safetensors")
    for written in (tmp_path / "a.safetensors", tmp_path / "folder" / "deep" / "a.safetensors"):
        assert written.stat().st_mode == ordinary.stat().st_mode
