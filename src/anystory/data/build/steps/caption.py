"""Step `caption`: what a photo shows in words."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import PurePosixPath
from typing import ClassVar

import numpy as np
from pydantic import Field

from anystory.data.build.candidates import Candidate, Photo, Rejected
from anystory.data.build.sources.base import BuildOptions
from anystory.subjects.image_models import load_model

__all__ = ["Caption", "CaptionOptions", "caption_from_name"]

_CAMERA = frozenset(("img", "dsc", "dscn", "dscf", "pxl", "mvi", "vid", "photo", "image", "picture", "frame", "scene"))


class CaptionOptions(BuildOptions):
    """Where captions come from. A text file or table of the source always goes first."""

    model: str | None = None
    """Hub id or folder of a transformers image-to-text model (BLIP, GIT, or a chat model); None: the file's name, or
    the subjects' names where it has no words."""
    prompt: str = "Describe the picture in one sentence."
    """For chat models."""
    most_tokens: int = Field(default=60, ge=1, le=1000)
    """Most tokens that the model writes."""
    template: str = "{caption}"
    """For example "a photo of {caption}"; captions from text files do not get it."""


class Caption:
    """Gives a caption to photos without one. After `pair` these are the targets, the only photos that need one."""

    name: ClassVar[str] = "caption"
    version: ClassVar[int] = 1
    Options: ClassVar[type[BuildOptions]] = CaptionOptions

    def __init__(self, options: CaptionOptions) -> None:
        if "{caption}" not in options.template:
            raise ValueError(f'caption: the template must hold "{{caption}}", got {options.template!r}')
        self.options = options
        self._model = _Captioner(options.model, options) if options.model else None

    def __call__(self, candidate: Candidate) -> list[Candidate] | Rejected:
        photos = tuple(photo if photo.caption else self._captioned(photo) for photo in candidate.photos)
        return [replace(candidate, photos=photos)]

    def _captioned(self, photo: Photo) -> Photo:
        found = self._model(photo.rgb) if self._model else caption_from_name(photo)
        return replace(photo, caption=self.options.template.replace("{caption}", found)) if found else photo


def caption_from_name(photo: Photo) -> str:
    """The words of the file's name, or of a camera's name (`IMG_2034`) the subjects' names."""
    stem = PurePosixPath(photo.name.partition("@")[0]).stem
    words = [word for word in re.split(r"[\W_\d]+", stem) if word]
    if all(len(word) < 2 or word.lower() in _CAMERA for word in words):
        names = [" ".join(re.split(r"[\W_]+", instance.name)).strip() for instance in photo.instances]
        words = [" and ".join(name for name in names if not name.isdigit())]
    return " ".join(words)


class _Captioner:
    """An image-to-text model, without sampling: the same words for the same picture."""

    def __init__(self, model: str, options: CaptionOptions) -> None:
        self.options = options
        self._model = load_model(
            "caption", model, "AutoProcessor", "AutoModelForImageTextToText", "leave it out to use files' names"
        )

    def __call__(self, rgb: np.ndarray) -> str:
        import torch
        from PIL import Image

        image = Image.fromarray(rgb)
        processor, net, device = self._model
        if getattr(processor, "chat_template", None):
            content = [{"type": "image", "image": image}, {"type": "text", "text": self.options.prompt}]
            inputs = processor.apply_chat_template(
                [{"role": "user", "content": content}],
                add_generation_prompt=True,
                tokenize=True,
                return_dict=True,
                return_tensors="pt",
            )
            asked = inputs["input_ids"].shape[1]
        else:
            inputs, asked = processor(images=image, return_tensors="pt"), 0
        with torch.inference_mode():
            tokens = net.generate(**inputs.to(device), do_sample=False, max_new_tokens=self.options.most_tokens)
        return " ".join(processor.batch_decode(tokens[:, asked:], skip_special_tokens=True)[0].split())
