"""Folders: what is saved comes back, an adapter can lie elsewhere, and nothing unsafe is loaded."""

from __future__ import annotations

import json
import subprocess
import sys

import diffusers
import numpy as np
import pytest
import torch
from diffusers import DiffusionPipeline, StableDiffusionXLPipeline

from anystory.models.patch_autoencoder import PatchAutoencoder
from anystory.models.saved.checksums import read_sums
from anystory.pipelines.loading import assets, from_pretrained, parts
from anystory.pipelines.sdxl import AnyStoryPipeline

from ..helpers import KINDS, draw, pipeline, pipeline_of, subject


def load(folder, **options):
    pipe = AnyStoryPipeline.from_pretrained(folder, **options)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def assert_same_pictures(one, other, **arguments):
    """Equal but for the last bits: kernels may depend on how a file's weights lie in memory."""
    np.testing.assert_allclose(draw(one, **arguments).images, draw(other, **arguments).images, atol=1e-5)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A saved pipeline of the "mini" layout with defaults of its own."""
    folder = tmp_path_factory.mktemp("saved")
    pipeline("mini", default_call={"num_inference_steps": 2}).save_pretrained(folder)
    return folder


@pytest.mark.parametrize("layout", ["sdxl", "mini"])
def test_what_is_saved_comes_back(layout, tmp_path):
    pipe = pipeline(layout, default_call={"guidance_scale": 3.0, "num_inference_steps": 3})
    pipe.save_pretrained(tmp_path)
    back = load(tmp_path)
    assert back.config["default_call"] == {"guidance_scale": 3.0, "num_inference_steps": 3}
    for arguments in ({}, {"subjects": [subject(), subject((0, 0, 255))]}):
        assert_same_pictures(pipe, back, **arguments)
    for part in ("unet", "vae", "adapter", "image_encoder", "text_encoder_2"):
        weights = getattr(back, part).state_dict()
        assert all(torch.equal(weights[name], value) for name, value in getattr(pipe, part).state_dict().items())
    assert not [file for file in tmp_path.rglob("*") if file.suffix in (".bin", ".pt", ".pth", ".ckpt", ".pkl")]


def test_weights_may_lie_in_shards_and_variants(tmp_path, mini):
    pipeline("mini").save_pretrained(tmp_path, max_shard_size="200KB", variant="small")
    shards = list(tmp_path.rglob("*.safetensors"))
    assert max(file.stat().st_size for file in shards) < 300_000
    assert len(list((tmp_path / "adapter").glob("*.safetensors"))) > 1
    assert all(".small" in file.name for file in shards)
    back = load(tmp_path, variant="small")
    assert_same_pictures(back, mini, subjects=[subject()])


def test_a_variant_beside_the_plain_weights(tmp_path, mini):
    """A file name without a dot in it stops diffusers, in some orders of the folder's files."""
    for variant in (None, "fp16"):
        pipeline("mini").save_pretrained(tmp_path, variant=variant)
    assert not [file for file in tmp_path.rglob("*") if file.is_file() and "." not in file.name]
    assert_same_pictures(load(tmp_path, variant="fp16"), mini, subjects=[subject()])
    listed = read_sums(tmp_path / "adapter")
    assert {name for name in listed if "safetensors" in name} == {
        "diffusion_pytorch_model.safetensors", "diffusion_pytorch_model.fp16.safetensors"
    }  # fmt: skip


def test_a_file_without_a_suffix_beside_variants_is_named(tmp_path):
    pipeline("mini").save_pretrained(tmp_path, variant="fp16")
    adapter = tmp_path / "adapter"
    for file in list(adapter.iterdir()):  # nothing but this file for diffusers to find first
        if file.name != "config.json":
            file.unlink()
    (adapter / "config.json").rename(adapter / "config")
    with pytest.raises(ValueError, match="config: diffusers cannot look for variant 'fp16'.*rename it"):
        load(tmp_path, variant="fp16")


def test_all_components_of_the_mini_layout_are_restored(saved):
    pipe = load(saved)
    assert isinstance(pipe.vae, PatchAutoencoder)
    assert pipe.text_encoder is None
    assert pipe.tokenizer is None
    assert pipe.vae_scale_factor == 4
    assert set(pipe.components) - {"text_encoder", "tokenizer"} == {
        *("vae", "unet", "scheduler", "text_encoder_2", "tokenizer_2"),
        *("image_encoder", "feature_extractor", "adapter"),
    }


def test_weights_come_in_float32_unless_another_type_is_asked_for(tmp_path):
    pipeline("mini").to(torch.float16).save_pretrained(tmp_path)
    parts = ("unet", "vae", "text_encoder_2", "image_encoder", "adapter")
    for options, dtype in (({}, torch.float32), ({"dtype": torch.bfloat16}, torch.bfloat16)):
        pipe = load(tmp_path, **options)
        assert {getattr(pipe, part).dtype for part in parts} == {dtype}
        assert np.isfinite(draw(pipe, subjects=[subject()]).images).all()
    assert load(tmp_path, torch_dtype=torch.float16).adapter.dtype == torch.float16
    mixed = load(tmp_path, dtype={"vae": torch.bfloat16, "default": torch.float32})
    assert (mixed.vae.dtype, mixed.adapter.dtype) == (torch.bfloat16, torch.float32)


def test_moving_the_pipeline_moves_the_adapter():
    adapter = pipeline("mini").to(torch.float64).adapter
    assert adapter is not None
    assert adapter.dtype == torch.float64


def test_the_stock_pipeline_reads_the_folder_too(tmp_path):
    pipe = pipeline("sdxl")
    pipe.save_pretrained(tmp_path)
    stock = StableDiffusionXLPipeline.from_pretrained(tmp_path, add_watermarker=False)
    stock.set_progress_bar_config(disable=True)
    assert_same_pictures(stock, pipe)


# --- an adapter from elsewhere ---


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """A plain SDXL folder: no adapter, no image encoder."""
    folder = tmp_path_factory.mktemp("base")
    whole = pipeline("mini")
    parts = {name: part for name, part in whole.components.items() if name != "adapter"}
    parts |= {"image_encoder": None, "feature_extractor": None}
    StableDiffusionXLPipeline(**parts, add_watermarker=False).save_pretrained(folder)
    return folder


def test_a_base_by_itself_has_no_adapter(base):
    pipe = load(base)
    assert pipe.adapter is None
    with pytest.raises(ValueError, match="need an adapter"):
        draw(pipe, subjects=[subject()])


def test_an_adapter_may_be_the_folder_of_a_whole_pipeline(base, saved, mini):
    pipe = load(base, adapter=saved)
    assert_same_pictures(pipe, mini, subjects=[subject()])


def test_an_adapter_may_be_a_folder_of_its_own_or_an_object(base, saved, mini):
    for adapter in (saved / "adapter", mini.adapter):
        for image_encoder in (saved / "image_encoder", saved, mini.image_encoder):
            pipe = load(base, adapter=adapter, image_encoder=image_encoder)
            assert_same_pictures(pipe, mini, subjects=[subject()])


def test_an_adapter_for_another_unet_says_so_when_it_is_loaded(base):
    other = pipeline("sdxl").adapter
    with pytest.raises(ValueError, match="does not fit this U-Net"):
        load(base, adapter=other, image_encoder=pipeline("mini").image_encoder)


def test_the_default_image_encoder_is_the_papers(base, saved, mini, monkeypatch):
    asked = []

    def fetch(source, **options):
        asked.append((source, options))
        return mini.image_encoder

    monkeypatch.setattr(from_pretrained, "load_image_encoder", fetch)
    pipe = load(base, adapter=saved / "adapter", local_files_only=True)
    assert asked == [("h94/IP-Adapter/models/image_encoder", {"dtype": torch.float32, "local_files_only": True})]
    assert pipe.feature_extractor.crop_size["height"] == 16


@pytest.mark.parametrize(
    ("source", "place"),
    [
        ("owner/name", ("owner/name", "")),
        ("owner/name/some/folder", ("owner/name", "some/folder")),
    ],
)
def test_hub_ids_may_name_a_folder(source, place):
    assert parts.locate(source, "adapter") == place


@pytest.mark.parametrize("source", ["nowhere", "./no/where", "/no/where", "", "~/no/where"])
def test_places_that_do_not_exist(source):
    with pytest.raises(ValueError, match="no adapter at"):
        parts.load_adapter(source, dtype=torch.float32)
    with pytest.raises(ValueError, match="no model"):
        assets.resolve_model(source)


# --- without a component ---


@pytest.mark.parametrize("part", ["adapter", "image_encoder", "feature_extractor", "unet", "vae"])
def test_none_means_none(saved, part):
    pipe = load(saved, **{part: None})
    assert getattr(pipe, part) is None
    assert (pipe.unet is None) == (part == "unet")


def test_none_beside_an_adapter_from_elsewhere(base, saved):
    pipe = load(base, adapter=saved / "adapter", image_encoder=None)  # nothing is fetched
    assert pipe.adapter is not None
    assert pipe.image_encoder is None
    with pytest.raises(ValueError, match="`image_encoder`"):
        draw(pipe, subjects=[subject()])


def test_without_a_unet_it_encodes_text_and_says_so(saved, mini):
    pipe = load(saved, unet=None)
    assert torch.equal(pipe.encode_prompt("a fox")[0], mini.encode_prompt("a fox")[0])
    with pytest.raises(ValueError, match="no `unet`.*encodes text and draws nothing"):
        draw(pipe)


def test_subjects_need_a_vae(saved):
    with pytest.raises(ValueError, match="`subjects` need `vae`"):
        draw(load(saved, vae=None), subjects=[subject()])


# --- what cannot be saved ---


def test_loras_that_are_not_fused(tmp_path, mini):
    peft = pytest.importorskip("peft")
    pipe = pipeline("mini")
    pipe.unet.add_adapter(peft.LoraConfig(r=2, target_modules=["to_q"], init_lora_weights=False), adapter_name="hat")
    changed = draw(pipe).images
    with pytest.raises(ValueError, match=r"unet has LoRAs \(hat\).*fuse_lora\(\) and then unload_lora_weights\(\)"):
        pipe.save_pretrained(tmp_path / "no")
    assert not (tmp_path / "no").exists()
    pipe.fuse_lora()
    with pytest.raises(ValueError, match="unet has LoRAs"):
        pipe.save_pretrained(tmp_path / "no")
    pipe.unload_lora_weights()
    pipe.save_pretrained(tmp_path / "yes")
    np.testing.assert_allclose(draw(load(tmp_path / "yes")).images, changed, atol=1e-4)


def test_weights_that_are_offloaded(tmp_path):
    pipe = pipeline("mini")
    pipe.enable_sequential_cpu_offload(device="cpu")
    with pytest.raises(ValueError, match=r"offloaded layer by layer: call remove_all_hooks\(\)"):
        pipe.save_pretrained(tmp_path / "no")
    pipe.remove_all_hooks()
    pipe.save_pretrained(tmp_path / "yes")
    load(tmp_path / "yes")


def test_an_ip_adapter(tmp_path):
    pipe = pipeline("mini")
    pipe.unet.encoder_hid_proj = torch.nn.Identity()
    with pytest.raises(ValueError, match=r"unet has an IP-Adapter.*unload_ip_adapter\(\)"):
        pipe.save_pretrained(tmp_path / "no")


# --- diffusers' general loaders ---


@pytest.mark.parametrize("imported", ["before", "after"])
def test_automatic_pipelines_are_found_in_either_order(saved, imported):
    """In a process of its own: what is imported when is the question."""
    ours, theirs = "import anystory.pipelines.sdxl", "import diffusers.pipelines.auto_pipeline"
    first, second = (ours, theirs) if imported == "after" else (theirs, ours)
    code = f"{first}\n{second}\nimport diffusers\n"
    code += f"print(type(diffusers.AutoPipelineForInpainting.from_pretrained({str(saved)!r})).__name__)"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.strip() == "AnyStoryInpaintPipeline"


def test_the_general_pipeline_class(saved, mini):
    pipe = DiffusionPipeline.from_pretrained(saved)
    assert type(pipe) is AnyStoryPipeline
    pipe.set_progress_bar_config(disable=True)
    assert_same_pictures(pipe, mini, subjects=[subject()])


@pytest.mark.parametrize("kind", list(KINDS))
def test_automatic_pipelines_go_from_one_to_another(kind):
    pipe = pipeline_of(kind, "mini")
    control = " control" if "control" in kind else ""
    for automatic, task in (
        (diffusers.AutoPipelineForText2Image, "text"),
        (diffusers.AutoPipelineForImage2Image, "image"),
        (diffusers.AutoPipelineForInpainting, "inpaint"),
    ):
        expected = "control" if control and task == "text" else f"{control} {task}".strip()
        assert type(automatic.from_pipe(pipe)) is KINDS[expected]


# --- embedded models ---


def test_embedded_models_are_found_by_name(monkeypatch, tmp_path, saved):
    (tmp_path / "tiny").symlink_to(saved)
    (tmp_path / "no-model").mkdir()
    monkeypatch.setattr(assets, "ASSETS", tmp_path)
    assert assets.embedded_models() == ("tiny",)
    assert load("tiny").config["default_call"] == {"num_inference_steps": 2}
    assert load("tiny", adapter="tiny").adapter is not None


# --- what is refused ---


@pytest.mark.parametrize(
    "option",
    [
        {"use_safetensors": False},
        {"trust_remote_code": True},
        {"custom_pipeline": "owner/pipeline"},
        {"use_onnx": True},
    ],
)
def test_unsafe_options_are_refused(saved, option):
    [name] = option
    with pytest.raises(ValueError, match=f"`{name}` must be"):
        load(saved, **option)


def test_pickles_are_neither_written_nor_read(tmp_path):
    pipe = pipeline("mini")
    with pytest.raises(ValueError, match="`safe_serialization` must be True"):
        pipe.save_pretrained(tmp_path, safe_serialization=False)
    pipe.save_pretrained(tmp_path)
    pipe.unet.save_pretrained(tmp_path / "unet", safe_serialization=False)
    (tmp_path / "unet" / "diffusion_pytorch_model.safetensors").unlink()
    with pytest.raises((OSError, ValueError), match="safetensors"):
        load(tmp_path)


def test_code_in_a_folder_is_not_run(saved, tmp_path):
    pipeline("mini").save_pretrained(tmp_path)
    evil = f"open({str(tmp_path / 'ran')!r}, 'w').close()\nclass Evil: pass\n"
    (tmp_path / "vae" / "evil.py").write_text(evil)
    (tmp_path / "evil.py").write_text(evil)
    index = json.loads((tmp_path / "model_index.json").read_text())
    for change in ({"vae": ["evil", "Evil"]}, {"_class_name": ["evil", "Evil"]}):
        (tmp_path / "model_index.json").write_text(json.dumps(index | change))
        with pytest.raises(ValueError, match="trust_remote_code"):
            load(tmp_path)
    assert not (tmp_path / "ran").exists()


def test_an_incomplete_adapter_is_refused(tmp_path):
    from safetensors.torch import load_file, save_file

    pipeline("mini").save_pretrained(tmp_path)
    file = tmp_path / "adapter" / "diffusion_pytorch_model.safetensors"
    weights = load_file(file)
    weights.pop(next(name for name in weights if name.startswith("routers")))
    save_file(weights, file, metadata={"format": "pt"})
    with pytest.raises(ValueError, match="missing: routers"):
        load(tmp_path)
