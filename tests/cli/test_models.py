"""`anystory models`: list, info, verify, on embedded models, folders, single files and the hub's cache."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

from anystory import cli
from anystory.files import sha256_file
from anystory.models import SubjectAdapter
from anystory.models.saved.checksums import SUMS, read_sums, write_all_sums
from anystory.pipelines.flux.loading import load_flux_adapter
from cli.flux_files import set_entries
from cli.sdxl_files import SdxlFiles, write_sdxl_files
from pipelines.helpers import pipeline

WEIGHTS = "diffusion_pytorch_model.safetensors"


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> SdxlFiles:
    return write_sdxl_files(tmp_path_factory.mktemp("files"))


@pytest.fixture
def adapter(tmp_path) -> Path:
    made = pipeline("mini").adapter
    assert made is not None
    made.save_pretrained(tmp_path / "adapter", max_shard_size="300KB")
    return tmp_path / "adapter"


@pytest.fixture
def cache(tmp_path, monkeypatch) -> Path:
    """An empty hub cache."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def put_into_cache(cache: Path, repository: str, folder: Path) -> Path:
    """A folder as a downloaded repository: files under their hashes, and links to them."""
    root, commit = cache / f"models--{repository.replace('/', '--')}", "0" * 40
    (root / "refs").mkdir(parents=True)
    (root / "refs" / "main").write_text(commit)
    (root / "blobs").mkdir()
    for file in (path for path in folder.rglob("*") if path.is_file()):
        blob = root / "blobs" / sha256_file(file)
        shutil.copy(file, blob)
        link = root / "snapshots" / commit / file.relative_to(folder)
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(blob)
    return root / "snapshots" / commit


def models(*arguments: object):
    return CliRunner().invoke(cli.app, ["models", *map(str, arguments)])


def problems(source: object) -> list[str]:
    result = models("verify", source, "--json")
    found = json.loads(result.stdout)
    assert result.exit_code == (1 if found["problems"] else 0)
    assert found["whole"] is not bool(found["problems"])
    return found["problems"]


# --- list ---


def test_embedded_and_cached_models_are_listed(cache, files, adapter, tmp_path):
    put_into_cache(cache, "some/sdxl", files.base)
    put_into_cache(cache, "some/adapter", adapter)
    (tmp_path / "public" / "sdxl_models").mkdir(parents=True)
    shutil.copy(files.ip_adapter, tmp_path / "public" / "sdxl_models")
    shutil.copytree(files.image_encoder, tmp_path / "public" / "models" / "image_encoder")
    put_into_cache(cache, "h94/IP-Adapter", tmp_path / "public")
    put_into_cache(cache, "some/text-model", files.base / "tokenizer")
    rows = {row["name"]: row for row in json.loads(models("list", "--json").stdout)}
    assert {name: (row["where"], row["kind"]) for name, row in rows.items()} == {
        "mini": ("embedded", "an AnyStory pipeline"),
        "h94/IP-Adapter/sdxl_models/ip-adapter-plus_sdxl_vit-h.safetensors": ("cached", "IP-Adapter-Plus"),
        "some/adapter": ("cached", "AnyStory adapter"),
        "some/sdxl": ("cached", "SDXL"),
    }
    assert rows["some/sdxl"]["fits"] == "adapters for U-Nets with 8 attention layers (text width 80)"
    text = models("list").stdout
    assert all(name in text for name in rows)
    info = json.loads(
        models("info", "h94/IP-Adapter/sdxl_models/ip-adapter-plus_sdxl_vit-h.safetensors", "--json").stdout
    )
    assert info["kind"] == "IP-Adapter-Plus"


def test_every_file_is_held_against_the_list_of_a_whole_model(model, tmp_path):
    folder = shutil.copytree(model, tmp_path / "model")
    write_all_sums(folder)
    assert problems(folder) == []
    files = json.loads(models("verify", folder, "--json").stdout)["files"]
    assert all(file["compared_with"] == SUMS for file in files)
    assert {file["file"] for file in files} == read_sums(folder).keys()
    (folder / "tokenizer_2" / "tokenizer.json").write_text("{}")
    (folder / "scheduler" / "scheduler_config.json").unlink()
    shutil.copy(folder / "vae" / WEIGHTS, folder / "vae" / "diffusion_pytorch_model-00001-of-00001.safetensors")
    found = "; ".join(problems(folder))
    assert "tokenizer_2/tokenizer.json: its SHA-256 is" in found
    assert "scheduler/scheduler_config.json: listed in SHA256SUMS.txt, but not there" in found
    assert "vae/diffusion_pytorch_model-00001-of-00001.safetensors: not listed in SHA256SUMS.txt" in found


@pytest.mark.parametrize("line", ["no hash", f"{'0' * 64}  /etc/passwd", f"{'0' * 64}  ../outside"])
def test_a_list_of_hashes_that_cannot_be_read_is_said(model, tmp_path, line):
    folder = shutil.copytree(model, tmp_path / "model")
    (folder / SUMS).write_text(line + "\n")
    assert any("line 1: expected a SHA-256 and a file name" in problem for problem in problems(folder))


def test_a_broken_cached_model_does_not_hide_the_others(cache, files):
    snapshot = put_into_cache(cache, "some/sdxl", files.base)
    (snapshot / "unet" / WEIGHTS).resolve().write_bytes(b"cut")
    rows = {row["name"]: row for row in json.loads(models("list", "--json").stdout)}
    assert rows["some/sdxl"]["kind"] == "unreadable"
    assert "cannot be read as safetensors" in rows["some/sdxl"]["fits"]


def test_an_empty_cache_is_said(cache):
    assert "cache holds no base model" in models("list").stdout


# --- info ---


def test_a_whole_pipeline_is_described(model):
    info = json.loads(models("info", model, "--json").stdout)
    parts = pipeline("mini").components
    assert {part["name"]: part["parameters"] for part in info["parts"]} == {
        name: sum(value.numel() for value in part.state_dict().values())
        for name, part in parts.items()
        if isinstance(part, torch.nn.Module)
    }
    assert info["fits"] == "whole: it has its adapter"
    assert info["bytes"] == sum(path.stat().st_size for path in model.rglob("*.safetensors"))
    assert "8 attention layers (text width 32)" in models("info", model).stdout


def test_an_adapter_is_described_by_its_parts(adapter):
    info = json.loads(models("info", adapter, "--json").stdout)
    loaded = SubjectAdapter.from_pretrained(adapter)
    assert info["kind"] == "AnyStory adapter"
    assert {part["name"]: part["parameters"] for part in info["parts"]} == {
        name: sum(p.numel() for p in part.parameters()) for name, part in loaded.named_children()
    }
    assert info["sizes"]["subject_tokens"] == 4
    assert info["fits"].startswith("U-Nets with 8 attention layers (text width 32); image encoders with 17 tokens")
    text = models("info", adapter).stdout
    assert "reference_net" in text
    assert "router_dim 16" in text


def test_bases_are_described_in_every_form(files):
    layout = "8 attention layers (text width 80)"
    folder, single = (json.loads(models("info", path, "--json").stdout) for path in (files.base, files.single))
    assert (folder["kind"], folder["layout"], folder["variants"]) == ("SDXL", layout, ["fp16"])
    assert (single["kind"], single["layout"]) == ("SDXL", layout)
    counts = [{part["name"]: part["parameters"] for part in info["parts"]} for info in (folder, single)]
    assert counts[0]["unet"] == counts[1]["unet"]
    assert counts[0]["vae"] == counts[1]["vae"]
    unet = json.loads(models("info", files.base / "unet", "--json").stdout)
    assert (unet["kind"], unet["layout"]) == ("UNet2DConditionModel", layout)
    public = json.loads(models("info", files.ip_adapter, "--json").stdout)
    assert (public["kind"], public["layout"]) == ("IP-Adapter-Plus", layout)


def test_a_unet_by_itself_is_a_base_to_start_from(files, tmp_path):
    weights = {key: value for key, value in load_file(files.single).items() if key.startswith("model.diffusion_model.")}
    save_file(weights, tmp_path / "unet.safetensors")
    info = json.loads(models("info", tmp_path / "unet.safetensors", "--json").stdout)
    assert (info["kind"], info["layout"]) == ("a U-Net by itself", "8 attention layers (text width 80)")
    assert info["fits"].startswith("`anystory adapter init`, as a base")


def test_flux_and_its_adapter_are_described(flux):
    layout = "2 double and 2 single blocks, 32 wide"
    found = {name: json.loads(models("info", place, "--json").stdout) for name, place in vars(flux).items()}
    assert {name: info["kind"] for name, info in found.items()} == {
        "base": "FLUX",
        "adapter": "AnyStory adapter for FLUX.1",
        "whole": "an AnyStory pipeline for FLUX.1",
        "schnell": "FLUX",
    }
    assert {info["layout"] for info in found.values()} == {layout}
    assert {name: info["backend"] for name, info in found.items()} == {
        "base": "flux", "adapter": "", "whole": "flux", "schnell": "flux"
    }  # fmt: skip
    assert found["base"]["fits"] == f"adapters for FLUX.1 with {layout}"
    assert found["whole"]["fits"] == "whole: it has its adapter"
    assert found["adapter"]["fits"] == f"FLUX.1 with {layout} and texts 24 wide; SigLIP 12 wide"
    assert found["adapter"] == json.loads(models("info", flux.adapter / "adapter", "--json").stdout) | {
        "source": str(flux.adapter)
    }
    loaded = load_flux_adapter(flux.adapter)
    assert {part["name"]: part["parameters"] for part in found["adapter"]["parts"]} == {
        name: sum(p.numel() for p in part.parameters()) for name, part in loaded.named_children()
    }
    assert "reference_size 64, redux_dim 12" in models("info", flux.adapter).stdout
    transformer = json.loads(models("info", flux.base / "transformer", "--json").stdout)
    assert (transformer["kind"], transformer["layout"]) == ("FluxTransformer2DModel", layout)


def test_flux_in_the_cache_is_listed(cache, flux):
    put_into_cache(cache, "black-forest-labs/FLUX.1-dev", flux.base)
    put_into_cache(cache, "some/anystory-flux", flux.adapter)
    rows = {row["name"]: row["kind"] for row in json.loads(models("list", "--json").stdout) if row["where"] == "cached"}
    assert rows == {
        "black-forest-labs/FLUX.1-dev": "FLUX",
        "some/anystory-flux/adapter": "AnyStory adapter for FLUX.1",
    }


def test_what_is_wrong_with_flux_or_its_adapter(flux, tmp_path):
    assert problems(flux.whole) == problems(flux.adapter) == []
    assert json.loads(models("verify", flux.whole, "--json").stdout)["shapes_checked"] == ["transformer", "adapter"]
    folder = shutil.copytree(flux.whole, tmp_path / "whole")
    set_entries(folder / "transformer" / "config.json", num_single_layers=1)
    found = "; ".join(problems(folder))
    assert "transformer: " in found
    assert "adapter: the adapter is for another transformer: this one has no single_transformer_blocks.1" in found
    weights = folder / "adapter" / WEIGHTS
    tensors = load_file(weights)
    name = next(iter(tensors))
    save_file({k: v for k, v in tensors.items() if k != name} | {"other": torch.full((1,), torch.nan)}, weights)
    found = "; ".join(problems(folder))
    assert name in found
    assert "other has 1 of 1 values that are NaN or infinite" in found


def test_an_adapter_beside_another_flux_is_said(flux, tmp_path):
    folder = shutil.copytree(flux.whole, tmp_path / "whole")
    weights = folder / "adapter" / WEIGHTS
    tensors = load_file(weights)
    save_file({k: v for k, v in tensors.items() if "single_transformer_blocks.1.query" not in k}, weights)
    info = json.loads(models("info", folder, "--json").stdout)
    assert info["fits"] == "broken: its adapter is for FLUX.1 with 2 double and 1 single blocks, 32 wide"


def test_an_adapter_for_another_unet_is_said(files, tmp_path):
    other = pipeline("mini")
    other.save_pretrained(tmp_path / "whole")
    shutil.rmtree(tmp_path / "whole" / "unet")
    shutil.copytree(files.base / "unet", tmp_path / "whole" / "unet")
    info = json.loads(models("info", tmp_path / "whole", "--json").stdout)
    assert info["fits"].startswith("broken: its adapter is for U-Nets with 8 attention layers (text width 32)")
    assert any("other attention layers than the one beside it" in problem for problem in problems(tmp_path / "whole"))


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("nothing", "nothing called 'nothing' is here"),
        ("owner/nothing", "nothing called 'owner/nothing' is here"),
        ("{folder}", "neither model_index.json nor config.json"),
        ("{pickle}", "single files must be .safetensors"),
        ("{text}", "cannot be read as safetensors"),
    ],
)
def test_what_is_not_there_is_one_sentence(cache, tmp_path, source, message):
    places = {"folder": tmp_path / "empty", "pickle": tmp_path / "x.ckpt", "text": tmp_path / "x.safetensors"}
    places["folder"].mkdir()
    places["pickle"].write_bytes(b"")
    places["text"].write_text("<html>")
    result = models("info", source.format(**places))
    assert result.exit_code == 2
    assert message in result.stderr


# --- verify ---


def test_whole_models_are_whole(model, adapter, files):
    for source in (model, adapter, files.base, files.single, files.ip_adapter, "mini"):
        assert problems(source) == [], source
    text = models("verify", adapter).stdout
    assert f"as in {SUMS}" in text
    assert "shapes compared: SubjectAdapter" in text
    assert text.endswith("whole\n")
    assert "shapes compared: unet\n" in models("verify", files.base).stdout
    assert "shapes compared: image_proj\n" in models("verify", files.ip_adapter).stdout
    assert "shapes compared: none" in models("verify", files.single).stdout


def test_changed_values_are_found_by_hash_and_nan_by_reading(adapter):
    shard = min(adapter.glob("*.safetensors"))
    weights = load_file(shard)
    name = min(name for name, value in weights.items() if value.numel() > 2)
    weights[name].flatten()[:2] = torch.tensor([float("nan"), float("inf")])
    save_file(weights, shard, metadata={"format": "pt"})
    found = problems(adapter)
    assert [problem.split(":")[0] for problem in found] == [shard.name] * 2
    assert f"{SUMS} says" in found[0]
    assert f"{name} has 2 of " in found[1]
    result = models("verify", adapter)
    assert result.exit_code == 1
    assert "2 thing(s) wrong" in result.stdout


def test_missing_shards_and_wrong_shapes_are_found(adapter):
    first, *_, last = sorted(adapter.glob("*.safetensors"))
    first.unlink()
    weights = load_file(last)
    name = min(weights)
    weights[name] = torch.zeros(3, 5)
    weights["surprise"] = torch.zeros(1)
    save_file(weights, last, metadata={"format": "pt"})
    found = "\n".join(problems(adapter))
    assert f"{first.name}: listed in {SUMS}, but not there" in found
    assert f"{first.name}: listed in {WEIGHTS}.index.json, but not there" in found
    assert "unexpected: surprise" in found
    assert f"other shape: {name} is (3, 5)" in found
    assert "missing" in found


def test_a_cut_file_is_one_problem_not_a_thousand(files, tmp_path):
    shutil.copytree(files.base, tmp_path / "base")
    path = tmp_path / "base" / "unet" / WEIGHTS
    path.write_bytes(path.read_bytes()[:-100])
    assert [problem.split("(")[0] for problem in problems(tmp_path / "base")] == [
        f"unet/{WEIGHTS}: cannot be read as safetensors "
    ]


def test_the_hubs_cache_is_checked_against_its_own_hashes(cache, files):
    snapshot = put_into_cache(cache, "some/sdxl", files.base)
    assert problems("some/sdxl") == []
    assert "as in the hub's cache" in models("verify", "some/sdxl").stdout
    blob = (snapshot / "vae" / WEIGHTS).resolve()
    weights = load_file(blob)
    weights["quant_conv.bias"] += 1
    save_file(weights, blob, metadata={"format": "pt"})
    [problem] = problems("some/sdxl")
    assert problem.startswith(f"vae/{WEIGHTS}: its SHA-256 is ")
    assert "the hub's cache says" in problem


def test_a_configuration_that_builds_nothing_is_a_problem(adapter):
    config = json.loads((adapter / "config.json").read_text())
    config["adapter_config"]["router_heads"] = 3
    (adapter / "config.json").write_text(json.dumps(config))
    assert any("its config.json builds no SubjectAdapter (router_heads must divide" in p for p in problems(adapter))


def test_a_folder_without_weights_is_refused(files):
    result = models("verify", files.config)
    assert result.exit_code == 2
    assert "there is nothing to verify" in result.stderr
