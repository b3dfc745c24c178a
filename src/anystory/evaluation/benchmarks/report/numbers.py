"""Values with their intervals, as texts."""

from __future__ import annotations

from anystory.evaluation.bootstrap import Estimate

__all__ = ["number_text"]


def number_text(found: Estimate | None) -> str:
    """A value with its interval."""
    if found is None or found.value != found.value:
        return "–"
    return f"{found.value:.3f} [{found.low:.3f}, {found.high:.3f}]"
