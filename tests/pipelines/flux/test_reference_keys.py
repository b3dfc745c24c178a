"""References computed once for several calls."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from anystory.pipelines.flux import ReferenceKeys

from .tiny import CALL, FOX, ROBOT, draw, pipeline


class Counted(ReferenceKeys):
    """Counts the layers' keys that were computed and are kept."""

    computed = 0

    def keep(self, *args: Any) -> None:
        self.computed += 1
        super().keep(*args)


@pytest.mark.parametrize("device", [None, "cpu"])
def test_seeds_of_a_prompt_share_them(device: str | None) -> None:
    keys, subjects = Counted(device), pipeline().encode_subjects([FOX, ROBOT])
    for seed in (0, 1):
        found = draw(subjects=subjects, seed=seed, reference_keys=keys).images
        assert keys.computed == 2 * 4  # references times layers, of the first call
        assert torch.equal(found, draw(subjects=subjects, seed=seed).images)
    draw(subjects=subjects, prompt="snow on a beach", reference_keys=keys)
    draw(subjects=subjects, prompt="snow on a beach", guidance_scale=5.0, reference_keys=keys)
    assert keys.computed == 3 * 2 * 4


def test_another_subject_beside_is_the_only_one_that_is_computed() -> None:
    keys, (fox, robot) = Counted(), pipeline().encode_subjects([FOX, ROBOT])
    draw(subjects=[fox], reference_keys=keys)
    draw(subjects=[robot, fox], reference_keys=keys)
    assert keys.computed == 2 * 4
    held = keys.bytes
    draw(subjects=[fox], reference_keys=keys)
    assert keys.bytes < held  # what the last call read, and no more


def test_a_call_that_breaks_off_leaves_nothing_half() -> None:
    keys, subjects = Counted(), pipeline().encode_subjects([FOX, ROBOT])

    def stop(pipe: Any, step: int, *rest: Any) -> Any:
        raise KeyboardInterrupt

    norm = pipeline().transformer.single_transformer_blocks[0].attn.norm_q
    hook = norm.register_forward_pre_hook(stop)
    with pytest.raises(KeyboardInterrupt):
        draw(subjects=subjects, reference_keys=keys, reference_window=(0.0, 1.0))
    hook.remove()
    assert keys.computed == 2 * 2  # the double blocks'
    found = draw(subjects=subjects, reference_keys=keys).images
    assert torch.equal(found, draw(subjects=subjects).images)


def test_prompts_of_a_batch_have_their_own() -> None:
    keys, subjects = Counted(), pipeline().encode_subjects([FOX])
    seeds = [torch.Generator().manual_seed(seed) for seed in range(2)]
    prompts = ["a fox in snow", "a robot"]
    pipeline()(prompts, subjects=subjects, generator=seeds, reference_keys=keys, **CALL)
    assert keys.computed == 2 * 4
