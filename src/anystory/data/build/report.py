"""What was built, and what was left out for which reason."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from anystory.data.build.candidates import Rejection
from anystory.data.records import SampleRecord
from anystory.files import atomic_write

__all__ = ["Report"]

_EXAMPLES = 5
_OF_ITEMS = ("item", "sample", "photo")
_UNITS = (*_OF_ITEMS, "file", "row")


@dataclass
class Report:
    """Counts of a build. They depend on the input and the plan alone, not on time or machine."""

    items: int = 0
    samples: int = 0
    subjects: int = 0
    references: int = 0
    heldout: int = 0
    """Samples that are kept apart from training."""
    rejected: dict[str, Counter[str]] = field(default_factory=dict)
    """{reason: {unit: count}}."""
    bad: int = 0
    """Items whose files cannot be used at all."""
    examples: dict[str, list[str]] = field(default_factory=dict)

    def add_sample(self, record: SampleRecord) -> None:
        """Count a sample that is written."""
        self.samples += 1
        self.heldout += record.split == "heldout"
        self.subjects += len(record.subjects)
        self.references += sum(len(subject.references) for subject in record.subjects)

    def add_rejections(self, rejections: Iterable[Rejection]) -> None:
        """Count what was left out."""
        for rejection in rejections:
            self.rejected.setdefault(rejection.reason, Counter())[rejection.unit] += 1
            self.bad += rejection.bad and rejection.unit == "item"
            examples = self.examples.setdefault(rejection.reason, [])
            if len(examples) < _EXAMPLES:
                examples.append(rejection.detail)

    @property
    def most_frequent(self) -> str:
        """The most frequent reason for items and their samples and photos, with an example; empty if there is none."""
        counts = {
            reason: sum(count for unit, count in units.items() if unit in _OF_ITEMS)
            for reason, units in self.rejected.items()
        }
        reason = max(self._reasons(), key=counts.__getitem__, default=None)
        return "" if reason is None else f"{reason}: {self.examples[reason][0]}"

    def to_dict(self) -> dict[str, Any]:
        """As `report.json` has it."""
        return {
            "items": self.items,
            "bad_items": self.bad,
            "samples": self.samples,
            "heldout_samples": self.heldout,
            "subjects": self.subjects,
            "references": self.references,
            "rejected": {
                reason: {
                    **{unit + "s": self.rejected[reason][unit] for unit in _UNITS},
                    "examples": self.examples[reason],
                }
                for reason in self._reasons()
            },
        }

    def write(self, path: Path, plan: dict[str, Any], digest: str) -> None:
        """Write it as JSON, with the plan that it belongs to."""
        content = {**self.to_dict(), "plan": plan, "plan_sha256": digest}
        with atomic_write(path) as temporary:
            temporary.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")

    def table(self) -> Any:
        """What was left out as a rich table."""
        from rich.table import Table
        from rich.text import Text

        units = [unit for unit in _UNITS if any(counts[unit] for counts in self.rejected.values())]
        table = Table("left out because", *(f"{unit}s" for unit in units), "for example")
        for column in table.columns[1:-1]:
            column.justify = "right"
        for reason in self._reasons():
            counts = [str(self.rejected[reason][unit] or "") for unit in units]
            table.add_row(reason, *counts, Text(self.examples[reason][0]))
        return table

    def summary(self) -> str:
        """One line."""
        apart = f", {self.heldout} of them held out" if self.heldout else ""
        return (
            f"{self.samples} samples of {self.items} items{apart}: "
            f"{self.subjects} subjects, {self.references} references"
        )

    def _reasons(self) -> list[str]:
        return sorted(self.rejected, key=lambda reason: (-self.rejected[reason].total(), reason))
