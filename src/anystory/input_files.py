"""Read files that somebody else may have written: within bounds, or refused in a sentence that names the file."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pydantic import ValidationError

__all__ = [
    "MOST_PICTURE",
    "MOST_TEXT",
    "check_model_files",
    "damage_in",
    "damaged_files_named",
    "is_hollow",
    "parse_object",
    "read_bytes",
    "read_object",
    "read_text",
    "refuse_special",
    "why_invalid",
]

MOST_TEXT = 256 * 2**20
"""The largest text, configuration or vocabulary that is read, in bytes: more is a mistake or an attack."""

MOST_PICTURE = 2**30
"""The largest picture file, in bytes: `MAX_PIXELS` take fewer in any format, sparse and endless files more."""

_TEXTS = (".json", ".jsonl", ".txt", ".yaml", ".yml", ".model")
_ANEW = "download or copy it again"


def refuse_special(path: Path, label: str | None = None) -> None:
    """Refuse what would block or never end: a pipe, a device, a socket. A missing file passes.

    Raises:
        ValueError: it is one of these.
        IsADirectoryError: it is a folder.
    """
    try:
        mode = os.stat(path).st_mode
    except FileNotFoundError:
        return
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(21, "is a folder, not a file", str(path))
    if not stat.S_ISREG(mode):
        raise ValueError(f"{label or path} is a pipe or a device, not a file: save it as a file first")


def read_bytes(path: str | os.PathLike[str], most: int = MOST_TEXT, label: str | None = None) -> bytes:
    """Read a file.

    Args:
        path: the file.
        most: its largest size in bytes.
        label: what messages call it; its path by default.

    Raises:
        ValueError: a pipe or a device, or more than `most` bytes, sparse files and endless ones included.
        OSError: it is not there, or cannot be read.
    """
    path = Path(path)
    refuse_special(path, label)
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        data = file.read(most + 1) if size <= most else b""
    if size > most or len(data) > most:
        raise ValueError(f"{label or path} is larger than {most / 2**20:,.0f} MiB, which nothing of its kind is")
    return data


def read_text(path: str | os.PathLike[str], remedy: str = _ANEW) -> str:
    """Read a text in UTF-8.

    Args:
        path: the file.
        remedy: what to do about a damaged one.

    Raises:
        ValueError, OSError: as for `read_bytes`; or it is not UTF-8.
    """
    try:
        return read_bytes(path).decode("utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"{os.fspath(path)} is no text in UTF-8 ({error}): {remedy}") from None


def read_object(path: str | os.PathLike[str], remedy: str = _ANEW) -> dict[str, Any]:
    """Read the object {name: value} of a JSON file.

    Args:
        path: the file.
        remedy: what to do about a damaged one.

    Raises:
        ValueError, OSError: as for `read_text` and `parse_object`.
    """
    return parse_object(read_text(path, remedy), path, remedy)


def parse_object(text: str, path: str | os.PathLike[str], remedy: str = _ANEW) -> dict[str, Any]:
    """Parse a JSON object {name: value}.

    Args:
        text: the JSON.
        path: of its file, for messages.
        remedy: what to do about a damaged one.

    Raises:
        ValueError: it is not JSON, nested more deeply than Python reads, or not an object.
    """
    try:
        found = json.loads(text)
    except ValueError as error:
        raise ValueError(f"{os.fspath(path)} is no valid JSON ({error}): {remedy}") from None
    except RecursionError:
        raise ValueError(f"{os.fspath(path)} is nested too deeply: {remedy}") from None
    if not isinstance(found, dict):
        raise ValueError(f"{os.fspath(path)} must hold a JSON object, got {type(found).__name__}: {remedy}")
    return found


def check_model_files(folder: Path) -> list[Path]:
    """Refuse a folder with files that would block a reader for ever, or fill the memory.

    Returns:
        The files.

    Raises:
        ValueError: a pipe or a device, or a text larger than `MOST_TEXT`.
    """
    found = _files_of(folder)
    for path in found:
        refuse_special(path)
        if path.suffix in _TEXTS and path.is_file() and path.stat().st_size > MOST_TEXT:
            raise ValueError(f"{path} is larger than {MOST_TEXT / 2**20:,.0f} MiB, which nothing of its kind is")
    return found


def is_hollow(path: Path) -> bool:
    """Whether most of a large file was never written: a download that broke off, or a sparse file."""
    found = path.stat()
    blocks = getattr(found, "st_blocks", None)  # of 512 bytes; Windows does not tell
    return blocks is not None and found.st_size > 2**26 and blocks * 512 < found.st_size // 2


def damage_in(folder: Path) -> Iterator[str]:
    """A sentence for each damaged file of a model's folder, found without reading weights."""
    for path in _files_of(folder):
        yield from _damage(path)


def _damage(path: Path) -> list[str]:
    try:
        if path.suffix == ".safetensors":
            refuse_special(path)
            return list(_bad_header(path))
        if path.suffix == ".json":
            found = read_object(path)
            return list(_bad_index(path, found)) if ".safetensors.index" in path.name else []
    except (ValueError, OSError) as error:
        return [str(error)]
    return []


@contextmanager
def damaged_files_named(*folders: str | os.PathLike[str]) -> Iterator[None]:
    """Name the damaged file when a library fails to read model folders; its own errors rarely do.

    Names that are not local folders, such as hub ids, are skipped.

    Raises:
        ValueError: instead of the library's error: the damaged file and what is wrong with it; or, if all files look
            whole, the folder and what the library said.
        MemoryError, ImportError: as they are; and so is an error for want of memory or of a GPU.
    """
    here = [Path(folder) for folder in folders if os.path.isdir(folder)]
    for folder in here:
        for path in check_model_files(folder):
            if path.suffix == ".safetensors" and path.is_file() and is_hollow(path):
                raise ValueError(f"{path}: most of its {path.stat().st_size:,} bytes were never written: {_ANEW}")
    try:
        yield
    except Exception as error:  # each library fails in a way of its own: KeyError, TypeError, SafetensorError, …
        for folder in here:
            if wrong := next(damage_in(folder), None):
                raise ValueError(wrong) from error
        if (
            isinstance(error, (ValueError, OSError, MemoryError, ImportError))
            or "allocate" in str(error)
            or "out of memory" in str(error)
            or "No GPU found" in str(error)
        ):
            raise
        said = (str(error).strip() or type(error).__name__).splitlines()[0]
        places = ", ".join(map(str, here)) or ", ".join(map(str, folders))
        raise ValueError(
            f"{places} cannot be loaded ({type(error).__name__}: {said}): compare it with where it comes from, or"
            " get it again"
        ) from error


def _files_of(folder: Path) -> list[Path]:
    """The files of a model's folder and of its parts' folders; no deeper, in case a wrong name means a whole disk."""
    found = (*folder.glob("*"), *folder.glob("*/*"))
    return sorted(path for path in found if not path.name.startswith(".") and not path.is_dir())


def _bad_header(path: Path) -> Iterator[str]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy"):
            pass
    except (SafetensorError, OSError) as error:
        yield f"{path} cannot be read as safetensors ({error}): {_ANEW}"


def _bad_index(path: Path, index: dict[str, Any]) -> Iterator[str]:
    shards = index.get("weight_map")
    if not isinstance(shards, dict) or not all(isinstance(name, str) for name in shards.values()):
        yield f"{path} has no weight_map of names of files: {_ANEW}"
        return
    for name in sorted(set(shards.values())):
        if Path(name).name != name or not (path.parent / name).is_file():
            yield f"{path} names {name!r}, which is not beside it: {_ANEW}"


def why_invalid(error: ValidationError) -> str:
    """Pydantic's findings as one sentence: `subjects.0.references: Field required; key: …`."""
    found = []
    for problem in error.errors():
        where = ".".join(map(str, problem["loc"]))
        text = problem["msg"].removeprefix("Value error, ")
        found.append(f"{where}: {text}" if where else text)
    return "; ".join(found)
