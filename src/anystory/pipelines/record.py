"""The record of a drawn picture: what is needed to draw it again, and to say what differs if it comes out otherwise.

No torch is imported here until versions are asked for.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, asdict, dataclass, fields
from importlib import metadata
from pathlib import Path
from typing import Any

from anystory.files import atomic_write, sha256_file

__all__ = [
    "FileRecord",
    "LoraRecord",
    "PhotoRecord",
    "PictureRecord",
    "SubjectRecord",
    "check_files",
    "differences",
    "environment",
    "keep_file",
    "load_record",
    "save_record",
    "weight_hashes",
]

FORMAT = "anystory-record/1"

_PACKAGES = (
    "anystory", "torch", "diffusers", "transformers", "tokenizers", "safetensors", "accelerate", "numpy", "pillow",
    "opencv-python-headless",
)  # fmt: skip
"""Packages whose version can change a picture."""

_MODEL_FILES = (".safetensors", ".json", ".txt")
"""Files of a model folder that can change a picture: weights, configurations, vocabularies."""


@dataclass(frozen=True, kw_only=True)
class FileRecord:
    """A file that went into a picture."""

    file: str
    """The copy, relative to the record's folder."""
    sha256: str
    original: str
    """Where it was when the picture was drawn."""


@dataclass(frozen=True, kw_only=True)
class LoraRecord:
    """A LoRA on the base; its hash stands among the weights."""

    file: str
    """Its path (absolute in a record); nothing is copied."""
    scale: float = 1.0


@dataclass(frozen=True, kw_only=True)
class PhotoRecord:
    """One of several photos of a subject."""

    image: FileRecord
    mask: FileRecord | None = None
    cutout: str = ""


@dataclass(frozen=True, kw_only=True)
class SubjectRecord:
    """A `Subject` as it was given; see there for the settings."""

    image: FileRecord
    mask: FileRecord | None = None
    name: str | None = None
    region: tuple[float, float, float, float] | None = None
    scale: float = 1.0
    reference_scale: float = 1.0
    scale_start: float = 0.0
    scale_end: float = 1.0
    reference_start: float = 0.0
    reference_end: float = 1.0
    segmenter: str = "auto"
    cutout: str = ""
    """How the subject was found in its picture."""
    more: tuple[PhotoRecord, ...] = ()
    """Further photos of the same subject."""

    @property
    def files(self) -> tuple[FileRecord, ...]:
        """Everything that was given for it."""
        given = [self.image, self.mask, *(file for photo in self.more for file in (photo.image, photo.mask))]
        return tuple(file for file in given if file is not None)


@dataclass(frozen=True, kw_only=True)
class PictureRecord:
    """One picture: what was asked for, with what, and what came out."""

    prompt: str
    negative_prompt: str | None
    seed: int
    steps: int
    guidance: float
    width: int
    height: int
    subjects: tuple[SubjectRecord, ...]
    model: str
    """An embedded model's name, a folder or single file (absolute), or a hub id."""
    adapter: str | None
    """A folder or hub id of an adapter that is not the model's own."""
    device: str
    dtype: str
    weights: dict[str, str]
    """SHA-256 of each file of model, adapter and whatever else was named."""
    environment: dict[str, str]
    """See `environment`."""
    picture: str
    """The PNG's name, beside the record."""
    picture_sha256: str
    """Of the PNG's bytes."""
    image: FileRecord | None = None
    """The picture that was drawn over, if any."""
    mask: FileRecord | None = None
    """White where it was."""
    strength: float | None = None
    # How the model was run; what each means stands in `cli.model_options`.
    config: str | None = None
    image_encoder: str | None = None
    variant: str | None = None
    scheduler: str | None = None
    karras: bool | None = None
    loras: tuple[LoraRecord, ...] = ()
    offload: str = "none"
    tiling: bool = False
    routing_sheet: str | None = None
    replay_of: str | None = None

    @property
    def files(self) -> tuple[FileRecord, ...]:
        """Everything that was given for the picture."""
        own = [file for file in (self.image, self.mask) if file is not None]
        return (*own, *(file for subject in self.subjects for file in subject.files))


def save_record(record: PictureRecord, path: Path) -> None:
    """Write a record as JSON; never over an existing file.

    Raises:
        FileExistsError: `path` exists.
    """
    text = json.dumps({"format": FORMAT, **asdict(record)}, indent=2, ensure_ascii=False)
    with atomic_write(path, overwrite=False) as temporary:
        temporary.write_text(text + "\n", encoding="utf-8")


def load_record(path: str | os.PathLike[str]) -> PictureRecord:
    """Read a record.

    Raises:
        ValueError: not JSON, not a record, or one of another format.
        FileNotFoundError: no such file.
    """
    try:
        data = json.loads(Path(path).read_text(encoding="utf-8"))
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ValueError(f"{path} is not a record: it is no JSON ({error}). Give the .json beside a picture") from None
    if not isinstance(data, dict) or data.pop("format", None) != FORMAT:
        raise ValueError(f"{path} is not a record of this version: expected a JSON object with format {FORMAT!r}")
    try:
        data["subjects"] = tuple(_subject(subject) for subject in data["subjects"])
        data["loras"] = tuple(_build(LoraRecord, lora) for lora in data.get("loras", ()))
        return _build(PictureRecord, _with_files(data))
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path} is damaged: {error}") from None


def _subject(data: dict[str, Any]) -> SubjectRecord:
    if data.get("region") is not None:
        data["region"] = tuple(data["region"])
    data["more"] = tuple(_build(PhotoRecord, _with_files(photo)) for photo in data.get("more", ()))
    return _build(SubjectRecord, _with_files(data))


def _with_files(data: dict[str, Any]) -> dict[str, Any]:
    files = {name: data[name] for name in ("image", "mask") if data.get(name) is not None}
    return data | {name: _build(FileRecord, file) for name, file in files.items()}


def _build(kind: Any, data: Mapping[str, Any]) -> Any:
    known = {field.name: field.default is MISSING for field in fields(kind)}
    if missing := [name for name, needed in known.items() if needed and name not in data]:
        raise ValueError(f"{', '.join(missing)} missing")
    if unknown := sorted(data.keys() - known.keys()):
        raise ValueError(f"unknown entries {', '.join(unknown)}")
    return kind(**data)


def keep_file(path: str | os.PathLike[str], folder: Path, base: Path) -> FileRecord:
    """Copy a file into `folder`, once per content, and return its record relative to `base`."""
    path = Path(path)
    digest = sha256_file(path)
    copy = folder / f"{path.stem}-{digest[:8]}{path.suffix}"
    if not copy.exists() or sha256_file(copy) != digest:
        with atomic_write(copy) as temporary:
            shutil.copyfile(path, temporary)
    return FileRecord(file=copy.relative_to(base).as_posix(), sha256=digest, original=str(path.resolve()))


def weight_hashes(places: Mapping[str, str | os.PathLike[str]]) -> dict[str, str]:
    """SHA-256 of single files, and of every weight, configuration and vocabulary file below model folders.

    Args:
        places: A name for each folder or file ("model", "adapter"), which begins its files' names in the result; a
            single file has this name and its own suffix, wherever it lies.
    """
    found = {}
    for name, place in places.items():
        if Path(place).is_file():
            found[f"{name}{Path(place).suffix}"] = sha256_file(place)
            continue
        for path in sorted(Path(place).rglob("*")):
            if path.suffix in _MODEL_FILES and path.is_file():
                found[f"{name}/{path.relative_to(place).as_posix()}"] = sha256_file(path)
    return found


def environment(device: str) -> dict[str, str]:
    """What besides the settings can change a picture: versions, processor, number of threads."""
    import torch

    found = {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "processor": _processor(),
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "threads": str(torch.get_num_threads()),
    }
    if torch.device(device).type == "cuda":
        found["gpu"] = torch.cuda.get_device_name(device)
        found["cuda"] = str(torch.version.cuda)
    return found | {package: _version(package) for package in _PACKAGES}


def differences(then: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    """One line for each entry that differs between two mappings."""
    return [
        f"{name}: {then.get(name, 'absent')} then, {now.get(name, 'absent')} now"
        for name in [*then, *(name for name in now if name not in then)]
        if then.get(name) != now.get(name)
    ]


def check_files(records: Sequence[FileRecord], folder: Path) -> list[str]:
    """One line for each file that is no longer what it was.

    Raises:
        ValueError: a file is gone.
    """
    lines = []
    for record in records:
        path = folder / record.file
        if not path.is_file():
            raise ValueError(f"{path} is missing: a record needs the files in {path.parent.name}/ beside it")
        if sha256_file(path) != record.sha256:
            lines.append(f"{record.file}: another content (it was sha256 {record.sha256[:12]}…)")
    return lines


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "absent"


def _processor() -> str:
    try:  # platform.processor() is empty or just "x86_64" on Linux
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
