"""Captions from text files beside pictures, and from tables."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from anystory.data.build.candidates import Rejection
from anystory.data.build.sources.names import NameIndex, fold

__all__ = ["Captions", "is_text"]

_BESIDE = (".txt", ".caption")
"""Endings of text files beside a picture; the first has priority."""

_TABLES = ("captions.csv", "captions.txt")


def is_text(file: PurePosixPath) -> bool:
    """Whether a file is named like a caption or a table of captions."""
    return file.suffix.lower() in _BESIDE or fold(file.name) in _TABLES


class _Texts:
    """The text files of a folder with one ending, by the name that they caption."""

    def __init__(self, files: Sequence[Path]) -> None:
        self.files = {path.stem: path.name for path in files}
        self.names = NameIndex(self.files)


class _Table:
    """Captions by file, relative to the table's folder; of two rows for a file the last one."""

    def __init__(self, pairs: Sequence[tuple[str, str]]) -> None:
        self.rows = dict(pairs)
        self.names = NameIndex(self.rows)
        self.doubled = sorted(name for name, count in Counter(name for name, _ in pairs).items() if count > 1)
        self.used: set[str] = set()


class _Folder(NamedTuple):
    texts: tuple[_Texts, ...]
    """One for each ending of `_BESIDE`."""
    tables: dict[str, _Table]
    """By their files' names."""
    others: frozenset[str]
    """Names, with and without endings, of all other files."""


class Captions:
    """Captions of a folder's pictures and videos.

    In this order: `party.jpg.txt`, `party.txt` or `party.caption` beside `party.jpg`; `captions.csv` (columns `file`
    and `caption`) or `captions.txt` (a line is a file's name, a tab, the caption) in the same folder; the same in the
    folders above, up to the source's. Names may differ in case, in the coding of accents and in slashes, unless another
    file has exactly that name.

    Args:
        folder: The source's.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._folders: dict[PurePosixPath, _Folder] = {}
        self._used: set[PurePosixPath] = set()

    def of(self, file: PurePosixPath) -> str:
        """The caption of a file, relative to the folder; empty where there is none.

        Raises:
            ValueError: a table or text file that cannot be read.
        """
        beside = [file.with_name(name) for name in self._beside(file)]
        rows = [self._row(parent, file) for parent in file.parents]
        # All of them belong to the file, also those without priority.
        self._used.update(beside)
        if beside:
            return " ".join(_read(self._folder / beside[0]).split())
        return next((caption for caption in rows if caption), "")

    def lost(self, files: list[PurePosixPath]) -> Iterator[Rejection]:
        """The captions of no file, after `of` was called for all files.

        Args:
            files: All texts of the source; see `is_text`.
        """
        for file in files:
            if file in self._used:
                continue
            table = self._at(file.parent).tables.get(file.name)
            if table is None:
                detail = f"{file} is the caption of no file: expected a picture or video of the same name beside it"
                yield Rejection(reason="lost_caption", what=str(file), detail=detail, unit="file")
                continue
            lost = (name for name in table.rows if name not in table.used)
            details = [f"{file} captions {name!r}, and there is no such file" for name in lost]
            details += [f"{file} captions {name!r} more than once: its last row is taken" for name in table.doubled]
            for detail in details:
                yield Rejection(reason="lost_caption", what=str(file), detail=detail, unit="row")

    def _beside(self, file: PurePosixPath) -> Iterator[str]:
        folder = self._at(file.parent)
        for name in (file.name, file.stem):
            for texts in folder.texts:
                found = texts.names.find(name)
                if found is not None and (found == name or found not in folder.others):
                    yield texts.files[found]

    def _row(self, parent: PurePosixPath, file: PurePosixPath) -> str:
        """The caption of a file in the tables of a folder above it."""
        name = str(file.relative_to(parent))
        captions = []
        for table in self._at(parent).tables.values():
            row = table.names.find(name)
            if row is not None and (row == name or not self._is_another(parent / row, file)):
                table.used.add(row)
                captions.append(table.rows[row])
        return next((caption for caption in captions if caption), "")

    def _is_another(self, named: PurePosixPath, file: PurePosixPath) -> bool:
        """Whether there is a file of exactly this name, which is not `file` on a disk that ignores case."""
        path = self._folder / named
        return path.exists() and not path.samefile(self._folder / file)

    def _at(self, parent: PurePosixPath) -> _Folder:
        if parent not in self._folders:
            self._folders[parent] = self._scan(parent)
        return self._folders[parent]

    def _scan(self, parent: PurePosixPath) -> _Folder:
        files = [p for p in sorted((self._folder / parent).iterdir()) if not p.name.startswith(".") and p.is_file()]
        tables = [path for path in files if fold(path.name) in _TABLES]
        texts = [path for path in files if path not in tables and path.suffix.lower() in _BESIDE]
        others = [path for path in files if path.suffix.lower() not in _BESIDE]
        return _Folder(
            tuple(_Texts([path for path in texts if path.suffix.lower() == ending]) for ending in _BESIDE),
            {path.name: _Table(_parse(path)) for path in tables},
            frozenset(name for path in others for name in (path.name, path.stem)),
        )


def _parse(path: Path) -> list[tuple[str, str]]:
    text = _read(path)
    if path.suffix.lower() == ".csv":
        rows = csv.DictReader(io.StringIO(text))
        try:
            if not {"file", "caption"} <= set(rows.fieldnames or ()):
                raise ValueError(f'{path}: the first line must name the columns "file" and "caption"')
            pairs = [(row["file"] or "", row["caption"] or "") for row in rows]
        except csv.Error as error:
            raise ValueError(f"{path} is not a readable table ({error})") from None
    else:
        # Not splitlines: a caption may hold U+2028 and its like.
        lines = [line for line in text.split("\n") if line.strip()]
        wrong = next((line for line in lines if "\t" not in line), None)
        if wrong is not None:
            raise ValueError(f"{path}: a line is a file's name, a tab and the caption, got {wrong[:60]!r}")
        pairs = [(name, caption) for name, caption in (line.split("\t", 1) for line in lines)]
    return [(name.strip().removeprefix("./"), " ".join(caption.split())) for name, caption in pairs]


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise ValueError(f"{path} is not UTF-8 text. Save it as UTF-8") from None
