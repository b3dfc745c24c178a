"""Bases as people have them: one file in the original layout, fp16 variants, fine-tunes; and what is none of these."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionXLPipeline
from safetensors.torch import load_file, save_file

from anystory.models.adapter import SubjectAdapter
from anystory.models.saved.key_report import CheckpointKeyError
from anystory.pipelines.loading.bases import kind_of_keys
from anystory.pipelines.loading.parts import load_unet
from anystory.pipelines.sdxl import AnyStoryPipeline

from .. import helpers, original_layout
from ..helpers import draw, subject


@pytest.fixture(scope="module")
def parts():
    return original_layout.components()


@pytest.fixture(scope="module")
def base(parts, tmp_path_factory) -> Path:
    """The model as a diffusers folder."""
    return original_layout.write_folder(parts, tmp_path_factory.mktemp("sdxl"))


@pytest.fixture(scope="module")
def config(base, tmp_path_factory) -> Path:
    """Its configuration files only, as a download of `*.json` and `*.txt` has them."""
    return original_layout.without_weights(base, tmp_path_factory.mktemp("config") / "sdxl")


@pytest.fixture(scope="module")
def file(parts, tmp_path_factory) -> Path:
    """The model as one file."""
    return original_layout.write_single_file(parts, tmp_path_factory.mktemp("file") / "sd_xl.safetensors")


@pytest.fixture(scope="module")
def adapter(parts, tmp_path_factory) -> Path:
    """An adapter for it with its image encoder beside, as a pipeline's folder has them."""
    folder = tmp_path_factory.mktemp("adapter")
    with torch.random.fork_rng():
        torch.manual_seed(4)
        own = SubjectAdapter.from_unet(parts["unet"], helpers.adapter_config())
        own.save_pretrained(folder / "adapter")
        helpers.image_encoder().save_pretrained(folder / "image_encoder")
    return folder


def quiet(pipe):
    pipe.set_progress_bar_config(disable=True)
    return pipe


def single(file, **options):
    return quiet(AnyStoryPipeline.from_single_file(file, add_watermarker=False, **options))


def folder(base, **options):
    return quiet(AnyStoryPipeline.from_pretrained(base, add_watermarker=False, **options))


def test_the_file_has_the_names_of_the_published_one(file):
    """Names and shapes that every tool looks for in sd_xl_base_1.0.safetensors."""
    weights = load_file(file)
    for name in (
        "model.diffusion_model.input_blocks.0.0.weight",
        "model.diffusion_model.time_embed.2.bias",
        "model.diffusion_model.label_emb.0.0.weight",
        "model.diffusion_model.input_blocks.3.1.transformer_blocks.0.attn2.to_k.weight",
        "model.diffusion_model.middle_block.1.transformer_blocks.0.ff.net.0.proj.weight",
        "model.diffusion_model.output_blocks.1.2.conv.weight",
        "model.diffusion_model.output_blocks.2.0.skip_connection.weight",
        "model.diffusion_model.out.2.weight",
        "conditioner.embedders.0.transformer.text_model.embeddings.position_embedding.weight",
        "conditioner.embedders.0.transformer.text_model.embeddings.position_ids",
        "conditioner.embedders.1.model.positional_embedding",
        "conditioner.embedders.1.model.text_projection",
        "conditioner.embedders.1.model.transformer.resblocks.9.mlp.c_proj.bias",
        "conditioner.embedders.1.model.transformer.resblocks.0.attn.in_proj_weight",
        "first_stage_model.encoder.down.0.downsample.conv.weight",
        "first_stage_model.decoder.up.1.upsample.conv.weight",
        "first_stage_model.decoder.mid.attn_1.proj_out.weight",
        "first_stage_model.quant_conv.weight",
    ):
        assert name in weights, name
    assert weights["first_stage_model.encoder.mid.attn_1.q.weight"].ndim == 4


def test_a_single_file_is_the_same_model_as_the_folder(parts, file, config):
    pipe = single(file, config=config)
    for name in ("unet", "vae", "text_encoder", "text_encoder_2"):
        own, expected = getattr(pipe, name).state_dict(), parts[name].state_dict()
        assert own.keys() == expected.keys()
        assert all(torch.equal(own[key], value) for key, value in expected.items()), name
    assert pipe.adapter is None
    assert pipe.scheduler.config["prediction_type"] == "v_prediction"


def test_with_an_adapter_it_draws_what_the_folder_draws(file, config, base, adapter):
    arguments = {"subjects": [subject(), subject((0, 0, 255))]}
    expected = draw(folder(base, adapter=adapter), **arguments)
    pipe = single(file, config=config, adapter=adapter)
    np.testing.assert_allclose(draw(pipe, **arguments).images, expected.images, atol=1e-5)
    own = SubjectAdapter.from_pretrained(adapter / "adapter")
    pipe = single(str(file), config=str(config), adapter=own, image_encoder=str(adapter))
    np.testing.assert_allclose(draw(pipe, **arguments).images, expected.images, atol=1e-5)


def test_a_single_file_can_be_saved_as_a_whole_pipeline(file, config, adapter, tmp_path):
    pipe = single(file, config=config, adapter=adapter)
    pipe.save_pretrained(tmp_path / "whole")
    back = folder(tmp_path / "whole")
    arguments = {"subjects": [subject()]}
    np.testing.assert_allclose(draw(back, **arguments).images, draw(pipe, **arguments).images, atol=1e-5)


@pytest.mark.parametrize("option", ["dtype", "torch_dtype"])
def test_half_precision_of_a_single_file(parts, config, adapter, tmp_path, option):
    half = original_layout.write_single_file(parts, tmp_path / "half.safetensors", torch.float16)
    pipe = single(half, config=config, adapter=adapter, **{option: torch.float16})
    found = {name: part.dtype for name, part in pipe.components.items() if isinstance(part, torch.nn.Module)}
    assert set(found.values()) == {torch.float16}, found
    assert {part.dtype for part in (single(half, config=config).unet, single(half, config=config).vae)} == {
        torch.float32
    }


def test_fp16_variants_with_an_adapter_that_has_none_and_one_that_has(parts, base, adapter, tmp_path):
    stock = StableDiffusionXLPipeline.from_pretrained(base, add_watermarker=False)
    stock.to(torch.float16).save_pretrained(tmp_path / "base", variant="fp16")
    assert (tmp_path / "base" / "unet" / "diffusion_pytorch_model.fp16.safetensors").is_file()
    own = SubjectAdapter.from_pretrained(adapter / "adapter").to(torch.float16)
    own.save_pretrained(tmp_path / "half", variant="fp16", max_shard_size="200KB")
    for where in (adapter / "adapter", tmp_path / "half"):
        pipe = folder(
            tmp_path / "base", adapter=where, image_encoder=adapter, variant="fp16", torch_dtype=torch.float16
        )
        assert {pipe.unet.dtype, pipe.adapter.dtype, pipe.image_encoder.dtype} == {torch.float16}
        for key, value in own.state_dict().items():
            assert torch.equal(pipe.adapter.state_dict()[key], value)


def test_a_fine_tune_swaps_in_under_the_adapter(base, file, config, adapter, tmp_path):
    """Other weights of the same layout: the adapter's are the same, the picture is not."""
    tuned = original_layout.components(seed=9)
    path = original_layout.write_single_file(tuned, tmp_path / "fine-tune.safetensors")
    one, other = single(file, config=config, adapter=adapter), single(path, config=config, adapter=adapter)
    weights = one.adapter.state_dict()
    assert all(torch.equal(weights[key], value) for key, value in other.adapter.state_dict().items())
    pictures = [draw(pipe, subjects=[subject()]).images for pipe in (one, other)]
    assert np.abs(pictures[0] - pictures[1]).max() > 0.01
    assert np.abs(pictures[1] - draw(other).images).max() > 0.001


# --- what is refused ---


def test_without_configuration_and_hub_the_error_says_what_to_pass(file, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(ValueError, match=r"configuration for .*sd_xl\.safetensors was not found .*pass config=FOLDER"):
        single(file)
    with pytest.raises(ValueError, match=r"configuration for .*pass config=FOLDER"):
        load_unet(file, dtype=torch.float32)


def test_models_that_are_neither_here_nor_in_the_hub(tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(ValueError, match=r"owner/nothing is not cached here, and the hub .* did not give"):
        folder("owner/nothing")
    with pytest.raises(ValueError, match=r"has no model_index\.json: expected a model folder"):
        folder(tmp_path)


def test_without_image_encoder_and_hub_the_error_says_what_to_pass(base, adapter, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(ValueError, match=r"image encoder h94/IP-Adapter.* not found .*pass image_encoder=FOLDER"):
        folder(base, adapter=adapter / "adapter")


def test_an_image_encoder_of_another_size_is_refused(base, adapter, tmp_path):
    from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

    sizes: Any = {"intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "image_size": 16}
    other = CLIPVisionModelWithProjection(CLIPVisionConfig(hidden_size=16, patch_size=8, **sizes))
    message = "gives 5 tokens of width 16, but the adapter was made for 17 of width 32"
    with pytest.raises(ValueError, match=message):
        folder(base, adapter=adapter / "adapter", image_encoder=other)


@pytest.mark.parametrize("name", ["model.ckpt", "model.pt", "model.bin"])
def test_pickled_single_files_are_refused(tmp_path, name):
    torch.save({"weight": torch.zeros(1)}, tmp_path / name)
    with pytest.raises(ValueError, match=r"must be \.safetensors"):
        single(tmp_path / name)
    with pytest.raises(ValueError, match=r"must be \.safetensors"):
        single(f"https://huggingface.co/owner/name/blob/main/{name}")


def test_missing_cut_and_other_files_are_refused(file, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nowhere\.safetensors"):
        single(tmp_path / "nowhere.safetensors")
    cut = tmp_path / "cut.safetensors"
    cut.write_bytes(file.read_bytes()[:5000])
    with pytest.raises(ValueError, match="cannot be read as safetensors"):
        single(cut)
    with pytest.raises(ValueError, match="must be one torch.dtype"):
        single(file, dtype={"unet": torch.float16})
    with pytest.raises(ValueError, match="is a single file: AnyStoryPipeline.from_single_file reads it"):
        folder(file)


@pytest.mark.parametrize(
    ("key", "kind"),
    [
        ("cond_stage_model.transformer.text_model.embeddings.position_embedding.weight", "Stable Diffusion 1"),
        ("double_blocks.0.img_attn.qkv.weight", "FLUX"),
        ("model.diffusion_model.double_blocks.0.img_attn.qkv.weight", "FLUX"),
        ("model.diffusion_model.joint_blocks.0.x_block.attn.qkv.weight", "Stable Diffusion 3"),
        ("conditioner.embedders.0.model.text_projection", "the SDXL refiner"),
        ("lora_unet_down_blocks_1_attentions_0_proj_in.lora_up.weight", "a LoRA"),
        ("ip_adapter.1.to_k_ip.weight", "an IP-Adapter"),
        ("routers.x.to_k.weight", "no model that we know"),
    ],
)
def test_files_of_other_models_are_refused_by_name(tmp_path, key, kind):
    keys = {key: torch.zeros(1), "model.diffusion_model.input_blocks.0.0.weight": torch.zeros(1)}
    for weights in (keys, {key: torch.zeros(1)}):
        save_file(weights, tmp_path / "other.safetensors")
        if kind != "no model that we know" or len(weights) == 1:
            assert kind_of_keys(weights).startswith(kind)
            with pytest.raises(ValueError, match=f"is {kind}.*, not SDXL .*: expected SDXL or a fine-tune"):
                single(tmp_path / "other.safetensors")


def test_a_file_without_autoencoder_names_what_to_pass(parts, file, config, tmp_path):
    weights = {key: value for key, value in load_file(file).items() if not key.startswith("first_stage_model.")}
    save_file(weights, tmp_path / "pruned.safetensors")
    with pytest.raises(ValueError, match=r"\(SDXL\) lacks the autoencoder: pass vae=…"):
        single(tmp_path / "pruned.safetensors", config=config)
    assert single(tmp_path / "pruned.safetensors", config=config, vae=parts["vae"]).vae is parts["vae"]


def test_a_file_without_some_weights_is_refused_with_all_their_names(file, config, tmp_path):
    weights = load_file(file)
    del weights["model.diffusion_model.out.2.weight"], weights["first_stage_model.decoder.norm_out.bias"]
    weights["model.diffusion_model.time_embed.0.bias"] = torch.zeros(3)
    save_file(weights, tmp_path / "holes.safetensors")
    with pytest.raises(CheckpointKeyError, match=r"not a whole model: 2 missing, 1 of another shape") as error:
        single(tmp_path / "holes.safetensors", config=config)
    assert error.value.report.missing == ("unet.conv_out.weight", "vae.decoder.conv_norm_out.bias")
    assert [key for key, *_ in error.value.report.misshaped] == ["unet.time_embedding.linear_1.bias"]
    for where in (config, config / "unet"):
        with pytest.raises(CheckpointKeyError, match="1 missing") as error:
            load_unet(tmp_path / "holes.safetensors", dtype=torch.float32, config=where)
        assert error.value.report.missing == ("unet.conv_out.weight",)


@pytest.mark.parametrize("encoder", ["text_encoder", "text_encoder_2"])
def test_a_file_without_some_of_a_text_encoder_is_refused_with_their_names(file, config, tmp_path, encoder):
    weights = load_file(file)
    if encoder == "text_encoder":
        del weights[f"{original_layout.CLIP_L}encoder.layers.1.mlp.fc1.bias"]
        missing = "encoder.layers.1.mlp.fc1.bias"
    else:
        del weights[f"{original_layout.CLIP_G}ln_final.weight"]
        missing = "final_layer_norm.weight"
    save_file(weights, tmp_path / "holes.safetensors")
    with pytest.raises(CheckpointKeyError, match=r"not a whole model: 1 missing") as error:
        single(tmp_path / "holes.safetensors", config=config)
    [found] = error.value.report.missing
    assert found.startswith(f"{encoder}.")
    assert found.endswith(missing)


@pytest.mark.parametrize(
    ("changes", "kind"),
    [
        ({"_class_name": "StableDiffusionPipeline", "text_encoder_2": None}, "Stable Diffusion 1.x or 2.x"),
        ({"_class_name": "FluxPipeline", "unet": None}, "FLUX"),
        ({"_class_name": "StableDiffusion3Pipeline", "unet": None}, "Stable Diffusion 3"),
        ({"_class_name": "KolorsPipeline", "text_encoder_2": None}, "KolorsPipeline"),
    ],
)
def test_folders_of_other_models_are_refused_by_name(config, adapter, tmp_path, changes, kind):
    """Before any weights are read: there are none in this folder."""
    shutil.copytree(config, tmp_path / "other")
    index = json.loads((config / "model_index.json").read_text())
    changed = {name: value for name, value in (index | changes).items() if value is not None}
    (tmp_path / "other" / "model_index.json").write_text(json.dumps(changed))
    with pytest.raises(ValueError, match=f"other is {kind}, whose layers an adapter for SDXL does not fit"):
        folder(tmp_path / "other", adapter=adapter)
    if changes.get("unet", "") is None or "text_encoder_2" in changes:
        with pytest.raises(ValueError, match=f"other is {kind}"):
            load_unet(tmp_path / "other", dtype=torch.float32)


# --- the U-Net alone ---


def test_a_unet_is_loaded_from_wherever_a_base_can_be(parts, base, file, config):
    expected = parts["unet"].state_dict()
    for source, options in (
        (base, {}),
        (base / "unet", {}),
        (file, {"config": config}),
        (file, {"config": config / "unet"}),
    ):
        unet = load_unet(source, dtype=torch.float16, **options)
        assert unet.dtype == torch.float16
        assert all(torch.equal(value, expected[key].half()) for key, value in unet.state_dict().items())


def test_a_unet_that_is_not_whole_is_refused(base, tmp_path):
    shutil.copytree(base / "unet", tmp_path / "unet")
    path = tmp_path / "unet" / "diffusion_pytorch_model.safetensors"
    weights = load_file(path)
    del weights["conv_out.bias"]
    save_file(weights, path, metadata={"format": "pt"})
    with pytest.raises(CheckpointKeyError, match="no whole U-Net"):
        load_unet(tmp_path / "unet", dtype=torch.float32)
