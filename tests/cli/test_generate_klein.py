"""`anystory generate`, `replay` and `models` on FLUX.2 klein."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import accelerate
import numpy as np
import pytest
import torch
from diffusers import Flux2KleinPipeline
from PIL import Image
from safetensors.torch import save_file
from typer.testing import CliRunner

from anystory import Subject
from anystory.cli import app
from anystory.engine.options import ModelOptions
from anystory.pipelines.klein import AnyStoryFlux2KleinInpaintPipeline, AnyStoryFlux2KleinPipeline, AttentionRouting
from cli.klein_files import KleinFiles, write_klein_files
from cli.refusals import refused
from pipelines.klein.tiny import PROMPT

from .test_generate import run

SMALL = ["--size", "96x64", "--steps", "3"]


@pytest.fixture(scope="module")
def klein(tmp_path_factory: pytest.TempPathFactory) -> KleinFiles:
    return write_klein_files(tmp_path_factory.mktemp("klein"))


@pytest.fixture(scope="module")
def pipe(klein: KleinFiles) -> Any:
    pipe = AnyStoryFlux2KleinPipeline.from_pretrained(klein.distilled)
    pipe.set_progress_bar_config(disable=True)
    return pipe


@pytest.fixture
def two(references: Path) -> list[str]:
    return ["-s", f"{references / 'red.png'}", "-s", f"{references / 'blue.png'}:{references / 'blue-mask.png'}"]


def generate(model: Path, out: Path, *arguments: Any) -> Any:
    return run("generate", PROMPT, "--model", model, "--out", out, "--seed", 5, "--threads", 1, *arguments)


def picture(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path))


def generated(model: Path, out: Path, *arguments: Any) -> np.ndarray:
    result = generate(model, out, *arguments)
    assert result.exit_code == 0, result.output
    return picture(out / "0001.png")


def record_of(out: Path) -> dict[str, Any]:
    return json.loads((out / "0001.json").read_text())


def replayed(record: Path, out: Path, *arguments: Any) -> None:
    result = run("replay", "--trust-paths", record, "--out", out, *arguments)
    assert result.exit_code == 0, result.output
    assert "the same picture, byte for byte" in result.stdout


def drawn(pipe: Any, references: Path, **arguments: Any) -> np.ndarray:
    """What a pipeline draws of the same; `red` and `blue` are settings of the subjects."""
    red = Subject(references / "red.png", name="red", **arguments.pop("red", {}))
    blue = Subject(references / "blue.png", references / "blue-mask.png", name="blue", **arguments.pop("blue", {}))
    call = {"height": 64, "width": 96, "num_inference_steps": 3, "guidance_scale": 1.0} | arguments
    given = {"prompt": PROMPT, "subjects": [red, blue], "generator": torch.Generator().manual_seed(5)}
    return np.asarray(pipe(**given, **call).images[0])


def test_pictures_and_records(klein, two, references, pipe, tmp_path):
    out = tmp_path / "out"
    result = generate(klein.distilled, out, *two, *SMALL, "--num", 2)
    assert result.exit_code == 0, result.output
    assert result.stdout.splitlines() == [f"{out}/000{n}.png (seed {4 + n})" for n in (1, 2)]  # nobody has a place
    np.testing.assert_array_equal(picture(out / "0001.png"), drawn(pipe, references))
    replayed(out / "0002.json", tmp_path / "again")
    record = record_of(out)
    assert (record["steps"], record["guidance"], record["width"], record["height"]) == (3, 1.0, 96, 64)
    assert (record["isolation"], record["text_gate"], record["routing"]) == (None, None, None)
    assert [subject["cutout"] for subject in record["subjects"]] == ["alpha", "mask"]
    assert {name.split("/")[0] for name in record["weights"]} == {"model"}


def test_the_stock_picture_without_subjects(klein, tmp_path):
    found = generated(klein.stock, tmp_path / "out", "--size", "96x64")
    assert record_of(tmp_path / "out")["steps"] == 4
    stock: Any = Flux2KleinPipeline.from_pretrained(klein.stock)
    call: Any = {"height": 64, "width": 96, "num_inference_steps": 4, "guidance_scale": 1.0}
    expected = stock(prompt=PROMPT, generator=torch.Generator().manual_seed(5), **call).images[0]
    np.testing.assert_array_equal(found, np.asarray(expected))


def test_everything_that_says_how_references_are_read(klein, two, references, pipe, tmp_path):
    given = [*two, *SMALL, "--region", "1:0,0,0.5,1", "--reference-scale", "2:0.5"]
    given += ["--isolation", "strict", "--text-gate", "padding", "--routing", "attention"]
    found = generated(klein.distilled, tmp_path / "out", *given)
    settings: dict[str, Any] = {"red": {"region": (0, 0, 0.5, 1)}, "blue": {"reference_scale": 0.5}}
    how: dict[str, Any] = {"isolation": "strict", "text_gate": "padding", "routing": AttentionRouting()}
    np.testing.assert_array_equal(found, drawn(pipe, references, **settings, **how))
    record = record_of(tmp_path / "out")
    assert (record["isolation"], record["text_gate"], record["routing"]) == ("strict", "padding", "attention")
    assert (tmp_path / "out" / "0001-routing.png").is_file()
    replayed(tmp_path / "out" / "0001.png", tmp_path / "again", "--model", klein.distilled)


def test_the_base_model_with_guidance(klein, two, references, tmp_path):
    out = tmp_path / "out"
    found = generated(klein.base, out, *two, "--size", "96x64", "--steps", 2)
    assert record_of(out)["guidance"] == 4.0
    base: Any = AnyStoryFlux2KleinPipeline.from_pretrained(klein.base)
    np.testing.assert_array_equal(found, drawn(base, references, num_inference_steps=2, guidance_scale=4.0))
    said = refused(
        tmp_path, "generate", PROMPT, "--model", klein.distilled, *SMALL, "--guidance", 3, "--out", tmp_path / "no"
    )
    assert "--guidance has no effect on this model, which is distilled" in said


def test_several_photos_of_one_subject(klein, references, tmp_path):
    photos = ["-s", f"it={references / 'red.png'}+{references / 'blue.png'}:{references / 'blue-mask.png'}"]
    out = tmp_path / "out"
    generated(klein.distilled, out, *photos, *SMALL, "--region", "it:0,0,0.5,1")
    assert len(record_of(out)["subjects"][0]["more"]) == 1
    assert (out / "0001-routing.png").is_file()
    replayed(out / "0001.json", tmp_path / "again")


def test_a_subject_into_a_part_of_a_picture(klein, references, pipe, tmp_path):
    draws = np.random.default_rng(0)
    Image.fromarray(draws.integers(0, 255, (64, 96, 3), dtype=np.uint8)).save(tmp_path / "scene.png")
    mask = np.zeros((64, 96), np.uint8)
    mask[:, 48:] = 255
    Image.fromarray(mask).save(tmp_path / "mask.png")
    given = ["-s", references / "red.png", "--image", tmp_path / "scene.png", "--steps", 3]
    out = tmp_path / "out"
    found = generated(klein.distilled, out, *given, "--mask", tmp_path / "mask.png")
    scene = picture(tmp_path / "scene.png")
    np.testing.assert_array_equal(found[:, :48], scene[:, :48])
    assert (found[:, 48:] != scene[:, 48:]).any()
    assert record_of(out)["strength"] == 1.0
    inpaint: Any = AnyStoryFlux2KleinInpaintPipeline.from_pipe(pipe)
    call: dict[str, Any] = {"image": Image.open(tmp_path / "scene.png"), "mask_image": Image.fromarray(mask)}
    call |= {"strength": 1.0, "num_inference_steps": 3, "guidance_scale": 1.0}
    expected = inpaint(
        PROMPT, subjects=[Subject(references / "red.png")], generator=torch.Generator().manual_seed(5), **call
    ).images[0]
    np.testing.assert_array_equal(found[:, 48:], np.asarray(expected)[:, 48:])
    replayed(out / "0001.json", tmp_path / "again")
    over_all = generated(klein.distilled, tmp_path / "all", *given, "--strength", 0.7)
    assert (over_all[:, :48] != scene[:, :48]).any()


def lora_weights() -> dict[str, torch.Tensor]:
    draws = torch.Generator().manual_seed(1)
    layers = ("transformer_blocks.0.attn.to_q", "transformer_blocks.1.attn.add_k_proj")
    return {
        f"transformer.{layer}.lora_{side}.weight": torch.randn((2, 32) if side == "A" else (32, 2), generator=draws)
        for layer in layers
        for side in "AB"
    }


def test_a_lora(klein, two, references, tmp_path):
    save_file(lora_weights(), tmp_path / "lora.safetensors")
    out = tmp_path / "out"
    result = generate(klein.distilled, out, *two, *SMALL, "--lora", f"{tmp_path / 'lora.safetensors'}:0.5")
    assert (result.exit_code, result.stderr) == (0, f"loading {klein.distilled} …\n"), result.output
    pipe: Any = AnyStoryFlux2KleinPipeline.from_pretrained(klein.distilled)
    before = drawn(pipe, references)
    pipe.load_lora_weights(lora_weights(), adapter_name="a")
    pipe.set_adapters(["a"], [0.5])
    found = picture(out / "0001.png")
    np.testing.assert_array_equal(found, drawn(pipe, references))
    assert (found != before).any()
    replayed(out / "0001.json", tmp_path / "again")


@pytest.mark.parametrize("way", ["model", "sequential"])
def test_offloading_draws_the_same(klein, two, references, tmp_path, monkeypatch, way):
    """Two pipelines share the weights and take the hooks from one another."""
    plain = generated(klein.distilled, tmp_path / "plain", *two, *SMALL, "--tiling")
    offload = accelerate.cpu_offload
    monkeypatch.setattr(ModelOptions, "_check_device", lambda self: None)
    monkeypatch.setattr(
        accelerate, "cpu_offload", lambda model, device, **more: offload(model, torch.device("cpu"), **more)
    )
    out = tmp_path / "out"
    found = generated(klein.distilled, out, *two, *SMALL, "--offload", way)
    np.testing.assert_allclose(found.astype(int), plain, rtol=0, atol=1)  # weights elsewhere in memory round otherwise
    assert (record_of(out)["offload"], record_of(out)["tiling"]) == (way, True)
    replayed(out / "0001.json", tmp_path / "again", "--offload", way)


def test_weights_in_eight_bits(klein, two, tmp_path):
    plain = generated(klein.distilled, tmp_path / "plain", *two, *SMALL)
    out = tmp_path / "out"
    found = generated(klein.distilled, out, *two, *SMALL, "--quantize", "fp8")
    assert 0 < np.abs(found.astype(int) - plain).mean() < 40
    replayed(out / "0001.json", tmp_path / "again")


def test_weights_by_bitsandbytes(klein, two, tmp_path, monkeypatch, bitsandbytes_on_the_cpu):
    monkeypatch.setattr(ModelOptions, "_check_bitsandbytes", lambda self: None)
    out = tmp_path / "out"
    plain = generated(klein.distilled, tmp_path / "plain", *two, *SMALL)
    found = generated(klein.distilled, out, *two, *SMALL, "--quantize", "nf4")
    assert 0 < np.abs(found.astype(int) - plain).mean() < 20
    replayed(out / "0001.json", tmp_path / "again")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--scheduler", "DDIMScheduler"], "--scheduler is for SDXL's models: FLUX.2 klein draws with its own"),
        (["--adapter", "x"], "--adapter is for other models: FLUX.2 klein draws subjects as it is"),
        (["--image-encoder", "x"], "--image-encoder is for other models"),
        (["--negative", "snow"], "--negative is not for FLUX.2 klein: say in the prompt what you want"),
        (["--background-seed", "3"], "--background-seed is for SDXL's models"),
        (["--size", "72"], "--size must be a multiple of 16 pixels, got 72: 64 or 80 would do"),
        (["--isolation", "some"], "--isolation must be one of off, on, strict, got 'some'"),
        (["--text-gate", "some"], "--text-gate must be one of none, padding, all, got 'some'"),
        (["--routing", "some"], "--routing must be one of none, attention, got 'some'"),
        (["--isolation", "strict"], "--isolation is about subjects, and there are none"),
        (["-s", "{red}", "--scale", "1:0.5"], "--scale weighs CLIP tokens, and FLUX.2 klein has none"),
    ],
)
def test_refusals_before_anything_is_loaded(klein, references, tmp_path, monkeypatch, arguments, message):
    monkeypatch.setattr("anystory.engine.backends.klein.KleinBackend.load", lambda *given: pytest.fail("it was loaded"))
    given = [argument.format(red=references / "red.png") for argument in arguments]
    said = refused(tmp_path, "generate", PROMPT, "--model", klein.distilled, "--out", tmp_path / "out", *given)
    assert message in said


@pytest.mark.parametrize("option", ["--isolation on", "--text-gate all", "--routing attention"])
def test_other_models_have_no_such_options(model, references, tmp_path, option):
    given = ["generate", "f", "--model", model, "-s", references / "red.png", "--out", tmp_path / "out"]
    assert f"{option.split()[0]} is for FLUX.2 klein" in refused(tmp_path, *given, *option.split())


def test_models_info_and_verify(klein, tmp_path):
    result = run("models", "info", klein.stock)
    assert result.exit_code == 0, result.output
    assert "FLUX.2 klein" in result.stdout
    assert "2 double and 2 single blocks, 32 wide" in result.stdout
    assert "it needs no adapter" in result.stdout
    assert run("models", "verify", klein.stock).exit_code == 0
    by_itself = run("models", "info", klein.stock / "transformer", "--json")
    assert json.loads(by_itself.stdout)["kind"] == "Flux2Transformer2DModel"
    weights = klein.stock / "transformer" / "diffusion_pytorch_model.safetensors"
    config = json.loads((klein.stock / "transformer" / "config.json").read_text())
    broken = tmp_path / "transformer"
    broken.mkdir()
    (broken / "config.json").write_text(json.dumps(config | {"num_layers": 3}))
    (broken / weights.name).write_bytes(weights.read_bytes())
    said = run("models", "verify", broken)
    assert said.exit_code == 1
    assert "transformer_blocks.2" in said.output


def test_klein_finds_nobody_in_a_picture(klein: KleinFiles, references: Path, tmp_path: Path) -> None:
    """It has no router; that is told before it is loaded."""
    picture = references / "blue.png"
    given = ["segment", picture, "-s", references / "red.png", "--model", klein.distilled, "-o", tmp_path / "out"]
    found = CliRunner().invoke(app, [str(argument) for argument in given])
    assert (found.exit_code, "which has no router" in found.stderr) == (2, True), found.output
    assert not (tmp_path / "out").exists()
