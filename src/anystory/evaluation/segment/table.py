"""The numbers of an evaluation of `segment`, with intervals, and the bars."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import numpy as np

from anystory.evaluation.bootstrap import Bootstrap, Estimate, Scores, estimate
from anystory.evaluation.storyworld.cases import Group
from anystory.evaluation.storyworld.table import Criterion

__all__ = ["ROWS", "SegmentResults"]

Groups = tuple[Group, ...]
_BOTH: Groups = ("two", "alike")

ROWS: tuple[tuple[str, str, Groups], ...] = (
    ("mIoU", "iou", _BOTH),
    ("mIoU, two kinds", "iou", ("two",)),
    ("mIoU, look-alikes", "iou", ("alike",)),
    ("right identity, two kinds", "identity", ("two",)),
    ("right identity, look-alikes", "identity", ("alike",)),
    ("subjects that are there, found", "kept", _BOTH),
    ("absent: empty mask", "empty beside any", _BOTH),
    ("absent, of the kind of one who is there: empty mask", "empty beside alike", _BOTH),
    ("found beside an absent one", "kept beside any", _BOTH),
    ("mIoU beside an absent one", "iou beside any", _BOTH),
    ("mIoU, borders not on edges", "smooth iou", _BOTH),
    ("mIoU, equal weights", "equal iou", _BOTH),
)
"""(name, measure, groups of scenes)."""

_BARS: tuple[tuple[str, str, Groups, float], ...] = (
    ("mIoU", "iou", _BOTH, 0.75),
    ("right identity, look-alikes", "identity", ("alike",), 0.85),
    ("absent: empty mask", "empty beside any", _BOTH, 0.90),
)


@dataclass(frozen=True, kw_only=True, eq=False)
class SegmentResults:
    """All scores of one model."""

    groups: tuple[Group, ...]
    """Of each scene."""
    scores: tuple[Scores, ...]
    """Of each scene, all its trials together."""
    layers: tuple[str, ...]
    levels: tuple[float, ...]

    def cell(self, measure: str, groups: Sequence[Group] = _BOTH) -> Estimate:
        """A share of hits, with its interval over scenes."""
        chosen = np.isin(self.groups, list(groups))
        return estimate(*self._bootstrap.ratio(self.scores, measure, chosen))

    def bars(self) -> list[Criterion]:
        """What is asked of the shipped weights."""
        return [Criterion(name, self.cell(measure, groups), bound, True) for name, measure, groups, bound in _BARS]

    def to_dict(self) -> dict[str, Any]:
        """Everything, for JSON."""
        return {
            "scenes": {group: self.groups.count(group) for group in _BOTH},
            "rows": {name: self.cell(measure, groups).to_dict() for name, measure, groups in ROWS},
            "levels": {f"{level:g}": self.cell(f"iou {level:g}").to_dict() for level in self.levels},
            "maps": {
                layer: {f"{level:g}": self.cell(f"iou {level:g} {layer}").to_dict() for level in self.levels}
                for layer in self.layers
            },
            "bars": [{**asdict(bar), "estimate": bar.estimate.to_dict(), "holds": bar.holds} for bar in self.bars()],
        }

    @cached_property
    def _bootstrap(self) -> Bootstrap:
        return Bootstrap(len(self.scores))
