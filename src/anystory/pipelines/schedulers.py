"""Replace a model's scheduler, or a setting of it, and keep the noise that the model was trained on.

diffusers' `from_config` silently drops settings that a class does not have, and fills in the class's defaults, some of
which are made for models of pixels.
"""

from __future__ import annotations

import copy
import inspect
from typing import Any

import diffusers
import torch

from anystory.pipelines.loading.predictions import PREDICTION_TYPES

__all__ = ["FOR_LATENTS", "ZERO_SNR_LEVEL", "predicting", "rescheduled", "scheduler_class"]

ZERO_SNR_LEVEL = 2.0**-24
"""ᾱ, the share of the picture, that diffusers leaves at the last noise level of a zero-terminal-SNR schedule: fp16's
smallest number, so that no noise level is infinite."""

FOR_LATENTS = {"clip_sample": False, "thresholding": False, "set_alpha_to_one": True, "skip_prk_steps": True}
"""Defaults for a model on latents. Latents are not pixels in [-1, 1], so they are not clipped; the last step ends
without noise, as Euler's does; PNDM skips its first steps, as for every model on latents."""

_OTHER_NOISE = {"use_flow_sigmas": True, "timestep_type": "continuous"}
"""Settings with which a schedule does not follow its betas."""

_ZERO_SNR = "rescale_betas_zero_snr"

_BY_CORRECTED_STEP = {"HeunDiscreteScheduler", "KDPM2AncestralDiscreteScheduler"}
"""Their second call of a step corrects the first; its error grows with the ratio of the step's noise levels, which is
some hundredfold from pure noise. At 25 steps with guidance the mini's days become nights. KDPM2 is not affected."""

_BY_WHOLE_TIMESTEP = {
    "DEISMultistepScheduler",
    "DPMSolverMultistepScheduler",
    "DPMSolverSinglestepScheduler",
    "KDPM2AncestralDiscreteScheduler",
    "KDPM2DiscreteScheduler",
    "UniPCMultistepScheduler",
}
"""They look up the noise level by its rounded time step. With a zero terminal signal Karras' first levels all round to
the last time step, and these classes fail or end in NaN."""


def rescheduled(scheduler: Any, name: str | None = None, karras: bool | None = None) -> Any:
    """Make another scheduler for the same model.

        pipe.scheduler = rescheduled(pipe.scheduler, "DDIMScheduler")

    Betas, prediction type and a zero terminal signal stay those of `scheduler`, even if the new class has no setting
    for them. So does the spacing of the steps, except for `DPMSolverSinglestepScheduler`, `LCMScheduler` and
    `TCDScheduler`, whose own spacing begins at the last noise level.

    Args:
        scheduler: the model's own.
        name: a class of diffusers; None for the same class.
        karras: whether to use Karras' noise levels; None keeps `scheduler`'s setting.

    Raises:
        ValueError: no such class, one that cannot have this model's noise, or has no Karras' noise levels.
    """
    kind = type(scheduler) if name is None else scheduler_class(name)
    changes: dict[str, Any] = {} if karras is None else {"use_karras_sigmas": karras}
    if not changes.keys() <= _settings(kind):
        raise ValueError(f"{kind.__name__} has no noise levels of Karras")
    if karras and kind.__name__ in _BY_WHOLE_TIMESTEP and _ends_without_signal(scheduler):
        raise ValueError(
            f"{kind.__name__} cannot have Karras' noise levels with this model, whose last level is pure noise: they"
            " lie closer together there than its time steps. EulerDiscreteScheduler and HeunDiscreteScheduler can"
        )
    if kind is type(scheduler):
        return kind.from_config(scheduler.config, **changes)
    _check_first_step(scheduler, kind, bool(karras or scheduler.config.get("use_karras_sigmas")))
    # Keep the own scheduler's defaults too; diffusers would take the new class's.
    config = FOR_LATENTS | {key: value for key, value in scheduler.config.items() if key != "_use_default_values"}
    _check_has_betas(scheduler, kind)
    if config.get(_ZERO_SNR) and _ZERO_SNR not in _settings(kind):
        config |= {"trained_betas": _zero_snr_betas(scheduler), _ZERO_SNR: False}  # rescaled once is enough
    try:
        changed = kind.from_config(config | changes)
        _try_a_step(changed)
    except (NotImplementedError, ValueError) as error:
        raise ValueError(f"{kind.__name__} cannot draw with this model: {error}") from None
    return changed


def scheduler_class(name: str) -> Any:
    """A scheduler of diffusers by name.

    Raises:
        ValueError: diffusers has none of this name.
    """
    kind = getattr(diffusers, name, None)
    # In the place of a class whose packages are missing diffusers has a stand-in that names them when it is used.
    if not (isinstance(kind, type) and (issubclass(kind, diffusers.SchedulerMixin) or hasattr(kind, "_backends"))):
        raise ValueError(f"diffusers has no scheduler {name!r}: name one such as EulerDiscreteScheduler")
    return kind


def predicting(scheduler: Any, prediction_type: str | None, zero_snr: bool | None) -> Any:
    """Set what the model predicts.

    Args:
        scheduler: the model's own.
        prediction_type: one of `predictions.PREDICTION_TYPES`; None leaves it.
        zero_snr: whether the last noise level has no signal. The steps then begin there ("trailing"). None leaves it.

    Raises:
        ValueError: another prediction type, a scheduler without these settings, or a zero terminal signal with a model
            that predicts noise: its input would be its answer.
    """
    if prediction_type is not None and prediction_type not in PREDICTION_TYPES:
        raise ValueError(f"the prediction type must be one of {', '.join(PREDICTION_TYPES)}; got {prediction_type!r}")
    changes: dict[str, Any] = {} if prediction_type is None else {"prediction_type": prediction_type}
    if zero_snr or (zero_snr is not None and _ZERO_SNR in _settings(type(scheduler))):
        changes[_ZERO_SNR] = zero_snr
    if zero_snr:
        changes["timestep_spacing"] = "trailing"
    if not changes:
        return scheduler
    kind = type(scheduler)
    if missing := sorted(changes.keys() - _settings(kind)):
        names = ", ".join(missing)
        raise ValueError(f"the model's {kind.__name__} has no setting {names}: its noise is of another kind")
    changed = kind.from_config(scheduler.config, **changes)
    if changed.config["prediction_type"] == "epsilon" and _ends_without_signal(changed):
        raise ValueError(
            "a model with a zero terminal signal cannot predict noise (epsilon), which is then its input: it must be"
            " v_prediction, or without that level (zero_snr=False, --no-zero-snr)"
        )
    return changed


def _settings(kind: Any) -> set[str]:
    """Names of all settings of a class."""
    return set(inspect.signature(kind.__init__).parameters)


def _check_first_step(scheduler: Any, kind: Any, karras: bool) -> None:
    name = kind.__name__
    if name not in _BY_CORRECTED_STEP or karras or not _ends_without_signal(scheduler):
        return
    with_karras = "" if name in _BY_WHOLE_TIMESTEP else ", or give it Karras' noise levels (karras=True, --karras)"
    raise ValueError(
        f"{name} cannot take the first step from pure noise, where this model's schedule begins: it would draw other"
        f" colours. Take KDPM2DiscreteScheduler or EulerAncestralDiscreteScheduler{with_karras}"
    )


def _check_has_betas(scheduler: Any, kind: Any) -> None:
    config = scheduler.config
    other = [f"{name}={value!r}" for name, value in _OTHER_NOISE.items() if config.get(name) == value]
    if getattr(scheduler, "betas", None) is None or other:
        raise ValueError(
            f"{kind.__name__} cannot draw with this model: its noise is that of {type(scheduler).__name__}"
            + (f" with {', '.join(other)}" if other else "")
            + ", which no betas describe. Leave the model its own scheduler"
        )


def _ends_without_signal(scheduler: Any) -> bool:
    kept = getattr(scheduler, "alphas_cumprod", None)
    return kept is not None and float(kept[-1]) <= 2 * ZERO_SNR_LEVEL


def _zero_snr_betas(scheduler: Any) -> list[float]:
    """The betas of a schedule with a zero terminal signal, so that every class ends at `ZERO_SNR_LEVEL`."""
    # `betas` are those that are rescaled already; in double precision, since the last ᾱ are tiny.
    kept = torch.cumprod(1 - scheduler.betas.double(), 0)
    before = kept[-2].item() if len(kept) > 1 else 1.0
    return [*scheduler.betas[:-1].tolist(), 1 - ZERO_SNR_LEVEL / before]


def _try_a_step(scheduler: Any) -> None:
    """Take one step: classes refuse a prediction type only then.

    Raises:
        NotImplementedError, ValueError: as the class says it.
    """
    trial, zeros = copy.deepcopy(scheduler), torch.zeros(1, 1, 2, 2)
    trial.set_timesteps(4)
    draws = {"generator": torch.Generator()} if "generator" in inspect.signature(trial.step).parameters else {}
    trial.step(zeros, trial.timesteps[0], zeros, **draws)
