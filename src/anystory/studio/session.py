"""What one browser has: its scene, its pictures, its story. On disk after every change, so that a reload loses nothing.

    OUT/3f9a01c2d4e5/session.json    scene, list of pictures, options
    OUT/3f9a01c2d4e5/pictures/       0001.png, its record, its routing maps …
    OUT/3f9a01c2d4e5/story/          story.yaml, book/, exports
    OUT/3f9a01c2d4e5/segments/       a folder with masks for each picture that was looked at
    OUT/3f9a01c2d4e5/uploads/        what was given

A browser is known by a cookie with a random token, whose hash names the folder.
"""

from __future__ import annotations

import hashlib
import re
import secrets
import threading
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from annotated_types import Ge, Interval, Le, MaxLen
from pydantic import BaseModel, ConfigDict, ValidationError

from anystory.engine.limits import MOST_SEED, MOST_STEPS
from anystory.engine.options import ModelOptions
from anystory.files import atomic_write
from anystory.studio.settings import StudioSettings

if TYPE_CHECKING:
    from anystory.studio.worker.worker import Ticket

__all__ = [
    "PictureEntry",
    "SceneDraft",
    "SceneMember",
    "SegmentDraft",
    "SegmentReference",
    "Session",
    "SessionState",
    "Sessions",
]

_TOKEN = re.compile(r"[\w-]{43}")
_ID = re.compile(r"[\w-]{1,64}")


class _Kept(BaseModel):
    model_config = ConfigDict(extra="ignore", validate_assignment=True)


class SceneMember(_Kept):
    """A character of the library in a scene, besides those whom the prompt names."""

    name: str
    variant: str | None = None
    region: tuple[float, float, float, float] | None = None
    """The box that it fills: left, top, right, bottom in shares of the picture."""
    mask: str | None = None
    """The upload with the painted place, in place of a box."""


class SceneDraft(_Kept):
    """A scene as it stands on the page."""

    prompt: Annotated[str, MaxLen(4000)] = ""
    verbatim: bool = False
    """The prompt goes to the model as it is: no name becomes a description."""
    negative: Annotated[str, MaxLen(4000)] = ""
    cast: Annotated[list[SceneMember], MaxLen(32)] = []
    """Who is in the picture, with a look or a place of their own; those whom the prompt names are added."""
    pictures: Annotated[int, Interval(ge=1, le=16)] = 1
    seed: Annotated[int, Interval(ge=0, le=MOST_SEED)] | None = None
    """None for a random one."""
    steps: Annotated[int, Interval(ge=1, le=MOST_STEPS)] | None = None
    guidance: Annotated[float, Ge(0), Le(100)] | None = None
    width: Annotated[int, Interval(ge=1, le=8192)] | None = None
    height: Annotated[int, Interval(ge=1, le=8192)] | None = None


class SegmentReference(_Kept):
    """Somebody who is looked for in a picture."""

    name: Annotated[str, MaxLen(80)]
    """Of a character of the library, or what an upload is called."""
    upload: str | None = None
    """A picture of it; None for the character's own."""
    variant: str | None = None
    uncertain: bool = False
    """Whether the upload's cut-out is to be looked at."""


class SegmentDraft(_Kept):
    """What is looked for as it stands on the page."""

    picture: str | None = None
    """The upload to look at."""
    references: Annotated[list[SegmentReference], MaxLen(32)] = []
    prompt: Annotated[str, MaxLen(4000)] = ""
    """What the picture shows, if somebody knows."""


class PictureEntry(_Kept):
    """A picture of the gallery."""

    stem: str
    """Of its files: "0001"."""
    seed: int
    sha256: str
    prompt: str
    """As it was written."""
    names: list[str]
    """Of the subjects, in their order."""
    colours: list[str]
    """One for each."""
    draft: SceneDraft
    redrawn: str | None = None
    """Who was drawn anew in another picture."""


class SessionState(_Kept):
    """What `session.json` holds."""

    scene: SceneDraft = SceneDraft()
    pictures: list[PictureEntry] = []
    """The newest last."""
    segment: SegmentDraft = SegmentDraft()
    segmented: str | None = None
    """The folder of the masks that were found last."""
    options: dict[str, Any] = {}
    """Of the model, where they are others than the studio was started with."""


@dataclass(eq=False)
class Session:
    """One browser's work."""

    folder: Path
    settings: StudioSettings
    state: SessionState = field(default_factory=SessionState)
    scene_job: Ticket | None = None
    story_job: Ticket | None = None
    segment_job: Ticket | None = None
    lock: threading.RLock = field(default_factory=threading.RLock)

    @property
    def pictures(self) -> Path:
        """The folder of the pictures."""
        return self.folder / "pictures"

    @property
    def story(self) -> Path:
        """The story file."""
        return self.folder / "story" / "story.yaml"

    @property
    def book(self) -> Path:
        """The folder of the story's book."""
        return self.folder / "story" / "book"

    @property
    def segments(self) -> Path:
        """The folder of all masks, a folder for each picture that was looked at."""
        return self.folder / "segments"

    def options(self) -> ModelOptions:
        """Which model draws, and how it is run.

        Raises:
            OptionError: an option that cannot be.
        """
        usual = {entry.name: getattr(self.settings.options, entry.name) for entry in fields(ModelOptions)}
        return ModelOptions(**{**usual, **self.state.options})

    def save(self) -> None:
        """Write `session.json`."""
        with self.lock, atomic_write(self.folder / "session.json") as temporary:
            temporary.write_text(self.state.model_dump_json(indent=1) + "\n", encoding="utf-8")

    def entry(self, stem: str) -> PictureEntry:
        """A picture of the gallery.

        Raises:
            ValueError: there is no such picture.
        """
        for one in self.state.pictures:
            if one.stem == stem:
                return one
        raise ValueError(f"there is no picture {stem!r} here: reload the page")

    def picture(self, stem: str) -> Path:
        """Its file; raises ValueError as `entry`."""
        return self.pictures / f"{self.entry(stem).stem}.png"

    def keep_upload(self, name: str, data: bytes) -> str:
        """Write a file that was given, and return what it is called from now on."""
        key = secrets.token_urlsafe(9)
        safe = re.sub(r"[^\w.-]+", "-", Path(name).name)[-80:].strip(".-") or "file"
        with atomic_write(self.folder / "uploads" / key / safe) as temporary:
            temporary.write_bytes(data)
        return key

    def upload(self, key: str) -> Path:
        """The file of an upload.

        Raises:
            ValueError: there is none of that name.
        """
        folder = self.folder / "uploads" / key
        found = sorted(folder.iterdir()) if _ID.fullmatch(key) and folder.is_dir() else []
        if not found:
            raise ValueError("the file is not here any more: give it again")
        return found[0]

    def without_places(self, message: str) -> str:
        """A message for people: what was given is called by its name, and not by its place on disk."""
        return re.sub(rf"{re.escape(str(self.folder / 'uploads'))}/[\w-]+/", "", message)


class Sessions:
    """All browsers' sessions, by their tokens."""

    def __init__(self, settings: StudioSettings) -> None:
        self._settings = settings
        self._open: dict[str, Session] = {}
        self._lock = threading.Lock()

    def get(self, token: str | None) -> tuple[str, Session]:
        """The session of a token; a new one, with its token, if nobody has that."""
        with self._lock:
            if token is not None and _TOKEN.fullmatch(token):
                name = hashlib.sha256(token.encode()).hexdigest()[:12]
                if name not in self._open and (self._settings.out / name / "session.json").is_file():
                    self._open[name] = self._read(name)
                if name in self._open:
                    return token, self._open[name]
            token = secrets.token_urlsafe(32)
            name = hashlib.sha256(token.encode()).hexdigest()[:12]
            self._open[name] = Session(self._settings.out / name, self._settings)
            return token, self._open[name]

    def _read(self, name: str) -> Session:
        """A session from disk; a damaged file is put aside, and its pictures stay where they are."""
        folder = self._settings.out / name
        path = folder / "session.json"
        try:
            state = SessionState.model_validate_json(path.read_text(encoding="utf-8"))
        except (ValidationError, OSError, UnicodeDecodeError):
            path.replace(folder / "session-damaged.json")
            state = SessionState()
        return Session(folder, self._settings, state)
