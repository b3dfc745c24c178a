"""The nodes that draw, one for each family of models: what they ask for differs, what they do is the same."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from anystory.engine.job import ISOLATIONS, ROUTINGS, TEXT_GATES, Job
from anystory.engine.limits import MOST_SEED, MOST_STEPS, check_seeds

from .files import as_file
from .host import StepBar, wants_previews
from .sentences import in_a_sentence
from .tensors import image_batch, mask_batch, mask_pictures, one_picture
from .wires import CATEGORY, MODEL, PICTURES, SUBJECTS, DrawnPictures, GivenSubject, LoadedModel

if TYPE_CHECKING:
    from torch import Tensor

    from anystory.engine.backends.base import DrawnPicture

__all__ = ["AnyStorySampler", "AnyStorySamplerFlux", "AnyStorySamplerKlein"]

_LOG = logging.getLogger("anystory")

_OWN = -1
"""Of a number where 0 is one, too: the model's own, or none."""

_UNSAID = {
    **dict.fromkeys(("guidance", "strength", "background_seed"), _OWN),
    "true_cfg": 1,
    "isolation": "on",
    "text_gate": "none",
    "routing": "none",
}
"""{input: the value that a job does not name, since it is what the model does by itself}."""

_SIDE = {"default": 0, "min": 0, "max": 8192, "step": 8}
_NUMBERS: dict[str, Any] = {
    "steps": ("INT", {"default": 0, "min": 0, "max": MOST_STEPS, "tooltip": "0: the model's own"}),
    "guidance": ("FLOAT", {"default": -1.0, "min": -1.0, "max": 100.0, "step": 0.1, "tooltip": "-1: the model's own"}),
    "width": ("INT", _SIDE | {"tooltip": "Pixels; 0: the model's own, or those of the image"}),
    "height": ("INT", _SIDE | {"tooltip": "Pixels; 0: the model's own, or those of the image"}),
}
_NEGATIVE = {"negative_prompt": ("STRING", {"default": "", "multiline": True, "tooltip": "What not to draw"})}
_OVER: dict[str, Any] = {
    "image": ("IMAGE", {"tooltip": "A picture to draw over; unconnected, it begins with noise"}),
    "mask": ("MASK", {"tooltip": "White where the image is drawn anew; unconnected, all of it"}),
    "strength": (
        "FLOAT",
        {"default": -1.0, "min": -1.0, "max": 1.0, "step": 0.05, "tooltip": "How much of it changes; -1: as usual"},
    ),
}


class AnyStorySampler:
    """Draws with SDXL's models and the embedded mini; see `anystory.engine.drawing.draw`."""

    FAMILY: ClassVar[str] = "sdxl"
    OPTIONAL: ClassVar[dict[str, Any]] = {
        **_NEGATIVE,
        **_NUMBERS,
        "background_seed": (
            "INT",
            {"default": _OWN, "min": _OWN, "max": MOST_SEED, "tooltip": "Pictures with the same one share a place"},
        ),
        **_OVER,
    }
    DESCRIPTION = "Draws your subjects from a prompt; a picture for each seed, from `seed` on."
    CATEGORY = CATEGORY
    FUNCTION = "sample"
    RETURN_TYPES = ("IMAGE", "MASK", PICTURES)
    RETURN_NAMES = ("images", "masks", "pictures")
    OUTPUT_TOOLTIPS = (
        "The pictures",
        "Whose pixels are whose, by the router: a mask for each subject of the first picture, then of the next",
        "All that a record, a routing map or a sheet needs",
    )

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        """ComfyUI's description of the inputs."""
        return {
            "required": {
                "model": (MODEL,),
                "prompt": ("STRING", {"default": "", "multiline": True, "dynamicPrompts": True}),
                "seed": ("INT", {"default": 0, "min": 0, "max": MOST_SEED, "control_after_generate": True}),
                "batch_size": ("INT", {"default": 1, "min": 1, "max": 64, "tooltip": "Pictures, one after another"}),
            },
            "optional": {
                "subjects": (SUBJECTS, {"tooltip": "Unconnected, the base model draws by itself"}),
                **cls.OPTIONAL,
            },
        }

    @in_a_sentence
    def sample(
        self,
        model: LoadedModel,
        prompt: str,
        seed: int,
        batch_size: int = 1,
        subjects: tuple[GivenSubject, ...] = (),
        **given: Any,
    ) -> tuple[Tensor, Tensor, DrawnPictures]:
        """The pictures, their routing masks, and all that belongs to them."""
        from anystory.engine.drawing import draw

        self._check_family(model)
        check_seeds(seed, batch_size)
        job = Job(prompt=prompt, subjects=tuple(one.files for one in subjects), **_of_the_job(given))
        model.backend.check_job(job)
        for word, nearest in model.model.unknown_words(f"{prompt} {job.negative_prompt or ''}"):
            _LOG.warning("the model does not know %r%s", word, f": try {', '.join(nearest)}" if nearest else "")
        drawn = tuple(
            draw(
                model.model,
                job,
                range(seed, seed + batch_size),
                on_step=StepBar(),
                previews=1 if wants_previews() else 0,
                subjects=[one.read for one in subjects],
            )
        )
        masks = np.concatenate([_owned(one) for one in drawn])
        return (
            image_batch([one.image for one in drawn]),
            mask_batch(masks),
            DrawnPictures(model=model.model, job=job, pictures=drawn),
        )

    def _check_family(self, model: LoadedModel) -> None:
        if model.backend.name != self.FAMILY:
            names = {"sdxl": "AnyStory Sampler (SDXL)", "flux": "AnyStory Sampler (FLUX.1)"}
            wanted = names.get(model.backend.name, "AnyStory Sampler (FLUX.2 klein)")
            raise ValueError(f"model is {model.backend.title}, which the node {wanted!r} draws with: take that one")


class AnyStorySamplerFlux(AnyStorySampler):
    """Draws with FLUX.1."""

    FAMILY = "flux"
    OPTIONAL: ClassVar[dict[str, Any]] = {
        **_NUMBERS,
        "true_cfg": (
            "FLOAT",
            {
                "default": 1.0,
                "min": 1.0,
                "max": 100.0,
                "step": 0.1,
                "tooltip": "Weighs the negative prompt; 1: none",
            },
        ),
        **_NEGATIVE,
    }


class AnyStorySamplerKlein(AnyStorySampler):
    """Draws with FLUX.2 klein."""

    FAMILY = "klein"
    OPTIONAL: ClassVar[dict[str, Any]] = {
        **_NUMBERS,
        "isolation": (["on", *(one for one in ISOLATIONS if one != "on")], {"default": "on"}),
        "text_gate": (list(TEXT_GATES), {"default": TEXT_GATES[0]}),
        "routing": (
            list(ROUTINGS),
            {"default": ROUTINGS[0], "tooltip": "attention: they find their places (experimental)"},
        ),
        **_OVER,
    }


def _of_the_job(given: dict[str, Any]) -> dict[str, Any]:
    """What the optional inputs say in a `Job`; what they leave to the model is None there."""
    found: dict[str, Any] = {name: value for name, value in given.items() if name not in ("image", "mask")}
    found |= {name: value or None for name, value in given.items() if name in ("steps", "width", "height")}
    for name, own in _UNSAID.items():
        if found.get(name) == own:
            found[name] = None
    found["negative_prompt"] = found.get("negative_prompt") or None
    if given.get("image") is not None:
        found["image"] = as_file(one_picture(given["image"], "image"), "image")
    if given.get("mask") is not None:
        masks = mask_pictures(given["mask"], "mask")
        if len(masks) > 1:
            raise ValueError(f"mask must be one mask, got a batch of {len(masks)}")
        found["mask"] = as_file(masks[0], "mask")
    return found


def _owned(picture: DrawnPicture) -> np.ndarray:
    """(N, H, W): whose pixels are whose; one empty mask for a picture without maps."""
    if picture.routing is None:
        return np.zeros((1, picture.image.height, picture.image.width), np.float32)
    return picture.routing.masks()
