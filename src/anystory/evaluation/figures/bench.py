"""What the figures share: the model, held-out cases, and rows of the StoryWorld table, each drawn once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from anystory.engine.record.provenance import weight_hashes
from anystory.evaluation.storyworld.cases import Case, draw_cases
from anystory.evaluation.storyworld.report import sampling
from anystory.evaluation.storyworld.run import Row, Settings, check_kept, picture_side, run_row
from anystory.evaluation.storyworld.show import on_white
from anystory.evaluation.storyworld.table import Results
from anystory.evaluation.storyworld.variants import CEILING, VARIANTS, Variant
from anystory.page_layout import beside
from anystory.pipelines.loading.assets import resolve_model
from anystory.pipelines.sdxl import AnyStoryPipeline
from anystory.storyworld.attribute_classifier.classifier import SHIPPED, AttributeClassifier

SIDE = 128
"""Of pictures on a page, pixels."""
_BATCH = 16
"""Pictures drawn at a time."""


@dataclass(kw_only=True)
class Bench:
    """One model on one bench; everything is loaded and drawn when it is first asked for.

    Args:
        model: An embedded model, a folder or a hub id of an AnyStory model whose base is a U-Net.
        number: Cases, at least 4.
        folder: Where pictures and scores of rows are kept, so that no row is drawn twice.
        advance: Called after each batch of pictures with a row's label and the pictures done.
    """

    model: str
    number: int
    level: str
    seed: int
    steps: int | None
    folder: Path
    advance: Callable[[str, int], None] = field(default=lambda label, done: None)
    _rows: dict[str, Row] = field(default_factory=dict, init=False)

    @cached_property
    def pipe(self) -> Any:
        """The pipeline."""
        pipe = AnyStoryPipeline.from_pretrained(self.model)
        pipe.set_progress_bar_config(disable=True)
        return pipe

    @cached_property
    def classifier(self) -> AttributeClassifier:
        """The judge that ships."""
        return AttributeClassifier.load(None)

    @cached_property
    def settings(self) -> Settings:
        """The model's own steps and guidance, where no others were asked for."""
        return sampling(self.pipe, self.steps, None, None, _BATCH, self.seed)

    @cached_property
    def cases(self) -> list[Case]:
        """The first held-out cases (`storyworld.cases.draw_cases`)."""
        size, picture = self.classifier.config.size, picture_side(self.pipe)
        return list(draw_cases(self.number, level=self.level, split="heldout", size=size, picture=picture))

    @cached_property
    def _key(self) -> str:
        weights = weight_hashes({"model": resolve_model(self.model), "judge": SHIPPED})
        return f"{sorted(weights.items())} {self.level} heldout figures"

    def results(self, names: Sequence[str]) -> Results:
        """Rows of the table by the names of their variants, with the ceiling.

        Raises:
            ValueError: the folder keeps rows of another model or other settings.
        """
        variants = [*(VARIANTS[name] for name in names), CEILING]
        missing = [variant for variant in variants if variant.name not in self._rows]
        check_kept(self.folder, missing, self.cases, self.settings, self._key)
        for variant in missing:
            self._rows[variant.name] = run_row(
                self.pipe,
                self.classifier,
                variant,
                self.cases,
                self.settings,
                folder=self.folder,
                key=self._key,
                advance=lambda done, variant=variant: self.advance(variant.label, done),
            )
        return Results(self.cases, [self._rows[variant.name] for variant in variants])

    def drawn(self, variant: Variant | str, case: Case) -> Image.Image:
        """What a row drew for a case."""
        name = variant if isinstance(variant, str) else variant.name
        return Image.open(self.folder / "pictures" / name / f"{case.index:06d}.png").convert("RGB")

    def noise(self, case: Case) -> torch.Generator:
        """A case's own noise, the same in every row and figure."""
        return torch.Generator().manual_seed(self.settings.seed + case.index)

    def first(self, group: str, most: int) -> list[Case]:
        """The first cases of a group: never the best."""
        return [case for case in self.cases if case.group == group][:most]


def references(case: Case, side: int = SIDE) -> Image.Image:
    """A case's references beside one another, over white."""
    return beside([shown(on_white(reference), side) for reference in case.references], gap=2)


def shown(picture: Image.Image | np.ndarray, side: int = SIDE) -> Image.Image:
    """A picture at its size on a page."""
    image = picture if isinstance(picture, Image.Image) else Image.fromarray(picture)
    how = Image.Resampling.NEAREST if image.width < side else Image.Resampling.LANCZOS
    return image.resize((side, side), how)
