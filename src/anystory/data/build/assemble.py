"""Outcomes to shards, in the order of the items: the same shards, whoever made the outcomes and whenever."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from anystory.data.build.candidates import Rejection
from anystory.data.build.fingerprints import FingerprintIndex
from anystory.data.build.outcomes import ItemOutcome, WorkFolder
from anystory.data.build.plan import Plan
from anystory.data.build.report import Report
from anystory.data.shards.writer import ShardWriter
from anystory.files import atomic_write

__all__ = ["MARKER", "REPORT", "Chosen", "assemble", "check_out", "choose"]

REPORT = "report.json"
MARKER = "build.json"
"""In the folder of shards: their plan and samples, as hashes."""


@dataclass(frozen=True)
class Chosen:
    """The samples of one item that are written."""

    key: str
    """The item's."""
    made_of: tuple[str, ...]
    """Hashes of all that they depend on, except the plan."""
    numbers: tuple[int, ...]
    """Which of the outcome's samples."""


def check_out(out: Path, plan: str, overwrite: bool) -> None:
    """Check that shards may be written to a folder.

    Args:
        out: The folder.
        plan: The plan's digest.
        overwrite: Whether the shards of another build may be replaced.

    Raises:
        ValueError: it is a file, or holds the shards of another plan, or other files.
    """
    if out.exists() and not out.is_dir():
        raise ValueError(f"{out} is a file: --out is the folder for the shards")
    # Hidden files are left by a program that was killed while it wrote them.
    others = [path.name for path in out.iterdir() if not path.name.startswith(".")] if out.exists() else []
    if others and MARKER not in others:
        raise ValueError(
            f"{out} holds other files ({', '.join(sorted(others)[:3])}): give a new folder for the shards with --out"
        )
    if others and not overwrite and _read_marker(out / MARKER).get("plan") != plan:
        raise _other_build(out)


def choose(
    work: WorkFolder, keys: Sequence[str], plan: Plan, extra: dict[str, ItemOutcome]
) -> tuple[list[Chosen], Report]:
    """Which samples are written, and the report of the build.

    Args:
        work: Where the outcomes are.
        keys: The items', in order.
        plan: The plan of the outcomes.
        extra: Outcomes that are not kept, by the items' keys.
    """
    report = Report(items=len(keys))
    seen = FingerprintIndex(plan.duplicate_bits)
    chosen = []
    for key in keys:
        outcome = extra.get(key) or _kept(work, key, pictures=False)
        report.add_rejections(outcome.rejections)
        numbers: list[int] = []
        twins = list(map(seen.find, outcome.fingerprints))  # of other items only: an item may use a target twice
        for number, (record, twin) in enumerate(zip(outcome.records, twins, strict=True)):
            if twin is not None:
                detail = f"the target of {record.key} shows the same as that of {twin}"
                report.add_rejections([Rejection(reason="duplicate", what=record.key, detail=detail, unit="sample")])
                continue
            seen.add(outcome.fingerprints[number], record.key)
            numbers.append(number)
            report.add_sample(record)
        if numbers:
            chosen.append(Chosen(key, (outcome.item, *(state.sha256 for state in outcome.files)), tuple(numbers)))
    return chosen, report


def assemble(
    work: WorkFolder, chosen: Sequence[Chosen], report: Report, plan: Plan, out: Path, name: str, overwrite: bool
) -> None:
    """Write the shards and `report.json`; resumes an interrupted run of the same build.

    Args:
        work: Where the outcomes are.
        chosen: What is written, in order.
        report: The report of the build.
        plan: The plan of the outcomes.
        out: The folder for the shards.
        name: Stem of the shards' names.
        overwrite: Replace the shards of another build.

    Raises:
        ValueError: `out` holds the shards of another build and `overwrite` is false.
    """
    parts = [name, plan.digest(), plan.write.model_dump(), [(one.key, one.made_of, one.numbers) for one in chosen]]
    marker = {"plan": plan.digest(), "samples": hashlib.sha256(json.dumps(parts).encode()).hexdigest()}
    _prepare(out, marker, overwrite)
    if chosen:
        limits = {"max_samples": plan.write.max_samples, "max_bytes": plan.write.max_megabytes * 1_000_000}
        with ShardWriter(out, name, **limits) as writer:
            for one in chosen:
                _add(writer, work, one)
    report.write(out / REPORT, plan.model_dump(mode="json"), plan.digest())


def _add(writer: ShardWriter, work: WorkFolder, one: Chosen) -> None:
    outcome = None
    for number in one.numbers:
        outcome = outcome or _kept(work, one.key)
        record = outcome.records[number]
        if record.key not in writer:
            writer.add(record, outcome.pictures[number].__getitem__)


def _kept(work: WorkFolder, key: str, pictures: bool = True) -> ItemOutcome:
    outcome = work.get(key, pictures)
    if outcome is None:
        raise ValueError(f"the outcome of {key} is missing from {work.folder}: run the same command again")
    return outcome


def _prepare(out: Path, marker: dict[str, str], overwrite: bool) -> None:
    """Remove the shards of another build from `out`; those of an interrupted run of the same build stay."""
    path = out / MARKER
    if path.exists():
        if _read_marker(path) == marker:
            return
        if not overwrite:
            raise _other_build(out)
        for old in (*out.glob("*.tar"), *out.glob(".*.tar"), out / "index.json", out / REPORT):
            old.unlink(missing_ok=True)
    with atomic_write(path) as temporary:
        temporary.write_text(json.dumps(marker, indent=2) + "\n", encoding="utf-8")


def _other_build(out: Path) -> ValueError:
    return ValueError(
        f"{out} holds the shards of another build: other files, options or names. Give another --out, or --overwrite "
        "to replace them"
    )


def _read_marker(path: Path) -> dict[str, str]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, OSError):
        return {}
    return found if isinstance(found, dict) else {}
