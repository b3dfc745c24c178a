"""Records read and written."""

from __future__ import annotations

import json

import pytest

from anystory.engine.record.reading import load_record, save_record
from anystory.engine.record.schema import LoraRecord
from engine.record.records import FILE, record


def test_round_trip(tmp_path):
    loras = (LoraRecord(file="/somewhere/a.safetensors", scale=0.1 + 0.2), LoraRecord(file="/somewhere/b.safetensors"))
    run = {"loras": loras, "config": "c", "variant": "fp16", "karras": True, "offload": "model", "tiling": True}
    for number, made in enumerate((record(), record(image=FILE, mask=FILE, strength=0.7), record(**run))):
        save_record(made, tmp_path / f"{number}.json")
        assert load_record(tmp_path / f"{number}.json") == made
    assert len(record(image=FILE, mask=FILE).files) == 2 + 1 + 2 + 4


def test_records_without_the_newer_entries_are_read(tmp_path):
    save_record(record(subjects=()), tmp_path / "r.json")
    data = json.loads((tmp_path / "r.json").read_text(encoding="utf-8"))
    for name in ("image", "mask", "strength", "loras", "scheduler", "offload", "tiling"):
        del data[name]
    old = {"image": {"file": "f", "sha256": "a", "original": "o"}, "name": "fox"}
    (tmp_path / "old.json").write_text(json.dumps(data | {"subjects": [old]}), encoding="utf-8")
    read = load_record(tmp_path / "old.json")
    assert (read.image, read.strength, read.subjects[0].more) == (None, None, ())
    assert (read.loras, read.scheduler, read.offload, read.tiling) == ((), None, "none", False)


def test_a_record_is_not_overwritten(tmp_path):
    save_record(record(), tmp_path / "r.json")
    with pytest.raises(FileExistsError):
        save_record(record(seed=8), tmp_path / "r.json")
    assert load_record(tmp_path / "r.json").seed == 7


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda data: data.pop("seed"), r"is damaged \(seed: Field required\)"),
        (lambda data: data.update(sede=7), "sede: Unexpected keyword argument"),
        (lambda data: data["subjects"][0].pop("image"), "damaged"),
        (lambda data: data["subjects"][0]["image"].update(colour=1), "colour: Unexpected keyword argument"),
        (lambda data: data.update(format="other"), "not a record of this version"),
    ],
)
def test_damaged_records(tmp_path, change, message):
    path = tmp_path / "r.json"
    save_record(record(), path)
    data = json.loads(path.read_text(encoding="utf-8"))
    change(data)
    path.write_text(json.dumps(data))
    with pytest.raises(ValueError, match=message):
        load_record(path)
