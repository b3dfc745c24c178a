"""Part 3 of the method: every fast path gives what the plain equations give."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import pytest
import torch
from torch import Tensor

from anystory.models import EncodedSubjects, FastPaths, Router, SubjectAdapter, SubjectConditioning
from anystory.models import log_sum_exp as lse_module
from anystory.models.absorbed_router import absorbed_logits, fold
from anystory.models.fast_paths import ALL, DIFFERENTIABLE, PLAIN
from anystory.models.grouped_attention import grouped_reference_attention, grouped_slot_attention
from anystory.models.injection import dense_reference_attention, merged_reference_attention, slot_attention
from anystory.models.log_sum_exp import attention_with_lse, fused_attention_with_lse
from anystory.models.owners import group_pixels
from models.tiny import encode, make_adapter, owned_by, reference_inputs, run_unet, seeded

SIZE = (8, 12)
SWITCHES = [field.name for field in fields(FastPaths)]
ONE_OFF = [replace(ALL, **{name: False}) for name in SWITCHES]
ONE_ON = [replace(PLAIN, **{name: True}) for name in SWITCHES]


def relative_error(result: Tensor, expected: Tensor) -> float:
    return float((result - expected).abs().max() / expected.abs().max())


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
            cond.set_step_scales(scales=scales, reference_scales=reference_scales)
            out = run_unet(unet, cond, rows=batch, size=SIZE, repeat=2 if cond.guidance else 1)
    return out


@pytest.mark.parametrize("subjects", [1, 2, 5])
def test_the_whole_unet_gives_what_the_plain_equations_give(unet, strong_adapter, subjects):
    """A batch with padding, a picture that is not square, guidance, several steps."""
    with torch.no_grad():
        encoded = encode(strong_adapter, 2, subjects, present=absent_from(2, subjects))
    plain = two_steps(strong_adapter, unet, encoded, guidance=True, fast=PLAIN)
    stock = run_unet(unet, rows=2, size=SIZE, repeat=2)
    assert relative_error(stock, plain) > 1e-2  # or nothing would be compared
    for paths in (ALL, *ONE_OFF, *ONE_ON):
        fast = two_steps(strong_adapter, unet, encoded, guidance=True, fast=paths)
        assert relative_error(fast, plain) <= 1e-5, paths


@pytest.mark.parametrize("settings", [{"guidance": False}, {"guidance": True, "unconditional": "base"}])
@pytest.mark.parametrize("routed", [True, False])
def test_other_settings_of_a_call_have_the_same_twins(unet, strong_adapter, settings, routed):
    with torch.no_grad():
        encoded = encode(strong_adapter, 2, 2, present=absent_from(2, 2))
    plain = two_steps(strong_adapter, unet, encoded, use_router=routed, **settings, fast=PLAIN)
    for paths in (ALL, *ONE_OFF):
        fast = two_steps(strong_adapter, unet, encoded, use_router=routed, **settings, fast=paths)
        assert relative_error(fast, plain) <= 1e-5, paths


def test_without_any_subject_only_the_background_is_injected(unet, strong_adapter):
    """N = 0, as padding: a sample of a batch that has no subject at all."""
    with torch.no_grad():
        encoded = encode(strong_adapter, 2, 1, present=torch.zeros(2, 1, dtype=torch.bool))
    plain = two_steps(strong_adapter, unet, encoded, guidance=True, fast=PLAIN)
    assert relative_error(two_steps(strong_adapter, unet, encoded, guidance=True), plain) <= 1e-5
    background = two_steps(
        strong_adapter, unet, encoded, guidance=True, gate_masks=owned_by(-1, batch=2, slots=2, size=SIZE)
    )
    assert relative_error(background, plain) <= 1e-5


@pytest.mark.parametrize("owner", [0, 1, -1])
def test_a_slot_may_own_everything_and_the_others_nothing(unet, strong_adapter, owner):
    with torch.no_grad():
        encoded = encode(strong_adapter, 2, 2)
    masks = owned_by(owner, batch=2, size=SIZE)
    plain = two_steps(strong_adapter, unet, encoded, guidance=True, gate_masks=masks, fast=PLAIN)
    for paths in (ALL, *ONE_OFF):
        fast = two_steps(strong_adapter, unet, encoded, guidance=True, gate_masks=masks, fast=paths)
        assert relative_error(fast, plain) <= 1e-5, paths


def test_two_images_per_prompt_share_the_references(unet, strong_adapter):
    with torch.no_grad():
        encoded = encode(strong_adapter, 1, 2).repeat_interleave(2)
        projected = strong_adapter.project(encode(strong_adapter, 1, 2)).repeat_interleave(2)
    plain = two_steps(strong_adapter, unet, encoded, guidance=True, fast=PLAIN)
    for subjects in (encoded, projected):
        assert relative_error(two_steps(strong_adapter, unet, subjects, guidance=True), plain) <= 1e-5
    layer = next(iter(projected.features))
    for tensor in (projected.tokens, projected.features[layer], *projected.projected[layer]):
        assert tensor.shape[0] == 2
        assert tensor[0].data_ptr() == tensor[1].data_ptr()  # no copy


def test_a_compiled_unet_does_without_groups(unet, strong_adapter, monkeypatch):
    with torch.no_grad():
        encoded = encode(strong_adapter, 2, 2)
    plain = two_steps(strong_adapter, unet, encoded, guidance=True, fast=PLAIN)
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    monkeypatch.setattr(SubjectConditioning, "owners", None)  # group sizes would break the graph
    monkeypatch.setattr(SubjectConditioning, "reads_references", None)
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
    for subjects, paths in ((projected, ALL), (encoded, ALL), (encoded, PLAIN)):
        calls.clear()
        results.append(two_steps(strong_adapter, unet, subjects, gate_masks=owned_by(0, size=SIZE), fast=paths))
        counts.append(len(calls))
    for hook in hooks:
        hook.remove()
    assert counts == [0, len(modules), 2 * len(modules)]
    assert torch.equal(results[0], results[1])


@pytest.mark.parametrize("how", ["the same", "another tensor", "written into", "switched off"])
def test_the_prompt_is_projected_once_and_again_when_it_changes(unet, strong_adapter, how):
    """A callback may exchange or overwrite the prompt's embeddings between two steps."""
    with torch.no_grad():
        encoded = encode(strong_adapter, 1, 2)
    paths = replace(ALL, text_once=how != "switched off")
    calls = []
    layers = [module for name, module in unet.named_modules() if name.endswith("attn2")]
    hooks = [layer.to_k.register_forward_hook(lambda *_: calls.append(1)) for layer in layers]
    text, other = torch.randn(2, 1, 6, 20, generator=seeded(5)).unbind(0)
    text, other = text.clone(), other.clone()
    outputs = {}
    for fast in (paths, PLAIN):
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
        if fast is paths:
            assert len(calls) == (0 if how == "the same" else len(layers))
    for hook in hooks:
        hook.remove()
    assert relative_error(outputs[paths], outputs[PLAIN]) <= 1e-5


def test_a_prompt_in_inference_mode_is_not_kept(unet, strong_adapter):
    with torch.inference_mode():
        encoded = encode(strong_adapter, 1, 1)
        cond = SubjectConditioning(encoded=encoded)
        text = torch.randn(1, 6, 20, generator=seeded(5))
        with strong_adapter.installed_on(unet):
            first = run_unet(unet, cond, text=text)
            text.mul_(-1)
            assert relative_error(run_unet(unet, cond, text=text), first) > 1e-3


def test_other_tokens_have_other_keys_and_values(strong_adapter):
    with torch.no_grad():
        projected = strong_adapter.project(encode(strong_adapter, 2, 1))
    assert projected.drop_clip(torch.tensor([True, False])).projected == {}
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


# Never where a gradient may be asked for.


def test_training_takes_the_plain_way(strong_adapter):
    with torch.no_grad():
        encoded = encode(strong_adapter, 1, 1)
    cond = SubjectConditioning(encoded=encoded)
    assert cond.paths is DIFFERENTIABLE
    assert not cond.groups_pixels
    with torch.no_grad():
        assert cond.paths is ALL
        assert cond.groups_pixels
        assert SubjectConditioning(encoded=encoded, gumbel_temperature=1.0).paths is DIFFERENTIABLE
    with pytest.raises(AssertionError, match="no gradient"):
        fused_attention_with_lse(*torch.randn(3, 1, 1, 2, 4, requires_grad=True))


# Absorbed router.


@pytest.mark.parametrize("slots", [1, 2, 3, 6])
@pytest.mark.parametrize("scale", [0.3, 1.0])
def test_absorbed_router_is_the_router(slots, scale):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        router = Router(dim=16, routing_dim=10, router_dim=8, heads=2)
        for parameter in router.parameters():
            torch.nn.init.normal_(parameter, std=scale)
    routing = torch.randn(2, slots, 10, generator=seeded(1))
    states = torch.randn(2, 35, 16, generator=seeded(2))
    present = torch.ones(2, slots, dtype=torch.bool)
    present[1, : slots // 2] = False
    with torch.no_grad():
        expected = router(routing, states, present)
        result = absorbed_logits(router, fold(router, routing), routing, states, present)
    for absorbed, plain in zip(result, expected, strict=True):
        assert absorbed.dtype == torch.float32
        assert torch.equal(absorbed.isinf(), plain.isinf())
        assert relative_error(absorbed.nan_to_num(neginf=0), plain.nan_to_num(neginf=0)) <= 1e-5


def test_absorbed_router_lets_a_slot_that_wins_nothing_see_all():
    """D4: the coarse map of the second slot is far below the first's everywhere."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        router = Router(dim=16, routing_dim=10, router_dim=8, heads=2)
        router.coarse_pixel.weight.data.zero_()
        router.coarse_pixel.bias.data.copy_(router.coarse_slot.weight[:, 0])
    routing = torch.zeros(1, 2, 10)
    routing[0, 0, 0], routing[0, 1, 0] = 1, -1
    states = torch.randn(1, 12, 16, generator=seeded(3))
    present = torch.ones(1, 2, dtype=torch.bool)
    with torch.no_grad():
        coarse, refined = router(routing, states, present)
        assert (coarse[:, 0] > coarse[:, 1]).all()
        again = absorbed_logits(router, fold(router, routing), routing, states, present)
    assert relative_error(again[0], coarse) <= 1e-5
    assert relative_error(again[1], refined) <= 1e-5


# Pixels grouped by owner.


def gate_of(owner: Tensor, slots: int) -> Tensor:
    """(B, L) owners -> (B, S, L) one-hot."""
    return (owner[:, None] == torch.arange(slots)[None, :, None]).float()


def test_groups_hold_every_pixel_once_with_its_owner():
    owner = torch.randint(0, 4, (3, 35), generator=seeded(0))
    owner[1] = 2  # owns everything
    owner[2][owner[2] == 0] = 3  # slot 0 owns nothing
    groups = group_pixels(gate_of(owner, 4))
    seen = torch.full_like(owner, -1)
    for group in groups:
        assert len(group.pixels) > 0
        assert group.pixels.diff().gt(0).all()
        assert seen[group.sample, group.pixels].eq(-1).all()
        seen[group.sample, group.pixels] = group.slot
    assert torch.equal(seen, owner)
    assert [(group.sample, group.slot) for group in groups] == sorted({(g.sample, g.slot) for g in groups})


def attention_case(subjects: int, pixels: int = 35) -> dict[str, Tensor]:
    generator = seeded(5)
    query, key, value = torch.randn(3, 2, 2, pixels, 8, generator=generator)
    reference_key, reference_value = torch.randn(2, 2, subjects, 2, 7, 8, generator=generator)
    owner = torch.randint(0, subjects + 1, (2, pixels), generator=generator)
    return {
        "query": query,
        "key": key,
        "value": value,
        "reference_key": reference_key,
        "reference_value": reference_value,
        "gate": gate_of(owner, subjects + 1)[:, :-1],
        "bias": torch.randn(2, subjects, generator=generator),
    }


@pytest.mark.parametrize("subjects", [1, 2, 5])
@pytest.mark.parametrize("stretch", [1.0, 20.0])
def test_grouped_reference_attention_is_the_masked_one(subjects, stretch):
    case = attention_case(subjects)
    case["query"] = case["query"] * stretch  # log-sum-exps far apart
    with torch.no_grad():
        plain = dense_reference_attention(**case)
        gate = case.pop("gate")
        background = 1 - gate.sum(1, keepdim=True)
        groups = [g for g in group_pixels(torch.cat([gate, background], 1)) if g.slot < subjects]
        grouped = grouped_reference_attention(**case, groups=groups)
        assert relative_error(grouped, plain) <= 1e-5
        merged = merged_reference_attention(**case, gate=gate, attend=fused_attention_with_lse)
        assert relative_error(merged, plain) <= 1e-5


@pytest.mark.parametrize("slots", [1, 3, 6])
def test_grouped_slot_attention_is_the_gated_sum(slots):
    generator = seeded(6)
    query = torch.randn(2, 2, 35, 8, generator=generator)
    key, value = torch.randn(2, 2, slots, 2, 5, 8, generator=generator)
    gate = gate_of(torch.randint(0, slots, (2, 35), generator=generator), slots)
    scales = torch.rand(2, slots, generator=generator)
    plain = slot_attention(query, key, value, gate * scales[:, :, None])
    assert relative_error(grouped_slot_attention(query, key, value, group_pixels(gate), scales), plain) <= 1e-5


def test_a_reference_of_scale_zero_is_in_no_group(strong_adapter):
    with torch.no_grad():
        encoded = encode(strong_adapter, 1, 2)
    cond = SubjectConditioning(encoded=encoded, gate_masks=owned_by(0), reference_scales=torch.tensor([[0.0, 1.0]]))
    cond.begin((8, 8))
    assert len(cond.owners("x", 16)) == 1
    assert cond.reading_owners("x", 16) == ()
    cond.set_step_scales(reference_scales=torch.ones(1, 2))
    assert len(cond.reading_owners("x", 16)) == 1


def test_without_the_router_no_pixel_has_an_owner(strong_adapter):
    with torch.no_grad():
        encoded = encode(strong_adapter, 1, 1)
    with pytest.raises(ValueError, match="no pixel has one owner"):
        SubjectConditioning(encoded=encoded, use_router=False).owners("x", 16)


# Log-sum-exp.


@pytest.mark.parametrize("parts", [False, True])
@pytest.mark.parametrize("shape", [(1, 1, 1, 1), (2, 3, 33, 17), (1, 2, 5, 256)])
def test_fused_attention_gives_output_and_log_sum_exp(monkeypatch, shape, parts):
    batch, heads, length, tokens = shape
    query = 3 * torch.randn(batch, length, heads, 8, generator=seeded(0)).transpose(1, 2)  # as heads are split
    key, value = torch.randn(2, batch, heads, tokens, 8, generator=seeded(1))
    if parts:
        monkeypatch.setattr(lse_module, "_kernel", lambda *_: None)
        monkeypatch.setattr(lse_module, "_MOST_SCORES", 40)
    with torch.no_grad():
        expected, expected_lse = attention_with_lse(query, key, value)
        result, lse = fused_attention_with_lse(query, key, value)
    assert result.shape == query.shape
    assert lse.dtype == torch.float32
    assert relative_error(result, expected) <= 1e-5
    assert relative_error(lse, expected_lse) <= 1e-5


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_fused_attention_keeps_half_precision(dtype):
    query, key, value = torch.randn(3, 1, 2, 9, 8, generator=seeded(2)).to(dtype)
    with torch.no_grad():
        result, lse = fused_attention_with_lse(query, key, value)
        expected, expected_lse = attention_with_lse(query.float(), key.float(), value.float())
    assert result.dtype == dtype
    assert lse.dtype == torch.float32
    assert relative_error(result.float(), expected) <= 2e-2
    assert relative_error(lse, expected_lse) <= 2e-2


@pytest.mark.slow
def test_the_whole_unet_compiles_into_one_graph(unet, strong_adapter):
    """No graph break, and a second call with other subjects compiles nothing anew."""
    with torch.no_grad():
        encoded, other = (strong_adapter.project(encode(strong_adapter, 1, 2)) for _ in range(2))
    compiled = torch.compile(unet, fullgraph=True, backend="eager")
    for subjects in (encoded, other):
        plain = two_steps(strong_adapter, unet, subjects, guidance=True, fast=PLAIN)
        assert relative_error(two_steps(strong_adapter, compiled, subjects, guidance=True), plain) <= 1e-5
