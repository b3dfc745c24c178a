"""FLUX.2 klein's routing by attention with several blocks and thresholds: pictures, masks, and how much leaks.

For whoever has the weights and a GPU; `AttentionRouting`'s own values are guesses until then (docs/klein.md):

    python benchmarks/klein_routing.py "a fox and a robot on a beach" -s fox=fox.png -s robot=robot.png \\
        --model black-forest-labs/FLUX.2-klein-4B --device cuda --dtype bfloat16 --out routing \\
        --dino facebook/dinov2-base --segmenter u2netp

Writes `OUT/<case>/<seed>.png`, the owner maps beside them, and `OUT/table.csv` with a row for each case and seed: the
IoU of all owned pixels with what the segmenter finds; for each subject, cut out by its mask, the likeness to its own
reference, and the leak: its likeness to another subject's reference, at most. Cases without routing have no masks:
there the whole picture is compared.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from anystory import Subject
from anystory.evaluation.metrics.cutouts import cut_by_mask
from anystory.evaluation.metrics.routing import routing_iou
from anystory.files import atomic_folder
from anystory.pipelines.klein import AnyStoryFlux2KleinPipeline, AttentionRouting
from anystory.pipelines.routing_record import RoutingRecord
from anystory.subjects.image_encoders import ClipEncoder, DinoEncoder, PictureEncoder
from anystory.subjects.segmenter import find_segmenter

Row = dict[str, Any]


def cases(blocks: int, thresholds: list[float], thirds: int = 3) -> Iterator[tuple[str, dict[str, Any]]]:
    """Names and arguments of calls: references as in the stock model, isolated, and routed by parts of the blocks."""
    yield "stock", {"isolation": "off"}
    yield "isolated", {}
    bounds = [round(i * blocks / thirds) for i in range(thirds + 1)]
    parts = [tuple(range(first, last)) for first, last in pairwise(bounds)]
    for part in (*parts, tuple(range(blocks))):
        for threshold in thresholds:
            for again in (False, True):
                name = f"blocks-{part[0]}-{part[-1]}-threshold-{threshold:g}{'-again' if again else ''}"
                yield name, {"routing": AttentionRouting(blocks=part, threshold=threshold, throw_away=again)}


def measured(
    picture: Image.Image,
    routing: RoutingRecord | None,
    references: list[np.ndarray],
    encoder: PictureEncoder | None,
    segmenter: Any,
) -> Row:
    """The numbers of one picture.

    Args:
        picture: It.
        routing: Its owner maps; None without.
        references: Features (1, d) of each subject's reference.
        encoder: CLIP or DINO; None for no likeness.
        segmenter: What finds the foreground; None for no IoU.
    """
    pixels, row = np.asarray(picture), Row()
    masks = None if routing is None else routing.masks((picture.height, picture.width))
    if masks is not None:
        row["owned"] = float(masks.any(axis=0).mean())
        if segmenter is not None and (found := segmenter(pixels)) is not None:
            row["iou"] = routing_iou([masks.any(axis=0)], [found.matte >= 128])
    if encoder is None:
        return row
    for number, own in enumerate(references):
        crop = picture if masks is None else cut_by_mask(pixels, masks[number])
        if crop is None:
            continue
        [features] = encoder.pictures([crop])
        row[f"like {number + 1}"] = float(features @ own)
        others = [float(features @ other) for place, other in enumerate(references) if place != number]
        row[f"leak {number + 1}"] = max(others, default=0.0)
    return row


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("prompt", help="names each subject, as NAME does")
    parser.add_argument("-s", "--subject", action="append", required=True, metavar="NAME=PICTURE")
    parser.add_argument("--model", default="black-forest-labs/FLUX.2-klein-4B")
    parser.add_argument("--out", type=Path, required=True, help="folder to write; it must not exist yet")
    parser.add_argument("--thresholds", type=float, nargs="+", default=[0.2, 0.3, 0.4])
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3, 4])
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--guidance", type=float, default=1.0, help="4 for the base model")
    parser.add_argument("--size", type=int, default=1024)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--segmenter", help="finds the foreground: u2netp, a model's hub id …; none for no IoU")
    encoders = parser.add_mutually_exclusive_group()
    encoders.add_argument("--clip", help="CLIP model for likeness and leak")
    encoders.add_argument("--dino", help="DINO model for them")
    return parser.parse_args()


def main() -> None:
    given = parse()
    subjects = [Subject(path, name=name) for name, _, path in (one.partition("=") for one in given.subject)]
    encoder = ClipEncoder(given.clip) if given.clip else DinoEncoder(given.dino) if given.dino else None
    segmenter = find_segmenter(given.segmenter) if given.segmenter else None
    pipe: Any = AnyStoryFlux2KleinPipeline.from_pretrained(given.model, dtype=getattr(torch, given.dtype))
    pipe.to(given.device)
    encoded = pipe.encode_subjects(subjects)
    references = [] if encoder is None else [encoder.pictures([one.prepared[0].image])[0] for one in encoded]
    transformer = pipe.transformer
    blocks = len(transformer.transformer_blocks) + len(transformer.single_transformer_blocks)
    call = {"height": given.size, "width": given.size, "num_inference_steps": given.steps}
    call |= {"prompt": given.prompt, "subjects": encoded, "guidance_scale": given.guidance}
    rows: list[Row] = []
    with atomic_folder(given.out) as folder:
        for name, how in cases(blocks, given.thresholds):
            (folder / name).mkdir()
            for seed in given.seeds:
                out = pipe(**call, **how, generator=torch.Generator().manual_seed(seed))
                [picture] = out.images
                picture.save(folder / name / f"{seed}.png")
                if out.routing is not None:
                    for owner, mask in zip(out.routing.names[0], out.routing.mask_images(), strict=True):
                        mask.save(folder / name / f"{seed}-{owner.replace('/', '_')}.png")
                rows.append(
                    {"case": name, "seed": seed} | measured(picture, out.routing, references, encoder, segmenter)
                )
                print(rows[-1])
        columns = list(dict.fromkeys(column for row in rows for column in row))
        with (folder / "table.csv").open("w", newline="") as file:
            table = csv.DictWriter(file, columns)
            table.writeheader()
            table.writerows(rows)


if __name__ == "__main__":
    main()
