"""What an ONNX file says about its inputs and outputs, and whether its graph is consistent.

OpenCV runs such files, but does not report the first, and may crash on an inconsistent graph.

An ONNX file is one protobuf message. The numbers of its fields are those of onnx.proto3 (onnx/onnx, IR version 3 and
later): ModelProto.graph 7; GraphProto.node 1, initializer 5, input 11, output 12; NodeProto.input 1, output 2, name 3,
op_type 4; TensorProto.dims 1, data_type 2, name 8, raw_data 9; ValueInfoProto.name 1, type 2; TypeProto.tensor_type 1;
Tensor.shape 2; TensorShapeProto.dim 1; Dimension.dim_value 1.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

__all__ = ["OnnxHeader", "TensorInfo", "read_onnx_header"]

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_WIDTH = {_FIXED64: 8, _FIXED32: 4}
_MOST_FIELDS = 200_000
"""In one message: a graph has a few hundred. More is not a model, and would take minutes to read."""

_ITEM_BYTES = {1: 4, 2: 1, 3: 1, 4: 2, 5: 2, 6: 4, 7: 8, 9: 1, 10: 2, 11: 8, 12: 4, 13: 8, 16: 2}
"""Bytes of a number by TensorProto.DataType."""
_FLOATS = {1: "<f4", 10: "<f2", 11: "<f8"}


class TensorInfo(NamedTuple):
    """An input or output."""

    name: str
    shape: tuple[int | None, ...]
    """None where the file leaves a length open."""


class OnnxHeader(NamedTuple):
    """A model's inputs, without its weights, and its outputs, in the file's order."""

    inputs: tuple[TensorInfo, ...]
    outputs: tuple[TensorInfo, ...]


def read_onnx_header(data: bytes) -> OnnxHeader:
    """Read a model's inputs and outputs.

    Args:
        data: The whole file; its weights are skipped.

    Raises:
        ValueError: it is not an ONNX file, or damaged.
    """
    graph = _one(memoryview(data), 7)
    if graph is None:
        raise ValueError("it holds no graph")
    parts = list(_messages(graph))
    weights = {_weight_name(value) for number, value in parts if number == 5}
    inputs = [_tensor(value) for number, value in parts if number == 11]
    outputs = [_tensor(value) for number, value in parts if number == 12]
    known = {"", *weights, *(one.name for one in inputs)}
    for number, value in parts:  # a node comes after those that it reads from
        if number == 1:
            _check_node(value, known)
    if any(one.name not in known for one in outputs):
        raise ValueError("no node makes its output")
    # Before IR version 4 weights are listed among the inputs, too.
    return OnnxHeader(tuple(one for one in inputs if one.name not in weights), tuple(outputs))


def _check_node(node: memoryview, known: set[str]) -> None:
    """Refuse a node that reads what is not in `known`, and add its outputs."""
    strings = [(number, _text(value)) for number, value in _messages(node) if number in (1, 2, 3, 4)]
    lacking = next((name for number, name in strings if number == 1 and name not in known), None)
    if lacking is not None:
        raise ValueError(f"a node reads {lacking!r}, which nothing makes")
    known.update(name for number, name in strings if number == 2)


def _weight_name(tensor: memoryview) -> str:
    """The name of a weight, if its numbers fit its shape and are finite (OpenCV's sigmoid of NaN is 1)."""
    sides: list[int] = []
    kind, name = 0, ""
    raw: memoryview | None = None
    for number, value in _fields(tensor):
        if number == 1:
            sides += [value] if isinstance(value, int) else _packed(value)
        elif number == 2 and isinstance(value, int):
            kind = value
        elif number == 8 and isinstance(value, memoryview):
            name = _text(value)
        elif number == 9 and isinstance(value, memoryview):
            raw = value
    if raw is not None and len(raw) != math.prod(sides) * _ITEM_BYTES.get(kind, 0):
        raise ValueError(f"the weight {name!r} has another size than its shape")
    if raw is not None and kind in _FLOATS and not np.isfinite(np.frombuffer(raw, _FLOATS[kind])).all():
        raise ValueError(f"the weight {name!r} holds NaN or infinity")
    return name


def _packed(value: memoryview | None) -> list[int]:
    found, place = [], 0
    while value is not None and place < len(value):
        number, place = _varint(value, place)
        found.append(number)
    return found


def _tensor(value_info: memoryview) -> TensorInfo:
    message: memoryview | None = value_info
    for number in (2, 1, 2):  # type, tensor_type, shape
        message = None if message is None else _one(message, number)
    sides = [] if message is None else [side for number, side in _messages(message) if number == 1]
    return TensorInfo(_text(_one(value_info, 1)), tuple(map(_length, sides)))


def _length(dimension: memoryview) -> int | None:
    value = next((value for number, value in _fields(dimension) if number == 1), None)
    return value if isinstance(value, int) and value > 0 else None


def _one(message: memoryview, number: int) -> memoryview | None:
    """The last message or string under a number, as protobuf reads it; None if there is none."""
    found = None
    for own, value in _messages(message):
        found = value if own == number else found
    return found


def _messages(message: memoryview) -> Iterator[tuple[int, memoryview]]:
    return ((number, value) for number, value in _fields(message) if isinstance(value, memoryview))


def _fields(message: memoryview) -> Iterator[tuple[int, int | memoryview | None]]:
    """(number, value) of each field: an integer, the bytes of a message or string, or None for a floating number."""
    place, count = 0, 0
    while place < len(message):
        count += 1
        key, place = _varint(message, place)
        number, kind = key >> 3, key & 7
        value: int | memoryview | None = None
        if kind == _VARINT:
            value, place = _varint(message, place)
            length = 0
        elif kind == _BYTES:
            length, place = _varint(message, place)
            value = message[place : place + length]
        elif kind in _WIDTH:
            length = _WIDTH[kind]
        else:
            raise ValueError(f"a field has the unknown type {kind}")
        place += length
        if place > len(message) or count > _MOST_FIELDS or not number:
            raise ValueError("it ends early or its fields make no sense")
        yield number, value


def _varint(message: memoryview, place: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if place >= len(message):
            raise ValueError("it ends early")
        byte = message[place]
        place += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, place
    raise ValueError("a number has more than 64 bits")


def _text(value: memoryview | None) -> str:
    try:
        return "" if value is None else bytes(value).decode()
    except UnicodeDecodeError:
        raise ValueError("a name is no text") from None
