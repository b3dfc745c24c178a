"""What the authors' own code computes, on a tiny FLUX: `official.safetensors`, made by `make_official.py`."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler, FluxPipeline
from safetensors.torch import load_file
from torch import Tensor

from anystory.models.flux.checkpoint import convert_checkpoint
from anystory.models.flux.inputs import EncodedReference, FluxInputs, Placed, Window
from anystory.models.flux.state import Acting, FluxRoutingState

from .official_tiny import (
    GUIDANCE,
    REFERENCE_SIDE,
    SIZES,
    STEPS,
    TIMES,
    WINDOWS,
    Case,
    build_transformer,
    build_vae,
    cases,
    ids,
)

CLOSE = 2e-5
"""Largest difference, relative to the largest value: rounding in fp32. The numbers are of another CPU, and each sums in
an order of its own: an Intel Xeon with AMX differs by up to 1.3e-5."""


@cache
def official() -> dict[str, Tensor]:
    return load_file(Path(__file__).with_name("official.safetensors"))


def below(prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in official().items() if name.startswith(prefix)}


@cache
def transformer() -> Any:
    built = build_transformer()
    built.load_state_dict(below("transformer "))
    return built


@cache
def adapter(lora_bias: bool) -> Any:
    return convert_checkpoint(
        {part: below(f"checkpoint {lora_bias} {part} ") for part in ("ref", "redux", "router")}
    ).adapter


def parameter(case: Case) -> Any:
    """A case; the quick tests take those that could show most, a picture that is not square and LoRAs with biases."""
    quick = case.size == "wide" and (case.lora_bias or not case.subjects)
    return pytest.param(case, id=case.name, marks=[] if quick else pytest.mark.slow)


def assert_close(found: Tensor, expected: Tensor) -> None:
    assert found.shape == expected.shape
    assert (found - expected).abs().max() <= CLOSE * expected.abs().max()


def inputs_of(case: Case, fast: bool) -> FluxInputs:
    given, settings = below("given "), case.settings
    ours = adapter(case.lora_bias)
    with torch.no_grad():
        appearance = ours.appearance(given["siglip"], given["siglip mask"])
        routing = ours.routing(given["siglip"], given["siglip mask"])
    references = tuple(
        EncodedReference(
            appearance=appearance[n],
            routing=routing[n],
            latents=given["reference"][n],
            mask=given["reference mask"][n] > 0,
        )
        for n in range(case.subjects)
    )
    return FluxInputs(
        references=references,
        prompts=(0,) * case.subjects,
        samples=(tuple(Placed(reference=n) for n in range(case.subjects)),),
        reference_shift=settings["shift"],
        use_masks=bool(settings["masks"]),
        use_router=bool(settings["router"]),
        fast=fast,
    )


def state_of(case: Case, fast: bool = True) -> FluxRoutingState:
    ours = adapter(case.lora_bias)
    return FluxRoutingState(
        inputs=inputs_of(case, fast),
        transformer=transformer(),
        reference_terms=ours.reference_terms,
        routing_terms=ours.routing_terms,
    )


def call(case: Case, time: float, **more: Any) -> Tensor:
    given = below("given ")
    return transformer()(
        hidden_states=given[f"latents {case.size}"],
        timestep=torch.tensor([time]),
        guidance=torch.tensor([GUIDANCE]),
        pooled_projections=given["pooled"],
        encoder_hidden_states=given["text"],
        txt_ids=torch.zeros(given["text"].shape[1], 3),
        img_ids=ids(*SIZES[case.size]),
        return_dict=False,
        **more,
    )[0]


@pytest.mark.parametrize("lora_bias", [False, True])
def test_embedders(lora_bias: bool) -> None:
    given, ours = below("given "), adapter(lora_bias)
    with torch.no_grad():
        for name, embedder in (("redux", ours.appearance), ("router", ours.routing)):
            found = embedder(given["siglip"], given["siglip mask"])
            assert_close(found, official()[f"{name} {lora_bias}"])
            assert (found == 0).all(dim=2).any()  # windows without the subject


@pytest.mark.parametrize("fast", [True, False])
@pytest.mark.parametrize("case", [parameter(c) for c in cases() if c.subjects])
@torch.no_grad()
def test_a_step_that_fills_the_cache_and_one_that_reads_it(case: Case, fast: bool) -> None:
    state = state_of(case, fast)
    state.acting = Acting(appearance=bool(case.settings["redux"]), references=True)
    expected = below(f"{case.name}: ")
    for number, time in enumerate(TIMES):
        with adapter(case.lora_bias).installed_on(transformer(), state):
            found = call(case, time, joint_attention_kwargs={"subject_conditioning": state})
        if f"owners {number}" in expected and case.subjects > 1:
            assert torch.equal(torch.stack([o[0] for o in state.owners.values()]).byte(), expected[f"owners {number}"])
        assert_close(found, expected[f"output {number}"])
    for block in (name for name, _ in transformer().named_modules()):
        if f"key {block}" in expected:
            kept = state.references(block, sample=0)
            for part, name in enumerate(("key", "value")):
                theirs = expected[f"{name} {block}"][0].transpose(0, 1).unflatten(0, (case.subjects, REFERENCE_SIDE**2))
                for own, all_tokens, reference in zip(kept, theirs, state.inputs.references, strict=True):
                    assert_close(own[part], all_tokens[reference.mask])


@cache
def pipeline() -> Any:
    nothing: Any = None
    scheduler = FlowMatchEulerDiscreteScheduler(shift=3.0, use_dynamic_shifting=True)
    pipe = FluxPipeline(scheduler, build_vae(), nothing, nothing, nothing, nothing, transformer())
    pipe.set_progress_bar_config(disable=True)
    return pipe


@pytest.mark.parametrize("case", [parameter(c) for c in cases()])
@pytest.mark.parametrize("steps", [STEPS[0], pytest.param(STEPS[1], marks=pytest.mark.slow)])
@torch.no_grad()
def test_a_whole_picture(case: Case, steps: int) -> None:
    given, (rows, columns) = below("given "), SIZES[case.size]
    arguments: dict[str, Any] = {
        "prompt_embeds": given["text"],
        "pooled_prompt_embeds": given["pooled"],
        "latents": given[f"latents {case.size}"],
        "height": 16 * rows,
        "width": 16 * columns,
        "num_inference_steps": steps,
        "guidance_scale": GUIDANCE,
        "output_type": "latent",
    }
    expected = official()[f"{case.name}: latents {steps}"]
    if not case.subjects:
        assert_close(pipeline()(**arguments).images, expected)
        return
    state = state_of(case)

    def acting(step: int) -> Acting:
        redux, reference = (Window(start=start, end=end).holds(step, steps) for start, end in WINDOWS.values())
        return Acting(appearance=redux and bool(case.settings["redux"]), references=reference)

    def advance(pipe: Any, step: int, timestep: Any, tensors: dict[str, Any]) -> dict[str, Any]:
        state.acting = acting(step + 1)
        return tensors

    state.acting = acting(0)
    with adapter(case.lora_bias).installed_on(transformer(), state):
        found = pipeline()(
            **arguments, joint_attention_kwargs={"subject_conditioning": state}, callback_on_step_end=advance
        ).images
    assert_close(found, expected)
