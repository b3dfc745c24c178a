"""Outcomes to shards, in the order of the items: whoever made the outcomes, and whenever, the same shards come out."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from anystory.data.build.candidates import Rejection
from anystory.data.build.duplicates import SeenPictures
from anystory.data.build.outcomes import Outcome, WorkFolder
from anystory.data.build.plan import Plan
from anystory.data.build.report import Report
from anystory.data.records import SampleRecord
from anystory.data.shard_writer import ShardWriter
from anystory.files import atomic_write

__all__ = ["MARKER", "REPORT", "Chosen", "assemble", "check_out", "choose"]

REPORT = "report.json"
MARKER = "build.json"
"""In the folder of shards: of which plan and which samples they are made."""


@dataclass(frozen=True)
class Chosen:
    """Samples of one item that are written."""

    key: str
    """The item's."""
    made_of: tuple[str, ...]
    """Hashes of all that decides what they are, but for the plan."""
    numbers: tuple[int, ...]
    """Which of the outcome's samples."""


def check_out(out: Path, plan: str, overwrite: bool) -> None:
    """Make sure that shards may be written to a folder, before anything is done.

    Args:
        out: The folder.
        plan: The plan's digest.
        overwrite: Whether the shards of another build may be replaced.

    Raises:
        ValueError: it is a file, or holds the shards of another plan or something that no build has written.
    """
    if out.exists() and not out.is_dir():
        raise ValueError(f"{out} is a file: --out is the folder for the shards")
    # Hidden files are what a killed program leaves of those that it was writing.
    others = [path.name for path in out.iterdir() if not path.name.startswith(".")] if out.exists() else []
    if others and MARKER not in others:
        raise ValueError(
            f"{out} holds other files ({', '.join(sorted(others)[:3])}): give a new folder for the shards with --out"
        )
    if others and not overwrite and _read_marker(out / MARKER).get("plan") != plan:
        raise _other_build(out)


def choose(work: WorkFolder, keys: Sequence[str], plan: Plan, extra: dict[str, Outcome]) -> tuple[list[Chosen], Report]:
    """Which samples are written, and the report of the build.

    Args:
        work: Where the outcomes are.
        keys: The items', in order.
        plan: What the outcomes were made by.
        extra: Outcomes that are not worth keeping, by the items' keys.
    """
    report = Report(items=len(keys))
    seen = SeenPictures(plan.duplicate_bits)
    chosen = []
    for key in keys:
        outcome = extra.get(key) or _kept(work, key, pictures=False)
        report.add_rejections(outcome.rejections)
        numbers: list[int] = []
        twins = [seen.find(target) for target in outcome.looks]  # of other items only: an item may use a target twice
        for number, (record, target, twin) in enumerate(zip(outcome.records, outcome.looks, twins, strict=True)):
            if twin is not None:
                detail = f"the target of {record.key} shows the same as that of {twin}"
                report.add_rejections([Rejection(reason="duplicate", what=record.key, detail=detail, unit="sample")])
                continue
            seen.add(target, record.key)
            numbers.append(number)
            _count(report, record)
        if numbers:
            chosen.append(Chosen(key, (outcome.item, *(state.sha256 for state in outcome.files)), tuple(numbers)))
    return chosen, report


def assemble(
    work: WorkFolder, chosen: Sequence[Chosen], report: Report, plan: Plan, out: Path, name: str, overwrite: bool
) -> None:
    """Write the shards and `report.json`. What an interrupted run of the same build has written is used.

    Args:
        work: Where the outcomes are.
        chosen: What is written, in order.
        report: What is told about it.
        plan: What the outcomes were made by.
        out: The folder for the shards.
        name: Stem of the shards' names.
        overwrite: Replace the shards of another plan or other files.

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


def _count(report: Report, record: SampleRecord) -> None:
    report.samples += 1
    report.heldout += record.split == "heldout"
    report.subjects += len(record.subjects)
    report.references += sum(len(subject.references) for subject in record.subjects)


def _add(writer: ShardWriter, work: WorkFolder, one: Chosen) -> None:
    outcome = None
    for number in one.numbers:
        outcome = outcome or _kept(work, one.key)
        record = outcome.records[number]
        if record.key not in writer:
            writer.add(record, outcome.pictures[number].__getitem__)


def _kept(work: WorkFolder, key: str, pictures: bool = True) -> Outcome:
    outcome = work.get(key, pictures)
    if outcome is None:
        raise ValueError(f"what became of {key} has vanished from {work.folder}: run the same command again")
    return outcome


def _prepare(out: Path, marker: dict[str, str], overwrite: bool) -> None:
    """Leave in `out` what an interrupted run of the same build has written, and nothing else."""
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
