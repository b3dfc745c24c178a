"""`anystory generate` and `replay`: which model draws, with which scheduler and LoRAs, offloaded or not."""

from __future__ import annotations

import json
import shutil
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import accelerate
import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from anystory import AnyStoryImg2ImgPipeline, AnyStoryInpaintPipeline, AnyStoryPipeline, Subject
from anystory.cli.flags.model import parse_loras
from anystory.engine.backends.schedulers import check_scheduler, scheduler_names
from anystory.engine.backends.sdxl_model import SdxlModel
from anystory.engine.cancelling import Cancelled, CancelToken
from anystory.engine.drawing import draw
from anystory.engine.job import Job, SubjectFiles
from anystory.engine.options import ModelOptions
from anystory.engine.record.schema import LoraRecord
from anystory.files import sha256_file
from anystory.pipelines.schedulers import rescheduled
from anystory.pipelines.unet.offload import OffloadMixin
from pipelines.helpers import unet

from .test_generate import generate, run


def picture(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path))


def record_of(out: Path) -> dict[str, Any]:
    return json.loads((out / "0001.json").read_text())


def generated(model: Path, out: Path, *arguments: Any) -> np.ndarray:
    """What a command draws."""
    result = generate(model, out, *arguments)
    assert result.exit_code == 0, result.output
    return picture(out / "0001.png")


def drawn(pipe: Any, references: Path, **arguments: Any) -> np.ndarray:
    """What a pipeline draws of `red.png` with the seed of `generate`."""
    pipe.set_progress_bar_config(disable=True)
    given = {"subjects": [Subject(references / "red.png")], "generator": torch.Generator().manual_seed(5)} | arguments
    return np.asarray(pipe("f r", **given).images[0])


def replayed(record: Path, out: Path, *arguments: Any) -> str:
    """What a replay says; it has to be the same picture."""
    result = run("replay", "--trust-paths", record, "--out", out, *arguments)
    assert result.exit_code == 0, result.output
    assert "the same picture, byte for byte" in result.stdout
    return result.stdout


# --- what nobody says ---


def test_an_adapter_for_sdxl_draws_with_the_papers_numbers(files, adapter, references, tmp_path):
    """What `anystory adapter init` has made, on a base whose own pipeline would take 50 steps and guidance 5."""
    given = ["--adapter", adapter, "--image-encoder", files.image_encoder, "--no-sheet"]
    fox = ["-s", references / "red.png"]
    for out, said, expected in (
        ("nothing", [*fox], (25, 7.5)),
        ("own", [*fox, "--steps", 2, "--guidance", 3], (2, 3.0)),
        ("stock", ["--steps", 2], (2, 5.0)),
    ):
        generated(files.base, tmp_path / out, *given, *said)
        record = record_of(tmp_path / out)
        assert (record["steps"], record["guidance"]) == expected


# --- models in other forms ---


def assert_alike(found: np.ndarray, expected: np.ndarray) -> None:
    """The same weights, read from one file and from many: they lie otherwise in memory, and products are summed up in
    another order."""
    difference = np.abs(found.astype(int) - expected)
    assert difference.max() <= 1
    assert (difference > 0).mean() < 0.01


def test_a_variant(files, adapter, references, tmp_path):
    """A folder with nothing but the variant: without its name there are no weights."""
    base = tmp_path / "base"
    shutil.copytree(files.base, base)
    for path in base.rglob("*.safetensors"):
        if ".fp16." not in path.name:
            path.unlink()
    given = ["--adapter", adapter, "--image-encoder", files.image_encoder, "-s", references / "red.png", "--steps", 2]
    assert generate(base, tmp_path / "none", *given).exit_code == 2
    out = tmp_path / "out"
    found = generated(base, out, *given, "--variant", "fp16")
    pipe = AnyStoryPipeline.from_pretrained(
        files.base, adapter=adapter, image_encoder=files.image_encoder, variant="fp16", add_watermarker=False
    )
    np.testing.assert_array_equal(found, drawn(pipe, references, num_inference_steps=2))
    assert record_of(out)["variant"] == "fp16"
    replayed(out / "0001.json", tmp_path / "again")


def test_a_single_file_draws_what_its_folder_draws_and_is_replayed_where_it_went(files, adapter, references, tmp_path):
    given = ["--adapter", adapter, "--image-encoder", files.image_encoder, "-s", references / "red.png", "--steps", 2]
    one, out = tmp_path / "one.safetensors", tmp_path / "out"
    shutil.copy(files.single, one)
    expected = generated(files.base, tmp_path / "folder", *given)
    assert_alike(generated(one, out, *given, "--config", files.config), expected)
    record = record_of(out)
    assert (record["model"], record["config"]) == (str(one), str(files.config))
    assert record["image_encoder"] == str(files.image_encoder)
    assert record["weights"]["model.safetensors"] == sha256_file(one)
    parts = {name.split("/")[0] for name in record["weights"]}
    assert parts == {"model.safetensors", "adapter", "config", "image_encoder"}
    replayed(out / "0001.json", tmp_path / "again")

    moved = one.rename(tmp_path / "moved.safetensors")
    gone = run("replay", "--trust-paths", out / "0001.json", "--out", tmp_path / "gone")
    assert gone.exit_code == 2
    assert f"{one}: No such file" in gone.stderr
    replayed(out / "0001.json", tmp_path / "there", "--model", moved)


def test_what_the_model_predicts_is_given_or_read_off_the_file_and_replayed(files, adapter, references, tmp_path):
    given = ["--adapter", adapter, "--image-encoder", files.image_encoder, "-s", references / "red.png", "--steps", 2]
    parts: dict[str, Any] = {"adapter": adapter, "image_encoder": files.image_encoder, "add_watermarker": False}

    def expected(**options: Any) -> np.ndarray:
        pipe = AnyStoryPipeline.from_pretrained(files.base, **options, **parts)
        return drawn(pipe, references, num_inference_steps=2)

    out = tmp_path / "noise"
    found = generated(files.base, out, *given, "--prediction-type", "epsilon")
    np.testing.assert_array_equal(found, expected(prediction_type="epsilon"))
    assert (record_of(out)["prediction_type"], record_of(out)["zero_snr"]) == ("epsilon", None)
    replayed(out / "0001.json", tmp_path / "again")

    one, out = tmp_path / "one.safetensors", tmp_path / "marked"
    save_file(load_file(files.single) | {"v_pred": torch.ones(1), "ztsnr": torch.ones(1)}, one)
    marked = generated(one, out, *given, "--config", files.config)
    assert_alike(marked, expected(zero_snr=True))
    assert np.abs(marked.astype(int) - found).max() > 8
    assert (record_of(out)["prediction_type"], record_of(out)["zero_snr"]) == (None, None)
    away = generated(one, tmp_path / "away", *given, "--config", files.config, "--no-zero-snr")
    assert (away != marked).any()
    assert record_of(tmp_path / "away")["zero_snr"] is False


def test_the_fetched_image_encoder_is_hashed_too(files, adapter, references, tmp_path, monkeypatch):
    for place in ("pipelines.loading.parts", "pipelines.loading.from_pretrained", "engine.backends.sdxl_model"):
        monkeypatch.setattr(f"anystory.{place}.SDXL_IMAGE_ENCODER", str(files.image_encoder))
    generated(files.base, tmp_path / "out", "--adapter", adapter, "-s", references / "red.png", "--steps", 1)
    record = record_of(tmp_path / "out")
    assert record["image_encoder"] is None
    digest = sha256_file(files.image_encoder / "model.safetensors")
    assert record["weights"]["image_encoder/model.safetensors"] == digest


def test_a_record_from_before_these_options_is_replayed(model, references, tmp_path):
    out = tmp_path / "out"
    generated(model, out, "-s", references / "red.png")
    record = record_of(out)
    for name in ("config", "image_encoder", "variant", "scheduler", "karras", "loras", "offload", "tiling"):
        del record[name]
    (out / "0001.json").write_text(json.dumps(record))
    replayed(out / "0001.json", tmp_path / "again")


# --- offloading ---


@pytest.fixture
def offloaded(monkeypatch) -> list[tuple[str, str]]:
    """Lets the CPU be the device to which weights come; which pipeline's weights, and how, is noted."""
    seen: list[tuple[str, str]] = []
    offload = accelerate.cpu_offload
    monkeypatch.setattr(ModelOptions, "_check_device", lambda self: None)
    # diffusers numbers its device; accelerate takes "cpu:0" for another one than "cpu" and fails on the difference.
    monkeypatch.setattr(
        accelerate, "cpu_offload", lambda model, device, **more: offload(model, torch.device("cpu"), **more)
    )
    for way in ("model", "sequential"):
        name = f"enable_{way}_cpu_offload"
        ours = getattr(OffloadMixin, name)

        def enabled(self, *args, enable=ours, way=way, **kwargs):
            if seen[-1:] != [(way, type(self).__name__)]:  # diffusers enables it anew after each call
                seen.append((way, type(self).__name__))
            enable(self, *args, **kwargs)

        monkeypatch.setattr(OffloadMixin, name, enabled)
    return seen


@pytest.mark.parametrize("way", ["model", "sequential"])
@pytest.mark.parametrize(
    ("given", "kind"),
    [
        ([], AnyStoryPipeline),
        (["--image", "blue.png"], AnyStoryImg2ImgPipeline),
        (["--image", "blue.png", "--mask", "blue-mask.png"], AnyStoryInpaintPipeline),
    ],
)
def test_offloading_draws_the_same(model, references, tmp_path, monkeypatch, offloaded, way, given, kind):
    monkeypatch.chdir(references)
    given = ["-s", "red.png", *given]
    plain = generated(model, tmp_path / "plain", *given)
    assert not offloaded
    out = tmp_path / "out"
    np.testing.assert_array_equal(generated(model, out, *given, "--offload", way), plain)
    assert offloaded == [(way, kind.__name__)]
    assert record_of(out)["offload"] == way
    offloaded.clear()
    replayed(out / "0001.json", tmp_path / "plainly")  # on the CPU there is nothing to offload
    assert not offloaded
    replayed(out / "0001.json", tmp_path / "again", "--offload", way)
    assert offloaded == [(way, kind.__name__)]


@pytest.mark.parametrize("way", ["model", "sequential"])
def test_a_model_goes_from_one_pipeline_to_another(model, references, offloaded, way):
    """Hooks belong to a pipeline, weights to all: each job finds the hooks of its own."""
    loaded = SdxlModel(ModelOptions(model=str(model), offload=way))
    red = SubjectFiles(image=references / "red.png")
    text, over = Job(prompt="f", subjects=(red,)), Job(prompt="f", subjects=(red,), image=references / "blue.png")

    def draw_once(job: Job) -> np.ndarray:
        [drawn] = draw(loaded, job, [5])
        return np.asarray(drawn.image)

    first = draw_once(text)
    draw_once(over)
    np.testing.assert_array_equal(draw_once(text), first)
    draw_once(text)
    names = ["AnyStoryPipeline", "AnyStoryImg2ImgPipeline", "AnyStoryPipeline"]
    assert offloaded == [(way, name) for name in names]


@pytest.mark.parametrize("way", ["model", "sequential"])
def test_a_cancelled_job_leaves_an_offloaded_model_usable(model, references, offloaded, way):
    loaded = SdxlModel(ModelOptions(model=str(model), offload=way))
    job = Job(prompt="f", subjects=(SubjectFiles(image=references / "red.png"),))
    [expected] = draw(loaded, job, [5])
    token = CancelToken()
    with pytest.raises(Cancelled):
        list(draw(loaded, job, [5], on_step=lambda step: token.cancel(), cancel=token, previews=1))
    [again] = draw(loaded, job, [5])
    np.testing.assert_array_equal(np.asarray(again.image), np.asarray(expected.image))


def test_the_vae_tiles_when_offloading_or_asked_to(files, model, offloaded):
    def vae(**options: Any) -> tuple[Any, bool | None]:
        loaded = SdxlModel(ModelOptions(model=str(files.base), **options))
        return loaded.pipe.vae, loaded.options.tiling

    given: list[tuple[dict[str, Any], bool]] = [
        ({}, False),
        ({"tiling": True}, True),
        ({"offload": "model"}, True),
        ({"offload": "model", "tiling": False}, False),
    ]
    for options, tiles in given:
        found, recorded = vae(**options)
        assert (found.use_tiling, found.use_slicing, recorded) == (tiles,) * 3
    assert SdxlModel(ModelOptions(model=str(model), offload="model")).options.tiling is False  # its VAE cannot


# --- schedulers ---


def test_a_scheduler_with_the_settings_of_the_models_own(model, references, tmp_path):
    from diffusers import DPMSolverMultistepScheduler

    out = tmp_path / "out"
    given = ["-s", references / "red.png"]
    found = generated(model, out, *given, "--scheduler", "DPMSolverMultistepScheduler")
    pipe = AnyStoryPipeline.from_pretrained(model, add_watermarker=False)
    own = pipe.scheduler.config
    other: Any = DPMSolverMultistepScheduler.from_config(own)
    pipe.scheduler = other
    assert other.config["prediction_type"] == own["prediction_type"] == "v_prediction"
    np.testing.assert_array_equal(found, drawn(pipe, references))
    assert (found != generated(model, tmp_path / "plain", *given)).any()
    assert (record_of(out)["scheduler"], record_of(out)["karras"]) == ("DPMSolverMultistepScheduler", None)
    replayed(out / "0001.json", tmp_path / "again")


def test_karras_for_the_models_own_scheduler(model, references, tmp_path):
    given = ["-s", references / "red.png"]
    plain = generated(model, tmp_path / "plain", *given)
    assert (generated(model, tmp_path / "karras", *given, "--karras") != plain).any()
    np.testing.assert_array_equal(generated(model, tmp_path / "without", *given, "--no-karras"), plain)


def test_karras_noise_levels_that_a_class_cannot_find_are_refused(model, tmp_path):
    result = generate(model, tmp_path / "out", "--scheduler", "DPMSolverMultistepScheduler", "--karras")
    assert result.exit_code == 2
    assert "DPMSolverMultistepScheduler cannot have Karras' noise levels with this model" in result.stderr
    result = generate(model, tmp_path / "out", "--scheduler", "HeunDiscreteScheduler")
    assert result.exit_code == 2
    assert "HeunDiscreteScheduler cannot take the first step from pure noise" in result.stderr


def test_every_scheduler_draws(model):
    names = scheduler_names()
    assert {"EulerDiscreteScheduler", "UniPCMultistepScheduler", "LCMScheduler", "TCDScheduler"} <= set(names)
    pipe = SdxlModel(ModelOptions(model=str(model))).pipe
    own = pipe.scheduler
    for name in names:
        if name == "LMSDiscreteScheduler" and find_spec("scipy") is None:
            with pytest.raises(ValueError, match="LMSDiscreteScheduler needs scipy: pip install scipy"):
                check_scheduler(name)
            continue
        check_scheduler(name)
        if name == "KDPM2AncestralDiscreteScheduler":
            with pytest.raises(ValueError, match="cannot take the first step from pure noise"):
                rescheduled(own, name)
            continue
        pipe.scheduler = rescheduled(own, name, True if name == "HeunDiscreteScheduler" else None)
        assert type(pipe.scheduler).__name__ == name
        assert np.isfinite(pipe("f", num_inference_steps=4, output_type="np").images).all()


# --- LoRAs ---


@pytest.fixture(scope="module")
def loras(model, tmp_path_factory) -> list[Path]:
    """Two LoRAs for the tiny model, random weights."""
    peft = pytest.importorskip("peft")
    from diffusers import StableDiffusionXLPipeline
    from diffusers.utils import convert_state_dict_to_diffusers

    found = []
    for seed in (1, 2):
        folder = tmp_path_factory.mktemp("loras")
        net = unet(32, 8)
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            net.add_adapter(
                peft.LoraConfig(r=2, lora_alpha=2, target_modules=["to_q", "to_v"], init_lora_weights=False)
            )
        layers = convert_state_dict_to_diffusers(peft.get_peft_model_state_dict(net))
        StableDiffusionXLPipeline.save_lora_weights(folder, unet_lora_layers=layers, weight_name=f"{seed}.safetensors")
        found.append(folder / f"{seed}.safetensors")
    return found


def test_loras_act_together_each_with_its_scale(model, references, loras, tmp_path):
    one, two = (Path(shutil.copy(path, tmp_path)) for path in loras)
    out = tmp_path / "out"
    given = ["-s", references / "red.png", "--lora", f"{one}:0.5", "--lora", two]
    result = generate(model, out, *given)
    assert (result.exit_code, result.stderr) == (0, f"loading {model} …\n")
    found = picture(out / "0001.png")
    pipe = AnyStoryPipeline.from_pretrained(model, add_watermarker=False)
    assert (found != drawn(pipe, references)).any()
    pipe.load_lora_weights(str(loras[0].parent), weight_name=loras[0].name, adapter_name="a")
    pipe.load_lora_weights(str(loras[1].parent), weight_name=loras[1].name, adapter_name="b")
    pipe.set_adapters(["a", "b"], [0.5, 1.0])
    np.testing.assert_array_equal(found, drawn(pipe, references))
    record = record_of(out)
    assert record["loras"] == [{"file": str(one), "scale": 0.5}, {"file": str(two), "scale": 1.0}]
    assert record["weights"]["lora-1.safetensors"] == sha256_file(one)
    replayed(out / "0001.json", tmp_path / "again")

    one.unlink()
    gone = run("replay", "--trust-paths", out / "0001.json", "--out", tmp_path / "gone")
    assert (gone.exit_code, "No such LoRA" in gone.stderr) == (2, True)
    replayed(out / "0001.json", tmp_path / "there", "--lora", loras[0], "--lora", two)
    few = run("replay", "--trust-paths", out / "0001.json", "--out", tmp_path / "gone", "--lora", two)
    assert "--lora is given 1 times, but the picture has 2 LoRAs" in few.stderr
    other = run("replay", "--trust-paths", out / "0001.json", "--out", tmp_path / "other", "--lora", two, "--lora", two)
    assert other.exit_code == 1
    assert f"lora-1.safetensors: {sha256_file(loras[0])} then, {sha256_file(two)} now" in other.stdout


def test_what_of_a_lora_does_not_fit_is_told(model, references, loras, tmp_path):
    weights = load_file(loras[0])
    layers = len({name.split(".lora")[0] for name in weights})
    for name in ("unet.down_blocks.7.attentions.0.to_q", "text_encoder.text_model.encoder.layers.0.self_attn.q_proj"):
        weights |= {f"{name}.lora_A.weight": torch.zeros(2, 32), f"{name}.lora_B.weight": torch.zeros(32, 2)}
    part = tmp_path / "part.safetensors"
    save_file(weights, part)
    with pytest.warns(UserWarning, match="were left out") as said:
        generated(model, tmp_path / "out", "-s", references / "red.png", "--lora", part)
    [line] = [str(one.message) for one in said if one.category is UserWarning]
    assert line.startswith(f"the LoRA {part}: 2 of its {layers + 2} layers are not in this model and were left out: ")
    text = "text_encoder.text_model.encoder.layers.0.self_attn.q_proj"
    assert line.endswith(f"{text}, unet.down_blocks.7.attentions.0.to_q")


def test_the_magnitudes_of_a_dora_are_told(model, references, loras, tmp_path):
    weights = load_file(loras[0])
    name = next(name for name in weights if "lora_A" in name or "lora.down" in name)
    weights[f"{name.split('.lora')[0]}.dora_scale"] = torch.ones(1)
    save_file(weights, tmp_path / "dora.safetensors")
    with pytest.warns(UserWarning, match="named dora_scale .* were left out"):
        generated(model, tmp_path / "out", "-s", references / "red.png", "--lora", tmp_path / "dora.safetensors")


def test_a_lora_and_offloading(model, references, loras, tmp_path, offloaded):
    given = ["-s", references / "red.png", "--lora", loras[0]]
    plain = generated(model, tmp_path / "plain", *given)
    for way in ("model", "sequential"):
        np.testing.assert_array_equal(generated(model, tmp_path / way, *given, "--offload", way), plain)


def test_where_a_scale_begins(tmp_path):
    odd = tmp_path / "a:0.5"
    odd.touch()
    assert parse_loras(["x.safetensors", "x.safetensors:0.5", "x.safetensors:-1", str(odd), f"{odd}:2"]) == (
        LoraRecord(file="x.safetensors"),
        LoraRecord(file="x.safetensors", scale=0.5),
        LoraRecord(file="x.safetensors", scale=-1.0),
        LoraRecord(file=str(odd)),
        LoraRecord(file=str(odd), scale=2.0),
    )


# --- refusals, all before anything is written ---


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--offload", "half"], "--offload must be one of none, model, sequential, got 'half'"),
        (["--offload", "model"], "but the device is cpu, where all of them are anyway"),
        (["--tiling"], "this model's autoencoder (PatchAutoencoder) cannot work in tiles"),
        (["--config", "{config}"], "--config is for a single .safetensors file"),
        (["--model", "{single}", "--variant", "fp16"], "chooses among a folder's files, but"),
        (["--model", "nowhere.safetensors"], "nowhere.safetensors: No such file"),
        (["--model", "{red}"], "single files must be .safetensors"),
        (["--model", "{lora}"], "is a LoRA, which cannot be drawn with here: expected SDXL or a fine-tune of it"),
        (["--model", "{single}"], "pass config=FOLDER"),
        (["--model", "{single}", "--config", "{config}", "-s", "{red}"], "need an adapter, and none is loaded"),
        (["--model", "{base}", "-s", "{red}"], "need an adapter, and none is loaded"),
        (["--prediction-type", "v"], "--prediction-type must be epsilon or v_prediction, got 'v'"),
        (["--prediction-type", "epsilon"], "cannot predict noise"),
        (["--scheduler", "Euler"], "--scheduler must be one of DDIMScheduler, DDPMScheduler,"),
        (["--scheduler", "DDIMScheduler", "--karras"], "DDIMScheduler has no such noise levels; these have: DEIS"),
        (["--lora", "nowhere.safetensors"], "nowhere.safetensors: No such LoRA"),
        (["--lora", "{red}"], "LoRAs must be .safetensors files; pickles are not loaded"),
        (["--lora", "{lora}:nan"], "--lora must be PATH or PATH:SCALE with a finite scale"),
        (["--lora", "{single}"], "does not fit this model"),
        (["--lora", "{other}"], "does not fit this model: it changes none of its layers"),
        (["--model", "{base}", "--lora", "{lora}"], "does not fit this model"),
    ],
)  # fmt: skip
def test_refusals(model, files, references, loras, tmp_path, monkeypatch, arguments, message):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    other = tmp_path / "other.safetensors"
    save_file(
        {"transformer.x.lora_A.weight": torch.zeros(2, 2), "transformer.x.lora_B.weight": torch.zeros(2, 2)}, other
    )
    places = {
        "red": references / "red.png",
        "single": files.single,
        "config": files.config,
        "base": files.base,
        "lora": loras[0],
        "other": other,
    }
    result = generate(model, tmp_path / "out", *(argument.format(**places) for argument in arguments))
    assert result.exit_code == 2, result.output
    assert result.stderr.splitlines()[-1].startswith("anystory: ")
    assert message in result.stderr
    assert "Traceback" not in result.output
    assert not (tmp_path / "out").exists()


def test_loras_need_an_extra(model, loras, tmp_path, monkeypatch):
    monkeypatch.setattr("diffusers.utils.is_peft_available", lambda: False)
    result = generate(model, tmp_path / "out", "--lora", loras[0])
    assert result.exit_code == 2
    assert "--lora needs an extra: pip install 'anystory[lora]'" in result.stderr
