"""What a backend is: a family of models, how one of them is loaded, and what a loaded one can do.

No torch is imported here. `registry` knows the backends; `sdxl` and `flux` are two.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

if TYPE_CHECKING:
    from PIL import Image

    from anystory.engine.backends.description import Description
    from anystory.engine.job import Job
    from anystory.engine.options import ModelOptions
    from anystory.engine.vocabulary import UnknownWord
    from anystory.pipelines.inputs import EncodedSubject
    from anystory.pipelines.routing_record import RoutingRecord
    from anystory.segment.fusion import Fusion
    from anystory.segment.segmentation import Segmentation
    from anystory.subjects import Subject

__all__ = ["Backend", "Batch", "BatchStep", "Call", "DrawnPicture", "Limits", "Model", "Numbers", "SamplingStep"]


class Backend(Protocol):
    """A family of models that are loaded and called in the same way. It holds nothing and costs nothing."""

    name: str
    """A word for records and JSON: "sdxl"."""
    title: str
    """What a message calls its models: "SDXL or a fine-tune of it"."""
    modules: Sequence[str]
    """What a program imports before it loads a model, for a quick start (see `startup.import_libraries`)."""

    has_background: bool
    """Whether its models tell subjects from a background, so that pictures can share one: `Job.background_seed`."""

    has_router: bool
    """Whether its models have a router, so that they find subjects in an existing picture: `Model.segment`."""

    draws_batches: bool
    """Whether its models draw several jobs in one call: `Model.start_batch`."""

    def draws(self, place: Path) -> bool:
        """Whether this backend draws with the model in a folder or file. It does not read the weights."""
        ...

    def size_multiple(self, place: Path) -> int:
        """Pixels of which both sides of a picture must be a multiple, by the model's configuration.

        Args:
            place: The folder or file of a model that this backend draws with.
        """
        ...

    def describe(self, source: str, place: Path) -> Description | None:
        """A model, an adapter or a public file of this family; None for what it does not know.

        Args:
            source: What the caller named.
            place: Where it lies.
        """
        ...

    def check(self, options: ModelOptions) -> None:
        """Refuse options that its models do not have, before anything is loaded.

        Raises:
            OptionError: one of them.
        """
        ...

    def check_job(self, job: Job) -> None:
        """Refuse what its models cannot draw, before one is loaded.

        Raises:
            OptionError: a part of the job.
        """
        ...

    def load(self, options: ModelOptions) -> Model:
        """The model on its device.

        Raises:
            ValueError: no such model, or options that do not go together.
            OSError: a file is missing.
        """
        ...


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What a model was made for."""

    size_multiple: int
    """Width and height must be multiples of this, in pixels."""
    native_size: int
    """Side of the squares that it was trained on, in pixels."""
    max_subjects: int | None
    """The most subjects in a picture that it was trained with; 0 without an adapter, None if it does not say."""


@dataclass(frozen=True, kw_only=True)
class Numbers:
    """What a call takes, given or by default."""

    steps: int
    guidance: float
    strength: float | None
    """None without a picture to draw over."""
    ahead: int = 0
    """Steps that are drawn before, to find the subjects of a picture that shares its background."""


class SamplingStep(NamedTuple):
    """A sampling step that is done, or one look at a picture in which subjects are searched for."""

    number: int
    """From 1."""
    count: int
    """Steps of the picture."""
    preview: Callable[[], Image.Image] | None = None
    """Makes a small picture of what there is so far; None where nothing is drawn."""


class BatchStep(NamedTuple):
    """A sampling step of several pictures is done."""

    number: int
    """From 1."""
    count: int
    """Steps of each picture."""
    preview: Callable[[int], Image.Image]
    """Makes a small picture of what there is so far of the picture of a number, from 0."""


@dataclass(frozen=True, kw_only=True)
class DrawnPicture:
    """A picture that was drawn, with what its record and its sheet need."""

    image: Image.Image
    seed: int
    numbers: Numbers
    routing: RoutingRecord | None
    """Who owns which pixel; None without subjects, or if it was not recorded."""
    references: tuple[Image.Image, ...]
    """The subjects as the model saw them."""
    cutouts: tuple[tuple[str, ...], ...]
    """How each photo of each subject was cut out."""
    together: int = 1
    """Pictures that were drawn in the same call."""


class Model(Protocol):
    """A loaded model. It draws one picture at a time."""

    options: ModelOptions
    """How it was loaded, with absolute paths and with what was left open decided, as a record keeps them."""
    limits: Limits

    @property
    def weights(self) -> Mapping[str, str]:
        """SHA-256 of each file that went into it.

        Raises:
            OSError: one of them can no longer be read.
        """
        ...

    def numbers(self, job: Job) -> Numbers:
        """What a job takes: its own numbers, or else the model's."""
        ...

    def unknown_words(self, prompt: str) -> list[UnknownWord]:
        """The words that it does not know; none for a large vocabulary."""
        ...

    def encode(self, subject: Subject) -> EncodedSubject:
        """Encode a subject's pictures once for any number of jobs; its settings may still be replaced.

        Raises:
            ValueError: a picture or a mask that cannot be used, or a model without an adapter.
        """
        ...

    def segment(
        self,
        image: Any,
        subjects: Sequence[Subject | EncodedSubject],
        *,
        prompt: str = "",
        seed: int = 0,
        levels: Sequence[float] | None = None,
        draws: int | None = None,
        on_step: Callable[[SamplingStep], None] = lambda step: None,
    ) -> tuple[Segmentation, Fusion]:
        """Find subjects in an existing picture.

        Args:
            image, subjects, prompt, levels, draws: See `pipelines.segmenting`.
            seed: Of the noise.
            on_step: Called after each look of the network at the picture. What it raises ends the call and leaves the
                model usable.

        Returns:
            Masks and confidences, and how they were made of the routing maps.

        Raises:
            ValueError: an argument that cannot be, or a model without an adapter.
            FloatingPointError: maps that are not made of numbers.
        """
        ...

    def start(self, job: Job, subjects: Sequence[Subject | EncodedSubject]) -> Call:
        """Encode a job's subjects and get everything ready that its pictures share.

        Each subject is encoded by itself: in a batch its last bits would depend on who else is in the picture.

        Args:
            job: What is drawn.
            subjects: The job's, each read or encoded.

        Raises:
            ValueError: a picture, a mask or a size that cannot be.
        """
        ...

    def start_batch(self, jobs: Sequence[Job], subjects: Sequence[Sequence[Subject | EncodedSubject]]) -> Batch:
        """The same for several jobs that are `batching.alike`, to be drawn in one call.

        Args:
            jobs: What is drawn, at least one.
            subjects: Those of each job.

        Raises:
            ValueError: as for `start`; or a model whose backend draws no batches.
        """
        ...


class Call(Protocol):
    """A job that is ready to be drawn, once for each seed."""

    def draw(self, seed: int, *, routing: bool, on_step: Callable[[SamplingStep], None]) -> DrawnPicture:
        """Draw a picture.

        Args:
            seed: Of its noise.
            routing: Whether to record the routing maps.
            on_step: Called after each sampling step. What it raises ends the call and leaves the model usable.

        Raises:
            ValueError: an argument that the pipeline refuses.
            FloatingPointError: a picture that is not made of numbers, or black all over.
        """
        ...


class Batch(Protocol):
    """Several jobs that are ready to be drawn in one call."""

    def draw(self, seeds: Sequence[int], *, routing: bool, on_step: Callable[[BatchStep], None]) -> list[DrawnPicture]:
        """Draw one picture of each job. They are those of `Call.draw` but for rounding.

        Args:
            seeds: One for each job.
            routing, on_step: See `Call.draw`.

        Raises:
            ValueError, FloatingPointError: see `Call.draw`; then none of the pictures is there.
        """
        ...
