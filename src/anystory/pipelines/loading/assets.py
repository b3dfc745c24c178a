"""Names of models: those that ship inside the package, folders, and the hub's ids."""

from __future__ import annotations

import os
from pathlib import Path

from anystory.version import ASSETS

__all__ = ["embedded_models", "hub_index", "is_hub_id", "local_file", "not_given", "resolve_model", "split_hub_id"]

_INDEX = "model_index.json"


def embedded_models() -> tuple[str, ...]:
    """Names of the embedded models: the folders of `anystory/assets` that hold a diffusers pipeline."""
    return tuple(sorted(index.parent.name for index in ASSETS.glob(f"*/{_INDEX}")))


def resolve_model(name: str | os.PathLike[str]) -> str:
    """Turn the name of an embedded model into its folder; leave folders and hub ids as they are.

    `"mini"` always means the embedded model, `"./mini"` a folder in the current directory.

    Raises:
        ValueError: neither an embedded model, nor a folder, nor of the form `owner/name`.
    """
    name = os.fspath(name)
    if name in embedded_models():
        return str(ASSETS / name)
    if os.path.isfile(name):
        raise ValueError(
            f"{name!r} is a single file: AnyStoryPipeline.from_single_file reads it, and its save_pretrained makes a"
            " folder of it, which can be named here"
        )
    if os.path.isdir(name) or is_hub_id(name):
        return name
    raise _no_model(name)


def _no_model(name: str) -> ValueError:
    return ValueError(
        f"no model {name!r}: expected an embedded model {embedded_models()}, a folder that exists,"
        " or a hub id 'owner/name'"
    )


def split_hub_id(name: str | os.PathLike[str]) -> tuple[str, str] | None:
    """`owner/name/some/path` as ("owner/name", "some/path"), the path "" where there is none; None for no hub id."""
    owner, _, rest = os.fspath(name).partition("/")
    repository, _, inside = rest.partition("/")
    return (f"{owner}/{repository}", inside) if owner.strip(".~") and repository else None


def is_hub_id(name: str) -> bool:
    """Whether a name that is no embedded model, file or folder may be a repository of the hub."""
    return name.count("/") == 1 and name[0] not in "./~"


def hub_index(name: str) -> Path:
    """The `model_index.json` of a hub id, cached or fetched.

    Raises:
        ValueError: there is none, or the hub does not give it.
    """
    from huggingface_hub import hf_hub_download, try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        cached = try_to_load_from_cache(name, _INDEX)
        return Path(cached if isinstance(cached, str) else hf_hub_download(name, _INDEX))
    except HFValidationError:
        raise _no_model(name) from None
    except OSError as error:
        raise not_given(name, error) from error


def not_given(name: str, error: OSError) -> ValueError:
    """What to say where the hub did not give the `model_index.json` of a hub id."""
    from huggingface_hub.errors import EntryNotFoundError, GatedRepoError, LocalEntryNotFoundError

    if isinstance(error, GatedRepoError):
        return ValueError(
            f"{name} is given only to those who have accepted its terms: accept them at https://huggingface.co/{name},"
            " then log in with `hf auth login`"
        )
    if isinstance(error, EntryNotFoundError) and not isinstance(error, LocalEntryNotFoundError):
        return ValueError(f"{name} has no {_INDEX}: expected a model in diffusers layout")
    reason = (str(error) or type(error).__name__).splitlines()[0].rstrip(".: ")
    return ValueError(
        f"{name} is not cached here, and the hub (huggingface.co) did not give its {_INDEX} ({reason}): check the name"
        " and the connection, or name a folder"
    )


def local_file(name: str | os.PathLike[str]) -> Path:
    """A local file, or `owner/name/path/in/the/repository` of the hub, downloaded or cached.

    Raises:
        ValueError: a hub name that does not exist, or the hub cannot be reached.
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
