"""What a service may do to a picture before it hands it out: diffusers' safety checker, an invisible watermark.

Both are off unless asked for. Neither ships with this package: the checker's weights are named by their folder or hub
id, the watermark needs the package `invisible-watermark`.
"""

from __future__ import annotations

from dataclasses import replace
from importlib.util import find_spec
from typing import Any

from anystory.engine.backends.base import DrawnPicture
from anystory.engine.errors import OptionError

__all__ = ["SMALLEST_MARKED", "Screening", "UnsafePicture", "check_watermark"]

SMALLEST_MARKED = 256
"""Pixels of a picture's shorter side: the watermark does not fit into less."""


class UnsafePicture(ValueError):
    """The safety checker has found what should not be shown."""


def check_watermark() -> None:
    """Raise OptionError if the watermark cannot be written here."""
    if find_spec("imwatermark") is None:
        raise OptionError(
            "watermark", "needs invisible-watermark, which is not installed: pip install invisible-watermark"
        )


class Screening:
    """Looks at pictures and marks them.

    Args:
        safety_checker: Folder or hub id of weights for diffusers' `StableDiffusionSafetyChecker`, with their
            feature extractor; None for no check.
        watermark: Whether to write Stable Diffusion XL's invisible watermark.
        device: Where the checker runs.

    Raises:
        OptionError: the watermark's package is missing.
        ValueError, OSError: weights that cannot be loaded, or are not those of a safety checker.
    """

    def __init__(self, safety_checker: str | None = None, *, watermark: bool = False, device: str = "cpu") -> None:
        self._device = device
        self._checker: Any = None
        self._extractor: Any = None
        self._watermark: Any = None
        if safety_checker is not None:
            self._checker, self._extractor = _load(safety_checker, device)
        if watermark:
            check_watermark()
            from diffusers.pipelines.stable_diffusion_xl.watermark import StableDiffusionXLWatermarker

            self._watermark = StableDiffusionXLWatermarker()

    @property
    def checks(self) -> bool:
        """Whether pictures may be withheld; then nothing of them may be shown before, previews included."""
        return self._checker is not None

    def __call__(self, picture: DrawnPicture) -> DrawnPicture:
        """The picture, marked.

        Raises:
            UnsafePicture: it should not be shown.
            ValueError: it is too small for the watermark.
        """
        if self._checker is not None:
            self._check(picture)
        return picture if self._watermark is None else self._marked(picture)

    def _check(self, picture: DrawnPicture) -> None:
        import numpy as np

        pixels = self._extractor(picture.image, return_tensors="pt").pixel_values.to(self._device)
        image = np.asarray(picture.image, np.float32)[None] / 255
        _, unsafe = self._checker(images=image, clip_input=pixels)
        if any(unsafe):
            raise UnsafePicture("the safety checker withholds this picture: change the prompt, or take another seed")

    def _marked(self, picture: DrawnPicture) -> DrawnPicture:
        import numpy as np
        import torch
        from PIL import Image

        if min(picture.image.size) < SMALLEST_MARKED:
            size = f"{picture.image.width}×{picture.image.height}"
            raise ValueError(
                f"size: the watermark needs {SMALLEST_MARKED} pixels on each side, got {size}: draw it larger"
            )
        pixels = torch.from_numpy(np.asarray(picture.image.convert("RGB"), np.float32) / 127.5 - 1)
        marked = self._watermark.apply_watermark(pixels.permute(2, 0, 1)[None])[0]
        array = ((marked.permute(1, 2, 0) + 1) * 127.5).round().clamp(0, 255).to(torch.uint8).numpy()
        return replace(picture, image=Image.fromarray(array))


def _load(name: str, device: str) -> tuple[Any, Any]:
    from diffusers.pipelines.stable_diffusion.safety_checker import StableDiffusionSafetyChecker
    from transformers import CLIPImageProcessor

    from anystory.input_files import damaged_files_named

    with damaged_files_named(name):
        loaded: Any = StableDiffusionSafetyChecker.from_pretrained(name, use_safetensors=True, output_loading_info=True)
        checker, found = loaded
        if missing := sorted(found["missing_keys"]):  # they would be random, and the checker would pass everything
            said = f"{name} holds no safety checker: it lacks {missing[0]} and {len(missing) - 1} more weights"
            raise ValueError(f"{said}; name the weights of a StableDiffusionSafetyChecker")
        return checker.to(device), CLIPImageProcessor.from_pretrained(name)
