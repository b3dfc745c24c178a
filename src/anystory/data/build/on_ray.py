"""Items through a plan on a Ray cluster, by Ray Data (the extra `ray`).

Every machine of the cluster must have this version of anystory and see the source's folder under the same path.
Outcomes come back to this process, which keeps them and writes the shards.
"""

from __future__ import annotations

import logging
import os
import platform
from collections.abc import Generator, Iterator, Sequence
from pathlib import Path
from typing import Any

from anystory.data.build.local import use_one_thread
from anystory.data.build.plan import Plan
from anystory.data.build.sources.base import Item
from anystory.data.build.worker import Worker, failed
from anystory.data.extras import need

__all__ = ["run_on_ray"]

_BLOCK = 16
"""Most items in a block: what is lost with a killed build, and what a worker sends back at once."""

_BLOCK_BYTES = 16_000_000


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
        for most in (_BLOCK, 1):  # the second time what a dead worker had in hand, one by one: only the culprit fails
            for key, outcome in _pass(ray, data, plan, folder, list(listed.values()), most, gpus):
                yield listed.pop(key), outcome
        for item in listed.values():
            yield item, failed(item, plan.digest(), "it ended its worker process on the Ray cluster")
    except ray.exceptions.RayError as error:
        raise ValueError(f"the Ray cluster at {address!r} could not do it: {_reason(error)}") from error
    finally:
        if mine:
            ray.shutdown()


def _pass(
    ray: Any, data: Any, plan: Plan, folder: Path, items: Sequence[Item], most: int, gpus: float
) -> Iterator[tuple[str, bytes]]:
    """Keys and outcomes of all items whose blocks, of `most` items, came back."""
    if not items:
        return
    cpus = max(1, int(ray.cluster_resources().get("CPU", 1)))
    blocks = min(len(items), max(4 * cpus, -(-len(items) // most)))
    rows = [{"item": item.model_dump_json()} for item in items]
    mapped = data.from_items(rows, override_num_blocks=blocks if most > 1 else len(items)).map(
        _RayWorker,
        fn_constructor_args=(plan.model_dump_json(), str(folder.resolve())),
        num_cpus=1,
        num_gpus=gpus,
        compute=data.ActorPoolStrategy(min_size=1, max_size=min(cpus, blocks)),
        # By default Ray tries a block for ever, and a picture that crashes its decoder would do so for ever.
        ray_remote_args_fn=lambda: {"max_task_retries": 0},
    )
    for row in mapped.iter_rows():
        yield row["key"], row["outcome"]


class _RayWorker:
    """A worker in a Ray actor: rows with an item in, rows with its key and outcome out."""

    def __init__(self, plan: str, folder: str) -> None:
        self.worker = Worker(Plan.model_validate_json(plan), Path(folder))
        use_one_thread()

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        item = Item.model_validate_json(row["item"])
        if not self.worker.folder.is_dir():
            detail = f"the machine {platform.node()} does not see {self.worker.folder}"
            return {"key": item.key, "outcome": failed(item, self.worker.digest, detail)}
        return {"key": item.key, "outcome": self.worker(item)}


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
