"""Stages `vae` and `decoder`: noise on latents, the adversary's pull, and what stays as it is."""

from __future__ import annotations

import copy
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch.nn import functional as F

from anystory.training.data.stream import collate
from anystory.training.launch.runner import run_stages
from anystory.training.model.components import ModelFolder
from anystory.training.recipe import Recipe
from anystory.training.stages import build_stage
from anystory.training.stages.common import to_pixels
from anystory.training.stages.decoder import adversarial_scale
from anystory.training.stages.redrawing import Redrawing
from anystory.training.stages.vae import ReconstructionOptions, noised, reconstruction_loss
from anystory.training.trainer import train

from .conftest import TINY
from .test_loop import options


def recipe_with(**changes: dict[str, Any]) -> Recipe:
    """The tiny recipe with options of stages changed."""
    stages = {name: {**TINY["stages"]["vae"], "options": changes.get(name, {})} for name in ("vae", "decoder")}
    return Recipe.model_validate({**TINY, "stages": {**TINY["stages"], **stages}})


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("vae")
    recipe = recipe_with()
    train(build_stage("vae", ModelFolder(out / "model", recipe)), recipe.stages["vae"], options(out))
    return out


def decoder(trained: Path, **changes: Any) -> Any:
    stage = build_stage("decoder", ModelFolder(trained / "model", recipe_with(decoder=changes)))
    stage.freeze_rest()
    return stage


def with_unet(trained: Path, tmp_path: Path, recipe: Recipe) -> ModelFolder:
    """A copy of the trained model with a fresh U-Net."""
    shutil.copytree(trained / "model", tmp_path / "model")
    folder = ModelFolder(tmp_path / "model", recipe)
    for part in ("unet", "scheduler"):
        folder.save(part, folder.load_or_build(part))
    return folder


def batch_of(stage: Any, count: int = 2) -> Any:
    return collate([stage.fetch()(i) for i in range(count)])


def test_noise_is_in_deviations_of_each_channel_and_of_a_share_of_the_samples() -> None:
    generator = torch.Generator().manual_seed(0)
    scale = torch.tensor([0.1, 10.0])[None, :, None, None]
    latents = torch.randn(400, 2, 8, 8, generator=generator) * scale
    found = noised(latents, ReconstructionOptions(latent_noise=0.5, latent_noise_share=0.25), generator)
    added = ((found - latents) / scale).flatten(1).std(dim=1)
    touched = added > 0
    assert 0.18 < touched.float().mean() < 0.32
    assert 0.4 < added.max() < 0.6
    assert abs(added[touched].mean() - 0.25) < 0.04  # uniform below the most
    assert torch.equal(noised(latents, ReconstructionOptions(), generator), latents)


def test_the_two_losses_pull_alike_at_the_last_layer_by_the_scale() -> None:
    last = torch.nn.Parameter(torch.tensor([1.0, 2.0]))
    scale = adversarial_scale(3 * last.sum(), last.square().sum(), last)
    assert float(scale) == pytest.approx(3 * 2**0.5 / (2 * 5**0.5))


def test_the_adversary_pulls_by_its_weight_and_each_learns_its_own_loss(trained: Path) -> None:
    stage = decoder(trained, adversarial_weight=0.5, discriminator_width=8)
    batch = batch_of(stage)
    stage(batch, torch.Generator().manual_seed(2))["loss"].backward()
    grads = {name: p.grad.clone() for name, p in stage.trained_parameters().items()}
    # By hand, from the same draws.
    pixels = to_pixels(batch["image"])
    posterior = stage.vae.encode(pixels, return_dict=False)[0]
    output = stage.vae.decode(posterior.sample(torch.Generator().manual_seed(2)).detach(), return_dict=False)[0]
    error = output - pixels
    differences = (error.diff(dim=-1).abs().mean() + error.diff(dim=-2).abs().mean()) / 2
    reconstruction = error.abs().mean() + error.square().mean() + differences
    adversary = -stage.discriminator(output).mean()
    last = stage.vae.decoder[-2].weight
    one, two = (torch.autograd.grad(loss, last, retain_graph=True)[0] for loss in (reconstruction, adversary))
    expected = one + 0.5 * two * one.norm() / two.norm()
    torch.testing.assert_close(grads[_name_of(stage, last)], expected)
    real, drawn = stage.discriminator(pixels), stage.discriminator(output.detach())
    hinge = F.relu(1 - real).mean() + F.relu(1 + drawn).mean()
    weight = stage.discriminator.net[0].weight
    torch.testing.assert_close(grads["discriminator.net.0.weight"], torch.autograd.grad(hinge, weight)[0])


def _name_of(stage: Any, parameter: Any) -> str:
    return next(name for name, value in stage.trained_parameters().items() if value is parameter)


def test_without_an_adversary_there_is_no_discriminator_to_train(trained: Path) -> None:
    stage = decoder(trained, adversarial_weight=0)
    assert not any("discriminator" in name for name in stage.trained_parameters())
    assert set(stage(batch_of(stage), torch.Generator())) == {"loss", "l1", "psnr"}


def test_latents_stay_and_the_decoder_changes(trained: Path, tmp_path: Path) -> None:
    recipe = recipe_with()
    before = ModelFolder(trained / "model", recipe).load("vae")
    stage = decoder(trained)
    pixels = to_pixels(batch_of(stage)["image"])
    train(stage, recipe.stages["decoder"], options(tmp_path, model=trained / "model"))
    after = ModelFolder(trained / "model", recipe).load("vae")
    latents = [vae.encode(pixels).latent_dist.mode() for vae in (before, after)]
    assert torch.equal(*latents)
    assert not torch.equal(*(vae.decode(latents[0]).sample for vae in (before, after)))
    assert set(after.state_dict()) == set(before.state_dict()), "the discriminator is not kept"


@pytest.mark.parametrize("prediction", ["v_prediction", "epsilon"])
def test_redrawn_latents_are_the_unets_guess_through_noise(trained: Path, tmp_path: Path, prediction: str) -> None:
    values = copy.deepcopy(TINY)
    values["scheduler"] |= {"prediction_type": prediction, "rescale_betas_zero_snr": False}
    recipe = Recipe.model_validate(values)
    folder = with_unet(trained, tmp_path, recipe)
    redrawing = Redrawing(folder, 0.5)
    seen: list[tuple[Any, ...]] = []
    truth = torch.randn(64, recipe.autoencoder["latent_channels"], folder.latent_size, folder.latent_size)

    def knows(noisy: Any, t: Any, hidden: Any, *, added_cond_kwargs: Any, **rest: Any) -> Any:
        """A U-Net that sees through the noise."""
        seen.append((t, hidden, added_cond_kwargs))
        alpha, sigma = (value[:, None, None, None] for value in redrawing.schedule._at(t))
        noise = (noisy - alpha * truth) / sigma
        target = noise if prediction == "epsilon" else alpha * noise - sigma * truth
        return SimpleNamespace(sample=target)

    real = redrawing.unet.forward
    redrawing.unet.forward = knows  # type: ignore[method-assign]
    torch.testing.assert_close(redrawing(truth, torch.Generator().manual_seed(0)), truth, atol=1e-3, rtol=1e-3)
    ((t, hidden, added),) = seen
    assert 0 <= t.min() < 100 < 400 < t.max() < 500, "each latent has a step of its own, below the latest"
    assert not hidden.any()
    assert not added["text_embeds"].any()
    assert added["time_ids"][0].tolist() == [recipe.resolution, recipe.resolution, 0, 0] + [recipe.resolution] * 2
    redrawing.unet.forward = real  # type: ignore[method-assign]
    assert not torch.allclose(redrawing(truth, torch.Generator().manual_seed(0)), truth, atol=1e-2)


def test_a_decoder_learns_from_redrawn_latents_and_the_unet_stays(trained: Path, tmp_path: Path) -> None:
    changes = {"redrawn": 0.3, "adversarial_weight": 0.0}
    with pytest.raises(ValueError, match=r"holds no unet: train stage 'base'"):
        build_stage("decoder", ModelFolder(trained / "model", recipe_with(decoder=changes)))
    folder = with_unet(trained, tmp_path, recipe_with(decoder=changes))
    stage: Any = build_stage("decoder", folder)
    trained_names = stage.freeze_rest()
    assert not any("redrawing" in name for name in trained_names)
    batch = batch_of(stage)
    loss = stage(batch, torch.Generator().manual_seed(1))["loss"]
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        posterior: Any = stage.vae.encode(to_pixels(batch["image"]), return_dict=False)[0]
        guessed = stage.redrawing(posterior.sample(generator), generator)
        expected = reconstruction_loss(stage.vae.decode(guessed).sample, to_pixels(batch["image"]), stage.options)
    torch.testing.assert_close(loss, expected["loss"])
    loss.backward()
    assert all(p.grad is not None for p in trained_names.values())
    assert all(p.grad is None for p in stage.redrawing.unet.parameters())


def test_a_recipe_without_the_stage_says_so(tmp_path: Path) -> None:
    recipe = Recipe.model_validate(TINY)
    assert "decoder" not in recipe.stages
    with pytest.raises(ValueError, match=r"has no stage decoder: it has vae"):
        run_stages(("decoder",), recipe, options(tmp_path), {})
