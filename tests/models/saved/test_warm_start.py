"""Public weights in an adapter: the same numbers as diffusers' own IP-Adapter-Plus, layer by layer and as a whole."""

from __future__ import annotations

from copy import deepcopy

import pytest
import torch
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from torch import Tensor

from anystory.models import PRESETS, FixedMaps, FixedRegions, SubjectConditioning
from anystory.models.saved.ip_adapter_plus import IPAdapterPlus, attention_keys, read_ip_adapter_plus
from anystory.models.saved.key_report import CheckpointKeyError
from anystory.models.saved.warm_start import extend_queries, warm_start, warm_start_config
from models.saved.public_files import ip_adapter_plus, write_ip_adapter
from models.tiny import SDXL_UNET, make_unet, owned_by, seeded

SMALL = {"clip_tokens": 5, "routing_dim": 10, "router_dim": 8, "router_heads": 2, "reference_size": 64}


@pytest.fixture(scope="module")
def base() -> UNet2DConditionModel:
    return make_unet()


@pytest.fixture(scope="module")
def published(base) -> dict[str, dict[str, Tensor]]:
    return ip_adapter_plus(base)


@pytest.fixture(scope="module")
def weights(published) -> IPAdapterPlus:
    return IPAdapterPlus(**published)


@pytest.fixture(scope="module")
def warm(base, weights):
    return warm_start(base, weights, warm_start_config(weights, **SMALL))


@pytest.fixture(scope="module")
def theirs(base, published) -> UNet2DConditionModel:
    """The base with IP-Adapter-Plus, as diffusers loads it."""
    unet = deepcopy(base)
    unet._load_ip_adapter_weights([published], low_cpu_mem_usage=False)
    return unet


def inputs(rows: int = 1) -> dict:
    generator = seeded(3)
    return {
        "sample": torch.randn(rows, 4, 8, 8, generator=generator),
        "timestep": 10,
        "encoder_hidden_states": torch.randn(rows, 6, 20, generator=generator),
        "added_cond_kwargs": {
            "text_embeds": torch.randn(rows, 10, generator=generator),
            "time_ids": torch.randn(rows, 6, generator=generator),
        },
    }


def hidden(subjects: int = 1) -> tuple[Tensor, Tensor]:
    """CLIP's hidden states of subjects (1, N, 5, 12) and of the zero image (1, 5, 12)."""
    generator = seeded(7)
    return torch.randn(1, subjects, 5, 12, generator=generator), torch.randn(1, 5, 12, generator=generator)


@torch.no_grad()
def draw(unet, adapter, images: Tensor, zero: Tensor, **conditioning) -> Tensor:
    subjects = images.shape[1]
    encoded = adapter.encode(
        image_hidden=images,
        zero_hidden=zero,
        reference_latents=torch.zeros(1, subjects, 4, 8, 8),
        reference_masks=torch.ones(1, subjects, 1, 8, 8),
        present=torch.ones(1, subjects, dtype=torch.bool),
    )
    cond = SubjectConditioning(encoded=encoded, reference_scales=torch.zeros(1, subjects), **conditioning)
    with adapter.installed_on(unet):
        call = inputs(2 if cond.guidance else 1)
        return unet(**call, cross_attention_kwargs={"subject_conditioning": cond}).sample


@torch.no_grad()
def draw_with_diffusers(unet, embeds: Tensor, masks: list[Tensor] | None = None) -> Tensor:
    call = inputs(len(embeds))
    call["added_cond_kwargs"]["image_embeds"] = [embeds]
    kwargs = {} if masks is None else {"cross_attention_kwargs": {"ip_adapter_masks": masks}}
    return unet(**call, **kwargs).sample


# --- the same numbers as diffusers ---


def test_the_subject_qformer_gives_diffusers_image_tokens(warm, theirs):
    images, zero = hidden(3)
    for image in (*images[0], zero[0]):
        [expected] = theirs.encoder_hid_proj([image[None, None]])
        torch.testing.assert_close(warm.subject_qformer(image[None]), expected[:, 0], atol=1e-6, rtol=1e-6)


def test_keys_and_values_are_in_the_layers_where_diffusers_has_them(warm, theirs):
    layers = [layer.cross_attention for layer in warm.layers]
    assert len(layers) == 11
    for layer in layers:
        processor = theirs.attn_processors[f"{layer}.processor"]
        own = warm._projection(layer)
        assert torch.equal(own.to_k.weight, processor.to_k_ip[0].weight)
        assert torch.equal(own.to_v.weight, processor.to_v_ip[0].weight)


def test_a_whole_unet_with_one_subject_everywhere_equals_ip_adapter_plus(base, warm, theirs):
    images, zero = hidden()
    ours = draw(base, warm, images, zero, gate=FixedMaps(owned_by(0, slots=2)))
    expected = draw_with_diffusers(theirs, images)
    torch.testing.assert_close(ours, expected, atol=1e-5, rtol=1e-5)
    without = base(**inputs()).sample
    assert (expected - without).abs().max() > 0.05  # the adapter says something here


def test_with_guidance_too(base, warm, theirs):
    """diffusers' unconditional half gets the encoded zero image, as ours does (D8)."""
    images, zero = hidden()
    ours = draw(base, warm, images, zero, gate=FixedMaps(owned_by(0, slots=2)), guidance=True)
    expected = draw_with_diffusers(theirs, torch.cat([zero[:, None], images]))
    torch.testing.assert_close(ours, expected, atol=1e-5, rtol=1e-5)


def test_two_subjects_in_regions_equal_masked_ip_adapters(base, warm, theirs):
    """With user-given regions the untrained router decides nothing."""
    images, zero = hidden(2)
    regions = torch.zeros(1, 2, 64, 64)
    regions[:, 0, :, :32] = 1
    regions[:, 1, :, 32:] = 1
    ours = draw(base, warm, images, zero, gate=FixedRegions(regions, torch.ones(1, 2, dtype=torch.bool)))
    expected = draw_with_diffusers(theirs, images, masks=[regions])
    torch.testing.assert_close(ours, expected, atol=1e-5, rtol=1e-5)


def test_the_other_parts_come_from_the_base(base, warm):
    own, other = warm.reference_net.unet.state_dict(), base.state_dict()
    assert all(torch.equal(value, other[name]) for name, value in own.items() if name != "conv_in.weight")
    for layer in warm.layers[1:]:
        attention = base.get_submodule(layer.self_attention)
        assert torch.equal(warm._projection(layer.self_attention).to_k.weight, attention.to_k.weight)
        assert torch.equal(warm._projection(layer.self_attention).to_v.weight, attention.to_v.weight)


# --- the order of layers, at SDXL's size ---


def test_sdxl_has_the_published_numbers_in_the_published_order():
    with torch.device("meta"):
        numbers = attention_keys(UNet2DConditionModel(**SDXL_UNET))
    assert list(numbers.values()) == [str(number) for number in range(1, 140, 2)]
    # down, up, mid: diffusers' key_id and IP-Adapter's ModuleList of processors
    assert numbers["down_blocks.1.attentions.0.transformer_blocks.0.attn2"] == "1"
    assert numbers["down_blocks.2.attentions.0.transformer_blocks.0.attn2"] == "9"
    assert numbers["up_blocks.0.attentions.0.transformer_blocks.0.attn2"] == "49"
    assert numbers["up_blocks.1.attentions.0.transformer_blocks.0.attn2"] == "109"
    assert numbers["mid_block.attentions.0.transformer_blocks.0.attn2"] == "121"
    assert numbers["mid_block.attentions.0.transformer_blocks.9.attn2"] == "139"


def test_the_published_sizes_are_the_preset_but_for_the_tokens():
    with torch.device("meta"):
        parts = ip_adapter_plus(
            UNet2DConditionModel(**{**SDXL_UNET, "transformer_layers_per_block": 1}),
        )
    del parts["image_proj"]["latents"]
    shapes = {
        "latents": (1, 16, 1280), "proj_in.weight": (1280, 1280), "proj_out.weight": (2048, 1280),
        "layers.0.0.to_q.weight": (1280, 1280), "layers.3.0.to_q.weight": (1280, 1280),
    }  # fmt: skip
    parts["image_proj"] |= {name: torch.empty(shape, device="meta") for name, shape in shapes.items()}
    published = IPAdapterPlus(**parts)
    preset = PRESETS["sdxl"]
    assert warm_start_config(published, tokens=64) == preset
    assert warm_start_config(published).subject_tokens == 16


# --- more tokens than queries ---


def qformers(base, weights, tokens: int):
    config = warm_start_config(weights, tokens=tokens, **SMALL)
    return warm_start(base, weights, config, generator=seeded(0)).subject_qformer


def test_the_first_queries_are_the_published_ones_and_the_rest_noisy_copies(weights):
    latents = weights.image_proj["latents"]
    extended = extend_queries(latents, 16, seeded(0))
    assert torch.equal(extended[:, :4], latents)
    copies = extended.unflatten(1, (4, 4))
    off = (copies - latents[:, None])[:, 1:]
    assert 0.008 < float(off.std() / latents.std()) < 0.012
    assert len({tuple(query.tolist()) for query in extended[0]}) == 16


def test_copies_differ_from_ip_adapter_by_their_weight_in_the_qformer_only(base, weights, monkeypatch):
    """Shown the image as many times over as queries are copied, the balance is as published, and so are the tokens."""
    monkeypatch.setattr("anystory.models.saved.warm_start.COPY_NOISE", 0.0)
    few, many = qformers(base, weights, 4), qformers(base, weights, 16)
    image = hidden()[0][0]
    expected = few(image).repeat(1, 4, 1)
    torch.testing.assert_close(many(image.repeat(1, 4, 1)), expected, atol=1e-5, rtol=1e-5)
    assert not torch.allclose(many(image), expected, atol=1e-3)


@torch.no_grad()
@pytest.mark.parametrize(("seed", "measured"), [(5, 0.160), (6, 0.203), (7, 0.345), (8, 0.160)])
def test_how_near_the_papers_64_tokens_are(base, seed, measured):
    """16 queries, 64 tokens, images of 257 tokens, random weights: the figures in docs/sdxl.md."""
    published = IPAdapterPlus(**ip_adapter_plus(base, queries=16, hidden=64, seed=seed))
    few, many = qformers(base, published, 16), qformers(base, published, 64)
    images = torch.randn(4, 257, 12, generator=seeded(1))
    expected = few(images)
    error = [float((part - expected).norm() / expected.norm()) for part in many(images).split(16, dim=1)]
    assert max(error) == pytest.approx(measured, abs=5e-3)


@pytest.mark.parametrize("tokens", [0, 3, 5, -4])
def test_tokens_must_be_a_multiple_of_the_queries(weights, tokens):
    with pytest.raises(ValueError, match=f"multiple of the IP-Adapter's 4 queries, got {tokens}"):
        warm_start_config(weights, tokens=tokens)


def test_half_precision_is_kept_and_torchs_default_is_put_back(weights):
    half = make_unet(torch.float16)
    adapter = warm_start(half, weights, warm_start_config(weights, **SMALL))
    assert {p.dtype for p in adapter.parameters()} == {torch.float16}
    assert all(p.isfinite().all() for p in adapter.parameters())
    assert torch.get_default_dtype() == torch.float32


# --- files ---


@pytest.mark.parametrize("name", ["ip-adapter-plus_sdxl_vit-h.safetensors", "ip-adapter-plus_sdxl_vit-h.bin"])
def test_both_published_formats_are_read(published, tmp_path, name):
    read = read_ip_adapter_plus(write_ip_adapter(published, tmp_path / name))
    for part in ("image_proj", "ip_adapter"):
        values = getattr(read, part)
        assert values.keys() == published[part].keys()
        assert all(torch.equal(value, published[part][key]) for key, value in values.items())
    assert read.queries == 4


class Evil:
    def __reduce__(self):
        return (print, ("it ran",))


def test_a_pickle_with_code_is_refused_and_not_run(tmp_path, capsys):
    path = tmp_path / "evil.bin"
    torch.save({"image_proj": Evil(), "ip_adapter": {}}, path)
    with pytest.raises(ValueError, match=r"holds more than tensors: use the \.safetensors file"):
        read_ip_adapter_plus(path)
    assert "it ran" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("key", "kind"),
    [
        ("proj.weight", "the plain IP-Adapter"),
        ("proj.0.weight", "IP-Adapter FaceID or Full"),
        ("perceiver_resampler.proj_in.weight", "IP-Adapter FaceID Plus"),
        ("something", "another kind"),
    ],
)
def test_other_ip_adapters_are_refused_by_name(published, tmp_path, key, kind):
    parts = {"image_proj": {key: torch.zeros(1)}, "ip_adapter": published["ip_adapter"]}
    path = write_ip_adapter(parts, tmp_path / "other.safetensors")
    with pytest.raises(ValueError, match=f"is {kind}.*: expected IP-Adapter-Plus for SDXL"):
        read_ip_adapter_plus(path)


@pytest.mark.parametrize("content", ["cut", "empty", "no parts", "text"])
@pytest.mark.parametrize("suffix", [".safetensors", ".bin"])
def test_damaged_and_other_files_are_refused_with_a_sentence(published, tmp_path, content, suffix):
    path = write_ip_adapter(published, tmp_path / f"file{suffix}")
    if content == "no parts":
        write_ip_adapter({"unet": {"weight": torch.zeros(1)}}, path)
    else:
        path.write_bytes({"cut": path.read_bytes()[:2000], "empty": b"", "text": b"<html>not found</html>"}[content])
    with pytest.raises(ValueError, match=r"file\.(safetensors|bin) (cannot be read|was not read|has no image_proj)"):
        read_ip_adapter_plus(path)


def test_a_file_that_is_not_there_and_one_of_another_type(tmp_path):
    with pytest.raises(FileNotFoundError, match="missing.bin"):
        read_ip_adapter_plus(tmp_path / "missing.bin")
    (tmp_path / "picture.png").write_bytes(b"")
    with pytest.raises(ValueError, match=r"expected a \.safetensors or \.bin file"):
        read_ip_adapter_plus(tmp_path / "picture.png")


def test_an_ip_adapter_for_another_base_is_refused_with_every_key(base):
    other = IPAdapterPlus(**ip_adapter_plus(make_unet(transformer_layers_per_block=1)))
    with pytest.raises(CheckpointKeyError, match="it has 7 layers of text width 20, the U-Net has 11") as error:
        warm_start(base, other, warm_start_config(other, **SMALL))
    assert len(error.value.report.missing) == 8
    wide = IPAdapterPlus(**ip_adapter_plus(make_unet(cross_attention_dim=24)))
    with pytest.raises(CheckpointKeyError, match="of text width 24") as error:
        warm_start(base, wide, warm_start_config(wide, **SMALL))
    assert len(error.value.report.misshaped) == 22


def test_a_resampler_with_other_keys_is_refused_with_every_key(base, published):
    image_proj = dict(published["image_proj"])
    del image_proj["layers.2.0.to_kv.weight"]
    image_proj["surprise"] = torch.zeros(1)
    other = IPAdapterPlus(image_proj=image_proj, ip_adapter=published["ip_adapter"])
    with pytest.raises(CheckpointKeyError) as error:
        warm_start(base, other, warm_start_config(other, **SMALL))
    assert error.value.report.missing == ("layers.2.attn.to_k.weight", "layers.2.attn.to_v.weight")
    assert error.value.report.unexpected == ("surprise",)


def test_a_resampler_without_sizes_is_refused(published):
    image_proj = {"latents": torch.zeros(1, 4, 16)}
    with pytest.raises(ValueError, match=r"lacks image_proj\.proj_in\.weight"):
        warm_start_config(IPAdapterPlus(image_proj=image_proj, ip_adapter=published["ip_adapter"]))
