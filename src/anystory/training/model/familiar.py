"""What the references of an adapter's training look like to the image encoder, so that strange ones are noticed."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from transformers import CLIPImageProcessorPil

from anystory.models.adapter import SubjectAdapter
from anystory.models.familiarity import Familiarity, picture_features
from anystory.models.saved.checksums import read_sums, write_all_sums
from anystory.pipelines.loading.headers import read_headers, weight_files
from anystory.pipelines.loading.parts import load_adapter, load_image_encoder
from anystory.pipelines.unet.encoding import hidden_states
from anystory.subjects import Subject
from anystory.training.data.samples import personal_samples
from anystory.training.model.components import forget_place
from anystory.training.recipe import PERSONAL_STAGES, Recipe
from anystory.training.stages import stage_options

__all__ = ["COMPONENTS", "PICTURES", "familiar_references", "note_references"]

PICTURES = 2048
COMPONENTS = 32
"""With these, none of 768 references of held-out StoryWorld characters is beyond the limit of `mini`. All of 120 parts
of photos and 20 squares of noise are, but not every small thing that was cut out of a photo."""

_BATCH = 64
_TYPES = {"F16": torch.float16, "BF16": torch.bfloat16, "F32": torch.float32}


def note_references(
    folder: Path,
    recipe: Recipe,
    *,
    pictures: int = PICTURES,
    components: int = COMPONENTS,
    advance: Callable[[int], None],
) -> SubjectAdapter:
    """Write statistics of the references, and the most subjects in a picture, into a model folder's adapter.

    The adapter's weights stay as they are, in their type and about their number of files.

    Args:
        folder: A model with image encoder, feature extractor and adapter.
        recipe: What the adapter was trained with.
        pictures: How many references to look at.
        components: Principal directions to keep.
        advance: Called with the number of references that have been looked at.

    Raises:
        ValueError: no such folder, samples that cannot be read, or too few pictures for that many components.
    """
    for part in ("adapter", "image_encoder", "feature_extractor"):
        if not (folder / part).is_dir():
            raise ValueError(f"{folder} has no {part}: name the folder of a whole model")
    files = weight_files(folder / "adapter").get("", [])
    kinds = Counter(kind for kind, _ in read_headers(files).values())
    adapter = load_adapter(folder, dtype=_TYPES.get(kinds.most_common(1)[0][0], torch.float32))
    familiarity = familiar_references(
        recipe,
        load_image_encoder(folder, dtype=torch.float32),
        CLIPImageProcessorPil.from_pretrained(folder / "feature_extractor"),
        reference_size=adapter.sizes.reference_size,
        pictures=pictures,
        components=components,
        advance=advance,
    )
    adapter.note(familiarity=familiarity, max_subjects=_most_subjects(recipe))
    largest = max(file.stat().st_size for file in files)
    forget_place(adapter).save_pretrained(folder / "adapter", max_shard_size=largest if len(files) > 1 else "10GB")
    if read_sums(folder):
        write_all_sums(folder)
    return adapter


def familiar_references(
    recipe: Recipe,
    image_encoder: Any,
    feature_extractor: Any,
    *,
    reference_size: int,
    pictures: int,
    components: int,
    advance: Callable[[int], None] = lambda done: None,
) -> Familiarity:
    """The distribution of the first references that a recipe's stages see, cut out as a pipeline does it.

    Arguments and errors as for `note_references`; `reference_size` is the adapter's, in pixels.
    """
    found = itertools.islice(_references(recipe, reference_size), pictures)
    features = []
    while batch := list(itertools.islice(found, _BATCH)):
        pixels = feature_extractor(batch, return_tensors="pt").pixel_values
        with torch.no_grad():
            features.append(picture_features(hidden_states(image_encoder, pixels)))
        advance(sum(map(len, features)))
    return Familiarity.of(torch.cat(features), components)


def _references(recipe: Recipe, size: int) -> Iterator[Image.Image]:
    """The references of one sample after another, augmented as in training, as the encoders see them."""
    fetch = personal_samples(recipe, reference_size=size, min_subjects=1, max_subjects=_most_subjects(recipe))
    for position in itertools.count():
        sample = fetch(position)
        for picture, alpha in zip(sample["references"], sample["reference_alpha"], strict=True):
            if alpha.max() >= 128:  # not padding
                yield Subject(Image.fromarray(picture), Image.fromarray(alpha)).prepare(size).image


def _most_subjects(recipe: Recipe) -> int:
    return max(stage_options(recipe, name).max_subjects for name in PERSONAL_STAGES if name in recipe.stages)
