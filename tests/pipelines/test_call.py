"""The arguments of a call: callbacks, output types, schedules, regions, recording, the model's defaults."""

from __future__ import annotations

import contextlib
import io
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import (
    DDIMScheduler,
    DPMSolverMultistepScheduler,
    EulerAncestralDiscreteScheduler,
    HeunDiscreteScheduler,
)
from diffusers.callbacks import SDXLCFGCutoffCallback
from PIL import Image

from anystory import AnyStoryImg2ImgPipeline, AnyStoryPipeline
from anystory.models import SubjectAdapter
from anystory.models.configs import PAPERS_CALL

from .helpers import SIZE, components, draw, generator, pipeline, subject

RED, BLUE = (220, 30, 30), (30, 30, 220)


@contextlib.contextmanager
def watched(pipe):
    """A list of the conditioning's (scales, reference_scales, guidance, batch) at each U-Net call."""
    seen = []

    def look(_, args, kwargs):
        cond = kwargs["cross_attention_kwargs"]["subject_conditioning"]
        seen.append((cond.scales.tolist(), cond.reference_scales.tolist(), cond.guidance, len(args[0])))

    handle = pipe.unet.register_forward_pre_hook(look, with_kwargs=True)
    try:
        yield seen
    finally:
        handle.remove()


# --- outputs ---


def test_output_types(pipe):
    fox = [subject()]
    out = {kind: draw(pipe, subjects=fox, output_type=kind).images for kind in ("np", "pt", "pil", "latent")}
    assert out["np"].shape == (1, SIZE, SIZE, 3)
    np.testing.assert_allclose(out["pt"].permute(0, 2, 3, 1), out["np"], atol=1e-6)
    assert isinstance(out["pil"][0], Image.Image)
    np.testing.assert_allclose(np.asarray(out["pil"][0]) / 255, out["np"][0], atol=1 / 255)
    assert out["latent"].shape == (1, 4, SIZE // pipe.vae_scale_factor, SIZE // pipe.vae_scale_factor)


def test_tuple_output(mini):
    images, routing = draw(mini, subjects=[subject()], return_dict=False)
    assert images.shape == (1, SIZE, SIZE, 3)
    assert routing.num_images == 1
    assert draw(mini, return_dict=False)[1] is None


def test_positional_arguments_are_those_of_diffusers(mini):
    out = mini("a fox", None, 16, 24, 1, subjects=[subject()], output_type="np")
    assert out.images.shape == (1, 16, 24, 3)
    assert out.routing.steps == (0,)


def test_progress_bar_counts_the_steps():
    pipe, shown = pipeline("mini"), io.StringIO()
    pipe.set_progress_bar_config(disable=False, file=shown)
    draw(pipe, subjects=[subject()], num_inference_steps=3)
    assert "3/3" in shown.getvalue()


def test_unknown_arguments_are_named(mini):
    with pytest.raises(TypeError, match="no argument 'steps', 'subject'"):
        mini("a fox", subject=[], steps=3)


# --- between the steps ---


def test_the_callers_callback_runs_and_may_change_the_latents(mini):
    steps = []

    def blank(pipe, step, timestep, tensors):
        assert pipe is mini
        steps.append((step, float(timestep), sorted(tensors)))
        return {"latents": torch.zeros_like(tensors["latents"])}

    out = draw(
        mini,
        subjects=[subject()],
        callback_on_step_end=blank,
        callback_on_step_end_tensor_inputs=["latents", "prompt_embeds"],
        output_type="latent",
    )
    assert [step for step, _, _ in steps] == [0, 1]
    assert steps[0][2] == ["latents", "prompt_embeds"]
    assert [timestep for _, timestep, _ in steps] == list(out.routing.timesteps)
    assert not out.images.any()


@pytest.mark.parametrize(
    ("kind", "calls"),
    [
        (DDIMScheduler, 4),
        (EulerAncestralDiscreteScheduler, 4),
        (DPMSolverMultistepScheduler, 4),
        (HeunDiscreteScheduler, 7),
    ],
)
def test_other_schedulers(mini, kind, calls):
    """A second-order scheduler calls the U-Net twice per step; each call is recorded."""
    pipe = pipeline("mini", scheduler=kind.from_config(mini.scheduler.config))
    out = draw(pipe, subjects=[subject(scale_end=0.5)], num_inference_steps=4)
    assert np.isfinite(out.images).all()
    assert out.routing.steps == tuple(range(calls))


def test_sampling_may_end_early_or_follow_given_timesteps(mini):
    fox = [subject(scale_start=0.5)]
    with watched(mini) as seen:
        half = draw(mini, subjects=fox, num_inference_steps=8, denoising_end=0.5, output_type="latent")
        given = draw(mini, subjects=fox, timesteps=[900, 500, 100])
    assert half.routing.steps == (0, 1, 2, 3)
    assert given.routing.timesteps == (900, 500, 100)
    assert [scales[0][0] for scales, *_ in seen] == [0, 0, 1, 1, 0, 0, 1]


def test_interrupt_ends_the_sampling(mini):
    def stop(pipe, step, timestep, tensors):
        pipe._interrupt = step == 1
        return tensors

    out = draw(mini, subjects=[subject()], num_inference_steps=5, callback_on_step_end=stop)
    assert out.routing.steps == (0, 1)
    assert out.images.shape == (1, SIZE, SIZE, 3)


def test_a_callback_may_switch_guidance_off(mini):
    cutoff: Any = SDXLCFGCutoffCallback(cutoff_step_index=0, cutoff_step_ratio=None)  # pyright: ignore
    with watched(mini) as seen:
        out = draw(mini, subjects=[subject()], num_inference_steps=3, callback_on_step_end=cutoff)
    assert [(guidance, batch) for _, _, guidance, batch in seen] == [(True, 2), (False, 1), (False, 1)]
    assert out.routing.steps == (0, 1, 2)


def test_scales_follow_their_schedules(mini):
    subjects = [
        subject(RED, scale=0.8, scale_start=0.25, reference_end=0.5),
        subject(BLUE, reference_scale=2.0, scale_end=0.0, reference_start=0.75),
    ]
    with watched(mini) as seen:
        draw(mini, subjects=subjects, num_inference_steps=4)
    first, second = (np.array([step[i][0] for step in seen]) for i in range(2))
    np.testing.assert_allclose(first, [[0, 0], [0.8, 0], [0.8, 0], [0.8, 0]])
    np.testing.assert_allclose(second, [[1, 0], [1, 0], [0, 0], [0, 2]])


def test_a_schedule_that_never_holds_is_a_scale_of_zero(mini):
    never = subject(RED, scale_end=0.0, reference_end=0.0)
    zero = subject(RED, scale=0.0, reference_scale=0.0)
    assert np.array_equal(draw(mini, subjects=[never]).images, draw(mini, subjects=[zero]).images)


def test_cross_attention_kwargs_are_merged(mini):
    with watched(mini) as seen:
        draw(mini, subjects=[subject()], cross_attention_kwargs={"scale": 1.0})
    assert len(seen) == 2


def test_the_unconditional_half_can_be_the_base_model(mini):
    fox = [subject()]
    empty, base = (draw(mini, subjects=fox, unconditional=kind).images for kind in ("empty", "base"))
    assert np.abs(empty - base).max() > 1e-3
    same = [draw(mini, subjects=fox, unconditional=kind, guidance_scale=1.0) for kind in ("empty", "base")]
    assert np.array_equal(same[0].images, same[1].images)


# --- regions ---


HALF = SIZE // 2
EDGE = SIZE // 8
"""Masks of the picture's size are interpolated: half a pixel of a 4 × 4 layer around a region may go either way."""


def test_fixed_regions_are_respected(pipe):
    subjects = [subject(RED, region=(0, 0, 0.5, 1)), subject(BLUE, region=(0.5, 0, 1, 0.5))]
    out = draw(pipe, subjects=subjects)
    for step in out.routing.steps:
        red, blue = out.routing.masks(step=step)
        assert red[:, : HALF - EDGE].all()
        assert not red[:, HALF + EDGE :].any()
        assert blue[: HALF - EDGE, HALF + EDGE :].all()
        assert not blue[HALF + EDGE :].any()
        assert not blue[:, : HALF - EDGE].any()
    free = draw(pipe, subjects=[subject(RED), subject(BLUE)])
    assert np.abs(free.images - out.images).max() > 1e-3


def test_a_region_may_be_a_mask_and_leaves_the_rest_to_the_router(pipe):
    mask = np.zeros((8, 8), bool)
    mask[:, 4:] = True
    red, blue = draw(pipe, subjects=[subject(RED), subject(BLUE, region=mask)]).routing.masks()
    assert blue[:, HALF + EDGE :].all()
    assert not blue[:, : HALF - EDGE].any()
    assert not red[:, HALF + EDGE :].any()


def test_regions_may_differ_between_prompts(mini):
    rows = [[subject(RED, region=(0, 0, 1, 0.5))], [subject(RED, region=(0, 0.5, 1, 1)), subject(BLUE)]]
    routing = draw(mini, ["a", "b"], subjects=rows).routing
    upper, lower = (routing.masks(image=i)[0] for i in range(2))
    assert upper[: HALF - EDGE].all()
    assert not upper[HALF + EDGE :].any()
    assert lower[HALF + EDGE :].all()
    assert not lower[: HALF - EDGE].any()


# --- without the router ---


def test_without_the_router_another_picture_and_no_maps(pipe):
    routed = draw(pipe, subjects=[subject(RED), subject(BLUE)])
    everywhere = draw(pipe, subjects=[subject(RED), subject(BLUE)], use_router=False)
    assert everywhere.routing is None
    assert np.abs(routed.images - everywhere.images).max() > 1e-3
    with pytest.raises(ValueError, match="`use_router` must be True for a subject with a fixed region"):
        draw(pipe, subjects=[subject(RED, region=(0, 0, 1, 0.5))], use_router=False)


# --- recording ---


def test_only_the_asked_steps_are_recorded(mini):
    arguments = {"subjects": [subject()], "num_inference_steps": 4}
    everything = draw(mini, **arguments)
    some = draw(mini, **arguments, record_routing=[0, 3])
    nothing = draw(mini, **arguments, record_routing=False)
    assert everything.routing.steps == (0, 1, 2, 3)
    assert some.routing.steps == (0, 3)
    assert some.routing.timesteps == everything.routing.timesteps[::3]
    assert np.array_equal(some.routing.maps(), everything.routing.maps())
    assert nothing.routing is None
    assert np.array_equal(everything.images, some.images)
    assert np.array_equal(everything.images, nothing.images)


def test_the_record_holds_every_layer_in_order(pipe):
    out = draw(pipe, subjects=[subject(name="fox"), subject(BLUE)])
    own = [layer.cross_attention for layer in pipe.adapter.layers]
    assert list(out.routing.layers) == own
    assert out.routing.names == (("fox", "subject 2"),)
    for layer in own:
        maps = out.routing.maps(step=1, layer=layer)
        assert maps.shape[0] == 3
        np.testing.assert_allclose(maps.sum(axis=0), 1, atol=2e-3)


# --- the model's own defaults ---


def test_defaults_of_the_model_hold_where_the_caller_says_nothing(mini):
    own = {"num_inference_steps": 3, "guidance_scale": 1.0, "height": 16}
    pipe = pipeline("mini", default_call=own)
    out = pipe("a fox", subjects=[subject()], generator=generator(), output_type="np", height=None)
    assert out.routing.steps == (0, 1, 2)
    assert np.array_equal(out.images, draw(mini, subjects=[subject()], **own).images)
    assert pipe("a", num_inference_steps=1, output_type="np").images.shape == (1, 16, SIZE, 3)


@pytest.fixture(scope="module")
def with_papers_call():
    """A tiny SDXL base that says nothing, and an adapter that draws as the paper does."""
    parts = components("sdxl")
    config = parts["adapter"].config
    parts["adapter"] = SubjectAdapter(config["unet_config"], config["adapter_config"], dict(PAPERS_CALL)).eval()
    return pipeline("sdxl", **parts)


def test_an_adapter_on_a_base_that_says_nothing_draws_as_it_was_made_to(with_papers_call):
    pipe = with_papers_call
    quick = {"generator": generator(), "output_type": "latent"}
    with watched(pipe) as seen:
        pipe("a fox", subjects=[subject()], **quick)
    assert (len(seen), pipe.guidance_scale) == (25, 7.5)
    with watched(pipe) as seen:
        pipe("a fox", subjects=[subject()], num_inference_steps=2, guidance_scale=1.5, **quick)
    assert (len(seen), pipe.guidance_scale) == (2, 1.5)
    assert pipe.defaults(subjects=False) == {}, "the stock pipeline's picture is the stock pipeline's"
    steps = []
    pipe("a fox", callback_on_step_end=lambda _, step, *__: steps.append(step) or {}, guidance_scale=1.0, **quick)
    assert len(steps) == 50


def test_a_models_own_defaults_come_before_its_adapters(with_papers_call):
    own = {"guidance_scale": 4.0}
    pipe = AnyStoryPipeline.from_pipe(with_papers_call, default_call=own)
    assert pipe.defaults(subjects=True) == {"num_inference_steps": 25, "guidance_scale": 4.0}
    other = AnyStoryImg2ImgPipeline.from_pipe(pipe)
    assert other.defaults(subjects=True) == pipe.defaults(subjects=True)


def test_an_adapters_defaults_are_saved_with_it(with_papers_call, tmp_path):
    with_papers_call.adapter.save_pretrained(tmp_path)
    assert SubjectAdapter.from_pretrained(tmp_path).default_call == PAPERS_CALL
    assert "`num_inference_steps=25`, `guidance_scale=7.5`" in (tmp_path / "README.md").read_text()


@pytest.mark.parametrize("wrong", [{"guidance_scale": "7.5"}, {"num_inference_steps": True}, [25, 7.5]])
def test_an_adapters_defaults_must_be_numbers(with_papers_call, wrong):
    config = with_papers_call.adapter.config
    with pytest.raises(ValueError, match="default_call must name arguments of a pipeline's call and their numbers"):
        SubjectAdapter(config["unet_config"], config["adapter_config"], wrong)


def test_an_adapters_defaults_for_unknown_arguments_are_refused(with_papers_call):
    parts = components("sdxl")
    config = parts["adapter"].config
    parts["adapter"] = SubjectAdapter(config["unet_config"], config["adapter_config"], {"steps": 3})
    with pytest.raises(ValueError, match="`default_call` of the adapter has 'steps': 3"):
        pipeline("sdxl", **parts)


def test_defaults_for_unknown_arguments_are_refused():
    with pytest.raises(ValueError, match="default_call.*'steps': 3"):
        pipeline("mini", default_call={"steps": 3})
