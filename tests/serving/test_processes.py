"""The server as a program, with its worker in a process of its own: killed, told to end, started again."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

pytestmark = pytest.mark.slow  # each start imports torch

LATER = {"Prefer": "respond-async"}


class Program:
    """`anystory serve` with the tiny model."""

    def __init__(self, data: Path, model: Path, *more: str) -> None:
        command = [sys.executable, "-m", "anystory", "serve", "--port", "0", "--threads", "1"]
        command += ["--data", str(data), "--model", str(model), *more]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        found = re.match(r"listening on (http://\S+)", self.process.stdout.readline())
        assert found is not None
        self.http = httpx.Client(base_url=found[1], timeout=60)

    def wait_until_ready(self) -> None:
        while self.http.get("/readyz").status_code != 200:
            time.sleep(0.1)

    def begin(self, **given: Any) -> str:
        answer = self.http.post("/v1/images/generations", json={"prompt": "f"} | given, headers=LATER)
        assert answer.status_code == 202, answer.text
        return answer.json()["id"]

    def job(self, job: str) -> dict[str, Any]:
        return self.http.get(f"/v1/jobs/{job}").json()

    def wait(self, job: str, *states: str) -> dict[str, Any]:
        for _ in range(1200):
            if (found := self.job(job))["state"] in states:
                return found
            time.sleep(0.05)
        raise AssertionError(found)

    def step_of(self, job: str) -> None:
        """Wait until a job has made a step."""
        while not self.job(job).get("progress"):
            time.sleep(0.02)

    @property
    def worker(self) -> psutil.Process:
        """The process that draws: of the children, it has torch."""
        children = psutil.Process(self.process.pid).children(recursive=True)
        return max(children, key=lambda child: child.memory_info().rss)

    def end(self, number: int) -> int:
        self.process.send_signal(number)
        return self.process.wait(60)


@contextmanager
def program(data: Path, model: Path, *more: str) -> Iterator[Program]:
    started = Program(data, model, *more)
    try:
        yield started
    finally:
        started.process.kill()
        started.process.wait()


def test_killed_and_started_again_everything_that_was_accepted_is_drawn_once(place, tiny_model):
    with program(place, tiny_model) as first:
        first.wait_until_ready()
        done = first.begin(seed=1)
        first.wait(done, "done")
        jobs = [first.begin(steps=40, n=2, seed=10), *(first.begin(seed=20 + number) for number in range(5))]
        first.step_of(jobs[0])
        worker = first.worker
        maps = Path(f"/proc/{first.process.pid}/maps").read_text()
        assert "libtorch" not in maps, "the server's own process imports torch"
        assert first.end(signal.SIGKILL) == -signal.SIGKILL
        worker.wait(10)  # it does not outlive the server
    with program(place, tiny_model) as second:
        for job, seeds in zip([done, *jobs], [[1], [10, 11], *([20 + number] for number in range(5))], strict=True):
            found = second.wait(job, "done", "failed", "cancelled")
            assert (found["state"], [picture["seed"] for picture in found["pictures"]]) == ("done", seeds)
            names = {path.name for path in (place / "jobs" / job / "out").glob("[0-9]*.png")}
            assert len(names) == len(seeds), names
        assert second.end(signal.SIGTERM) == 0


def test_a_job_over_which_the_worker_dies_is_tried_once_more_and_the_server_stays_up(place, tiny_model):
    with program(place, tiny_model) as server:
        server.wait_until_ready()
        job, later = server.begin(steps=100, n=3, seed=5), server.begin(steps=2, seed=1)
        server.step_of(job)
        server.worker.kill()
        server.wait(job, "queued", "done")
        assert server.wait(later, "done")["state"] == "done"
        assert [picture["seed"] for picture in server.wait(job, "done")["pictures"]] == [5, 6, 7]
        doomed = server.begin(steps=100, n=10, size="64x64")
        for _ in range(2):
            server.step_of(doomed)
            server.worker.kill()
            time.sleep(1)
        error = server.wait(doomed, "failed")["error"]
        assert error["type"] == "server_error"
        said = "the process that draws on cpu ended (signal 9), 2 times over this job: it is not tried again"
        assert error["message"] == said
        assert 'anystory_workers_lost_total{device="cpu"} 3.0' in server.http.get("/metrics").text
        assert server.wait(server.begin(), "done")["state"] == "done"
        assert server.end(signal.SIGINT) == 0


def test_told_to_end_running_jobs_are_finished_and_waiting_ones_kept(place, tiny_model):
    with program(place, tiny_model) as first:
        first.wait_until_ready()
        running = first.begin(steps=60)
        first.step_of(running)
        waiting = [first.begin(steps=60 + number) for number in range(3)]
        assert first.end(signal.SIGTERM) == 0
    with program(place, tiny_model, "--drain-seconds", "0") as second:
        assert second.job(running)["state"] == "done"
        assert {second.job(job)["state"] for job in waiting} <= {"queued", "running"}
        second.step_of(waiting[0])
        assert second.end(signal.SIGTERM) == 0
    with program(place, tiny_model) as third:
        assert [third.wait(job, "done")["state"] for job in waiting] == ["done"] * 3


def test_what_cannot_be_served_ends_with_a_sentence(place, tiny_model, tmp_path):
    damaged = tmp_path / "model"
    damaged.mkdir()
    (damaged / "model_index.json").write_text("{}")
    for given, message in (
        (["--host", "0.0.0.0"], "can be reached from other machines"),
        (["--keys", str(tmp_path / "none.yaml")], "none.yaml"),
        (["--new-key", "ann"], "--keys FILE"),
        (["--model", str(damaged)], "model_index.json names no pipeline"),
        (["--model", "nothing"], "no model 'nothing'"),
    ):
        command = [sys.executable, "-m", "anystory", "serve", "--data", str(place), "--port", "0"]
        ended = subprocess.run([*command, *given], capture_output=True, text=True, timeout=120, check=False)
        assert (ended.returncode, message in ended.stderr) == (2, True), ended.stderr
        assert "Traceback" not in ended.stderr
    assert os.listdir(place) == [] or "server.sqlite" in os.listdir(place)
