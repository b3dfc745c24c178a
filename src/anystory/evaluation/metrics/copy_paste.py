"""Whether a model copies its reference instead of drawing the character anew."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageOps

from anystory.evaluation.bootstrap import Scores
from anystory.subjects.image_encoders import PictureEncoder

__all__ = ["TEMPERATURE", "copied_pose", "copy_paste_features", "copy_paste_scores"]

TEMPERATURE = 0.01


def copy_paste_features(encoder: PictureEncoder, reference: Image.Image) -> np.ndarray:
    """Features (2, d) of a reference and of its mirror image: the same character, but nobody gave the second."""
    return encoder.pictures([reference, ImageOps.mirror(reference)])


def copy_paste_scores(drawn: np.ndarray, references: np.ndarray, temperature: float = TEMPERATURE) -> np.ndarray:
    """ViStoryBench's copy-paste score of each drawn picture, (n,), 0…1: lower is better, 0.5 is no preference.

    The softmax, at temperature 0.01, of the cosines with the reference that was given and with its mirror image; the
    score is the first one's share. A character's score is the mean over its pictures, a story's the mean over its
    characters (Zhuang et al., arXiv 2505.24862; ViStoryBench/vistorybench, `bench/content/cids_evaluator.py` at
    commit 514cc31f; earlier versions compared with further references instead).

    Args:
        drawn: Features (n, d) of the character cut out of drawn pictures.
        references: Features (k, d) of what it is compared with, the reference that was given first; see
            `copy_paste_features`.

    Raises:
        ValueError: fewer than two references.
    """
    if len(references) < 2:
        raise ValueError(f"a copy-paste score compares with at least two references, got {len(references)}")
    logits = np.clip(drawn @ references.T, -1, 1) / temperature
    shares = np.exp(logits - logits.max(axis=1, keepdims=True))
    return shares[:, 0] / shares.sum(axis=1)


def copied_pose(asked: str, reference: str, drawn: str | None) -> Scores:
    """Whether the drawn pose is the reference's rather than the prompt's; `copied pose` 0…1, lower is better.

    Poses are words, as StoryWorld has them. It counts only where the two differ, and only pictures that show one of
    them, so that 0.5 is no preference, as in ViStoryBench's score. `pose asked` is the share of all that show the pose
    asked for, and `pose of the reference` of those that show the reference's.

    Args:
        asked, reference: The pose that the prompt names, and that of the reference.
        drawn: The pose in the picture; None for a character that is missing.
    """
    if asked == reference:
        return {}
    shows_asked, shows_reference = float(drawn == asked), float(drawn == reference)
    scores = {"pose asked": (shows_asked, 1.0), "pose of the reference": (shows_reference, 1.0)}
    if shows_asked or shows_reference:
        scores["copied pose"] = (shows_reference, 1.0)
    return scores
