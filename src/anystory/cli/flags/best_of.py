"""The options about candidates, of which the best is kept. Nothing heavy is imported before it is needed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from anystory.engine.limits import MOST_PICTURES, check_seeds

if TYPE_CHECKING:
    from anystory.engine.options import ModelOptions
    from anystory.engine.saving import Kept

__all__ = ["BestOfFlags"]


@dataclass(frozen=True, kw_only=True)
class BestOfFlags:
    """How many candidates are drawn, and what chooses."""

    best_of: Annotated[
        int,
        typer.Option(
            min=1,
            max=MOST_PICTURES,
            help="Number of candidates of each picture. The best is kept, with the scores of all in the record.",
        ),
    ] = 1
    retry_character: Annotated[
        int,
        typer.Option(
            min=0,
            max=MOST_PICTURES,
            help="Redraw a character that failed, inside its own pixels, up to this many times.",
        ),
    ] = 0
    score_by: Annotated[
        str | None,
        typer.Option(
            help="What scores: folder or hub id of a CLIP, DINO or DINOv2 model; by default the model's own encoder."
        ),
    ] = None

    @property
    def scored(self) -> bool:
        """Whether pictures are scored at all."""
        return self.best_of > 1 or self.retry_character > 0

    def check(self, seeds: Sequence[int], image: Path | None) -> None:
        """Refuse what does not go together.

        Raises:
            ValueError: it does not.
            OptionError: the last candidate's seed is too large.
        """
        if self.score_by is not None and not self.scored:
            raise ValueError("--score-by is for --best-of 2 or more, and for --retry-character")
        if self.retry_character and image is not None:
            raise ValueError("--retry-character draws over the picture itself: leave out --image")
        check_seeds(seeds[0], len(seeds) * self.best_of)

    def drawing(self, model: ModelOptions) -> Callable[..., list[Kept]]:
        """What draws a job into a folder, as `engine.drawing.draw_into` does.

        Raises:
            ValueError: there is no encoder to score by.
        """
        from anystory.engine.drawing import draw_into

        if not self.scored:
            return draw_into
        from anystory.evaluation.best_of.drawing import draw_best
        from anystory.evaluation.best_of.scoring import scorer_for

        scorer = scorer_for(model, self.score_by)
        return partial(draw_best, candidates=self.best_of, scorer=scorer, retries=self.retry_character)
