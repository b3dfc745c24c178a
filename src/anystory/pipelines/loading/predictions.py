"""What a single file's model predicts, noise or velocity: files say it by marker keys, or in their metadata.

Fine-tunes of SDXL that predict the velocity have the same layers and names as those that predict the noise. A file that
says nothing predicts what its configuration says, for SDXL the noise.
"""

from __future__ import annotations

import os
from typing import NamedTuple

from safetensors import SafetensorError, safe_open

__all__ = ["PREDICTION_TYPES", "Prediction", "prediction_of_file"]

PREDICTION_TYPES = ("epsilon", "v_prediction")
"""What the models of SDXL's kind predict: the noise, or the velocity."""

_METADATA = "modelspec.prediction_type"
"""Of Stability's ModelSpec, which trainers write."""

_SPELLINGS = {
    "epsilon": "epsilon",
    "eps": "epsilon",
    "v": "v_prediction",
    "v_pred": "v_prediction",
    "v-prediction": "v_prediction",
    "v_prediction": "v_prediction",
}

_EDM_KEYS = ("edm_mean", "edm_std", "edm_vpred.sigma_max", "edm_vpred.sigma_min")
"""Of models with the noise levels of Karras et al. (2022): Playground 2.5, CosXL."""


class Prediction(NamedTuple):
    """What a model predicts; None where the file says nothing."""

    prediction_type: str | None = None
    """One of `PREDICTION_TYPES`."""
    zero_snr: bool | None = None
    """Whether the last noise level has no signal."""


def prediction_of_file(path: str | os.PathLike[str], known: str | None = None) -> Prediction:
    """Read it off a file's header: keys `v_pred` and `ztsnr`, or `modelspec.prediction_type` in the metadata.

    Args:
        path: the file.
        known: the caller's own word on the prediction; the file's is then ignored.

    Raises:
        ValueError: a prediction, or noise levels, that no pipeline here supports.
    """
    try:
        with safe_open(path, framework="numpy") as file:
            keys, metadata = set(file.keys()), file.metadata() or {}
    except SafetensorError as error:
        raise ValueError(f"{path} cannot be read as safetensors ({error}): download or copy it again") from None
    if edm := sorted(keys.intersection(_EDM_KEYS)):
        raise ValueError(
            f"{path} was trained with other noise levels than SDXL (it has {', '.join(edm)}: EDM, as Playground 2.5 and"
            " CosXL), and would be drawn wrong. Take a fine-tune of SDXL that predicts epsilon or v_prediction"
        )
    zero_snr = True if "ztsnr" in keys else None
    if "v_pred" in keys:
        return Prediction("v_prediction", zero_snr)
    said = metadata.get(_METADATA)
    if known is not None or said is None:
        return Prediction(known, zero_snr)
    if (predicted := _SPELLINGS.get(said.strip().lower())) is None:
        raise ValueError(
            f"{path} says in its metadata that it predicts {said!r} ({_METADATA}): expected epsilon or v. If that is"
            " wrong, name what it predicts: prediction_type=… or --prediction-type"
        )
    # A model that predicts noise needs some signal at every level, whatever a configuration for the other kind says.
    return Prediction(predicted, False if predicted == "epsilon" else zero_snr)
