"""`anystory adapter convert`: from the authors' file to a folder that draws."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor
from transformers import SiglipVisionConfig, SiglipVisionModel
from typer.testing import CliRunner

from anystory.cli import app
from anystory.models.flux.checkpoint import read_checkpoint, read_redux
from anystory.pipelines.flux.loading import load_flux_adapter

from ..models.flux.official_tiny import REDUX_DIM, build_checkpoint
from ..models.flux.test_official import adapter, below, transformer

Checkpoint = dict[str, dict[str, Tensor]]


def convert(*arguments: object) -> Any:
    return CliRunner().invoke(app, ["adapter", "convert", *map(str, arguments)])


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """The checkpoint of `official.safetensors`, in the authors' format."""
    parts = {part: below(f"checkpoint True {part} ") for part in ("ref", "redux", "router")}
    torch.save(parts, tmp_path / "anystory_flux.bin")
    return tmp_path / "anystory_flux.bin"


@pytest.fixture
def redux(tmp_path: Path) -> Path:
    """A folder in the layout of FLUX.1-Redux-dev."""
    folder = tmp_path / "redux"
    (folder / "image_embedder").mkdir(parents=True)
    layers = {k: v for k, v in below("checkpoint True redux ").items() if k.startswith(("redux_up.", "redux_down."))}
    save_file(layers, folder / "image_embedder" / "diffusion_pytorch_model.safetensors")
    widths: dict[str, Any] = {
        "hidden_size": REDUX_DIM,
        "intermediate_size": 8,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
    }
    siglip = SiglipVisionConfig(**widths, image_size=54, patch_size=2)
    SiglipVisionModel(siglip).save_pretrained(folder / "image_encoder")
    return folder


def test_the_folder_holds_what_the_file_held(file: Path, redux: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    result = convert(file, "--out", out, "--redux", redux, "--dtype", "float32")
    assert result.exit_code == 0, result.output
    assert "parameters in float32, from" in result.output
    assert sorted(path.name for path in out.iterdir()) == ["adapter", "feature_extractor", "image_encoder"]
    expected, found = adapter(True).state_dict(), load_flux_adapter(out).state_dict()
    assert found.keys() == expected.keys()
    assert all(torch.equal(value, expected[key]) for key, value in found.items())
    card = (out / "adapter" / "README.md").read_text(encoding="utf-8")
    assert "anystory_flux.bin" in card
    assert "Non-Commercial" in card
    assert (out / "adapter" / "SHA256SUMS.txt").is_file()


def test_half_precision_and_no_redux(file: Path, tmp_path: Path) -> None:
    result = convert(file, "--out", tmp_path / "out")
    assert result.exit_code == 0, result.output
    assert "SigLIP is not in there" in result.output
    loaded = load_flux_adapter(tmp_path / "out", dtype=torch.bfloat16)
    for key, value in adapter(True).state_dict().items():
        assert torch.equal(loaded.state_dict()[key], value.bfloat16())


def test_additions_alone(redux: Path, tmp_path: Path) -> None:
    checkpoint = build_checkpoint(transformer(), lora_bias=False)
    for part, prefix in (("redux", ""), ("router", "router_embedder.")):
        for key in read_redux(redux):
            del checkpoint[part][prefix + key]
    torch.save(checkpoint, tmp_path / "bare.bin")
    refused = convert(tmp_path / "bare.bin", "--out", tmp_path / "out")
    assert refused.exit_code == 2
    assert "give the folder of FLUX.1-Redux" in " ".join(refused.output.split())
    assert not (tmp_path / "out").exists()
    assert convert(tmp_path / "bare.bin", "--out", tmp_path / "out", "--redux", redux).exit_code == 0


def test_inert_tensors_are_said(file: Path, tmp_path: Path) -> None:
    checkpoint = read_checkpoint(file)
    torch.save(
        {**checkpoint, "ref": checkpoint["ref"] | {"transformer.proj_out.lora_A.weight": torch.ones(1, 1)}}, file
    )
    result = convert(file, "--out", tmp_path / "out")
    assert "1 tensors have no effect" in result.output
    assert "ref: transformer.proj_out.lora_A.weight" in result.output


class Evil:
    """What a pickle may do and a reader of tensors must not."""

    def __reduce__(self) -> Any:
        return Path.touch, (Path("touched"),)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ({"ref": {}, "redux": {}}, "has no router"),
        ([1, 2], "has no ref, redux, router"),
        ({"ref": {"a": 3}, "redux": {}, "router": {}}, "holds 'a', which is no tensor"),
        ({"ref": Evil()}, "holds more than tensors"),
        (None, "was not read"),
    ],
)
def test_other_files_are_refused(content: Any, told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    if content is None:
        Path("file.bin").write_bytes(b"\x80not a checkpoint")
    else:
        torch.save(content, "file.bin")
    result = convert("file.bin", "--out", "out")
    assert result.exit_code == 2
    said = " ".join(result.output.split())
    assert told in said
    assert "weights_only" not in said  # torch's advice to switch the protection off
    assert not Path("out").exists()
    assert not Path("touched").exists()


def test_bad_paths(file: Path, tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "note.txt").write_text("mine")
    for arguments, told in (
        ((tmp_path / "none.bin", "--out", tmp_path / "out"), "No such file"),
        ((file, "--out", tmp_path / "full"), "is not empty"),
        ((file, "--out", tmp_path / "out", "--dtype", "int3"), "dtype"),
        ((file, "--out", tmp_path / "out", "--redux", tmp_path / "full"), "expected the folder of FLUX.1-Redux"),
    ):
        result = convert(*arguments)
        assert result.exit_code == 2
        assert told in " ".join(result.output.split())
    assert [path.name for path in (tmp_path / "full").iterdir()] == ["note.txt"]
