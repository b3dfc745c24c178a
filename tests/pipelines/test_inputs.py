"""Bad arguments: the message names the argument, its value and the rule, and nothing has been computed yet."""

from __future__ import annotations

import pytest

from anystory.pipelines.inputs import EncodedSubject

from .helpers import draw, pipeline, subject


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"subjects": "fox.png"}, r"`subjects` must be a list of Subject.*str 'fox.png'"),
        ({"subjects": [3]}, r"`subjects` must hold Subject.*int 3"),
        ({"subjects": ["fox.png"]}, r"`subjects` must hold Subject.*str 'fox.png'"),
        ({"subjects": [EncodedSubject()]}, r"`subjects` must hold Subject or encoded subjects.*EncodedSubject"),
        ({"subjects": [[None]]}, r"`subjects` must hold Subject.*NoneType None"),
        ({"subjects": [subject(), [subject()]]}, r"`subjects`.*mixture"),
        ({"subjects": [[subject()], [subject()]]}, r"`subjects` must hold a list per prompt: got 2 for 1"),
        (
            {"prompt": ["a", "b"], "subjects": [[subject()], []]},
            r"`subjects` is empty for the prompts \[1\]",
        ),
        ({"guidance_scale": float("nan")}, r"`guidance_scale` must be a finite number, got nan"),
        ({"guidance_scale": "7"}, r"`guidance_scale` must be a finite number, got '7'"),
        ({"guidance_rescale": float("inf")}, r"`guidance_rescale` must be a finite number, got inf"),
        ({"num_inference_steps": 0}, r"`num_inference_steps` must be a positive integer, got 0"),
        ({"num_inference_steps": 2.5}, r"`num_inference_steps` must be a positive integer, got 2.5"),
        ({"num_images_per_prompt": -1}, r"`num_images_per_prompt` must be a positive integer, got -1"),
        ({"height": 36}, r"`height` must be a multiple of 8, got 36: 32 or 40"),
        ({"width": 4}, r"`width` must be a multiple of 8, got 4: 8 or 16"),
        ({"height": -8}, r"`height` must be a positive integer, got -8"),
        ({"record_routing": "all"}, r"`record_routing` must be True, False or a list.*'all'"),
        ({"record_routing": [-1]}, r"`record_routing` must be .*\[-1\]"),
        ({"unconditional": "text"}, r"unconditional must be 'empty' or 'base', got 'text'"),
        (
            {"cross_attention_kwargs": {"subject_conditioning": None}},
            r"`cross_attention_kwargs` must not hold 'subject_conditioning'",
        ),
    ],
)
def test_bad_arguments(mini, arguments, message):
    with pytest.raises(ValueError, match=message):
        draw(mini, **({"prompt": "a", "subjects": [subject()]} | arguments))


def test_sizes_must_fit_the_vae_as_well():
    pipe = pipeline("mini")
    pipe.vae_scale_factor = 16
    with pytest.raises(ValueError, match="`height` must be a multiple of 16, got 24"):
        draw(pipe, subjects=[subject()], height=24)


def test_subjects_need_an_adapter_and_an_image_encoder():
    bare = pipeline("mini", adapter=None)
    with pytest.raises(ValueError, match="need an adapter"):
        draw(bare, subjects=[subject()])
    with pytest.raises(ValueError, match="need an adapter"):
        bare.encode_subjects([subject()])
    blind = pipeline("mini", image_encoder=None)
    with pytest.raises(ValueError, match="`image_encoder`"):
        draw(blind, subjects=[subject()])


def test_bad_pictures_are_the_subjects_own_errors(mini, tmp_path):
    from anystory.subjects import Subject

    with pytest.raises(FileNotFoundError, match="nowhere.png"):
        draw(mini, subjects=[Subject(tmp_path / "nowhere.png")])
