"""The fast form draws what the plain form draws; references are projected once, not per picture."""

from __future__ import annotations

import numpy as np
import pytest

from .helpers import draw, subject

RED, BLUE = (220, 30, 30), (30, 30, 220)


@pytest.mark.parametrize(
    "call",
    [
        {"num_images_per_prompt": 2},
        {"height": 32, "width": 48},
        {"prompt": ["a fox", "a robot"], "subjects": [[subject(RED)], [subject(BLUE), subject(RED)]]},
        {"guidance_scale": 1.0},
        {"unconditional": "base", "subjects": [subject(RED, region=(0, 0, 0.5, 1), scale=0.5)]},
    ],
    ids=["two images", "not square", "two prompts", "no guidance", "region"],
)
def test_both_forms_draw_the_same_pictures(pipe, call):
    call = {"prompt": "a fox", "subjects": [subject(RED), subject(BLUE, reference_scale=0.5)]} | call
    plain, fast = (draw(pipe, **call, fast=fast) for fast in (False, True))
    stock = draw(pipe, **{name: value for name, value in call.items() if name not in ("subjects", "unconditional")})
    assert np.abs(stock.images - plain.images).max() > 1e-2
    np.testing.assert_allclose(fast.images, plain.images, atol=1e-4)


def test_a_second_picture_projects_nothing(pipe):
    encoded = pipe.encode_subjects([subject(RED), subject(BLUE)])
    calls = []
    adapter = pipe.adapter
    modules = [*adapter.cross_projections.values(), *adapter.reference_projections.values()]
    hooks = [module.to_v.register_forward_hook(lambda *_: calls.append(1)) for module in modules]
    try:
        draw(pipe, subjects=encoded)
        assert not calls
        draw(pipe, subjects=encoded, fast=False)
        assert calls
    finally:
        for hook in hooks:
            hook.remove()
