"""Workflows in ComfyUI's API format, checked and run by its rules, with the few of its nodes that the examples use.

An input is a value or a link [node, output]. Every value on a wire is a list; a node runs once for each entry of its
longest input, and each of its outputs is the list of what the runs gave, or all of their lists where OUTPUT_IS_LIST.
"""

from __future__ import annotations

import hashlib
import inspect
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from PIL import Image

__all__ = ["Refused", "Workflow", "core_nodes", "refusals", "run"]

Workflow: TypeAlias = dict[str, Any]
Nodes: TypeAlias = dict[str, Any]


class Refused(Exception):
    """A workflow that cannot be run; one line for each reason."""


def refusals(workflow: Workflow, nodes: Nodes) -> list[str]:
    """Why a workflow would not be queued."""
    return [line for number in workflow for line in _refusals(workflow, nodes, number)]


def run(workflow: Workflow, nodes: Nodes) -> tuple[dict[str, list[list[Any]]], dict[str, dict[str, Any]]]:
    """Run a workflow as a server would, in inference mode. Returns each node's outputs, and what each shows.

    Raises:
        Refused: it cannot be queued.
    """
    if found := refusals(workflow, nodes):
        raise Refused("\n".join(found))
    outputs: dict[str, list[list[Any]]] = {}
    shown: dict[str, dict[str, Any]] = {}
    with torch.inference_mode():
        for number in workflow:
            _run(number, workflow, nodes, outputs, shown)
    return outputs, shown


def _inputs_of(kind: Any) -> dict[str, tuple[Any, dict[str, Any], bool]]:
    """{input: (type, its options, whether it is required)}."""
    found = {}
    for group, entries in kind.INPUT_TYPES().items():
        for name, (wanted, *options) in entries.items():
            found[name] = (wanted, options[0] if options else {}, group == "required")
    return found


def _is_link(value: Any) -> bool:
    return isinstance(value, list)


def _refusals(workflow: Workflow, nodes: Nodes, number: str) -> list[str]:
    given, kind = workflow[number]["inputs"], nodes.get(workflow[number]["class_type"])
    if kind is None:
        return [f"{number}: no node {workflow[number]['class_type']}"]
    own = getattr(kind, "VALIDATE_INPUTS", None)
    checked = set() if own is None else set(inspect.signature(own).parameters)
    found = []
    for name, (wanted, options, required) in _inputs_of(kind).items():
        if name not in given:
            found += [f"{number}: {name} is missing"] if required else []
        elif _is_link(given[name]):
            source, place = given[name]
            offered = nodes[workflow[source]["class_type"]].RETURN_TYPES[place]
            found += [] if "*" in (offered, wanted) or offered == wanted else [f"{number}: {name} takes no {offered}"]
        else:
            found += [f"{number}: {why}" for why in _wrong(name, given[name], wanted, options, name in checked)]
    if own is not None:
        constants = {name: None if _is_link(value) else value for name, value in given.items() if name in checked}
        said = own(**constants)
        found += [] if said is True else [f"{number}: {said}"]
    return found


def _wrong(name: str, value: Any, wanted: Any, options: dict[str, Any], checked: bool) -> list[str]:
    """What is wrong with a constant; a node that checks it itself is not asked for bounds."""
    kinds = {"INT": int, "FLOAT": float, "STRING": str, "BOOLEAN": bool}
    if isinstance(wanted, str) and wanted not in kinds:
        return [f"{name} must be a link to a {wanted}"]
    if isinstance(wanted, str):
        value = kinds[wanted](value)
    if checked:
        return []
    if isinstance(wanted, list):
        return [] if value in wanted else [f"{name} must be one of {wanted}, got {value!r}"]
    low, high = options.get("min", value), options.get("max", value)
    return [] if low <= value <= high else [f"{name} must be in {low}…{high}, got {value}"]


def _run(number: str, workflow: Workflow, nodes: Nodes, outputs: dict[str, Any], shown: dict[str, Any]) -> None:
    if number in outputs:
        return
    given, kind = workflow[number]["inputs"], nodes[workflow[number]["class_type"]]
    values: dict[str, list[Any]] = {}
    for name, value in given.items():
        if _is_link(value):
            _run(value[0], workflow, nodes, outputs, shown)
            values[name] = outputs[value[0]][value[1]]
        elif name in _inputs_of(kind):
            values[name] = [value]
    node, results = kind(), []
    for turn in range(max(map(len, values.values()), default=1)):
        result = getattr(node, kind.FUNCTION)(
            **{name: value[min(turn, len(value) - 1)] for name, value in values.items()}
        )
        if isinstance(result, dict):
            shown.setdefault(number, {}).update(result.get("ui", {}))
            result = result.get("result", ())
        assert isinstance(result, tuple)
        assert len(result) == len(kind.RETURN_TYPES)
        results.append(result)
    lists = getattr(kind, "OUTPUT_IS_LIST", (False,) * len(kind.RETURN_TYPES))
    outputs[number] = [
        [entry for result in results for entry in (result[place] if is_list else [result[place]])]
        for place, is_list in enumerate(lists)
    ]
    for wanted, values_out in zip(kind.RETURN_TYPES, outputs[number], strict=True):
        for value in values_out:
            _check_value(wanted, value)


def _check_value(kind: str, value: Any) -> None:
    """The conventions of ComfyUI's own types."""
    if kind in ("IMAGE", "MASK"):
        assert value.dtype == torch.float32
        assert value.ndim == (4 if kind == "IMAGE" else 3)
        assert 0 not in value.shape
        assert value.min() >= 0
        assert value.max() <= 1
    elif kind == "STRING":
        assert isinstance(value, str)


def core_nodes(folder: Path) -> Nodes:
    """Those of ComfyUI's own nodes that the example workflows use.

    Args:
        folder: Where pictures are loaded from, and where they are written.
    """

    class LoadImage:
        RETURN_TYPES, FUNCTION = ("IMAGE", "MASK"), "run"

        @classmethod
        def INPUT_TYPES(cls) -> dict[str, Any]:
            return {"required": {"image": ([path.name for path in folder.glob("*.png")], {})}}

        def run(self, image: str) -> tuple[torch.Tensor, torch.Tensor]:
            picture = Image.open(folder / image)
            pixels = torch.from_numpy(np.asarray(picture.convert("RGB"), np.float32) / 255)[None]
            if "A" not in picture.getbands():
                return pixels, torch.zeros(1, 64, 64)
            return pixels, 1 - torch.from_numpy(np.asarray(picture.getchannel("A"), np.float32) / 255)[None]

    class InvertMask:
        RETURN_TYPES, FUNCTION = ("MASK",), "run"

        @classmethod
        def INPUT_TYPES(cls) -> dict[str, Any]:
            return {"required": {"mask": ("MASK", {})}}

        def run(self, mask: torch.Tensor) -> tuple[torch.Tensor]:
            return (1 - mask,)

    class MaskToImage(InvertMask):
        RETURN_TYPES = ("IMAGE",)

        def run(self, mask: torch.Tensor) -> tuple[torch.Tensor]:
            return (mask[..., None].expand(-1, -1, -1, 3),)

    class PreviewImage:
        RETURN_TYPES: tuple[str, ...] = ()
        FUNCTION = "run"

        @classmethod
        def INPUT_TYPES(cls) -> dict[str, Any]:
            return {"required": {"images": ("IMAGE", {})}}

        def run(self, images: torch.Tensor, **_: Any) -> dict[str, Any]:
            pixels = (images.numpy() * 255).round().astype(np.uint8)
            names = [f"shown-{hashlib.sha256(one.tobytes()).hexdigest()[:12]}.jpg" for one in pixels]
            for name, one in zip(names, pixels, strict=True):
                Image.fromarray(one).save(folder / name)
            return {"ui": {"images": [{"filename": name, "subfolder": "", "type": "temp"} for name in names]}}

    class SaveImage(PreviewImage):
        @classmethod
        def INPUT_TYPES(cls) -> dict[str, Any]:
            return {"required": {"images": ("IMAGE", {}), "filename_prefix": ("STRING", {})}}

    class PreviewAny(PreviewImage):
        @classmethod
        def INPUT_TYPES(cls) -> dict[str, Any]:
            return {"required": {"source": ("*", {})}}

        def run(self, source: Any, **_: Any) -> dict[str, Any]:
            return {"ui": {"text": (str(source),)}}

    class StringReplace:
        RETURN_TYPES, FUNCTION = ("STRING",), "run"

        @classmethod
        def INPUT_TYPES(cls) -> dict[str, Any]:
            return {"required": {name: ("STRING", {}) for name in ("string", "find", "replace")}}

        def run(self, string: str, find: str, replace: str) -> tuple[str]:
            return (string.replace(find, replace),)

    ours = (LoadImage, InvertMask, MaskToImage, PreviewImage, SaveImage, PreviewAny, StringReplace)
    return {node.__name__: node for node in ours}
