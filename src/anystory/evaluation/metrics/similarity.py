"""How alike pictures are to references and to texts, by features of an encoder.

Features are unit vectors (n, d), as `subjects.image_encoders` gives them.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

__all__ = ["product_over_subjects", "similarity", "text_similarity"]


def similarity(drawn: np.ndarray, references: np.ndarray) -> float:
    """CLIP-I or DINO: the mean cosine of all pairs of a drawn and a reference picture; -1…1, higher is better.

    Which of the two it is depends on the encoder alone: CLIP, or DINO ViT-S/16 (DreamBooth: Ruiz et al., CVPR 2023,
    section 4.1). Of several subjects in a picture, the field reports the mean of their values.

    Args:
        drawn: Features (n, d) of drawn pictures.
        references: Features (m, d) of pictures of the subject.

    Raises:
        ValueError: there is nothing to compare, or the features are of two encoders.
    """
    _check(drawn, references)
    return float((drawn @ references.T).mean())


def text_similarity(drawn: np.ndarray, texts: np.ndarray) -> np.ndarray:
    """CLIP-T: the cosine of each picture and its own prompt, (n,); -1…1, higher is better (DreamBooth, section 4.1).

    Args:
        drawn, texts: Features (n, d) of pictures and of their prompts, by one CLIP model.

    Raises:
        ValueError: not one text for each picture, or the features are of two encoders.
    """
    _check(drawn, texts)
    if len(drawn) != len(texts):
        raise ValueError(f"CLIP-T needs a text for each picture, got {len(drawn)} pictures and {len(texts)} texts")
    return np.einsum("nd,nd->n", drawn, texts)


def product_over_subjects(values: Sequence[float]) -> float:
    """M-DINO: the product of the subjects' similarities in one picture; 0…1, higher is better.

    A mean hides a subject that is missing; a product does not (MS-Diffusion: Wang et al., arXiv 2406.07209,
    section 4.1). A negative similarity counts as 0, so that two of them are no success.

    Args:
        values: One for each subject of the picture, -1…1.

    Raises:
        ValueError: there is no subject.
    """
    if not len(values):
        raise ValueError("a product over subjects needs at least one subject")
    return float(np.prod(np.clip(values, 0, None)))


def _check(a: np.ndarray, b: np.ndarray) -> None:
    if not len(a) or not len(b):
        raise ValueError(f"similarity needs at least one picture on each side, got {len(a)} and {len(b)}")
    if a.shape[1:] != b.shape[1:]:
        raise ValueError(f"features of one encoder have one length, got {a.shape[1:]} and {b.shape[1:]}")
