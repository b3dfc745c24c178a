"""Files: written so that nobody ever sees half of one, and told apart by their hash."""

from __future__ import annotations

import hashlib
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["atomic_folder", "atomic_write", "flush_file", "flush_folder", "recover_folder", "sha256_file"]

_CHUNK = 1 << 22


@contextmanager
def atomic_write(path: str | os.PathLike[str], *, overwrite: bool = True) -> Iterator[Path]:
    """Yield a temporary path beside `path`; what is written there becomes `path` when the block ends well.

        with atomic_write(folder / "model.safetensors") as temporary:
            save_file(tensors, temporary)

    The temporary file has the same suffix (so that savers can tell the format) and lies in the same folder
    (so that the rename is atomic). It is flushed to disk before the rename and removed when the block raises. Who may
    read the file is what the system's umask says, however it was written.

    Args:
        path: the file to write. Missing parent folders are made.
        overwrite: when false, an existing `path` is left alone and FileExistsError is raised, even if it
            appeared while the block ran.

    Raises:
        FileExistsError: `path` exists and `overwrite` is false.
        FileNotFoundError: the block wrote nothing to the temporary path.
    """
    path = Path(path)
    if not overwrite and path.exists():
        raise FileExistsError(f"{path} exists already")
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.stem}.{secrets.token_hex(4)}{path.suffix}")
    temporary.touch()
    mode = temporary.stat().st_mode
    temporary.unlink()
    try:
        yield temporary
        temporary.chmod(mode)  # some savers make files that only their owner may read
        flush_file(temporary)
        if overwrite:
            os.replace(temporary, path)
        else:
            _move_without_overwriting(temporary, path)
        flush_folder(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def atomic_folder(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield an empty folder beside `path`; it becomes `path`, in place of an older one, when the block ends well.

    A folder cannot be replaced in one step: a program that is killed between the two renames leaves the older one
    as `.NAME.old`, which `recover_folder` puts back. Nothing is lost at any moment.

    Args:
        path: the folder to write. Missing parent folders are made.
    """
    path = Path(path)
    recover_folder(path)
    fresh, old = _sibling(path, "tmp"), _sibling(path, "old")
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir(parents=True)
    mode = fresh.stat().st_mode & 0o666
    try:
        yield fresh
        for file in fresh.rglob("*"):
            if file.is_file():
                file.chmod(mode)  # see `atomic_write`
                flush_file(file)
        flush_folder(fresh)
        if path.exists():
            path.rename(old)
        fresh.rename(path)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
    flush_folder(path.parent)
    shutil.rmtree(old, ignore_errors=True)


def recover_folder(path: str | os.PathLike[str]) -> None:
    """Finish what a killed `atomic_folder` left undone; readers of such folders call it first."""
    path = Path(path)
    old = _sibling(path, "old")
    if old.exists() and not path.exists():
        old.rename(path)
    shutil.rmtree(old, ignore_errors=True)


def _sibling(path: Path, end: str) -> Path:
    return path.with_name(f".{path.name}.{end}")


def flush_file(path: Path) -> None:
    """Make a file's content survive a power cut."""
    with path.open("rb+") as file:
        os.fsync(file.fileno())


def flush_folder(folder: Path) -> None:
    """Make the rename itself survive a power cut, where the system can (Windows cannot open a folder)."""
    try:
        handle = os.open(folder, os.O_RDONLY)
    except OSError:
        return
    try:
        os.fsync(handle)
    except OSError:
        pass
    finally:
        os.close(handle)


def _move_without_overwriting(source: Path, target: Path) -> None:
    """Unlike a rename, a hard link fails when the target exists: no gap between the check and the act."""
    try:
        os.link(source, target)
    except FileExistsError:
        raise FileExistsError(f"{target} exists already") from None
    except OSError:  # a file system without hard links: the check is the best there is
        if target.exists():
            raise FileExistsError(f"{target} exists already") from None
        os.replace(source, target)


def sha256_file(path: str | os.PathLike[str]) -> str:
    """SHA-256 of a file's content, in hexadecimal; read in pieces."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()
