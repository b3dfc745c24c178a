"""Samples that cannot be used: why, and how many."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Literal, get_args

__all__ = ["REASONS", "BadSample", "BadTally", "Reason"]

Reason = Literal[
    "bad_record",
    "missing_file",
    "missing_reference",
    "unreadable_image",
    "too_many_pixels",
    "too_small",
    "not_finite",
    "mask_size",
    "empty_mask",
    "overlapping_masks",
    "empty_reference",
    "empty_caption",
    "outside_crop",
]
"""Short names for counting; the error's message has the details."""

REASONS: tuple[str, ...] = get_args(Reason)

_EXAMPLES = 5


class BadSample(ValueError):
    """A sample that cannot be used.

    Args:
        reason: The kind of defect, for counting.
        message: What is wrong, with the file's name.
    """

    def __init__(self, reason: Reason, message: str) -> None:
        super().__init__(message)
        self.reason: Reason = reason

    def __reduce__(self) -> tuple[type[BadSample], tuple[Reason, str]]:
        return type(self), (self.reason, str(self))  # both arguments, so that it crosses processes


@dataclass
class BadTally:
    """How many samples were read, and the bad ones by reason with a few examples."""

    seen: int = 0
    counts: Counter[str] = field(default_factory=Counter)
    examples: dict[str, list[tuple[str, str]]] = field(default_factory=dict)
    """(key, message) of the first few of each reason."""

    @property
    def bad(self) -> int:
        return sum(self.counts.values())

    @property
    def share(self) -> float:
        """Bad samples of all that were seen, in [0, 1]."""
        return self.bad / self.seen if self.seen else 0.0

    def add(self, key: str, error: BadSample | None) -> None:
        """Count one sample; `error` is None for a good one."""
        self.seen += 1
        if error is None:
            return
        self.counts[error.reason] += 1
        examples = self.examples.setdefault(error.reason, [])
        if len(examples) < _EXAMPLES:
            examples.append((key, str(error)))

    def summary(self) -> str:
        """`3 of 120 samples are bad (mask_size 2, empty_caption 1); for example fox-3: …`."""
        if not self.bad:
            return f"all {self.seen} samples are good"
        reasons = ", ".join(f"{reason} {count}" for reason, count in self.counts.most_common())
        key, message = self.examples[self.counts.most_common(1)[0][0]][0]
        return f"{self.bad} of {self.seen} samples are bad ({reasons}); for example {key}: {message}"
