"""Calls that run, but not as their caller may think, say so."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from anystory.models.familiarity import Familiarity, picture_features
from anystory.pipelines.unet.encoding import hidden_states
from anystory.subjects import Subject

from ..helpers import SIZE, draw, given, pipeline, pipeline_of, subject, tokenizer


def told(pipe: Any, prompt: Any = "a fox", **arguments: Any) -> list[str]:
    """What a call of one step warns about."""
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        draw(pipe, prompt, **({"num_inference_steps": 1} | arguments))
    return [str(one.message) for one in said if one.category is UserWarning]


# --- words that are cut ---

LONG = "abcd efgh ijkl mnop qrst uvwx"  # a token a letter, 22 are read: "uvwx" is cut in two
CUT = "the prompt is longer than the 22 tokens that this model reads; without effect: 'uvwx'"


@pytest.mark.parametrize("layout", ["sdxl", "mini"])
def test_words_beyond_the_models_tokens_are_named_once(layout):
    assert told(pipeline(layout), LONG) == [CUT]


def test_two_endings_that_give_one_picture_are_told(mini):
    prompts = ("abcd efgh ijkl mnop qrst uv wx", "abcd efgh ijkl mnop qrst uv y z")
    one, other = (draw(mini, prompt).images for prompt in prompts)
    assert np.array_equal(one, other)
    assert [told(mini, prompt)[0].rpartition(": ")[2] for prompt in prompts] == ["'wx'", "'y z'"]


def test_a_word_that_is_cut_in_the_middle_is_named_whole(mini):
    assert told(mini, "abcdefghijklmnopqrstu  fox,\nand more")[0].endswith(": 'fox, and more'")


def test_what_just_fits_is_not_mentioned(mini):
    assert told(mini, LONG[:-2]) == []


def test_each_prompt_of_a_list_and_both_texts_are_looked_at():
    pipe = pipeline("sdxl")
    said = told(pipe, ["a fox", "b" * 25], prompt_2=["c" * 30, "d"])
    assert [line.rpartition(": ")[2] for line in said] == [repr("b" * 25), repr("c" * 30)]


def test_each_tokenizer_has_its_own_length():
    pipe = pipeline("sdxl")
    pipe.tokenizer_2.model_max_length = 1000  # reads all; it would fail in the text encoder, which is not asked here
    from anystory.pipelines.checks.advice import _cut_texts

    said = list(_cut_texts(pipe, {"prompt": LONG, "prompt_2": None}, guided=True))
    assert len(said) == 1
    pipe.tokenizer_2.model_max_length = 12
    said = list(_cut_texts(pipe, {"prompt": LONG}, guided=True))
    assert [("22 tokens" in line, "10 tokens" in line) for line in said] == [(True, False), (False, True)]


def test_negative_prompts_are_looked_at_too(mini):
    said = told(mini, negative_prompt="z" * 30)
    assert said == [CUT.replace("the prompt", "the negative prompt").replace("'uvwx'", repr("z" * 30))]


def test_embeddings_have_no_words(mini):
    embeds, _, pooled, _ = mini.encode_prompt("a fox", do_classifier_free_guidance=False)
    assert told(mini, None, prompt_embeds=embeds, pooled_prompt_embeds=pooled, guidance_scale=1.0) == []


def test_words_of_a_textual_inversion_count_as_their_vectors():
    pipe = pipeline("mini")
    words = tokenizer()
    words.add_tokens(["<cat>", "<cat>_1", "<cat>_2"])
    pipe.tokenizer_2 = words
    pipe.text_encoder_2.resize_token_embeddings(len(words))
    assert told(pipe, "<cat> " + "a " * 19) == []
    assert told(pipe, "<cat> " + "a " * 19 + "b")[0].endswith(": 'b'")


def test_a_second_text_of_a_model_with_one_encoder(mini):
    assert told(mini, prompt_2="b") == [
        "`prompt_2` does nothing: this model has one text encoder, which reads `prompt`"
    ]
    assert told(mini, prompt_2="a fox") == []


# --- negative prompts ---


@pytest.mark.parametrize("kind", ["text", "control inpaint"])
@pytest.mark.parametrize("guidance", [1.0, 0.0])
def test_a_negative_prompt_without_guidance(kind, guidance):
    pipe = pipeline_of(kind, "mini")
    arguments = given(kind) | {"negative_prompt": "bad", "guidance_scale": guidance}
    [line] = told(pipe, **arguments)
    assert line == f"the negative prompt has no effect at guidance {guidance:g}: it acts with a guidance above 1"
    assert told(pipe, **(arguments | {"guidance_scale": 1.5})) == []
    assert told(pipe, **(arguments | {"negative_prompt": ""})) == []


def test_a_second_negative_prompt_alone():
    pipe = pipeline("sdxl")
    assert told(pipe, negative_prompt_2="x") == [
        "`negative_prompt_2` has no effect without `negative_prompt`: give both"
    ]
    assert np.array_equal(draw(pipe, negative_prompt_2="x").images, draw(pipe).images)


# --- subjects ---


def test_more_subjects_than_the_model_was_trained_with():
    pipe: Any = pipeline("mini")
    three = [subject(), subject((0, 200, 0)), subject((0, 0, 200))]
    assert told(pipe, subjects=three) == []  # nobody knows
    pipe.adapter.note(max_subjects=2)
    assert told(pipe, subjects=three[:2]) == []
    assert told(pipe, ["a", "b"], subjects=[three[:1], three]) == [
        "this model was trained with at most 2 subjects in a picture, not 3: it may mix them up"
    ]


def test_a_reference_unlike_all_that_the_model_was_trained_on():
    """It knows reds; a photo of a subject counts by its strangest."""
    pipe: Any = pipeline("mini")
    reds = [subject((150 + 3 * i, 40 + 2 * i, 40 + 3 * (i % 7))) for i in range(30)]
    pixels = pipe.feature_extractor([red.prepare(SIZE).image for red in reds], return_tensors="pt").pixel_values
    known = picture_features(hidden_states(pipe.image_encoder, pixels).detach())
    pipe.adapter.note(familiarity=Familiarity.of(known, 4))
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (48, 48, 3), dtype=np.uint8))
    [line] = told(pipe, subjects=[reds[3], Subject(noise, name="noise", segmenter="none"), reds[4]])
    assert line.startswith("noise is unlike every reference that this model was trained on (")
    both = [reds[0].image, noise]
    strange = pipe.encode_subjects([Subject(both, segmenter="none"), reds[0]])
    assert strange[0].strangeness > 1 > strange[1].strangeness
    assert told(pipe, subjects=strange) == []  # it was said when they were encoded
    pipe.adapter.familiarity = None
    assert told(pipe, subjects=[Subject(noise, segmenter="none")]) == []
    assert pipe.encode_subjects([reds[0]])[0].strangeness is None


# --- sizes ---


@pytest.mark.parametrize(
    ("size", "far"),
    [((32, 32), False), ((40, 24), False), ((64, 16), False), ((16, 16), True), ((48, 48), True), ((72, 16), True)],
)
def test_sizes_far_from_the_models_own(mini, size, far):
    height, width = size
    said = told(mini, height=height, width=width)
    assert said == far * [
        f"{width}×{height} is far from the {SIZE}×{SIZE} pixels that this model was trained at: parts of the picture"
        " may be repeated, cropped or confused"
    ]


def test_the_size_of_a_given_picture_counts():
    pipe = pipeline_of("image", "mini")
    assert told(pipe, **given("image", 128, 128))[0].startswith("128×128 is far from")
    assert told(pipe, **given("image"), subjects=[subject()]) == []


# --- arguments ---


@pytest.mark.parametrize("scalar", [np.float32, np.float64, torch.tensor])
def test_numpy_and_tensor_scalars_are_numbers(mini, scalar):
    whole = torch.tensor if scalar is torch.tensor else np.int64
    box = [scalar(value) for value in (0.0, 0.0, 0.5, 1.0)]
    numbers: dict[str, Any] = {"guidance_scale": scalar(4.0), "guidance_rescale": scalar(0.5)}
    numbers |= {"num_inference_steps": whole(2), "num_images_per_prompt": whole(2), "height": whole(40)}
    plain = {name: value.item() for name, value in numbers.items()}
    for subjects, same in (
        (None, None),
        ([subject(scale=scalar(0.5), region=box)], [subject(scale=0.5, region=(0, 0, 0.5, 1))]),
    ):
        out = draw(mini, subjects=subjects, **numbers, record_routing=[whole(1)])
        assert np.array_equal(out.images, draw(mini, subjects=same, **plain).images)
    assert draw(mini, subjects=subjects, record_routing=np.array([0])).routing.steps == (0,)


def test_none_is_the_default(mini):
    assert np.array_equal(draw(mini, guidance_scale=None).images, draw(mini, guidance_scale=5.0).images)
