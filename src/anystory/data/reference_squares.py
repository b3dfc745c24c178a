"""A subject's photo as the encoders see it: cut out, on a square, with straight alpha."""

from __future__ import annotations

import numpy as np

from anystory.subjects.prepare import fit_to_square

__all__ = ["reference_square"]


def reference_square(rgba: np.ndarray, size: int) -> np.ndarray:
    """Cut out, crop to the subject, pad to a square and resize as `Subject.prepare` does for drawing.

    Args:
        rgba: (h, w, 4) uint8, straight alpha, not empty.
        size: Side of the result.

    Returns:
        (size, size, 4) uint8, straight alpha. Over white it is what `Subject.prepare` gives, up to rounding.
    """
    over_white, matte, _ = fit_to_square(np.ascontiguousarray(rgba[..., :3]), np.ascontiguousarray(rgba[..., 3]), size)
    alpha = matte[..., None]
    # Off the white again: what turns and shrinks the subject afterwards must not carry a white seam along.
    colour = (np.asarray(over_white, np.float32) - 255 * (1 - alpha)) / np.maximum(alpha, 1 / 255)
    return np.concatenate([colour.round().clip(0, 255), np.rint(alpha * 255)], axis=-1).astype(np.uint8)
