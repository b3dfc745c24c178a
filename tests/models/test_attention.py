from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from diffusers.models.attention_processor import AttnProcessor2_0
from torch import Tensor

from anystory.models import Argmax, EncodedSubjects, Everywhere, FixedMaps, Gumbel, RecordedMaps, unet_layout
from anystory.models.attention import (
    attention_with_lse,
    merged_reference_attention,
    reference_attention,
    slot_attention,
)
from anystory.models.routing_state import RoutingState
from models.tiny import decide, encode, maps_of, owned_by, ready, seeded

FIRST = "down_blocks.1.attentions.0.transformer_blocks.0"  # 4 × 4 pixels for an 8 × 8 latent
SECOND = "down_blocks.2.attentions.0.transformer_blocks.0"  # 2 × 2
THIRD = "down_blocks.2.attentions.0.transformer_blocks.1"  # 2 × 2


def plain_attention(query: Tensor, key: Tensor, value: Tensor, bias: Tensor | float = 0.0) -> Tensor:
    """One head: (L, e), (T, e), (T, e) -> (L, e)."""
    return (query @ key.T / math.sqrt(query.shape[-1]) + bias).softmax(-1) @ value


def heads_of(tensor: Tensor, heads: int) -> list[Tensor]:
    return list(tensor.chunk(heads, dim=-1))


@pytest.fixture
def layer(unet, adapter):
    """Runs one layer of the U-Net with the adapter's processor."""
    processors = adapter._processors()
    states = {
        16: torch.randn(1, 16, 16, generator=seeded(7)),
        24: torch.randn(1, 4, 24, generator=seeded(8)),
    }
    text = torch.randn(1, 6, 20, generator=seeded(9))

    def run(name: str, cond: RoutingState | None, rows: int = 1) -> Tensor:
        attn = unet.get_submodule(name)
        hidden = states[attn.query_dim].repeat(rows, 1, 1)
        context = text.repeat(rows, 1, 1) if name.endswith("attn2") else None
        with torch.no_grad():
            return processors[name](attn, hidden, context, routing=cond)

    run.states, run.text = states, text  # type: ignore[attr-defined]
    return run


def split_masks(size: tuple[int, int] = (8, 8)) -> Tensor:
    """(1, 3, H, W): subject 0 the left half, subject 1 the right upper quarter, background the rest."""
    masks = torch.zeros(1, 3, *size)
    half_w, half_h = size[1] // 2, size[0] // 2
    masks[:, 0, :, :half_w] = 1
    masks[:, 1, :half_h, half_w:] = 1
    masks[:, 2, half_h:, half_w:] = 1
    return masks


# Cross-attention.


def test_slot_attention_is_the_gated_sum():
    generator = seeded(0)
    query = torch.randn(2, 3, 5, 4, generator=generator)
    key, value = torch.randn(2, 2, 4, 3, 6, 4, generator=generator)
    weights = torch.rand(2, 4, 5, generator=generator)
    result = slot_attention(query, key, value, weights)
    for b in range(2):
        for h in range(3):
            expected = sum(
                weights[b, s][:, None] * plain_attention(query[b, h], key[b, s, h], value[b, s, h]) for s in range(4)
            )
            torch.testing.assert_close(result[b, h], expected)


def test_cross_attention_is_the_papers_equation(unet, adapter, layer):
    encoded = encode(adapter, 1, 2)
    scales = torch.tensor([[0.7, 1.3]])
    masks = split_masks()
    result = layer(f"{FIRST}.attn2", ready(encoded, gate=FixedMaps(masks), scales=scales))

    attn, projection = unet.get_submodule(f"{FIRST}.attn2"), adapter._projection(f"{FIRST}.attn2")
    hidden, text = layer.states[16][0], layer.text[0]
    gates = masks[0, :, ::2, ::2].flatten(1)  # 4 × 4
    weights = gates * torch.tensor([0.7, 1.3, 1.0])[:, None]
    queries = heads_of(attn.to_q(hidden), attn.heads)
    out = []
    for h, query in enumerate(queries):
        total = plain_attention(query, heads_of(attn.to_k(text), 2)[h], heads_of(attn.to_v(text), 2)[h])
        for slot in range(3):
            tokens = encoded.tokens[0, slot]
            key, value = heads_of(projection.to_k(tokens), 2)[h], heads_of(projection.to_v(tokens), 2)[h]
            total = total + weights[slot][:, None] * plain_attention(query, key, value)
        out.append(total)
    torch.testing.assert_close(result[0], attn.to_out[0](torch.cat(out, -1)))


def test_without_the_router_every_slot_is_everywhere(unet, adapter, layer):
    """Both kinds of layer: the sum of what each slot gives when it owns everything; all references' keys at once."""
    encoded = encode(adapter, 1, 2)
    everywhere = ready(encoded, gate=Everywhere())
    name, attn = f"{FIRST}.attn2", unet.get_submodule(f"{FIRST}.attn2")
    text_only = layer(name, None)[0]
    expected = text_only.clone()
    for slot in range(3):
        masks = torch.zeros(1, 3, 8, 8)
        masks[:, slot] = 1
        expected = expected + layer(name, ready(encoded, gate=FixedMaps(masks)))[0] - text_only  # to_out is affine
    torch.testing.assert_close(layer(name, everywhere)[0], expected)

    name = f"{THIRD}.attn1"
    attn, projection = unet.get_submodule(name), adapter._projection(name)
    hidden, features = layer.states[24][0], encoded.features[name][0].flatten(0, 1)
    keys = heads_of(torch.cat([attn.to_k(hidden), projection.to_k(features)]), attn.heads)
    values = heads_of(torch.cat([attn.to_v(hidden), projection.to_v(features)]), attn.heads)
    queries = heads_of(attn.to_q(hidden), attn.heads)
    joined = torch.cat([plain_attention(*of) for of in zip(queries, keys, values, strict=True)], -1)
    torch.testing.assert_close(layer(name, everywhere)[0], attn.to_out[0](joined))


def test_without_the_router_padding_is_nowhere(adapter, layer):
    encoded = encode(adapter, 1, 2)
    encoded.present[0, 1] = False
    alone = ready(encode(adapter, 1, 1), gate=Everywhere())
    for name in (f"{FIRST}.attn2", f"{THIRD}.attn1"):
        padded = layer(name, ready(encoded, gate=Everywhere()))
        assert padded.isfinite().all()
        assert not torch.equal(padded, layer(name, None))
    assert decide(ready(encoded, gate=Everywhere()), 16, None)[0, :, 0].tolist() == [1, 0, 1]
    assert decide(alone, 16, None)[0, :, 0].tolist() == [1, 1]


def test_cross_attention_masks_text_as_the_base_does(unet, adapter):
    name = f"{FIRST}.attn2"
    attn, processor = unet.get_submodule(name), adapter._processors()[name]
    hidden, text = torch.randn(1, 16, 16, generator=seeded(0)), torch.randn(1, 6, 20, generator=seeded(1))
    mask = torch.zeros(1, 1, 6)
    mask[..., 4:] = -10000.0
    cond = ready(encode(adapter, 1, 1), gate=FixedMaps(owned_by(0, slots=2)), scales=torch.zeros(1, 1))
    masked = processor(attn, hidden, text, mask, routing=cond)
    torch.testing.assert_close(masked, AttnProcessor2_0()(attn, hidden, text, mask))
    torch.testing.assert_close(masked, AttnProcessor2_0()(attn, hidden, text[:, :4]))


def test_scale_zero_removes_the_term(unet, adapter, layer):
    encoded = encode(adapter, 1, 2)
    name, attn = f"{FIRST}.attn2", unet.get_submodule(f"{FIRST}.attn2")
    base = AttnProcessor2_0()(attn, layer.states[16], layer.text)
    result = layer(name, ready(encoded, gate=FixedMaps(split_masks()), scales=torch.tensor([[0.0, 1.0]])))
    owned = split_masks()[0, 0, ::2, ::2].flatten().bool()
    torch.testing.assert_close(result[0, owned], base[0, owned])
    assert not torch.allclose(result[0, ~owned], base[0, ~owned])


# Self-attention.


def reference_case(seed: int = 0, **shape: int) -> dict[str, Any]:
    s = {"B": 2, "N": 3, "H": 2, "L": 5, "T": 4, "e": 4, **shape}
    generator = seeded(seed)
    query, key, value = torch.randn(3, s["B"], s["H"], s["L"], s["e"], generator=generator)
    reference_key, reference_value = torch.randn(2, s["B"], s["N"], s["H"], s["T"], s["e"], generator=generator)
    owner = torch.randint(0, s["N"] + 1, (s["B"], 1, s["L"]), generator=generator)
    return {
        "query": query,
        "key": key,
        "value": value,
        "reference_key": reference_key,
        "reference_value": reference_value,
        "gate": (owner == torch.arange(s["N"])[None, :, None]).float(),
        "bias": torch.tensor([[0.3, -0.5, 0.0], [0.0, -math.inf, 1.0]])[:, : s["N"]],
    }


@pytest.mark.parametrize("attend", [reference_attention, merged_reference_attention])
def test_reference_attention_joins_the_owners_keys(attend: Callable[..., Tensor]):
    case = reference_case()
    result = attend(**case)
    for b in range(2):
        for h in range(2):
            for p in range(5):
                keys, values, biases = [case["key"][b, h]], [case["value"][b, h]], [torch.zeros(5)]
                for i in range(3):
                    if case["gate"][b, i, p] and case["bias"][b, i] > -math.inf:
                        keys.append(case["reference_key"][b, i, h])
                        values.append(case["reference_value"][b, i, h])
                        biases.append(case["bias"][b, i].expand(4))
                expected = plain_attention(
                    case["query"][b, h, p][None], torch.cat(keys), torch.cat(values), torch.cat(biases)
                )
                torch.testing.assert_close(result[b, h, p], expected[0])


def test_merged_and_dense_attention_are_equal_at_odds_of_all_sizes():
    case = reference_case(N=3, L=33, T=17, e=8)
    case["query"] = case["query"] * 10
    torch.testing.assert_close(merged_reference_attention(**case), reference_attention(**case))


def test_gradient_of_the_gate_stays_small_for_references_far_above_the_latent():
    """A trained W̃ has such logits: unbounded, they gave stage 2 gradients of 1e11 that drowned the routing loss."""
    case = reference_case()
    case["reference_key"] = case["reference_key"] * 30
    gate = torch.zeros_like(case.pop("gate")).requires_grad_()  # the background owns everything
    out = merged_reference_attention(**case, gate=gate)
    (gradient,) = torch.autograd.grad(out.sum(), gate)
    largest = max(case["value"].abs().max(), case["reference_value"].abs().max())
    heads_and_widths = out.shape[1] * out.shape[3]
    assert gradient.abs().max() <= 2 * largest * heads_and_widths
    assert gradient.abs().max() > 0


def test_gradient_of_the_gate_is_the_equations():
    """out = (e^s o + Σ m_i e^{r_i+γ_i} o_i) / D, so d out / d m_i = e^{r_i+γ_i} (o_i − out) / D, but bounded."""
    case = reference_case()
    gate = case.pop("gate").requires_grad_()
    out = merged_reference_attention(**case, gate=gate)
    weights = torch.randn(out.shape, generator=seeded(1))
    (gradient,) = torch.autograd.grad((out * weights).sum(), gate)
    own, s = attention_with_lse(case["query"], case["key"], case["value"])
    other, r = attention_with_lse(case["query"][:, None], case["reference_key"], case["reference_value"])
    logit = r + case["bias"][:, :, None, None]
    total = s.exp() + (gate[:, :, None] * logit.exp()).sum(1)
    torch.testing.assert_close(
        out,
        (s.exp()[..., None] * own + ((gate[:, :, None] * logit.exp())[..., None] * other).sum(1)) / total[..., None],
    )
    # Who does not own the pixel is imagined with at most the weight of the strongest that is there.
    strongest = torch.maximum(s, logit.masked_fill(gate[:, :, None] == 0, -math.inf).amax(1))
    imagined = torch.minimum(logit, strongest[:, None]).exp()
    slope = imagined[..., None] * (other - out[:, None]) / total[:, None, ..., None]
    torch.testing.assert_close(gradient, (slope * weights[:, None]).sum((2, 4)))


def test_merged_and_dense_attention_have_the_same_gradients():
    def gradients(attend: Callable[..., Tensor]) -> list[Tensor]:
        case = reference_case()
        case["bias"] = torch.tensor([[0.3, -0.5, 0.0], [0.0, 0.2, 1.0]])
        inputs = [case[name].requires_grad_() for name in case if name not in ("gate", "bias")]
        out = attend(**case)
        return list(torch.autograd.grad((out * torch.randn(out.shape, generator=seeded(1))).sum(), inputs))

    for merged, dense in zip(gradients(merged_reference_attention), gradients(reference_attention), strict=True):
        torch.testing.assert_close(merged, dense)


def test_log_sum_exp_is_that_of_the_scores():
    case = reference_case()
    out, lse = attention_with_lse(case["query"], case["key"], case["value"])
    scores = case["query"] @ case["key"].mT / 2
    torch.testing.assert_close(lse, scores.exp().sum(-1).log())
    torch.testing.assert_close(out, scores.softmax(-1) @ case["value"])


def test_extreme_scores_give_finite_values_and_gradients():
    case = reference_case()
    case["reference_key"] = case["reference_key"] * 1e4
    case["query"].requires_grad_()
    case["gate"].requires_grad_()
    out = merged_reference_attention(**case)
    out.sum().backward()
    torch.testing.assert_close(out, reference_attention(**case))
    for name in ("query", "gate"):
        gradient = case[name].grad
        assert gradient is not None
        assert gradient.isfinite().all()


def test_self_attention_reads_the_preceding_map(unet, adapter, layer):
    """At equal sizes the router's own σ; γ = log(reference scale); G through W̃."""
    encoded = encode(adapter, 1, 2)
    cond = ready(encoded, reference_scales=torch.tensor([[0.5, 2.0]]), record=RecordedMaps())
    layer(f"{SECOND}.attn2", cond)
    result = layer(f"{THIRD}.attn1", cond)

    attn, projection = unet.get_submodule(f"{THIRD}.attn1"), adapter._projection(f"{THIRD}.attn1")
    hidden, gate = layer.states[24][0], maps_of(cond)[f"{SECOND}.attn2"].gate[0].flatten(1)
    heads = attn.heads
    out = []
    for h in range(heads):
        rows = []
        for p in range(4):
            query = heads_of(attn.to_q(hidden), heads)[h][p][None]
            keys, values, bias = [attn.to_k(hidden)], [attn.to_v(hidden)], torch.zeros(4)
            for i, scale in enumerate((0.5, 2.0)):
                if gate[i, p]:
                    source = encoded.features[f"{THIRD}.attn1"][0, i]
                    keys.append(projection.to_k(source))
                    values.append(projection.to_v(source))
                    bias = torch.cat([bias, torch.full((len(source),), math.log(scale))])
            key, value = (heads_of(torch.cat(part), heads)[h] for part in (keys, values))
            rows.append(plain_attention(query, key, value, bias))
        out.append(torch.cat(rows))
    torch.testing.assert_close(result[0], attn.to_out[0](torch.cat(out, -1)))


@pytest.mark.parametrize("temperature", [None, 0.5])
def test_dense_and_merged_processors_agree(unet, adapter, temperature):
    """Training's differentiable form gives what inference's dense form gives for the same gates."""
    encoded = encode(adapter, 1, 2)
    cond = ready(
        encoded,
        gate=Argmax() if temperature is None else Gumbel(temperature, seeded(0)),
        record=RecordedMaps(keep_graph=True),
    )
    hidden = torch.randn(1, 4, 24, generator=seeded(1))
    processors = adapter._processors()
    name = f"{SECOND}.attn2"
    processors[name](unet.get_submodule(name), hidden, torch.randn(1, 6, 20), routing=cond)
    name = f"{THIRD}.attn1"
    trained = processors[name](unet.get_submodule(name), hidden, routing=cond)
    oracle = torch.nn.functional.interpolate(maps_of(cond)[f"{SECOND}.attn2"].gate.detach(), (8, 8))
    dense = processors[name](unet.get_submodule(name), hidden, routing=ready(encoded, gate=FixedMaps(oracle)))
    torch.testing.assert_close(trained, dense)


# Ownership, exactly.


def other_subject(encoded: EncodedSubjects, slot: int) -> EncodedSubjects:
    """Everything about one slot replaced by large noise; the routing features stay."""
    tokens = encoded.tokens.clone()
    tokens[:, slot] = 50 * torch.randn(tokens[:, slot].shape, generator=seeded(20))
    features = {name: value.clone() for name, value in encoded.features.items()}
    if slot < encoded.num_subjects:
        for value in features.values():
            value[:, slot] = 50 * torch.randn(value[:, slot].shape, generator=seeded(21))
    return EncodedSubjects(tokens=tokens, routing=encoded.routing, features=features, present=encoded.present)


@pytest.mark.parametrize("changed", [0, 1, 2])
def test_a_pixel_is_not_changed_by_any_other_slot(adapter, layer, changed):
    encoded = encode(adapter, 1, 2)
    masks = split_masks()
    before, after = ready(encoded, gate=FixedMaps(masks)), ready(other_subject(encoded, changed), gate=FixedMaps(masks))
    for name in (f"{FIRST}.attn2", f"{SECOND}.attn2", f"{SECOND}.attn1", f"{THIRD}.attn1"):
        old, new = layer(name, before), layer(name, after)
        side = int(math.sqrt(old.shape[1]))
        owned = masks[0, changed, :: 8 // side, :: 8 // side].flatten().bool()
        assert torch.equal(old[0, ~owned], new[0, ~owned]), name
        if name.endswith("attn2") or changed < 2:
            assert not torch.equal(old[0, owned], new[0, owned]), name


def test_a_pixel_is_not_changed_by_any_other_slot_in_training(unet, adapter):
    encoded = encode(adapter, 1, 2)
    hidden, text = torch.randn(1, 4, 24, generator=seeded(1)), torch.randn(1, 6, 20, generator=seeded(2))
    processors = adapter._processors()
    outputs, gates = [], []
    for subjects in (encoded, other_subject(encoded, 0)):
        cond = ready(subjects, gate=Gumbel(1.0, seeded(4)), record=RecordedMaps(keep_graph=True))
        name = f"{SECOND}.attn2"
        cross = processors[name](unet.get_submodule(name), hidden, text, routing=cond)
        own = f"{THIRD}.attn1"
        outputs.append((cross, processors[own](unet.get_submodule(own), hidden, routing=cond)))
        gates.append(maps_of(cond)[name].gate[0].flatten(1))
    assert torch.equal(gates[0], gates[1])
    owned = gates[0][0].bool()
    assert 0 < owned.sum() < 4
    for old, new in zip(*outputs, strict=True):
        assert torch.equal(old[0, ~owned], new[0, ~owned])
        assert not torch.equal(old[0, owned], new[0, owned])


@torch.no_grad()
def test_reference_scale_zero_removes_the_keys(unet, layer, adapter):
    encoded, name = encode(adapter, 1, 2), f"{THIRD}.attn1"
    base = AttnProcessor2_0()(unet.get_submodule(name), layer.states[24])
    off = ready(encoded, gate=FixedMaps(owned_by(0)), reference_scales=torch.zeros(1, 2))
    assert torch.equal(layer(name, off), base)
    one_off = ready(encoded, gate=FixedMaps(owned_by(0)), reference_scales=torch.tensor([[0.0, 1.0]]))
    assert torch.equal(layer(name, one_off), base)
    assert not torch.allclose(layer(name, ready(encoded, gate=FixedMaps(owned_by(0)))), base)


def test_first_self_attention_takes_no_reference(unet, adapter, layer):
    name = f"{FIRST}.attn1"
    assert unet_layout(unet)[0].self_attention == name
    base = AttnProcessor2_0()(unet.get_submodule(name), layer.states[16])
    assert torch.equal(layer(name, ready(encode(adapter, 1, 2), gate=FixedMaps(owned_by(0)))), base)


def test_without_subjects_the_processors_are_the_base(unet, layer):
    for name, context in ((f"{FIRST}.attn2", layer.text), (f"{THIRD}.attn1", None)):
        attn = unet.get_submodule(name)
        assert torch.equal(layer(name, None), AttnProcessor2_0()(attn, layer.states[attn.query_dim], context))


# Guidance (D8).


@pytest.mark.parametrize("fast", [True, False])
@torch.no_grad()
def test_unconditional_half_gets_the_background_everywhere_and_no_reference(unet, adapter, layer, fast):
    encoded = encode(adapter, 1, 2)
    guided = ready(encoded, guidance=True, gate=FixedMaps(owned_by(0)), fast=fast)
    cross, own = f"{FIRST}.attn2", f"{SECOND}.attn1"
    everywhere = layer(cross, ready(encoded, gate=FixedMaps(owned_by(-1))))
    torch.testing.assert_close(layer(cross, guided, rows=2)[0], everywhere[0])
    base = AttnProcessor2_0()(unet.get_submodule(own), layer.states[24])
    torch.testing.assert_close(layer(own, guided, rows=2)[0], base[0])


@pytest.mark.parametrize("fast", [True, False])
@torch.no_grad()
def test_conditional_half_is_routed_as_without_guidance(adapter, layer, fast):
    encoded = encode(adapter, 1, 2)
    guided, alone = (ready(encoded, guidance=guidance, record=RecordedMaps(), fast=fast) for guidance in (True, False))
    for name in (f"{FIRST}.attn2", f"{SECOND}.attn1"):
        torch.testing.assert_close(layer(name, guided, rows=2)[1:], layer(name, alone))
    assert maps_of(guided)[f"{FIRST}.attn2"].refined.shape == (1, 3, 4, 4)


@pytest.mark.parametrize("fast", [True, False])
@torch.no_grad()
def test_unconditional_half_may_be_the_base_alone(unet, adapter, layer, fast):
    name = f"{FIRST}.attn2"
    base = AttnProcessor2_0()(unet.get_submodule(name), layer.states[16], layer.text)
    cond = ready(encode(adapter, 1, 2), guidance=True, gate=FixedMaps(owned_by(0)), unconditional="base", fast=fast)
    result = layer(name, cond, rows=2)
    torch.testing.assert_close(result[0], base[0])
    assert not torch.allclose(result[1], base[0])


# What is refused.


def test_other_contexts_are_refused(unet, adapter):
    cond = ready(encode(adapter, 1, 1))
    cross, own = f"{FIRST}.attn2", f"{SECOND}.attn1"
    processors = adapter._processors()
    with pytest.raises(ValueError, match="encoder_hidden_states must be a tensor, got tuple"):
        processors[cross](unet.get_submodule(cross), torch.zeros(1, 16, 16), (1, 2), routing=cond)
    with pytest.raises(ValueError, match="attention_mask is not supported"):
        processors[own](unet.get_submodule(own), torch.zeros(1, 4, 24), None, torch.zeros(1, 1, 4), routing=cond)
    with pytest.raises(ValueError, match="batch of 2.*needs 1: it is for 1 sample.s. without guidance"):
        processors[own](unet.get_submodule(own), torch.zeros(2, 4, 24), routing=cond)
