"""Cut a subject out with U²-Net, IS-Net and similar networks: ONNX files that OpenCV runs.

Legend: H × W pixels of the picture, h × w of the model's input; row first.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image

from anystory.subjects.cutout import Cutout, soft_cutout
from anystory.subjects.onnx_header import OnnxHeader, read_onnx_header
from anystory.subjects.onnx_models import OnnxModel, is_published, model_of_file

__all__ = ["OnnxSegmenter"]

_LEAST_SIDE, _MOST_SIDE = 16, 4096
_MOST_BYTES = 1 << 31
"""What protobuf allows a message."""


class OnnxSegmenter:
    """A salient object detector in an ONNX file, loaded once. Its first output is the map that its authors use.

    Do not share it between threads: the network keeps its input.

    Args:
        path: The file.
        name: The `method` of its cut-outs; None for the path.

    Raises:
        ValueError: no such file, not an ONNX file, a damaged one, or a model of another kind.
    """

    def __init__(self, path: Path, name: str | None = None) -> None:
        self.name = str(path) if name is None else name
        self.model = model_of_file(path)
        self._label = f"segmenter {str(path)!r}"
        data = self._read(path)
        if path.name == self.model.file and len(data) == self.model.bytes and not is_published(data, self.model):
            warnings.warn(  # a flipped bit in a weight changes every cut-out, and nothing else would show it
                f"{self._label} is as long as the published file but not the same: it may be damaged. `anystory models "
                f"get {self.model.name}` says where to get it",
                stacklevel=2,
            )
        try:
            header = read_onnx_header(data)
        except ValueError as error:
            raise self._damaged(str(error)) from None
        self.height, self.width = _input_size(header, self.model, self._label)
        self._output = header.outputs[0].name
        self._net = self._load(data)

    def __call__(self, rgb: np.ndarray) -> Cutout | None:
        """The subject of a picture (H, W, 3) uint8; None if nothing stands out.

        Raises:
            ValueError: the model cannot be run, or what comes out is no map of probabilities.
        """
        height, width = rgb.shape[:2]
        probabilities = self._map(self._input(rgb))
        small = Image.fromarray(np.rint(probabilities * 255).astype(np.uint8))
        return soft_cutout(np.asarray(small.resize((width, height), Image.Resampling.LANCZOS)), self.name)

    def _input(self, rgb: np.ndarray) -> np.ndarray:
        """(1, 3, h, w) float32. The picture is stretched, as in training."""
        small = Image.fromarray(rgb).resize((self.width, self.height), Image.Resampling.LANCZOS)
        pixels = np.asarray(small, dtype=np.float32)
        pixels = pixels / max(float(pixels.max()), 1.0)
        scaled = (pixels - np.array(self.model.mean, np.float32)) / np.array(self.model.std, np.float32)
        return np.ascontiguousarray(scaled.transpose(2, 0, 1)[None])

    def _map(self, pixels: np.ndarray) -> np.ndarray:
        """(h, w) float32 in [0, 1]."""
        try:
            with _quiet():
                self._net.setInput(pixels)
                found = self._net.forward(self._output)
        except cv2.error as error:
            raise self._damaged(f"OpenCV cannot run it: {_reason(error)}") from None
        if found.shape != (1, 1, self.height, self.width):
            raise ValueError(
                f"{self._label} is no {self.model.name}: for a picture of {self.width}×{self.height} it gives "
                f"{found.shape}, expected one map of this size"
            )
        # Its last layer is a sigmoid; rounding may leave [0, 1] by a little.
        if not np.isfinite(found).all() or found.min() < -0.01 or found.max() > 1.01:
            raise self._damaged("its map is not made of probabilities")
        return found[0, 0].clip(0, 1)

    def _read(self, path: Path) -> bytes:
        if not path.is_file() or path.stat().st_size > _MOST_BYTES:
            raise ValueError(f"{self._label} is no ONNX file: expected one of at most {_MOST_BYTES >> 30} GiB")
        return path.read_bytes()

    def _load(self, data: bytes) -> Any:
        try:
            with _quiet():
                return cv2.dnn.readNetFromONNX(np.frombuffer(data, np.uint8))
        except cv2.error as error:
            raise self._damaged(f"OpenCV cannot load it: {_reason(error)}") from None

    def _damaged(self, why: str) -> ValueError:
        where = f"`anystory models get {self.model.name}` says where to get a whole one"
        return ValueError(f"{self._label} is damaged or no ONNX file of {self.model.name} ({why}). {where}")


def _input_size(header: OnnxHeader, model: OnnxModel, label: str) -> tuple[int, int]:
    """(h, w) of the file's input, or the model's usual size where the file leaves them open.

    Raises:
        ValueError: its input is not one picture, or its output not one map.
    """
    shapes = [one.shape for one in header.inputs]
    if len(shapes) != 1 or len(shapes[0]) != 4 or shapes[0][1] not in (3, None) or shapes[0][0] not in (1, None):
        raise ValueError(
            f"{label} is no {model.name}: expected one input (1, 3, height, width), it takes {_shown(shapes)}"
        )
    gives = header.outputs[0].shape if header.outputs else ()
    if not header.outputs or (gives and (len(gives) != 4 or gives[1] not in (1, None))):
        raise ValueError(
            f"{label} is no {model.name}: expected a first output (1, 1, height, width), it gives {_shown([gives])}"
        )
    height, width = (side or model.side for side in shapes[0][2:])
    if not all(_LEAST_SIDE <= side <= _MOST_SIDE for side in (height, width)):
        raise ValueError(
            f"{label}: its input is {width}×{height}; expected sides between {_LEAST_SIDE} and {_MOST_SIDE} pixels"
        )
    return height, width


def _shown(shapes: list[tuple[int | None, ...]]) -> str:
    texts = [f"({', '.join('?' if side is None else str(side) for side in shape)})" for shape in shapes]
    return " and ".join(texts) or "nothing"


def _reason(error: cv2.error) -> str:
    """What OpenCV says is wrong, without where in its code it said so."""
    lines = [line.strip(" >'") for line in str(error.err or error).splitlines()]
    return next((line for line in lines if line), "unknown reason")[:200]


@contextmanager
def _quiet() -> Iterator[None]:
    """OpenCV prints what it also raises."""
    logging: Any = getattr(cv2.utils, "logging", cv2)  # the functions' place up to OpenCV 4.12
    before = logging.getLogLevel()
    logging.setLogLevel(0)
    try:
        yield
    finally:
        logging.setLogLevel(before)
