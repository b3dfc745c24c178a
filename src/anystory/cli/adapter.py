"""`anystory adapter init`: an adapter from public weights."""

from __future__ import annotations

import gc
from pathlib import Path
from typing import Annotated

import typer

from anystory.cli.model_options import DTYPES

SHARD = "2GB"
"""Largest file: as much is copied while it is written."""

app = typer.Typer(help="Make adapters.", no_args_is_help=True, add_completion=False)


@app.callback()
def _group() -> None:
    """Keeps `init` a verb of its own: typer would drop the name of an only command."""


@app.command()
def init(
    base: Annotated[
        str, typer.Option(help="SDXL or a fine-tune: a diffusers folder, a hub id, or a single .safetensors file.")
    ],
    ip_adapter: Annotated[
        str,
        typer.Option(
            help="ip-adapter-plus_sdxl_vit-h as .safetensors (or .bin), or h94/IP-Adapter/sdxl_models/… in the hub."
        ),
    ],
    out: Annotated[Path, typer.Option(help="The adapter's folder; it must not exist yet, or be empty.")],
    tokens: Annotated[
        int | None,
        typer.Option(min=1, help="Tokens per subject: 16 is IP-Adapter's own and exact, 64 the paper's."),
    ] = None,
    dtype: Annotated[str, typer.Option(help="Type of the weights: float32, bfloat16 or float16.")] = "float16",
    config: Annotated[
        str | None, typer.Option(help="For a single file: a folder with the configuration files, if the hub is away.")
    ] = None,
    variant: Annotated[str | None, typer.Option(help="Variant of the base's weights: fp16.")] = None,
    reference_size: Annotated[int, typer.Option(min=8, help="Side in pixels at which references are read.")] = 512,
    seed: Annotated[int, typer.Option(min=0, help="Of the router's weights and of copied queries.")] = 0,
) -> None:
    """Start an adapter from public weights.

    Subject QFormer and Ŵ come from IP-Adapter-Plus, ReferenceNet and W̃ from the base's U-Net, the router is fresh: give
    every subject a region until it is trained.
    """
    if dtype not in DTYPES:
        raise ValueError(f"--dtype must be one of {', '.join(DTYPES)}, got {dtype!r}")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ValueError(f"--out {out} exists already and is not empty: name another folder")
    import torch

    from anystory.cli.drawing import quiet_libraries

    quiet_libraries()
    from anystory.files import sha256_file
    from anystory.models.ip_adapter_plus import read_ip_adapter_plus
    from anystory.models.warm_start import warm_start, warm_start_config
    from anystory.pipelines.assets import local_file
    from anystory.pipelines.parts import load_unet

    path = local_file(ip_adapter)
    public = read_ip_adapter_plus(path)
    sizes = warm_start_config(public, tokens, reference_size=reference_size)
    unet = load_unet(base, dtype=getattr(torch, dtype), config=config, variant=variant)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        adapter = warm_start(unet, public, sizes, generator=torch.Generator().manual_seed(seed))
    del unet
    gc.collect()  # its modules refer to each other; writing a shard copies it, and the base need not lie beside that
    origin = _origin(base, path, sha256_file(path), sizes.subject_tokens, public.queries)
    adapter.save_pretrained(out, max_shard_size=SHARD, origin=origin)
    total = sum(parameter.numel() for parameter in adapter.parameters())
    print(f"{out}: {total:,} parameters in {dtype}, {sizes.subject_tokens} tokens per subject")
    if sizes.subject_tokens > public.queries:
        print(
            f"{sizes.subject_tokens} tokens for {public.queries} queries: near IP-Adapter-Plus, not equal to it"
            " (docs/sdxl.md); train before you judge it"
        )
    print("The router is fresh: give every subject a region until it is trained.")


def _origin(base: str, ip_adapter: Path, digest: str, tokens: int, queries: int) -> str:
    copies = "" if tokens == queries else f", each of its {queries} queries copied {tokens // queries} times"
    return (
        f"Made by `anystory adapter init`, not trained. Subject QFormer and Ŵ: `{ip_adapter.name}` (SHA-256"
        f" `{digest}`){copies}. ReferenceNet and W̃: the U-Net of `{base}`. Router and routing QFormer: random; until"
        " they are trained, every subject needs a region.\n\n"
        "The terms of both sources apply. SDXL 1.0 is published under CreativeML Open RAIL++-M, IP-Adapter under Apache"
        " 2.0; a fine-tune may have terms of its own."
    )
