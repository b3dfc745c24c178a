"""The same shards from a Ray cluster of two nodes on this machine."""

from __future__ import annotations

import os
import sys
from importlib import import_module
from importlib.util import find_spec

import pytest
from typer.testing import CliRunner

from anystory.cli import app
from anystory.data.build.build import BuildPlaces, build, runner
from anystory.data.build.plan import default_plan, with_settings
from data.build.folders import DEADLY, LOW

NO_RAY = pytest.mark.skipif(find_spec("ray") is None, reason="Ray is not installed: pip install 'anystory[ray]'")


@pytest.mark.slow
@pytest.mark.timeout(600)
@NO_RAY
def test_a_ray_cluster_of_two_nodes_writes_the_same_shards(photos, tmp_path, monkeypatch):
    for name, value in (("RAY_USAGE_STATS_ENABLED", "0"), ("RAY_enable_metrics_collection", "0")):
        monkeypatch.setenv(name, value)
    (tmp_path / "deadly_step.py").write_text(DEADLY)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))  # of the cluster's workers
    monkeypatch.setenv("SPARE", str(tmp_path / "spare"))
    plan = with_settings(default_plan("subjects"), LOW)
    (photos / "ann" / "broken.png").write_bytes(b"no picture")
    build(plan, BuildPlaces(photos, photos.parent / "here", photos.parent / "here.work"), quiet=True)
    node = {"num_cpus": 1, "object_store_memory": 200_000_000, "include_log_monitor": False}
    head = {**node, "include_dashboard": False, "no_monitor": True}
    cluster = import_module("ray.cluster_utils").Cluster(initialize_head=True, head_node_args=head)
    try:
        cluster.add_node(**node)
        cluster.wait_for_nodes()
        monkeypatch.setenv("RAY_ADDRESS", cluster.address)  # where `auto` looks
        settings = [word for setting in LOW for word in ("--set", setting)]
        out = str(photos.parent / "there")
        said = CliRunner().invoke(app, ["data", "build", str(photos), "--out", out, "--ray", "auto", *settings])
        deadly = with_settings(
            {**default_plan("subjects"), "steps": ["segment", "deadly_step:Deadly", "filter", "pair", "caption"]}, LOW
        )
        places = BuildPlaces(photos, photos.parent / "dead", photos.parent / "dead.work")
        report = build(deadly, places, runner(1, cluster.address), quiet=True)
    finally:
        cluster.shutdown()
    assert said.exit_code == 0, said.output
    assert "9 samples of 3 items" in said.output
    assert (report.rejected["failed"]["item"], report.samples) == (1, 6), "Bob cost his worker, and nothing else"
    for name in ("samples-000000.tar", "report.json", "build.json"):
        assert (photos.parent / "there" / name).read_bytes() == (photos.parent / "here" / name).read_bytes()


@NO_RAY
def test_an_address_without_a_cluster(photos, monkeypatch):
    ray = import_module("ray")

    def refuse(**options: object) -> None:
        raise ConnectionError(f"nobody at {options['address']}")

    monkeypatch.setattr(ray, "init", refuse)
    plan = with_settings(default_plan("subjects"), LOW)
    with pytest.raises(ValueError, match="no Ray cluster answers at 'auto' .*nobody at auto.*or use --ray local"):
        build(plan, BuildPlaces(photos, photos.parent / "o", photos.parent / "w"), runner(1, "auto"), quiet=True)


def test_without_ray_there_is_a_sentence(photos, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", os.environ.get("RAY_USAGE_STATS_ENABLED", "0"))
    plan = with_settings(default_plan("subjects"), LOW)
    with pytest.raises(ValueError, match=r"pip install 'anystory\[ray\]'"):
        build(plan, BuildPlaces(photos, photos.parent / "o", photos.parent / "w"), runner(1, "auto"), quiet=True)
