"""Fine-tunes of SDXL that predict the velocity, and files in 8 bits: read as they are meant, or refused."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import EulerDiscreteScheduler
from safetensors.torch import load_file, save_file

from anystory.pipelines.loading.parts import load_image_encoder, load_unet
from anystory.pipelines.loading.predictions import Prediction, prediction_of_file
from anystory.pipelines.loading.scaled_fp8 import dequantised
from anystory.pipelines.sdxl import AnyStoryPipeline

from .. import helpers, original_layout

FP8 = torch.float8_e4m3fn
SCALED = (
    ".attn2.to_k.weight",
    ".attn1.to_q.weight",
    ".proj_in.weight",
    "mlp.c_fc.weight",
    "fc1.weight",
    "conv1.weight",
)
"""Ends of the names of some weights in all parts."""


@pytest.fixture(scope="module")
def parts() -> dict[str, Any]:
    """SDXL as it is published: it predicts the noise."""
    return original_layout.components() | {
        "scheduler": EulerDiscreteScheduler(beta_schedule="scaled_linear", timestep_spacing="leading", steps_offset=1)
    }


@pytest.fixture(scope="module")
def base(parts, tmp_path_factory) -> Path:
    """The model as a diffusers folder."""
    return original_layout.write_folder(parts, tmp_path_factory.mktemp("sdxl"))


@pytest.fixture(scope="module")
def config(base, tmp_path_factory) -> Path:
    """Its configuration files only."""
    return original_layout.without_weights(base, tmp_path_factory.mktemp("config") / "sdxl")


@pytest.fixture(scope="module")
def weights(parts) -> dict[str, torch.Tensor]:
    return original_layout.original_weights(parts)


def settings(pipe: Any) -> tuple[Any, ...]:
    config = pipe.scheduler.config
    return config["prediction_type"], config["rescale_betas_zero_snr"], config["timestep_spacing"]


# --- what is predicted ---

MARK = torch.tensor([])
NOISE, VELOCITY = ("epsilon", False, "leading"), ("v_prediction", False, "leading")
FROM_PURE_NOISE = ("v_prediction", True, "trailing")


@pytest.mark.parametrize(
    ("keys", "metadata", "expected"),
    [
        ((), {}, NOISE),
        (("v_pred",), {}, VELOCITY),
        (("v_pred", "ztsnr"), {}, FROM_PURE_NOISE),
        ((), {"modelspec.prediction_type": "v"}, VELOCITY),
        (("ztsnr",), {"modelspec.prediction_type": "v"}, FROM_PURE_NOISE),
        ((), {"modelspec.prediction_type": "epsilon"}, NOISE),
    ],
)
def test_a_file_says_what_it_predicts(weights, config, tmp_path, keys, metadata, expected):
    path = tmp_path / "model.safetensors"
    save_file(weights | dict.fromkeys(keys, MARK), path, metadata={"format": "pt", **metadata})
    pipe = AnyStoryPipeline.from_single_file(path, config=config, add_watermarker=False)
    assert settings(pipe) == expected
    assert torch.equal(pipe.unet.conv_in.weight, weights["model.diffusion_model.input_blocks.0.0.weight"])


def marked(folder: Path, *keys: str, **metadata: str) -> Path:
    """A file with nothing but its marks."""
    path = folder / "marks.safetensors"
    save_file(
        {"model.diffusion_model.x": torch.zeros(1), **{key: MARK.clone() for key in keys}},
        path,
        metadata={name.replace("__", "."): value for name, value in metadata.items()},
    )
    return path


@pytest.mark.parametrize("spelling", ["v", "V", "v_prediction", "v-prediction", "v_pred"])
def test_spellings_of_the_velocity(tmp_path, spelling):
    path = marked(tmp_path, modelspec__prediction_type=spelling)
    assert prediction_of_file(path) == Prediction("v_prediction", None)


def test_a_prediction_that_nobody_knows_is_refused_unless_the_caller_does(tmp_path):
    path = marked(tmp_path, modelspec__prediction_type="flow")
    with pytest.raises(ValueError, match=r"predicts 'flow' .*expected epsilon or v.*--prediction-type"):
        prediction_of_file(path)
    assert prediction_of_file(path, "v_prediction") == Prediction("v_prediction", None)


@pytest.mark.parametrize("keys", [("edm_mean", "edm_std"), ("edm_vpred.sigma_max",)])
def test_other_noise_levels_are_refused(tmp_path, keys):
    with pytest.raises(ValueError, match=f"other noise levels than SDXL .it has {keys[0]}"):
        prediction_of_file(marked(tmp_path, *keys))


def test_the_file_knows_better_than_the_configuration_and_the_caller_better_than_both(weights, base, config, tmp_path):
    path = tmp_path / "model.safetensors"
    save_file(weights | {"v_pred": MARK}, path)

    def loaded(**options: Any) -> Any:
        return AnyStoryPipeline.from_single_file(path, config=config, add_watermarker=False, **options)

    assert settings(loaded(zero_snr=True)) == FROM_PURE_NOISE
    assert settings(loaded(prediction_type="epsilon")) == NOISE
    own = EulerDiscreteScheduler(prediction_type="epsilon")
    assert loaded(scheduler=own).scheduler is own
    save_file(weights, path, metadata={"modelspec.prediction_type": "epsilon"})
    velocity = shutil.copytree(config, tmp_path / "velocity")
    EulerDiscreteScheduler(prediction_type="v_prediction", rescale_betas_zero_snr=True).save_pretrained(
        velocity / "scheduler"
    )
    config = velocity
    assert settings(loaded())[:2] == ("epsilon", False)


def test_a_folder_takes_the_same_arguments(base):
    def loaded(**options: Any) -> Any:
        return AnyStoryPipeline.from_pretrained(base, add_watermarker=False, **options)

    assert settings(loaded()) == NOISE
    assert settings(loaded(prediction_type="v_prediction", zero_snr=True)) == FROM_PURE_NOISE
    with pytest.raises(ValueError, match="must be one of epsilon, v_prediction; got 'v'"):
        loaded(prediction_type="v")
    with pytest.raises(ValueError, match="cannot predict noise"):
        loaded(zero_snr=True)


# --- 8 bits ---


def in_8_bits(
    weights: dict[str, torch.Tensor], scale: str, inputs: str, *, by_output: bool = False
) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """A file with scaled weights; and what it means, computed by hand."""
    file, meaning = dict(weights), dict(weights)
    for key, value in weights.items():
        if not key.endswith(SCALED):
            continue
        flat = value.flatten(1).abs().amax(1) if by_output else value.abs().amax()
        factor = flat / 448
        spread = factor.view(-1, *[1] * (value.ndim - 1)) if by_output else factor
        file[key] = (value / spread).to(FP8)
        layer = key.removesuffix(".weight")
        file[f"{layer}{scale}"], file[f"{layer}{inputs}"] = factor, torch.tensor(0.7)
        meaning[key] = file[key].float() * spread
    return file | {"scaled_fp8": torch.zeros(2, dtype=FP8)}, meaning


LAYOUTS = {
    "ComfyUI's first": {"scale": ".scale_weight", "inputs": ".scale_input"},
    "today's": {"scale": ".weight_scale", "inputs": ".input_scale"},
    "by output": {"scale": ".weight_scale", "inputs": ".input_scale", "by_output": True},
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_single_file_in_8_bits(weights, config, parts, tmp_path, layout):
    file, meaning = in_8_bits(weights, **LAYOUTS[layout])
    save_file(file, tmp_path / "fp8.safetensors")
    save_file(meaning, tmp_path / "meant.safetensors")
    found, meant = (
        AnyStoryPipeline.from_single_file(tmp_path / name, config=config, add_watermarker=False)
        for name in ("fp8.safetensors", "meant.safetensors")
    )
    for name in ("unet", "vae", "text_encoder", "text_encoder_2"):
        expected = getattr(meant, name).state_dict()
        state = getattr(found, name).state_dict()
        assert state.keys() == expected.keys()
        assert all(torch.equal(state[key], value) for key, value in expected.items()), name
        assert any(not torch.equal(value, parts[name].state_dict()[key]) for key, value in expected.items()), name


def test_the_unet_of_a_file_in_8_bits_by_itself(weights, config, tmp_path):
    file, meaning = in_8_bits(weights, ".scale_weight", ".scale_input")
    save_file(file, tmp_path / "fp8.safetensors")
    unet: Any = load_unet(tmp_path / "fp8.safetensors", dtype=torch.float32, config=config)
    key = "input_blocks.3.1.transformer_blocks.0.attn2.to_k.weight"
    found = unet.down_blocks[1].attentions[0].transformer_blocks[0].attn2.to_k.weight
    assert torch.equal(found, meaning[f"model.diffusion_model.{key}"])


def test_a_folder_in_8_bits(base, parts, tmp_path):
    folder = shutil.copytree(base, tmp_path / "fp8")
    meant = {}
    for name in ("unet", "text_encoder_2"):
        (path,) = (folder / name).glob("*.safetensors")
        file, meant[name] = in_8_bits(load_file(path), ".weight_scale", ".input_scale")
        save_file(file, path, metadata={"format": "pt"})
    pipe = AnyStoryPipeline.from_pretrained(folder, add_watermarker=False)
    for name, expected in meant.items():
        state = {key.removeprefix("text_model."): value for key, value in getattr(pipe, name).state_dict().items()}
        for key, value in expected.items():
            assert torch.equal(state[key.removeprefix("text_model.")], value), (name, key)
    unet = load_unet(folder, dtype=torch.bfloat16)
    assert all(torch.equal(unet.state_dict()[key], value.bfloat16()) for key, value in meant["unet"].items())
    assert AnyStoryPipeline.from_pretrained(folder, unet=parts["unet"], add_watermarker=False).unet is parts["unet"]


def test_an_image_encoder_in_8_bits(tmp_path):
    helpers.image_encoder().save_pretrained(tmp_path)
    (path,) = tmp_path.glob("*.safetensors")
    file, meant = in_8_bits(load_file(path), ".weight_scale", ".input_scale")
    save_file(file, path, metadata={"format": "pt"})
    state = load_image_encoder(tmp_path, dtype=torch.float32).state_dict()
    assert all(torch.equal(state[key], value) for key, value in meant.items())


def test_8_bits_without_scales_are_the_weights(weights, config, tmp_path):
    file = {key: value.to(FP8) if key.endswith(SCALED) else value for key, value in weights.items()}
    save_file(file | {"scaled_fp8": torch.zeros(0, dtype=FP8)}, tmp_path / "fp8.safetensors")
    pipe = AnyStoryPipeline.from_single_file(tmp_path / "fp8.safetensors", config=config, add_watermarker=False)
    key = "model.diffusion_model.input_blocks.3.1.transformer_blocks.0.attn2.to_k.weight"
    found = pipe.unet.down_blocks[1].attentions[0].transformer_blocks[0].attn2.to_k.weight
    assert torch.equal(found, file[key].float())


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        ({"a.weight": torch.zeros(4, 2, dtype=torch.int8), "a.weight_scale": torch.ones(4)}, "for int8 .4, 2."),
        ({"a.weight": torch.zeros(4, 4).to(FP8), "a.weight_scale": torch.ones(2, 2)}, r"a.weight_scale .2, 2. for"),
        ({"a.weight_scale": torch.ones(1)}, "has a.weight_scale but no a.weight"),
        (
            {
                "a.weight": torch.zeros(4, 2, dtype=torch.uint8),
                "a.weight_scale": torch.ones(4),
                "a.weight_scale_2": torch.ones(1),
            },
            r"quantised in a way that is not read here .a.weight_scale_2.",
        ),
        ({"a.weight": torch.zeros(8, 1, dtype=torch.uint8), "a.weight.absmax": torch.ones(1)}, "a.weight.absmax"),
    ],
)
def test_what_is_quantised_otherwise_is_refused(extra, message, weights, config, tmp_path):
    with pytest.raises(ValueError, match=message):
        dequantised(extra, "model.safetensors")
    path = tmp_path / "model.safetensors"
    save_file(weights | {f"model.diffusion_model.{key}": value for key, value in extra.items()}, path)
    with pytest.raises(ValueError, match=r"model.safetensors (is quantised|has model)"):
        AnyStoryPipeline.from_single_file(path, config=config, add_watermarker=False)


def test_a_folder_whose_scaled_weights_have_other_names_is_refused(base, tmp_path):
    folder = shutil.copytree(base, tmp_path / "fp8")
    (path,) = (folder / "unet").glob("*.safetensors")
    file, _ = in_8_bits(load_file(path), ".weight_scale", ".input_scale")
    file["other.weight"], file["other.weight_scale"] = torch.zeros(2, 2).to(FP8), torch.ones(1)
    save_file(file, path, metadata={"format": "pt"})
    with pytest.raises(ValueError, match="under names that UNet2DConditionModel does not have"):
        AnyStoryPipeline.from_pretrained(folder, add_watermarker=False)


# --- files in the hub ---


def test_a_file_of_the_hub_is_read_like_one_that_is_here(weights, config, tmp_path):
    repo = tmp_path / "cache" / "models--owner--name"
    (repo / "refs").mkdir(parents=True)
    (repo / "refs" / "main").write_text("0" * 40)
    snapshot = repo / "snapshots" / ("0" * 40)
    snapshot.mkdir(parents=True)
    save_file(weights | {"v_pred": MARK}, snapshot / "model.safetensors")
    options: dict[str, Any] = {"config": config, "cache_dir": tmp_path / "cache", "local_files_only": True}
    address = "https://huggingface.co/owner/name/blob/main/"
    pipe = AnyStoryPipeline.from_single_file(f"{address}model.safetensors", add_watermarker=False, **options)
    assert settings(pipe) == VELOCITY
    with pytest.raises(ValueError, match=r"other.safetensors is not cached here, and the hub did not give it"):
        AnyStoryPipeline.from_single_file(f"{address}other.safetensors", **options)
    with pytest.raises(ValueError, match="expected https://huggingface.co/OWNER/NAME/blob/main/FILE.safetensors"):
        AnyStoryPipeline.from_single_file("https://example.org/model.safetensors", **options)
