"""A scheduler in another's place draws from the model's own noise.

The reference is a model that is known: data of which each number is drawn from two normal distributions, and the best
prediction for it in closed form. From the same noise a deterministic scheduler must end where Euler ends; one that
draws noise of its own must end with the same distribution.
"""

from __future__ import annotations

import functools
import inspect
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from diffusers import (
    DDIMScheduler,
    DPMSolverMultistepScheduler,
    EDMEulerScheduler,
    EulerDiscreteScheduler,
    FlowMatchEulerDiscreteScheduler,
)

from anystory.engine.backends.schedulers import scheduler_names
from anystory.pipelines.schedulers import predicting, rescheduled
from anystory.pipelines.sdxl import AnyStoryPipeline

MEAN, SPREAD, LOG_ODDS = 1.5, 0.3, 1.0
"""Of the data: ±MEAN with a standard deviation of SPREAD each, the upper one e^LOG_ODDS times as often."""
STEPS = 100
HEUN = "HeunDiscreteScheduler"

DRAWS_NOISE = {
    "DDPMScheduler",
    "EulerAncestralDiscreteScheduler",
    "KDPM2AncestralDiscreteScheduler",
    "LCMScheduler",
}
FEW_STEPS = {"LCMScheduler": 25, "TCDScheduler": 50}
"""These have 50 noise levels at most."""
LCM_DISTANCE = 0.4
"""LCM adds new noise to the predicted data at every level: exact for a model that is distilled for it, not for others,
however many the steps."""
KARRAS = sorted(
    name
    for name in scheduler_names()
    if name == "LMSDiscreteScheduler"
    or "use_karras_sigmas" in inspect.signature(getattr(diffusers, name).__init__).parameters
)
KARRAS_FROM_PURE_NOISE = {"EulerDiscreteScheduler", "HeunDiscreteScheduler", "LMSDiscreteScheduler"}
OWN: dict[str, dict[str, Any]] = {
    "mini": {  # as the embedded model has it
        "prediction_type": "v_prediction",
        "rescale_betas_zero_snr": True,
        "timestep_spacing": "trailing",
    },
    "sdxl": {  # as SDXL has it
        "prediction_type": "epsilon",
        "timestep_spacing": "leading",
        "steps_offset": 1,
    },
}
BETAS: dict[str, Any] = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}


def own(kind: str, **changes: Any) -> Any:
    return EulerDiscreteScheduler(**BETAS | OWN[kind] | changes)


def another(scheduler: Any, name: str) -> Any:
    """One of that name in its place; Heun begins from pure noise with Karras' noise levels only, one not at all."""
    from_pure_noise = scheduler.config["rescale_betas_zero_snr"]
    if from_pure_noise and name == "KDPM2AncestralDiscreteScheduler":
        with pytest.raises(ValueError, match="cannot take the first step"):
            rescheduled(scheduler, name)
        pytest.skip("refused")
    return rescheduled(scheduler, named(name), karras=True if name == HEUN and from_pure_noise else None)


def named(name: str) -> str:
    """The name, where its class can be had."""
    if name == "LMSDiscreteScheduler":
        pytest.importorskip("scipy")
    return name


@functools.cache
def kept(zero_snr: bool) -> np.ndarray:
    """ᾱ of every noise level, in plain NumPy."""
    betas = np.linspace(BETAS["beta_start"] ** 0.5, BETAS["beta_end"] ** 0.5, 1000) ** 2
    roots = np.sqrt(np.cumprod(1 - betas))
    if zero_snr:  # Lin et al., "Common Diffusion Noise Schedules and Sample Steps are Flawed", algorithm 1
        roots = (roots - roots[-1]) * roots[0] / (roots[0] - roots[-1])
    return roots**2


def predict(x: torch.Tensor, timestep: float, kind: str) -> torch.Tensor:
    """What a perfect model says: the velocity or the noise in x = √ᾱ data + √(1-ᾱ) noise."""
    alpha = float(np.interp(timestep, np.arange(1000), kept(kind == "mini")))
    x, root, variance = x.double(), alpha**0.5, alpha * SPREAD**2 + 1 - alpha
    upper = torch.sigmoid(2 * root * MEAN / variance * x + LOG_ODDS)

    def data_of(mean: float) -> torch.Tensor:
        return mean + SPREAD**2 * root / variance * (x - root * mean)

    data = upper * data_of(MEAN) + (1 - upper) * data_of(-MEAN)
    clean = root * x - data if kind == "mini" else x - root * data
    return (clean / (1 - alpha) ** 0.5).float()


def sampled(scheduler: Any, kind: str, steps: int) -> torch.Tensor:
    scheduler.set_timesteps(steps)
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(1, 1, 64, 64, generator=generator) * scheduler.init_noise_sigma
    known = inspect.signature(scheduler.step).parameters
    options = {name: value for name, value in {"generator": generator, "eta": 0.0}.items() if name in known}
    for timestep in scheduler.timesteps:
        predicted = predict(scheduler.scale_model_input(x, timestep), float(timestep), kind)
        x = scheduler.step(predicted, timestep, x, **options).prev_sample
    return x


@pytest.fixture(scope="module", params=list(OWN))
def euler(request) -> tuple[str, torch.Tensor]:
    """Which model; where Euler ends."""
    return request.param, sampled(own(request.param), request.param, 250)


def distance(x: torch.Tensor, y: torch.Tensor) -> float:
    """Between two distributions (Wasserstein-1)."""
    return float((x.flatten().sort().values - y.flatten().sort().values).abs().mean())


def apart(x: torch.Tensor, y: torch.Tensor) -> float:
    """How far pairs are apart: the median, since a few near the border end with one mean or the other."""
    return float((x - y).abs().median())


def test_the_reference_ends_with_the_data(euler):
    _, end = euler
    generator = torch.Generator().manual_seed(1)
    upper = torch.rand(end.shape, generator=generator) < 1 / (1 + np.exp(-LOG_ODDS))
    data = torch.where(upper, MEAN, -MEAN) + SPREAD * torch.randn(end.shape, generator=generator)
    assert distance(end, data) < 0.1


@pytest.mark.parametrize("name", scheduler_names())
def test_ends_where_euler_ends(name, euler):
    kind, expected = euler
    found = sampled(another(own(kind), name), kind, FEW_STEPS.get(name, STEPS))
    assert distance(found, expected) < (LCM_DISTANCE if name == "LCMScheduler" else 0.1)
    if name not in DRAWS_NOISE:
        assert apart(found, expected) < 0.03


@pytest.mark.parametrize("name", KARRAS)
def test_with_karras_noise_levels(name, euler):
    kind, expected = euler
    named(name)
    if kind == "mini" and name not in KARRAS_FROM_PURE_NOISE:
        with pytest.raises(ValueError, match=f"{name} cannot have Karras' noise levels with this model"):
            rescheduled(own(kind), name, karras=True)
        return
    found = sampled(rescheduled(own(kind), name, karras=True), kind, STEPS)
    assert distance(found, expected) < 0.1
    if name not in DRAWS_NOISE:
        assert apart(found, expected) < 0.04


def test_some_do_not_begin_from_pure_noise():
    with pytest.raises(ValueError, match=r"cannot take the first step from pure noise.*--karras"):
        rescheduled(own("mini"), HEUN)
    with pytest.raises(
        ValueError, match=r"cannot take the first step from pure noise.*EulerAncestralDiscreteScheduler$"
    ):
        rescheduled(own("mini"), "KDPM2AncestralDiscreteScheduler")


def test_karras_that_a_class_has_not():
    with pytest.raises(ValueError, match="DDIMScheduler has no noise levels of Karras"):
        rescheduled(own("sdxl"), "DDIMScheduler", karras=True)


@pytest.mark.parametrize("name", scheduler_names())
def test_carries_what_the_class_has(name):
    changed = another(own("mini"), name).config
    kept_by_name = "rescale_betas_zero_snr" in inspect.signature(getattr(diffusers, name).__init__).parameters
    for key, value in (BETAS | OWN["mini"] | {"rescale_betas_zero_snr": kept_by_name}).items():
        assert changed.get(key) == value, key
    assert (changed["trained_betas"] is None) == kept_by_name


def test_what_the_own_scheduler_took_by_default_is_carried():
    """diffusers takes the new class's default for what was not written down: other betas, in this case."""
    plain = EulerDiscreteScheduler(prediction_type="epsilon")
    torch.testing.assert_close(rescheduled(plain, "HeunDiscreteScheduler").betas, plain.betas)
    assert rescheduled(plain, "DDIMScheduler").config["timestep_spacing"] == "linspace"


def test_a_model_that_clips_by_itself_keeps_that():
    clipping = DDIMScheduler(clip_sample=True, clip_sample_range=3.0)
    assert rescheduled(clipping, "DDPMScheduler").config["clip_sample"] is True


def test_there_and_back():
    """Betas in full, as a class without the setting has them, give the same noise in one that has it."""
    once = rescheduled(own("mini"), "KDPM2DiscreteScheduler")
    back = rescheduled(once, "EulerDiscreteScheduler")
    torch.testing.assert_close(back.alphas_cumprod, own("mini").alphas_cumprod, rtol=1e-3, atol=1e-9)


@pytest.mark.parametrize(
    ("scheduler", "message"),
    [
        (EDMEulerScheduler(), "DDIMScheduler cannot draw with this model: its noise is that of EDMEulerScheduler"),
        (FlowMatchEulerDiscreteScheduler(), "its noise is that of FlowMatchEulerDiscreteScheduler, which no betas"),
        (
            DPMSolverMultistepScheduler(use_flow_sigmas=True, prediction_type="flow_prediction"),
            "DPMSolverMultistepScheduler with use_flow_sigmas=True",
        ),
        (EulerDiscreteScheduler(timestep_type="continuous"), "timestep_type='continuous'"),
        (EulerDiscreteScheduler(prediction_type="sample"), None),
    ],
)
def test_noise_that_a_class_cannot_have_is_refused(scheduler, message):
    if message is None:  # DDIM can; PNDM cannot
        assert rescheduled(scheduler, "DDIMScheduler").config["prediction_type"] == "sample"
        with pytest.raises(ValueError, match="PNDMScheduler cannot draw with this model"):
            rescheduled(scheduler, "PNDMScheduler")
        return
    with pytest.raises(ValueError, match=message):
        rescheduled(scheduler, "DDIMScheduler")


def test_predicting():
    scheduler = own("sdxl")
    assert predicting(scheduler, None, None) is scheduler
    velocity = predicting(scheduler, "v_prediction", True)
    expected = own("mini", steps_offset=1)
    assert velocity.config == expected.config
    assert predicting(velocity, None, False).config["rescale_betas_zero_snr"] is False
    assert predicting(scheduler, "v_prediction", None).config["timestep_spacing"] == "leading"


@pytest.mark.parametrize(
    ("scheduler", "given", "message"),
    [
        (own("sdxl"), ("velocity", None), "must be one of epsilon, v_prediction; got 'velocity'"),
        (own("sdxl"), ("epsilon", True), "cannot predict noise"),
        (own("mini"), ("epsilon", None), "cannot predict noise"),
        (FlowMatchEulerDiscreteScheduler(), ("v_prediction", None), "has no setting prediction_type"),
    ],
)
def test_predictions_that_cannot_be(scheduler, given, message):
    with pytest.raises(ValueError, match=message):
        predicting(scheduler, *given)


# --- the embedded model ---


@pytest.fixture(scope="module")
def embedded() -> Any:
    pipe = AnyStoryPipeline.from_pretrained("mini")
    pipe.set_progress_bar_config(disable=True)
    return pipe


@pytest.fixture(scope="module")
def latents(embedded) -> Any:
    """The latents that a scheduler draws with guidance, which lays errors bare; the text is encoded once.

    At the model's own size: samplers part ways at half of it.
    """
    text, negative, pooled, negative_pooled = embedded.encode_prompt("a fox on a beach", device="cpu")

    def draw(scheduler: Any, steps: int) -> torch.Tensor:
        before, embedded.scheduler = embedded.scheduler, scheduler
        try:
            return embedded(
                prompt_embeds=text,
                pooled_prompt_embeds=pooled,
                negative_prompt_embeds=negative,
                negative_pooled_prompt_embeds=negative_pooled,
                num_inference_steps=steps,
                guidance_scale=4.0,
                generator=torch.Generator().manual_seed(0),
                output_type="latent",
            ).images
        finally:
            embedded.scheduler = before

    return draw


@pytest.fixture(scope="module")
def expected(latents, embedded) -> torch.Tensor:
    return latents(embedded.scheduler, 32)


@pytest.mark.filterwarnings("ignore:.* is far from the")
@pytest.mark.parametrize("name", scheduler_names())
def test_the_embedded_model(name, embedded, latents, expected):
    found = latents(another(embedded.scheduler, name), 16)
    spread = expected.std()
    if name in DRAWS_NOISE:  # another picture, of the same kind
        assert abs(found.std() / spread - 1) < 0.5
        assert found.abs().max() < 1.5 * expected.abs().max()
    else:
        assert (found - expected).square().mean().sqrt() / spread < 0.4
