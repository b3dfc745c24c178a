"""FLUX.1 with subjects: the stock picture without, everything a call can be asked, and what it refuses."""

from __future__ import annotations

import inspect
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import FluxPipeline, FluxTransformer2DModel
from safetensors.torch import load_file, save_file
from torch import Tensor

from anystory.models.flux_adapter import FluxSubjectAdapter
from anystory.pipelines.flux import AnyStoryFluxPipeline
from anystory.pipelines.flux.loading import load_flux_adapter
from anystory.pipelines.loading.assets import resolve_model
from anystory.subjects import Subject

from .tiny import CALL, FOX, PROMPT, ROBOT, build_pipeline, draw, pipeline, subject


def stock(**arguments: Any) -> Tensor:
    """diffusers' own picture by the same components."""
    parts = {k: v for k, v in pipeline().components.items() if k != "adapter"}
    pipe = FluxPipeline(**parts)
    pipe.set_progress_bar_config(disable=True)
    return draw(pipe, **arguments).images


@pytest.mark.parametrize("nobody", [None, []])
def test_without_subjects_it_is_the_stock_pipeline(nobody: Any) -> None:
    found = draw(subjects=nobody)
    assert torch.equal(found.images, stock())
    assert found.routing is None


def test_the_call_shows_all_arguments() -> None:
    shown = inspect.signature(AnyStoryFluxPipeline.__call__).parameters
    assert {"prompt", "height", "true_cfg_scale", "subjects", "use_router", "appearance_window"} <= shown.keys()
    theirs = inspect.signature(FluxPipeline.__call__).parameters
    assert all(shown[name].default == parameter.default for name, parameter in theirs.items())


def test_two_subjects_are_drawn_and_routed() -> None:
    found = draw(subjects=[FOX, ROBOT])
    assert (found.images - stock()).abs().mean() > 1e-3
    assert found.routing.steps == tuple(range(1, 8))  # from 0.09 of 8 steps on
    assert len(found.routing.layers) == 4
    fox, robot = found.routing.masks()
    assert fox.shape == (64, 96)
    assert (fox ^ robot).all()  # without a background slot every pixel is somebody's
    assert found.routing.maps(slot="robot").shape == (4, 6)


def test_the_plain_form_draws_the_same() -> None:
    for arguments in ({}, {"use_router": False}, {"use_masks": False, "reference_shift": 0.5}):
        fast, plain = (draw(subjects=[FOX, ROBOT], fast=fast, **arguments).images for fast in (True, False))
        torch.testing.assert_close(fast, plain, rtol=0, atol=1e-5)


def test_each_setting_changes_the_picture() -> None:
    of_the_call = (
        {},
        {"use_router": False},
        {"appearance_scale": 0.3},
        {"appearance_window": (0.1, 0.8)},
        {"reference_window": (0.5, 1.0)},
        {"reference_shift": 1.0},
        {"use_masks": False},
    )
    of_a_subject: tuple[dict[str, Any], ...] = (
        {"scale": 0.2},
        {"scale_end": 0.1},
        {"reference_scale": 0.2},
        {"reference_start": 0.5},
        {"region": (0.5, 0.0, 1.0, 1.0)},
    )
    calls = [{"subjects": [FOX, ROBOT], **arguments} for arguments in of_the_call]
    calls += [{"subjects": [FOX, subject((30, 60, 200), **settings)]} for settings in of_a_subject]
    pictures = [draw(**call, output_type="latent").images for call in calls]
    for i, one in enumerate(pictures):
        for j, other in enumerate(pictures[:i]):
            assert (one - other).abs().max() > 1e-4, (calls[i], calls[j])


def test_a_region_overrules_the_router() -> None:
    left = Subject(FOX.image, name="fox", region=(0.0, 0.0, 0.5, 1.0))
    right = Subject(ROBOT.image, name="robot", region=(0.5, 0.0, 1.0, 0.5))
    fox, robot, nobody = draw(subjects=[left, right]).routing.maps()
    assert fox.astype(bool).tolist() == [[True] * 3 + [False] * 3] * 4
    assert robot.astype(bool).tolist() == [[False] * 3 + [True] * 3] * 2 + [[False] * 6] * 2
    assert np.array_equal(fox + robot + nobody, np.ones((4, 6)))


def test_scales_of_zero_at_all_times_are_the_stock_picture() -> None:
    nobody = [subject((9, 9, 9), scale=0.0, reference_scale=0.0), subject((90, 9, 9), scale_end=0.0, reference_end=0.0)]
    assert torch.equal(draw(subjects=nobody).images, stock())


def test_pictures_of_a_batch_are_those_drawn_alone() -> None:
    prompts = [PROMPT, "a fox in snow"]
    seeds = [torch.Generator().manual_seed(seed) for seed in range(4)]
    rows = [[FOX, ROBOT], [FOX]]
    together = pipeline()(prompts, subjects=rows, num_images_per_prompt=2, generator=seeds, **CALL)
    for i in range(4):
        alone = draw(prompt=prompts[i // 2], subjects=rows[i // 2], seed=i, reference_window=(0.09, 1.0))
        torch.testing.assert_close(together.images[i], alone.images[0], rtol=0, atol=1e-5)


def test_encodings_take_the_subjects_places() -> None:
    fox, robot = pipeline().encode_subjects([FOX, ROBOT])
    assert torch.equal(draw(subjects=[fox, robot]).images, draw(subjects=[FOX, ROBOT]).images)
    weaker = draw(subjects=[fox, robot.replace(reference_scale=0.2)]).images
    assert torch.equal(weaker, draw(subjects=[FOX, subject((30, 60, 200), name="robot", reference_scale=0.2)]).images)
    with pytest.raises(ValueError, match="encode a new Subject"):
        fox.replace(image=ROBOT.image)


def test_a_negative_prompt_is_drawn_without_subjects() -> None:
    """Its calls are those of the stock pipeline: with a scale near 1 the two pictures meet."""
    guided = draw(subjects=[FOX], negative_prompt="a robot", true_cfg_scale=3.0).images
    barely = draw(subjects=[FOX], negative_prompt="a robot", true_cfg_scale=1.0 + 1e-6).images
    plain = draw(subjects=[FOX]).images
    torch.testing.assert_close(barely, plain, rtol=0, atol=1e-3)
    assert (guided - plain).abs().max() > 1e-3
    assert torch.equal(
        draw(
            subjects=[subject((9, 9, 9), scale=0.0, reference_scale=0.0)], negative_prompt="snow", true_cfg_scale=2.0
        ).images,
        stock(negative_prompt="snow", true_cfg_scale=2.0),
    )


def test_recorded_steps_and_the_callers_callback() -> None:
    seen: list[int] = []

    def callback(pipe: Any, step: int, timestep: Any, tensors: dict[str, Any]) -> dict[str, Any]:
        seen.append(step)
        return {"latents": tensors["latents"] * (0 if step == 7 else 1)}

    found = draw(subjects=[FOX, ROBOT], record_routing=[2, 5], callback_on_step_end=callback)
    assert found.routing.steps == (2, 5)
    assert seen == list(range(8))
    assert torch.equal(found.images, draw(subjects=[FOX], callback_on_step_end=callback).images)  # both of latents 0
    assert draw(subjects=[FOX, ROBOT], record_routing=False).routing is None


def test_nothing_stays_behind() -> None:
    pipe = build_pipeline()
    before, processors = draw(pipe).images, dict(pipe.transformer.attn_processors)

    def stop(pipe: Any, step: int, *rest: Any) -> Any:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        draw(pipe, subjects=[FOX, ROBOT], callback_on_step_end=stop)
    assert dict(pipe.transformer.attn_processors) == processors
    assert not pipe.transformer._forward_pre_hooks
    assert pipe.joint_attention_kwargs is None
    assert torch.equal(draw(pipe).images, before)


def test_a_users_lora_acts_on_all_streams() -> None:
    pipe = build_pipeline()
    plain = draw(pipe, subjects=[FOX, ROBOT]).images
    weight = pipe.transformer.transformer_blocks[0].attn.to_k.weight
    lora = {
        "transformer.transformer_blocks.0.attn.to_k.lora_A.weight": torch.randn(2, weight.shape[1]),
        "transformer.transformer_blocks.0.attn.to_k.lora_B.weight": torch.randn(weight.shape[0], 2),
    }
    pipe.load_lora_weights(lora, adapter_name="style")
    with_lora = draw(pipe, subjects=[FOX, ROBOT]).images
    assert (with_lora - plain).abs().max() > 1e-4
    pipe.fuse_lora()
    torch.testing.assert_close(draw(pipe, subjects=[FOX, ROBOT]).images, with_lora, rtol=0, atol=1e-4)


def test_saving_and_loading(tmp_path: Path) -> None:
    pipe = build_pipeline()
    expected = draw(pipe, subjects=[FOX, ROBOT]).images
    pipe.save_pretrained(tmp_path)
    again = AnyStoryFluxPipeline.from_pretrained(tmp_path)
    again.set_progress_bar_config(disable=True)
    torch.testing.assert_close(draw(again, subjects=[FOX, ROBOT]).images, expected, rtol=0, atol=1e-5)
    assert (tmp_path / "adapter" / "config.json").is_file()
    bare = AnyStoryFluxPipeline.from_pretrained(tmp_path, adapter=None)
    with pytest.raises(ValueError, match="need an adapter"):
        draw(bare, subjects=[FOX])


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pipeline's folder; not to be changed."""
    folder = tmp_path_factory.mktemp("flux")
    pipeline().save_pretrained(folder)
    return folder


@pytest.fixture
def base(saved: Path, tmp_path: Path) -> Path:
    """A stock FLUX.1, without anything of ours."""
    parts = {
        k: v for k, v in pipeline().components.items() if k not in ("adapter", "image_encoder", "feature_extractor")
    }
    FluxPipeline(**parts).save_pretrained(tmp_path / "base")
    return tmp_path / "base"


@pytest.mark.parametrize("inside", ["", "adapter"])
def test_a_stock_model_and_an_adapters_folder(saved: Path, base: Path, inside: str, tmp_path: Path) -> None:
    """SigLIP comes from beside the adapter, or from where it is named."""
    named = {"image_encoder": saved} if inside else {}
    pipe = AnyStoryFluxPipeline.from_pretrained(base, adapter=saved / inside, **named)
    pipe.set_progress_bar_config(disable=True)
    expected = draw(subjects=[FOX, ROBOT]).images
    torch.testing.assert_close(draw(pipe, subjects=[FOX, ROBOT]).images, expected, rtol=0, atol=1e-5)
    assert draw(AnyStoryFluxPipeline.from_pretrained(base)).routing is None


def test_what_cannot_be_loaded_is_named(saved: Path, base: Path, tmp_path: Path) -> None:
    load = AnyStoryFluxPipeline.from_pretrained
    with pytest.raises(ValueError, match="not an adapter for FLUX.1"):
        load(base, adapter=resolve_model("mini"))
    with pytest.raises(ValueError, match="is an AnyStory pipeline: expected FLUX.1"):
        load(resolve_model("mini"))
    with pytest.raises(ValueError, match="no adapter at 'nowhere'"):
        load(base, adapter="nowhere")
    with pytest.raises(ValueError, match="SigLIP was not found at .*: pass image_encoder=FOLDER"):
        load(base, adapter=saved / "adapter", local_files_only=True)
    with pytest.raises(ValueError, match="trust_remote_code"):
        load(base, trust_remote_code=True)
    with pytest.raises(ValueError, match="safetensors"):
        pipeline().save_pretrained(tmp_path / "pickled", safe_serialization=False)


def test_an_adapter_that_does_not_fit_or_is_not_whole(saved: Path, base: Path, tmp_path: Path) -> None:
    shutil.copytree(saved / "adapter", tmp_path / "adapter")
    weights = next((tmp_path / "adapter").glob("*.safetensors"))
    tensors = load_file(weights)
    name = next(iter(tensors))
    save_file({k: v for k, v in tensors.items() if k != name}, weights)
    with pytest.raises(ValueError, match="no whole adapter"):
        load_flux_adapter(tmp_path / "adapter")
    adapter = load_flux_adapter(saved)
    small = FluxTransformer2DModel(
        in_channels=16, num_layers=2, num_single_layers=1, attention_head_dim=16, num_attention_heads=2,
        joint_attention_dim=24, pooled_projection_dim=8, axes_dims_rope=(4, 6, 6),
    )  # fmt: skip
    with pytest.raises(ValueError, match=r"another transformer: this one has no single_transformer_blocks\.1"):
        adapter.check_fits(small)
    other = {**small.config, "num_single_layers": 2, "joint_attention_dim": 20}
    with pytest.raises(ValueError, match="context_embedder is 20 to 32 wide"):
        adapter.check_fits(FluxTransformer2DModel.from_config(other))


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"subjects": [FOX], "height": 72}, "`height` must be a multiple of 16, got 72: 64 or 80"),
        ({"subjects": "fox"}, "`subjects` must be a list"),
        ({"subjects": [3]}, "must hold Subject"),
        ({"subjects": [Subject([FOX.image, ROBOT.image])]}, "has 2 photos"),
        ({"subjects": [FOX], "ip_adapter_image": FOX.image}, "cannot go together"),
        ({"subjects": [FOX], "joint_attention_kwargs": {"subject_conditioning": 1}}, "the pipeline sets it"),
        ({"subjects": [FOX], "appearance_window": (0.5, 0.1)}, "`appearance_window` must be"),
        ({"subjects": [FOX], "reference_window": 3}, "`reference_window` must be"),
        ({"subjects": [FOX], "guidance_scale": float("nan")}, "`guidance_scale` must be a finite number"),
        ({"subjects": [FOX], "record_routing": [-1]}, "`record_routing` must be"),
    ],
)
def test_what_cannot_be_is_refused(arguments: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        draw(**arguments)


def test_a_models_own_values_are_checked() -> None:
    parts = pipeline().components
    AnyStoryFluxPipeline(**parts, default_call={"guidance_scale": 4.0})
    with pytest.raises(ValueError, match="`default_call` has 'guidance': 4.0, no argument of AnyStoryFluxPipeline"):
        AnyStoryFluxPipeline(**parts, default_call={"guidance": 4.0})


def test_an_adapters_own_size_holds_for_pictures_with_subjects() -> None:
    """The authors' pictures are 512 × 512, and FLUX.1's own 1024 × 1024."""
    assert pipeline().adapter.default_call == {"height": 512, "width": 512}
    adapter = FluxSubjectAdapter.from_config({**pipeline().adapter.config, "default_call": {"height": 48, "width": 32}})
    pipe = AnyStoryFluxPipeline(**{**pipeline().components, "adapter": adapter})
    assert pipe.defaults(subjects=True) == {"height": 48, "width": 32}
    assert pipe.defaults(subjects=False) == {}
    pipe.set_progress_bar_config(disable=True)
    call = {"num_inference_steps": 1, "max_sequence_length": 12, "output_type": "pt"}
    assert pipe(PROMPT, subjects=[FOX], **call).images.shape[-2:] == (48, 32)
    own = AnyStoryFluxPipeline(**pipe.components, default_call={"width": 64})
    assert own.defaults(subjects=True) == {"height": 48, "width": 64}


def test_an_unknown_argument_is_refused() -> None:
    with pytest.raises(TypeError, match="argument 'steps'"):
        draw(steps=4)
