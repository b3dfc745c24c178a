"""What a request gives as files: uploads, characters and pictures of its own, kept in the job's folder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from anystory.cast import Character, Library
from anystory.engine.job import PhotoFiles, SubjectFiles
from anystory.serving.api.schemas import SubjectRequest
from anystory.serving.errors import ApiError
from anystory.serving.keys import ApiKey
from anystory.serving.service import Service
from anystory.serving.store.uploads import Upload

__all__ = ["GivenFiles", "find_character", "find_upload"]


def find_upload(service: Service, key: ApiKey, upload: str, param: str) -> Upload:
    """An upload of a key.

    Raises:
        ApiError: there is none.
    """
    if (found := service.uploads.find(upload, key.name)) is None:
        raise ApiError(404, f"there is no upload {upload!r}: send it to /v1/uploads", param=param, code="not_found")
    return found


def find_character(service: Service, key: ApiKey, reference: str, param: str) -> tuple[Character, str | None]:
    """A character of a key by its id or its name, and a variant's name.

    Raises:
        ApiError: there is none.
    """
    library = Library(service.data.cast(key.name))
    for character in library:
        if character.folder.name == reference:
            return character, None
    try:
        return library.find(reference)
    except ValueError as error:
        said = str(error.args[0] if error.args else error).replace(f" in {library.folder}", "")
        raise ApiError(404, said, param=param, code="not_found") from None


@dataclass
class GivenFiles:
    """Files on their way into a job's folder, and the pictures of an edit."""

    service: Service
    key: ApiKey
    job: str
    images: Sequence[Upload] = ()
    """Of an edit."""
    _names: dict[Path, str] = field(default_factory=dict)

    def keep(self, source: Path) -> Path:
        """Keep a file; its path relative to the job's folder."""
        if source not in self._names:
            name = f"{len(self._names) + 1:02d}{source.suffix}"
            try:
                self._names[source] = self.service.data.give(self.job, source, name)
            except FileNotFoundError:
                raise ApiError(404, "a picture was removed meanwhile: send it again", code="not_found") from None
        return Path(self._names[source])

    def upload(self, upload: Upload) -> Path:
        """Keep an upload."""
        return self.keep(self.service.uploads.path(upload))

    def subject(self, number: int, request: SubjectRequest) -> SubjectFiles:
        """A subject with its photos kept.

        Raises:
            ApiError: something that it names is not there.
        """
        param = f"subjects.{number}"
        name, photos = self._photos(request, param)
        if len(photos) > self.service.settings.bounds.photos:
            most = self.service.settings.bounds.photos
            raise ApiError(400, f"a subject has at most {most} photos here, got {len(photos)}", param=param)
        first, *more = photos
        return SubjectFiles(
            image=first.image,
            mask=first.mask,
            more=tuple(more),
            name=request.name or name or f"subject {number + 1}",
            settings=_settings(request),
        )

    def _photos(self, request: SubjectRequest, param: str) -> tuple[str | None, list[PhotoFiles]]:
        if request.character is not None:
            character, variant = find_character(self.service, self.key, request.character, f"{param}.character")
            return character.name, [PhotoFiles(self.keep(path)) for path in character.cutouts(variant)]
        if request.images is not None:
            if wrong := [place for place in request.images if place >= len(self.images)]:
                said = f"there is no image {wrong[0]}: this request has {len(self.images)}, counted from 0"
                raise ApiError(400, said, param=f"{param}.images")
            return None, [PhotoFiles(self.upload(self.images[place])) for place in request.images]
        photos = []
        for upload, mask in zip(
            request.uploads or (), request.masks or [None] * len(request.uploads or ()), strict=True
        ):
            found = find_upload(self.service, self.key, upload, f"{param}.uploads")
            white = None if mask is None else find_upload(self.service, self.key, mask, f"{param}.masks")
            photos.append(PhotoFiles(self.upload(found), None if white is None else self.upload(white)))
        return None, photos


def _settings(request: SubjectRequest) -> dict[str, Any]:
    settings = {name: getattr(request, name) for name in ("scale", "reference_scale", "region", "segmenter")}
    usual = {"scale": 1, "reference_scale": 1, "region": None, "segmenter": "auto"}
    return {name: value for name, value in settings.items() if value != usual[name]}
