"""Training an attribute classifier's networks. Every draw of a step follows from (seed, step)."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from anystory.precision import native_bf16
from anystory.storyworld.attribute_classifier.classifier import AttributeClassifier
from anystory.storyworld.attribute_classifier.config import ClassifierConfig
from anystory.storyworld.attribute_classifier.crops import crops_of, squares_around
from anystory.storyworld.attribute_classifier.degrade import degrade_masks, degrade_pictures
from anystory.storyworld.attribute_classifier.networks import CharacterNet, SceneNet
from anystory.storyworld.attribute_classifier.pictures import TrainingPictures, to_pixels

OnStep = Callable[[float, int, float], None]
"""Called after every step with the spent share of the budget (0 to 1), the step and the loss."""

REBUILT_SHARE = 0.4
"""Share of the samples that come through the autoencoder, if there are such pictures."""
_CPU = torch.device("cpu")
_WARM_UP = 0.04
_FOUND = 0.5
"""Least overlap (IoU) of a mask as seen with the true one."""
_READ_AT_ONCE = 128


PARTS = ("scene", "character")
"""The networks, in the order in which they are trained: the second learns with the first one's masks."""


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """How long and how fast to train. Exactly one of `seconds` and `steps` is given.

    A run with `steps` is repeatable bit for bit on one machine; with `seconds` it depends on the machine's speed.
    """

    seconds: float | None = None
    steps: int | None = None
    batch: int = 32
    learning_rate: float = 1.5e-3
    weight_decay: float = 0.02
    seed: int = 0

    def __post_init__(self) -> None:
        if (self.seconds is None) == (self.steps is None):
            raise ValueError("an attribute classifier's training needs seconds or steps, one of the two")
        if (self.seconds or self.steps or 0) <= 0:
            raise ValueError("an attribute classifier's training needs more than zero seconds or steps")


def train_part(
    classifier: AttributeClassifier, part: str, pictures: TrainingPictures, schedule: Schedule, on_step: OnStep
) -> None:
    """Train one network of a classifier, one of `PARTS`, in place."""
    if part == "scene":
        train_scene_net(classifier.scene, pictures, schedule, on_step)
    else:
        train_character_net(
            classifier.character, classifier.config, pictures, schedule, on_step, segmenter=classifier.scene
        )


def train_scene_net(
    net: SceneNet, pictures: TrainingPictures, schedule: Schedule, on_step: OnStep = lambda *_: None
) -> None:
    """Teach segmentation, place and light, in place."""
    count = len(pictures.images)

    def loss(generator: torch.Generator) -> Tensor:
        index = torch.randint(count, (schedule.batch,), generator=generator)
        images, _ = _degraded(pictures, index, generator)
        with native_bf16(_CPU):
            pixels, place, light = net(images.contiguous(memory_format=torch.channels_last))
        owners = torch.from_numpy(pictures.instances)[index].long()
        scenery = torch.from_numpy(pictures.scenery)[index]
        return (
            F.cross_entropy(pixels.float(), owners)
            + 0.1 * F.cross_entropy(place.float(), scenery[:, 0])
            + 0.1 * F.cross_entropy(light.float(), scenery[:, 1])
        )

    _train(net, loss, schedule, on_step)


def train_character_net(
    net: CharacterNet,
    config: ClassifierConfig,
    pictures: TrainingPictures,
    schedule: Schedule,
    on_step: OnStep = lambda *_: None,
    segmenter: SceneNet | None = None,
) -> None:
    """Teach the attributes of characters, in place; crops are jittered.

    Args:
        segmenter: half of the masks are as this network sees them; the others (None: all) are true ones, of which half
            have their outlines redrawn.
    """
    labels = torch.from_numpy(pictures.labels)
    # (P, 2): picture and place in its row of every character that is large enough to read.
    people = (labels[:, :, 0] >= 0).nonzero()
    seen = seen_rebuilt = None
    if segmenter is not None:
        seen, seen_rebuilt = (_owners(segmenter, stored) for stored in (pictures.images, pictures.rebuilt))

    def loss(generator: torch.Generator) -> Tensor:
        index, number = people[torch.randint(len(people), (schedule.batch,), generator=generator)].unbind(dim=1)
        mine = (number + 1)[:, None, None]
        images, through = _degraded(pictures, index, generator)
        true = torch.from_numpy(pictures.instances)[index] == mine
        masks = degrade_masks(true, generator)
        if seen is not None and seen_rebuilt is not None:
            owners = seen[index]
            owners[through] = seen_rebuilt[index[through]]
            found = owners == mine
            overlap = (found & true).sum(dim=(1, 2)) / (found | true).sum(dim=(1, 2))
            use = (overlap > _FOUND) & (torch.rand(len(index), generator=generator) < 0.5)
            masks = torch.where(use[:, None, None], found, masks)
        squares = squares_around(masks)
        side = squares[:, 2:].clone()
        squares[:, :2] += (torch.rand(len(index), 2, generator=generator) - 0.5) * 0.06 * side
        squares[:, 2:] *= 0.95 + 0.12 * torch.rand(len(index), 1, generator=generator)
        with native_bf16(_CPU):
            said = net(*crops_of(images, masks.float(), squares, config))
        return attribute_loss(said, labels[index, number])

    _train(net, loss, schedule, on_step)


@torch.no_grad()
def _owners(segmenter: SceneNet, pictures: np.ndarray) -> Tensor:
    """Whose each pixel is, as a network sees it: uint8 (N, H, W) of pictures (N, H, W, 3)."""
    segmenter.eval()
    found = [torch.empty(0, *pictures.shape[1:3], dtype=torch.uint8)]
    for start in range(0, len(pictures), _READ_AT_ONCE):
        images = to_pixels(torch.from_numpy(pictures[start : start + _READ_AT_ONCE]))
        with native_bf16(_CPU):
            found.append(segmenter(images.contiguous(memory_format=torch.channels_last))[0].argmax(dim=1).byte())
    return torch.cat(found)


def attribute_loss(said: dict[str, Tensor], truth: Tensor) -> Tensor:
    """Mean over the attributes of the cross entropy of those samples that have one.

    Args:
        said: attribute -> logits (B, values).
        truth: (B, attributes) int64, in the order of `said`; -1 is left out.
    """
    losses = []
    for logits, wanted in zip(said.values(), truth.unbind(dim=1), strict=True):
        known = wanted >= 0
        each = F.cross_entropy(logits.float(), wanted.clamp_min(0), reduction="none")
        losses.append((each * known).sum() / known.sum().clamp_min(1))
    return torch.stack(losses).mean()


def _degraded(pictures: TrainingPictures, index: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """The pictures `index` (B,) as a network sees them, (B, 3, H, W), and which ones the autoencoder rebuilt, (B,)."""
    rebuilt = len(pictures.rebuilt)
    share = REBUILT_SHARE * len(pictures.images) / max(1, rebuilt)
    through = (torch.rand(len(index), generator=generator) < share) & (index < rebuilt)
    taken = torch.from_numpy(pictures.images)[index]
    taken[through] = torch.from_numpy(pictures.rebuilt)[index[through]]
    return degrade_pictures(to_pixels(taken), generator), through


def _train(net: nn.Module, loss_of: Callable[[torch.Generator], Tensor], schedule: Schedule, on_step: OnStep) -> None:
    """AdamW with a cosine to zero over the budget, in bfloat16 where the processor has it."""
    net.to(memory_format=torch.channels_last).train()  # pyright: ignore[reportCallIssue]
    optimizer = torch.optim.AdamW(net.parameters(), lr=0.0, weight_decay=schedule.weight_decay)
    began = time.monotonic()
    step = 0
    while True:
        if schedule.steps is not None:
            spent = step / schedule.steps
        else:
            spent = (time.monotonic() - began) / (schedule.seconds or 1.0)
        if spent >= 1:
            break
        for group in optimizer.param_groups:
            group["lr"] = schedule.learning_rate * min(1.0, spent / _WARM_UP, 0.5 + 0.5 * math.cos(math.pi * spent))
        generator = torch.Generator().manual_seed(schedule.seed * 2**32 + step)
        optimizer.zero_grad(set_to_none=True)
        loss = loss_of(generator)
        loss.backward()
        nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step()
        step += 1
        on_step(spent, step, float(loss.detach()))
    net.eval()
