"""Checks of what a caller passes: every message names the argument, its value and the rule."""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeAlias, TypeVar, cast

import numpy as np
import torch
from diffusers.image_processor import VaeImageProcessor
from PIL import Image
from typing_extensions import Self

from anystory.subjects import Subject
from anystory.subjects.arrays import plain_number

__all__ = [
    "EncodedSubject",
    "Subjects",
    "check_image_prompts",
    "check_numbers",
    "check_pictures",
    "check_record",
    "check_size",
    "given_picture_size",
    "name_of",
    "subject_rows",
]


# What a Subject says about its picture; all else may change after it is encoded.
_PICTURE = ("image", "mask", "segmenter")


class EncodedSubject:
    """A subject that a pipeline has encoded ahead; each family of models has its own subclass, a frozen dataclass."""

    subject: Subject

    def replace(self, **changes: Any) -> Self:
        """The same encoding with other settings of the subject, e.g. `replace(scale=0.6, region=box)`.

        Raises:
            ValueError: a setting outside its range, or one of `image`, `mask` and `segmenter`, on which
                the encoding depends.
        """
        if fixed := [name for name in changes if name in _PICTURE]:
            raise ValueError(f"{fixed} cannot change in an encoding: encode a new Subject")
        return replace(cast("Any", self), subject=replace(self.subject, **changes))


Subjects: TypeAlias = Sequence[Subject | EncodedSubject] | Sequence[Sequence[Subject | EncodedSubject]]
Encoded = TypeVar("Encoded", bound=EncodedSubject)


def name_of(subject: Subject, index: int) -> str:
    """What outputs call a subject; its place among the others, from 0, where it has no name."""
    return subject.name or f"subject {index + 1}"


def subject_rows(subjects: Any, encoding: type[Encoded], prompts: int | None) -> list[list[Subject | Encoded]]:
    """The subjects of each prompt: one row that all prompts share, or one row per prompt; [] for no subjects.

    Args:
        subjects: What the caller passed.
        encoding: What the pipeline encodes a subject to.
        prompts: Number of prompts; None allows any number of rows.

    Raises:
        ValueError: not a list, something in it that is neither a Subject nor an `encoding`, a list of lists of the
            wrong length, or prompts with and without subjects in one call.
    """
    if subjects is None:
        return []
    if not _is_list(subjects):
        raise ValueError(f"`subjects` must be a list of Subject, or one per prompt, got {_kind(subjects)}")
    nested = [_is_list(entry) for entry in subjects]
    if any(nested) and not all(nested):
        raise ValueError("`subjects` must be a list of Subject or a list of such lists, got a mixture of both")
    rows = [list(row) for row in subjects] if any(nested) else [list(subjects)]
    if any(nested) and prompts is not None and len(rows) != prompts:
        raise ValueError(f"`subjects` must hold a list per prompt: got {len(rows)} for {prompts} prompts")
    for entry in (entry for row in rows for entry in row):
        if not isinstance(entry, (Subject, encoding)):
            raise ValueError(f"`subjects` must hold Subject or encoded subjects, got {_kind(entry)}")
    if not any(rows):
        return []
    if empty := [i for i, row in enumerate(rows) if not row]:
        # The router would give all of such a picture to the background, which is not the stock picture; and
        # a prompt's picture must not depend on its neighbours in the list.
        raise ValueError(f"`subjects` is empty for the prompts {empty}: draw those in a call of their own")
    return rows


def check_numbers(values: Mapping[str, Any]) -> None:
    """Check the numbers of a call that diffusers itself does not look at, or only after the references are encoded.

    Raises:
        ValueError: a guidance that is no finite number, a count that is no positive integer, or a strength outside
            0…1 or that leaves no step.
    """
    for name in ("guidance_scale", "guidance_rescale"):
        value = values.get(name)
        if value is not None and not (_is_number(value) and math.isfinite(value)):
            raise ValueError(f"`{name}` must be a finite number, got {value!r}")
    for name in ("num_inference_steps", "num_images_per_prompt", "height", "width"):
        value = values.get(name)
        if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value < 1):
            raise ValueError(f"`{name}` must be a positive integer, got {value!r}")
    strength = values.get("strength")
    if strength is not None and not (_is_number(strength) and 0 <= strength <= 1):
        raise ValueError(f"`strength` must be a number from 0 to 1, got {strength!r}")
    own_steps = any(values.get(name) is not None for name in ("timesteps", "sigmas", "denoising_start"))
    if strength is not None and not own_steps and int(values["num_inference_steps"] * strength) < 1:
        raise ValueError(
            f"`strength` {strength} leaves none of {values['num_inference_steps']} steps: raise one of the two"
        )


def check_pictures(values: Mapping[str, Any]) -> None:
    """Check that the pictures a pipeline starts from are there.

    Raises:
        ValueError: one of them is None.
    """
    for name in ("image", "mask_image", "control_image"):
        if name in values and values[name] is None:
            raise ValueError(f"`{name}` must be a picture, got None")


def check_image_prompts(unet: Any, values: Mapping[str, Any]) -> None:
    """Check that a call has the picture that a loaded IP-Adapter needs, before anything runs.

    Args:
        unet: the pipeline's.
        values: the call's arguments.

    Raises:
        ValueError: an IP-Adapter without its picture.
    """
    loaded = unet.config.encoder_hid_dim_type == "ip_image_proj"
    if loaded and all(values.get(name) is None for name in ("ip_adapter_image", "ip_adapter_image_embeds")):
        raise ValueError(
            "an IP-Adapter is loaded, so `ip_adapter_image` must be a picture; to draw without it, call"
            " unload_ip_adapter() first"
        )


def check_size(height: int | None, width: int | None, multiple: int) -> None:
    """Check a size that was asked for (None: none was), before time goes into the references.

    Raises:
        ValueError: a side that is not a multiple of `multiple` pixels.
    """
    for name, value in (("height", height), ("width", width)):
        if value is not None and value % multiple:
            lower = max(value // multiple, 1) * multiple
            near = f"{lower} or {lower + multiple}"
            raise ValueError(f"`{name}` must be a multiple of {multiple}, got {value}: {near} would do")


def given_picture_size(
    name: str, image: Any, processor: VaeImageProcessor, sizes: Mapping[str, Any] | None = None
) -> tuple[int, int]:
    """The size of the picture that diffusers draws from a given one.

    Args:
        name: The argument, for messages.
        image: A picture or list of pictures of any kind that `processor` takes.
        processor: The pipeline's own.
        sizes: The call's `height` and `width`, where it takes them.

    Returns:
        (H, W) in pixels: the given size, or the first picture's, rounded down to what the VAE needs.

    Raises:
        ValueError: none of these kinds, or a side that rounds down to nothing.
    """
    first = image
    while isinstance(first, (list, tuple)) and first:
        first = first[0]  # of a batch, or of the pictures of several ControlNets
    if not isinstance(first, (Image.Image, np.ndarray, torch.Tensor)):
        raise ValueError(f"`{name}` must be a PIL image, an array or a tensor, or a list of them, got {_kind(image)}")
    sizes = sizes or {}
    try:
        shape = processor.preprocess(first, height=sizes.get("height"), width=sizes.get("width")).shape
    except (ValueError, RuntimeError, IndexError) as error:
        raise ValueError(f"`{name}` cannot be used as a picture: {error}") from None
    factor = processor.config.vae_scale_factor if shape[1] == processor.config.vae_latent_channels else 1
    return shape[-2] * factor, shape[-1] * factor


def check_record(value: Any) -> range | frozenset[int]:
    """The steps to record: all (True), none (False), or those of the given indices.

    Raises:
        ValueError: not a bool nor a list of step indices ≥ 0.
    """
    value = plain_number(value)
    if isinstance(value, bool):
        return range(sys.maxsize) if value else frozenset()
    steps: list[Any] = [plain_number(step) for step in value] if _is_list(value) or _is_vector(value) else [None]
    if all(isinstance(step, int) and step >= 0 for step in steps):
        return frozenset(steps)
    raise ValueError(f"`record_routing` must be True, False or a list of step indices ≥ 0, got {value!r}")


def _is_list(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, (str, bytes))


def _is_vector(value: Any) -> bool:
    return isinstance(value, (np.ndarray, torch.Tensor)) and value.ndim == 1


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _kind(value: Any) -> str:
    return f"{type(value).__name__} {repr(value)[:60]}"
