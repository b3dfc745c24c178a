"""Processes of a test that depend on each other: where they meet, and how they end."""

from __future__ import annotations

import os
import random
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress

FIRST_EPHEMERAL = 32768
"""From here on Linux gives ports to whoever opens a connection, so that one found free may soon be taken."""
SECONDS = 560
"""How long the processes may take, all of them."""
GRACE = 20
"""Seconds in which the others of a failed process may end by themselves, and say why."""


def free_port() -> str:
    """A port of this machine that nobody listens on, and that the system gives to nobody by itself."""
    for port in random.SystemRandom().sample(range(20_000, FIRST_EPHEMERAL), 100):
        with socket.socket() as free:
            try:
                free.bind(("127.0.0.1", port))
            except OSError:
                continue
            return str(port)
    raise OSError("none of a hundred ports is free")


def run_together(commands: Sequence[Sequence[str]], environments: Sequence[Mapping[str, str]]) -> list[str]:
    """Run commands side by side, each with the environment of its place, to their good ends.

    Returns:
        What each printed.

    Raises:
        AssertionError: one failed, or they hang, with the last lines of each. A process that hangs adds where each of
            its threads stands.
    """
    with ExitStack() as open_files:
        logs = [open_files.enter_context(tempfile.TemporaryFile("w+", errors="replace")) for _ in commands]
        runs = [
            subprocess.Popen(
                words,
                env={**own, "PYTHONFAULTHANDLER": "1"},
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # a group of its own: a launcher's processes end with it
            )
            for words, own, log in zip(commands, environments, logs, strict=True)
        ]
        try:
            codes = _ends(runs)
        finally:
            for run in runs:
                _to_group(run, signal.SIGKILL)
        said = []
        for log in logs:
            log.seek(0)
            said.append(log.read())
    assert codes == [0] * len(runs), f"{codes}\n" + "\n\n".join(text[-9000:] for text in said)
    return said


def _ends(runs: Sequence[subprocess.Popen[bytes]]) -> list[int | str]:
    """Each process's exit code, or "hung": then it has printed its threads' stacks and is gone."""
    end = time.monotonic() + SECONDS
    failed = False
    while any(run.poll() is None for run in runs) and time.monotonic() < end:
        if not failed and any(run.poll() for run in runs):
            failed, end = True, min(end, time.monotonic() + GRACE)
        time.sleep(0.05)
    codes = ["hung" if run.poll() is None else run.returncode for run in runs]
    for run in runs:
        _to_group(run, signal.SIGABRT)  # faulthandler prints the stacks
    for run in runs:
        run.wait(timeout=10)
    return codes


def _to_group(run: subprocess.Popen[bytes], number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.killpg(run.pid, number)
