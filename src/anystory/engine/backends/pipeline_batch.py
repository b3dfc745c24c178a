"""Several jobs on a loaded pipeline of diffusers, drawn in one call."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from PIL import Image

from anystory.engine.backends.base import BatchStep, DrawnPicture, Numbers
from anystory.engine.backends.pipeline_call import refuse_black
from anystory.engine.backends.previews import LatentColours, Previews

__all__ = ["PipelineBatch"]


@dataclass(frozen=True, kw_only=True)
class PipelineBatch:
    """See `base.Batch`."""

    pipe: Any
    """The pipeline that draws."""
    arguments: dict[str, Any]
    """Of its call, numbers included, but for seeds and hooks."""
    numbers: Numbers
    """What each record says of them."""
    colours: Callable[[], LatentColours]
    """Gives the map for previews."""
    references: Sequence[tuple[Image.Image, ...]]
    """Of each job the subjects as the model saw them."""
    cutouts: Sequence[tuple[tuple[str, ...], ...]]
    """How each photo of each subject was cut out."""

    def draw(self, seeds: Sequence[int], *, routing: bool, on_step: Callable[[BatchStep], None]) -> list[DrawnPicture]:
        """See `base.Batch.draw`."""
        previews = [Previews(self.colours) for _ in seeds]

        def after_step(pipe: Any, step: int, timestep: Any, tensors: dict[str, Any]) -> dict[str, Any]:
            clean = [own.clean(one, pipe.scheduler) for own, one in zip(previews, tensors["latents"], strict=True)]
            on_step(BatchStep(step + 1, pipe.num_timesteps, lambda number: previews[number].picture(clean[number])))
            return tensors

        try:
            result = self.pipe(
                **self.arguments,
                generator=[torch.Generator().manual_seed(seed) for seed in seeds],
                record_routing=routing,
                callback_on_step_end=after_step,
            )
        except BaseException:
            self.pipe.maybe_free_model_hooks()  # with offloading, back to the CPU, as at the end of a call
            raise
        for image in result.images:
            refuse_black(image, None)
        return [
            DrawnPicture(
                image=image,
                seed=seed,
                numbers=self.numbers,
                routing=None if result.routing is None else result.routing.picture(number),
                references=self.references[number],
                cutouts=self.cutouts[number],
                together=len(seeds),
            )
            for number, (image, seed) in enumerate(zip(result.images, seeds, strict=True))
        ]
