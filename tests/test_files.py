"""Files appear whole or not at all."""

from __future__ import annotations

import errno
import os
import subprocess
import sys

import pytest
import torch
from safetensors.torch import save_file

from anystory.files import atomic_folder, atomic_write, move_together, only_writer


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


# --- what may be in the way ---


@pytest.mark.parametrize("write", [lambda path: atomic_write(path, overwrite=False), atomic_write, atomic_folder])
@pytest.mark.parametrize(
    ("parent", "said"), [("file", "is a file, not a folder"), ("link", "is a link to nothing, not a folder")]
)
def test_a_file_or_a_dead_link_in_a_folders_place_is_named(tmp_path, write, parent, said):
    (tmp_path / "file").write_text("mine")
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    with pytest.raises(NotADirectoryError, match=said) as raised, write(tmp_path / parent / "more" / "a.txt"):
        pytest.fail("the block must not run")
    assert raised.value.filename == str(tmp_path / parent)
    assert sorted(os.listdir(tmp_path)) == ["file", "link"]
    assert (tmp_path / "file").read_text() == "mine"


def test_a_dead_link_is_not_overwritten(tmp_path):
    (tmp_path / "a.txt").symlink_to(tmp_path / "nowhere")
    with pytest.raises(FileExistsError), atomic_write(tmp_path / "a.txt", overwrite=False):
        pytest.fail("the block must not run")
    assert os.readlink(tmp_path / "a.txt") == str(tmp_path / "nowhere")


@pytest.mark.parametrize("write", [lambda path: atomic_write(path, overwrite=False), atomic_write])
def test_a_folder_a_pipe_or_a_device_stays_what_it_is(tmp_path, write):
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "device").symlink_to("/dev/null")
    for name in ("folder", "pipe", "device"):
        with pytest.raises(OSError, match=r"is a folder|is a device or a pipe|exists already"), write(tmp_path / name):
            pytest.fail("the block must not run")
    assert sorted(os.listdir(tmp_path)) == ["device", "folder", "pipe"]
    assert (tmp_path / "pipe").is_fifo()
    assert (tmp_path / "device").is_char_device()


def test_a_file_in_a_folders_place_stays(tmp_path):
    (tmp_path / "model").write_text("mine")
    with pytest.raises(NotADirectoryError, match="is a file"), atomic_folder(tmp_path / "model"):
        pytest.fail("the block must not run")
    assert (tmp_path / "model").read_text() == "mine"


def test_a_link_to_a_folder_stays_a_link(tmp_path):
    (tmp_path / "disk").mkdir()
    (tmp_path / "model").symlink_to(tmp_path / "disk")
    with atomic_folder(tmp_path / "model") as fresh:
        (fresh / "a.txt").write_text("new")
    assert (tmp_path / "model").is_symlink()
    assert (tmp_path / "disk" / "a.txt").read_text() == "new"
    assert sorted(os.listdir(tmp_path)) == ["disk", "model"]


@pytest.mark.parametrize("write", [atomic_write, atomic_folder, only_writer])
def test_folders_that_were_made_for_what_failed_go_again(tmp_path, write):
    with pytest.raises(RuntimeError, match="stop"), write(tmp_path / "a" / "b" / "c"):
        raise RuntimeError("stop")
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("name", ["a" * 251 + ".txt", "ä" * 125 + ".txt", "a" * 255, "." + "a" * 254, "a." + "b" * 253])
def test_names_of_any_length(tmp_path, name):
    with atomic_write(tmp_path / name) as temporary:
        temporary.write_text("whole")
    with atomic_folder(tmp_path / f"{name[:-1]}x") as fresh:
        (fresh / "a.txt").write_text("whole")
    assert sorted(os.listdir(tmp_path)) == sorted([name, f"{name[:-1]}x"])


# --- a full disk, and a limit on the size of files ---

LIMITED = """
import resource, sys
from pathlib import Path
import torch
from safetensors.torch import save_file
from anystory.files import atomic_folder, atomic_write, move_together, only_writer
resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))
way, path = sys.argv[1], Path(sys.argv[2])
try:
    if way == "text":
        with atomic_write(path) as temporary: temporary.write_text("a" * 100_000)
    elif way == "tensors":
        with atomic_write(path) as temporary: save_file({"a": torch.zeros(100_000)}, temporary)
    else:
        with atomic_folder(path) as fresh: save_file({"a": torch.zeros(100_000)}, fresh / "a.safetensors")
except OSError as error:
    print(error.errno, error.filename, end="")
"""


def test_a_file_that_cannot_be_finished_is_named_and_nothing_is_left(tmp_path):
    for way in ("text", "tensors", "folder"):
        target = tmp_path / "made" / "target"
        said = subprocess.run(
            [sys.executable, "-c", LIMITED, way, str(target)], capture_output=True, text=True, check=True
        )
        assert said.stdout == f"{errno.EFBIG} {target}", way
        assert os.listdir(tmp_path) == []


# --- two programs ---


def test_one_program_at_a_time_writes_into_a_folder(tmp_path):
    with only_writer(tmp_path / "run"):
        code = "import sys; from pathlib import Path; from anystory.files import only_writer\n"
        code += "with only_writer(Path(sys.argv[1])): print('in')"
        other = subprocess.run([sys.executable, "-c", code, str(tmp_path / "run")], capture_output=True, text=True)
        assert "another program is writing into" in other.stderr
        assert "in" not in other.stdout
        with only_writer(tmp_path / "run", "other"):
            pass
    with only_writer(tmp_path / "run"):
        pass
    assert os.listdir(tmp_path / "run") == []


def test_who_waits_writes_next(tmp_path):
    code = "import sys; from pathlib import Path; from anystory.files import only_writer\n"
    code += "with only_writer(Path(sys.argv[1]), wait=60): Path(sys.argv[1], 'a.txt').write_text('theirs')"
    with only_writer(tmp_path, wait=0.1):
        other = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)])
        with pytest.raises(ValueError, match="another program is writing into"), only_writer(tmp_path, wait=0.2):
            pytest.fail("one writer at a time")
        (tmp_path / "a.txt").write_text("mine")
        with pytest.raises(subprocess.TimeoutExpired):
            other.wait(timeout=0.3)
        assert (tmp_path / "a.txt").read_text() == "mine"
    assert other.wait(timeout=60) == 0
    assert (tmp_path / "a.txt").read_text() == "theirs"
    assert sorted(os.listdir(tmp_path)) == [".lock", "a.txt"], "somebody else may wait for the lock"


def test_files_get_their_names_together_or_not_at_all(tmp_path):
    for name in "abc":
        (tmp_path / name).write_text(name)
    (tmp_path / "3").write_text("mine")
    pairs = [(tmp_path / name, tmp_path / target) for name, target in zip("abc", "123", strict=True)]
    with pytest.raises(FileExistsError, match="3"):
        move_together(pairs)
    assert not (tmp_path / "1").exists()
    assert not (tmp_path / "2").exists()
    assert (tmp_path / "3").read_text() == "mine"
    (tmp_path / "3").unlink()
    move_together(pairs)
    assert [(tmp_path / name).read_text() for name in "123"] == ["a", "b", "c"]
