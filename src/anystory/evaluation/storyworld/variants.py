"""The rows of the table: the model as it is, with parts switched off, and what no model can pass."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from anystory.evaluation.storyworld.cases import Case, instance_masks


@dataclass(frozen=True, kw_only=True)
class Variant:
    """One way of drawing all cases."""

    name: str
    label: str
    subject: dict[str, Any] = field(default_factory=dict)
    """Settings of every `Subject`."""
    call: dict[str, Any] = field(default_factory=dict)
    """Arguments of the pipeline's call."""
    regions: Callable[[Case], Sequence[np.ndarray]] | None = None
    """Masks (H, W) that are given to the subjects of a case as fixed regions."""
    uses_subjects: bool = True
    uses_model: bool = True
    """False: the true scene through the autoencoder."""

    @property
    def is_routed(self) -> bool:
        """Whether the router decides, so that its maps say something."""
        return self.uses_subjects and self.uses_model and self.regions is None and self.call.get("use_router", True)


FULL = Variant(name="full", label="full model")
CEILING = Variant(name="ceiling", label="ceiling: true scenes through the VAE", uses_model=False)
VARIANTS: dict[str, Variant] = {
    variant.name: variant
    for variant in (
        FULL,
        Variant(name="clip-only", label="ReferenceNet off", subject={"reference_scale": 0.0}),
        Variant(name="reference-only", label="CLIP off", subject={"scale": 0.0}),
        Variant(name="no-router", label="router off", call={"use_router": False}),
        Variant(name="oracle", label="true masks for the router", regions=instance_masks),
        Variant(name="prompt-only", label="no subjects (floor)", uses_subjects=False),
        CEILING,
    )
}


def parse_rows(text: str | None) -> list[Variant]:
    """`"full,no-router"` as variants, in the table's order; None is all.

    Raises:
        ValueError: an unknown row.
    """
    if text is None:
        return list(VARIANTS.values())
    names = {name.strip() for name in text.split(",")}
    if unknown := names - VARIANTS.keys():
        raise ValueError(f"--rows: no row {', '.join(sorted(unknown))}: choose from {', '.join(VARIANTS)}")
    return [variant for name, variant in VARIANTS.items() if name in names]
