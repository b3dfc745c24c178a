from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from diffusers.models.embeddings import IPAdapterPlusImageProjection

from anystory.models import PRESETS, SubjectAdapter
from anystory.models.encoders import encode_slots, routing_qformer, subject_qformer
from models.tiny import CONFIG, encode, reference_inputs, seeded


@pytest.mark.parametrize("preset", ["mini", "sdxl"])
def test_qformers_have_the_presets_sizes(preset):
    config = PRESETS[preset]
    with torch.device("meta"):
        subject, routing = subject_qformer(config), routing_qformer(config)
        images = torch.empty(2, config.clip_tokens, config.clip_dim)
        assert subject(images).shape == (2, config.subject_tokens, config.token_dim)
        assert routing(images).shape == (2, 1, config.routing_dim)
    assert isinstance(subject, IPAdapterPlusImageProjection)
    assert len(subject.layers) == len(routing.layers) == 4


def test_slots_are_the_subjects_then_the_zero_image():
    qformer = subject_qformer(CONFIG)
    images, zero = torch.randn(2, 3, 5, 12, generator=seeded(0)), torch.randn(1, 5, 12, generator=seeded(1))
    slots = encode_slots(qformer, images, zero, torch.ones(2, 3, dtype=torch.bool))
    for sample in range(2):
        for subject in range(3):
            torch.testing.assert_close(slots[sample, subject], qformer(images[sample, subject][None])[0])
        torch.testing.assert_close(slots[sample, 3], qformer(zero)[0])


def test_padding_is_not_computed_and_changes_nobody(adapter):
    present = torch.tensor([[True, False], [True, True]])
    inputs = reference_inputs(2, 2)
    inputs["image_hidden"][0, 1] = torch.nan
    inputs["reference_latents"][0, 1] = torch.nan
    encoded = adapter.encode(**{**inputs, "present": present})
    full = encode(adapter, 2, 2)
    assert encoded.present.tolist() == [[True, False, True], [True, True, True]]
    assert not encoded.tokens[0, 1].any()
    assert not encoded.routing[0, 1].any()
    torch.testing.assert_close(encoded.tokens[encoded.present], full.tokens[encoded.present])
    torch.testing.assert_close(encoded.routing[encoded.present], full.routing[encoded.present])
    for layer, value in encoded.features.items():
        assert not value[0, 1].any()
        torch.testing.assert_close(value[present], full.features[layer][present])


def test_coupled_routing_reads_the_subjects_tokens_alone(unet, tmp_path):
    """D16: the same tokens route alike, whatever CLIP saw."""
    coupled = SubjectAdapter.from_unet(unet, replace(CONFIG, routing_features="coupled"))
    encoded = encode(coupled, 2, 2)
    assert encoded.routing.shape == (2, 3, CONFIG.routing_dim)
    assert coupled.coupled_routing is not None
    torch.testing.assert_close(encoded.routing, coupled.coupled_routing(encoded.tokens))
    trained = {name.partition(".")[0] for name in coupled.stage_parameters("router")}
    assert trained == {"coupled_routing", "routers"}
    assert not any(name.startswith("routing_qformer") for name in coupled.state_dict())
    coupled.save_pretrained(tmp_path / "adapter")
    again = SubjectAdapter.from_pretrained(tmp_path / "adapter")
    torch.testing.assert_close(encode(again, 2, 2).routing, encoded.routing)


def test_a_batch_without_subjects_has_a_background(adapter):
    encoded = encode(adapter, 2, 2, present=torch.zeros(2, 2, dtype=torch.bool))
    assert encoded.present.tolist() == [[False, False, True]] * 2
    torch.testing.assert_close(encoded.tokens[:, -1], encode(adapter, 2, 2).tokens[:, -1])


def test_several_photos_of_a_subject_are_one_sequence(adapter):
    photos = torch.randn(1, 1, 10, 12, generator=seeded(0))
    encoded = encode(adapter, 1, 1, image_hidden=photos)
    torch.testing.assert_close(encoded.tokens[0, 0], adapter.subject_qformer(photos[0])[0])


def test_dropped_samples_get_the_background_in_every_slot(adapter):
    encoded = encode(adapter, 2, 2)
    dropped = encoded.drop_clip(torch.tensor([False, True]))
    assert torch.equal(dropped.tokens[0], encoded.tokens[0])
    assert all(torch.equal(slot, encoded.tokens[1, -1]) for slot in dropped.tokens[1])
    assert dropped.features is encoded.features
    assert torch.equal(dropped.routing, encoded.routing)


def test_repeated_samples_stand_side_by_side(adapter):
    encoded = encode(adapter, 2, 2)
    repeated = encoded.repeat_interleave(3)
    assert (repeated.batch_size, repeated.num_subjects) == (6, 2)
    for row in range(6):
        assert torch.equal(repeated.tokens[row], encoded.tokens[row // 3])
        assert torch.equal(repeated.routing[row], encoded.routing[row // 3])
        for layer in encoded.features:
            assert torch.equal(repeated.features[layer][row], encoded.features[layer][row // 3])


def test_moves_to_another_dtype(adapter):
    encoded = encode(adapter, 1, 1).to(dtype=torch.bfloat16)
    assert {t.dtype for t in (encoded.tokens, encoded.routing, *encoded.features.values())} == {torch.bfloat16}
    assert encoded.present.dtype == torch.bool


def test_drop_mask_is_checked(adapter):
    with pytest.raises(ValueError, match="mask must be bool"):
        encode(adapter, 2, 2).drop_clip(torch.ones(2))
    with pytest.raises(ValueError, match="mask must be bool"):
        encode(adapter, 2, 2).drop_clip(torch.ones(3, dtype=torch.bool))


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("image_hidden", (1, 2, 5, 13)),
        ("image_hidden", (1, 3, 5, 12)),
        ("image_hidden", (1, 2, 6, 12)),
        ("image_hidden", (1, 2, 0, 12)),
        ("zero_hidden", (5, 12)),
        ("reference_latents", (1, 3, 4, 8, 8)),
        ("reference_masks", (1, 2, 1, 8, 9)),
        ("reference_masks", (1, 2, 8, 8)),
    ],
)
def test_encode_names_what_is_wrong(adapter, name, shape):
    with pytest.raises(ValueError, match=f"^{name} must"):
        encode(adapter, 1, 2, **{name: torch.zeros(shape)})


@pytest.mark.parametrize("present", [torch.ones(1, 2), torch.ones(2, dtype=torch.bool), torch.ones(1, 0) > 0])
def test_encode_wants_a_boolean_presence(adapter, present):
    with pytest.raises(ValueError, match=r"present must be \(B, N\) bool with N >= 1"):
        encode(adapter, 1, 2, present=present)
