"""Whether a model on disk is what it should be: hashes, shapes, finite values. Everything that is wrong is told."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from diffusers import UNet2DConditionModel
from safetensors import SafetensorError, safe_open

from anystory.files import sha256_file
from anystory.models.adapter import SubjectAdapter
from anystory.models.checksums import SUMS, read_sums
from anystory.models.encoders import subject_qformer
from anystory.models.ip_adapter_plus import read_ip_adapter_plus, resampler_weights
from anystory.models.key_report import compare_keys, shapes_of
from anystory.models.layout import layout_of_config
from anystory.models.reference_net import config_of_unet
from anystory.models.warm_start import warm_start_config
from anystory.pipelines.headers import read_headers, weight_files
from anystory.pipelines.inventory import find

__all__ = ["FileCheck", "Verification", "verify"]


@dataclass(frozen=True, kw_only=True)
class FileCheck:
    """One file."""

    file: str
    sha256: str
    compared_with: str
    """Where the expected hash comes from; empty where nobody knows one."""


@dataclass(kw_only=True)
class Verification:
    """What was checked and what is wrong."""

    path: Path
    files: list[FileCheck] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    shapes_checked: list[str] = field(default_factory=list)
    """Parts whose every key and shape was compared with what their configuration builds."""

    @property
    def whole(self) -> bool:
        """Nothing is wrong."""
        return not self.problems


def verify(source: str | os.PathLike[str], on_file: Callable[[str], None] = lambda name: None) -> Verification:
    """Reads every weight and says what is wrong.

    - hashes: against `SHA256SUMS` where a folder has them, and against the name under which the hub's cache stores a
      large file, which is its hash;
    - values: no NaN, no infinity;
    - shapes: adapters, U-Nets and IP-Adapter-Plus files against what their configuration builds; shards against
      their index; an adapter against the U-Net beside it. Text encoders, autoencoders and the original single-file
      layout are not compared: their names are converted while they are loaded.

    Args:
        source: as for `inventory.describe`.
        on_file: called with each file's name before it is read.

    Raises:
        ValueError: nothing of that name is here, or it holds no weights.
    """
    path = find(os.fspath(source))
    result = Verification(path=path)
    files = [path] if path.is_file() else sorted(_files_of(path))
    if not any(file.suffix == ".safetensors" for file in files):
        raise ValueError(f"{source} holds no .safetensors files: there is nothing to verify")
    readable = True
    for file in files:
        name = file.name if path.is_file() else file.relative_to(path).as_posix()
        on_file(name)
        result.problems += _check_hash(file, name, result)
        if file.suffix == ".safetensors":
            problems = list(_check_values(file, name))
            readable &= not any("cannot be read" in problem for problem in problems)
            result.problems += problems
    if not path.is_file():
        result.problems += _missing_files(path)
    if readable:  # else every shape would be missing, too
        result.problems += _check_shapes(path, result)
    return result


def _files_of(folder: Path) -> Iterator[Path]:
    for file in folder.rglob("*"):
        hidden = any(part.startswith(".") for part in file.relative_to(folder).parts)
        if file.is_file() and not hidden and (file.suffix in (".safetensors", ".json") or _listed(file)):
            yield file


def _listed(file: Path) -> bool:
    return file.name != SUMS and file.name in read_sums(file.parent)


def _check_hash(file: Path, name: str, result: Verification) -> list[str]:
    digest, expected, source = sha256_file(file), None, ""
    if listed := read_sums(file.parent).get(file.name):
        expected, source = listed, SUMS
    elif file.is_symlink() and re.fullmatch(r"[0-9a-f]{64}", blob := file.resolve().name):
        expected, source = blob, "the hub's cache"
    result.files.append(FileCheck(file=name, sha256=digest, compared_with=source))
    if expected and digest != expected:
        return [f"{name}: its SHA-256 is {digest[:12]}…, {source} says {expected[:12]}…"]
    return []


def _check_values(file: Path, name: str) -> Iterator[str]:
    try:
        with safe_open(file, framework="pt") as tensors:
            for key in tensors.keys():  # noqa: SIM118 (not a dict)
                value = tensors.get_tensor(key)
                if value.is_floating_point() and not value.isfinite().all():
                    bad = int((~value.isfinite()).sum())
                    yield f"{name}: {key} has {bad} of {value.numel()} values that are NaN or infinite"
    except SafetensorError as error:
        yield f"{name}: cannot be read as safetensors ({error})"


def _missing_files(folder: Path) -> list[str]:
    """Files that a list of hashes or an index of shards names and that are not there."""
    problems = []
    for sums in sorted(folder.rglob(SUMS)):
        problems += [
            f"{(sums.parent / name).relative_to(folder)}: listed in {SUMS}, but not there"
            for name in read_sums(sums.parent)
            if not (sums.parent / name).is_file()
        ]
    for index in sorted(folder.rglob("*.safetensors.index*.json")):
        shards = json.loads(index.read_text(encoding="utf-8")).get("weight_map", {})
        problems += [
            f"{(index.parent / name).relative_to(folder)}: listed in {index.name}, but not there"
            for name in sorted(set(shards.values()))
            if not (index.parent / name).is_file()
        ]
    return problems


def _check_shapes(path: Path, result: Verification) -> list[str]:
    if path.is_file():
        return _check_ip_adapter(path, result)
    problems, configs = [], {}
    for folder in (path, path / "unet", path / "adapter"):
        config = folder / "config.json"
        if not config.is_file():
            continue
        content = json.loads(config.read_text(encoding="utf-8"))
        kind = content.get("_class_name")
        if kind not in _BUILDERS:
            continue
        part = folder.relative_to(path).as_posix() if folder != path else kind
        try:
            with torch.device("meta"):
                model: Any = _BUILDERS[kind].from_config(content)
        except (ValueError, TypeError) as error:
            problems.append(f"{part}: its config.json builds no {kind} ({error})")
            continue
        configs[kind] = model
        expected = shapes_of(model.state_dict())
        for variant, files in weight_files(folder).items():
            found = {key: shape for key, (_, shape) in read_headers(files).items()}
            if report := compare_keys(found, expected):
                problems.append(f"{part}{f' ({variant})' if variant else ''}: {report}")
        result.shapes_checked.append(part)
    if len(configs) == 2:
        adapter, unet = configs["SubjectAdapter"], configs["UNet2DConditionModel"]
        if layout_of_config(config_of_unet(unet)) != adapter.layers:
            problems.append("adapter: it was made for a U-Net with other attention layers than the one beside it")
    return problems


_BUILDERS: dict[str, Any] = {"UNet2DConditionModel": UNet2DConditionModel, "SubjectAdapter": SubjectAdapter}


def _check_ip_adapter(path: Path, result: Verification) -> list[str]:
    if "image_proj.latents" not in read_headers([path]):
        return []
    ip_adapter = read_ip_adapter_plus(path)
    with torch.device("meta"):
        expected = subject_qformer(warm_start_config(ip_adapter)).state_dict()
    result.shapes_checked.append("image_proj")
    report = compare_keys(shapes_of(resampler_weights(ip_adapter.image_proj)), shapes_of(expected))
    return [f"image_proj, under diffusers' names: {report}"] if report else []
