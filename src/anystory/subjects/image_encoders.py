"""Pictures as vectors: CLIP, and DINO and DINOv2 by the protocol of DreamBooth.

Features are unit vectors, so that a product of two is their cosine.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from PIL import Image

from anystory.subjects.image_models import load_model, model_type

__all__ = ["ClipEncoder", "DinoEncoder", "PictureEncoder", "cropped_pixels"]

_BATCH = 32
_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Of ImageNet's pixels in [0, 1]."""
_DINO_TYPES = ("vit", "dinov2", "dinov2_with_registers")


class PictureEncoder(Protocol):
    """Describes pictures by features."""

    def pictures(self, pictures: Sequence[Image.Image]) -> np.ndarray:
        """Features of n RGB pictures, (n, d) float64, unit vectors."""
        ...


class ClipEncoder:
    """CLIP: pictures and texts in one space.

    Args:
        model: Folder or hub id of a CLIP model, or of its vision part, which then has no texts.
        processor: The same for its image processor, if that lies elsewhere.
        text, tokenizer: The same for the text part and its tokenizer, if they lie elsewhere.
        otherwise: What to do without it, for messages.

    Raises:
        ValueError: the encoder cannot be loaded.
    """

    def __init__(
        self,
        model: str | Path,
        processor: str | Path | None = None,
        *,
        text: str | Path | None = None,
        tokenizer: str | Path | None = None,
        otherwise: str = "name another CLIP model",
    ) -> None:
        self.model = str(model)
        self._otherwise, self._text_from, self._tokenizer_from = otherwise, str(text or model), tokenizer
        self._vision = load_model(
            "CLIP", model, "CLIPImageProcessor", "CLIPVisionModelWithProjection", otherwise, processor=processor
        )
        self._text: Any = None

    def pictures(self, pictures: Sequence[Image.Image]) -> np.ndarray:
        """See `PictureEncoder.pictures`: the projected embeddings, with the model's own preprocessing."""

        def encode(batch: Sequence[Image.Image]) -> Any:
            pixels = self._vision.processor(images=[one.convert("RGB") for one in batch], return_tensors="pt")
            pixels = pixels.pixel_values.to(self._vision.device, self._vision.net.dtype)
            return self._vision.net(pixels).image_embeds

        return _units(pictures, encode)

    def texts(self, texts: Sequence[str]) -> np.ndarray:
        """Features of n texts, (n, d) float64, unit vectors; a text is cut off at the model's length, 77 tokens.

        Raises:
            ValueError: the model has no text part.
        """
        if self._text is None:
            self._text = load_model(
                "CLIP",
                self._text_from,
                "AutoTokenizer",
                "CLIPTextModelWithProjection",
                self._otherwise,
                processor=self._tokenizer_from,
            )

        def encode(batch: Sequence[str]) -> Any:
            longest = self._text.net.config.max_position_embeddings
            tokens = self._text.processor(
                list(batch), padding=True, truncation=True, max_length=longest, return_tensors="pt"
            ).to(self._text.device)
            return self._text.net(input_ids=tokens.input_ids, attention_mask=tokens.attention_mask).text_embeds

        return _units(texts, encode)


class DinoEncoder:
    """The class token of a self-supervised vision transformer: DINO ViT-S/16 and the like, or DINOv2.

    DreamBooth's protocol (Ruiz et al., CVPR 2023, section 4.1; the transform is that of DINO's evaluation code): the
    shorter side to 256 pixels, bicubic; the middle 224 × 224; normalised as ImageNet; the last layer's class token
    after the final layer norm. DINOv2 takes the same.

    Args:
        model: Folder or hub id: `facebook/dino-vits16`, `facebook/dinov2-base` …
        otherwise: What to do without it, for messages.

    Raises:
        ValueError: the encoder cannot be loaded, or is of another kind.
    """

    def __init__(self, model: str | Path, *, otherwise: str = "name another DINO model") -> None:
        self.model = str(model)
        kind = model_type("DINO", model, otherwise)
        if kind not in _DINO_TYPES:
            raise ValueError(
                f"{model} is a model of type {kind}, expected one of {', '.join(_DINO_TYPES)}: {otherwise}"
            )
        # The published weights of DINO have no pooler, and the class token needs none.
        options: dict[str, Any] = {"add_pooling_layer": False} if kind == "vit" else {}
        self._loaded = load_model("DINO", model, None, "AutoModel", otherwise, **options)
        takes = inspect.signature(self._loaded.net.forward).parameters
        self._call = {"interpolate_pos_encoding": True} if "interpolate_pos_encoding" in takes else {}

    def pictures(self, pictures: Sequence[Image.Image]) -> np.ndarray:
        """See `PictureEncoder.pictures`."""
        import torch

        def encode(batch: Sequence[Image.Image]) -> Any:
            pixels = torch.from_numpy(np.stack([cropped_pixels(picture) for picture in batch]))
            pixels = pixels.to(self._loaded.device, self._loaded.net.dtype)
            return self._loaded.net(pixels, **self._call).last_hidden_state[:, 0]

        return _units(pictures, encode)


def cropped_pixels(picture: Image.Image, resize: int = 256, crop: int = 224) -> np.ndarray:
    """The middle of a picture, normalised as ImageNet's are, (3, crop, crop) float32.

    Args:
        picture: Of any size.
        resize: To what its shorter side is scaled first, bicubic.
        crop: Side of what is cut out of that.
    """
    rgb = picture.convert("RGB")
    short = min(rgb.size)
    width, height = (int(resize * side / short) for side in rgb.size)
    rgb = rgb.resize((width, height), Image.Resampling.BICUBIC)
    left, top = round((width - crop) / 2), round((height - crop) / 2)
    pixels = np.asarray(rgb.crop((left, top, left + crop, top + crop)), np.float32) / 255
    mean, std = np.asarray(_MEAN, np.float32), np.asarray(_STD, np.float32)
    return ((pixels - mean) / std).transpose(2, 0, 1)


def _units(things: Sequence[Any], encode: Any) -> np.ndarray:
    """Unit vectors (n, d) of all things, a batch at a time."""
    import torch

    with torch.inference_mode():
        batches = (things[start : start + _BATCH] for start in range(0, len(things), _BATCH))
        found = [encode(batch).double().cpu().numpy() for batch in batches]
    features = np.concatenate(found) if found else np.zeros((0, 1))
    return features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-12)
