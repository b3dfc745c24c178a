"""The attribute classifier of StoryWorld as a judge: for characters that are StoryWorld descriptions."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Any

import numpy as np

from anystory.story.consistency.judging import Role, Shot, Sight
from anystory.storyworld.identity import Identity

__all__ = ["StoryWorldJudge"]

_LEAST_OVERLAP = 0.1
"""Of a character's routing mask with the instance that is taken for it, as intersection over union."""
_LIGHTS = {
    "day": ("by day", "sunny day", "in the daytime"),
    "dusk": ("at dusk", "at sunset", "in the evening"),
    "night": ("at night", "by night", "dark night"),
}
"""Light -> words of a prompt."""


class StoryWorldJudge:
    """See `judging.Judge`; features are attributes: {name: value}.

    Args:
        identities: Who each character is.
    """

    name = "StoryWorld's attribute classifier"
    alike = 0.6

    def __init__(self, identities: Mapping[Role, Identity]) -> None:
        self._identities = identities

    @cached_property
    def _classifier(self) -> Any:
        from anystory.storyworld.attribute_classifier.classifier import AttributeClassifier

        return AttributeClassifier.load()

    def _read(self, shot: Shot) -> Any:
        """The classifier's reading of a picture, at its own size."""
        import torch
        from PIL import Image

        side = self._classifier.config.size
        small = Image.fromarray(shot.picture).resize((side, side), Image.Resampling.BOX)
        pixels = torch.from_numpy(np.asarray(small).copy()).permute(2, 0, 1)[None].float() / 127.5 - 1
        return self._classifier.read(pixels)[0]

    def sights(self, shot: Shot) -> dict[Role, Sight]:
        """See `judging.Judge.sights`: a character is the instance that its routing mask overlaps most."""
        from anystory.storyworld.attribute_classifier.overlap import intersection_over_union

        found = self._read(shot).characters
        side = self._classifier.config.size
        masks = {role: _resized(mask, side) for role, mask in shot.masks.items()}
        pairs = sorted(
            (
                (intersection_over_union(mask, one.mask), number, role)
                for role, mask in masks.items()
                for number, one in enumerate(found)
            ),
            key=lambda pair: -pair[0],
        )
        owners: dict[Role, int] = {}
        for overlap, number, role in pairs:
            if overlap >= _LEAST_OVERLAP and role not in owners and number not in owners.values():
                owners[role] = number
        spare = [one.attributes["kind"] for number, one in enumerate(found) if number not in owners.values()]
        return {
            role: Sight(
                features=found[owners[role]].attributes if role in owners else None,
                doubled=role in owners and found[owners[role]].attributes["kind"] in spare,
            )
            for role in shot.masks
        }

    def reference(self, role: Role) -> Any:
        """See `judging.Judge.reference`: the true attributes."""
        from anystory.storyworld.attribute_classifier.attributes import identity_attributes

        identity = self._identities.get(role)
        return None if identity is None else identity_attributes(identity)

    def likeness(self, a: Any, b: Any) -> float:
        """See `judging.Judge.likeness`: the share of equal attributes among those that one of them has."""
        from anystory.storyworld.attribute_classifier.attributes import COARSE, FINE

        names = [name for name in (*COARSE, *FINE) if a[name] or b[name]]
        return sum(a[name] == b[name] for name in names) / len(names)

    def without_effect(self, shot: Shot) -> list[str]:
        """See `judging.Judge.without_effect`: the place and the light."""
        from anystory.storyworld.places import PLACES

        reading, prompt = self._read(shot), shot.prompt.lower()
        places = {name for name, place in PLACES.items() if any(phrase in prompt for phrase in place.phrases)}
        lights = {light for light, phrases in _LIGHTS.items() if any(phrase in prompt for phrase in phrases)}
        found = []
        for what, said, seen in (("place", places, reading.place), ("light", lights, reading.light)):
            if said and seen not in said:
                found.append(f"the prompt's {what} is {' or '.join(sorted(said))}, the picture shows {seen}")
        return found


def _resized(mask: np.ndarray, side: int) -> np.ndarray:
    from PIL import Image

    grey = Image.fromarray(mask.astype(np.uint8) * 255).resize((side, side), Image.Resampling.BOX)
    return np.asarray(grey) >= 128
