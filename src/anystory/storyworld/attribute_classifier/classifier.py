"""Reading pictures with a trained attribute classifier."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from anystory.files import atomic_folder, recover_folder
from anystory.input_files import check_model_files, read_text
from anystory.storyworld.attribute_classifier.attributes import blank_colours
from anystory.storyworld.attribute_classifier.config import ClassifierConfig
from anystory.storyworld.attribute_classifier.crops import crops_of, squares_around
from anystory.storyworld.attribute_classifier.networks import CharacterNet, SceneNet
from anystory.version import ASSETS

SHIPPED = ASSETS / "judge"
_BATCH = 64


@dataclass(frozen=True, kw_only=True, eq=False)
class CharacterReading:
    """One character, as the classifier sees it."""

    mask: np.ndarray
    """(H, W) bool."""
    attributes: dict[str, str]
    """Attribute -> value; empty for the colour of something read as not worn."""
    confidence: dict[str, float]
    """Attribute -> probability, 0 to 1, of the reading (of the colour, were something worn)."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Reading:
    """One picture, as the classifier sees it."""

    place: str
    light: str
    characters: list[CharacterReading]
    """From left to right."""


class AttributeClassifier:
    """Reads who and what is in pictures of the world.

    Args:
        config: vocabulary and sizes.
        scene, character: the networks, in evaluation mode when pictures are read; None: fresh ones.
    """

    def __init__(self, config: ClassifierConfig, scene: SceneNet | None = None, character: CharacterNet | None = None):
        self.config = config
        self.scene = scene or SceneNet(config).eval()
        self.character = character or CharacterNet(config).eval()

    @classmethod
    def fresh(cls, config: ClassifierConfig, seed: int) -> AttributeClassifier:
        """One whose weights are drawn from `seed`; torch's own random state stays as it is."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return cls(config)

    @property
    def attributes(self) -> dict[str, tuple[str, ...]]:
        """Attribute of a character -> the values it can be read as (colours besides: empty, if nothing is worn)."""
        return self.config.attributes

    @classmethod
    def load(cls, path: str | os.PathLike[str] | None = None) -> AttributeClassifier:
        """Read an attribute classifier's folder; None: the one that ships with the package.

        Raises:
            ValueError: not the folder of an attribute classifier, or one that is damaged.
        """
        folder = SHIPPED if path is None else Path(path)
        recover_folder(folder)
        try:
            if folder.is_dir():
                check_model_files(folder)
            classifier = cls(ClassifierConfig.from_json(read_text(folder / "config.json")))
            for name, net in classifier._networks():
                _fill(net, load_file(folder / f"{name}.safetensors"))
        except FileNotFoundError as error:
            raise ValueError(
                f"{folder} is not an attribute classifier's folder: it has no "
                f"{Path(str(error.filename or error)).name}; make one with `anystory judge train --out DIR`"
            ) from None
        except (ValueError, KeyError, TypeError, AttributeError, RuntimeError, SafetensorError, OSError) as error:
            reason = (str(error) or type(error).__name__).splitlines()[0]
            raise ValueError(
                f"{folder} holds no usable attribute classifier ({reason}); train it anew or get it again"
            ) from None
        return classifier

    def save(self, path: str | os.PathLike[str], dtype: torch.dtype = torch.float16) -> None:
        """Write config.json and the weights into a folder, whole or not at all (an older one is replaced)."""
        with atomic_folder(path) as fresh:
            (fresh / "config.json").write_text(self.config.to_json(), encoding="utf-8")
            for name, net in self._networks():
                state = {key: value.to(dtype).contiguous() for key, value in _weights(net).items()}
                save_file(state, fresh / f"{name}.safetensors")

    def _networks(self) -> tuple[tuple[str, nn.Module], ...]:
        return ("scene", self.scene), ("character", self.character)

    @torch.no_grad()
    def read(self, images: Tensor) -> list[Reading]:
        """Read pictures (B, 3, H, W) in [-1, 1].

        Raises:
            ValueError: pictures of another shape or size than the classifier's.
        """
        images = self._check(images)
        owners, places, lights = [], [], []
        for start in range(0, len(images), _BATCH):
            pixels, place, light = self.scene(images[start : start + _BATCH])
            owners.append(pixels.argmax(dim=1))
            places += place.argmax(dim=1).tolist()
            lights += light.argmax(dim=1).tolist()
        masks = [self._masks(owner) for owner in torch.cat(owners).cpu().numpy()] if owners else []
        characters = self.read_instances(images, masks)
        return [
            Reading(place=self.config.places[place], light=self.config.lights[light], characters=found)
            for place, light, found in zip(places, lights, characters, strict=True)
        ]

    @torch.no_grad()
    def read_instances(self, images: Tensor, masks: Sequence[Sequence[np.ndarray]]) -> list[list[CharacterReading]]:
        """Read the attributes of characters whose masks are given.

        Args:
            images: (B, 3, H, W) in [-1, 1].
            masks: for each picture any number of masks, (H, W) bool.

        Raises:
            ValueError: pictures or masks of another shape or size than the classifier's.
        """
        images = self._check(images)
        if len(masks) != len(images):
            raise ValueError(f"give a list of masks for each of the {len(images)} pictures, got {len(masks)} lists")
        size = self.config.size
        flat = [(b, np.asarray(mask, bool)) for b, row in enumerate(masks) for mask in row]
        for _, mask in flat:
            if mask.shape != (size, size):
                raise ValueError(f"a mask must be {size} × {size} like the picture, got {mask.shape}")
        found: list[list[CharacterReading]] = [[] for _ in masks]
        for start in range(0, len(flat), _BATCH):
            part = flat[start : start + _BATCH]
            solid = torch.from_numpy(np.stack([mask for _, mask in part])).to(images.device)
            pictures = images[[b for b, _ in part]]
            said_of = self.character(*crops_of(pictures, solid.float(), squares_around(solid), self.config))
            likely = {name: logits.softmax(dim=1).max(dim=1) for name, logits in said_of.items()}
            for i, (b, mask) in enumerate(part):
                said = {name: self.attributes[name][int(best.indices[i])] for name, best in likely.items()}
                confidence = {name: float(best.values[i]) for name, best in likely.items()}
                found[b].append(
                    CharacterReading(mask=mask, attributes=blank_colours(said), confidence=confidence)
                )  # fmt: skip
        return found

    def _masks(self, owner: np.ndarray) -> list[np.ndarray]:
        masks = [owner == number for number in range(1, self.config.max_characters + 1)]
        return [mask for mask in masks if mask.sum() >= self.config.min_area]

    def _check(self, images: Tensor) -> Tensor:
        size = self.config.size
        if images.ndim != 4 or images.shape[1:] != (3, size, size):
            raise ValueError(
                f"pictures must be (B, 3, {size}, {size}) in [-1, 1], got {tuple(images.shape)}: resize them"
            )
        return images.to(next(self.scene.parameters()))


_COUNTER = "num_batches_tracked"
"""Batch norm's count of steps, which only training reads: not stored."""


def _weights(net: nn.Module) -> dict[str, Tensor]:
    return {name: value for name, value in net.state_dict().items() if not name.endswith(_COUNTER)}


def _fill(net: nn.Module, weights: dict[str, Tensor]) -> None:
    """Load stored weights; a ValueError names what is missing or too much (torch raises where shapes differ)."""
    missing, unexpected = net.load_state_dict({name: value.float() for name, value in weights.items()}, strict=False)
    missing = [name for name in missing if not name.endswith(_COUNTER)]
    if missing or unexpected:
        raise ValueError(f"weights missing {missing[:3]}, unknown {list(unexpected)[:3]}")
