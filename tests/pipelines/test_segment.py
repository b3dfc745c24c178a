"""`segment`: whose map is whose, repeatable, untouched pipelines, and what it refuses."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler

from anystory.pipelines.sdxl import AnyStoryPipeline
from anystory.pipelines.unet.segmenting import UNetSegmentMixin
from anystory.segment.fusion import Fusion
from anystory.segment.segmentation import Segmentation
from anystory.subjects import Subject

from . import helpers

RED, BLUE = helpers.subject((200, 40, 40), "red"), helpers.subject((40, 40, 200), "blue")


def found(pipe: Any, subjects: Any = (RED, BLUE), **arguments: Any) -> Segmentation:
    return pipe.segment(helpers.picture(40, 24), list(subjects), **arguments)


def test_masks_have_the_pictures_size_and_share_no_pixel(pipe: AnyStoryPipeline) -> None:
    result = found(pipe)
    assert (result.masks.shape, result.masks.dtype) == ((2, 24, 40), bool)
    assert (result.soft.shape, result.soft.dtype) == ((2, 24, 40), np.float32)
    assert result.masks.any()
    assert not result.masks.all(axis=0).any()
    assert result.names == ("red", "blue")
    assert ((result.confidence >= 0) & (result.confidence <= 1)).all()


def test_a_map_follows_its_reference(mini: AnyStoryPipeline) -> None:
    one, other = found(mini), found(mini, (BLUE, RED))
    assert np.abs(one.soft[0] - one.soft[1]).max() > 0.01
    np.testing.assert_allclose(other.soft, one.soft[::-1], atol=1e-5)
    np.testing.assert_allclose(other.confidence, one.confidence[::-1], atol=1e-5)


def test_the_noise_is_the_generators_and_nobody_elses(mini: AnyStoryPipeline) -> None:
    before = torch.random.get_rng_state()
    first = found(mini)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert np.array_equal(found(mini).soft, first.soft)
    assert np.array_equal(found(mini, generator=helpers.generator(0)).soft, first.soft)
    assert not np.array_equal(found(mini, generator=helpers.generator(1)).soft, first.soft)


def test_each_argument_counts(mini: AnyStoryPipeline) -> None:
    plain = found(mini)
    layers = mini.routing_evidence(helpers.picture(), [RED]).layers
    last = Fusion(layers=layers, weights=((0.0,) * (len(layers) - 1) + (1.0,),) * 2)
    for arguments in (
        {"levels": (0.5,)},
        {"draws": 3},
        {"prompt": "a fox"},
        {"edges": False},
        {"fusion": last},
        {"subjects": (RED, helpers.subject((40, 40, 200), "blue", scale=0.0))},
        {"subjects": (RED, helpers.subject((40, 40, 200), "blue", reference_scale=0.0))},
    ):
        assert np.abs(found(mini, **arguments).soft - plain.soft).max() > 1e-6, arguments


def test_in_pieces_it_is_the_same(mini: AnyStoryPipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = found(mini, levels=(0.2, 0.4, 0.6), draws=2).soft
    monkeypatch.setattr("anystory.pipelines.unet.segmenting._AT_ONCE", 1)
    np.testing.assert_allclose(found(mini, levels=(0.2, 0.4, 0.6), draws=2).soft, whole, atol=1e-5)


def test_each_look_is_told_and_may_end_the_call(mini: AnyStoryPipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    given: Any = {"levels": (0.2, 0.4, 0.6), "draws": 2}
    told: list[tuple[int, int]] = []
    found(mini, **given, on_look=lambda *look: told.append(look))
    assert told == [(1, 1)], "a small picture is looked at once, at all levels together"
    monkeypatch.setattr(UNetSegmentMixin, "_at_once", lambda pipe, latents: 2)
    told.clear()
    whole = found(mini, **given, on_look=lambda *look: told.append(look)).soft
    assert told == [(1, 3), (2, 3), (3, 3)]
    np.testing.assert_array_equal(found(mini, **given).soft, whole)
    processors = dict(mini.unet.attn_processors)

    def stop(done: int, count: int) -> None:
        if told.append((done, count)) or done == 2:
            raise InterruptedError("enough")

    told.clear()
    with pytest.raises(InterruptedError, match="enough"):
        found(mini, **given, on_look=stop)
    assert told == [(1, 3), (2, 3)]
    assert mini.unet.attn_processors == processors
    np.testing.assert_array_equal(found(mini, **given).soft, whole)


def test_without_subjects_the_network_is_that_of_an_unconditional_call(mini: AnyStoryPipeline) -> None:
    """The error without subjects does not depend on them, that with them does."""
    one, other = (mini.routing_evidence(helpers.picture(), [who]).errors for who in (RED, BLUE))
    np.testing.assert_allclose(one[:, 1], other[:, 1], rtol=1e-5)
    assert np.abs(one[:, 0] / other[:, 0] - 1).max() > 1e-4


def test_a_region_is_where_a_subject_may_be(mini: AnyStoryPipeline) -> None:
    left = found(mini, (helpers.subject((200, 40, 40), "red", region=(0.0, 0.0, 0.5, 1.0)), BLUE))
    assert not left.masks[0, :, 20:].any()
    assert not left.soft[0, :, 20:].any()
    np.testing.assert_array_equal(left.soft[1], found(mini).soft[1])


def test_of_two_equal_subjects_the_first_has_the_mask(mini: AnyStoryPipeline) -> None:
    with pytest.warns(UserWarning, match="the same picture"):
        result = found(mini, (RED, helpers.subject((200, 40, 40), "again")))
    assert not result.masks[1].any()
    np.testing.assert_allclose(result.soft[0], found(mini, (RED,)).soft[0], atol=2e-3)


def test_encodings_and_pictures_of_any_kind(mini: AnyStoryPipeline, tmp_path) -> None:
    plain = found(mini).soft
    np.testing.assert_allclose(found(mini, mini.encode_subjects([RED, BLUE])).soft, plain, atol=1e-6)
    helpers.picture(40, 24).save(tmp_path / "scene.png")
    for image in (tmp_path / "scene.png", np.asarray(helpers.picture(40, 24))):
        assert np.array_equal(mini.segment(image, [RED, BLUE]).soft, plain)


@pytest.mark.parametrize("size", [(7, 5), (3, 4000), (900, 700)])
def test_pictures_of_any_size(mini: AnyStoryPipeline, size: tuple[int, int]) -> None:
    result = mini.segment(helpers.picture(*size), [RED])
    assert result.masks.shape == (1, size[1], size[0])


def test_the_pipeline_draws_as_before(mini: AnyStoryPipeline) -> None:
    before = helpers.draw(mini, subjects=[RED]).images
    processors = dict(mini.unet.attn_processors)
    found(mini)
    assert mini.unet.attn_processors == processors
    assert np.array_equal(helpers.draw(mini, subjects=[RED]).images, before)


def test_the_adapters_fusion_is_taken(tmp_path) -> None:
    pipe: Any = helpers.pipeline("mini")
    layers = pipe.routing_evidence(helpers.picture(), [RED]).layers
    fusion = Fusion(levels=(0.4,), layers=layers, weights=((1.0,) * len(layers),), bias=-0.5, threshold=0.2)
    plain = found(pipe).soft
    pipe.adapter.register_to_config(segmentation=fusion.to_dict())
    fitted = found(pipe).soft
    assert not np.array_equal(fitted, plain)
    pipe.save_pretrained(tmp_path)
    back = AnyStoryPipeline.from_pretrained(tmp_path)
    assert back.fusion == fusion
    assert np.array_equal(found(back).soft, fitted)
    pipe.adapter.register_to_config(segmentation={"levels": [0.4]})
    with pytest.raises(ValueError, match="anystory adapter segmentation"):
        found(pipe)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"subjects": []}, "`subjects` must name at least one subject"),
        ({"subjects": ["fox.png"]}, "`subjects` must hold Subject or encoded subjects"),
        ({"levels": (0.5, 0.2)}, "`levels` must be rising numbers between 0 and 1"),
        ({"levels": ()}, "`levels` must be"),
        ({"levels": (0.0,)}, "`levels` must be"),
        ({"draws": 0}, "`draws` must be a positive integer, got 0"),
        ({"prompt": None}, "`prompt` must be a text, got NoneType"),
        ({"subjects": (Subject("nowhere.png"),)}, "nowhere.png"),
    ],
)
def test_what_cannot_be_is_refused(mini: AnyStoryPipeline, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        found(mini, **arguments)


def test_pictures_and_models_that_cannot_be_are_refused(mini: AnyStoryPipeline) -> None:
    with pytest.raises(ValueError, match="the picture to segment"):
        mini.segment(7, [RED])
    with pytest.raises(ValueError, match="need an adapter"):
        found(helpers.pipeline("mini", adapter=None))
    with pytest.raises(ValueError, match="`segment` needs `unet`, and it is None"):
        found(helpers.pipeline("mini", unet=None, adapter=mini.adapter))
    with pytest.raises(ValueError, match="reads 9"):
        found(helpers.pipeline("mini", unet=helpers.unet(32, 8, in_channels=9)))
    with pytest.raises(ValueError, match="FlowMatchEulerDiscreteScheduler"):
        found(helpers.pipeline("mini", scheduler=FlowMatchEulerDiscreteScheduler()))


def test_maps_that_are_no_numbers_are_an_error() -> None:
    pipe = helpers.pipeline("mini")
    next(pipe.unet.parameters()).data.fill_(float("nan"))
    with pytest.raises(FloatingPointError, match="not made of numbers"):
        found(pipe)
