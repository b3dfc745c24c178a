"""The fast form gives what the plain form gives."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from anystory.evaluation.bench.calls import encoded_subjects
from anystory.evaluation.bench.networks import SDXL, Networks
from anystory.models import EncodedSubjects, Everywhere, FixedMaps, SubjectAdapter, SubjectConditioning
from anystory.models.routing_state import RoutingState
from models.tiny import CONFIG, encode, make_adapter, owned_by, reference_inputs, relative_error, run_unet, seeded

SIZE = (8, 12)


@pytest.fixture(scope="module")
def strong_adapter(unet) -> SubjectAdapter:
    """Weights large enough that every injection and every routing decision shows in the result."""
    adapter = make_adapter(unet)
    for name, parameter in adapter.named_parameters():
        if "cross_projections" in name or "routers" in name:
            parameter.data.mul_(4)
    return adapter


def absent_from(batch: int, subjects: int) -> Tensor:
    """Every sample but the first lacks its last subject."""
    present = torch.ones(batch, subjects, dtype=torch.bool)
    present[1:, -1] = subjects == 1
    return present


def two_steps(adapter: SubjectAdapter, unet: Any, encoded: EncodedSubjects, **settings: Any) -> Tensor:
    """The second of two U-Net calls with other strengths: what is kept between steps must still be right."""
    cond = SubjectConditioning(encoded=encoded, **settings)
    batch, subjects = encoded.batch_size, encoded.num_subjects
    base = getattr(unet, "_orig_mod", unet)  # of a compiled U-Net
    with torch.no_grad(), adapter.installed_on(base):
        for step in range(2):
            scales = 0.5 + torch.rand(batch, subjects, generator=seeded(step))
            reference_scales = 2 * torch.rand(batch, subjects, generator=seeded(step + 7))
            cond = replace(cond, scales=scales, reference_scales=reference_scales)
            out = run_unet(unet, cond, rows=batch, size=SIZE, repeat=2 if cond.guidance else 1)
    return out


@pytest.mark.parametrize("subjects", [1, 2, 5])
def test_the_whole_unet_gives_what_the_plain_equations_give(unet, strong_adapter, subjects):
    """A batch with padding, a picture that is not square, guidance, several steps."""
    with torch.no_grad():
        encoded = encode(strong_adapter, 2, subjects, present=absent_from(2, subjects))
    plain = two_steps(strong_adapter, unet, encoded, guidance=True, fast=False)
    stock = run_unet(unet, rows=2, size=SIZE, repeat=2)
    assert relative_error(stock, plain) > 1e-2  # or nothing would be compared
    assert relative_error(two_steps(strong_adapter, unet, encoded, guidance=True), plain) <= 1e-5


def test_shared_projections_have_the_same_twins(unet):
    adapter = make_adapter(unet, replace(CONFIG, map_projections="shared"))
    for name, parameter in adapter.named_parameters():
        if "cross_projections" in name or "routers" in name:
            parameter.data.mul_(4)
    with torch.no_grad():
        encoded = encode(adapter, 2, 2, present=absent_from(2, 2))
    plain = two_steps(adapter, unet, encoded, guidance=True, fast=False)
    assert relative_error(two_steps(adapter, unet, encoded, guidance=True), plain) <= 1e-5


@pytest.mark.parametrize("settings", [{"guidance": False}, {"guidance": True, "unconditional": "base"}])
@pytest.mark.parametrize("routed", [True, False])
def test_other_settings_of_a_call_have_the_same_twins(unet, strong_adapter, settings, routed):
    with torch.no_grad():
        encoded = encode(strong_adapter, 2, 2, present=absent_from(2, 2))
    settings = settings if routed else {**settings, "gate": Everywhere()}
    plain = two_steps(strong_adapter, unet, encoded, **settings, fast=False)
    assert relative_error(two_steps(strong_adapter, unet, encoded, **settings), plain) <= 1e-5


def test_without_any_subject_only_the_background_is_injected(unet, strong_adapter):
    """N = 0, as padding: a sample of a batch that has no subject at all."""
    with torch.no_grad():
        encoded = encode(strong_adapter, 2, 1, present=torch.zeros(2, 1, dtype=torch.bool))
    plain = two_steps(strong_adapter, unet, encoded, guidance=True, fast=False)
    assert relative_error(two_steps(strong_adapter, unet, encoded, guidance=True), plain) <= 1e-5
    background = two_steps(
        strong_adapter, unet, encoded, guidance=True, gate=FixedMaps(owned_by(-1, batch=2, slots=2, size=SIZE))
    )
    assert relative_error(background, plain) <= 1e-5


@pytest.mark.parametrize("owner", [0, 1, -1])
def test_a_slot_may_own_everything_and_the_others_nothing(unet, strong_adapter, owner):
    with torch.no_grad():
        encoded = encode(strong_adapter, 2, 2)
    gate = FixedMaps(owned_by(owner, batch=2, size=SIZE))
    plain = two_steps(strong_adapter, unet, encoded, guidance=True, gate=gate, fast=False)
    assert relative_error(two_steps(strong_adapter, unet, encoded, guidance=True, gate=gate), plain) <= 1e-5


def test_two_images_per_prompt_share_the_references(unet, strong_adapter):
    with torch.no_grad():
        encoded = encode(strong_adapter, 1, 2).repeat_interleave(2)
        projected = strong_adapter.project(encode(strong_adapter, 1, 2)).repeat_interleave(2)
    plain = two_steps(strong_adapter, unet, encoded, guidance=True, fast=False)
    for subjects in (encoded, projected):
        assert relative_error(two_steps(strong_adapter, unet, subjects, guidance=True), plain) <= 1e-5
    layer = next(iter(encoded.features))
    for tensor in (projected.tokens, encoded.features[layer], *projected.projected[layer]):
        assert tensor.shape[0] == 2
        assert tensor[0].data_ptr() == tensor[1].data_ptr()  # no copy


def test_a_compiled_unet_does_without_groups(unet, strong_adapter, monkeypatch):
    with torch.no_grad():
        encoded = encode(strong_adapter, 2, 2)
    plain = two_steps(strong_adapter, unet, encoded, guidance=True, fast=False)
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    monkeypatch.setattr(RoutingState, "groups", None)  # group sizes would break the graph
    monkeypatch.setattr(RoutingState, "reads", None)
    assert relative_error(two_steps(strong_adapter, unet, encoded, guidance=True), plain) <= 1e-5


# References once.


def test_projected_subjects_need_no_projection_in_a_call(unet, strong_adapter):
    with torch.no_grad():
        encoded = encode(strong_adapter, 1, 2)
        projected = strong_adapter.project(encoded)
    calls = []
    modules = [*strong_adapter.cross_projections.values(), *strong_adapter.reference_projections.values()]
    hooks = [module.to_k.register_forward_hook(lambda *_: calls.append(1)) for module in modules]
    counts = []
    results = []
    for subjects, fast in ((projected, True), (encoded, True), (encoded, False)):
        calls.clear()
        results.append(two_steps(strong_adapter, unet, subjects, gate=FixedMaps(owned_by(0, size=SIZE)), fast=fast))
        counts.append(len(calls))
    for hook in hooks:
        hook.remove()
    assert counts == [0, len(modules), 2 * len(modules)]
    assert torch.equal(results[0], results[1])


def test_projected_subjects_hold_no_features_and_the_plain_form_says_so(unet, strong_adapter):
    with torch.no_grad():
        projected = strong_adapter.project(encode(strong_adapter, 1, 2))
    assert not projected.features
    with pytest.raises(ValueError, match=r"hold no features of .*attn1.*give what it was called with"):
        two_steps(strong_adapter, unet, projected, gate=FixedMaps(owned_by(0, size=SIZE)), fast=False)


def test_what_a_subject_keeps_at_sdxls_sizes():
    """In half precision, MiB of one subject at 512 × 512: 49 of 167 were features that no step reads."""
    networks = Networks(sizes=SDXL, device=torch.device("meta"), dtype=torch.bfloat16)
    encoded, kept = (encoded_subjects(networks, 1, projected) for projected in (False, True))

    def mebibytes(tensors: list[Tensor]) -> int:
        return round(sum(tensor.nbytes for tensor in tensors) / 2**20)

    assert mebibytes([*encoded.features.values()]) == 49
    # The background's keys and values, the second of the two slots, are kept once for all subjects.
    assert mebibytes([part[:, :1] for pair in kept.projected.values() for part in pair]) == 118
    assert not kept.features


@pytest.mark.parametrize("how", ["the same", "another tensor", "written into"])
def test_the_prompt_is_projected_once_and_again_when_it_changes(unet, strong_adapter, how):
    """A callback may exchange or overwrite the prompt's embeddings between two steps."""
    with torch.no_grad():
        encoded = encode(strong_adapter, 1, 2)
    calls = []
    layers = [module for name, module in unet.named_modules() if name.endswith("attn2")]
    hooks = [layer.to_k.register_forward_hook(lambda *_: calls.append(1)) for layer in layers]
    text, other = torch.randn(2, 1, 6, 20, generator=seeded(5)).unbind(0)
    text, other = text.clone(), other.clone()
    outputs = {}
    for fast in (True, False):
        cond = SubjectConditioning(encoded=encoded, fast=fast)
        first = text.clone()
        with torch.no_grad(), strong_adapter.installed_on(unet):
            run_unet(unet, cond, text=first)
            calls.clear()
            if how == "another tensor":
                second = other
            else:
                second = first.copy_(other) if how == "written into" else first
            outputs[fast] = run_unet(unet, cond, text=second)
        if fast:
            assert len(calls) == (0 if how == "the same" else len(layers))
    for hook in hooks:
        hook.remove()
    assert relative_error(outputs[True], outputs[False]) <= 1e-5


def test_a_prompt_in_inference_mode_is_not_kept(unet, strong_adapter):
    with torch.inference_mode():
        encoded = encode(strong_adapter, 1, 1)
        cond = SubjectConditioning(encoded=encoded)
        text = torch.randn(1, 6, 20, generator=seeded(5))
        with strong_adapter.installed_on(unet):
            first = run_unet(unet, cond, text=text)
            text.mul_(-1)
            assert relative_error(run_unet(unet, cond, text=text), first) > 1e-3


def test_other_tokens_have_other_keys_and_values(unet, strong_adapter):
    with torch.no_grad():
        encoded = encode(strong_adapter, 2, 1)
        projected = strong_adapter.project(encoded)
    drop = torch.tensor([True, False])
    assert projected.drop_clip(drop).projected.keys() == encoded.features.keys(), "references are what they were"
    plain = two_steps(strong_adapter, unet, encoded.drop_clip(drop), guidance=True, fast=False)
    assert relative_error(two_steps(strong_adapter, unet, projected.drop_clip(drop), guidance=True), plain) <= 1e-5
    halved = projected.to(dtype=torch.bfloat16)
    assert {part.dtype for pair in halved.projected.values() for part in pair} == {torch.bfloat16}


def test_batched_references_are_each_as_alone(strong_adapter):
    with torch.no_grad():
        together = encode(strong_adapter, 1, 5)
        inputs = reference_inputs(1, 5)
        zero = inputs.pop("zero_hidden")
        for i in range(5):
            alone = strong_adapter.encode(
                **{name: value[:, i : i + 1] for name, value in inputs.items()}, zero_hidden=zero
            )
            assert relative_error(together.tokens[:, [i, -1]], alone.tokens) <= 1e-5
            assert relative_error(together.routing[:, [i, -1]], alone.routing) <= 1e-5
            for layer, features in alone.features.items():
                assert relative_error(together.features[layer][:, [i]], features) <= 1e-5


@pytest.mark.slow
def test_the_whole_unet_compiles_into_one_graph(unet, strong_adapter):
    """No graph break, and a second call with other subjects compiles nothing anew."""
    with torch.no_grad():
        encodings = [encode(strong_adapter, 1, 2) for _ in range(2)]
    compiled = torch.compile(unet, fullgraph=True, backend="eager")
    for subjects in encodings:
        plain = two_steps(strong_adapter, unet, subjects, guidance=True, fast=False)
        with torch.no_grad():
            projected = strong_adapter.project(subjects)
        assert relative_error(two_steps(strong_adapter, compiled, projected, guidance=True), plain) <= 1e-5
