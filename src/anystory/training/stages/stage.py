"""The interface between a training stage and the trainer: what is trained, on what, and how it is scored."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from PIL import Image
from pydantic import BaseModel
from torch import Tensor, nn

from anystory.training.data.stream import Sample
from anystory.training.recipe import StageName
from anystory.training.state.muon import EDGES
from anystory.training.validation import RunningMean


class Stage(nn.Module, ABC):
    """One training stage: a module whose `forward(batch, generator)` returns named losses, `loss` among them.

    Frozen parts are attributes too; what is trained is exactly what `trained_parameters` names.
    """

    name: StageName
    options_type: type[BaseModel]
    """What the recipe may say of this stage alone."""
    main_metric: str = "loss"
    """Which of `validate`'s metrics says how good the weights are."""
    larger_is_better: bool = False
    """How the main metric is meant."""
    muon_edges: tuple[str, ...] = EDGES
    """Parts of the names of weights that AdamW moves where the optimizer is Muon."""
    needs_masks: bool = False
    """Whether samples are of no use that do not say where their subject is."""

    @abstractmethod
    def trained_parameters(self) -> dict[str, nn.Parameter]:
        """What the optimizer and the average see, by name, in a fixed order."""

    def freeze_rest(self) -> dict[str, nn.Parameter]:
        """Ask for gradients of what is trained and of nothing else; returns `trained_parameters`."""
        trained = self.trained_parameters()
        for parameter in self.parameters():
            parameter.requires_grad_(False)
        for parameter in trained.values():
            parameter.requires_grad_(True)
        return trained

    def recompute_blocks(self) -> None:
        """From now on keep what enters the networks' blocks, and compute the rest again for the gradients.

        Raises:
            ValueError: this stage cannot.
        """
        raise ValueError(f"stage {self.name!r} knows no gradient_checkpointing: leave it out of the recipe")

    @abstractmethod
    def fetch(self) -> Callable[[int], Sample]:
        """A picklable pure function from a stream position to a sample."""

    def encoders_ahead(self) -> dict[str, dict[str, Callable[[Tensor], Tensor]]]:
        """What can be made once of samples that are kept in memory: {key of a batch: {key of what is made of it: a
        function of a batch's value}}. The stage takes those for the first."""
        return {}

    def held_out(self) -> Callable[[int], Sample]:
        """The same of samples that training does not see; they are read from position `HELD_OUT` on."""
        return self.fetch()

    def begin(self, *, resumed: bool) -> None:
        """Called once before the first step of a run: write what is not trained, but what the weights mean nothing
        without, so that no later start makes it anew.

        Args:
            resumed: whether the weights are a checkpoint's.

        Raises:
            ValueError: it is not there any more, or not what the recipe needs.
        """

    @abstractmethod
    def forward(self, batch: Sample, generator: torch.Generator) -> dict[str, Tensor]:
        """Losses of one batch, scalars; `loss` is what is minimised, the others are logged."""

    @torch.no_grad()
    def validate(self, batches: Sequence[Sample]) -> dict[str, float]:
        """Metrics of held-out batches, `main_metric` among them: the losses, with draws that are always the same."""
        means = RunningMean()
        for number, batch in enumerate(batches):
            device = next(iter(self.trained_parameters().values())).device
            losses = self(move(batch, device), torch.Generator(device=device).manual_seed(number))
            samples = len(next(iter(batch.values())))  # the last batch may be smaller
            for name, value in losses.items():
                means.add(name, samples * float(value), samples)
        return means.means()

    @abstractmethod
    def sample_picture(self) -> Image.Image:
        """A fixed, seeded picture that shows what the stage has learned."""

    def before_export(self) -> None:
        """Called once with the averaged weights in place, before `export`."""

    @abstractmethod
    def export(self, folder: Path) -> None:
        """Write the trained parts (now holding the averaged weights) into a model folder in diffusers' layout."""


def move(batch: Sample, device: torch.device) -> Sample:
    """The batch with every tensor on `device`."""
    return {k: v.to(device, non_blocking=True) if isinstance(v, Tensor) else v for k, v in batch.items()}
