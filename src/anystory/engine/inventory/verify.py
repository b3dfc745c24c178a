"""Verify a model on disk: hashes, shapes, finite values. Every problem is reported, not only the first."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from diffusers import Flux2Transformer2DModel, FluxTransformer2DModel, UNet2DConditionModel
from safetensors import SafetensorError, safe_open

from anystory.engine.inventory.describe import find
from anystory.files import sha256_file
from anystory.input_files import check_model_files, is_hollow, read_object
from anystory.models.adapter import SubjectAdapter
from anystory.models.encoders import subject_qformer
from anystory.models.flux_adapter import FluxSubjectAdapter
from anystory.models.layout import layout_of_config
from anystory.models.reference_net import config_of_unet
from anystory.models.saved.checksums import SUMS, UNLISTED, read_sums
from anystory.models.saved.ip_adapter_plus import read_ip_adapter_plus, resampler_weights
from anystory.models.saved.key_report import compare_keys, shapes_of
from anystory.models.saved.warm_start import warm_start_config
from anystory.pipelines.loading.headers import read_headers, weight_files

__all__ = ["FileCheck", "Verification", "verify"]


@dataclass(frozen=True, kw_only=True)
class FileCheck:
    """One file."""

    file: str
    sha256: str
    compared_with: str
    """Where the expected hash comes from; empty if there is none."""


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

    - hashes: against `SHA256SUMS.txt` of its folder and of those above it, where there are some, which must then list
      the file; and against the name under which the hub's cache stores a large file, which is its hash;
    - values: no NaN, no infinity;
    - shapes: adapters, U-Nets, FLUX's transformers and IP-Adapter-Plus files against what their configuration builds;
      shards against their index; an adapter against the network beside it. Text encoders, autoencoders and the
      original single-file layout are not compared: their names are converted while they are loaded.

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
    if path.is_dir():
        check_model_files(path)
    lists = _Lists(path if path.is_dir() else path.parent)
    readable = True
    for file in files:
        name = file.name if path.is_file() else file.relative_to(path).as_posix()
        on_file(name)
        if is_hollow(file):
            result.files.append(FileCheck(file=name, sha256="", compared_with=""))
            result.problems.append(f"{name}: most of its {file.stat().st_size:,} bytes were never written")
            readable = False
            continue
        result.problems += _check_hash(file, name, lists, result)
        if file.suffix == ".safetensors":
            problems = list(_check_values(file, name))
            readable &= not any("cannot be read" in problem for problem in problems)
            result.problems += problems
    result.problems += lists.problems
    if not path.is_file():
        result.problems += _missing_files(path)
    if readable:  # else every shape would be missing, too
        result.problems += _check_shapes(path, result)
    return result


def _files_of(folder: Path) -> Iterator[Path]:
    lists = _Lists(folder)
    for file in folder.rglob("*"):
        hidden = any(part.startswith(".") for part in file.relative_to(folder).parts)
        if file.is_file() and not hidden and (file.suffix in (".safetensors", ".json") or lists.of(file)):
            yield file


class _Lists:
    """The `SHA256SUMS.txt` of a folder and of those below it, each read once.

    Args:
        root: the topmost folder.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.problems: list[str] = []
        """Lists that cannot be read."""
        self._read: dict[Path, dict[str, str]] = {}

    def of(self, file: Path) -> list[str]:
        """The hashes that lists give a file: that of its own folder, and of those above it."""
        if file.name in UNLISTED:
            return []
        found = [self._sums(folder).get(file.relative_to(folder).as_posix()) for folder in self._above(file)]
        return [digest for digest in found if digest is not None]

    def cover(self, file: Path) -> bool:
        """Whether a list ought to name a file."""
        return file.name not in UNLISTED and any(map(self._sums, self._above(file)))

    def _above(self, file: Path) -> list[Path]:
        return [folder for folder in file.parents if folder == self.root or folder.is_relative_to(self.root)]

    def _sums(self, folder: Path) -> dict[str, str]:
        if folder not in self._read:
            self._read[folder] = {}
            try:
                self._read[folder] = read_sums(folder)
            except ValueError as error:
                self.problems.append(str(error))
        return self._read[folder]


def _check_hash(file: Path, name: str, lists: _Lists, result: Verification) -> list[str]:
    digest = sha256_file(file)
    expected = [(found, SUMS) for found in lists.of(file)]
    if file.is_symlink() and re.fullmatch(r"[0-9a-f]{64}", blob := file.resolve().name):
        expected.append((blob, "the hub's cache"))
    result.files.append(FileCheck(file=name, sha256=digest, compared_with=expected[0][1] if expected else ""))
    if not expected and lists.cover(file):
        return [f"{name}: not listed in {SUMS}, so it is no part of the model that was published"]
    return [
        f"{name}: its SHA-256 is {digest[:12]}…, {source} says {found[:12]}…"
        for found, source in expected
        if found != digest
    ]


def _check_values(file: Path, name: str) -> Iterator[str]:
    try:
        with safe_open(file, framework="pt") as tensors:
            for key in tensors.keys():  # noqa: SIM118 (not a dict)
                value = tensors.get_tensor(key)
                if bad := _not_finite(value):
                    yield f"{name}: {key} has {bad} of {value.numel()} values that are NaN or infinite"
    except SafetensorError as error:
        yield f"{name}: cannot be read as safetensors ({error})"


def _not_finite(value: torch.Tensor) -> int:
    """How many values are NaN or infinite."""
    if not value.is_floating_point():
        return 0
    if value.element_size() == 1:  # torch computes nothing in 8 bits
        if value.dtype == getattr(torch, "float4_e2m1fn_x2", None):
            return 0  # it has neither
        value = value.to(torch.float32)
    return 0 if value.isfinite().all() else int((~value.isfinite()).sum())


def _missing_files(folder: Path) -> list[str]:
    """Files that a list of hashes or an index of shards names and that are not there."""
    problems = []
    for sums in sorted(folder.rglob(SUMS)):
        with suppress(ValueError):  # reported where it was read
            problems += [
                f"{(sums.parent / name).relative_to(folder)}: listed in {sums.name}, but not there"
                for name in read_sums(sums.parent)
                if not (sums.parent / name).is_file()
            ]
    for index in sorted(folder.rglob("*.safetensors.index*.json")):
        try:
            shards = read_object(index).get("weight_map")
            named = sorted(set(shards.values())) if isinstance(shards, dict) else None
        except (ValueError, TypeError, OSError) as error:
            problems.append(str(error))
            continue
        if named is None:
            problems.append(f"{index.relative_to(folder)}: no weight_map in it")
        problems += [
            f"{(index.parent / str(name)).relative_to(folder)}: listed in {index.name}, but not there"
            for name in named or ()
            if not (index.parent / str(name)).is_file()
        ]
    return problems


def _check_shapes(path: Path, result: Verification) -> list[str]:
    if path.is_file():
        return _check_ip_adapter(path, result)
    problems, configs = [], {}
    for folder in (path, *(path / part for part in ("unet", "transformer", "adapter"))):
        config = folder / "config.json"
        if not config.is_file():
            continue
        try:
            content = read_object(config)
        except (ValueError, OSError) as error:
            problems.append(str(error))
            continue
        kind = content.get("_class_name")
        if kind not in _BUILDERS:
            continue
        part = folder.relative_to(path).as_posix() if folder != path else kind
        try:
            with torch.device("meta"):
                model: Any = _BUILDERS[kind].from_config(content)
        except (ValueError, TypeError, KeyError, AttributeError, IndexError, RuntimeError) as error:
            problems.append(f"{part}: its config.json builds no {kind} ({error})")
            continue
        configs[kind] = model
        expected = shapes_of(model.state_dict())
        for variant, files in weight_files(folder).items():
            found = {key: shape for key, (_, shape) in read_headers(files).items()}
            if report := compare_keys(found, expected):
                problems.append(f"{part}{f' ({variant})' if variant else ''}: {report}")
        result.shapes_checked.append(part)
    return problems + _check_fit(configs)


_BUILDERS: dict[str, Any] = {
    kind.__name__: kind
    for kind in (
        UNet2DConditionModel,
        SubjectAdapter,
        FluxTransformer2DModel,
        FluxSubjectAdapter,
        Flux2Transformer2DModel,
    )
}


def _check_fit(models: Mapping[str, Any]) -> list[str]:
    """What is wrong between an adapter and the network beside it; `models` by their class, without values."""
    adapter, unet = models.get("SubjectAdapter"), models.get("UNet2DConditionModel")
    if adapter is not None and unet is not None and layout_of_config(config_of_unet(unet)) != adapter.layers:
        return ["adapter: it was made for a U-Net with other attention layers than the one beside it"]
    adapter, transformer = models.get("FluxSubjectAdapter"), models.get("FluxTransformer2DModel")
    if adapter is not None and transformer is not None:
        try:
            adapter.check_fits(transformer)
        except ValueError as error:
            return [f"adapter: {error}"]
    return []


def _check_ip_adapter(path: Path, result: Verification) -> list[str]:
    if "image_proj.latents" not in read_headers([path]):
        return []
    ip_adapter = read_ip_adapter_plus(path)
    with torch.device("meta"):
        expected = subject_qformer(warm_start_config(ip_adapter)).state_dict()
    result.shapes_checked.append("image_proj")
    report = compare_keys(shapes_of(resampler_weights(ip_adapter.image_proj)), shapes_of(expected))
    return [f"image_proj, under diffusers' names: {report}"] if report else []
