"""Killed at any statement of the database or any file operation, nothing that was accepted is lost or done twice."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import pytest

from anystory.serving.store.data_folder import DataFolder
from anystory.serving.store.database import Database
from anystory.serving.store.job import NewJob
from anystory.serving.store.jobs import JobStore
from anystory.serving.store.uploads import UploadStore

from ..conftest import png

KILLED = -signal.SIGKILL
OPERATIONS = ("link", "unlink", "rename", "replace", "mkdir", "rmdir")


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


def dies_at(number: int) -> None:
    """End this process before its statement or file operation of a number."""
    left = number

    def deadly(real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **named: Any) -> Any:
            nonlocal left
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return real(*arguments, **named)

        return call

    Database.execute = deadly(Database.execute)
    for name in OPERATIONS:
        setattr(os, name, deadly(getattr(os, name)))


def work_of_a_server(root: Path) -> None:
    """Accept two jobs with a file each, draw one, cancel the other; log what was promised and what was drawn."""
    data = DataFolder(root)
    database = Database(data.database)
    jobs, uploads = JobStore(database), UploadStore(database, data, 10**6)
    data.sweep_jobs(jobs.ids())
    data.sweep_uploads(uploads.ids())
    jobs.recover()
    for name in ("one", "two"):
        if jobs.repeated("ann", name, name) is None:
            upload = uploads.add("ann", png(), name)
            new = NewJob(owner="ann", kind="picture", work={"name": name}, repeat_key=name, digest=name)
            data.give(new.id, uploads.path(upload), "a.png")
            jobs.accept(new)
            log(root, f"accepted {name}")
    jobs.ask_cancel(jobs.accept(NewJob(owner="ann", kind="", work={}, repeat_key="two", digest="two")).id)
    while taken := jobs.take():
        [job] = taken
        assert (data.job(job.id) / "given" / "a.png").read_bytes() == png()
        result = data.job(job.id) / "picture"
        if not result.exists():  # as the worker finds out which pictures are drawn already
            result.touch()
            log(root, f"drawn {job.work['name']}")
        jobs.finish(job.id, {})
    database.close()


def log(root: Path, line: str) -> None:
    with (root / "log").open("a") as file:
        file.write(f"{line}\n")


# Each moment takes a tenth of a second: some of them here, all of them in the slow test.
@pytest.mark.parametrize(
    ("first", "step"), [(5, 11), pytest.param(1, 1, marks=pytest.mark.slow)], ids=["some moments", "all moments"]
)
def test_killed_at_any_moment_and_started_again(place, first, step):
    ended, number = KILLED, first - step
    while ended == KILLED:
        number += step
        root = place / str(number)
        ended = forked(lambda at=number, root=root: (root.mkdir(), dies_at(at), work_of_a_server(root)))
        promised = (root / "log").read_text().splitlines() if (root / "log").exists() else []
        if ended == KILLED and (root / "server.sqlite").exists():
            database = Database(root / "server.sqlite")
            kept = {f"accepted {row['repeat_key']}" for row in database.execute("SELECT repeat_key FROM jobs")}
            assert {line for line in promised if line.startswith("accepted")} <= kept, number
            database.close()
        assert forked(lambda root=root: work_of_a_server(root)) == 0, number
        check_end(root, number)
    assert ended == 0
    assert number > 60


def check_end(root: Path, number: int) -> None:
    """Every promise was kept, once, and nothing else is there."""
    lines = (root / "log").read_text().splitlines()
    assert [line for line in lines if line.startswith("drawn")] == ["drawn one"], number
    database = Database(root / "server.sqlite")
    jobs = JobStore(database)
    assert {job.work["name"]: job.state for job in jobs.of_owner("ann")} == {"one": "done", "two": "cancelled"}, number
    assert {path.name for path in (root / "jobs").iterdir()} == jobs.ids()
    assert {path.stem for path in (root / "uploads").iterdir()} == UploadStore(database, DataFolder(root), 1).ids()
    database.close()


def test_two_programs_take_each_job_once(place):
    data = DataFolder(place)
    database = Database(data.database)
    jobs = JobStore(database)
    for _ in range(40):
        jobs.accept(NewJob(owner="ann", kind="picture", work={}))
    database.close()

    def work() -> None:
        mine = Database(data.database)
        store = JobStore(mine)
        while taken := store.take():
            log(place, taken[0].id)
        mine.close()

    processes = []
    for _ in range(3):
        process = os.fork()
        if process == 0:
            _do(work)
        processes.append(process)
    assert [os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) for process in processes] == [0] * 3
    drawn = (place / "log").read_text().splitlines()
    assert len(drawn) == len(set(drawn)) == 40
