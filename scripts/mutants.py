#!/usr/bin/env python3
"""Does a test fail when the code is broken on purpose? Each mutant in mutants.yaml is one change that must not pass.

    python scripts/mutants.py                    # all of them, about four minutes of one quiet core
    python scripts/mutants.py router encoder     # those whose name holds one of these words

The package is copied into a temporary folder and mutated there; your files stay as they are. A first process runs the
named tests on the copy without a change: all must pass, and the modules that it has imported are imported here once.
Each mutant then runs in a fork of this process, until its first test fails. Exit code 1: something survived.
"""

from __future__ import annotations

import argparse
import compileall
import dataclasses
import importlib
import importlib.util
import json
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parent.parent
MUTANTS = Path(__file__).with_suffix(".yaml")
LONGEST = 300.0
"""Seconds; a mutant that needs more (an endless loop) counts as killed."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Mutant:
    """One change that the tests must notice."""

    name: str
    file: str
    """Inside the package."""
    old: str
    """Must be in the file exactly once."""
    new: str
    tests: tuple[str, ...]
    """Files, or single tests, inside `tests/`: what should fail."""

    def applied(self, source: str) -> str:
        """The file's text with the change.

        Raises:
            ValueError: `old` is not there exactly once; the message names the mutant.
        """
        found = source.count(self.old)
        if found != 1:
            raise ValueError(f"mutant {self.name!r}: {self.old!r} is {found} times in {self.file}, expected once")
        return source.replace(self.old, self.new)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Verdict:
    """What became of a mutant."""

    outcome: str
    """`killed`, `survived`, or `broken`: the mutant cannot be imported, which proves nothing."""
    by: str
    """The test that failed, or how it ended otherwise."""
    seconds: float


def read_mutants(path: Path = MUTANTS) -> list[Mutant]:
    """The mutants of a YAML file: a list of groups, each with `file`, `tests` and `mutants`.

    Raises:
        ValueError: a name that occurs twice.
    """
    groups: list[dict[str, Any]] = yaml.safe_load(path.read_text(encoding="utf-8"))
    entries = [
        {"file": group["file"], "tests": group["tests"]} | entry for group in groups for entry in group["mutants"]
    ]
    mutants = [Mutant(**(entry | {"tests": tuple(entry["tests"])})) for entry in entries]
    names = [mutant.name for mutant in mutants]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(f"{path} has two mutants of the name {', '.join(twice)}")
    return mutants


def in_fork(work: Callable[[], Any], longest: float) -> Any:
    """What `work` returns (JSON) in a forked process; None if it took too long or ended without an answer."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.setpgid(0, 0)
        os.close(reading)
        try:
            answer = work()
        except BaseException as error:
            answer = {"code": f"{type(error).__name__}: {error}", "failed": None}
        with os.fdopen(writing, "wb") as pipe:
            pipe.write(json.dumps(answer).encode())
        os._exit(0)
    os.setpgid(child, child)  # here as well, whoever comes first: what the fork starts ends with it
    os.close(writing)
    before = signal.signal(signal.SIGALRM, lambda *_: os.killpg(child, signal.SIGKILL))
    signal.setitimer(signal.ITIMER_REAL, longest)
    try:
        with os.fdopen(reading, "rb") as pipe:
            answer = pipe.read()
        os.waitpid(child, 0)
    except BaseException:
        os.killpg(child, signal.SIGKILL)
        raise
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    return json.loads(answer) if answer else None


def run_tests(source: Path, tests: Path, chosen: Sequence[str], stop_at_first: bool) -> dict[str, Any]:
    """Run tests with the package from `source`; call it in a process that has not imported the package.

    Returns:
        `code`, pytest's exit code; `failed`, the first test that failed, or None; `modules`, all that was imported.
    """
    import pytest

    sys.path.insert(0, str(source))
    sys.dont_write_bytecode = True  # a mutated file must not be remembered
    os.environ |= {"PYTHONPATH": str(source), "PYTHONDONTWRITEBYTECODE": "1"}
    failed: list[str] = []

    class Watch:
        def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
            if report.failed:
                failed.append(report.nodeid.removeprefix("tests/"))

    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
    os.dup2(null, 2)
    places = [str(tests / place) for place in chosen]
    quiet = ["-q", "-p", "no:cacheprovider", f"--rootdir={tests.parent}"]
    code = pytest.main([*places, *quiet, *(["-x"] if stop_at_first else [])], plugins=[Watch()])
    return {"code": int(code), "failed": failed[0] if failed else None, "modules": sorted(sys.modules)}


def judge(mutant: Mutant, source: Path, package: str, tests: Path) -> Verdict:
    """Run a mutant's tests on the mutated copy, and put the copy back."""
    file = source / package / mutant.file
    before, began = file.read_text(encoding="utf-8"), time.monotonic()
    Path(importlib.util.cache_from_source(str(file))).unlink(missing_ok=True)
    file.write_text(mutant.applied(before), encoding="utf-8")
    try:
        answer = in_fork(lambda: run_tests(source, tests, mutant.tests, stop_at_first=True), LONGEST)
    finally:
        file.write_text(before, encoding="utf-8")
    seconds = time.monotonic() - began
    if answer is None:
        return Verdict(outcome="killed", by=f"ended or took longer than {LONGEST:.0f} s", seconds=seconds)
    if answer["failed"]:
        return Verdict(outcome="killed", by=answer["failed"], seconds=seconds)
    if answer["code"] == 0:
        return Verdict(outcome="survived", by="", seconds=seconds)
    return Verdict(outcome="broken", by=f"pytest ended with {answer['code']}", seconds=seconds)


def run(mutants: Sequence[Mutant], root: Path, package: str) -> dict[str, Verdict]:
    """The verdict on every mutant, by name, told as it comes.

    Raises:
        ValueError: a mutant does not fit the code, or a test fails without any.
    """
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch comes: a fork may not use its parent's threads
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    for mutant in mutants:  # before anything runs
        mutant.applied((root / "src" / package / mutant.file).read_text(encoding="utf-8"))
    tests = root / "tests"
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder:
        source = Path(folder) / "src"
        shutil.copytree(root / "src", source, ignore=shutil.ignore_patterns("__pycache__"))
        compileall.compile_dir(source, quiet=2)
        chosen = list(dict.fromkeys(place for mutant in mutants for place in mutant.tests))
        say(f"{len(mutants)} mutants; first the tests of {len(chosen)} places without any of them")
        answer = in_fork(lambda: run_tests(source, tests, chosen, stop_at_first=True), 4 * LONGEST)
        if answer is None or answer["code"]:
            found = "they did not end" if answer is None else answer["failed"] or f"pytest ended with {answer['code']}"
            raise ValueError(f"the tests must pass before something is broken on purpose: {found}")
        warm(answer["modules"], package)
        verdicts: dict[str, Verdict] = {}
        began = time.monotonic()
        for number, mutant in enumerate(mutants, start=1):
            verdict = verdicts[mutant.name] = judge(mutant, source, package, tests)
            left = (time.monotonic() - began) / number * (len(mutants) - number) / 60
            told = f"{verdict.outcome} {verdict.seconds:5.1f} s  {mutant.name}  {verdict.by}"
            say(f"[{number}/{len(mutants)}, {left:4.1f} min left] {told}")
    return verdicts


def warm(modules: Sequence[str], package: str) -> None:
    """Import what the tests import, but for the package itself and the tests: each fork then starts with it."""
    for name in modules:
        if name.partition(".")[0] in (package, "tests", "conftest", "__main__"):
            continue
        try:
            importlib.import_module(name)
        except Exception:  # test modules, and what is made rather than imported
            continue


def say(line: str) -> None:
    print(line, flush=True)


def main(words: Sequence[str], root: Path = ROOT, package: str = "anystory", path: Path = MUTANTS) -> int:
    """Run the mutants whose names hold one of `words`, all if there are none; returns the exit code."""
    mutants = [m for m in read_mutants(path) if not words or any(word in m.name for word in words)]
    if not mutants:
        raise ValueError(f"no mutant's name holds {' or '.join(words)}")
    began = time.monotonic()
    verdicts = run(mutants, root, package)
    killed = sum(verdict.outcome == "killed" for verdict in verdicts.values())
    widest = max(map(len, verdicts))
    say("")
    for name, verdict in verdicts.items():
        say(f"{name:{widest}}  {verdict.outcome:8}  {verdict.by}")
    minutes, spent = (time.monotonic() - began) / 60, os.times()
    computing = sum(spent[:4]) / 60  # on a busy machine, what it would take alone
    share = f"{killed} of {len(mutants)} killed ({killed / len(mutants):.1%})"
    say(f"\n{share} in {minutes:.1f} min, {computing:.1f} of them computing")
    return 0 if killed == len(mutants) else 1


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("words", nargs="*", help="only mutants whose name holds one of these")
    try:
        sys.exit(main(parser.parse_args().words))
    except ValueError as error:
        sys.exit(f"mutants: {error}")
