"""Subjects of many jobs, each read and encoded once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from anystory.engine.job import SubjectFiles

if TYPE_CHECKING:
    from anystory.engine.backends.base import Model
    from anystory.pipelines.inputs import EncodedSubject
    from anystory.subjects import Subject

__all__ = ["Encodings"]


class Encodings:
    """Reads each subject when it is first asked for, and encodes it when it is first drawn."""

    def __init__(self) -> None:
        self._read: dict[object, Subject] = {}
        self._encoded: dict[object, EncodedSubject] = {}

    def fault(self, subject: SubjectFiles) -> str | None:
        """Read a subject's pictures and cut it out; why that cannot be done, or None.

        Raises:
            FileNotFoundError: no such file.
        """
        try:
            self._subject(subject)
        except ValueError as error:
            return str(error)
        return None

    def _subject(self, files: SubjectFiles) -> tuple[object, Subject]:
        segmenter = files.settings.get("segmenter", "auto")
        key = (files.photos, segmenter)
        if key not in self._read:
            plain = SubjectFiles(
                image=files.image, mask=files.mask, more=files.more, name=files.name, settings={"segmenter": segmenter}
            )
            self._read[key] = plain.subject().read()
        return key, self._read[key]

    def encoded(self, model: Model, subjects: Sequence[SubjectFiles]) -> list[EncodedSubject]:
        """The encodings of a job's subjects, with their settings in it."""
        found = []
        for files in subjects:
            key, subject = self._subject(files)
            if key not in self._encoded:
                self._encoded[key] = model.encode(subject)
            settings = {name: value for name, value in files.all_settings.items() if name != "segmenter"}
            found.append(self._encoded[key].replace(name=files.name, **settings))
        return found
