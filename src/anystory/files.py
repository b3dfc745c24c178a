"""Write files and folders whole or not at all, and hash them."""

from __future__ import annotations

import hashlib
import os
import re
import secrets
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from errno import EEXIST, EINVAL, EISDIR, ENOTDIR
from pathlib import Path

__all__ = [
    "atomic_folder",
    "atomic_write",
    "check_new_file",
    "check_new_folder",
    "flush_file",
    "flush_folder",
    "fresh_parents",
    "move_together",
    "only_writer",
    "recover_folder",
    "sha256_file",
    "short_name",
    "without_surrogates",
]

_CHUNK = 1 << 22
_LONGEST_NAME = 255
"""Bytes that a file's name may have on every common system."""
_LONGEST_SUFFIX = 32
"""Characters of a suffix that may tell a saver its format."""


@contextmanager
def atomic_write(path: str | os.PathLike[str], *, overwrite: bool = True) -> Iterator[Path]:
    """Yield a temporary path beside `path`; what is written there becomes `path` when the block succeeds.

        with atomic_write(folder / "model.safetensors") as temporary:
            save_file(tensors, temporary)

    The temporary file has the same suffix (so that savers can tell the format) and lies in the same folder
    (so that the rename is atomic). It is flushed to disk before the rename and removed when the block raises. Its
    permissions are those of the system's umask, however it was written.

    Args:
        path: the file to write. Missing parent folders are made.
        overwrite: when false, an existing `path` is left alone and FileExistsError is raised, even if it
            appeared while the block ran.

    Raises:
        FileExistsError: `path` exists and `overwrite` is false.
        NotADirectoryError, IsADirectoryError: a file is where its folder should be, or a folder where it should be.
        OSError: `path` is a device or a pipe; or it cannot be written: the error names `path`, and nothing is left.
        FileNotFoundError: the block wrote nothing to the temporary path.
    """
    path = Path(path)
    check_new_file(path, overwrite=overwrite)
    with fresh_parents(path):
        ending = path.suffix if len(path.suffix) <= _LONGEST_SUFFIX else ""
        temporary = path.with_name(short_name(f".{path.stem}", f".{secrets.token_hex(4)}{ending}"))
        try:
            with _errors_about(path, temporary):
                temporary.touch()
                mode = temporary.stat().st_mode
                temporary.unlink()
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


def check_new_file(path: Path, *, overwrite: bool) -> None:
    """Refuse to write over anything but a file, or, without `overwrite`, over anything.

    Raises:
        FileExistsError, IsADirectoryError, OSError: see `atomic_write`.
    """
    if not overwrite and os.path.lexists(path):  # even a dangling link
        raise FileExistsError(EEXIST, "exists already", str(path))
    if path.is_dir():
        raise IsADirectoryError(EISDIR, "is a folder, not a file", str(path))
    if path.exists() and not path.is_file():
        raise OSError(EINVAL, "is a device or a pipe, not a file that can be written whole", str(path))


def check_new_folder(path: Path) -> None:
    """Refuse a folder (`--out`) that has something in it.

    Raises:
        ValueError: it has, or a file is in its place.
    """
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise ValueError(f"--out {path} exists already and is not empty: name another folder")


@contextmanager
def fresh_parents(path: Path) -> Iterator[None]:
    """Make the parent folders of `path`; if the block raises, remove those that were made and are empty.

    Raises:
        NotADirectoryError: one of them is a file, or a link to nothing.
    """
    missing, parent = [], path.parent
    while not parent.exists() and not parent.is_symlink():
        missing.append(parent)
        parent = parent.parent
    if not parent.is_dir():
        what = "is a link to nothing" if parent.is_symlink() else "is a file"
        raise NotADirectoryError(ENOTDIR, f"{what}, not a folder", str(parent))
    for folder in reversed(missing):
        folder.mkdir(exist_ok=True)
    try:
        yield
    except BaseException:
        for folder in missing:
            with suppress(OSError):
                folder.rmdir()
        raise


def without_surrogates(text: str) -> str:
    """A path's text with `_` for each byte that is not UTF-8, so that it can be written or drawn."""
    return re.sub("[\ud800-\udfff]", "_", text)


def short_name(start: str, end: str) -> str:
    """`start` and `end` as one file name, with `start` cut to fit."""
    room = _LONGEST_NAME - len(os.fsencode(end))
    return os.fsencode(start)[: max(room, 0)].decode("utf-8", "ignore") + end


@contextmanager
def _errors_about(path: Path, temporary: Path) -> Iterator[None]:
    """Make errors of writing name the requested file: they may name the temporary one, or none (a full disk)."""
    from safetensors import SafetensorError

    try:
        yield
    except SafetensorError as error:
        if (number := re.search(r"os error (\d+)", str(error))) is None:
            raise
        raise OSError(int(number[1]), os.strerror(int(number[1])), str(path)) from error
    except OSError as error:
        inside = error.filename is None or str(error.filename).startswith(str(temporary))
        if error.errno is None or not inside:
            raise
        raise OSError(error.errno, error.strerror, str(path)) from error


@contextmanager
def atomic_folder(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield an empty folder beside `path`; it replaces `path` when the block succeeds.

    A folder cannot be replaced in one step. A program that is killed between the two renames leaves the older folder
    as `.NAME.old`, which `recover_folder` puts back, so nothing is lost at any moment.

    Args:
        path: the folder to write, or a link to it. Missing parent folders are made.

    Raises:
        NotADirectoryError: `path` or one of its parents is a file.
        OSError: it cannot be written: the error names `path`, and nothing is left.
    """
    path = Path(path)
    if path.is_symlink():
        path = path.resolve()  # replace the target, not the link
    if path.exists() and not path.is_dir():
        raise NotADirectoryError(ENOTDIR, "is a file, not a folder", str(path))
    recover_folder(path)
    fresh, old = _sibling(path, "tmp"), _sibling(path, "old")
    shutil.rmtree(fresh, ignore_errors=True)
    with fresh_parents(path):
        try:
            with _errors_about(path, fresh):
                fresh.mkdir()
                mode = fresh.stat().st_mode & 0o666
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
    """Finish the work of a killed `atomic_folder`; readers of such folders call it first."""
    path = Path(path)
    old = _sibling(path, "old")
    if old.exists() and not path.exists():
        old.rename(path)
    shutil.rmtree(old, ignore_errors=True)


def _sibling(path: Path, end: str) -> Path:
    return path.with_name(short_name(f".{path.name}", f".{end}"))


@contextmanager
def only_writer(folder: Path, name: str = "", *, wait: float = 0) -> Iterator[None]:
    """Hold a folder's lock while the block runs, so that two programs cannot write the same files at once.

    The lock is the empty file `.NAME.lock` or `.lock` in the folder; it ends with the program, however that ends. A
    folder made for it is removed if the block raises and has written nothing.

    Args:
        folder: the folder.
        name: of the lock.
        wait: seconds to wait for another program. With any the lock's file stays: another may be waiting for it.

    Raises:
        ValueError: another program holds it.
        NotADirectoryError: see `fresh_parents`.
    """
    from filelock import FileLock, Timeout

    path = folder / (f".{name}.lock" if name else ".lock")
    with fresh_parents(path):
        lock = FileLock(path, timeout=wait, thread_local=False)
        try:
            lock.acquire()
        except Timeout:
            raise ValueError(
                f"another program is writing into {folder}: wait until it has ended, or name another folder"
            ) from None
        try:
            yield
        finally:
            with suppress(OSError):  # Windows cannot remove an open file: it stays, empty
                if not wait:
                    path.unlink()
            lock.release()


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


def move_together(files: Sequence[tuple[Path, Path]]) -> None:
    """Rename finished files, all or none: (from, to) on one file system, in order; nothing is overwritten.

    Raises:
        FileExistsError: one of the targets exists.
    """
    moved: list[Path] = []
    try:
        for source, target in files:
            _move_without_overwriting(source, target)
            moved.append(target)
    except BaseException:
        for target in moved:
            target.unlink(missing_ok=True)
        raise


def _move_without_overwriting(source: Path, target: Path) -> None:
    """Unlike a rename, a hard link fails when the target exists: no gap between the check and the act."""
    try:
        os.link(source, target)
    except FileExistsError:
        raise FileExistsError(EEXIST, "exists already", str(target)) from None
    except OSError:  # a file system without hard links: the check is the best there is
        if os.path.lexists(target):
            raise FileExistsError(EEXIST, "exists already", str(target)) from None
        os.replace(source, target)


def sha256_file(path: str | os.PathLike[str]) -> str:
    """SHA-256 of a file's content, in hexadecimal; read in pieces."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()
