"""The pipeline against an independent sampling loop of a few lines that builds the conditioning by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional as F

from anystory.models import FixedRegions, SubjectConditioning

from .helpers import draw, generator, subject

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)


def encode_by_hand(pipe, subjects):
    """Every reference by itself, without the pipeline's batching, its feature extractor or its padding."""
    hidden, latents, masks = [], [], []
    for one in subjects:
        prepared = one.prepare(pipe.adapter.sizes.reference_size)
        small = np.asarray(prepared.image.resize((16, 16), Image.Resampling.BICUBIC)) / 255
        pixels = torch.tensor((small - CLIP_MEAN) / CLIP_STD, dtype=torch.float32).permute(2, 0, 1)[None]
        hidden.append(pipe.image_encoder(pixels, output_hidden_states=True).hidden_states[-2])
        pixels = torch.tensor(np.asarray(prepared.image) / 127.5 - 1, dtype=torch.float32).permute(2, 0, 1)
        latents.append(pipe.vae.encode(pixels[None]).latent_dist.mean * pipe.vae.config.scaling_factor)
        masks.append(F.adaptive_avg_pool2d(torch.tensor(prepared.mask)[None, None], latents[-1].shape[-2:]))
    zero = pipe.image_encoder(torch.zeros(1, 3, 16, 16), output_hidden_states=True).hidden_states[-2]
    return pipe.adapter.encode(
        torch.stack(hidden, dim=1),
        zero,
        torch.stack(latents, dim=1),
        torch.stack(masks, dim=1),
        torch.ones(1, len(subjects), dtype=torch.bool),
    )


@pytest.mark.parametrize("guidance", [1.0, 4.0])
@torch.no_grad()
def test_pipeline_equals_a_hand_written_loop(pipe, guidance):
    subjects = [subject((220, 30, 30), scale=0.7), subject((30, 30, 220), reference_scale=1.5)]
    left = torch.zeros(1, 2, 32, 32)
    left[:, 0, :, :16] = 1
    ours = draw(
        pipe,
        subjects=[subject((220, 30, 30), scale=0.7, region=(0, 0, 0.5, 1)), subjects[1]],
        guidance_scale=guidance,
        num_inference_steps=3,
        output_type="latent",
    ).images

    guided = guidance > 1
    conditioning = SubjectConditioning(
        encoded=encode_by_hand(pipe, subjects),
        scales=torch.tensor([[0.7, 1.0]]),
        reference_scales=torch.tensor([[1.0, 1.5]]),
        gate=FixedRegions(left, torch.tensor([[True, False]])),
        guidance=guided,
    )
    text, no_text, pooled, no_pooled = pipe.encode_prompt("a fox", do_classifier_free_guidance=guided)
    if guided:
        text, pooled = torch.cat([no_text, text]), torch.cat([no_pooled, pooled])
    sizes = torch.tensor([[32.0, 32, 0, 0, 32, 32]]).repeat(len(text), 1)
    scheduler, unet = pipe.scheduler, pipe.unet
    scheduler.set_timesteps(3)
    side = 32 // pipe.vae_scale_factor
    latents = torch.randn(1, 4, side, side, generator=generator()) * scheduler.init_noise_sigma
    with pipe.adapter.installed_on(unet):
        for t in scheduler.timesteps:
            noise = unet(
                scheduler.scale_model_input(torch.cat([latents] * len(text)), t),
                t,
                encoder_hidden_states=text,
                added_cond_kwargs={"text_embeds": pooled, "time_ids": sizes},
                cross_attention_kwargs={"subject_conditioning": conditioning},
            ).sample
            if guided:
                unconditional, conditional = noise.chunk(2)
                noise = unconditional + guidance * (conditional - unconditional)
            latents = scheduler.step(noise, t, latents).prev_sample

    np.testing.assert_allclose(ours, latents, rtol=1e-4, atol=1e-4)
