"""What requests hold and answers say, with examples: OpenAI's Images API, and what it lacks for subjects."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from anystory.engine.limits import MOST_SEED

__all__ = ["ErrorAnswer", "ImageRequest", "ImagesAnswer", "JobAnswer", "SubjectRequest", "UploadAnswer"]

Share = Annotated[float, Field(ge=0, le=1)]


class Part(BaseModel):
    """What requests have in common: no unknown entries."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, use_attribute_docstrings=True)


class SubjectRequest(Part):
    """Somebody in the picture: a character of your library, pictures that you sent before, or some of this request."""

    character: Annotated[str, Field(min_length=1, max_length=200)] | None = None
    """A character's id, or its name: "mara", "@mara", or "@mara@winter" for a variant."""
    uploads: Annotated[list[Annotated[str, Field(max_length=64)]], Field(min_length=1)] | None = None
    """Ids of uploads: photos of one subject."""
    masks: list[Annotated[str, Field(max_length=64)] | None] | None = None
    """For each of `uploads` an upload that is white where the subject is, or null."""
    images: Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=1)] | None = None
    """Of a form: places among an edit's images or the references of `/v1/segment`, from 0; photos of one subject."""
    name: Annotated[str, Field(min_length=1, max_length=200)] | None = None
    """What the routing maps call it."""
    region: tuple[Share, Share, Share, Share] | None = None
    """Where it goes: left, top, right and bottom in fractions of the picture; null leaves it to the router."""
    scale: Annotated[float, Field(ge=0, le=10)] = 1
    """Strength of its identity."""
    reference_scale: Annotated[float, Field(ge=0, le=10)] = 1
    """Strength of its details."""
    segmenter: Literal["auto", "border", "grabcut", "none"] = "auto"
    """How to cut it out where there is neither mask nor transparency."""

    @model_validator(mode="after")
    def _one_source(self) -> SubjectRequest:
        given = [name for name in ("character", "uploads", "images") if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(f"a subject has one of character, uploads and images, got {' and '.join(given) or 'none'}")
        if self.masks is not None and (self.uploads is None or len(self.masks) != len(self.uploads)):
            raise ValueError("`masks` has an entry, or null, for each of `uploads`")
        if self.region is not None and not (self.region[0] < self.region[2] and self.region[1] < self.region[3]):
            raise ValueError(f"`region` must have left < right and top < bottom, got {self.region}")
        return self


class ImageRequest(Part):
    """A request of OpenAI's Images API, with subjects."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"prompt": "a red fox on a beach", "size": "64x64", "steps": 2},
                {
                    "prompt": "a striped blue fox on a beach",
                    "subjects": [{"character": "@mara", "region": [0, 0.2, 0.6, 1]}],
                    "n": 2,
                    "seed": 7,
                    "routing": True,
                },
            ]
        }
    )

    prompt: Annotated[str, Field(min_length=1, max_length=100_000)]
    """What to draw."""
    model: Annotated[str, Field(max_length=200)] | None = None
    """The name of the server's model; it has one."""
    n: Annotated[int, Field(ge=1, le=1000)] | None = None
    """Number of pictures; 1 by default."""
    size: Annotated[str, Field(pattern=r"^(auto|[1-9][0-9]{0,4}x[1-9][0-9]{0,4})$")] | None = None
    """Width and height, "512x768"; by default, or "auto", the model's."""
    response_format: Literal["b64_json", "url"] | None = None
    """The pictures themselves (by default), or where they can be fetched with the same API key."""
    output_format: Literal["png", "jpeg", "webp"] | None = None
    """PNG by default, which alone holds the picture's record."""
    output_compression: Annotated[int, Field(ge=0, le=100)] | None = None
    """Quality of JPEG and WebP; 95 by default."""
    stream: bool | None = None
    """Whether to answer with server-sent events, as OpenAI's API does."""
    partial_images: Annotated[int, Field(ge=0, le=3)] | None = None
    """Small previews in that stream."""
    background: Literal["auto", "opaque"] | None = None
    """Pictures are opaque."""
    quality: Literal["auto", "low", "medium", "high", "standard", "hd"] | None = None
    """No effect: `steps` decides."""
    style: Literal["vivid", "natural"] | None = None
    """No effect: the prompt decides."""
    moderation: Literal["auto", "low"] | None = None
    """No effect: the server's owner decides."""
    input_fidelity: Literal["high", "low"] | None = None
    """No effect: a subject's `scale` and `reference_scale` decide."""
    user: Annotated[str, Field(max_length=1000)] | None = None
    """No effect."""
    subjects: list[SubjectRequest] | None = None
    """Who is in the picture."""
    negative_prompt: Annotated[str, Field(max_length=100_000)] | None = None
    """What not to draw."""
    seed: Annotated[int, Field(ge=0, le=MOST_SEED)] | None = None
    """Of the first picture; the others have the next. By default a random one."""
    background_seed: Annotated[int, Field(ge=0, le=MOST_SEED)] | None = None
    """Pictures with the same one share their background."""
    steps: Annotated[int, Field(ge=1, le=1000)] | None = None
    """Sampling steps; by default the model's."""
    guidance: Annotated[float, Field(ge=-100, le=100)] | None = None
    """Guidance scale; by default the model's."""
    true_cfg: Annotated[float, Field(gt=1, le=100)] | None = None
    """On FLUX.1: the negative prompt's weight."""
    strength: Share | None = None
    """Of an edit: how much of the first image to change. Given without a mask, the first image is drawn over."""
    routing: bool = False
    """Whether to return who owns which pixel, too."""

    @property
    def pictures(self) -> int:
        """How many are asked for."""
        return self.n or 1


class ImageAnswer(BaseModel):
    """A picture."""

    b64_json: str | None = None
    url: str | None = None
    seed: int
    """Of its noise."""
    subjects: list[str | None]
    """Names of the subjects, in order."""
    routing: dict[str, str] | None = None
    """`owners`: a PNG, 0 where the background is and i where the i-th subject is; `sheet`: the maps as a page."""


class ImagesAnswer(BaseModel):
    """OpenAI's answer, and the job."""

    created: int
    """Seconds since 1970."""
    data: list[ImageAnswer]
    output_format: str
    size: str
    job: str
    """Id of the job, whose results stay for a while."""
    warnings: list[str]
    """What was drawn, but perhaps not as it was meant."""


class JobAnswer(BaseModel):
    """A job, as it is now."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "id": "job_0123456789abcdef01234567", "object": "job", "kind": "picture", "state": "running",
                    "created": 1790000000, "progress": {"step": 4, "steps": 25, "done": 0.16, "seconds_left": 3.2},
                },
                {
                    "id": "job_89abcdef0123456789abcdef", "object": "job", "kind": "segmentation", "state": "done",
                    "created": 1790000000, "segmentation": {
                        "width": 128, "height": 128, "subjects": [{
                            "name": "mara", "present": True, "confidence": 0.98, "share": 0.21,
                            "mask": "/v1/jobs/job_89abcdef0123456789abcdef/masks/1",
                            "layer": "/v1/jobs/job_89abcdef0123456789abcdef/layers/1",
                        }],
                        "background": "/v1/jobs/job_89abcdef0123456789abcdef/layers/0",
                        "record": "/v1/jobs/job_89abcdef0123456789abcdef/record",
                    },
                },
            ]
        }
    )  # fmt: skip

    id: str
    object: Literal["job"] = "job"
    kind: str
    state: Literal["queued", "running", "done", "failed", "cancelled"]
    created: float
    """Seconds since 1970, as are all times."""
    started: float | None = None
    finished: float | None = None
    expires: float | None = None
    """When its results go; null while it has not ended."""
    progress: dict[str, Any] | None = None
    """While it runs: picture, pictures, step, steps, done (0…1) and seconds_left. Of a segmentation, steps are looks at
    the picture."""
    pictures: list[dict[str, Any]] = []
    """When it is done: where each can be fetched, its seed and size."""
    segmentation: dict[str, Any] | None = None
    """Of a job of `/v1/segment` that is done: its subjects, and where masks, layers, overlay and record can be
    fetched."""
    warnings: list[str] = []
    error: dict[str, Any] | None = None


class UploadAnswer(BaseModel):
    """A picture that was sent."""

    id: str
    object: Literal["upload"] = "upload"
    width: int
    height: int
    bytes: int
    created: float
    expires: float


class ErrorAnswer(BaseModel):
    """Why a request was refused."""

    error: dict[str, Any]
