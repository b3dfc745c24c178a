"""A figure and the limit that it is held to."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Bar:
    """One figure of a report and its limit."""

    name: str
    value: float
    limit: float
    at_least: bool = False
    """Whether the limit is the least value; else it is the most."""

    @property
    def met(self) -> bool:
        """Whether the value keeps to the limit."""
        return self.value >= self.limit if self.at_least else self.value <= self.limit
