"""How well a candidate shows its subjects: each there once, in its own place, like itself and not like the others.

Whoever judges by an encoder must not be judged by it: what `--best-of` gains is measured by another judge
(docs/evaluation.md).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from anystory.engine.backends.base import DrawnPicture
from anystory.engine.inventory.describe import find
from anystory.engine.options import ModelOptions
from anystory.engine.record.schema import CandidateRecord, SubjectScore
from anystory.evaluation.metrics.cutouts import cut_by_mask
from anystory.evaluation.metrics.presence import DOUBLED, is_double
from anystory.input_files import read_object
from anystory.models.patch_autoencoder import PatchAutoencoder
from anystory.subjects.image_encoders import ClipEncoder, DinoEncoder, PictureEncoder
from anystory.subjects.image_models import model_type

__all__ = ["Scorer", "scorer_for"]

PROMPT_WEIGHT = 0.5
"""Of the prompt's similarity, beside the mean over the subjects."""


class Scorer:
    """Scores candidates by the features of an encoder.

    Args:
        encoder: Describes pictures.
        texts: Describes prompts, as the encoder does pictures; None: prompts do not count.
    """

    def __init__(self, encoder: PictureEncoder, texts: Callable[[Sequence[str]], np.ndarray] | None = None) -> None:
        self._encoder, self._texts = encoder, texts

    def score(self, picture: DrawnPicture, prompt: str) -> CandidateRecord:
        """One candidate's scores; see `CandidateRecord`.

        Raises:
            ValueError: a picture with subjects whose routing was not recorded.
        """
        subjects = self._subjects(picture)
        said = None
        if self._texts is not None:
            whole = self._encoder.pictures([picture.image])[0]
            said = round(float(whole @ self._texts([prompt])[0]), 4)
        mean = float(np.mean([_share(one) for one in subjects])) if subjects else 0.0
        total = mean + PROMPT_WEIGHT * (said or 0.0)
        return CandidateRecord(seed=picture.seed, total=round(total, 4), prompt=said, subjects=subjects)

    def _subjects(self, picture: DrawnPicture) -> tuple[SubjectScore, ...]:
        if not picture.references:
            return ()
        if picture.routing is None:
            raise ValueError("a picture with subjects is scored by its routing maps: record them")
        pixels = np.asarray(picture.image.convert("RGB"))
        masks = picture.routing.masks(pixels.shape[:2])
        cut = [cut_by_mask(pixels, mask) for mask in masks]
        there = [one for one in cut if one is not None]
        features = self._encoder.pictures([*(one.convert("RGB") for one in picture.references), *there])
        references, found = features[: len(masks)], iter(features[len(masks) :])
        return tuple(
            SubjectScore(present=False)
            if own is None
            else _subject_score(next(found), references, number, is_double(masks[number]))
            for number, own in enumerate(cut)
        )


def _subject_score(drawn: np.ndarray, references: np.ndarray, number: int, doubled: bool) -> SubjectScore:
    alike = np.clip(references @ drawn, 0, 1)
    others = np.delete(alike, number)
    leak = max(float(others.max() - alike[number]), 0.0) if len(others) else 0.0
    return SubjectScore(present=True, doubled=doubled, identity=round(float(alike[number]), 4), leak=round(leak, 4))


def _share(subject: SubjectScore) -> float:
    """What a subject adds to the mean: 0 for a missing one, half for a doubled one."""
    own = max(subject.identity - subject.leak, 0.0) if subject.present else 0.0
    return own * DOUBLED if subject.doubled else own


def scorer_for(options: ModelOptions, named: str | None = None) -> Scorer:
    """The scorer for a model: by an encoder that is named, or by the model's own image encoder.

    Args:
        options: Which model draws.
        named: Folder or hub id of a whole CLIP model (the prompt counts, too), or of DINO or DINOv2.

    Raises:
        ValueError: no such encoder, or a model that has none of its own in CLIP's layout.
    """
    if named is not None:
        otherwise = "name another model with --score-by"
        kind = model_type("scoring", named, otherwise)
        if kind not in ("clip", "clip_vision_model"):
            return Scorer(DinoEncoder(named, otherwise=otherwise))
        encoder = ClipEncoder(named, otherwise=otherwise)
        return Scorer(encoder, encoder.texts if kind == "clip" else None)
    own = find(options.model)
    if not _in_clips_layout(own / "image_encoder"):
        raise ValueError(
            f"{options.model} has no CLIP image encoder to score by: name a CLIP or DINO model by --score-by"
        )
    text, tokenizer = own / "text_encoder_2", own / "tokenizer_2"
    encoder = ClipEncoder(own / "image_encoder", own / "feature_extractor", text=text, tokenizer=tokenizer)
    return Scorer(encoder, encoder.texts if _shares_space(own) else None)


def _in_clips_layout(folder: Path) -> bool:
    return folder.is_dir() and model_type("scoring", folder, "") == "clip_vision_model"


def _shares_space(model: Path) -> bool:
    """Whether a model's text encoder learned with its image encoder, as `anystory train` makes them."""
    index = read_object(model / "model_index.json", "name an encoder by --score-by")
    return list(index.get("vae", ()))[1:] == [PatchAutoencoder.__name__]
