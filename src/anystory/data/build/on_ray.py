"""Items through a plan on a Ray cluster, by Ray Data (the extra `ray`).

Every machine of the cluster must have this version of anystory and see the source's folder under the same path.
Outcomes come back to this process, which keeps them and writes the shards.

A Ray actor that dies loses the items queued behind it. So each actor gives its items to a process of its own, which may
die without harm to the others: that is the item's fault, and counted as such. What is lost with an actor (most often
with its machine) is given to the cluster again, one item per block, as long as that brings anything back.
"""

from __future__ import annotations

import logging
import os
import platform
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import Any

from anystory.data.build.local import item_pool, outcome_of
from anystory.data.build.plan import Plan
from anystory.data.build.sources.base import Item
from anystory.data.build.worker import failed
from anystory.extras import need
from anystory.ray_pool import connect, reason_of

__all__ = ["run_on_ray"]

_BLOCK = 16
"""Most items in a block: a killed build loses this many, and a worker returns them together."""

_BLOCK_BYTES = 16_000_000

_BARREN = 3
"""After this many rounds in a row without a result, the items that are left are given up: they end every actor."""


def run_on_ray(
    plan: Plan, folder: Path, items: Sequence[Item], address: str, *, gpus: float = 0.0
) -> Generator[tuple[Item, bytes], None, None]:
    """Each item and its outcome, in any order.

    Args:
        plan: What to do.
        folder: The source's folder, as every machine sees it.
        items: The items.
        address: `auto` for the cluster that this machine belongs to, `local` for a new one on this machine alone, or
            `host:port`.
        gpus: GPUs (or the part of one) for each worker.

    Raises:
        ValueError: Ray is not installed, there is no such cluster, or the plan cannot be carried out.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    ray, data = need("ray", "--ray", "ray"), need("ray.data", "--ray", "ray")
    listed = {item.key: item for item in items}
    if not listed:
        return
    mine = not ray.is_initialized()
    if mine:
        connect(ray, address, "--workers")
    try:
        logging.getLogger("ray.data").setLevel(logging.WARNING)
        context = data.DataContext.get_current()
        context.enable_progress_bars = False  # ours shows progress
        # Ray Data reserves memory for a few blocks per worker: with its default of 128 MB small machines never start.
        context.target_max_block_size = _BLOCK_BYTES
        context.max_errored_blocks = -1  # the loop below handles what does not come back
        digest, barren, alone = plan.digest(), 0, False
        while listed and barren < _BARREN:
            before = len(listed)
            try:
                for row in _mapped(ray, data, plan, digest, folder, list(listed.values()), gpus, alone).iter_rows():
                    if row["refusal"]:
                        raise ValueError(row["refusal"])
                    yield listed.pop(row["key"]), row["outcome"]
            except ray.exceptions.RayError as error:  # also for outcomes on a lost machine
                if len(listed) == before:
                    raise ValueError(f"the Ray cluster at {address!r} failed: {reason_of(error)}") from error
            barren = barren + 1 if len(listed) == before else 0
            alone = True
        for item in listed.values():
            yield item, failed(item, digest, f"the Ray cluster lost the actor that had it, {_BARREN} times")
    finally:
        if mine:
            ray.shutdown()


def _mapped(
    ray: Any, data: Any, plan: Plan, digest: str, folder: Path, items: Sequence[Item], gpus: float, alone: bool
) -> Any:
    """Ray's data set of the rows that `_Actor` makes; with `alone` each item is a block of its own."""
    cpus = max(1, int(ray.cluster_resources().get("CPU", 1)))
    blocks = len(items) if alone else min(len(items), max(4 * cpus, -(-len(items) // _BLOCK)))
    rows = [{"item": item.model_dump_json()} for item in items]
    return data.from_items(rows, override_num_blocks=blocks).map(
        _Actor,
        fn_constructor_args=(plan.model_dump_json(), digest, str(folder.resolve())),
        num_cpus=1,
        num_gpus=gpus,
        compute=data.ActorPoolStrategy(min_size=1, max_size=min(cpus, blocks)),
        # By default Ray repeats lost tasks forever, and an item may be the reason.
        ray_remote_args_fn=lambda: {"max_task_retries": 0},
    )


class _Actor:
    """Turns rows with an item into rows with its key, its outcome, and why the plan cannot be carried out, if so."""

    def __init__(self, plan: str, digest: str, folder: str) -> None:
        self.digest, self.folder = digest, Path(folder)
        self.pool = item_pool(Plan.model_validate_json(plan), self.folder, 1)

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        item = Item.model_validate_json(row["item"])
        if not self.folder.is_dir():
            detail = f"the machine {platform.node()} does not see {self.folder}"
            return {"key": item.key, "outcome": failed(item, self.digest, detail), "refusal": ""}
        future = self.pool.submit(item)
        self.pool.wait()
        try:
            outcome = outcome_of(future, item, self.digest)
        except ValueError as error:
            return {"key": item.key, "outcome": b"", "refusal": f"{error} (on the machine {platform.node()})"}
        return {"key": item.key, "outcome": outcome, "refusal": ""}
