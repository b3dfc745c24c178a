"""Published segmentation models in ONNX files: their names, how their input is scaled, where their files lie.

They are salient object detectors: U²-Net (Qin et al., 2020, arXiv 2005.09007) and IS-Net (Qin et al., 2022, arXiv
2203.03041). The names, numbers, checksums and the folder are those of rembg (danielgatis/rembg), which publishes the
files.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

__all__ = ["ONNX_MODELS", "OnnxModel", "find_onnx", "is_published", "model_folder", "model_of_file"]

_RELEASE = "https://github.com/danielgatis/rembg/releases/download/v0.0.0"
_IMAGENET_MEAN, _IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

Colour = tuple[float, float, float]


@dataclass(frozen=True, kw_only=True)
class OnnxModel:
    """A published model. Its input is (pixel / brightest pixel − mean) / std, in RGB."""

    name: str
    finds: str
    """What it finds, in words."""
    mean: Colour = _IMAGENET_MEAN
    std: Colour = _IMAGENET_STD
    side: int = 320
    """Height and width of the input in pixels, where the file leaves them open."""
    bytes: int
    md5: str

    @property
    def file(self) -> str:
        """The file's name."""
        return f"{self.name}.onnx"

    @property
    def url(self) -> str:
        """Where it is published."""
        return f"{_RELEASE}/{self.file}"


ONNX_MODELS: dict[str, OnnxModel] = {
    model.name: model
    for model in (
        OnnxModel(
            name="u2netp",
            finds="what stands out, by a small U²-Net",
            bytes=4_574_861,
            md5="8e83ca70e441ab06c318d82300c84806",
        ),
        OnnxModel(
            name="u2net",
            finds="what stands out, by U²-Net",
            bytes=175_997_641,
            md5="60024c5c889badc19c04ad937298a77b",
        ),
        OnnxModel(
            name="u2net_human_seg",
            finds="people, by U²-Net",
            bytes=175_997_641,
            md5="c09ddc2e0104f800e3e1bb4652583d1f",
        ),
        OnnxModel(
            name="silueta",
            finds="what stands out, by a U²-Net of a quarter of the size",
            bytes=44_173_029,
            md5="55e59e0d8062d2f5d013f4725ee84782",
        ),
        OnnxModel(
            name="isnet-general-use",
            finds="what stands out, by IS-Net: the finest edges",
            mean=(0.5, 0.5, 0.5),
            std=(1.0, 1.0, 1.0),
            side=1024,
            bytes=178_648_008,
            md5="fc16ebd8b0c10d971d3513d564d01e29",
        ),
        OnnxModel(
            name="isnet-anime",
            finds="drawn characters, by IS-Net",
            std=(1.0, 1.0, 1.0),
            side=1024,
            bytes=176_069_933,
            md5="6f184e756bb3bd901c8849220a83e38e",
        ),
    )
}
"""By name."""


def model_folder() -> Path:
    """Where rembg keeps its models: $U2NET_HOME, else `.u2net` in $XDG_DATA_HOME, else in the home folder."""
    home = os.environ.get("U2NET_HOME") or Path(os.environ.get("XDG_DATA_HOME") or "~", ".u2net")
    return Path(home).expanduser()


def find_onnx(name: str) -> Path | None:
    """The ONNX file that a segmenter's name means; None if it means none.

    Args:
        name: One of `ONNX_MODELS`, in `model_folder`; a path, with or without ".onnx"; or a folder with one ONNX
            file.

    Raises:
        ValueError: a known model that is not there, no such file, or a folder with no or several ONNX files.
    """
    path = Path(name).expanduser()
    if name in ONNX_MODELS:
        kept = model_folder() / ONNX_MODELS[name].file
        if kept.is_file():
            return kept
        if not path.exists():
            raise ValueError(
                f"segmenter {name!r}: there is no {kept}. `anystory models get {name}` says where to get it; or give "
                "the path of the file"
            )
    if path.is_dir():
        return _only_file(name, path)
    if path.suffix.lower() != ".onnx":
        with_ending = path.with_name(f"{path.name}.onnx") if path.name else path
        return with_ending if with_ending.is_file() else None
    if not path.exists():
        raise ValueError(f"segmenter {name!r}: no such file")
    return path


def model_of_file(path: Path) -> OnnxModel:
    """The published model whose name is in a file's name: `u2netp.onnx`, `my-isnet-anime.v2.onnx`.

    Raises:
        ValueError: there is none.
    """
    found = [name for name in ONNX_MODELS if name in path.name.lower()]
    if not found:
        raise ValueError(
            f"segmenter {str(path)!r}: the file's name must say which kind of model it is, as each scales its input in "
            f"its own way. Put one of {', '.join(ONNX_MODELS)} into the name"
        )
    return ONNX_MODELS[max(found, key=len)]


def is_published(data: bytes, model: OnnxModel) -> bool:
    """Whether a file's content is the published one, byte for byte."""
    return len(data) == model.bytes and hashlib.md5(data, usedforsecurity=False).hexdigest() == model.md5


def _only_file(name: str, folder: Path) -> Path | None:
    """The ONNX file in a folder; None for a transformers model's folder."""
    if (folder / "config.json").exists():
        return None
    files = sorted(file for file in folder.iterdir() if file.suffix.lower() == ".onnx")
    if len(files) == 1:
        return files[0]
    if not files:
        raise ValueError(f"segmenter {name!r} is a folder without a model: it has no ONNX file and no config.json")
    names = ", ".join(file.name for file in files)
    raise ValueError(f"segmenter {name!r} is a folder with several ONNX files: give one of them ({names})")
