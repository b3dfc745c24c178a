"""Several prompts, several pictures per prompt, several lists of subjects."""

from __future__ import annotations

import numpy as np
import pytest

from .helpers import draw, generator, subject

RED, GREEN, BLUE = (220, 30, 30), (30, 220, 30), (30, 30, 220)


def test_the_generator_decides_the_picture(pipe):
    fox = [subject()]
    first, again, other = (draw(pipe, subjects=fox, generator=generator(s)).images for s in (3, 3, 4))
    assert np.array_equal(first, again)
    assert np.abs(first - other).max() > 0.01


@pytest.mark.parametrize("guidance_scale", [1.0, 5.0])
def test_a_prompt_in_a_list_gives_the_picture_that_it_gives_alone(pipe, guidance_scale):
    prompts, fox = ["a fox", "two foxes", "snow"], [subject(RED), subject(BLUE)]
    together = draw(
        pipe,
        prompts,
        subjects=fox,
        guidance_scale=guidance_scale,
        generator=[generator(s) for s in range(3)],
    )
    for i, prompt in enumerate(prompts):
        alone = draw(pipe, prompt, subjects=fox, guidance_scale=guidance_scale, generator=generator(i))
        np.testing.assert_allclose(together.images[i], alone.images[0], atol=1e-4)
        np.testing.assert_allclose(together.routing.maps(image=i), alone.routing.maps(), atol=1e-3)


def test_lists_of_subjects_of_different_lengths_do_not_meet(pipe):
    rows = [[subject(RED, "red")], [subject(GREEN, "green"), subject(BLUE, "blue")]]
    together = draw(pipe, ["a", "b"], subjects=rows, generator=[generator(0), generator(1)])
    assert together.routing.names == (("red",), ("green", "blue"))
    for i, prompt in enumerate(["a", "b"]):
        alone = draw(pipe, prompt, subjects=rows[i], generator=generator(i))
        np.testing.assert_allclose(together.images[i], alone.images[0], atol=1e-4)
        assert together.routing.maps(image=i).shape == alone.routing.maps().shape
        np.testing.assert_allclose(together.routing.maps(image=i), alone.routing.maps(), atol=1e-3)


def test_images_per_prompt_come_prompt_by_prompt(pipe):
    rows = [[subject(RED, "red")], [subject(GREEN, "green"), subject(BLUE, "blue")]]
    out = draw(
        pipe,
        ["a", "b"],
        subjects=rows,
        num_images_per_prompt=2,
        generator=[generator(s) for s in range(4)],
    )
    assert out.images.shape == (4, 32, 32, 3)
    assert out.routing.names == (("red",), ("red",), ("green", "blue"), ("green", "blue"))
    for i in range(4):
        alone = draw(pipe, "ab"[i // 2], subjects=rows[i // 2], generator=generator(i))
        np.testing.assert_allclose(out.images[i], alone.images[0], atol=1e-4)


def test_a_subject_is_encoded_once_however_often_it_occurs(mini, monkeypatch):
    calls = []
    encode = mini.adapter.encode
    monkeypatch.setattr(mini.adapter, "encode", lambda **parts: calls.append(parts["present"].shape) or encode(**parts))
    fox, robot = subject(RED), subject(BLUE)
    draw(mini, ["a", "b", "c"], subjects=[[fox], [fox, robot], [robot]], num_images_per_prompt=2)
    assert calls == [(1, 2)]


def test_prompt_embeddings_count_as_prompts(mini):
    embeds, negative, pooled, negative_pooled = mini.encode_prompt(["a", "b"])
    arguments = {
        "prompt_embeds": embeds,
        "negative_prompt_embeds": negative,
        "pooled_prompt_embeds": pooled,
        "negative_pooled_prompt_embeds": negative_pooled,
    }
    rows = [[subject(RED)], [subject(BLUE)]]
    by_embedding = draw(mini, None, subjects=rows, **arguments)
    assert np.array_equal(by_embedding.images, draw(mini, ["a", "b"], subjects=rows).images)


@pytest.mark.parametrize(("height", "width"), [(32, 32), (40, 24), (16, 56)])
def test_pictures_of_other_sizes(pipe, height, width):
    out = draw(pipe, subjects=[subject()], height=height, width=width)
    assert out.images.shape == (1, height, width, 3)
    assert out.routing.masks().shape == (1, height, width)
    factor = pipe.vae_scale_factor * 2
    assert out.routing.maps(layer=0, slot=0).shape == (height // factor, width // factor)
