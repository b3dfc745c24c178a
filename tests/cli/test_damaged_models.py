"""Damaged models: one line that names the file, from every verb that reads it; nothing is written."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

from anystory.cli import app
from cli.refusals import DAMAGE, refused, spoil

CONFIGS = ["model_index.json", "unet/config.json", "adapter/config.json", "scheduler/scheduler_config.json",
           "text_encoder_2/config.json", "tokenizer_2/tokenizer.json", "vae/config.json"]  # fmt: skip
INDEX = "diffusion_pytorch_model.safetensors.index.json"


@pytest.fixture
def broken(model: Path, tmp_path: Path) -> Path:
    """A model's folder, its adapter in several files, to be spoilt."""
    return shutil.copytree(model, tmp_path / "model")


def draw(model: Path, *more: object) -> list[object]:
    return ["generate", "f", "--model", model, "--out", model.parent / "out", "--threads", 1, "--steps", 1, *more]


@pytest.mark.parametrize("kind", DAMAGE)
@pytest.mark.parametrize("name", CONFIGS)
def test_a_damaged_configuration_is_named(broken, tmp_path, name, kind):
    spoil(broken / name, kind)
    if kind in ("missing entries", "other entries") and name in (
        "scheduler/scheduler_config.json",
        "unet/config.json",
        "vae/config.json",
        "text_encoder_2/config.json",
    ):
        # Another model is described then, whole in itself; the weights do not fit it, where it has any.
        if not name.startswith("scheduler"):
            refused(tmp_path, *draw(broken))
        return
    said = refused(tmp_path, *draw(broken))
    assert str(broken) in said
    if kind not in ("missing entries", "other entries"):
        assert str(broken / name) in said


WEIGHTS = {
    "empty": lambda path: path.write_bytes(b""),
    "cut": lambda path: path.write_bytes(path.read_bytes()[:-100]),
    "text": lambda path: path.write_text("<html>not found</html>"),
    "pointer": lambda path: path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n"),
    "huge header": lambda path: path.write_bytes((1 << 62).to_bytes(8, "little") + b"{}"),
    "pipe": lambda path: spoil(path, "pipe"),
    "endless": lambda path: spoil(path, "endless"),
}


@pytest.mark.parametrize("kind", WEIGHTS)
@pytest.mark.parametrize("part", ["unet", "adapter", "text_encoder_2"])
def test_damaged_weights_are_named(broken, tmp_path, part, kind):
    path = next((broken / part).glob("*.safetensors"))
    WEIGHTS[kind](path)
    assert str(path) in refused(tmp_path, *draw(broken))
    for verb in ("verify", "info"):
        result = CliRunner().invoke(app, ["models", verb, str(broken)])
        assert result.exit_code in (1, 2), result.output
        assert path.name in result.output
        assert "Traceback" not in result.output


@pytest.mark.parametrize("kind", DAMAGE)
def test_a_damaged_index_of_an_adapter_is_named(model, tmp_path, kind):
    from anystory.models import SubjectAdapter

    SubjectAdapter.from_pretrained(model / "adapter").save_pretrained(tmp_path / "adapter", max_shard_size="300KB")
    spoil(tmp_path / "adapter" / INDEX, kind)
    command = ["generate", "f", "--model", model, "--adapter", tmp_path / "adapter", "--out", tmp_path / "out"]
    assert str(tmp_path / "adapter" / INDEX) in refused(tmp_path, *command)
    result = CliRunner().invoke(app, ["models", "verify", str(tmp_path / "adapter")])
    assert result.exit_code == (2 if kind in ("pipe", "endless") else 1), result.output
    assert INDEX in result.output


def test_a_shard_outside_its_folder_is_not_read(model, tmp_path):
    from anystory.models import SubjectAdapter

    SubjectAdapter.from_pretrained(model / "adapter").save_pretrained(tmp_path / "adapter", max_shard_size="300KB")
    index = json.loads((tmp_path / "adapter" / INDEX).read_text())
    name = next(iter(index["weight_map"].values()))
    shutil.move(tmp_path / "adapter" / name, tmp_path / name)
    index["weight_map"] = {key: f"../{name}" if file == name else file for key, file in index["weight_map"].items()}
    (tmp_path / "adapter" / INDEX).write_text(json.dumps(index))
    command = ["generate", "f", "--model", model, "--adapter", tmp_path / "adapter", "--out", tmp_path / "out"]
    assert str(tmp_path / "adapter" / INDEX) in refused(tmp_path, *command)


@pytest.mark.parametrize("kind", [*WEIGHTS, "no lora", "folder", "missing"])
def test_a_damaged_lora_is_named(model, tmp_path, kind):
    path = tmp_path / "style.safetensors"
    save_file({"a.lora_A.weight": torch.zeros(4, 4)}, path)
    if kind in WEIGHTS:
        WEIGHTS[kind](path)
    elif kind != "no lora":
        path.unlink()
        if kind == "folder":
            path.mkdir()
    command = ["generate", "f", "--model", model, "--lora", path, "--out", tmp_path / "out", "--steps", 1]
    assert str(path) in refused(tmp_path, *command)


def test_a_variant_that_is_not_there(model, tmp_path):
    said = refused(tmp_path, *draw(shutil.copytree(model, tmp_path / "model"), "--variant", "fp8"))
    assert "fp8" in said
    assert "its variants are: none" in said


# --- numbers of 8 bits ---

EIGHT_BITS = ("float8_e4m3fn", "float8_e5m2", "float8_e4m3fnuz", "float8_e8m0fnu")


@pytest.mark.parametrize("kind", EIGHT_BITS)
def test_files_with_numbers_of_8_bits_are_described_and_verified(files, tmp_path, kind):
    dtype, path = getattr(torch, kind), tmp_path / "sdxl.safetensors"
    plain = load_file(files.single)
    weights = {key: value.to(dtype) if value.ndim == 2 else value for key, value in plain.items()}
    save_file(weights, path)
    info = json.loads(CliRunner().invoke(app, ["models", "info", str(path), "--json"]).stdout)
    assert info["parameters"] == sum(value.numel() for value in plain.values())
    assert info["bytes"] == sum(value.nbytes for value in weights.values())
    unet = next(part for part in info["parts"] if part["name"] == "unet")
    assert unet["dtypes"].startswith("F8_")
    result = CliRunner().invoke(app, ["models", "verify", str(path)])
    assert result.exit_code == 0, result.output
    key = next(key for key, value in weights.items() if value.dtype == dtype)
    bits = weights[key].view(torch.uint8)
    bits[0, 0] = 0x80 if kind.endswith("fnuz") else 0xFF
    save_file(weights, path)
    result = CliRunner().invoke(app, ["models", "verify", str(path)])
    assert result.exit_code == 1, result.output
    assert f"{key} has 1 of {plain[key].numel()} values that are NaN or infinite" in result.stdout
