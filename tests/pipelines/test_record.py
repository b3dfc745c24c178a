"""Records of pictures: round trip, hashes, differences."""

from __future__ import annotations

import hashlib
import json

import pytest

from anystory.pipelines.record import (
    FileRecord,
    LoraRecord,
    PhotoRecord,
    PictureRecord,
    SubjectRecord,
    check_files,
    differences,
    environment,
    keep_file,
    load_record,
    save_record,
    weight_hashes,
)

FILE = FileRecord(file="references/fox.png", sha256="ab", original="/somewhere/fox.png")


def record(**changes):
    values = {
        "prompt": "a fox, “quoted” and ü",
        "negative_prompt": None,
        "seed": 7,
        "steps": 25,
        "guidance": 7.5,
        "width": 64,
        "height": 64,
        "subjects": (
            SubjectRecord(image=FILE, name="fox", region=(0.0, 0.0, 0.5, 1.0)),
            SubjectRecord(image=FILE, mask=FILE, scale=0.1 + 0.2),
            SubjectRecord(
                image=FILE, more=(PhotoRecord(image=FILE, mask=FILE, cutout="mask"), PhotoRecord(image=FILE))
            ),
        ),
        "model": "mini",
        "adapter": None,
        "device": "cpu",
        "dtype": "float32",
        "weights": {"model/unet/x.safetensors": "cd"},
        "environment": {"torch": "2.13.0"},
        "picture": "0001.png",
        "picture_sha256": "ef",
    }
    return PictureRecord(**(values | changes))


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
        (lambda data: data.pop("seed"), "damaged: seed missing"),
        (lambda data: data.update(sede=7), "damaged: unknown entries sede"),
        (lambda data: data["subjects"][0].pop("image"), "damaged"),
        (lambda data: data["subjects"][0]["image"].update(colour=1), "unknown entries colour"),
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


def test_a_damaged_copy_is_made_anew(tmp_path):
    source = tmp_path / "fox.png"
    source.write_bytes(b"one")
    kept = keep_file(source, tmp_path / "references", tmp_path)
    (tmp_path / kept.file).write_bytes(b"rubbish")
    assert keep_file(source, tmp_path / "references", tmp_path) == kept
    assert (tmp_path / kept.file).read_bytes() == b"one"


def test_what_can_change_a_picture_is_hashed(tmp_path):
    (tmp_path / "unet").mkdir()
    for name in ("model_index.json", "unet/w.safetensors", "unet/config.json", "README.md"):
        (tmp_path / name).write_text(name)
    found = weight_hashes({"model": tmp_path, "adapter": tmp_path / "unet"})
    assert sorted(found) == [
        "adapter/config.json", "adapter/w.safetensors", "model/model_index.json", "model/unet/config.json",
        "model/unet/w.safetensors",
    ]  # fmt: skip
    assert found["adapter/w.safetensors"] == hashlib.sha256(b"unet/w.safetensors").hexdigest()


def test_a_single_file_is_hashed_under_its_part(tmp_path):
    path = tmp_path / "juggernaut.safetensors"
    path.write_bytes(b"weights")
    assert weight_hashes({"model": path}) == {"model.safetensors": hashlib.sha256(b"weights").hexdigest()}


def test_differences_are_told_both_ways():
    assert differences({"a": "1", "b": "2", "c": "3"}, {"a": "1", "b": "9", "d": "4"}) == [
        "b: 2 then, 9 now",
        "c: 3 then, absent now",
        "d: absent then, 4 now",
    ]


def test_the_environment_names_what_can_change_a_picture():
    found = environment("cpu")
    assert {"python", "platform", "processor", "instructions", "threads", "torch", "diffusers", "pillow"} <= set(found)
    assert all(isinstance(value, str) and value for value in found.values())
    assert "gpu" not in found
