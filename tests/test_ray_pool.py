"""The pool of actors on a Ray cluster: results of all tasks, whatever dies."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from anystory.ray_pool import RayPool
from ray_clusters import NO_RAY, NODE, two_nodes

TASKS = """
import os, time
from pathlib import Path

FOLDER = Path(__file__).parent

def make():
    return run

def run(task):
    if task == "die":
        os._exit(3)
    if task == "refuse":
        raise ValueError("no such picture")
    if task.startswith("wait"):
        (FOLDER / f"{os.getpid()}.begun").touch()
        while not (FOLDER / "go").exists():
            time.sleep(0.05)
    return f"{task} on {os.environ.get('CUDA_VISIBLE_DEVICES')}"
"""


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Two nodes of one core and what it takes for a GPU."""
    folder = tmp_path_factory.mktemp("tasks")
    (folder / "ray_tasks.py").write_text(TASKS)
    there = os.pathsep.join([str(folder), *os.environ.get("PYTHONPATH", "").split(os.pathsep)])
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(folder))
        with two_nodes({"PYTHONPATH": there}, num_gpus=1) as made:
            yield made


def finish(pool: RayPool[str, str], tasks: list[str]) -> dict[str, Future[str]]:
    """Run tasks until all have ended."""
    futures, waiting = dict[str, Future[str]](), list(tasks)
    with pool:
        while waiting or not all(future.done() for future in futures.values()):
            while waiting and pool.idle:
                task = waiting.pop(0)
                futures[task] = pool.submit(task)
            pool.wait()
    return futures


def pool_on(cluster: Any, most: int = 2, *, gpu: bool = False) -> RayPool[str, str]:
    return RayPool(import_module("ray_tasks").make, most, cluster.address, gpu=gpu)


@NO_RAY
def test_results_errors_and_a_task_that_ends_every_actor(cluster: Any) -> None:
    done = finish(pool_on(cluster), ["a", "refuse", "die", "b"])
    assert done["a"].result().startswith("a on")
    assert done["b"].result().startswith("b on")
    with pytest.raises(ValueError, match="^no such picture$"):
        done["refuse"].result()
    with pytest.raises(ValueError, match="lost the actor of a task 3 times"):
        done["die"].result()


@NO_RAY
def test_each_actor_has_a_gpu(cluster: Any) -> None:
    assert finish(pool_on(cluster, gpu=True), ["a"])["a"].result() == "a on 0"


@NO_RAY
def test_tasks_on_a_machine_that_is_lost_are_done_elsewhere(cluster: Any) -> None:
    """A third node is taken away while an actor on each of the three is at a task, and others wait."""
    folder = Path(import_module("ray_tasks").__file__ or "").parent
    third = cluster.add_node(**NODE, num_gpus=1)
    cluster.wait_for_nodes()
    begun: list[int] = []

    def lose_the_third() -> None:
        end = time.monotonic() + 240
        while len(list(folder.glob("*.begun"))) < 3 and time.monotonic() < end:
            time.sleep(0.05)
        begun.append(len(list(folder.glob("*.begun"))))
        cluster.remove_node(third, allow_graceful=False)
        (folder / "go").touch()

    losing = threading.Thread(target=lose_the_third)
    losing.start()
    tasks = [f"wait {number}" for number in range(6)]
    done = finish(pool_on(cluster, 6), tasks)
    losing.join()
    assert begun == [3], "each node had a task when the third was lost"
    assert [done[task].result().partition(" on")[0] for task in tasks] == tasks


@NO_RAY
def test_an_address_without_a_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(**options: object) -> None:
        raise ConnectionError(f"nobody at {options['address']}")

    monkeypatch.setattr(import_module("ray"), "init", refuse)
    with pytest.raises(ValueError, match="no Ray cluster answers at 'auto' .*nobody at auto.*or use --ray local"):
        RayPool(partial(partial, str), 1, "auto", gpu=False)


def test_without_ray_there_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", os.environ.get("RAY_USAGE_STATS_ENABLED", "0"))
    with pytest.raises(ValueError, match=r"pip install 'anystory\[ray\]'"):
        RayPool(partial(partial, str), 1, "auto", gpu=False)
