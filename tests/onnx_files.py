"""Tiny ONNX files with the inputs and outputs of U²-Net's, written byte by byte: the package `onnx` is not needed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from anystory.subjects.onnx_models import ONNX_MODELS

Shape = Sequence[int | str]

REDNESS = (40.0, -20.0, -20.0)
"""Weights of a pixel's red, green and blue in [0, 1], after which a red subject is told from grey."""
OFFSET = -10.0


def write_onnx(
    path: Path,
    *,
    model: str = "u2netp",
    inputs: Sequence[Shape] = ((1, 3, 48, 64),),
    channels: int = 1,
    weights: Sequence[float] = REDNESS,
    offset: float = OFFSET,
    sigmoid: bool = True,
) -> Path:
    """A model whose map is a sigmoid of a weighted sum of red, green and blue, and six further maps that are inverted.

    Args:
        model: Whose scaling of the input the weights undo, so that they apply to colours in [0, 1].
        inputs: Shapes; a word is a length that is left open.
        channels: Of each output.
    """
    mean, std = (np.asarray(values) for values in (ONNX_MODELS[model].mean, ONNX_MODELS[model].std))
    nodes, values, outputs = [], [], []
    for number in range(7):
        sign = 1 if number == 0 else -1
        kernel = np.tile(sign * np.asarray(weights) * std, (channels, 1)).reshape(channels, 3, 1, 1)
        bias = np.full(channels, sign * (offset + float(np.dot(weights, mean))))
        # As in U²-Net's files, names are numbers that do not follow the outputs' order.
        out, sums, w, b = str(1959 - number), f"sum{number}", f"w{number}", f"b{number}"
        values += [_tensor(w, kernel), _tensor(b, bias)]
        nodes += [_node("Conv", ["input.1", w, b], sums if sigmoid else out)]
        nodes += [_node("Sigmoid", [sums], out)] if sigmoid else []
        outputs.append(_value(out, (1, channels, *inputs[0][2:])))
    given = [_value("input.1" if i == 0 else f"more{i}", shape) for i, shape in enumerate(inputs)]
    graph = b"".join([*(_bytes(1, node) for node in nodes), _bytes(2, b"graph"), *(_bytes(5, v) for v in values)])
    graph += b"".join([*(_bytes(11, value) for value in given), *(_bytes(12, value) for value in outputs)])
    opset = _bytes(1, b"") + _number(2, 11)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(_number(1, 6) + _bytes(2, b"pytorch") + _bytes(7, graph) + _bytes(8, opset))
    return path


def _varint(value: int) -> bytes:
    groups = bytearray()
    while value > 0x7F:
        groups.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*groups, value])


def _number(field: int, value: int) -> bytes:
    return _varint(field << 3) + _varint(value)


def _bytes(field: int, value: bytes) -> bytes:
    return _varint(field << 3 | 2) + _varint(len(value)) + value


def _node(kind: str, inputs: Sequence[str], output: str) -> bytes:
    """With `kernel_shape`, which OpenCV before 5 insists on, for convolutions of one pixel."""
    names = b"".join(_bytes(1, name.encode()) for name in inputs)
    node = names + _bytes(2, output.encode()) + _bytes(3, f"{kind}_{output}".encode()) + _bytes(4, kind.encode())
    kernel = _bytes(1, b"kernel_shape") + _number(8, 1) + _number(8, 1) + _number(20, 7)
    return node + _bytes(5, kernel) if kind == "Conv" else node


def _tensor(name: str, array: np.ndarray) -> bytes:
    """FLOAT, raw."""
    sides = b"".join(_number(1, side) for side in array.shape)
    return sides + _number(2, 1) + _bytes(8, name.encode()) + _bytes(9, array.astype("<f4").tobytes())


def _value(name: str, shape: Shape) -> bytes:
    sides = [_number(1, side) if isinstance(side, int) else _bytes(2, side.encode()) for side in shape]
    tensor = _number(1, 1) + _bytes(2, b"".join(_bytes(1, side) for side in sides))
    return _bytes(1, name.encode()) + _bytes(2, _bytes(1, tensor))
