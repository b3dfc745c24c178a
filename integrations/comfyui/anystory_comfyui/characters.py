"""The node that takes a character from the library."""

from __future__ import annotations

from typing import Any

from anystory.cast import Library
from anystory.cast.schema import CHARACTER_FILE
from anystory.engine.job import PhotoFiles
from anystory.files import sha256_file

from .sentences import in_a_sentence, sentence
from .subjects import SETTINGS, subject_outputs
from .wires import CATEGORY, SUBJECTS, GivenSubject

__all__ = ["AnyStoryCharacter"]


class AnyStoryCharacter:
    """A character of the library in $ANYSTORY_CAST or its usual place; see `anystory.cast.Library`."""

    DESCRIPTION = "A character of your library (`anystory cast add`), in its usual look or a variant."
    CATEGORY = CATEGORY
    FUNCTION = "give"
    RETURN_TYPES = (SUBJECTS, "STRING", "IMAGE", "MASK")
    RETURN_NAMES = ("subjects", "description", "cutout", "cutout_mask")
    OUTPUT_TOOLTIPS = (
        "Those before it and this one",
        "What a prompt says in its place",
        "Its first picture as the model reads it",
        "Where it is there",
    )

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        """ComfyUI's description of the inputs; the list is the library's when it is asked for."""
        about = "NAME or NAME@VARIANT; refresh (R) after you have changed the library"
        return {
            "required": {"character": (_references(), {"tooltip": about})},
            "optional": dict(SETTINGS),
        }

    @classmethod
    def VALIDATE_INPUTS(cls, character: str | None = None) -> bool | str:
        """Refuse whom the library does not know, and name the nearest. None: the name comes over a wire."""
        try:
            if character is not None:
                Library().find(character)
        except (OSError, ValueError) as error:
            return sentence(error)
        return True

    @classmethod
    def IS_CHANGED(cls, character: str | None, **_: Any) -> str:
        """Changes when the character does: its file names its pictures by their hashes."""
        if character is None:
            return ""
        found, _variant = Library().find(character)
        return sha256_file(found.folder / CHARACTER_FILE)

    @in_a_sentence
    def give(self, character: str, subjects: tuple[GivenSubject, ...] = (), **settings: Any) -> tuple[Any, ...]:
        """The subjects so far with this one, its description, and how it was cut out."""
        found, variant = Library().find(character)
        photos = [PhotoFiles(path) for path in found.cutouts(variant)]
        all_of_them, cutout, mask = subject_outputs(subjects, photos, found.name, **settings)
        return all_of_them, found.description_of(variant), cutout, mask


def _references() -> list[str]:
    """What names a character or a variant; [""] for a library that is empty or cannot be read."""
    try:
        characters = Library().read().characters
    except OSError:
        characters = ()
    names = [
        reference
        for one in characters
        for reference in (one.name, *(f"{one.name}@{variant.name}" for variant in one.variants))
    ]
    return names or [""]
