"""Hashes, versions and the machine."""

from __future__ import annotations

import hashlib

from anystory.engine.record.provenance import differences, environment, weight_hashes


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
