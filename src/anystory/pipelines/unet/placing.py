"""Where subjects may go before the router decides: fixed regions, and subjects that are given twice.

Shapes: B pictures, N subjects, H × W pixels of the picture.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from anystory.models.encoders import EncodedSubjects
from anystory.models.gates import Argmax, FixedRegions, Gate
from anystory.pipelines.inputs import name_of
from anystory.pipelines.unet.encoding import SubjectEncoding

__all__ = ["Placing"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Placing:
    """Who takes part in each picture, and inside which borders."""

    encoded: EncodedSubjects
    """The subjects of B pictures."""
    regions: Tensor | None = None
    """(B, N, H, W) in [0, 1]; None where no subject has a fixed region."""
    region_given: Tensor | None = None
    """(B, N) bool: which have one."""
    twins: tuple[tuple[str, str], ...] = ()
    """Names of equal subjects of which the second yields to the first somewhere."""

    @property
    def gate(self) -> Gate:
        """The router, inside these borders."""
        if self.regions is None or self.region_given is None:
            return Argmax()
        return FixedRegions(self.regions, self.region_given)

    @classmethod
    def of(
        cls, encoded: EncodedSubjects, pictures: Sequence[Sequence[SubjectEncoding]], size: tuple[int, int]
    ) -> Placing:
        """The regions that the subjects of each picture have at its size (H, W)."""
        subjects = [[encoding.subject for encoding in row] for row in pictures]
        if all(subject.region is None for row in subjects for subject in row):
            return cls(encoded=encoded)
        regions = torch.zeros(len(subjects), max(map(len, subjects)), *size)
        given = torch.zeros(regions.shape[:2], dtype=torch.bool)
        for b, row in enumerate(subjects):
            for i, subject in enumerate(row):
                if subject.region is not None:
                    regions[b, i] = torch.from_numpy(subject.region_mask(*size))
                    given[b, i] = True
        device = encoded.present.device
        return cls(encoded=encoded, regions=regions.to(device), region_given=given.to(device))

    def without_ties(self, pictures: Sequence[Sequence[SubjectEncoding]]) -> Placing:
        """The same where no two equal subjects compete for a pixel: the first one has it.

        The router cannot tell them apart, so that rounding would. Without regions the second takes no part; of two
        overlapping regions it keeps what the first does not have; one with a region and one without do not meet.
        """
        present = self.encoded.present.clone()
        given = torch.zeros_like(present[:, :-1]) if self.region_given is None else self.region_given.clone()
        regions = None if self.regions is None else self.regions.clone()
        twins: dict[tuple[str, str], None] = {}
        for b, row in enumerate(pictures):
            for later, first in _equal_pairs(row):
                if given[b, later] != given[b, first]:
                    continue
                if regions is not None and given[b, later]:
                    overlap = torch.minimum(regions[b, later], regions[b, first])
                    if not overlap.any():
                        continue
                    regions[b, later] -= overlap
                    given[b, later] = regions[b, later].any()
                present[b, later] = given[b, later]
                twins[name_of(row[first].subject, first), name_of(row[later].subject, later)] = None
        if not twins:
            return self
        encoded = replace(self.encoded, present=present)
        return Placing(
            encoded=encoded, regions=regions, region_given=given if regions is not None else None, twins=tuple(twins)
        )


def _equal_pairs(row: Sequence[SubjectEncoding]) -> list[tuple[int, int]]:
    """(later, first) for every subject that is equal to an earlier one: the router sees the same in both."""
    pairs = []
    for later, encoding in enumerate(row):
        equal = (i for i in range(later) if encoding is row[i] or torch.equal(encoding.routing, row[i].routing))
        if (first := next(equal, None)) is not None:
            pairs.append((later, first))
    return pairs
