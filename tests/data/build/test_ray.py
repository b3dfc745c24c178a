"""The same shards from a Ray cluster of two nodes on this machine."""

from __future__ import annotations

import os
import shutil
import sys
import threading
import time
from importlib import import_module
from pathlib import Path

import pytest
from typer.testing import CliRunner

from anystory.cli import app
from anystory.data.build.build import BuildPlaces, build, runner
from anystory.data.build.plan import Plan, default_plan, with_settings
from data.build.folders import DEADLY, LOW
from ray_clusters import NO_RAY, two_nodes

STEPS = (
    DEADLY
    + """
import time
from pathlib import Path

class GivenGpu(Deadly):
    def __call__(self, candidate):
        assert os.environ["CUDA_VISIBLE_DEVICES"] == "0"
        return [candidate]

class Waiting(Deadly):
    # says that its actor has begun, and waits for the test
    def __call__(self, candidate):
        begun = Path(os.environ["PYTHONPATH"], "begun")
        begun.mkdir(exist_ok=True)
        (begun / str(os.getppid())).touch()
        while not (begun / "go").exists():
            time.sleep(0.05)
        return [candidate]

class Refusing(Deadly):
    def __init__(self, options):
        raise ValueError("there is no such model")
"""
)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    """Two nodes, each with one core and what it takes for a GPU, whose workers find `deadly_step`."""
    steps = tmp_path_factory.mktemp("steps")
    (steps / "deadly_step.py").write_text(STEPS)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(steps))
        with two_nodes({"PYTHONPATH": str(steps), "SPARE": str(steps / "spare")}, num_gpus=1) as made:
            yield made


def plan_with(step: str) -> Plan:
    steps = ["segment", f"deadly_step:{step}", "filter", "pair", "caption"]
    return with_settings({**default_plan("subjects"), "steps": steps}, LOW)


@pytest.mark.slow
@NO_RAY
def test_a_cluster_of_two_nodes_writes_the_same_shards(photos, cluster, monkeypatch):
    (photos / "ann" / "broken.png").write_bytes(b"no picture")
    plan = with_settings(default_plan("subjects"), LOW)
    build(plan, BuildPlaces(photos, photos.parent / "here", photos.parent / "here.work"))
    monkeypatch.setenv("RAY_ADDRESS", cluster.address)  # where `auto` looks
    settings = [word for setting in LOW for word in ("--set", setting)]
    out = str(photos.parent / "there")
    said = CliRunner().invoke(app, ["data", "build", str(photos), "--out", out, "--ray", "auto", *settings])
    assert said.exit_code == 0, said.output
    assert "9 samples of 3 items" in said.output
    for name in ("samples-000000.tar", "report.json", "build.json"):
        assert (photos.parent / "there" / name).read_bytes() == (photos.parent / "here" / name).read_bytes()


@pytest.mark.slow
@NO_RAY
def test_an_item_that_ends_its_process_on_the_cluster_costs_itself_only(photos, cluster):
    for number in range(6):  # some wait behind Bob
        shutil.copytree(photos / "cat", photos / f"cat{number}")
    places = BuildPlaces(photos, photos.parent / "dead", photos.parent / "dead.work")
    report = build(plan_with("Deadly"), places, runner(1, cluster.address))
    assert (report.rejected["failed"]["item"], report.items) == (1, 9)
    assert report.examples["failed"] == ["bob: it ended its worker process (exit code 7)"]


@pytest.mark.slow
@NO_RAY
def test_items_on_a_machine_that_is_lost_are_done_elsewhere(photos, cluster):
    """A third node is taken away while an actor on each of the three is at an item, and others wait behind it."""
    for number in range(9):
        shutil.copytree(photos / "cat", photos / f"cat{number}")
    begun = Path(os.environ["PYTHONPATH"], "begun")
    third = cluster.add_node(num_cpus=1, num_gpus=1, object_store_memory=100_000_000, include_log_monitor=False)
    cluster.wait_for_nodes()
    told: list[int] = []

    def lose_the_third() -> None:
        end = time.monotonic() + 120
        while len(list(begun.glob("*"))) < 3 and time.monotonic() < end:
            time.sleep(0.05)
        told.append(len(list(begun.glob("*"))))
        cluster.remove_node(third, allow_graceful=False)
        (begun / "go").touch()

    losing = threading.Thread(target=lose_the_third)
    losing.start()
    places = BuildPlaces(photos, photos.parent / "lost", photos.parent / "lost.work")
    report = build(plan_with("Waiting"), places, runner(1, cluster.address))
    losing.join()
    assert told == [3], "each node had an item when the third was lost"
    assert (report.items, report.rejected.get("failed")) == (12, None)
    assert report.samples + report.rejected["duplicate"]["sample"] == 36


@pytest.mark.slow
@NO_RAY
def test_workers_on_the_cluster_have_their_gpu(photos, cluster):
    places = BuildPlaces(photos, photos.parent / "gpu", photos.parent / "gpu.work")
    assert build(plan_with("GivenGpu"), places, runner(1, cluster.address, gpus=1)).rejected == {}


@pytest.mark.slow
@NO_RAY
def test_a_plan_that_the_cluster_cannot_carry_out(photos, cluster):
    places = BuildPlaces(photos, photos.parent / "none", photos.parent / "none.work")
    with pytest.raises(ValueError, match=r"^there is no such model \(on the machine .+\)$"):
        build(plan_with("Refusing"), places, runner(1, cluster.address))


@NO_RAY
def test_an_address_without_a_cluster(photos, monkeypatch):
    ray = import_module("ray")

    def refuse(**options: object) -> None:
        raise ConnectionError(f"nobody at {options['address']}")

    monkeypatch.setattr(ray, "init", refuse)
    plan = with_settings(default_plan("subjects"), LOW)
    with pytest.raises(ValueError, match="no Ray cluster answers at 'auto' .*nobody at auto.*or use --ray local"):
        build(plan, BuildPlaces(photos, photos.parent / "o", photos.parent / "w"), runner(1, "auto"))


def test_without_ray_there_is_a_sentence(photos, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", os.environ.get("RAY_USAGE_STATS_ENABLED", "0"))
    plan = with_settings(default_plan("subjects"), LOW)
    with pytest.raises(ValueError, match=r"pip install 'anystory\[ray\]'"):
        build(plan, BuildPlaces(photos, photos.parent / "o", photos.parent / "w"), runner(1, "auto"))
