"""Items through a plan on a Ray cluster, by Ray Data (the extra `ray`).

Every machine of the cluster must have this version of anystory and see the source's folder under the same path.
Outcomes come back to this process, which keeps them and writes the shards.

A Ray actor that dies takes the items queued behind it along. So each actor hands its items to a process of its own,
which may die of one without harm to the others: that is the item's fault, and counted as such. What is lost with an
actor is nobody's fault, most of all where its machine has gone: it is given to the cluster again, each item by itself,
as often as that brings anything back.
"""

from __future__ import annotations

import logging
import os
import platform
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import Any

from anystory.data.build.plan import Plan
from anystory.data.build.process import WorkerProcess
from anystory.data.build.sources.base import Item
from anystory.data.build.worker import failed
from anystory.data.extras import need

__all__ = ["run_on_ray"]

_BLOCK = 16
"""Most items in a block: what is lost with a killed build, and what a worker sends back at once."""

_BLOCK_BYTES = 16_000_000

_BARREN = 3
"""Items of which none comes back in so many rounds, one after another, are given up: they end every actor."""


def run_on_ray(
    plan: Plan, folder: Path, items: Sequence[Item], address: str, *, gpus: float = 0.0
) -> Generator[tuple[Item, bytes], None, None]:
    """Each item and its outcome, in any order.

    Args:
        plan: What to do.
        folder: The source's folder, as every machine sees it.
        items: What to take through the plan.
        address: `auto` for the cluster that this machine belongs to, `local` for a new one on this machine alone, or
            `host:port`.
        gpus: How much of a GPU each worker takes.

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
        _connect(ray, address)
    try:
        logging.getLogger("ray.data").setLevel(logging.WARNING)
        context = data.DataContext.get_current()
        context.enable_progress_bars = False  # ours shows the build's
        # Ray Data keeps room for a few such blocks per worker: with its default of 128 MB small machines never start.
        context.target_max_block_size = _BLOCK_BYTES
        context.max_errored_blocks = -1  # what does not come back is seen below
        digest, barren, alone = plan.digest(), 0, False
        while listed and barren < _BARREN:
            before = len(listed)
            try:
                for row in _mapped(ray, data, plan, digest, folder, list(listed.values()), gpus, alone).iter_rows():
                    if row["refusal"]:
                        raise ValueError(row["refusal"])
                    yield listed.pop(row["key"]), row["outcome"]
            except ray.exceptions.RayError as error:  # also of outcomes that lay on a machine that is lost
                if len(listed) == before:
                    raise ValueError(f"the Ray cluster at {address!r} could not do it: {_reason(error)}") from error
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
    """Ray's data set of the rows that `_Actor` makes; with `alone` each item is lost only by itself."""
    cpus = max(1, int(ray.cluster_resources().get("CPU", 1)))
    blocks = len(items) if alone else min(len(items), max(4 * cpus, -(-len(items) // _BLOCK)))
    rows = [{"item": item.model_dump_json()} for item in items]
    return data.from_items(rows, override_num_blocks=blocks).map(
        _Actor,
        fn_constructor_args=(plan.model_dump_json(), digest, str(folder.resolve())),
        num_cpus=1,
        num_gpus=gpus,
        compute=data.ActorPoolStrategy(min_size=1, max_size=min(cpus, blocks)),
        # By default Ray tries for ever what it has lost, and an item may be why.
        ray_remote_args_fn=lambda: {"max_task_retries": 0},
    )


class _Actor:
    """Rows with an item in; rows with its key, its outcome and, if the plan cannot be carried out here, why, out."""

    def __init__(self, plan: str, digest: str, folder: str) -> None:
        self.digest, self.folder = digest, Path(folder)
        self.process = WorkerProcess(Plan.model_validate_json(plan), digest, self.folder)

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        item = Item.model_validate_json(row["item"])
        if not self.folder.is_dir():
            detail = f"the machine {platform.node()} does not see {self.folder}"
            return {"key": item.key, "outcome": failed(item, self.digest, detail), "refusal": ""}
        self.process.give(item)
        try:
            _, outcome = self.process.take()
        except ValueError as error:
            return {"key": item.key, "outcome": b"", "refusal": f"{error} (on the machine {platform.node()})"}
        return {"key": item.key, "outcome": outcome, "refusal": ""}


def _connect(ray: Any, address: str) -> None:
    try:
        ray.init(
            address=address,
            include_dashboard=False if address == "local" else None,
            log_to_driver=False,
            logging_level="ERROR",
        )
    except Exception as error:  # refused connections, wrong versions and time-outs are all different classes
        raise ValueError(
            f'no Ray cluster answers at {address!r} ({_reason(error)}). Start one with "ray start --head", '
            "or use --ray local, or --workers without --ray"
        ) from None


def _reason(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__
