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
    square = np.empty((size, size, 4), np.uint8)
    square[..., :3] = np.asarray(over_white)
    square[..., 3] = np.rint(matte * 255)
    # Off the white again: what turns and shrinks the subject afterwards must not carry a white seam along.
    seam = (square[..., 3] > 0) & (square[..., 3] < 255)
    alpha = matte[seam, None]
    square[seam, :3] = ((square[seam, :3] - 255 * (1 - alpha)) / alpha).round().clip(0, 255)
    return square
