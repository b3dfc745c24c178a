"""One item through a plan, in any process or machine that sees the source's folder."""

from __future__ import annotations

import hashlib
import traceback
from collections.abc import Sequence
from pathlib import Path

from anystory.data.build.candidates import Candidate, Rejected, Rejection
from anystory.data.build.export import export
from anystory.data.build.fingerprints import ImageFingerprint
from anystory.data.build.outcomes import ItemOutcome, file_states
from anystory.data.build.plan import Plan
from anystory.data.build.sources.base import Item
from anystory.data.build.steps.base import Step
from anystory.data.records import SampleRecord, Split

__all__ = ["Worker", "failed"]


class Worker:
    """Holds the source and the steps, with their models loaded.

    Args:
        plan: What to do.
        folder: The source's folder.

    Raises:
        ValueError: the plan cannot be carried out, for example because a model is missing.
    """

    def __init__(self, plan: Plan, folder: Path) -> None:
        self.plan, self.folder = plan, folder
        self.digest = plan.digest()
        self.source = plan.make_source(folder)
        self.steps: list[Step] = plan.make_steps()

    def __call__(self, item: Item) -> bytes:
        """The item's outcome, as bytes. A fault of the item is part of its outcome."""
        files = file_states(self.folder, item.files)
        outcome = ItemOutcome(key=item.key, item=item.digest(), plan=self.digest, files=files)
        try:
            read = self.source.read(item)
            candidates, rejections = self._through_steps(item, read)
            samples = self._exported(item, candidates, rejections)
        except MemoryError:  # another time there may be more
            return failed(item, self.digest, "there is not enough memory for it")
        except Exception as error:  # a step's bug on one picture must not stop the build
            where = traceback.extract_tb(error.__traceback__)[-1]
            detail = f"{type(error).__name__}: {error} ({Path(where.filename).name}, line {where.lineno})"
            return outcome.model_copy(update={"rejections": (_failure(item, detail),)}).to_bytes()
        records, pictures, fingerprints = zip(*samples, strict=True) if samples else ((), (), ())
        made = {"records": records, "pictures": pictures, "fingerprints": fingerprints, "rejections": tuple(rejections)}
        return outcome.model_copy(update=made).to_bytes()

    def _through_steps(self, item: Item, read: Candidate | Rejected) -> tuple[list[Candidate], list[Rejection]]:
        rejections: list[Rejection] = []
        candidates: Sequence[Candidate] = []
        if isinstance(read, Rejected):
            rejections += _rejections(read, item, None)
        else:
            candidates = [read]
        for step in self.steps:
            left: list[Candidate] = []
            for candidate in candidates:
                result = step(candidate)
                if isinstance(result, Rejected):
                    rejections += [*candidate.dropped, *_rejections(result, item, candidate)]
                else:
                    left += result
            candidates = left
        return list(candidates), rejections

    def _exported(
        self, item: Item, candidates: Sequence[Candidate], rejections: list[Rejection]
    ) -> list[tuple[SampleRecord, dict[str, bytes], ImageFingerprint]]:
        split: Split = "heldout" if _position(item.key) < self.plan.heldout else "train"
        samples = []
        for candidate in candidates:
            rejections += candidate.dropped
            if candidate.references is None:
                detail = f"{item.where} was never paired: the plan needs the step `pair`"
                rejections.append(Rejection(reason="not_paired", what=candidate.key, detail=detail, bad=True))
                continue
            made = export(candidate, self.plan.write, split=split, source=self.plan.credit, licence=self.plan.licence)
            if isinstance(made, Rejection):
                rejections.append(made)
            else:
                samples.append((*made, ImageFingerprint.of(candidate.target.rgb)))
        return samples


def failed(item: Item, plan: str, detail: str) -> bytes:
    """The outcome of an item whose worker died or had too little memory: the next build repeats it."""
    return ItemOutcome(
        key=item.key, item=item.digest(), plan=plan, files=(), rejections=(_failure(item, detail),)
    ).to_bytes()


def _failure(item: Item, detail: str) -> Rejection:
    return Rejection(reason="failed", what=item.where, detail=f"{item.where}: {detail}", bad=True, unit="item")


def _rejections(rejected: Rejected, item: Item, candidate: Candidate | None) -> list[Rejection]:
    """The photos and the item or sample that a step or the source has rejected."""
    sample = candidate is not None and candidate.references is not None
    what, unit = (candidate.key, "sample") if candidate is not None and sample else (item.where, "item")
    whole = Rejection(reason=rejected.reason, what=what, detail=rejected.detail, bad=rejected.bad, unit=unit)
    return [*rejected.dropped, whole]


def _position(key: str) -> float:
    """A number in [0, 1) that depends on the key alone."""
    return int.from_bytes(hashlib.sha256(f"split {key}".encode()).digest()[:6], "big") / 2**48
