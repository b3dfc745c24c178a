"""Draw every case in every variant and score it; a finished row is kept and not drawn again."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from anystory.evaluation.storyworld.cases import Case
from anystory.evaluation.storyworld.scores import Scores, routing_scores, score
from anystory.evaluation.storyworld.variants import Variant
from anystory.files import atomic_write
from anystory.pipelines.routing_record import RoutingRecord
from anystory.storyworld.judge import Judge
from anystory.storyworld.judge.pictures import to_bytes, to_pixels
from anystory.subjects import Subject

MOMENTS = {"25": 0.25, "50": 0.5, "100": 1.0}
"""When the routing maps are looked at: percent of the steps done -> share."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How pictures are drawn."""

    steps: int
    guidance: float
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
    judge: Judge,
    variant: Variant,
    cases: Sequence[Case],
    settings: Settings,
    *,
    folder: Path | None = None,
    key: str = "",
    advance: Callable[[int], None] = lambda done: None,
) -> Row:
    """Draw and score the cases of one row.

    Args:
        pipe: an `AnyStoryPipeline`.
        folder: where the row's scores and pictures are kept; None: nowhere.
        key: what the row depends on besides `settings`; scores kept under another key are not used.
        advance: called with the number of pictures done since the last call.
    """
    wanted = hashlib.sha256(f"{key} {settings} {[case.index for case in cases]}".encode()).hexdigest()
    kept = folder / f"{variant.name}.json" if folder else None
    if kept and kept.is_file():
        found = json.loads(kept.read_text(encoding="utf-8"))
        if found["key"] == wanted:
            advance(len(cases))
            return Row(variant=variant, scores=[{k: (h, t) for k, (h, t) in s.items()} for s in found["scores"]])
    scores: list[Scores | None] = [None] * len(cases)
    # Pictures with as many subjects go together: nobody pays for another's padding.
    order = sorted(range(len(cases)), key=lambda i: len(cases[i].characters))
    for chosen in _batches(order, cases, settings.batch):
        batch = [cases[i] for i in chosen]
        images, routing = _draw(pipe, variant, batch, settings)
        small = F.interpolate(images, (judge.config.size,) * 2, mode="area")  # of its own size already: unchanged
        for row, (i, reading) in enumerate(zip(chosen, judge.read(small), strict=True)):
            found = score(cases[i], reading)
            if routing is not None:
                found |= routing_scores(cases[i], reading, _routed(routing, row, judge.config.size))
            scores[i] = found
            if folder:
                _write_picture(folder / "pictures" / variant.name / f"{cases[i].index:06d}.png", images[row])
        advance(len(chosen))
    finished = [s for s in scores if s is not None]
    if kept:
        with atomic_write(kept) as temporary:
            temporary.write_text(json.dumps({"key": wanted, "scores": finished}), encoding="utf-8")
    return Row(variant=variant, scores=finished)


def recorded_steps(steps: int) -> dict[str, int]:
    """{moment: index of the sampling step at whose end it is reached}."""
    return {name: max(0, round(share * steps) - 1) for name, share in MOMENTS.items()}


def _batches(order: Sequence[int], cases: Sequence[Case], size: int) -> Iterable[list[int]]:
    batch: list[int] = []
    for i in order:
        if batch and (len(batch) == size or len(cases[i].characters) != len(cases[batch[0]].characters)):
            yield batch
            batch = []
        batch.append(i)
    if batch:
        yield batch


def _draw(
    pipe: Any, variant: Variant, batch: Sequence[Case], settings: Settings
) -> tuple[Tensor, RoutingRecord | None]:
    """Pictures (B, 3, H, W) in [-1, 1], and the routing at the moments."""
    if not variant.uses_model:
        truth = torch.from_numpy(np.stack([case.drawn.image for case in batch]))
        return reconstruct(pipe.vae, to_pixels(truth)), None
    call: dict[str, Any] = dict(variant.call)
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


def _write_picture(path: Path, pixels: Tensor) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = Image.fromarray(to_bytes(pixels[None])[0].numpy())
    with atomic_write(path) as temporary:
        picture.save(temporary, format="PNG")
