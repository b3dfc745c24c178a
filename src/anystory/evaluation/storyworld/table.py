"""The table of an evaluation: every row's shares with intervals, and the bars that the shipped weights are held to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from anystory.evaluation.bootstrap import Bootstrap, Estimate, estimate
from anystory.evaluation.storyworld.cases import GROUPS, Case, Group
from anystory.evaluation.storyworld.run import MOMENTS, Row
from anystory.evaluation.storyworld.scores import IDENTITY, PROMPT


@dataclass(frozen=True)
class Column:
    """A measure over the cases of some groups."""

    name: str
    measure: str
    groups: tuple[Group, ...] = GROUPS


IDENTITY_COLUMNS = (
    Column("one", "identity", ("one",)),
    Column("two", "identity", ("two",)),
    Column("alike", "identity", ("alike",)),
    Column("three", "identity", ("three",)),
    Column("coarse", "coarse"),
    Column("fine", "fine"),
    Column("leak two", "leak", ("two",)),
    Column("leak alike", "leak", ("alike",)),
    Column("leak three", "leak", ("three",)),
)
PROMPT_COLUMNS = tuple(Column(name, name) for name in (*PROMPT, "count", "eyes", "sharpness"))
ROUTING_COLUMNS = tuple(
    Column(f"{kind} {moment} %", f"{kind} {moment}") for kind in ("coarse", "refined") for moment in MOMENTS
)
ATTRIBUTE_COLUMNS = tuple(Column(name, f"attribute {name}") for name in IDENTITY)

_SHARES_OF_CEILING: tuple[tuple[str, str, tuple[Group, ...], float], ...] = (
    ("one subject: identity, share of the ceiling", "identity", ("one",), 0.87),
    ("one subject: prompt, share of the ceiling", "prompt", ("one",), 0.85),
    ("two subjects: identity, share of the ceiling", "identity", ("two",), 0.82),
    ("look-alikes: identity, share of the ceiling", "identity", ("alike",), 0.82),
    ("pose, share of the ceiling", "pose", GROUPS, 0.82),
    ("emblem, share of the ceiling", "attribute emblem", GROUPS, 0.60),
)
_LEAKS: tuple[tuple[str, tuple[Group, ...], float], ...] = (
    ("two subjects: leak", ("two",), 0.06),
    ("look-alikes: leak", ("alike",), 0.08),
)


@dataclass(frozen=True)
class Criterion:
    """Something the shipped weights must reach."""

    name: str
    estimate: Estimate
    bound: float
    at_least: bool
    also: bool = True
    """A further condition on the interval, such as that it excludes "no difference"."""

    @property
    def holds(self) -> bool:
        """Whether the value reaches the bound (and the interval what it must)."""
        value = self.estimate.value
        return self.also and (value >= self.bound if self.at_least else value <= self.bound)


class Results:
    """All rows of one evaluation.

    Args:
        cases: what was drawn.
        rows: their scores, each in the order of the cases.
    """

    def __init__(self, cases: Sequence[Case], rows: Sequence[Row]) -> None:
        self.cases = list(cases)
        self.rows = {row.variant.name: row for row in rows}
        self.bootstrap = Bootstrap(len(cases))
        self._groups = np.array([case.group for case in cases])

    def cell(self, row: str, column: Column) -> Estimate:
        """One row's share of hits."""
        value, resampled, trials = self._ratio(row, column)
        return estimate(value, resampled, trials)

    def share_of_ceiling(self, column: Column) -> Estimate:
        """The full model's value as a share of the ceiling's."""
        return self._compare("full", column, "ceiling", column, np.divide)

    def bars(self) -> list[Criterion]:
        """The bars for which the rows are there."""
        bars: list[Criterion] = []
        if {"full", "ceiling"} <= self.rows.keys():
            for name, measure, groups, bound in _SHARES_OF_CEILING:
                bars.append(Criterion(name, self.share_of_ceiling(Column(name, measure, groups)), bound, True))
        if "full" in self.rows:
            for name, groups, bound in _LEAKS:
                bars.append(Criterion(name, self.cell("full", Column(name, "leak", groups)), bound, False))
            refined, coarse = Column("refined", "refined 100"), Column("coarse", "coarse 100")
            bars.append(Criterion("routing IoU at the end", self.cell("full", refined), 0.74, True))
            sharp = self.cell("full", Column("sharpness", "sharpness"))
            bars.append(Criterion("sharpness, share of true scenes'", sharp, 0.75, True))
            gain = self._compare("full", refined, "full", coarse, np.subtract)
            bars.append(Criterion("routing IoU: refined − coarse", gain, 0.0, True, gain.low > 0))
        if {"full", "clip-only"} <= self.rows.keys():
            fine = Column("fine", "fine")
            loss = self._compare("full", fine, "clip-only", fine, np.subtract)
            bars.append(Criterion("fine detail lost with ReferenceNet off", loss, 0.20, True, loss.low > 0))
        if {"full", "no-router"} <= self.rows.keys():
            leak = Column("leak", "leak", ("two", "alike"))
            ratio = self._compare("no-router", leak, "full", leak, np.divide)
            bars.append(Criterion("leak with the router off / on", ratio, 2.0, True, ratio.low > 1))
        return bars

    def to_dict(self) -> dict[str, Any]:
        """Everything, for JSON."""
        columns = {
            "identity": IDENTITY_COLUMNS,
            "prompt": PROMPT_COLUMNS,
            "routing": ROUTING_COLUMNS,
            "attributes": ATTRIBUTE_COLUMNS,
        }
        return {
            "pictures": {group: int((self._groups == group).sum()) for group in GROUPS},
            "rows": {
                name: {
                    "label": row.variant.label,
                    **{part: {c.name: self.cell(name, c).to_dict() for c in cs} for part, cs in columns.items()},
                }
                for name, row in self.rows.items()
            },
            "bars": [{**asdict(bar), "estimate": bar.estimate.to_dict(), "holds": bar.holds} for bar in self.bars()],
        }

    def _ratio(self, row: str, column: Column) -> tuple[float, np.ndarray, int]:
        chosen = np.isin(self._groups, column.groups)
        return self.bootstrap.ratio(self.rows[row].scores, column.measure, chosen)

    def _compare(self, row: str, column: Column, other: str, other_column: Column, how: Any) -> Estimate:
        a, a_resampled, trials = self._ratio(row, column)
        b, b_resampled, _ = self._ratio(other, other_column)
        with np.errstate(invalid="ignore", divide="ignore"):
            return estimate(float(how(np.float64(a), b)), how(a_resampled, b_resampled), trials)
