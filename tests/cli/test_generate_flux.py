"""`anystory generate` and `replay` on FLUX.1."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import accelerate
import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from anystory import Subject
from anystory.engine.options import ModelOptions
from anystory.files import sha256_file
from anystory.pipelines.flux import AnyStoryFluxPipeline
from cli.flux_files import FluxFiles
from cli.refusals import refused
from pipelines.flux.tiny import PROMPT, build_pipeline

from .test_generate import run

SMALL = ["--size", "96x64", "--steps", "3"]


def generate(model: Path, out: Path, *arguments: Any) -> Any:
    return run("generate", PROMPT, "--model", model, "--out", out, "--seed", 5, "--threads", 1, *arguments)


def picture(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path))


def generated(model: Path, out: Path, *arguments: Any) -> np.ndarray:
    """What a command draws."""
    result = generate(model, out, *arguments)
    assert result.exit_code == 0, result.output
    return picture(out / "0001.png")


def record_of(out: Path) -> dict[str, Any]:
    return json.loads((out / "0001.json").read_text())


def replayed(record: Path, out: Path, *arguments: Any) -> None:
    result = run("replay", "--trust-paths", record, "--out", out, *arguments)
    assert result.exit_code == 0, result.output
    assert "the same picture, byte for byte" in result.stdout


@pytest.fixture
def two(references: Path) -> list[str]:
    """The options for two subjects."""
    return ["-s", f"{references / 'red.png'}", "-s", f"{references / 'blue.png'}:{references / 'blue-mask.png'}"]


@pytest.fixture
def given(flux: FluxFiles, two: list[str]) -> list[str]:
    """Two subjects on the stock model, small."""
    return ["--adapter", str(flux.adapter), *two, *SMALL]


def drawn(pipe: Any, references: Path, seed: int = 5, **arguments: Any) -> np.ndarray:
    """What a pipeline draws of the same; `red` and `blue` are settings of the subjects."""
    pipe.set_progress_bar_config(disable=True)
    red = Subject(references / "red.png", **arguments.pop("red", {}))
    blue = Subject(references / "blue.png", references / "blue-mask.png", **arguments.pop("blue", {}))
    call = {"height": 64, "width": 96, "num_inference_steps": 3, "max_sequence_length": 12} | arguments
    encoded = [pipe.encode_subjects([one])[0] for one in (red, blue)]
    return np.asarray(pipe(PROMPT, subjects=encoded, generator=torch.Generator().manual_seed(seed), **call).images[0])


@pytest.fixture(scope="module")
def pipe(flux: FluxFiles) -> Any:
    return AnyStoryFluxPipeline.from_pretrained(flux.base, adapter=flux.adapter)


def test_pictures_sheets_and_records(flux, given, references, pipe, tmp_path):
    """Two seeds in one command, whose second finds the references' keys: each picture is drawn again by its record."""
    out = tmp_path / "out"
    result = generate(flux.base, out, *given, "--num", 2)
    assert result.exit_code == 0, result.output
    assert result.stdout.splitlines() == [
        f"{out}/000{n}.png (seed {4 + n}), routing maps: {out}/000{n}-routing.png" for n in (1, 2)
    ]
    for number, seed in ((1, 5), (2, 6)):
        np.testing.assert_array_equal(picture(out / f"000{number}.png"), drawn(pipe, references, seed))
        replayed(out / f"000{number}.json", tmp_path / f"again-{number}")
    record = record_of(out)
    assert (record["steps"], record["guidance"], record["width"], record["height"]) == (3, 3.5, 96, 64)
    assert (record["true_cfg"], record["quantize"], record["tiling"]) == (None, None, False)
    assert [subject["cutout"] for subject in record["subjects"]] == ["alpha", "mask"]
    assert (record["model"], record["adapter"]) == (str(flux.base), str(flux.adapter))
    assert {name.split("/")[0] for name in record["weights"]} == {"model", "adapter"}
    assert "adapter/image_encoder/model.safetensors" in record["weights"]


def test_one_subject_has_no_maps_and_none_is_the_stock_picture(flux, references, pipe, tmp_path):
    one = ["--adapter", flux.adapter, "-s", references / "red.png", *SMALL]
    result = generate(flux.base, tmp_path / "one", *one)
    assert (result.exit_code, result.stdout) == (0, f"{tmp_path}/one/0001.png (seed 5)\n")
    stock = generated(flux.base, tmp_path / "none", *SMALL)
    call = {"height": 64, "width": 96, "num_inference_steps": 3, "max_sequence_length": 12}
    expected = pipe(PROMPT, generator=torch.Generator().manual_seed(5), **call).images[0]
    np.testing.assert_array_equal(stock, np.asarray(expected))
    assert (picture(tmp_path / "one" / "0001.png") != stock).any()


def test_regions_and_scales_of_subjects(flux, given, references, pipe, tmp_path):
    more = ["--region", "1:0,0,0.5,1", "--scale", "blue:0.5", "--reference-scale", "2:0.25"]
    found = generated(flux.base, tmp_path / "out", *given, *more)
    settings = {"red": {"region": (0, 0, 0.5, 1)}, "blue": {"scale": 0.5, "reference_scale": 0.25}}
    np.testing.assert_array_equal(found, drawn(pipe, references, **settings))
    assert (found != drawn(pipe, references)).any()
    replayed(tmp_path / "out" / "0001.png", tmp_path / "again", "--model", flux.base, "--adapter", flux.adapter)


def test_a_whole_model_with_values_of_its_own(flux, two, references, pipe, tmp_path):
    found = generated(flux.whole, tmp_path / "out", *two)
    np.testing.assert_array_equal(found, drawn(pipe, references, num_inference_steps=4))
    assert record_of(tmp_path / "out")["steps"] == 4


def test_schnell_draws_in_four_steps_without_guidance(flux, two, tmp_path):
    given = ["--adapter", flux.adapter, *two, "--size", 64]
    generated(flux.schnell, tmp_path / "out", *given)
    record = record_of(tmp_path / "out")
    assert (record["steps"], record["guidance"]) == (4, 0.0)
    replayed(tmp_path / "out" / "0001.json", tmp_path / "again")
    said = refused(
        tmp_path, "generate", PROMPT, "--model", flux.schnell, *given, "--guidance", 3, "--out", tmp_path / "no"
    )
    assert "--guidance has no effect on this model, which has no guidance embedding" in said


def test_a_negative_prompt_with_true_cfg(flux, given, references, pipe, tmp_path):
    out = tmp_path / "out"
    found = generated(flux.base, out, *given, "--negative", "snow", "--true-cfg", 3)
    np.testing.assert_array_equal(found, drawn(pipe, references, negative_prompt="snow", true_cfg_scale=3.0))
    assert (record_of(out)["negative_prompt"], record_of(out)["true_cfg"]) == ("snow", 3.0)
    replayed(out / "0001.json", tmp_path / "again")


def test_an_image_encoder_that_is_named_or_fetched(flux, given, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    apart = ["--adapter", flux.adapter / "adapter", *given[2:], "--no-sheet"]
    named = generated(flux.base, tmp_path / "named", *apart, "--image-encoder", flux.whole)
    assert record_of(tmp_path / "named")["image_encoder"] == str(flux.whole)
    digest = sha256_file(flux.whole / "image_encoder" / "model.safetensors")
    assert record_of(tmp_path / "named")["weights"]["image_encoder/image_encoder/model.safetensors"] == digest
    missing = refused(tmp_path, "generate", PROMPT, "--model", flux.base, *apart, "--out", tmp_path / "no")
    assert "SigLIP was not found at black-forest-labs/FLUX.1-Redux-dev" in missing
    for place in ("pipelines.flux.loading", "engine.backends.flux_model"):
        monkeypatch.setattr(f"anystory.{place}.REDUX", str(flux.whole))
    np.testing.assert_array_equal(generated(flux.base, tmp_path / "fetched", *apart), named)
    record = record_of(tmp_path / "fetched")
    assert record["image_encoder"] is None
    assert record["weights"]["image_encoder/image_encoder/model.safetensors"] == digest


def test_a_variant_in_another_type(flux, given, references, tmp_path):
    base = tmp_path / "base"
    stock = {name: part for name, part in build_pipeline().components.items() if name in _STOCK}
    from diffusers import FluxPipeline

    FluxPipeline(**stock).to(torch.bfloat16).save_pretrained(base, variant="bf16")
    assert generate(base, tmp_path / "no", *given).exit_code == 2
    out = tmp_path / "out"
    found = generated(base, out, *given, "--variant", "bf16", "--dtype", "bfloat16")
    pipe = AnyStoryFluxPipeline.from_pretrained(base, adapter=flux.adapter, variant="bf16", dtype=torch.bfloat16)
    np.testing.assert_array_equal(found, drawn(pipe, references))
    assert (record_of(out)["variant"], record_of(out)["dtype"]) == ("bf16", "bfloat16")
    replayed(out / "0001.json", tmp_path / "again")


_STOCK = ("scheduler", "vae", "text_encoder", "tokenizer", "text_encoder_2", "tokenizer_2", "transformer")


# --- offloading and fewer bits ---


@pytest.fixture
def offloaded(monkeypatch) -> list[str]:
    """Lets the CPU be the device to which weights come; how they come is noted."""
    seen: list[str] = []
    offload = accelerate.cpu_offload
    monkeypatch.setattr(ModelOptions, "_check_device", lambda self: None)
    monkeypatch.setattr(
        accelerate, "cpu_offload", lambda model, device, **more: offload(model, torch.device("cpu"), **more)
    )
    for way in ("model", "sequential"):
        name = f"enable_{way}_cpu_offload"
        ours = getattr(AnyStoryFluxPipeline, name)

        def enabled(self, *args, enable=ours, way=way, **kwargs):
            if seen[-1:] != [way]:  # diffusers enables it anew after each call
                seen.append(way)
            enable(self, *args, **kwargs)

        monkeypatch.setattr(AnyStoryFluxPipeline, name, enabled)
    return seen


@pytest.mark.parametrize("way", ["model", "sequential"])
def test_offloading_draws_the_same(flux, given, tmp_path, offloaded, way):
    plain = generated(flux.base, tmp_path / "plain", *given, "--tiling")
    assert not offloaded
    out = tmp_path / "out"
    np.testing.assert_array_equal(generated(flux.base, out, *given, "--offload", way), plain)
    assert offloaded == [way]
    assert (record_of(out)["offload"], record_of(out)["tiling"]) == (way, True)
    replayed(out / "0001.json", tmp_path / "again", "--offload", way)


def test_weights_in_eight_bits(flux, given, tmp_path, offloaded):
    plain = generated(flux.base, tmp_path / "plain", *given)
    out = tmp_path / "out"
    found = generated(flux.base, out, *given, "--quantize", "fp8")
    assert 0 < np.abs(found.astype(int) - plain).mean() < 40
    assert record_of(out)["quantize"] == "fp8"
    replayed(out / "0001.json", tmp_path / "again", "--offload", "sequential")


@pytest.mark.parametrize("name", ["nf4", "int8"])
def test_weights_by_bitsandbytes(flux, given, tmp_path, monkeypatch, bitsandbytes_on_the_cpu, name):
    monkeypatch.setattr(ModelOptions, "_check_bitsandbytes", lambda self: None)
    out = tmp_path / "out"
    plain = generated(flux.base, tmp_path / "plain", *given)
    found = generate(flux.base, out, *given, "--quantize", name)
    assert found.exit_code == 0, found.output
    assert found.stderr == f"loading {flux.base} …\n"
    assert 0 < np.abs(picture(out / "0001.png").astype(int) - plain).mean() < 20
    assert record_of(out)["quantize"] == name
    assert record_of(out)["environment"]["bitsandbytes"] == bitsandbytes_on_the_cpu.__version__
    replayed(out / "0001.json", tmp_path / "again")


def test_sdxls_weights_in_eight_bits(model, references, tmp_path):
    """The mini's, too: it is of the same kind."""
    given = ["generate", "f r", "--model", model, "--seed", 5, "--threads", 1, "-s", references / "red.png"]
    plain = run(*given, "-o", tmp_path / "plain")
    found = run(*given, "-o", tmp_path / "out", "--quantize", "fp8")
    assert (plain.exit_code, found.exit_code) == (0, 0), found.output
    apart = np.abs(picture(tmp_path / "out" / "0001.png").astype(int) - picture(tmp_path / "plain" / "0001.png"))
    assert 0 < apart.mean() < 30
    assert record_of(tmp_path / "out")["quantize"] == "fp8"
    replayed(tmp_path / "out" / "0001.json", tmp_path / "again")


# --- LoRAs ---


def lora_weights(seed: int = 1, prefix: str = "transformer.") -> dict[str, torch.Tensor]:
    """In the layout of diffusers' files."""
    draws = torch.Generator().manual_seed(seed)
    return {
        f"{prefix}transformer_blocks.0.attn.{layer}.lora_{side}.weight": torch.randn(
            (2, 32) if side == "A" else (32, 2), generator=draws
        )
        for layer in ("to_q", "to_v", "to_out.0", "add_k_proj")
        for side in "AB"
    }


def write(path: Path, weights: dict[str, torch.Tensor]) -> Path:
    save_file({name: weight.contiguous() for name, weight in weights.items()}, path)
    return path


def test_loras_act_together_each_with_its_scale(flux, given, references, tmp_path):
    one, two = (write(tmp_path / f"{seed}.safetensors", lora_weights(seed)) for seed in (1, 2))
    out = tmp_path / "out"
    result = generate(flux.base, out, *given, "--lora", f"{one}:0.5", "--lora", two)
    assert (result.exit_code, result.stderr) == (0, f"loading {flux.base} …\n")
    pipe: Any = AnyStoryFluxPipeline.from_pretrained(flux.base, adapter=flux.adapter)
    before = drawn(pipe, references)
    pipe.load_lora_weights(lora_weights(1), adapter_name="a")
    pipe.load_lora_weights(lora_weights(2), adapter_name="b")
    pipe.set_adapters(["a", "b"], [0.5, 1.0])
    found = picture(out / "0001.png")
    np.testing.assert_array_equal(found, drawn(pipe, references))
    assert (found != before).any()
    assert record_of(out)["weights"]["lora-2.safetensors"] == sha256_file(two)
    replayed(out / "0001.json", tmp_path / "again")
    eight = generated(flux.base, tmp_path / "eight", *given, "--lora", f"{one}:0.5", "--lora", two, "--quantize", "fp8")
    assert 0 < np.abs(eight.astype(int) - found).mean() < 20


def test_a_lora_in_kohyas_layout_and_what_is_left_out_of_it(flux, given, references, tmp_path):
    draws = torch.Generator().manual_seed(3)
    name = "lora_unet_double_blocks_0_img_attn_proj"
    kohya = {
        f"{name}.lora_down.weight": torch.randn(2, 32, generator=draws),
        f"{name}.lora_up.weight": torch.randn(32, 2, generator=draws),
        f"{name}.alpha": torch.tensor(2.0),
    }
    plain = generated(flux.base, tmp_path / "plain", *given)
    found = generated(flux.base, tmp_path / "out", *given, "--lora", write(tmp_path / "kohya.safetensors", kohya))
    assert (found != plain).any()
    layer = "lora_te2_encoder_block_0_layer_0_SelfAttention_q"
    t5 = {f"{layer}.lora_{side}.weight": torch.ones(2, 2) for side in ("down", "up")}
    both = write(tmp_path / "both.safetensors", kohya | t5)
    with pytest.warns(UserWarning, match="its weights for the T5 text encoder were left out"):
        np.testing.assert_array_equal(generated(flux.base, tmp_path / "both", *given, "--lora", both), found)


def test_what_of_a_lora_does_not_fit_is_told(flux, given, tmp_path):
    layer = "transformer.transformer_blocks.9.attn.to_q"
    more = {f"{layer}.lora_A.weight": torch.zeros(2, 32), f"{layer}.lora_B.weight": torch.zeros(32, 2)}
    part = write(tmp_path / "part.safetensors", lora_weights() | more)
    with pytest.warns(UserWarning, match="were left out") as said:
        generated(flux.base, tmp_path / "out", *given, "--lora", part)
    [line] = [str(one.message) for one in said if one.category is UserWarning]
    assert line == (
        f"the LoRA {part}: 1 of its 5 layers are not in this model and were left out:"
        " transformer.transformer_blocks.9.attn.to_q"
    )


# --- refusals, all before anything is written ---


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--scheduler", "DDIMScheduler"], "--scheduler is for SDXL's models: FLUX.1 draws with its own flow-matching"),
        (["--karras"], "--karras is for SDXL's models: FLUX.1 has noise levels of its own"),
        (["--no-karras"], "--karras is for SDXL's models"),
        (["--prediction-type", "epsilon"], "--prediction-type is for SDXL's models: FLUX.1 predicts velocities"),
        (["--zero-snr"], "--zero-snr is for SDXL's models: FLUX.1 always begins with pure noise"),
        (["--config", "{base}"], "--config is for a single .safetensors file"),
        (["--image", "{red}"], "--image is for SDXL's models: AnyStory for FLUX.1 begins with noise"),
        (["--image", "{red}", "--strength", "0.5"], "--image is for SDXL's models"),
        (["--image", "{red}", "--mask", "{red}"], "--image is for SDXL's models"),
        (["--negative", "snow"], "--negative needs true CFG on FLUX.1: give that a value above 1"),
        (["--true-cfg", "3"], "--true-cfg weighs a negative prompt, and there is none"),
        (["--negative", "snow", "--true-cfg", "1"], "--true-cfg must be above 1, got 1.0"),
        (["--negative", "snow", "--true-cfg", "nan"], "--true-cfg must be above 1, got nan"),
        (["--size", "72"], "--size must be a multiple of 16 pixels, got 72: 64 or 80 would do"),
        (["--size", "64x8"], "--size must be a multiple of 16 pixels, got 8: 16 or 32 would do"),
        (["-s", "red={red}", "-s", "red={red}"], "--subject red has 2 photos, and AnyStory for FLUX.1 reads one"),
        (["--quantize", "int4"], "--quantize must be one of nf4, int8, fp8, got 'int4'"),
        (["--quantize", "nf4", "--offload", "sequential", "--device", "cuda"], "sequential does not go with nf4"),
        (["--offload", "model"], "but the device is cpu, where all of them are anyway"),
    ],
)  # fmt: skip
def test_refusals_before_anything_is_loaded(flux, references, tmp_path, monkeypatch, arguments, message):
    monkeypatch.setattr("anystory.engine.backends.flux.FluxBackend.load", lambda *given: pytest.fail("it was loaded"))
    places = {"red": references / "red.png", "base": flux.base}
    given = [argument.format(**places) for argument in arguments]
    said = refused(tmp_path, "generate", PROMPT, "--model", flux.base, "--out", tmp_path / "out", *given)
    assert message in said


def test_bitsandbytes_needs_an_extra_and_a_gpu(flux, tmp_path, monkeypatch):
    given = ["generate", PROMPT, "--model", flux.base, "--out", tmp_path / "out", "--quantize", "nf4"]
    monkeypatch.setattr("anystory.engine.options.find_spec", lambda name: None)
    said = refused(tmp_path, *given)
    assert "--quantize nf4 needs bitsandbytes, which is not installed: pip install 'anystory[quantize]'" in said
    monkeypatch.setattr("anystory.engine.options.find_spec", lambda name: name)
    assert "--quantize nf4 needs a CUDA GPU, but the device is cpu: take fp8, or name a GPU" in refused(
        tmp_path, *given
    )


def test_what_sdxl_does_not_have(model, tmp_path, monkeypatch):
    monkeypatch.setattr(ModelOptions, "_check_bitsandbytes", lambda self: None)
    given = ["generate", "f", "--model", model, "--out", tmp_path / "out"]
    said = refused(tmp_path, *given, "--quantize", "int8")
    assert "--quantize int8 is for FLUX.1: SDXL's layers with subjects read their weights as numbers" in said
    said = refused(tmp_path, *given, "--negative", "x", "--true-cfg", 2)
    assert "--true-cfg is for FLUX.1: on SDXL's models the guidance weighs the negative prompt" in said


def test_adapters_and_loras_of_the_other_family(flux, model, adapter, files, references, tmp_path):
    red = ["-s", references / "red.png", "--out", tmp_path / "out"]
    flux_given = ["generate", PROMPT, "--model", flux.base, *red, "--size", 64]
    assert "not an adapter for FLUX.1" in refused(tmp_path, *flux_given, "--adapter", adapter)
    said = refused(tmp_path, "generate", "f", "--model", files.base, *red, "--adapter", flux.adapter / "adapter")
    assert str(flux.adapter / "adapter") in said
    assert "need an adapter, and none is loaded" in refused(tmp_path, *flux_given)
    sdxl = write(tmp_path / "sdxl.safetensors", {f"unet.x.lora_{side}.weight": torch.zeros(2, 2) for side in "AB"})
    flux_given += ["--adapter", flux.adapter, "--lora"]
    assert "does not fit this model: it changes none of its layers" in refused(tmp_path, *flux_given, sdxl)
    control = write(
        tmp_path / "control.safetensors",
        {"double_blocks.0.img_attn.norm.query_norm.scale": torch.ones(2), **lora_weights()},
    )
    assert "is a Control LoRA: it needs a picture to follow" in refused(tmp_path, *flux_given, control)


def test_a_model_of_another_kind_is_said(flux, tmp_path):
    fill = shutil.copytree(flux.base, tmp_path / "fill")
    index = json.loads((fill / "model_index.json").read_text())
    (fill / "model_index.json").write_text(json.dumps(index | {"_class_name": "FluxFillPipeline"}))
    said = refused(tmp_path, "generate", PROMPT, "--model", fill, "--out", tmp_path / "out")
    assert f"{fill} is FLUX, which cannot be drawn with here: expected SDXL or a fine-tune of it, or FLUX.1" in said
