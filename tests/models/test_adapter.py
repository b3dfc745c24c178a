from __future__ import annotations

import json
from dataclasses import asdict, replace
from typing import Any

import pytest
import torch
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from safetensors.torch import load_file, save_file
from torch import Tensor

from anystory.models import (
    PRESETS,
    EncodedSubjects,
    FixedMaps,
    FixedRegions,
    Gumbel,
    RecordedMaps,
    SubjectAdapter,
    SubjectConditioning,
    routing_loss,
)
from anystory.models.saved.key_report import CheckpointKeyError
from models.tiny import CONFIG, SDXL_UNET, encode, make_adapter, make_unet, owned_by, run_unet, seeded

WEIGHTS = "diffusion_pytorch_model.safetensors"


def generate(unet, adapter, encoded: EncodedSubjects, rows: int | None = None, **changes: Any) -> Tensor:
    cond = SubjectConditioning(encoded=encoded, **changes)
    with torch.no_grad(), adapter.installed_on(unet):
        return run_unet(unet, cond, rows=encoded.batch_size, repeat=2 if cond.guidance else 1)


def masks_for(batch: int, subjects: int, size: tuple[int, int] = (8, 8)) -> Tensor:
    owner = torch.randint(0, subjects + 1, (batch, 1, *size), generator=seeded(11))
    return (owner == torch.arange(subjects + 1)[None, :, None, None]).float()


# The base is never altered.


def test_stock_unet_before_and_after_is_the_same_bit_for_bit(unet, adapter):
    weights = {name: value.clone() for name, value in unet.state_dict().items()}
    processors = dict(unet.attn_processors)
    stock = run_unet(unet)
    routed = generate(unet, adapter, encode(adapter, 1, 2))
    assert not torch.allclose(stock, routed, atol=1e-3)
    assert torch.equal(run_unet(unet), stock)
    assert unet.attn_processors == processors
    assert not unet._forward_pre_hooks
    assert all(torch.equal(value, weights[name]) for name, value in unet.state_dict().items())


def test_stock_unet_is_restored_after_an_exception(unet, adapter):
    processors, stock = dict(unet.attn_processors), run_unet(unet)
    cond = SubjectConditioning(encoded=encode(adapter, 2, 2))
    with pytest.raises(ValueError, match="batch of 1, but subject_conditioning needs 2"), adapter.installed_on(unet):
        run_unet(unet, cond)
    assert unet.attn_processors == processors
    assert not unet._forward_pre_hooks
    assert torch.equal(run_unet(unet), stock)


def test_installed_without_subjects_is_the_stock_unet(unet, adapter):
    stock = run_unet(unet)
    with adapter.installed_on(unet):
        assert torch.equal(run_unet(unet), stock)


def test_installing_twice_unwinds_in_order(unet, adapter):
    processors = dict(unet.attn_processors)
    with adapter.installed_on(unet):
        outer = dict(unet.attn_processors)
        with make_adapter(unet).installed_on(unet):
            assert unet.attn_processors != outer
        assert unet.attn_processors == outer
    assert unet.attn_processors == processors


def test_the_adapters_weights_are_not_part_of_the_unet(unet, adapter):
    names = unet.state_dict().keys()
    with adapter.installed_on(unet):
        assert unet.state_dict().keys() == names


def test_no_unexpected_keyword_is_reported(unet, adapter, caplog):
    generate(unet, adapter, encode(adapter, 1, 1))
    assert "not expected" not in caplog.text


# Whole U-Net.


@pytest.mark.parametrize("subjects", [1, 2, 3])
@pytest.mark.parametrize("guidance", [False, True])
def test_any_number_of_subjects(unet, adapter, subjects, guidance):
    out = generate(unet, adapter, encode(adapter, 2, subjects), guidance=guidance, record=RecordedMaps())
    assert out.shape == (4 if guidance else 2, 4, 8, 8)
    assert out.isfinite().all()


@pytest.mark.parametrize("size", [(8, 12), (10, 14), (7, 9)])
def test_any_picture_size(unet, adapter, size):
    record = RecordedMaps()
    cond = SubjectConditioning(encoded=encode(adapter, 1, 2), record=record)
    with torch.no_grad(), adapter.installed_on(unet):
        assert run_unet(unet, cond, size=size).shape[-2:] == size
    half = tuple((side + 1) // 2 for side in size)
    first, *_, last = record.maps.values()
    assert first.refined.shape[-2:] == last.refined.shape[-2:] == half


def test_maps_are_recorded_in_the_order_of_execution(unet, adapter):
    record = RecordedMaps()
    cond = SubjectConditioning(encoded=encode(adapter, 1, 2), record=record)
    with torch.no_grad(), adapter.installed_on(unet):
        run_unet(unet, cond)
    assert list(record.maps) == [layer.cross_attention for layer in adapter.layers]
    for maps in record.maps.values():
        torch.testing.assert_close(maps.refined.sum(1), torch.ones_like(maps.refined[:, 0]))
        assert torch.equal(maps.gate.argmax(1), maps.refined.argmax(1))


def test_samples_of_a_batch_do_not_meet(unet, adapter):
    encoded = encode(adapter, 2, 2)
    both = generate(unet, adapter, encoded)
    swapped = EncodedSubjects(
        tokens=encoded.tokens[[0, 0]],
        routing=encoded.routing[[0, 0]],
        features={name: value[[0, 0]] for name, value in encoded.features.items()},
        present=encoded.present,
    )
    other = generate(unet, adapter, swapped)
    torch.testing.assert_close(other[0], both[0])
    assert not torch.allclose(other[1], both[1], atol=1e-3)


def test_padding_changes_nothing(unet, adapter):
    padded = encode(adapter, 1, 3, present=torch.tensor([[True, True, False]]))
    plain = EncodedSubjects(
        tokens=padded.tokens[:, [0, 1, 3]],
        routing=padded.routing[:, [0, 1, 3]],
        features={name: value[:, :2] for name, value in padded.features.items()},
        present=padded.present[:, [0, 1, 3]],
    )
    torch.testing.assert_close(generate(unet, adapter, padded), generate(unet, adapter, plain))


def test_with_the_background_owning_everything_the_references_change_nothing(unet, adapter):
    encoded = encode(adapter, 1, 2)
    loud = EncodedSubjects(
        tokens=encoded.tokens,
        routing=encoded.routing,
        features={name: 100 * torch.ones_like(value) for name, value in encoded.features.items()},
        present=encoded.present,
    )
    everywhere = FixedMaps(owned_by(-1))
    quiet_result = generate(unet, adapter, encoded, gate=everywhere)
    assert torch.equal(quiet_result, generate(unet, adapter, loud, gate=everywhere))
    no_keys = torch.zeros(1, 2)
    assert torch.equal(quiet_result, generate(unet, adapter, loud, gate=everywhere, reference_scales=no_keys))
    somewhere = FixedMaps(owned_by(0))
    assert not torch.equal(
        generate(unet, adapter, encoded, gate=somewhere),
        generate(unet, adapter, loud, gate=somewhere),
    )


def test_without_any_injection_the_unet_is_the_base(unet, adapter):
    """Scales 0 and no background term: what remains is the frozen model."""
    encoded = encode(adapter, 1, 2)
    off = torch.zeros(1, 2)
    out = generate(unet, adapter, encoded, gate=FixedMaps(owned_by(0)), scales=off, reference_scales=off)
    torch.testing.assert_close(out, run_unet(unet))


def test_guidance_is_two_calls_in_one(unet, adapter):
    """D8: the unconditional half is E_{N+1} everywhere without references; the other half as without guidance."""
    encoded = encode(adapter, 2, 2)
    guided = generate(unet, adapter, encoded, guidance=True)
    torch.testing.assert_close(guided[2:], generate(unet, adapter, encoded))
    empty = owned_by(-1, batch=2)
    torch.testing.assert_close(guided[:2], generate(unet, adapter, encoded, gate=FixedMaps(empty)))


def test_a_fixed_region_decides_where_a_subject_is(unet, adapter):
    encoded = encode(adapter, 1, 1)
    regions = torch.zeros(1, 1, 8, 8)
    regions[..., :4] = 1
    given = torch.ones(1, 1, dtype=torch.bool)
    masks = torch.cat([regions, 1 - regions], dim=1)
    torch.testing.assert_close(
        generate(unet, adapter, encoded, gate=FixedRegions(regions, given)),
        generate(unet, adapter, encoded, gate=FixedMaps(masks)),
    )


def test_remembered_keys_change_nothing_over_the_steps(unet, adapter):
    cond = SubjectConditioning(encoded=encode(adapter, 1, 2))
    with torch.no_grad(), adapter.installed_on(unet):
        first, second = run_unet(unet, cond), run_unet(unet, cond)
    with adapter.installed_on(unet):
        recomputed = run_unet(unet, cond)
    assert torch.equal(first, second)
    torch.testing.assert_close(first, recomputed)


def test_half_precision_base(adapter):
    unet = make_unet(torch.bfloat16)
    encoded = encode(adapter, 1, 2)
    cond = SubjectConditioning(encoded=encoded, guidance=True)
    with torch.no_grad(), adapter.installed_on(unet):
        latents, text = torch.randn(2, 4, 8, 8, dtype=torch.bfloat16), torch.randn(2, 6, 20, dtype=torch.bfloat16)
        added = {"text_embeds": torch.randn(2, 10).bfloat16(), "time_ids": torch.randn(2, 6).bfloat16()}
        out = unet(
            sample=latents,
            timestep=10,
            encoder_hidden_states=text,
            added_cond_kwargs=added,
            cross_attention_kwargs={"subject_conditioning": cond},
        ).sample
    assert out.dtype == torch.bfloat16
    assert out.isfinite().all()


# Training.


def train_step(unet, adapter, stage: str, coarse_weight: float = 0.5) -> None:
    """Forward and backward as a training loop does them."""
    encoded = encode(adapter, 2, 2, present=torch.tensor([[True, True], [True, False]]))
    masks = masks_for(2, 2)
    masks[1, 2] += masks[1, 1]
    masks[1, 1] = 0
    record = RecordedMaps(keep_graph=True)
    if stage == "encoder":
        cond = SubjectConditioning(encoded=encoded, gate=FixedMaps(masks))
    else:
        cond = SubjectConditioning(encoded=encoded, gate=Gumbel(1.0, seeded(0)), record=record)
    with adapter.installed_on(unet):
        loss = (run_unet(unet, cond, rows=2) - torch.randn(2, 4, 8, 8, generator=seeded(1))).square().mean()
        if stage == "router":
            loss = loss + routing_loss(record.maps, masks[:, :2], encoded.present, coarse_weight=coarse_weight)
        loss.backward()


@pytest.mark.parametrize("stage", ["encoder", "router"])
def test_every_parameter_of_a_stage_is_trained_and_no_other(unet, adapter, stage):
    adapter.requires_grad_(False)
    trained = adapter.stage_parameters(stage)
    for parameter in trained.values():
        parameter.requires_grad_()
    train_step(unet, adapter, stage)
    reached = {name for name, p in adapter.named_parameters() if p.grad is not None and p.grad.any()}
    assert reached == trained.keys()
    assert all(p.grad is None for p in unet.parameters())


def test_shared_projections_are_trained_without_a_coarse_loss(unet):
    adapter = make_adapter(unet, replace(CONFIG, map_projections="shared"))
    adapter.requires_grad_(False)
    trained = adapter.stage_parameters("router")
    for parameter in trained.values():
        parameter.requires_grad_()
    assert not [name for name in trained if "coarse" in name]
    train_step(unet, adapter, "router", coarse_weight=0.0)
    assert [name for name, p in trained.items() if p.grad is None or not p.grad.any()] == []


def test_diffusion_loss_alone_reaches_the_router_through_sigma(unet, adapter):
    adapter.requires_grad_(False)
    routers = {name: p for name, p in adapter.stage_parameters("router").items() if "coarse" not in name}
    for parameter in routers.values():
        parameter.requires_grad_()
    cond = SubjectConditioning(encoded=encode(adapter, 1, 2), gate=Gumbel(1.0, seeded(0)))
    with adapter.installed_on(unet):
        run_unet(unet, cond).square().mean().backward()
    assert [name for name, p in routers.items() if p.grad is None or not p.grad.any()] == []


def test_references_alone_give_the_router_a_gradient(unet, adapter):
    """Through the gate of the self-attention, with every CLIP term off but the background's."""
    adapter.requires_grad_(False)
    adapter.routers.requires_grad_()
    for projection in adapter.cross_projections.values():
        torch.nn.init.zeros_(projection.to_v.weight)
    cond = SubjectConditioning(encoded=encode(adapter, 1, 2), gate=Gumbel(1.0, seeded(0)))
    with adapter.installed_on(unet):
        run_unet(unet, cond).square().mean().backward()
    # The last map precedes no self-attention.
    reached = [router.refined_slot.weight.grad.any().item() for router in adapter.routers.values()]
    assert reached == [True] * (len(adapter.layers) - 1) + [False]


@pytest.mark.parametrize("stage", ["encoder", "router"])
def test_gradient_checkpointing_changes_nothing(adapter, stage):
    def gradients(checkpointing: bool) -> dict[str, Tensor]:
        unet = make_unet().train()
        if checkpointing:
            unet.enable_gradient_checkpointing()
        adapter.requires_grad_(False).zero_grad()
        parameters = adapter.stage_parameters(stage)
        for parameter in parameters.values():
            parameter.requires_grad_()
        train_step(unet, adapter, stage)
        return {name: p.grad.clone() for name, p in parameters.items() if p.grad is not None}

    plain, checkpointed = gradients(False), gradients(True)
    assert plain.keys() == checkpointed.keys()
    for name, gradient in plain.items():
        torch.testing.assert_close(checkpointed[name], gradient, atol=1e-5, rtol=1e-4, msg=name)


def test_stages_share_nothing_and_leave_nothing_out(adapter):
    encoder, router = adapter.stage_parameters("encoder"), adapter.stage_parameters("router")
    assert not encoder.keys() & router.keys()
    assert encoder.keys() | router.keys() == dict(adapter.named_parameters()).keys()


def test_unknown_stage_is_named(adapter):
    with pytest.raises(ValueError, match="stage must be one of 'encoder', 'router', got 'base'"):
        adapter.stage_parameters("base")


# A fresh adapter.


def test_fresh_adapter_starts_from_the_unet(unet, adapter):
    own, other = adapter.reference_net.unet.state_dict(), unet.state_dict()
    assert all(torch.equal(value, other[name]) for name, value in own.items() if name != "conv_in.weight")
    for layer in adapter.layers[1:]:
        projection = adapter._projection(layer.self_attention)
        attention = unet.get_submodule(layer.self_attention)
        assert torch.equal(projection.to_k.weight, attention.to_k.weight)
        assert torch.equal(projection.to_v.weight, attention.to_v.weight)


def test_fresh_adapter_shares_no_memory_with_the_unet(unet, adapter):
    pointers = {p.data_ptr() for p in unet.parameters()}
    assert not pointers & {p.data_ptr() for p in adapter.parameters()}


def test_sdxl_adapter_on_the_meta_device():
    with torch.device("meta"):
        unet = UNet2DConditionModel(**SDXL_UNET)
    adapter = SubjectAdapter.from_unet(unet, PRESETS["sdxl"])
    assert (len(adapter.layers), len(adapter.routers), len(adapter.cross_projections)) == (70, 70, 70)
    assert (len(adapter.reference_net.layers), len(adapter.reference_projections)) == (69, 69)
    assert adapter.subject_qformer.latents.shape == (1, 64, 1280)
    assert adapter.subject_qformer.proj_out.weight.shape[0] == 2048
    assert adapter.routing_qformer is not None
    assert adapter.routing_qformer.latents.shape == (1, 1, 1280)
    state = adapter.state_dict()
    assert {state[name].shape[0] for name in state if name.endswith("to_q.weight") and "routers" in name} == {320}


def test_mini_preset_fits_a_unet_of_its_size():
    unet = make_unet(block_out_channels=(64, 128, 192), attention_head_dim=(1, 2, 3), cross_attention_dim=192)
    adapter = SubjectAdapter.from_unet(unet, PRESETS["mini"])
    assert adapter.sizes == PRESETS["mini"]


# Files.


def test_saving_and_loading_in_shards(unet, adapter, tmp_path):
    adapter.save_pretrained(tmp_path, max_shard_size="200KB")
    assert len(list(tmp_path.glob("*.safetensors"))) > 1
    assert not list(tmp_path.glob("*.bin"))
    loaded = SubjectAdapter.from_pretrained(tmp_path)
    assert not loaded.training
    assert loaded.sizes == CONFIG
    assert loaded.layers == adapter.layers
    assert loaded.state_dict().keys() == adapter.state_dict().keys()
    assert all(torch.equal(value, adapter.state_dict()[name]) for name, value in loaded.state_dict().items())
    encoded = encode(adapter, 1, 2)
    assert torch.equal(generate(unet, adapter, encoded), generate(unet, loaded, encode(loaded, 1, 2)))


def test_saved_adapters_load_in_the_dtype_asked_for(adapter, tmp_path):
    make_adapter(make_unet(torch.float16)).save_pretrained(tmp_path)
    assert {value.dtype for value in load_file(tmp_path / WEIGHTS).values()} == {torch.float16}
    assert SubjectAdapter.from_pretrained(tmp_path).dtype == torch.float32
    assert SubjectAdapter.from_pretrained(tmp_path, torch_dtype=torch.bfloat16).dtype == torch.bfloat16


def test_loading_info_is_given_when_asked_for(adapter, tmp_path):
    adapter.save_pretrained(tmp_path)
    loaded, info = SubjectAdapter.from_pretrained(tmp_path, output_loading_info=True)
    assert isinstance(loaded, SubjectAdapter)
    assert info["missing_keys"] == []


def test_wrong_files_are_refused_with_a_report(adapter, tmp_path):
    adapter.save_pretrained(tmp_path)
    weights = load_file(tmp_path / WEIGHTS)
    missing, misshapen = "routing_qformer.proj_in.weight", "routing_qformer.proj_out.bias"
    del weights[missing]
    weights["routing_qformer.surprise"] = torch.zeros(1)
    weights[misshapen] = torch.zeros(4)
    save_file(weights, tmp_path / WEIGHTS, metadata={"format": "pt"})
    with pytest.raises(ValueError, match="is not a whole adapter: 1 missing, 1 unexpected, 1 of another") as error:
        SubjectAdapter.from_pretrained(tmp_path)
    report = str(error.value).splitlines()[1:]
    assert report == [
        f"  missing: {missing}",
        "  unexpected: routing_qformer.surprise",
        f"  other shape: {misshapen} is (4,), expected (10,)",
    ]


def test_every_key_of_a_wrong_file_is_in_the_report_and_groups_keep_the_message_short(adapter, tmp_path):
    adapter.save_pretrained(tmp_path)
    save_file({"nothing": torch.zeros(1)}, tmp_path / WEIGHTS, metadata={"format": "pt"})
    with pytest.raises(CheckpointKeyError) as error:
        SubjectAdapter.from_pretrained(tmp_path)
    assert set(error.value.report.missing) == adapter.state_dict().keys()
    assert error.value.report.unexpected == ("nothing",)
    lines = str(error.value).splitlines()
    assert len(lines) < 65
    assert "  missing: subject_qformer.latents" in lines or "more lines" in lines[-1]
    assert any("keys, " in line for line in lines)


def test_another_model_is_no_adapter(unet, tmp_path):
    unet.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="holds UNet2DConditionModel, not a SubjectAdapter"):
        SubjectAdapter.from_pretrained(tmp_path)


def test_a_missing_shard_and_a_cut_file_are_errors(adapter, tmp_path):
    adapter.save_pretrained(tmp_path, max_shard_size="200KB")
    shard = min(tmp_path.glob("*.safetensors"))
    whole = shard.read_bytes()
    shard.write_bytes(whole[: len(whole) // 2])
    with pytest.raises((OSError, ValueError), match=shard.name):
        SubjectAdapter.from_pretrained(tmp_path)
    shard.unlink()
    with pytest.raises((OSError, ValueError), match=shard.name):
        SubjectAdapter.from_pretrained(tmp_path)


def test_pickles_are_not_loaded(adapter, tmp_path):
    adapter.save_pretrained(tmp_path)
    (tmp_path / WEIGHTS).unlink()
    torch.save(adapter.state_dict(), tmp_path / "diffusion_pytorch_model.bin")
    with pytest.raises(OSError, match="safetensors"):
        SubjectAdapter.from_pretrained(tmp_path)


@pytest.mark.parametrize("map_projections", ["shared", "separate"])
def test_map_projections_survive_saving(unet, tmp_path, map_projections):
    made = make_adapter(unet, replace(CONFIG, map_projections=map_projections))
    made.save_pretrained(tmp_path)
    back = SubjectAdapter.from_pretrained(tmp_path)
    assert back.sizes.map_projections == map_projections
    assert all(torch.equal(value, back.state_dict()[name]) for name, value in made.state_dict().items())


def test_an_adapter_saved_before_there_was_a_choice_is_separate(unet, tmp_path):
    make_adapter(unet, replace(CONFIG, map_projections="separate")).save_pretrained(tmp_path)
    path = tmp_path / "config.json"
    config = json.loads(path.read_text())
    del config["adapter_config"]["map_projections"]
    path.write_text(json.dumps(config))
    assert SubjectAdapter.from_pretrained(tmp_path).sizes.map_projections == "separate"


def test_weights_of_the_other_kind_are_named(unet, tmp_path):
    make_adapter(unet, replace(CONFIG, map_projections="separate")).save_pretrained(tmp_path)
    path = tmp_path / "config.json"
    config = json.loads(path.read_text())
    config["adapter_config"]["map_projections"] = "shared"
    path.write_text(json.dumps(config))
    with pytest.raises(CheckpointKeyError, match="is not a whole adapter") as caught:
        SubjectAdapter.from_pretrained(tmp_path)
    report = caught.value.report
    assert {key.split(".")[-2] for key in report.missing} == {"map_slot", "map_pixel"}
    assert {key.split(".")[-2] for key in report.unexpected} == {
        *("coarse_slot", "coarse_pixel", "refined_slot", "refined_pixel")
    }


def test_bad_config_is_refused(adapter, tmp_path):
    adapter.save_pretrained(tmp_path)
    path = tmp_path / "config.json"
    config = json.loads(path.read_text())
    config["adapter_config"]["surprise"] = 1
    path.write_text(json.dumps(config))
    with pytest.raises(ValueError, match="adapter_config.*surprise"):
        SubjectAdapter.from_pretrained(tmp_path)


# Another U-Net.


def test_inpainting_unet_of_the_same_kind_is_accepted(adapter):
    adapter.check_fits(make_unet(in_channels=9))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"block_out_channels": (8, 20, 24)}, r"down_blocks\.1.* of width 16 .*has .* of width 20"),
        ({"cross_attention_dim": 24}, r"text 20\), the U-Net has .*text 24"),
        ({"transformer_layers_per_block": (1, 2, 2)}, r"11 attention layers .*, the U-Net has 14 attention layers"),
        (
            {
                "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D", "CrossAttnDownBlock2D"),
                "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D", "CrossAttnUpBlock2D"),
            },
            r"the U-Net has down_blocks\.0",
        ),
    ],
)
def test_another_kind_of_unet_is_refused_with_a_sentence(adapter, changes, message):
    with (
        pytest.raises(ValueError, match=f"^the adapter does not fit this U-Net: it was made for .*{message}"),
        adapter.installed_on(make_unet(**changes)),
    ):
        pytest.fail("it was installed")


def test_bad_sizes_are_refused(unet):
    with pytest.raises(ValueError, match="subject_tokens"):
        SubjectAdapter(unet_config=dict(unet.config), adapter_config={**asdict(CONFIG), "subject_tokens": 0})
