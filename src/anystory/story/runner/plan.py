"""What a story asks to be drawn: a job, a seed and a key for each panel."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from anystory.engine.errors import OptionError
from anystory.engine.job import Job, SubjectFiles, absolute_segmenter
from anystory.engine.limits import MOST_SEED
from anystory.files import sha256_file
from anystory.story.looks import photo_files, story_wordings
from anystory.story.positions import Problem, StoryProblems
from anystory.story.prompts import PanelPrompt, panel_prompt
from anystory.story.reading import StoryFile
from anystory.story.schema import PanelSubject, StoryPanel

__all__ = ["REFERENCES", "PanelPlan", "plan_panels"]

REFERENCES = "references"
"""The book's folder of reference pictures."""

_PICTURES = 1
"""Raised when the same job gives another picture."""
_KEY_LENGTH = 20
_ENTRIES = {
    "negative_prompt": "negative", "width": "size", "height": "size", "image": "place", "strength": "place",
    "background_seed": "place", "subject": "cast",
}  # fmt: skip
"""What of a job a panel's entry is about."""


@dataclass(frozen=True, kw_only=True)
class PanelPlan:
    """A panel to be drawn."""

    number: int
    """From 1."""
    key: str
    """A hash of everything that can change the picture, and of nothing else."""
    base: str
    """The same without the seed."""
    job: Job
    seed: int
    """Of the first candidate; further ones have the next."""
    subjects: tuple[str, ...]
    """Ids of the job's subjects, in their order."""


def plan_panels(
    file: StoryFile,
    book: Path,
    digest: str,
    *,
    backgrounds: bool = True,
    steps: int | None = None,
    check: Callable[[Job], None] = lambda job: None,
) -> list[PanelPlan]:
    """What each panel asks for; references that are descriptions are drawn.

    Args:
        file: A story without errors.
        book: The book's folder.
        digest: Of the model; see `model_facts.model_digest`.
        backgrounds: Whether panels of a place share their background: see `Backend.has_background`.
        steps: Sampling steps of all panels, in place of the story's.
        check: Raises OptionError for what the model does not draw; see `Backend.check_job`.

    Raises:
        StoryProblems: panels that cannot be drawn.
        OSError: a picture cannot be read.
    """
    return _Planner(file, book, digest, backgrounds, steps, check).plans()


class _Planner:
    """Plans one story's panels; each file is hashed once."""

    def __init__(
        self,
        file: StoryFile,
        book: Path,
        digest: str,
        backgrounds: bool,
        steps: int | None,
        check: Callable[[Job], None],
    ) -> None:
        self.check = check
        self.file, self.story, self.book = file, file.story, book
        self.digest, self.backgrounds, self.steps = digest, backgrounds, steps
        self.wordings = story_wordings(file.story)
        self._hashes: dict[Path, str] = {}
        self._seen: Counter[str] = Counter()

    def plans(self) -> list[PanelPlan]:
        """One plan for each panel."""
        plans, problems = list[PanelPlan](), list[Problem]()
        for number, panel in enumerate(self.story.panels):
            prompt = panel_prompt(self.story, panel, self.wordings)
            subjects = tuple(self._subject(member, settings) for member, settings in prompt.subjects.items())
            try:
                job = self._job(panel, prompt, subjects)
                self.check(job)
            except OptionError as error:
                entry = _ENTRIES.get(error.option, error.option)
                problems.append(self.file.problem("panels", number, entry, text=str(error)))
                continue
            seed = self._seed(panel)
            parts = self._parts(job)
            plans.append(
                PanelPlan(
                    number=number + 1,
                    key=_digest(parts | {"seed": seed}),
                    base=_digest(parts),
                    job=job,
                    seed=seed,
                    subjects=tuple(prompt.subjects),
                )
            )
        if problems:
            raise StoryProblems(problems)
        return plans

    def _job(self, panel: StoryPanel, prompt: PanelPrompt, subjects: tuple[SubjectFiles, ...]) -> Job:
        place = None if panel.place is None else self.story.places[panel.place]
        picture = None if place is None or place.picture is None else self.file.folder / place.picture
        width, height = panel.size or self.story.size or (None, None)
        return Job(
            prompt=prompt.text,
            negative_prompt=prompt.negative,
            subjects=subjects,
            image=picture,
            strength=None if place is None or picture is None else place.strength,
            steps=self.steps or panel.steps or self.story.steps,
            guidance=self.story.guidance if panel.guidance is None else panel.guidance,
            background_seed=self._background(panel) if picture is None else None,
            width=width,
            height=height,
        )

    def _subject(self, member: str, settings: PanelSubject) -> SubjectFiles:
        who = self.story.cast[member]
        look = who.look(settings.variant)
        name = member if settings.variant is None else f"{member}-{settings.variant}"
        first, *more = photo_files(
            look, seed=who.seed, folder=self.file.folder, references=self.book / REFERENCES, name=name
        )
        own: dict[str, Any] = {"region": settings.region} if settings.region is not None else {}
        for scale in ("scale", "reference_scale"):
            if (value := getattr(settings, scale)) != 1:
                own[scale] = value
        if look.segmenter != "auto":
            own["segmenter"] = absolute_segmenter(look.segmenter)
        return SubjectFiles(
            image=first.image, mask=first.mask, more=tuple(more), name=self.story.display_name(member), settings=own
        )

    def _seed(self, panel: StoryPanel) -> int:
        """The panel's own, or one that follows from the story's seed and the panel's id or prompt."""
        name = panel.id or panel.prompt
        self._seen[name] += 1  # of every panel: a seed given to one does not change another's
        if panel.seed is not None:
            return panel.seed
        return self._derived(f"{name}/{self._seen[name]}")

    def _background(self, panel: StoryPanel) -> int | None:
        """The place's own seed, or one that follows from the story's seed and the place's id."""
        if panel.place is None or not self.backgrounds:
            return None
        seed = self.story.places[panel.place].seed
        return self._derived(f"place/{panel.place}") if seed is None else seed

    def _derived(self, text: str) -> int:
        digest = hashlib.sha256(f"{self.story.seed}/{text}".encode()).digest()
        return int.from_bytes(digest[:4], "big") % (MOST_SEED + 1)

    def _parts(self, job: Job) -> dict[str, Any]:
        """What the picture depends on, but for the seed."""
        plain = ("prompt", "negative_prompt", "strength", "steps", "guidance", "width", "height", "background_seed")
        parts: dict[str, Any] = {name: getattr(job, name) for name in plain}
        parts |= {"format": _PICTURES, "model": self.digest, "image": self._hash(job.image)}
        parts["subjects"] = [
            [[[self._hash(path) for path in photo] for photo in subject.photos], sorted(subject.settings.items())]
            for subject in job.subjects
        ]
        return parts

    def _hash(self, path: Path | None) -> str | None:
        if path is None:
            return None
        if path not in self._hashes:
            self._hashes[path] = sha256_file(path)
        return self._hashes[path]


def _digest(parts: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:_KEY_LENGTH]
