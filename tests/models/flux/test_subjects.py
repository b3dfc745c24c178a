"""FLUX.1 with subjects, beyond what the authors' code can do: several samples, regions, scales, broken-off calls."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from anystory.models.flux.inputs import FluxInputs, Placed, Window
from anystory.models.flux.owners import NOBODY, Ownership
from anystory.models.flux.reference_keys import ReferenceKeys
from anystory.models.flux.state import Acting, FluxRoutingState

from .official_tiny import GUIDANCE, SIZES, Case, ids
from .test_official import adapter, below, inputs_of, transformer

ALL = Acting(appearance=True, references=True)
CASE = Case(3, "router", True, "wide")
ROWS, COLUMNS = SIZES[CASE.size]
PIXELS = ROWS * COLUMNS


def state_of(inputs: FluxInputs, acting: Acting = ALL, keys: ReferenceKeys | None = None) -> FluxRoutingState:
    ours = adapter(CASE.lora_bias)
    return FluxRoutingState(
        keys=keys or ReferenceKeys(),
        inputs=inputs,
        transformer=transformer(),
        reference_terms=ours.reference_terms,
        routing_terms=ours.routing_terms,
        acting=acting,
    )


def given(samples: int) -> dict[str, Tensor]:
    """Other pictures, texts and pooled texts for each sample."""
    random = torch.Generator().manual_seed(8)
    tiny = below("given ")
    shapes = {"hidden_states": tiny[f"latents {CASE.size}"], "encoder_hidden_states": tiny["text"]}
    shapes["pooled_projections"] = tiny["pooled"]
    drawn = {name: torch.randn((3, *value.shape[1:]), generator=random)[:samples] for name, value in shapes.items()}
    return drawn | {"timestep": torch.full((samples,), 0.7), "guidance": torch.full((samples,), GUIDANCE)}


@torch.no_grad()
def run(state: FluxRoutingState | None, arguments: dict[str, Tensor]) -> Tensor:
    places = {"txt_ids": torch.zeros(arguments["encoder_hidden_states"].shape[1], 3), "img_ids": ids(ROWS, COLUMNS)}
    call: dict[str, Any] = {**arguments, **places, "return_dict": False}
    if state is None:
        return transformer()(**call)[0]
    with adapter(CASE.lora_bias).installed_on(transformer(), state):
        return transformer()(**call, joint_attention_kwargs={"subject_conditioning": state})[0]


def of_one(inputs: FluxInputs, sample: int) -> FluxInputs:
    """A sample of a batch by itself."""
    rows = [placed.reference for placed in inputs.samples[sample]]
    return replace(
        inputs,
        references=tuple(inputs.references[row] for row in rows),
        prompts=(0,) * len(rows),
        samples=(tuple(replace(placed, reference=n) for n, placed in enumerate(inputs.samples[sample])),),
    )


def batch(**changes: Any) -> FluxInputs:
    """Three samples with other prompts: two subjects, one, and three of which one has a region and one a scale."""
    three = inputs_of(CASE, fast=True).references
    references = (three[0], three[1], three[1], three[0], three[2], three[1])
    region = torch.arange(PIXELS) % COLUMNS < 3
    samples = (
        (Placed(reference=0), Placed(reference=1)),
        (Placed(reference=2),),
        (
            Placed(reference=3, region=region),
            Placed(reference=4, appearance_scale=0.5, reference_scale=2.0),
            Placed(reference=5),
        ),
    )
    return FluxInputs(references=references, prompts=(0, 0, 1, 2, 2, 2), samples=samples, **changes)


@pytest.mark.parametrize("fast", [True, False])
def test_samples_of_a_batch_do_not_see_each_other(fast: bool) -> None:
    inputs, arguments = batch(fast=fast), given(3)
    together, state = run(state := state_of(inputs), arguments), state
    for i in range(3):
        alone = run(own := state_of(of_one(inputs, i)), {name: value[i : i + 1] for name, value in arguments.items()})
        torch.testing.assert_close(together[i], alone[0], rtol=1e-4, atol=1e-5)
        for layer, owners in own.owners.items():
            assert torch.equal(owners[0], state.owners[layer][i])


def test_the_fast_form_is_the_plain_form() -> None:
    arguments = given(3)
    for changes in ({}, {"reference_shift": 0.5}, {"use_masks": False}, {"use_router": False}):
        fast, plain = (run(state_of(batch(fast=fast, **changes)), arguments) for fast in (True, False))
        torch.testing.assert_close(fast, plain, rtol=1e-4, atol=1e-5)
        assert (fast - run(None, arguments)).abs().max() > 0.01


def test_nothing_acts_and_it_is_the_stock_transformer() -> None:
    arguments = given(3)
    assert torch.equal(run(state_of(batch(), Acting()), arguments), run(None, arguments))


def test_a_scale_of_zero_leaves_a_subject_out() -> None:
    """But not its place in the routing: its pixels become nobody's."""
    three = inputs_of(CASE, fast=True)
    arguments, region = given(1), torch.arange(PIXELS) < 6
    placed = (
        Placed(reference=0, region=region),
        Placed(reference=1, region=~region, appearance_scale=0.0, reference_scale=0.0),
    )
    without = replace(three, samples=(placed[:1],))
    found = run(state_of(replace(three, samples=(placed,))), arguments)
    torch.testing.assert_close(found, run(state_of(without), arguments), rtol=1e-4, atol=1e-5)


def test_a_scale_is_a_weight_before_the_softmax() -> None:
    """Twice the scale is what the subject's tokens given twice would be: checked on the attention's own shift."""
    inputs, arguments = inputs_of(Case(1, "unmasked", True, "wide"), fast=True), given(1)
    state = Acting(references=True)
    scaled = replace(inputs, samples=((Placed(reference=0, reference_scale=2.0),),))
    shifted = replace(inputs, reference_shift=float(torch.tensor(2.0).log()))
    assert run(state_of(scaled, state), arguments).allclose(run(state_of(shifted, state), arguments), atol=1e-6)


def test_owners() -> None:
    logits = torch.tensor([[1.0, 5.0, 0.0, 0.0], [2.0, 4.0, 9.0, 1.0], [3.0, 3.0, 3.0, 3.0]])
    left, top = torch.tensor([True, True, False, False]), torch.tensor([True, False, True, False])
    free = Placed(reference=0)

    def owners(*sample: Placed) -> list[int]:
        return Ownership.of([placed.region for placed in sample], 4, logits.device).owners(logits).tolist()

    assert owners(free, free, free) == [2, 0, 1, 2]
    assert owners(free, replace(free, region=left), free) == [1, 1, 2, 2]  # 1 does not compete outside its region
    assert owners(replace(free, region=top), replace(free, region=left), free) == [0, 1, 0, 2]  # the first one stays
    assert owners(replace(free, region=left), replace(free, region=left & top)) == [0, 0, NOBODY, NOBODY]


def streamed(inputs: FluxInputs, arguments: dict[str, Tensor], keys: ReferenceKeys) -> tuple[Tensor, int]:
    """A call's result, and how many references its stream computed."""
    state, rows = state_of(inputs, keys=keys), []

    def count(module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        rows.append(0 if state.reference_stream is None else len(state.reference_stream))

    hook = transformer().single_transformer_blocks[0].register_forward_pre_hook(count, with_kwargs=True)
    try:
        return run(state, arguments), rows[0]
    finally:
        hook.remove()


@pytest.mark.parametrize("device", [None, "cpu"])
def test_further_calls_compute_no_keys_anew(device: str | None) -> None:
    inputs, arguments, keys = inputs_of(CASE, fast=True), given(1), ReferenceKeys(device)
    expected = run(state_of(inputs), arguments)
    for computed in (3, 0):
        found, rows = streamed(inputs, dict(arguments), keys)
        assert rows == computed
        assert torch.equal(found, expected)
    layers, width = 4, 2 * 16
    kept = sum(int(reference.mask.sum()) for reference in inputs.references)
    assert keys.bytes == 2 * layers * kept * width * 4


def test_keys_of_another_prompt_or_reference_are_not_read() -> None:
    inputs, arguments = inputs_of(CASE, fast=True), given(1)
    first, *others = inputs.references
    changes = {
        "a pooled prompt": (inputs, arguments | {"pooled_projections": arguments["pooled_projections"] + 1}, 3),
        "a guidance": (inputs, arguments | {"guidance": arguments["guidance"] + 1}, 3),
        "masks": (replace(inputs, use_masks=False), arguments, 3),
        "a reference": (replace(inputs, references=(replace(first), *others)), arguments, 1),
        "a text of the same pooled prompt": (
            inputs,
            arguments | {"encoder_hidden_states": arguments["encoder_hidden_states"] * 2},
            0,
        ),
    }
    for changed, (other, given_then, computed) in changes.items():
        keys = ReferenceKeys()
        streamed(inputs, dict(arguments), keys)
        found, rows = streamed(other, dict(given_then), keys)
        assert rows == computed, changed
        torch.testing.assert_close(found, run(state_of(other), dict(given_then)), rtol=1e-4, atol=1e-5)


def test_a_call_that_breaks_off_leaves_the_transformer_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    inputs, arguments, model = inputs_of(CASE, fast=True), given(1), transformer()
    before, processors = run(None, arguments), dict(model.attn_processors)
    state = state_of(inputs)

    def fail(*args: Any, **kwargs: Any) -> Any:
        raise RuntimeError("out of memory")

    with monkeypatch.context() as broken:
        broken.setattr(model.single_transformer_blocks[0].attn.norm_q, "forward", fail)
        with pytest.raises(RuntimeError, match="out of memory"):
            run(state, arguments)
    assert dict(model.attn_processors) == processors
    assert not model._forward_pre_hooks
    assert torch.equal(run(None, arguments), before)
    assert torch.equal(run(state, arguments), run(state_of(inputs), arguments))  # half a cache is not used


def test_fused_projections() -> None:
    inputs, arguments = inputs_of(CASE, fast=True), given(1)
    expected = run(state_of(inputs), arguments)
    transformer().fuse_qkv_projections()
    try:
        assert run(state_of(inputs), arguments).allclose(expected, atol=1e-5)
    finally:
        transformer().unfuse_qkv_projections()


def test_windows() -> None:
    def steps(window: Window, number: int) -> list[int]:
        return [step for step in range(number) if window.holds(step, number)]

    redux, several = Window(start=0.1, end=0.3), Window(start=0.09, end=1.0)
    assert [steps(redux, n) for n in (25, 28, 8, 4)] == [[3, 4, 5, 6, 7], [3, 4, 5, 6, 7], [1], [0]]
    assert [steps(several, n)[0] for n in (25, 28, 8, 4)] == [2, 3, 1, 0]
    assert steps(Window(start=0.0, end=1.0), 25) == list(range(25))


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"prompts": (0,)}, "prompts must name a sample for each of 3"),
        ({"samples": ((Placed(reference=3),),)}, "only such as are there"),
        ({"samples": ((),)}, "must name references"),
        ({"samples": ((Placed(reference=0, reference_scale=-1.0),),)}, "at least 0"),
    ],
)
def test_inputs_that_cannot_be(changes: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        replace(inputs_of(CASE, fast=True), **changes)


def test_a_router_without_routing_tokens() -> None:
    inputs = inputs_of(CASE, fast=True)
    bare = tuple(replace(reference, routing=None) for reference in inputs.references)
    with pytest.raises(ValueError, match="routing tokens"):
        run(state_of(replace(inputs, references=bare)), given(1))


def test_a_window_that_cannot_be() -> None:
    with pytest.raises(ValueError, match=r"0\.5 to 0\.2"):
        Window(start=0.5, end=0.2)
