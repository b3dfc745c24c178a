"""Where models lie: those that ship inside the package, and how the hub's are named."""

from __future__ import annotations

import os
from pathlib import Path

import anystory

__all__ = ["embedded_models", "local_file", "resolve_model", "split_hub_id"]

_ASSETS = Path(anystory.__file__).parent / "assets"
_INDEX = "model_index.json"


def embedded_models() -> tuple[str, ...]:
    """Names of the embedded models: the folders of `anystory/assets` that hold a diffusers pipeline."""
    return tuple(sorted(index.parent.name for index in _ASSETS.glob(f"*/{_INDEX}")))


def resolve_model(name: str | os.PathLike[str]) -> str:
    """Turn the name of an embedded model into its folder; leave folders and hub ids as they are.

    `"mini"` always means the embedded model, `"./mini"` a folder in the current directory.

    Raises:
        ValueError: neither an embedded model, nor a folder, nor of the form `owner/name`.
    """
    name = os.fspath(name)
    if name in embedded_models():
        return str(_ASSETS / name)
    if os.path.isfile(name):
        raise ValueError(
            f"{name!r} is a single file: AnyStoryPipeline.from_single_file reads it, and its save_pretrained makes a"
            " folder of it, which can be named here"
        )
    looks_like_hub_id = name.count("/") == 1 and name[0] not in "./~"
    if os.path.isdir(name) or looks_like_hub_id:
        return name
    raise ValueError(
        f"no model {name!r}: expected an embedded model {embedded_models()}, a folder that exists,"
        " or a hub id 'owner/name'"
    )


def split_hub_id(name: str | os.PathLike[str]) -> tuple[str, str] | None:
    """`owner/name/some/path` as ("owner/name", "some/path"), the path "" where there is none; None for no hub id."""
    owner, _, rest = os.fspath(name).partition("/")
    repository, _, inside = rest.partition("/")
    return (f"{owner}/{repository}", inside) if owner.strip(".~") and repository else None


def local_file(name: str | os.PathLike[str]) -> Path:
    """A file that is here, or `owner/name/path/in/the/repository` in the hub, downloaded or cached.

    Raises:
        ValueError: neither; with a hub name also where the hub cannot be reached.
        FileNotFoundError: a path that does not exist.
    """
    path = Path(name)
    if path.is_file():
        return path
    repository, inside = split_hub_id(name) or ("", "")
    if not inside:
        raise FileNotFoundError(2, "No such file, nor owner/name/file of the hub", str(name))
    from huggingface_hub import hf_hub_download

    try:
        return Path(hf_hub_download(repository, inside))
    except OSError as error:  # not there, or the hub cannot be reached
        reason = (str(error) or type(error).__name__).splitlines()[0].rstrip(".: ")
        raise ValueError(
            f"{name} is no file here, and the hub did not give it ({reason}): download it and name the file"
        ) from None
