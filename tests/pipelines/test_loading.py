"""Folders: what is saved comes back, an adapter can lie elsewhere, and nothing unsafe is loaded."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionXLPipeline

from anystory.models.patch_autoencoder import PatchAutoencoder
from anystory.pipelines import assets, loading, parts
from anystory.pipelines.sdxl import AnyStoryPipeline

from .helpers import draw, pipeline, subject


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

    monkeypatch.setattr(loading, "load_image_encoder", fetch)
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


# --- embedded models ---


def test_embedded_models_are_found_by_name(monkeypatch, tmp_path, saved):
    (tmp_path / "tiny").symlink_to(saved)
    (tmp_path / "no-model").mkdir()
    monkeypatch.setattr(assets, "_ASSETS", tmp_path)
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
