"""`stage(batch)` of every stage against the loss written out by hand, on the same draws."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import CLIPImageProcessorPil

from anystory.training.data.storyworld import personal_sample
from anystory.training.data.stream import Sample
from anystory.training.model.components import ModelFolder
from anystory.training.model.tokenizer import build_tokenizer
from anystory.training.recipe import Recipe, StageName
from anystory.training.stages import build_stage
from anystory.training.stages.encoder import EncoderOptions
from anystory.training.stages.router import RouterOptions

from . import by_hand
from .conftest import TINY

MEAN, STD = (0.4, 0.5, 0.7), (0.2, 0.3, 0.25)
"""CLIP's statistics: others than the embedded model's, whose normalisation changes nothing."""
COUNT, SIDE = 6, 32
VALUES = TINY | {"adapter": {"preset": "mini", "qformer_depth": 1, "subject_tokens": 4}}
CAPTIONS = ["a fox", "two bears at night", "a robot", "a cat on a hill", "an owl", "a fox and a robot"]
NAMES = ["a red fox", "a grey bear", "a blue robot", "a cat", "a white owl", "a green fox"]
NOISE = {"timestep_std": 1.0, "timestep_mean": -0.4, "timestep_uniform": 0.5, "min_snr_gamma": 5.0}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every component, fresh, with weights large enough that each of them matters."""
    torch.set_num_threads(1)
    folder = ModelFolder(tmp_path_factory.mktemp("model"), Recipe.model_validate(VALUES))
    generator = torch.Generator().manual_seed(0)
    parts = {name: folder.load_or_build(name) for name in ("vae", "scheduler")}
    parts["tokenizer_2"] = build_tokenizer(sorted({word for text in (*CAPTIONS, *NAMES) for word in text.split()}), 40)
    parts["vae"].latent_mean.normal_(generator=generator)
    parts["vae"].latent_std.uniform_(0.5, 2.0, generator=generator)
    parts["feature_extractor"] = CLIPImageProcessorPil(image_mean=list(MEAN), image_std=list(STD))
    for name, part in parts.items():
        folder.save(name, part)
    for name in ("text_encoder_2", "image_encoder", "unet"):
        folder.save(name, folder.load_or_build(name))
    give_adapter(folder)
    return folder.path


def give_adapter(folder: ModelFolder) -> None:
    adapter, generator = folder.adapter(folder.load("unet")), torch.Generator().manual_seed(1)
    with torch.no_grad():
        adapter.reference_net.unet.conv_in.weight[:, -1].normal_(0, 0.3, generator=generator)  # it starts at zero
        for name, parameter in adapter.named_parameters():
            if "cross_projections" in name or "routers" in name:
                parameter.mul_(4)
    folder.save("adapter", adapter)


def built(model: Path, name: StageName, **options: Any) -> Any:
    recipe = Recipe.model_validate(VALUES)
    config = recipe.stages[name].model_copy(update={"options": options})
    stage = build_stage(name, ModelFolder(model, recipe.model_copy(update={"stages": {**recipe.stages, name: config}})))
    stage.freeze_rest()
    return stage


def made(subjects: int = 2) -> Sample:
    """Six samples: soft cut-outs, instances that no layer's grid fits, and an absent second subject in the last."""
    rng = np.random.default_rng(0)

    def smooth(*shape: int) -> Tensor:
        return torch.from_numpy(rng.integers(0, 256, shape, dtype=np.uint8))

    instances = torch.zeros(COUNT, SIDE, SIDE, dtype=torch.uint8)
    present = torch.ones(COUNT, subjects, dtype=torch.bool)
    for i in range(COUNT):
        instances[i, 3 : 20 + i, 1 : 12 + i] = 1
        if subjects > 1 and i < COUNT - 1:
            instances[i, 9:30, 19 - i : 31] = 2
    if subjects > 1:
        present[-1, 1] = False
    side = TINY["resolution"] * 2  # the mini's references: larger than what CLIP sees
    return {
        "image": smooth(COUNT, SIDE, SIDE, 3),
        "instances": instances,
        "caption": CAPTIONS,
        "references": smooth(COUNT, subjects, side, side, 3),
        "reference_alpha": smooth(COUNT, subjects, side, side) * present[:, :, None, None],
        "present": present,
    }


def gradients(loss: Tensor, stage: Any) -> dict[str, Tensor]:
    trained = stage.trained_parameters()
    found = torch.autograd.grad(loss, list(trained.values()), allow_unused=True)
    return {name: torch.zeros_like(p) if g is None else g for (name, p), g in zip(trained.items(), found, strict=True)}


def check_equal(found: dict[str, Tensor], expected: Tensor, stage: Any) -> None:
    """The loss, and its gradient in all that the stage trains."""
    torch.testing.assert_close(found["loss"], expected, rtol=1e-5, atol=1e-6)
    theirs, ours = gradients(expected, stage), gradients(found["loss"], stage)
    least = 1e-6 * max(float(gradient.norm()) for gradient in theirs.values())
    wrong = [name for name, g in theirs.items() if (ours[name] - g).norm() > 1e-3 * g.norm() + least]
    assert not wrong


def draws() -> torch.Generator:
    """Where a step's random numbers come from: every kind of drop occurs among its first."""
    return torch.Generator().manual_seed(5)


def shares(generator: torch.Generator, *values: float) -> list[Tensor]:
    """Which samples each share takes; every kind of sample must occur."""
    drawn = [torch.rand(COUNT, generator=generator) < value for value in values]
    assert all(0 < int(d.sum()) < COUNT for d, value in zip(drawn, values, strict=True) if 0 < value < 1)
    return drawn


def diffusion(
    stage: Any, batch: Sample, generator: torch.Generator, no_text: Tensor, extra: float, detail: float = 0.0
) -> Tensor:
    """`‖v − v_θ(√ᾱ x + √(1−ᾱ) ε)‖²` with min-SNR weights, characters counting `1 + extra` times, and more by `detail`
    times the variance of their pixels inside a cell.

    Salimans & Ho 2022 for v, Hang et al. 2023 for the weights, Esser et al. 2024 for the time steps.
    """
    with torch.no_grad():
        clean = by_hand.latents_of(stage, batch["image"])
    text, pooled = by_hand.text_of(stage, batch["caption"])
    uniform = torch.randint(1000, (COUNT,), generator=generator)
    logit = torch.randn(COUNT, generator=generator) * NOISE["timestep_std"] + NOISE["timestep_mean"]
    spread = torch.rand(COUNT, generator=generator) < NOISE["timestep_uniform"]
    t = torch.where(spread, uniform, (1000 / (1 + (-logit).exp())).long())
    noise = torch.randn(clean.shape, generator=generator)
    kept = stage.scheduler.alphas_cumprod[t].float()
    signal, spoilt = (part[:, None, None, None] for part in (kept.sqrt(), (1 - kept).sqrt()))
    sizes = batch.get("size_condition", torch.tensor([[SIDE, SIDE, 0, 0, SIDE, SIDE]] * COUNT).float())
    found = stage.unet(
        signal * clean + spoilt * noise,
        t,
        torch.where(no_text[:, None, None], torch.zeros(()), text),
        added_cond_kwargs={"text_embeds": torch.where(no_text[:, None], torch.zeros(()), pooled), "time_ids": sizes},
    ).sample
    error = (found - (signal * noise - spoilt * clean)).square().mean(1)
    snr = kept / (1 - kept)
    error = error * (snr.clamp(max=NOISE["min_snr_gamma"]) / (snr + 1))[:, None, None]
    side = clean.shape[-1]
    cells = by_hand.pixels(batch["image"]).unfold(2, SIDE // side, SIDE // side).unfold(3, SIDE // side, SIDE // side)
    varied = cells.flatten(4).var(dim=-1, correction=0).mean(dim=1)
    assert varied.amax() > 0.1  # there is something to weigh
    weight = 1 + (extra + detail * varied) * by_hand.averaged((batch["instances"] > 0).float(), side)
    return (error * weight).sum() / weight.sum()


# The base's stages.


def test_vae(model: Path) -> None:
    weights = {"kl_weight": 0.3, "square_weight": 0.7, "gradient_weight": 1.5}
    stage, batch = built(model, "vae", **weights, latent_noise=0.8, latent_noise_share=0.5), made()
    found, generator = stage(batch, draws()), draws()
    x = by_hand.pixels(batch["image"])
    mean, log_variance = stage.vae.encoder(x).chunk(2, 1)
    latents = mean + (log_variance / 2).exp() * torch.randn(mean.shape, generator=generator)
    strength = 0.8 * torch.rand(COUNT, generator=generator)
    strength = strength * (torch.rand(COUNT, generator=generator) < 0.5)
    assert 0 < int((strength > 0).sum()) < COUNT
    noise = torch.randn(mean.shape, generator=generator) * latents.detach().std((0, 2, 3))[:, None, None]
    y = stage.vae.decoder(stage.vae.post_quant_conv(latents + strength[:, None, None, None] * noise))
    error = y - x
    sideways, downwards = error[..., 1:] - error[..., :-1], error[..., 1:, :] - error[..., :-1, :]
    gradient = (sideways.abs().mean() + downwards.abs().mean()) / 2
    kl = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).mean()
    expected = error.abs().mean() + 0.7 * error.square().mean() + 1.5 * gradient + 0.3 * kl
    check_equal(found, expected, stage)
    assert found["psnr"].item() == pytest.approx(10 * np.log10(2**2 / error.square().mean().item()), rel=1e-5)


def test_an_exported_vae_has_latents_of_unit_variance(model: Path) -> None:
    stage = built(model, "vae")
    stage.before_export()
    batch = torch.stack([torch.from_numpy(stage.fetch()(i)["image"]) for i in range(64)])
    latents = by_hand.latents_of(stage, batch)
    torch.testing.assert_close(latents.mean((0, 2, 3)), torch.zeros(4), atol=0.2, rtol=0)
    torch.testing.assert_close(latents.std((0, 2, 3)), torch.ones(4), atol=0.2, rtol=0)


def test_clip(model: Path) -> None:
    stage = built(model, "clip", scene_weight=0.3, scene_share=0.5, max_logit_scale=20.0)
    batch = made(subjects=1)
    small = batch["references"][:, 0, ::2, ::2]
    batch = {"reference": small, "description": NAMES, "scene": batch["image"], "caption": batch["caption"]}
    for scale in (2.0, 4.0):  # e^2 counts as it is, e^4 as 20
        stage.logit_scale.data.fill_(scale)
        found, expected = stage(batch, torch.Generator()), torch.zeros(())
        for weight, images, words in ((0.7, small, NAMES), (0.3, batch["scene"][:3], batch["caption"][:3])):
            ids = torch.tensor(stage.tokenizer(words, padding="max_length", max_length=40).input_ids)
            seen = stage.image_encoder(by_hand.pixels(images)).image_embeds
            read = stage.text_encoder(ids).text_embeds
            cosine = torch.stack([torch.stack([F.cosine_similarity(i, w, dim=0) for w in read]) for i in seen])
            scores = stage.logit_scale.exp().clamp(max=20.0) * cosine
            for one in (scores, scores.T):
                expected = expected - weight / 2 * one.log_softmax(-1).diagonal().mean()
        check_equal(found, expected, stage)


def test_base(model: Path) -> None:
    options = NOISE | {"caption_drop": 0.5, "train_text_encoder": True}
    options |= {"foreground_weight": 2.0, "detail_weight": 30.0}
    stage, batch = built(model, "base", **options), made()
    found = stage(batch, draws())
    generator = draws()
    [no_text] = shares(generator, 0.5)
    check_equal(found, diffusion(stage, batch, generator, no_text, extra=2.0, detail=30.0), stage)


# Stage 1.


def clip_dropped(encoded: by_hand.Encoded, drop: Tensor) -> by_hand.Encoded:
    """Where the CLIP condition is dropped every slot is told `E_{N+1}`."""
    tokens = encoded.tokens.clone()
    tokens[drop] = encoded.tokens[drop, -1:]
    return replace(encoded, tokens=tokens)


def owners_of(batch: Sample) -> Tensor:
    """(B, S, H, W) true masks, the background last."""
    subjects = batch["present"].shape[1]
    return torch.stack([batch["instances"] == i for i in (*range(1, subjects + 1), 0)], dim=1).float()


@pytest.mark.parametrize("gate", ["masks", "paper", "router"])
def test_encoder(model: Path, gate: str) -> None:
    """Features go where the true masks are, everywhere (the paper's one subject), or where the router says."""
    subjects = 1 if gate == "paper" else 2
    options = NOISE | {"max_subjects": subjects, "foreground_weight": 0.5, "detail_weight": 20.0}
    options |= {"router_share": 1.0} if gate == "router" else {"gate": gate}
    drops = {"free_drop": 0.4, "caption_drop": 0.3, "clip_drop": 0.5}
    stage, batch = built(model, "encoder", **options, **drops), made(subjects)
    if gate == "masks":  # of pictures that were cut out of larger ones
        batch["size_condition"] = torch.tensor([[64.0, 48, 5, 7, 32, 32]]).repeat(COUNT, 1)
    found = stage(batch, draws())
    generator = draws()
    free, no_text, no_clip = shares(generator, *drops.values())
    encoded = clip_dropped(by_hand.encode(stage, batch, MEAN, STD), no_clip)
    if gate == "router":
        torch.rand((), generator=generator)  # it decides in this step
        encoded.present[free, :-1] = False
        owners: Any = by_hand.RoutedOwners(stage.adapter, encoded)
    else:
        masks = owners_of(batch)
        if gate == "paper":
            masks[:, 0], masks[:, 1] = 1, 0
        masks[free] = torch.tensor([0.0] * subjects + [1.0])[:, None, None]
        owners = by_hand.TrueOwners(masks)
    with by_hand.injected(stage, encoded, owners):
        expected = diffusion(stage, batch, generator, free | no_text, extra=0.5, detail=20.0)
    check_equal(found, expected, stage)


def test_what_is_held_out_is_of_another_split_and_as_it_is(model: Path) -> None:
    stage = built(model, "encoder")
    settings = {"reference_size": 64, "min_subjects": 1, "max_subjects": 2, "augment": False}
    found, wanted = (
        stage.held_out()(3),
        personal_sample(3, level="level1", size=SIDE, seed=0, split="heldout", **settings),
    )
    assert np.array_equal(found["image"], wanted["image"])
    assert np.array_equal(found["references"], wanted["references"])
    assert not np.array_equal(found["image"], stage.fetch()(3)["image"])


# Stage 2.


def squared_error(maps: dict[str, tuple[Tensor, Tensor]], which: int, batch: Sample, background: bool) -> Tensor:
    """`1/N Σ_i ‖M_i − M_i^gt‖²`, mean over pixels, samples and layers; slot N + 1 counts with `background` (D14)."""
    counts = torch.cat([batch["present"], torch.full((COUNT, 1), background)], dim=1)
    found = []
    for both in maps.values():
        wanted = by_hand.averaged(owners_of(batch), both[which].shape[-1])
        errors = (both[which] - wanted).square().mean((2, 3))
        found.append(torch.stack([own[here].mean() for own, here in zip(errors, counts, strict=True)]).mean())
    return torch.stack(found).mean()


@pytest.mark.parametrize(
    ("drop", "background", "projections"), [(0.0, False, "shared"), (0.5, True, "separate")], ids=["plain", "options"]
)
def test_router(model: Path, tmp_path: Path, drop: float, background: bool, projections: str) -> None:
    if projections == "shared":
        shutil.copytree(model, tmp_path, dirs_exist_ok=True)
        shutil.rmtree(tmp_path / "adapter")
        adapter = VALUES["adapter"] | {"map_projections": projections}
        give_adapter(ModelFolder(tmp_path, Recipe.model_validate(VALUES | {"adapter": adapter})))
        model = tmp_path
    options = NOISE | {"caption_drop": drop, "clip_drop": drop, "gumbel_temperature": 0.7, "foreground_weight": 0.5}
    weights = {"route_loss_weight": 3.0, "coarse_weight": 0.5, "include_background": background}
    stage, batch = built(model, "router", **options, **weights), made()
    found = stage(batch, draws())
    generator = draws()
    no_text, no_clip = shares(generator, drop, drop)
    encoded = clip_dropped(by_hand.encode(stage, batch, MEAN, STD), no_clip)
    owners = by_hand.RoutedOwners(stage.adapter, encoded, 0.7, generator)
    with by_hand.injected(stage, encoded, owners):
        drawn = diffusion(stage, batch, generator, no_text, extra=0.5)
    coarse, refined = (squared_error(owners.maps, which, batch, background) for which in (0, 1))
    routing = 3.0 * (refined + 0.5 * coarse)
    torch.testing.assert_close(found["routing"], routing, rtol=1e-5, atol=1e-6)
    check_equal(found, drawn + routing, stage)


def test_what_the_paper_says_is_the_default() -> None:
    assert EncoderOptions().clip_drop == 0.1
    assert EncoderOptions().router_share == 0
    assert RouterOptions().route_loss_weight == 0.1
