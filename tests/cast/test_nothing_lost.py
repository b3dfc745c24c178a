"""Killed at any file operation, a library holds what it held, or what it was to hold; two programs lose nothing."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

import pytest

from anystory.cast import Library
from anystory.files import sha256_file

OPERATIONS = ("rename", "replace", "link", "unlink", "rmdir", "mkdir")
"""Of `os`; each is a moment at which a program may end, as is each file that is written."""

KILLED = -signal.SIGKILL


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder in memory: hundreds of small files are flushed."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if os.access(memory, os.W_OK) else None) as name:
        yield Path(name)


def add(library: Library, photos: Path) -> None:
    library.add("Tom", [photos / "blue.png"], [photos / "blue-mask.png"], description="new")


def add_variant(library: Library, photos: Path) -> None:
    library.add_variant("Mara", "ball", [photos / "blue.png"], [photos / "blue-mask.png"])


def edit(library: Library, photos: Path) -> None:
    library.edit("Mara", new_name="Anna", add_photos=[photos / "green.png"], drop_photos=[1])


def remove_variant(library: Library, photos: Path) -> None:
    library.remove("Mara", "winter")


def remove(library: Library, photos: Path) -> None:
    library.remove("Mara")


def import_zip(library: Library, photos: Path) -> None:
    library.import_zip(library.folder.parent / "tom.zip")


CHANGES = (add, add_variant, edit, remove_variant, remove, import_zip)


def ready(place: Path, photos: Path) -> Path:
    """A library of Mara, with a variant; beside it `tom.zip`."""
    library = Library(place / "library")
    add(library, photos)
    library.export("Tom", place / "tom.zip")
    library.remove("Tom")
    library.add("Mara", [photos / "red.png"])
    library.add_variant("Mara", "winter", [photos / "plain.png"])
    return library.folder


def held(folder: Path) -> dict[str, Any]:
    """The characters of a library, each of whose files is whole."""
    shelf = Library(folder).read()
    assert shelf.damaged == ()
    for character in shelf.characters:
        for file in character.files.values():
            assert sha256_file(character.folder / file.file) == file.sha256
    return {character.name: (character.files, character.variants) for character in shelf.characters}


def tree(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*")}


def forked(work: Callable[[], object]) -> int:
    """Do something in a process of its own; how that ended: 0, 1 for an error, or the negative number of a signal."""
    process = os.fork()
    if process == 0:
        _do(work)
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


def _do(work: Callable[[], object]) -> NoReturn:
    code = 1
    try:
        work()
        code = 0
    finally:
        os._exit(code)


def dies_at(number: int, half: bool) -> None:
    """End this process at its file operation of a number, or as soon as half of what it then writes is written."""
    left = number

    def deadly(real: Callable[..., Any], written: bool = False) -> Callable[..., Any]:
        def call(*arguments: Any, **named: Any) -> Any:
            nonlocal left
            left -= 1
            if left == 0 and written and half:
                real(arguments[0], arguments[1][: len(arguments[1]) // 2], **named)
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return real(*arguments, **named)

        return call

    for name in OPERATIONS:
        setattr(os, name, deadly(getattr(os, name)))
    Path.write_bytes = deadly(Path.write_bytes, written=True)
    Path.write_text = deadly(Path.write_text, written=True)


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_a_change_that_is_killed_at_any_moment_happened_or_did_not(place, photos, change):
    start = ready(place, photos)
    before = held(start)
    clean = place / "clean"
    shutil.copytree(start, clean)
    change(Library(clean), photos)
    after, whole = held(clean), tree(clean)
    assert before != after
    ended, number, found = KILLED, 0, set()
    while ended == KILLED:
        number += 1
        copy = place / "copy"
        shutil.copytree(start, copy)
        ended = forked(lambda at=number, to=copy: (dies_at(at, half=True), change(Library(to), photos))[1])
        now = held(copy)
        assert now in (before, after), number
        found.add(now == after)
        if now == before:
            change(Library(copy), photos)  # once more, it happens
        else:
            library = Library(copy)
            library.add("Nobody", [photos / "red.png"])  # whoever writes next clears away what was left
            library.remove("Nobody")
            for name in now:
                library.edit(name, description="new")
        assert held(copy) == after
        assert tree(copy) - {".cast", ".cast/.lock"} == whole - {".cast", ".cast/.lock"}, number
        shutil.rmtree(copy)
    assert ended == 0
    assert number > 5
    assert found == {True, False}


def test_an_export_that_is_killed_leaves_no_half_zip(place, photos):
    library, ended, number = Library(ready(place, photos)), KILLED, 0
    while ended == KILLED:
        number += 1
        ended = forked(lambda at=number: (dies_at(at, half=True), library.export("Mara", place / "out" / "m.zip"))[1])
        if (place / "out" / "m.zip").exists():
            Library(place / "other").import_zip(place / "out" / "m.zip")
            break
    assert number >= 3
    assert held(library.folder).keys() == {"Mara"}


def test_programs_that_write_at_once_lose_nothing(place, photos):
    library = Library(ready(place, photos))

    def work(number: int) -> None:
        mine = Library(library.folder)
        mine.add(f"no {number}", [photos / "red.png"])
        mine.edit("Mara", add_aliases=[f"alias {number}"], add_photos=[photos / "green.png"])
        mine.add_variant("Mara", f"look {number}", [photos / "red.png"])
        mine.edit(f"no {number}", description="changed")

    processes = []
    for number in range(5):
        process = os.fork()
        if process == 0:
            _do(lambda number=number: work(number))
        processes.append(process)
    assert [os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) for process in processes] == [0] * 5
    held(library.folder)
    mara = library["Mara"]
    assert sorted(mara.aliases) == [f"alias {number}" for number in range(5)]
    assert sorted(look.name for look in mara.variants) == [*(f"look {number}" for number in range(5)), "winter"]
    assert len(mara.photos) == 6
    assert [library[f"no {number}"].description for number in range(5)] == ["changed"] * 5
    assert len({library[f"no {number}"].colour for number in range(5)}) == 5


def test_one_of_many_gets_a_name(place, photos):
    folder = place / "library"
    processes = []
    for _ in range(5):
        process = os.fork()
        if process == 0:
            _do(lambda: Library(folder).add("Mara", [photos / "red.png"]))
        processes.append(process)
    ended = [os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) for process in processes]
    assert sorted(ended) == [0, 1, 1, 1, 1]
    assert held(folder).keys() == {"Mara"}
    assert sorted(os.listdir(folder)) == [".cast", "mara"]


def test_a_reader_beside_a_writer_sees_whole_characters(place, photos):
    library = Library(ready(place, photos))
    writer = os.fork()
    if writer == 0:
        _do(lambda: [library.edit("Mara", description=f"number {number}") for number in range(25)])
    seen = set()
    while os.waitpid(writer, os.WNOHANG) == (0, 0):
        seen.add(library["Mara"].description)
    assert seen <= {"", *(f"number {number}" for number in range(25))}
    assert len(seen) > 1
    assert library["Mara"].description == "number 24"
