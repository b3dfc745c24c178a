"""Adapters as folders: what is written, what stays, and what a half-written one would be."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
from pathlib import Path

import pytest
import torch

from anystory.models import SubjectAdapter
from anystory.models.saved.checksums import SUMS, read_sums
from models.tiny import make_adapter, make_unet

WEIGHTS = "diffusion_pytorch_model.safetensors"


def names(folder: Path) -> set[str]:
    return {file.name for file in folder.iterdir()}


def test_a_folder_has_weights_configuration_card_and_checksums(adapter, tmp_path):
    folder = tmp_path / "adapter"
    adapter.save_pretrained(folder, origin="Drawn by chance, for a test.")
    assert names(folder) == {WEIGHTS, "config.json", "README.md", SUMS}
    assert names(tmp_path) == {"adapter"}
    sums = read_sums(folder)
    assert sums.keys() == {WEIGHTS, "config.json"}
    assert sums[WEIGHTS] == hashlib.sha256((folder / WEIGHTS).read_bytes()).hexdigest()
    card = (folder / "README.md").read_text()
    assert card.startswith("---\nlibrary_name: anystory\n")
    assert "Drawn by chance, for a test." in card
    total = sum(p.numel() for p in adapter.parameters())
    assert f"| all | {total:,} |" in card
    assert "11 attention layers (text width 20)" in card


@pytest.mark.skipif(shutil.which("sha256sum") is None, reason="needs sha256sum")
def test_the_checksums_are_what_sha256sum_reads(adapter, tmp_path):
    adapter.save_pretrained(tmp_path / "adapter", max_shard_size="200KB")
    subprocess.run(["sha256sum", "--check", "--strict", SUMS], cwd=tmp_path / "adapter", check=True)


def test_saving_again_replaces_weights_and_keeps_everything_else(adapter, tmp_path):
    adapter.save_pretrained(tmp_path, max_shard_size="200KB")
    assert len(list(tmp_path.glob("*.safetensors"))) > 1
    (tmp_path / "README.md").write_text("written by hand")
    (tmp_path / "notes").mkdir()
    other = make_adapter(make_unet(torch.float16))
    other.save_pretrained(tmp_path)
    assert names(tmp_path) == {WEIGHTS, "config.json", "README.md", SUMS, "notes"}
    assert (tmp_path / "README.md").read_text() == "written by hand"
    assert read_sums(tmp_path).keys() == {WEIGHTS, "config.json"}
    loaded = SubjectAdapter.from_pretrained(tmp_path, torch_dtype=torch.float16)
    assert all(torch.equal(value, other.state_dict()[name]) for name, value in loaded.state_dict().items())


@pytest.mark.parametrize("shard", ["10GB", "200KB"])
def test_variants_lie_side_by_side(adapter, tmp_path, shard):
    half = make_adapter(make_unet(torch.float16))
    adapter.save_pretrained(tmp_path)
    half.save_pretrained(tmp_path, variant="fp16", max_shard_size="200KB")
    half.save_pretrained(tmp_path, variant="fp16", max_shard_size=shard)
    assert read_sums(tmp_path).keys() == names(tmp_path) - {"README.md", SUMS}
    assert SubjectAdapter.from_pretrained(tmp_path).dtype == torch.float32
    loaded = SubjectAdapter.from_pretrained(tmp_path, variant="fp16", torch_dtype=torch.float16)
    assert all(torch.equal(value, half.state_dict()[name]) for name, value in loaded.state_dict().items())


@pytest.mark.parametrize("exists", [False, True])
def test_a_failure_leaves_what_was_there(adapter, tmp_path, monkeypatch, exists):
    folder = tmp_path / "adapter"
    if exists:
        adapter.save_pretrained(folder)
    before = {file.name: file.read_bytes() for file in folder.iterdir()} if exists else None
    with torch.no_grad():
        next(adapter.parameters()).add_(1)

    def fail(*arguments, **options):
        raise RuntimeError("the disk is full")

    monkeypatch.setattr("anystory.models.saved.saving.write_sums", fail)
    with pytest.raises(RuntimeError, match="disk is full"):
        adapter.save_pretrained(folder)
    assert names(tmp_path) == ({"adapter"} if exists else set())
    if before is not None:
        assert {file.name: file.read_bytes() for file in folder.iterdir()} == before


@pytest.mark.parametrize("option", ["safe_serialization", "push_to_hub"])
def test_pickles_and_uploads_are_refused(adapter, tmp_path, option):
    with pytest.raises(ValueError, match=f"`{option}` must be"):
        adapter.save_pretrained(tmp_path / "adapter", **{option: option == "push_to_hub"})
    assert not (tmp_path / "adapter").exists()


def test_a_file_is_no_folder(adapter, tmp_path):
    (tmp_path / "adapter").write_text("")
    with pytest.raises(ValueError, match="expected a folder, but that is a file"):
        adapter.save_pretrained(tmp_path / "adapter")


def test_bad_checksums_name_the_line(tmp_path):
    (tmp_path / SUMS).write_text("abc  file\n")
    with pytest.raises(ValueError, match="line 1: expected a SHA-256"):
        read_sums(tmp_path)


@pytest.mark.parametrize("thing", ["linear", "flux"])
def test_what_is_no_unet_is_refused_with_a_sentence(adapter, thing):
    if thing == "linear":
        other = torch.nn.Linear(1, 1)
    else:
        from diffusers import FluxTransformer2DModel

        other = FluxTransformer2DModel(
            num_layers=1, num_single_layers=1, attention_head_dim=16, num_attention_heads=2, joint_attention_dim=8,
            pooled_projection_dim=8, axes_dims_rope=(4, 4, 8),
        )  # fmt: skip
    message = f"does not fit this {type(other).__name__}: it was made for a U-Net with 11 attention layers"
    with pytest.raises(ValueError, match=message):
        adapter.check_fits(other)


def test_stable_diffusion_1_is_refused_by_name(adapter):
    """16 attention layers that read text of width 768."""
    unet = make_unet(
        cross_attention_dim=768,
        block_out_channels=(8, 8, 8, 8),
        attention_head_dim=2,
        layers_per_block=2,
        transformer_layers_per_block=1,
        down_block_types=("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",),
        up_block_types=("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3,
        addition_embed_type=None,
    )
    with pytest.raises(ValueError, match=r"the U-Net has 16 attention layers \(text width 768: Stable Diffusion 1\.x"):
        adapter.check_fits(unet)
