"""The authors' checkpoint as an adapter: every key has its place, or a sentence."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from anystory.models.flux.checkpoint import convert_checkpoint

from .official_tiny import build_checkpoint, lora_layers
from .test_official import transformer

Checkpoint = dict[str, dict[str, Tensor]]
LAYER = "transformer.single_transformer_blocks.1.proj_mlp"


@pytest.fixture
def checkpoint() -> Checkpoint:
    return build_checkpoint(transformer(), lora_bias=True)


def test_every_tensor_is_used_once(checkpoint: Checkpoint) -> None:
    converted = convert_checkpoint(checkpoint)
    assert converted.inert == []
    assert converted.used == [f"{part}: {key}" for part, tensors in checkpoint.items() for key in tensors]
    theirs = sorted(float(t.double().sum()) for tensors in checkpoint.values() for t in tensors.values())
    ours = sorted(float(t.double().sum()) for t in converted.adapter.state_dict().values())
    assert ours == theirs


def test_ranks_and_biases_come_from_the_tensors(checkpoint: Checkpoint) -> None:
    del checkpoint["ref"][f"{LAYER}.lora_B.bias"]
    terms = convert_checkpoint(checkpoint).adapter.reference_terms
    name = LAYER.removeprefix("transformer.")
    assert terms.names() == lora_layers("ref")
    for layer in terms.names():
        term, weight = terms.get(layer), checkpoint["ref"][f"transformer.{layer}.lora_A.weight"]
        assert term is not None
        assert term.lora_A.out_features == len(weight)
        assert (term.lora_B.bias is None) == (layer == name)


def test_alpha_over_rank_is_a_factor(checkpoint: Checkpoint) -> None:
    rank = len(checkpoint["router"][f"{LAYER}.lora_A.weight"])
    plain = convert_checkpoint(checkpoint).adapter.routing_terms.get(LAYER.removeprefix("transformer."))
    checkpoint["router"][f"{LAYER}.alpha"] = torch.tensor(3.0)
    scaled = convert_checkpoint(checkpoint).adapter.routing_terms.get(LAYER.removeprefix("transformer."))
    assert plain is not None
    assert scaled is not None
    x = torch.randn(2, plain.lora_A.in_features)
    torch.testing.assert_close(scaled(x), plain(x) * 3 / rank)


def test_terms_that_never_act_are_named(checkpoint: Checkpoint) -> None:
    names = ["transformer.transformer_blocks.0.ff.net.0.proj.lora_A.weight", "transformer.proj_out.lora_A.weight"]
    for name in names:
        checkpoint["ref"][name] = torch.zeros(4, 4)
    converted = convert_checkpoint(checkpoint)
    assert converted.inert == [f"ref: {name}" for name in names]
    assert not set(converted.inert) & set(converted.used)


def test_additions_alone_need_redux(checkpoint: Checkpoint) -> None:
    whole = convert_checkpoint(checkpoint).adapter.state_dict()
    bare: Checkpoint = {part: dict(tensors) for part, tensors in checkpoint.items()}
    redux = {}
    for part, prefix in (("redux", ""), ("router", "router_embedder.")):
        for layer in ("redux_up", "redux_down"):
            for kind in ("weight", "bias"):
                redux[f"{layer}.{kind}"] = bare[part].pop(f"{prefix}{layer}.{kind}")
    with pytest.raises(ValueError, match=r"appearance embedder has no up\.weight.*give the folder of FLUX\.1-Redux"):
        convert_checkpoint(bare)
    filled = convert_checkpoint(bare, redux).adapter.state_dict()
    assert filled.keys() == whole.keys()
    assert torch.equal(filled["appearance.up.weight"], filled["routing.up.weight"])  # both have a copy of their own
    assert torch.equal(filled["routing.down_term.lora_B.bias"], whole["routing.down_term.lora_B.bias"])


def test_its_own_layers_go_before_redux(checkpoint: Checkpoint) -> None:
    other = {"redux_up.weight": torch.zeros_like(checkpoint["redux"]["redux_up.weight"])}
    found = convert_checkpoint(checkpoint, other).adapter.appearance.up.weight
    assert torch.equal(found, checkpoint["redux"]["redux_up.weight"])


def broken(checkpoint: Checkpoint, part: str, key: str, value: Any = None) -> Checkpoint:
    if value is None:
        del checkpoint[part][key]
    else:
        checkpoint[part][key] = value
    return checkpoint


@pytest.mark.parametrize(
    ("part", "key", "value", "told"),
    [
        ("ref", f"{LAYER}.lora_A.weight", None, "needs both"),
        ("router", f"{LAYER}.lora_B.weight", torch.zeros(4, 99), "do not fit each other"),
        ("ref", "lora_unet_double_blocks_0.lora_down.weight", torch.zeros(1), "unknown tensor lora_unet"),
        ("router", "router_embedder.redux_sideways.weight", torch.zeros(1), "unknown tensor redux_sideways"),
        ("redux", "gate_proj.bias", None, r"no gate\.bias"),
        ("redux", "gate_proj.weight", torch.zeros(2, 7), "do not fit each other"),
        (
            "router",
            "transformer.transformer_blocks.0.attn.processor.to_q_routing_map_lora_B.weight",
            None,
            r"transformer_blocks\.0\.query has one of",
        ),
    ],
)
def test_what_does_not_fit_is_named(checkpoint: Checkpoint, part: str, key: str, value: Any, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        convert_checkpoint(broken(checkpoint, part, key, value))


def test_another_file_altogether() -> None:
    with pytest.raises(ValueError, match="no AnyStory checkpoint for FLUX.1: it has no ref, redux, router"):
        convert_checkpoint({"state_dict": {}})


def test_an_adapter_of_another_transformer(checkpoint: Checkpoint) -> None:
    for key in [key for key in checkpoint["router"] if "single_transformer_blocks.1.attn.processor" in key]:
        del checkpoint["router"][key]
    ours = convert_checkpoint(checkpoint).adapter
    processors = dict(transformer().attn_processors)
    with (
        pytest.raises(ValueError, match=r"no single_transformer_blocks\.1\.query of a routing map"),
        ours.installed_on(transformer(), None),  # pyright: ignore[reportArgumentType]
    ):
        pass
    assert dict(transformer().attn_processors) == processors
