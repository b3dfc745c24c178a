"""The server's SQLite file: one connection, every change in a transaction that is on the disk when it ends."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from threading import RLock
from typing import Any

__all__ = ["Database"]

_VERSION = 1

_TABLES = """
CREATE TABLE jobs (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    owner TEXT NOT NULL,
    kind TEXT NOT NULL,
    work TEXT NOT NULL,
    alike TEXT,
    cost INTEGER NOT NULL,
    state TEXT NOT NULL,
    cancel INTEGER NOT NULL DEFAULT 0,
    crashes INTEGER NOT NULL DEFAULT 0,
    created REAL NOT NULL,
    started REAL,
    finished REAL,
    result TEXT,
    error TEXT,
    repeat_key TEXT,
    digest TEXT
);
CREATE UNIQUE INDEX jobs_repeat ON jobs (owner, repeat_key) WHERE repeat_key IS NOT NULL;
CREATE INDEX jobs_state ON jobs (state, owner, number);
CREATE TABLE uploads (
    id TEXT PRIMARY KEY,
    owner TEXT NOT NULL,
    ending TEXT NOT NULL,
    width INTEGER NOT NULL,
    height INTEGER NOT NULL,
    bytes INTEGER NOT NULL,
    created REAL NOT NULL
);
"""


class Database:
    """SQLite in WAL mode; any thread may use it, one at a time.

    Args:
        path: The file; made if missing.

    Raises:
        ValueError: a file of a later version, or none of ours.
    """

    def __init__(self, path: Path) -> None:
        self._lock = RLock()
        self._connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        self._connection.row_factory = sqlite3.Row
        try:
            # FULL: what was committed survives a power cut, not only the end of the program.
            for setting in ("journal_mode = WAL", "synchronous = FULL", "busy_timeout = 5000"):
                self.execute(f"PRAGMA {setting}")
            self._make_tables(path)
        except sqlite3.DatabaseError as error:
            raise ValueError(f"{path} cannot be read as a server's database ({error}): name another folder") from None

    def _make_tables(self, path: Path) -> None:
        [[version]] = self.execute("PRAGMA user_version")
        if version > _VERSION:
            raise ValueError(f"{path} was written by a later version of anystory: use that one, or another folder")
        if version == 0:
            with self.transaction():
                for statement in _TABLES.strip().split(";\n"):
                    self.execute(statement)
                self.execute(f"PRAGMA user_version = {_VERSION}")

    def execute(self, sql: str, values: Sequence[Any] = ()) -> list[Any]:
        """Run a statement, and return its rows (`sqlite3.Row`)."""
        with self._lock:
            return self._connection.execute(sql, values).fetchall()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All that the block changes is kept together, or nothing of it if the block raises.

        A transaction inside another one is a part of it.
        """
        with self._lock:
            if self._connection.in_transaction:
                yield
                return
            self.execute("BEGIN IMMEDIATE")
            try:
                yield
            except BaseException:
                self.execute("ROLLBACK")
                raise
            self.execute("COMMIT")

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._connection.close()
