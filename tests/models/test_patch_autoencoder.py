"""PatchAutoencoder: shapes, AutoencoderKL's interface, normalisation, refusals, save and load."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from anystory.models.patch_autoencoder import PatchAutoencoder


@pytest.fixture
def vae() -> PatchAutoencoder:
    torch.manual_seed(0)
    return PatchAutoencoder(
        latent_channels=4,
        block_out_channels=(16, 16, 16),
        encoder_width=16,
        encoder_blocks=1,
        decoder_blocks=1,
        norm_num_groups=4,
    ).eval()


def pictures(count: int = 3, height: int = 24, width: int = 16) -> torch.Tensor:
    return torch.rand(count, 3, height, width, generator=torch.Generator().manual_seed(1)) * 2 - 1


@torch.no_grad()
def test_shapes_and_both_ways_of_returning(vae: PatchAutoencoder) -> None:
    x = pictures()
    posterior = vae.encode(x).latent_dist  # pyright: ignore[reportAttributeAccessIssue]
    assert posterior.mean.shape == (3, 4, 6, 4)
    assert torch.equal(posterior.mean, vae.encode(x, return_dict=False)[0].mean)  # pyright: ignore
    decoded = vae.decode(posterior.mode()).sample  # pyright: ignore[reportAttributeAccessIssue]
    assert decoded.shape == x.shape
    assert torch.equal(decoded, vae.decode(posterior.mode(), return_dict=False)[0])


@torch.no_grad()
def test_a_latent_pixel_sees_its_patch_and_its_neighbourhood_only(vae: PatchAutoencoder) -> None:
    x = pictures(1, 64, 64)
    changed = x.clone()
    changed[..., 60:, 60:] = 0
    difference = (vae.encode(x).latent_dist.mean - vae.encode(changed).latent_dist.mean).abs()  # pyright: ignore
    assert difference[..., -1, -1].max() > 0
    # Group norms see the whole picture, so far pixels move a little; convolutions reach four patches at most.
    assert difference[..., :8, :8].max() < 0.1 * difference[..., -1, -1].max()


@torch.no_grad()
def test_normalised_latents_have_unit_variance_and_decode_to_the_same_picture(vae: PatchAutoencoder) -> None:
    x = pictures(8)
    before = vae.decode(vae.encode(x).latent_dist.mode()).sample  # pyright: ignore[reportAttributeAccessIssue]
    raw = vae.encode(x).latent_dist.mode()  # pyright: ignore[reportAttributeAccessIssue]
    vae.normalise_latents(raw)
    vae.normalise_latents(vae.encode(x).latent_dist.mode())  # pyright: ignore - twice is as good as once
    latents = vae.encode(x).latent_dist.mode()  # pyright: ignore[reportAttributeAccessIssue]
    torch.testing.assert_close(latents.mean(dim=(0, 2, 3)), torch.zeros(4), atol=1e-5, rtol=0)
    torch.testing.assert_close(latents.std(dim=(0, 2, 3)), torch.ones(4), atol=1e-4, rtol=0)
    torch.testing.assert_close(vae.decode(latents).sample, before, atol=1e-4, rtol=1e-4)  # pyright: ignore
    vae.reset_normalisation()
    assert torch.equal(vae.encode(x).latent_dist.mode(), raw)  # pyright: ignore[reportAttributeAccessIssue]


@torch.no_grad()
def test_normalised_posteriors_are_as_wide_in_proportion(vae: PatchAutoencoder) -> None:
    x = pictures(2)
    raw = vae.encode(x).latent_dist.std  # pyright: ignore[reportAttributeAccessIssue]
    vae.latent_std.copy_(torch.tensor([0.5, 1.0, 2.0, 4.0]))
    found = vae.encode(x).latent_dist.std  # pyright: ignore[reportAttributeAccessIssue]
    torch.testing.assert_close(found, raw / torch.tensor([0.5, 1.0, 2.0, 4.0])[:, None, None])


@torch.no_grad()
def test_slicing_changes_nothing_but_rounding(vae: PatchAutoencoder) -> None:
    z = torch.randn(3, 4, 4, 4, generator=torch.Generator().manual_seed(0))
    whole = vae.decode(z).sample  # pyright: ignore[reportAttributeAccessIssue]
    vae.enable_slicing()
    torch.testing.assert_close(vae.decode(z).sample, whole)  # pyright: ignore[reportAttributeAccessIssue]


def test_every_parameter_learns(vae: PatchAutoencoder) -> None:
    for module in vae.modules():  # zero-initialised layers hide the gradient of what precedes them
        if isinstance(module, torch.nn.Conv2d) and not module.weight.any():
            torch.nn.init.normal_(module.weight, std=0.1)
    output, posterior = vae(pictures(), torch.Generator().manual_seed(0))
    (output.square().mean() + posterior.kl().mean()).backward()
    silent = [name for name, p in vae.named_parameters() if p.grad is None or not p.grad.any()]
    assert not silent


@torch.no_grad()
def test_save_and_load_keep_weights_and_normalisation(vae: PatchAutoencoder, tmp_path: Path) -> None:
    vae.normalise_latents(vae.encode(pictures()).latent_dist.mode())  # pyright: ignore[reportAttributeAccessIssue]
    vae.save_pretrained(tmp_path)
    loaded = PatchAutoencoder.from_pretrained(tmp_path)
    assert not list(tmp_path.glob("*.bin")), "pickles are never written"
    for key, value in vae.state_dict().items():
        assert torch.equal(value, loaded.state_dict()[key]), key


def test_bad_sizes_are_named(vae: PatchAutoencoder) -> None:
    with pytest.raises(ValueError, match="multiples of 4"):
        vae.encode(pictures(1, 18, 16))
    with pytest.raises(ValueError, match="encoder_width"):
        PatchAutoencoder(encoder_width=10, norm_num_groups=4)
    with pytest.raises(ValueError, match="decoder_width must be divisible"):
        PatchAutoencoder(decoder_width=(10, 16), decoder_blocks=(1, 1), norm_num_groups=4, encoder_width=16)
    with pytest.raises(ValueError, match="decoder_blocks must be 2 positive numbers"):
        PatchAutoencoder(decoder_width=(16, 16), decoder_blocks=(1, 1, 1), norm_num_groups=4, encoder_width=16)
    with pytest.raises(ValueError, match="encoder_width has 4 resolutions"):
        PatchAutoencoder(encoder_width=(16,) * 4, norm_num_groups=4)


@torch.no_grad()
@pytest.mark.parametrize(("encoder", "decoder"), [((8, 16), (4, 8, 16)), (16, (8, 16)), ((4, 8, 12, 16), 16)])
def test_several_resolutions_keep_the_factor_and_start_as_a_plain_path(encoder: Any, decoder: Any) -> None:
    sizes: dict[str, Any] = {"encoder_blocks": 1, "decoder_blocks": 1, "norm_num_groups": 4, "latent_channels": 4}
    vae = PatchAutoencoder(block_out_channels=(4, 8, 16, 16), encoder_width=encoder, decoder_width=decoder, **sizes)
    x = pictures(2, 32, 16)
    latents = vae.encode(x).latent_dist.mode()  # pyright: ignore[reportAttributeAccessIssue]
    assert latents.shape == (2, 4, 4, 2)
    assert vae.decode(latents).sample.shape == x.shape  # pyright: ignore[reportAttributeAccessIssue]
    edges = {name for name in dict(vae.named_parameters()) if name.startswith(vae.edges)}
    inputs = {id(m.weight) for m in vae.modules() if isinstance(m, torch.nn.Conv2d) and m.in_channels in (4, 3 * 64)}
    named = dict(vae.named_parameters())
    assert {"post_quant_conv.weight", "encoder.1.weight", "decoder.0.weight"} <= edges
    assert id(named["decoder.0.weight"]) in inputs
    last = [name for name in named if name.startswith("decoder.") and name.endswith(".weight")][-1]
    assert last in edges
