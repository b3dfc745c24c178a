"""A job on a loaded pipeline of diffusers, drawn once for each seed: what the families of models have in common."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from anystory.engine.backends.backgrounds import StepCallback, shared_noise
from anystory.engine.backends.base import DrawnPicture, Numbers, SamplingStep
from anystory.engine.backends.previews import LatentColours, Previews
from anystory.engine.source import SourcePicture
from anystory.segment.fusion import Fusion
from anystory.segment.segmentation import Segmentation

__all__ = ["PipelineCall", "refuse_black", "segment_picture"]


@dataclass(frozen=True, kw_only=True)
class PipelineCall:
    """See `base.Call`."""

    pipe: Any
    """The pipeline that draws."""
    arguments: dict[str, Any]
    """Of its call, numbers included, but for seed and hooks."""
    numbers: Numbers
    """What a record says of them."""
    colours: Callable[[], LatentColours]
    """Gives what makes previews."""
    latents: Callable[[Tensor], Tensor]
    """Of what a step leaves (1, …), the latents (c, h, w) of the picture."""
    background: int | None = None
    """See `Job.background_seed`."""
    source: SourcePicture | None = None
    """The picture to draw over, if any."""
    references: tuple[Image.Image, ...] = ()
    """The subjects as the model saw them."""
    cutouts: tuple[tuple[str, ...], ...] = ()
    """How each photo of each subject was cut out."""

    def draw(self, seed: int, *, routing: bool, on_step: Callable[[SamplingStep], None]) -> DrawnPicture:
        """See `base.Call.draw`."""
        begin = self.arguments
        try:
            if self.background is not None:
                tell = self._teller(on_step, steps_before=0)
                begin = begin | {"latents": shared_noise(self.pipe, begin, seed, self.background, tell)}
            result = self.pipe(
                **begin,
                generator=torch.Generator().manual_seed(seed),
                record_routing=routing,
                callback_on_step_end=self._teller(on_step, steps_before=self.numbers.ahead),
            )
        except BaseException:
            self.pipe.maybe_free_model_hooks()  # with offloading, back to the CPU, as at the end of a call
            raise
        image = result.images[0]
        refuse_black(image, self.source)
        return DrawnPicture(
            image=image if self.source is None else self.source.keep_rest(image),
            seed=seed,
            numbers=self.numbers,
            routing=result.routing,
            references=self.references,
            cutouts=self.cutouts,
        )

    def _teller(self, on_step: Callable[[SamplingStep], None], *, steps_before: int) -> StepCallback:
        """A pipeline's callback that tells of each step.

        Args:
            on_step: Told of each.
            steps_before: Steps of the picture before this call of the pipeline.
        """
        previews = Previews(self.colours)

        def after_step(pipe: Any, step: int, timestep: Any, tensors: dict[str, Any]) -> dict[str, Any]:
            latents = previews.clean(self.latents(tensors["latents"]), pipe.scheduler)
            done, count = steps_before + step + 1, self.numbers.ahead + pipe.num_timesteps
            on_step(SamplingStep(done, count, lambda: previews.picture(latents)))
            return tensors

        return after_step


def refuse_black(image: Image.Image, source: SourcePicture | None) -> None:
    """Raise FloatingPointError for a picture that is black all over, unless so is what was drawn over."""
    if not _is_black(image) or (source is not None and _is_black(source.image)):
        return
    raise FloatingPointError(
        "the picture is black all over, which no prompt asks for: most likely an overflow in the model; try a lower"
        " guidance, dtype float32, or `anystory models verify`"
    )


def _is_black(image: Image.Image) -> bool:
    return image.convert("L").getextrema() == (0, 0)


def segment_picture(
    pipe: Any,
    image: Any,
    encoded: Sequence[Any],
    *,
    prompt: str = "",
    seed: int = 0,
    levels: Sequence[float] | None = None,
    draws: int | None = None,
    on_step: Callable[[SamplingStep], None] = lambda step: None,
) -> tuple[Segmentation, Fusion]:
    """See `base.Model.segment`; the subjects are encoded."""
    try:
        fusion = pipe.fusion.at(levels, draws)
        found = pipe.segment(
            image,
            encoded,
            prompt=prompt,
            generator=torch.Generator().manual_seed(seed),
            fusion=fusion,
            on_look=lambda done, count: on_step(SamplingStep(done, count)),
        )
        return found, fusion
    except BaseException:
        pipe.maybe_free_model_hooks()  # with offloading, back to the CPU, as at the end of a call
        raise
