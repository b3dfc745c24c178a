"""The server's workers on a Ray cluster of two nodes on this machine, of which one is lost under load."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from anystory.serving.keys import KeyRing
from anystory.serving.run import worker_setup
from anystory.serving.service import Service
from anystory.serving.work.ray_worker import ray_workers
from ray_clusters import NO_RAY, two_nodes

from .conftest import LiveServer, running, settings_for

pytestmark = [
    NO_RAY,
    pytest.mark.slow,
    pytest.mark.timeout(600),
    pytest.mark.skipif(find_spec("grpc_reflection") is None, reason="Ray Serve is not installed"),
]


@pytest.fixture
def cluster() -> Iterator[Any]:
    """Two nodes of one core each."""
    ray = import_module("ray")
    with two_nodes({"PYTHONPATH": ":".join(path for path in sys.path if path)}) as made:
        ray.init(address=made.address, logging_level="ERROR")
        yield made
        import_module("ray.serve").shutdown()
        ray.shutdown()


@pytest.fixture
def served(cluster: Any, tiny_model: Path, place: Path) -> Iterator[LiveServer]:
    settings = settings_for(place, tiny_model)
    service = Service(settings, KeyRing(), ray_workers(worker_setup(settings, "cpu"), 2))
    with running(service) as server:
        while service.dispatcher.ready is None:
            assert service.broken is None, service.broken
            time.sleep(0.2)
        yield server


def test_a_node_is_lost_under_load_and_no_job_with_it(cluster, served: LiveServer):
    assert not import_module("ray.serve").status().proxies, "a port of its own would be in the way of the server's"
    later = {"Prefer": "respond-async"}
    jobs = {}
    for seed in range(24):
        body = {"prompt": "f", "steps": 40, "seed": seed}
        jobs[served.http.post("/v1/images/generations", json=body, headers=later).json()["id"]] = seed
    while not any(served.http.get(f"/v1/jobs/{job}").json()["state"] == "done" for job in jobs):
        time.sleep(0.1)
    cluster.remove_node(next(iter(cluster.worker_nodes)), allow_graceful=False)
    for job, seed in jobs.items():
        found = ended(served, job)
        assert found["state"] == "done", found
        assert [picture["seed"] for picture in found["pictures"]] == [seed]
        out = served.service.data.job(job) / "out"
        assert len(list(out.glob("[0-9]*.png"))) == 1
    assert "anystory_workers_lost_total{device=" in served.http.get("/metrics").text, (
        "none was at work on the lost node"
    )
    long = {"prompt": "f", "steps": 100, "n": 10}
    cancelled = served.http.post("/v1/images/generations", json=long, headers=later).json()["id"]
    while not served.http.get(f"/v1/jobs/{cancelled}").json()["progress"]:
        time.sleep(0.1)
    served.http.delete(f"/v1/jobs/{cancelled}")
    assert ended(served, cancelled)["state"] == "cancelled"


def ended(served: LiveServer, job: str) -> dict[str, Any]:
    for _ in range(2000):
        found = served.http.get(f"/v1/jobs/{job}").json()
        if found["state"] in ("done", "failed", "cancelled"):
            return found
        time.sleep(0.1)
    raise AssertionError(found)
