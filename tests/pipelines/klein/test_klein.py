"""FLUX.2 klein with subjects: the stock picture where it has to be, everything a call can be asked, what it refuses."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import Flux2KleinPipeline
from diffusers.utils import logging
from torch import Tensor

from anystory.pipelines.klein import AnyStoryFlux2KleinPipeline, AttentionRouting
from anystory.subjects import Subject

from .tiny import CALL, FOX, OTHER, PROMPT, ROBOT, build_pipeline, draw, pipeline, stock_of, subject

GUIDED = pipeline(distilled=False)
LEFT, RIGHT = (0.0, 0.0, 0.5, 1.0), (0.5, 0.0, 1.0, 1.0)


@pytest.fixture(autouse=True)
def _no_word_on_guidance() -> Iterator[None]:
    level = logging.get_verbosity()
    logging.set_verbosity_error()
    yield
    logging.set_verbosity(level)


def latents(*subjects: Any, pipe: Any = None, **arguments: Any) -> Tensor:
    return draw(pipe, subjects=list(subjects), output_type="latent", **arguments).images


def cut(*subjects: Any) -> list[Any]:
    """Their cut-outs, as the stock pipeline takes pictures."""
    return [one.image for encoded in pipeline().encode_subjects(list(subjects)) for one in encoded.prepared]


@pytest.mark.parametrize("pipe", [pipeline(), GUIDED], ids=["distilled", "base"])
def test_the_stock_pipeline_bit_for_bit(pipe: Any) -> None:
    """Without subjects, and with subjects and everything off."""
    stock = stock_of(pipe)
    for nobody in (None, []):
        found = draw(pipe, subjects=nobody)
        assert torch.equal(found.images, draw(stock).images)
        assert found.routing is None
    for subjects in ([FOX], [FOX, ROBOT]):
        found = draw(pipe, subjects=subjects, isolation="off")
        assert torch.equal(found.images, draw(stock, image=cut(*subjects)).images)
        assert found.routing is None
    two_photos = Subject([FOX.image, ROBOT.image])
    assert torch.equal(latents(two_photos, pipe=pipe, isolation="off"), latents(FOX, ROBOT, pipe=pipe, isolation="off"))


def test_the_call_shows_all_arguments() -> None:
    shown = inspect.signature(AnyStoryFlux2KleinPipeline.__call__).parameters
    assert {"prompt", "image", "subjects", "isolation", "text_gate", "routing", "fast"} <= shown.keys()
    theirs = inspect.signature(Flux2KleinPipeline.__call__).parameters
    assert all(shown[name].default == parameter.default for name, parameter in theirs.items())


def of_all_kinds() -> list[Any]:
    """Overlapping regions, a weak subject, one with two photos."""
    return [
        subject((200, 90, 20), name="fox", region=(0, 0, 0.7, 1), reference_scale=0.5),
        subject((30, 60, 200), region=(0.4, 0, 1, 0.6)),
        Subject([FOX.image, OTHER.image], name="robot"),
    ]


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"isolation": "strict"},
        {"isolation": "off"},
        {"text_gate": "padding"},
        {"text_gate": "all", "isolation": "strict"},
        {"image": cut(OTHER)},
    ],
    ids=["plain", "strict", "off", "padding", "all text", "with a picture"],
)
def test_the_plain_form_is_the_stock_attention_under_a_matrix(arguments: dict[str, Any]) -> None:
    fast, plain = (
        latents(*of_all_kinds(), pipe=GUIDED, num_inference_steps=2, fast=fast, **arguments) for fast in (True, False)
    )
    torch.testing.assert_close(fast, plain, rtol=0, atol=1e-4 * float(plain.std()))


def test_each_setting_changes_the_picture() -> None:
    of_the_call: tuple[dict[str, Any], ...] = (
        {},
        {"isolation": "off"},
        {"text_gate": "padding"},
        {"text_gate": "all"},
        {"routing": AttentionRouting()},
        {"image": cut(OTHER)},
    )
    of_a_subject: tuple[dict[str, Any], ...] = (
        {"reference_scale": 0.2},
        {"reference_start": 0.5},
        {"reference_end": 0.5},
        {"region": RIGHT},
    )
    calls = [{"subjects": [FOX, ROBOT], **arguments} for arguments in of_the_call]
    calls += [{"subjects": [FOX, subject((30, 60, 200), **settings)]} for settings in of_a_subject]
    calls += [{"subjects": [FOX, subject((30, 60, 200), region=RIGHT)], "isolation": "strict"}]
    pictures = [draw(**call, output_type="latent").images for call in calls]
    for i, one in enumerate(pictures):
        for j, other in enumerate(pictures[:i]):
            assert (one - other).abs().max() > 1e-5, (calls[i], calls[j])


def swapped(region: Any = RIGHT, **arguments: Any) -> tuple[float, float]:
    """The largest change in the left and in the right half of the latents when subject 2 is another."""
    one, other = (
        latents(subject((200, 90, 20), region=region and LEFT), subject(colour, region=region), **arguments)
        for colour in ((30, 60, 200), (220, 220, 20))
    )
    change = (one - other).abs()
    return float(change[..., :6].max()), float(change[..., 6:].max())


def test_a_swapped_reference_changes_nothing_outside_its_region() -> None:
    """With strict isolation exactly nothing in the whole picture, with guidance, too."""
    for pipe in (None, GUIDED):
        outside, inside = swapped(isolation="strict", pipe=pipe)
        assert outside == 0
        assert inside > 1e-4
    outside, inside = swapped(region=None, isolation="off")
    assert outside > 0.1 * inside  # the stock amount
    stock = stock_of(pipeline())
    one, other = (
        draw(stock, image=cut(FOX, subject(colour)), output_type="latent").images
        for colour in ((30, 60, 200), (220, 220, 20))
    )
    assert (one - other)[..., :6].abs().max() > 0.1 * (one - other)[..., 6:].abs().max()


def test_without_strictness_what_leaks_goes_through_text_and_pixels_inside() -> None:
    """A pixel outside reads the reference nowhere; text that reads it, and pixels inside, pass some of it on."""
    (free, _), (on, inside), (gated, _) = swapped(region=None), swapped(), swapped(text_gate="all")
    assert gated < on < 0.5 * free
    assert gated < 0.05 * inside


def test_a_reference_does_not_see_another() -> None:
    """With isolation the keys of one subject's tokens do not depend on who else is there."""
    pipe = build_pipeline()
    found: list[Tensor] = []
    last = pipe.transformer.transformer_blocks[-1]

    def keep(module: Any, args: Any, kwargs: Any, output: Any) -> None:
        found.append(output[1][:, 24:40].clone())  # of the first photo, after the picture's 4 × 6

    last.register_forward_hook(keep, with_kwargs=True)
    for isolation in ("on", "off"):
        for second in (ROBOT, OTHER):
            latents(FOX, second, pipe=pipe, isolation=isolation, num_inference_steps=1)
    assert torch.equal(found[0], found[1])
    assert (found[2] - found[3]).abs().max() > 1e-4


def test_zero_strength_is_leaving_the_reference_out() -> None:
    for isolation in ("on", "off"):
        weak = subject((30, 60, 200), name="robot", reference_scale=0.0)
        late = subject((30, 60, 200), name="robot", reference_start=1.0)
        alone = latents(FOX, isolation=isolation)
        assert torch.equal(latents(FOX, weak, isolation=isolation), alone)
        assert torch.equal(latents(FOX, late, isolation=isolation), alone)
        masked = latents(FOX, weak, isolation=isolation, fast=False)
        torch.testing.assert_close(masked, alone, rtol=0, atol=1e-4 * float(alone.std()))
    nobody = [subject((9, 9, 9), reference_scale=0.0), subject((90, 9, 9), reference_end=0.0)]
    assert torch.equal(draw(subjects=nobody).images, draw().images)


def test_strength_grows_to_that_of_the_whole() -> None:
    none, whole = latents(FOX), latents(FOX, ROBOT)
    apart = [
        float((latents(FOX, subject((30, 60, 200), reference_scale=scale)) - none).abs().mean())
        for scale in (0.01, 0.1, 0.5)
    ]
    assert apart == sorted(apart)
    assert apart[-1] < float((whole - none).abs().mean())


def test_regions_are_recorded_and_may_overlap() -> None:
    left = subject((200, 90, 20), name="fox", region=(0.0, 0.0, 0.5, 1.0))
    right = subject((30, 60, 200), name="robot", region=(1 / 3, 0.0, 1.0, 0.5))
    found = draw(subjects=[left, right])
    fox, robot, nobody = found.routing.maps()
    assert fox.tolist() == [[1, 1, 0.5, 0, 0, 0]] * 2 + [[1, 1, 1, 0, 0, 0]] * 2
    assert robot.tolist() == [[0, 0, 0.5, 1, 1, 1]] * 2 + [[0] * 6] * 2
    assert np.array_equal(fox + robot + nobody, np.ones((4, 6)))
    assert found.routing.steps == (0, 1, 2, 3)
    assert draw(subjects=[left, right], record_routing=[1]).routing.steps == (1,)
    assert draw(subjects=[left, right], record_routing=False).routing is None


def test_routing_by_attention() -> None:
    """Owners hold from the step after the one that was listened to; thrown away, from the beginning."""
    found = draw(subjects=[FOX, ROBOT], routing=AttentionRouting(blocks=(1, 2), threshold=0.2))
    assert found.routing.steps == (1, 2, 3)
    maps = found.routing.maps()
    assert ((maps == 0) | (maps == 1)).all()
    assert (maps.sum(axis=0) == 1).all()
    assert maps[0].any()
    assert maps[1].any()
    soft = found.routing.maps(refined=False)
    np.testing.assert_allclose(soft.sum(axis=0), 1, atol=1e-3)
    assert ((soft > 0) & (soft < 1)).any()
    first = draw(subjects=[FOX, ROBOT], routing=AttentionRouting(blocks=(1, 2), threshold=0.2, throw_away=True))
    assert first.routing.steps == (0, 1, 2, 3)
    assert np.array_equal(first.routing.maps(), maps)  # the same noise, so the same owners
    assert (first.images - found.images).abs().max() > 1e-5
    late = draw(subjects=[FOX, ROBOT], routing=AttentionRouting(step=2), pipe=GUIDED)
    assert late.routing.steps == (3,)


def test_routed_owners_are_held_to_their_places() -> None:
    """As if the owners had been given as regions: thrown away, the picture is that of the masks."""
    how = AttentionRouting(blocks=(1, 2), threshold=0.2, throw_away=True)
    found = draw(subjects=[FOX, ROBOT], routing=how, output_type="latent")
    fox, robot, _ = found.routing.maps()
    given = [subject((200, 90, 20), name="fox", region=fox), subject((30, 60, 200), name="robot", region=robot)]
    assert torch.equal(found.images, latents(*given))


def test_a_region_overrules_the_attention() -> None:
    right = subject((30, 60, 200), name="robot", region=RIGHT)
    fox, robot, _ = draw(subjects=[FOX, right], routing=AttentionRouting()).routing.maps()
    assert robot.astype(bool).tolist() == [[False] * 3 + [True] * 3] * 4
    assert fox.any()
    assert not fox[:, 3:].any()


def test_pictures_of_a_batch_are_those_drawn_alone() -> None:
    prompts = [PROMPT, "a fox in snow"]
    placed = subject((200, 90, 20), name="fox", region=LEFT)
    rows = [[placed, ROBOT], [FOX]]
    arguments: dict[str, Any] = {"text_gate": "padding", "output_type": "latent"}
    for fast in (True, False):
        seeds = [torch.Generator().manual_seed(seed) for seed in range(4)]
        given = {**CALL, **arguments, "num_images_per_prompt": 2, "generator": seeds, "fast": fast}
        together = GUIDED(prompt=prompts, subjects=rows, **given).images
        for i in range(4):
            alone = latents(*rows[i // 2], pipe=GUIDED, prompt=prompts[i // 2], seed=i, text_gate="padding")
            torch.testing.assert_close(together[i], alone[0], rtol=0, atol=1e-4 * float(alone.std()))


def test_encodings_take_the_subjects_places() -> None:
    fox, robot = pipeline().encode_subjects([FOX, ROBOT])
    assert torch.equal(latents(fox, robot), latents(FOX, ROBOT))
    weaker = latents(fox, robot.replace(reference_scale=0.2))
    assert torch.equal(weaker, latents(FOX, subject((30, 60, 200), name="robot", reference_scale=0.2)))
    with pytest.raises(ValueError, match="encode a new Subject"):
        fox.replace(image=ROBOT.image)


def test_everything_is_put_back_even_after_an_error() -> None:
    pipe = build_pipeline()
    before = pipe.transformer.attn_processors

    def fail(*args: Any) -> Any:
        raise RuntimeError("no more")

    with pytest.raises(RuntimeError, match="no more"):
        latents(FOX, pipe=pipe, callback_on_step_end=fail)
    assert pipe.transformer.attn_processors == before
    assert not pipe.transformer._forward_pre_hooks
    assert torch.equal(latents(FOX, pipe=pipe), latents(FOX))


@pytest.mark.slow
def test_a_compiled_transformer_draws_the_same() -> None:
    """Traced as `torch.compile` does it, without its code generator; no layer and no kind of step is traced anew."""
    pipe, subjects = build_pipeline(), [subject((200, 90, 20), region=LEFT), ROBOT]
    pipe.transformer = torch.compile(pipe.transformer, backend="eager")
    with torch._dynamo.config.patch(fail_on_recompile_limit_hit=True):
        torch.testing.assert_close(latents(*subjects, pipe=pipe), latents(*subjects), rtol=0, atol=1e-5)
    torch.testing.assert_close(draw(pipe).images, draw().images, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"isolation": "some"}, "`isolation` must be one of off, on, strict, got 'some'"),
        ({"text_gate": "some"}, "`text_gate` must be one of none, padding, all, got 'some'"),
        ({"routing": "attention"}, "`routing` must be an AttentionRouting or None"),
        ({"routing": AttentionRouting(step=4)}, "listens to step 4, counted from 0, of only 4"),
        ({"routing": AttentionRouting(blocks=(7,))}, "`blocks` must be numbers from 0 to 3"),
        ({"height": 60}, "`height` must be a multiple of 16, got 60"),
        ({"attention_kwargs": {"attention_mask": None}}, "must not hold 'attention_mask'"),
        ({"subjects": [subject((1, 2, 3), scale=0.5)]}, "`scale` weighs CLIP tokens"),
        ({"subjects": [subject((1, 2, 3), scale_end=0.5)]}, "`scale_end` weighs CLIP tokens"),
        ({"subjects": [[FOX], [ROBOT]]}, "a list per prompt"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_runs(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        draw(**{"subjects": [FOX], **arguments})


def test_texts_that_are_not_known() -> None:
    layers: Any = (1, 2, 3)
    embeds, _ = pipeline().encode_prompt(PROMPT, max_sequence_length=16, text_encoder_out_layers=layers)
    given = {**CALL, "prompt_embeds": embeds, "generator": torch.Generator().manual_seed(0), "output_type": "latent"}
    assert torch.equal(pipeline()(subjects=[FOX], **given).images, latents(FOX))
    with pytest.raises(ValueError, match='`text_gate` "padding" needs the text of `prompt`'):
        pipeline()(subjects=[FOX], text_gate="padding", **given)
    with pytest.raises(ValueError, match="`routing` needs the text of `prompt`"):
        pipeline()(subjects=[FOX], routing=AttentionRouting(), **given)
    with pytest.raises(TypeError, match="write prompt=…"):
        pipeline()(PROMPT, subjects=[FOX])
    with pytest.raises(TypeError, match="argument 'negative_prompt'"):
        draw(negative_prompt="snow")


def test_sizes_of_references() -> None:
    for size in (0, 60, 1040):
        with pytest.raises(ValueError, match="`reference_size` must be a multiple of 16 up to 1024"):
            AnyStoryFlux2KleinPipeline(**pipeline().components, reference_size=size)
    larger = AnyStoryFlux2KleinPipeline(**pipeline().components, is_distilled=True, reference_size=96)
    [fox] = larger.encode_subjects([FOX])
    assert fox.references[0].grid == (6, 6)
    with pytest.raises(ValueError, match="must have one size"):
        latents(fox, ROBOT)


def test_saved_and_loaded(tmp_path: Any) -> None:
    pipeline().save_pretrained(tmp_path)
    loaded = AnyStoryFlux2KleinPipeline.from_pretrained(tmp_path)
    torch.testing.assert_close(latents(FOX, pipe=loaded), latents(FOX), rtol=0, atol=1e-6)
    with pytest.raises(ValueError, match="safe_serialization"):
        loaded.save_pretrained(tmp_path / "pickle", safe_serialization=False)
    stock = stock_of(pipeline())
    stock.save_pretrained(tmp_path / "stock")
    plain = AnyStoryFlux2KleinPipeline.from_pretrained(tmp_path / "stock")
    assert (plain.config["reference_size"], plain.config["is_distilled"]) == (512, True)
    with pytest.raises(ValueError, match="use_safetensors"):
        AnyStoryFlux2KleinPipeline.from_pretrained(tmp_path, use_safetensors=False)
    with pytest.raises(ValueError, match="expected FLUX.2 klein"):
        AnyStoryFlux2KleinPipeline.from_pretrained(_other(tmp_path))


def _other(folder: Any) -> Any:
    place = folder / "other"
    place.mkdir()
    (place / "model_index.json").write_text(
        '{"_class_name": "Flux2Pipeline", "transformer": ["diffusers", "Flux2Transformer2DModel"],'
        ' "text_encoder": ["transformers", "Mistral3ForConditionalGeneration"]}'
    )
    return place
