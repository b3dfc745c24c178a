"""Picture, sheet and record: all on disk, or none."""

from __future__ import annotations

import subprocess
import sys

import pytest
from PIL import Image

from anystory.engine.record.reading import load_record
from anystory.engine.saving import free_number, save_drawn
from cli.refusals import tree
from engine.record.records import record

FULL = """
import resource, sys
from pathlib import Path
from PIL import Image
from anystory.engine.saving import save_drawn
from anystory.engine.record.schema import PictureRecord
record = PictureRecord(prompt="a" * 100_000, negative_prompt=None, seed=0, steps=1, guidance=1.0, width=8, height=8,
    subjects=(), model="mini", adapter=None, device="cpu", dtype="float32", weights={}, environment={})
resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))
try:
    save_drawn(Path(sys.argv[1]), Image.new("RGB", (8, 8)), Image.new("RGB", (8, 8)), record)
except OSError as error:
    print(error.strerror)
"""


@pytest.mark.parametrize("there", [True, False])
def test_a_picture_without_room_for_its_record_is_not_written(tmp_path, there):
    if there:
        (tmp_path / "out").mkdir()
    before = tree(tmp_path)
    command = [sys.executable, "-c", FULL, str(tmp_path / "out")]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert "File too large" in said
    assert tree(tmp_path) == before


def test_numbers_go_past_the_highest_that_is_taken(tmp_path):
    assert free_number(tmp_path / "nowhere") == 1
    for name in ("0007-notes.txt", "0003.png", "12abc.png", "x99.png"):
        (tmp_path / name).touch()
    assert free_number(tmp_path) == 8


def test_a_number_that_another_program_takes_meanwhile_is_passed_over(tmp_path, monkeypatch):
    """The folder is looked at, then another program writes a picture, then this one gives its files their names."""
    monkeypatch.setattr("anystory.engine.saving.free_number", lambda out: 1)
    (tmp_path / "0001.png").write_bytes(b"theirs")
    files, written = save_drawn(tmp_path, Image.new("RGB", (8, 8)), Image.new("RGB", (8, 8)), record())
    assert (tmp_path / "0001.png").read_bytes() == b"theirs"
    assert [path.name for path in sorted(tmp_path.iterdir())] == [
        "0001.png",
        "0002-routing.png",
        "0002.json",
        "0002.png",
    ]
    assert load_record(files.record) == written
    assert (written.picture, written.routing_sheet) == ("0002.png", "0002-routing.png")
