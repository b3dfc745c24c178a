"""An adapter from public weights: a base's U-Net and IP-Adapter-Plus. Nothing heavy is imported before it is needed."""

from __future__ import annotations

import gc
from pathlib import Path
from typing import TYPE_CHECKING, Any

from anystory.files import sha256_file

if TYPE_CHECKING:
    from anystory.models.adapter import SubjectAdapter

__all__ = ["make_adapter"]

_SHARD = "2GB"
"""Largest file: as much is copied while it is written."""


def make_adapter(
    out: Path,
    *,
    base: str,
    ip_adapter: str,
    tokens: int | None = None,
    dtype: str = "float16",
    config: str | None = None,
    variant: str | None = None,
    seed: int = 0,
    **sizes: Any,
) -> tuple[SubjectAdapter, int]:
    """Write an adapter with a fresh router.

    Args:
        out: Its folder.
        base: SDXL or a fine-tune: a folder, a hub id, or a single `.safetensors` file.
        ip_adapter: IP-Adapter-Plus for SDXL: a file, or its path in the hub.
        tokens: Tokens per subject; None for as many as IP-Adapter-Plus has queries.
        dtype: Type of the weights, one of `options.DTYPES`.
        config, variant: Of the base, see `ModelOptions`.
        seed: Of the router's weights and of copied queries.
        **sizes: Other fields of `AdapterConfig`; None for what it is by default.

    Returns:
        The adapter, and how many queries IP-Adapter-Plus has.

    Raises:
        ValueError: a source that is missing, damaged or of another kind, or sizes that do not go together.
        OSError: a file cannot be read or written.
    """
    import torch

    from anystory.models.saved.ip_adapter_plus import read_ip_adapter_plus
    from anystory.models.saved.warm_start import warm_start, warm_start_config
    from anystory.pipelines.loading.assets import local_file
    from anystory.pipelines.loading.parts import load_unet

    path = local_file(ip_adapter)
    public = read_ip_adapter_plus(path)
    given = {name: value for name, value in sizes.items() if value is not None}
    wanted = warm_start_config(public, tokens, **given)
    unet = load_unet(base, dtype=getattr(torch, dtype), config=config, variant=variant)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        adapter = warm_start(unet, public, wanted, generator=torch.Generator().manual_seed(seed))
    del unet
    gc.collect()  # its modules refer to each other; writing a shard copies it, and the base need not lie beside that
    origin = _origin(base, path, sha256_file(path), wanted.subject_tokens, public.queries)
    adapter.save_pretrained(out, max_shard_size=_SHARD, origin=origin)
    return adapter, public.queries


def _origin(base: str, ip_adapter: Path, digest: str, tokens: int, queries: int) -> str:
    copies = "" if tokens == queries else f", each of its {queries} queries copied {tokens // queries} times"
    return (
        f"Made by `anystory adapter init`, not trained. Subject QFormer and Ŵ: `{ip_adapter.name}` (SHA-256"
        f" `{digest}`){copies}. ReferenceNet and W̃: the U-Net of `{base}`. Router and routing QFormer: random; until"
        " they are trained, every subject needs a region.\n\n"
        "The terms of both sources apply. SDXL 1.0 is published under CreativeML Open RAIL++-M, IP-Adapter under Apache"
        " 2.0; a fine-tune may have terms of its own."
    )
