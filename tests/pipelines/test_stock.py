"""The base model is never altered: without subjects, after a call, after an error, in other threads."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import torch

from anystory.pipelines.sdxl import AnyStoryPipeline

from .helpers import components, draw, generator, pipeline, stock_of, subject


@pytest.mark.parametrize("nobody", [None, [], [[]]])
def test_without_subjects_it_is_the_stock_pipeline(pipe, nobody):
    stock = stock_of(pipe)
    for arguments in ({}, {"guidance_scale": 1.0}, {"num_images_per_prompt": 2, "guidance_rescale": 0.5}):
        ours = draw(pipe, subjects=nobody, **arguments)
        assert np.array_equal(ours.images, draw(stock, **arguments).images)
        assert ours.routing is None


def test_without_subjects_all_defaults_are_those_of_the_stock_pipeline():
    pipe = pipeline("mini")
    ours = pipe("a fox", generator=generator(), output_type="np").images
    assert np.array_equal(ours, stock_of(pipe)("a fox", generator=generator(), output_type="np").images)


def test_a_pipeline_without_adapter_is_the_stock_pipeline(mini):
    bare = pipeline("mini", adapter=None, image_encoder=None, feature_extractor=None)
    assert np.array_equal(draw(bare).images, draw(mini).images)


def test_subjects_change_the_picture(pipe):
    red, blue = subject((220, 30, 30)), subject((30, 30, 220))
    plain, with_red, with_blue = (draw(pipe, subjects=who).images for who in ([], [red], [blue]))
    assert np.abs(with_red - plain).max() > 0.01
    assert np.abs(with_red - with_blue).max() > 0.01


def test_nothing_remains_after_a_call(pipe):
    processors = dict(pipe.unet.attn_processors)
    before = draw(pipe).images
    draw(pipe, subjects=[subject()], cross_attention_kwargs={"scale": 1.0})
    assert pipe.unet.attn_processors == processors
    assert not pipe.unet._forward_pre_hooks
    assert pipe.cross_attention_kwargs == {"scale": 1.0}
    assert np.array_equal(draw(pipe).images, before)


def test_nothing_remains_after_an_error_in_a_callback(pipe):
    before = draw(pipe).images
    processors = dict(pipe.unet.attn_processors)

    def fail(*_: Any) -> dict[str, Any]:
        raise RuntimeError("enough")

    with pytest.raises(RuntimeError, match="enough"):
        draw(pipe, subjects=[subject()], callback_on_step_end=fail)
    assert pipe.unet.attn_processors == processors
    assert not pipe.unet._forward_pre_hooks
    assert pipe.cross_attention_kwargs is None
    assert np.array_equal(draw(pipe).images, before)


def test_nothing_remains_after_an_error_in_the_unet():
    pipe = pipeline("mini")
    before = draw(pipe).images
    handle = pipe.unet.mid_block.register_forward_pre_hook(lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        draw(pipe, subjects=[subject()])
    handle.remove()
    assert np.array_equal(draw(pipe).images, before)


def test_the_global_random_state_is_not_touched(mini):
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    draw(mini, subjects=[subject()])
    assert torch.equal(torch.rand(3), expected)


def test_two_pipelines_in_two_threads_do_not_meet():
    pipes = [pipeline("mini", seed=0), pipeline("sdxl", seed=1)]
    subjects = [[subject((200, 0, 0))], [subject((0, 0, 200)), subject((0, 200, 0))]]

    def three_pictures(i: int) -> np.ndarray:
        return np.stack([draw(pipes[i], subjects=subjects[i], generator=generator(s)).images for s in range(3)])

    alone = [three_pictures(i) for i in range(2)]
    with ThreadPoolExecutor(2) as pool:
        together = list(pool.map(three_pictures, range(2)))
    for one, other in zip(alone, together, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)


def test_components_are_shared_with_a_stock_pipeline_by_from_pipe():
    parts = components("mini")
    stock = stock_of(pipeline("mini"))
    extra = {name: parts[name] for name in ("adapter", "image_encoder", "feature_extractor")}
    pipe = AnyStoryPipeline.from_pipe(stock, **extra)
    pipe.set_progress_bar_config(disable=True)
    assert pipe.unet is stock.unet
    assert pipe.vae is stock.vae
    assert draw(pipe, subjects=[subject()]).routing is not None


def test_a_lora_on_the_unet_acts_on_pictures_with_subjects_too():
    peft = pytest.importorskip("peft")
    pipe, fox = pipeline("mini"), [subject()]
    before = draw(pipe, subjects=fox).images
    config = peft.LoraConfig(r=2, target_modules=["to_q", "to_k", "to_v", "to_out.0"], init_lora_weights=False)
    with torch.random.fork_rng():
        pipe.unet.add_adapter(config)
    with_lora = draw(pipe, subjects=fox).images
    off = draw(pipe, subjects=fox, cross_attention_kwargs={"scale": 0.0}).images
    assert np.abs(with_lora - before).max() > 1e-3
    np.testing.assert_allclose(off, before, atol=1e-5)
