"""Draw every case in every variant and score it; a finished row is kept and not drawn again."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from anystory.engine.backends.backgrounds import shared_noise
from anystory.evaluation.bootstrap import Scores
from anystory.evaluation.storyworld.cases import Case, instance_masks
from anystory.evaluation.storyworld.eyes import eyes_scores
from anystory.evaluation.storyworld.group_scores import add_backgrounds, group_scores, read_all
from anystory.evaluation.storyworld.scores import routing_scores, score, sharpness_score
from anystory.evaluation.storyworld.variants import Variant
from anystory.files import atomic_write
from anystory.input_files import read_object
from anystory.pipelines.routing_record import RoutingRecord
from anystory.storyworld.attribute_classifier.classifier import AttributeClassifier, Reading
from anystory.storyworld.attribute_classifier.pictures import to_bytes, to_pixels
from anystory.subjects import Subject

MOMENTS = {"25": 0.25, "50": 0.5, "100": 1.0}
"""When the routing maps are looked at: percent of the steps done -> share."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How pictures are drawn."""

    steps: int
    guidance: float
    scheduler: str
    """Class of the sampler."""
    batch: int = 16
    seed: int = 0
    """Added to a case's index: the seed of its noise, the same in every row."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Row:
    """One variant's scores, in the order of the cases."""

    variant: Variant
    scores: list[Scores]


def run_row(
    pipe: Any,
    classifier: AttributeClassifier,
    variant: Variant,
    cases: Sequence[Case],
    settings: Settings,
    *,
    folder: Path | None = None,
    key: str = "",
    advance: Callable[[int], None] = lambda done: None,
    grouped: bool = False,
) -> Row:
    """Draw and score the cases of one row.

    Args:
        pipe: an `AnyStoryPipeline`.
        folder: where the row's scores and pictures are kept; None: nowhere.
        key: what the row depends on besides `settings`; scores kept under another key are not used.
        advance: called with the number of pictures done since the last call.
        grouped: whether to take the further measures of `group_scores`.
    """
    wanted = _wanted(key, settings, cases)
    kept = folder / f"{variant.name}.json" if folder else None
    if kept and (there := _kept_scores(kept, wanted)) is not None:
        advance(len(cases))
        return Row(variant=variant, scores=there)
    scores: list[Scores] = [{} for _ in cases]
    seen: list[tuple[np.ndarray, np.ndarray]] = [(np.zeros(0), np.zeros(0))] * len(cases)
    size, most = classifier.config.size, classifier.config.max_characters
    for chosen in _batches(cases, settings.batch):
        batch = [cases[i] for i in chosen]
        images, routing = _draw(pipe, variant, batch, settings)
        pixels = to_bytes(images).numpy()
        small = judged_size(classifier, images)
        owned = [_owned(case, variant, routing, row, size) if grouped else None for row, case in enumerate(batch)]
        for row, (i, reading) in enumerate(zip(chosen, read_all(classifier, small, batch, owned), strict=True)):
            found = group_scores(cases[i], reading, most) if grouped else score(cases[i], reading)
            found |= sharpness_score(pixels[row], batch[row].true)
            found |= eyes_scores(batch[row], reading, pixels[row])
            if routing is not None:
                found |= routing_scores(cases[i], reading, _routed(routing, row, size))
            scores[i] = found
            if grouped:
                seen[i] = to_bytes(small[row : row + 1]).numpy()[0], _anybody(reading, size)
            if folder:
                _write_picture(folder / "pictures" / variant.name / f"{cases[i].index:06d}.png", pixels[row])
        advance(len(chosen))
    if grouped:
        add_backgrounds(cases, [one for one, _ in seen], [who for _, who in seen], scores)
    if kept:
        with atomic_write(kept) as temporary:
            temporary.write_text(json.dumps({"key": wanted, "scores": scores}), encoding="utf-8")
    return Row(variant=variant, scores=scores)


def judged_size(classifier: AttributeClassifier, images: Tensor) -> Tensor:
    """Pictures (B, 3, H, W) in [-1, 1] at the classifier's size, scaled by area; those of its own size unchanged."""
    return F.interpolate(images, (classifier.config.size,) * 2, mode="area")


def picture_side(pipe: Any) -> int:
    """Side of the pictures that a pipeline draws by itself, pixels."""
    return int(pipe.unet.config.sample_size * pipe.vae_scale_factor)


def check_kept(folder: Path, variants: Sequence[Variant], cases: Sequence[Case], settings: Settings, key: str) -> None:
    """Refuse a folder that keeps rows of another evaluation: they would be overwritten.

    Raises:
        ValueError: it does, or such a row is damaged.
    """
    wanted = _wanted(key, settings, cases)
    for path in (folder / f"{variant.name}.json" for variant in variants):
        if path.exists() and _kept_scores(path, wanted) is None:
            raise ValueError(
                f"{path} is a row of another model, judge or settings: name another --out, "
                "or replace it with --overwrite"
            )


def _wanted(key: str, settings: Settings, cases: Sequence[Case]) -> str:
    """What a row depends on, as a hash."""
    return hashlib.sha256(f"{key} {settings} {[case.index for case in cases]}".encode()).hexdigest()


def _kept_scores(path: Path, wanted: str) -> list[Scores] | None:
    """The scores that a file keeps; None where there is none, or one of another key."""
    if not path.exists():
        return None
    found = read_object(path, "remove it, and the row is drawn again")
    try:
        if found["key"] != wanted:
            return None
        return [{k: (h, t) for k, (h, t) in s.items()} for s in found["scores"]]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path} is no row of an evaluation, or damaged ({error!r:.80}): remove it") from None


def recorded_steps(steps: int) -> dict[str, int]:
    """{moment: index of the sampling step at whose end it is reached}."""
    return {name: max(0, round(share * steps) - 1) for name, share in MOMENTS.items()}


def _batches(cases: Sequence[Case], size: int) -> Iterable[list[int]]:
    """Places of cases with equal numbers of subjects, at most `size` at a time: nobody pays for another's padding.

    Those that share their noise are drawn apart from the others.
    """

    def kind(i: int) -> tuple[bool, int]:
        return cases[i].background is not None, len(cases[i].characters)

    for _, alike in groupby(sorted(range(len(cases)), key=kind), kind):
        places = list(alike)
        yield from (places[start : start + size] for start in range(0, len(places), size))


def _draw(
    pipe: Any, variant: Variant, batch: Sequence[Case], settings: Settings
) -> tuple[Tensor, RoutingRecord | None]:
    """Pictures (B, 3, H, W) in [-1, 1], and the routing at the moments."""
    if not variant.uses_model:
        return reconstruct(pipe.vae, to_pixels(torch.from_numpy(np.stack([case.true for case in batch])))), None
    call: dict[str, Any] = dict(variant.call)
    if variant.is_routed and batch[0].background is not None:
        call |= {"latents": torch.cat([_shared_noise(pipe, variant, case, settings) for case in batch])}
    if variant.uses_subjects:
        call |= {"subjects": [_subjects(case, variant) for case in batch]}
        call |= {"record_routing": sorted(set(recorded_steps(settings.steps).values())) if variant.is_routed else False}
    out = pipe(
        [case.scene.caption for case in batch],
        num_inference_steps=settings.steps,
        guidance_scale=settings.guidance,
        generator=[torch.Generator().manual_seed(settings.seed + case.index) for case in batch],
        output_type="pt",
        **call,
    )
    return (out.images * 2 - 1).cpu(), out.routing


def _shared_noise(pipe: Any, variant: Variant, case: Case, settings: Settings) -> Tensor:
    """The noise (1, c, h, w) of a case that shares its background, as stories draw it."""
    arguments = {
        "prompt": case.scene.caption,
        "subjects": _subjects(case, variant),
        "num_inference_steps": settings.steps,
        "guidance_scale": settings.guidance,
        **variant.call,
    }
    assert case.background is not None
    return shared_noise(pipe, arguments, settings.seed + case.index, case.background, lambda _, __, ___, kept: kept)


def _owned(case: Case, variant: Variant, routing: RoutingRecord | None, row: int, size: int) -> np.ndarray | None:
    """Where each character is known to be, (N, size, size) bool: by the true scene, or by the router."""
    if not variant.uses_model or variant.regions is not None:
        return np.stack(instance_masks(case))
    return None if routing is None else routing.masks((size, size), image=row)


def _anybody(reading: Reading, size: int) -> np.ndarray:
    """(size, size) bool: where characters are."""
    found = np.zeros((size, size), bool)
    for character in reading.characters:
        found |= character.mask
    return found


@torch.no_grad()
def reconstruct(vae: Any, pixels: Tensor) -> Tensor:
    """Pixels (B, 3, H, W) in [-1, 1] through encoder and decoder."""
    latents = vae.encode(pixels.to(vae.device, vae.dtype)).latent_dist.mode()
    return vae.decode(latents).sample.clamp(-1, 1).float().cpu()


def _subjects(case: Case, variant: Variant) -> list[Subject]:
    regions = variant.regions(case) if variant.regions else [None] * len(case.references)
    return [
        Subject(picture, name=f"subject {i + 1}", region=_as_region(region), **variant.subject)
        for i, (picture, region) in enumerate(zip(case.references, regions, strict=True))
    ]


def _as_region(mask: np.ndarray | None) -> np.ndarray | None:
    """None for nobody's mask, too: a character that is wholly hidden is left to the router."""
    return mask if mask is not None and mask.any() else None


def _routed(routing: RoutingRecord, image: int, size: int) -> dict[str, np.ndarray]:
    steps = recorded_steps(1 + max(routing.steps))
    return {
        f"{kind} {name}": routing.masks((size, size), step, image=image, refined=kind == "refined")
        for name, step in steps.items()
        for kind in ("coarse", "refined")
    }


def _write_picture(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(path) as temporary:
        Image.fromarray(pixels).save(temporary, format="PNG")
