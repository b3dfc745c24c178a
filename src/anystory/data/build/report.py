"""What was built, and what was left out for which reason."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from anystory.data.build.candidates import Rejection
from anystory.files import atomic_write

__all__ = ["Report"]

_EXAMPLES = 5
_UNITS = ("item", "sample", "photo")


@dataclass
class Report:
    """Counts of a build. It depends on the input and the plan alone: no times, no machines."""

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

    def add_rejections(self, rejections: Iterable[Rejection]) -> None:
        """Count what was left out."""
        for rejection in rejections:
            self.rejected.setdefault(rejection.reason, Counter())[rejection.unit] += 1
            self.bad += rejection.bad and rejection.unit == "item"
            examples = self.examples.setdefault(rejection.reason, [])
            if len(examples) < _EXAMPLES:
                examples.append(rejection.detail)

    @property
    def commonest(self) -> str:
        """The commonest reason with an example; empty if nothing was left out."""
        if not self.rejected:
            return ""
        reason = self._reasons()[0]
        return f"{reason}: {self.examples[reason][0]}"

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

        table = Table("left out because", "items", "samples", "photos", "for example")
        for column in table.columns[1:4]:
            column.justify = "right"
        for reason in self._reasons():
            counts = [str(self.rejected[reason][unit] or "") for unit in _UNITS]
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
