"""The server's folder on disk.

DATA/server.sqlite      jobs and uploads
DATA/uploads/ID.png     pictures that clients sent
DATA/jobs/ID/           a job's folder: given/ what it is drawn from, and what the worker writes
DATA/cast/OWNER/        each key's library of characters
DATA/workers/           a lock for each worker that runs
"""

from __future__ import annotations

import os
import shutil
from contextlib import suppress
from pathlib import Path

from anystory.files import flush_file, flush_folder

__all__ = ["DataFolder"]


class DataFolder:
    """Where things lie.

    Args:
        root: The folder; made if missing.
    """

    def __init__(self, root: Path) -> None:
        self.root = root.absolute()
        for name in ("uploads", "jobs", "cast", "workers"):
            (self.root / name).mkdir(parents=True, exist_ok=True)

    @property
    def database(self) -> Path:
        """The SQLite file."""
        return self.root / "server.sqlite"

    @property
    def uploads(self) -> Path:
        """The folder of uploads."""
        return self.root / "uploads"

    def cast(self, owner: str) -> Path:
        """An owner's library of characters."""
        return self.root / "cast" / owner

    @property
    def worker_locks(self) -> Path:
        """The folder of the workers' locks."""
        return self.root / "workers"

    def job(self, job: str) -> Path:
        """A job's folder."""
        return self.root / "jobs" / job

    def give(self, job: str, source: Path, name: str) -> str:
        """Keep a file for a job, whatever becomes of the original: a hard link, or a copy.

        Returns:
            Its path, relative to the job's folder.
        """
        given = self.job(job) / "given"
        given.mkdir(parents=True, exist_ok=True)
        target = given / name
        try:
            os.link(source, target)
        except FileExistsError:
            pass  # the same file twice in one request
        except OSError:
            shutil.copyfile(source, target)
            flush_file(target)
        for folder in (given, given.parent, given.parent.parent):
            flush_folder(folder)
        return f"given/{name}"

    def drop_job(self, job: str) -> None:
        """Remove a job's folder."""
        shutil.rmtree(self.job(job), ignore_errors=True)

    def sweep_jobs(self, known: set[str]) -> None:
        """Remove the folders of jobs that were not accepted, or that are forgotten."""
        for folder in (self.root / "jobs").iterdir():
            if folder.name not in known:
                shutil.rmtree(folder, ignore_errors=True)

    def sweep_uploads(self, known: set[str]) -> None:
        """Remove the files of uploads that are not kept."""
        for path in self.uploads.iterdir():
            if path.stem not in known:
                with suppress(OSError):
                    path.unlink()
