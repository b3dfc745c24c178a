"""A Ray cluster of two nodes on this machine, for the tests that need one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import pytest

__all__ = ["NO_RAY", "two_nodes"]

NO_RAY = pytest.mark.skipif(find_spec("ray") is None, reason="Ray is not installed: pip install 'anystory[ray]'")

NODE = {"num_cpus": 1, "object_store_memory": 100_000_000, "include_log_monitor": False}
"""One core."""


@contextmanager
def two_nodes(environment: Mapping[str, str], **more: Any) -> Iterator[Any]:
    """A cluster whose workers have some environment variables.

    Args:
        environment: The variables.
        **more: Of each node, such as num_gpus.
    """
    # Ray's workers give way to everything else by default; on a busy machine they would hardly run.
    off = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_enable_metrics_collection": "0", "RAY_worker_niceness": "0"}
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {**environment, **off}.items():
            patch.setenv(name, value)
        node = {**NODE, **more}
        head = {**node, "include_dashboard": False, "no_monitor": True}
        made = import_module("ray.cluster_utils").Cluster(initialize_head=True, head_node_args=head)
        try:
            made.add_node(**node)
            made.wait_for_nodes()
            yield made
        finally:
            made.shutdown()
