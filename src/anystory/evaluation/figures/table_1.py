"""Table 1: what ReferenceNet costs as the whole U-Net, without cross-attention (the paper's), and pruned (ours)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import nn

from anystory.evaluation.bench import calls
from anystory.evaluation.bench.flops import count
from anystory.evaluation.bench.networks import SDXL, Networks
from anystory.evaluation.bench.timing import TimedCase, Timing, timed
from anystory.evaluation.figures.bench import Bench
from anystory.evaluation.figures.figure import Figure
from anystory.evaluation.figures.plots import table
from anystory.models.reference_net import ReferenceNet
from anystory.page_layout import framed

ORIGINAL, SIMPLIFIED, PRUNED = (
    "the whole U-Net",
    "without cross-attention (the paper's)",
    "and without what nobody reads",
)
_ROUNDS, _TURN = 3, 0.5


@dataclass(frozen=True, kw_only=True)
class _Cost:
    model: str
    network: str
    parameters: int
    flops: int
    milliseconds: float | None
    """Of the fastest forward pass; None where it was only counted."""


def table_1(bench: Bench) -> Figure:
    """Parameters, operations and time on one reference: of the model itself, and counted for SDXL."""
    costs = [*_measured(bench), *_counted()]
    rows = []
    for cost in costs:
        whole = next(one for one in costs if one.model == cost.model)
        row: dict[str, object] = {"model": cost.model, "ReferenceNet": cost.network}
        row |= {"parameters": cost.parameters, "FLOPs": cost.flops, "share": round(cost.flops / whole.flops, 3)}
        time = cost.milliseconds
        row |= {"ms": "" if time is None else round(time, 1)}
        row |= {"share of ms": "" if time is None or not whole.milliseconds else round(time / whole.milliseconds, 3)}
        rows.append(row)
    return Figure(
        name="table1",
        title="Table 1: the cost of ReferenceNet",
        says=f"One forward pass on one reference. Times are the fastest of {_ROUNDS} rounds in turns on "
        f"{torch.get_num_threads()} CPU thread(s); SDXL is counted at 512 × 512 pixels and not timed.",
        image=framed(table(rows)),
        rows=rows,
    )


def _measured(bench: Bench) -> list[_Cost]:
    pipe = bench.pipe
    unet, adapter = pipe.unet, pipe.adapter
    side = adapter.sizes.reference_size // pipe.vae_scale_factor
    latent = torch.randn(1, unet.config.in_channels, side, side)
    mask = torch.ones(1, 1, side, side)
    text_states, _, pooled, _ = pipe.encode_prompt("a fox", do_classifier_free_guidance=False)
    size = float(adapter.sizes.reference_size)
    added = {"text_embeds": pooled, "time_ids": torch.tensor([[size, size, 0, 0, size, size]])}
    whole = ReferenceNet.from_unet(unet, pruned=False).eval()
    forward: dict[str, tuple[nn.Module, Callable[[], Any]]] = {
        ORIGINAL: (
            unet,
            partial(unet, latent, torch.ones(()), encoder_hidden_states=text_states, added_cond_kwargs=added),
        ),
        SIMPLIFIED: (whole, partial(whole, latent, mask)),
        PRUNED: (adapter.reference_net, partial(adapter.reference_net, latent, mask)),
    }
    with torch.no_grad():
        cases = [TimedCase(name=name, subjects=0, call=call) for name, (_, call) in forward.items()]
        times: list[Timing] = timed(cases, [None] * len(cases), _ROUNDS, _TURN)
    return [
        _Cost(
            model=bench.model,
            network=name,
            parameters=_parameters(net),
            flops=count(call),
            milliseconds=1000 * time.seconds,
        )
        for (name, (net, call)), time in zip(forward.items(), times, strict=True)
    ]


def _counted() -> list[_Cost]:
    """SDXL's, on the meta device: shapes without numbers."""
    networks = Networks(sizes=SDXL, device=torch.device("meta"))
    side = SDXL.reference_latent
    whole, pruned = ReferenceNet.from_unet(networks.unet, pruned=False), networks.adapter.reference_net
    forward: dict[str, tuple[nn.Module, Callable[[], Any]]] = {
        ORIGINAL: (networks.unet, calls.unet_call(networks, rows=1, latent=side)),
        SIMPLIFIED: (whole, calls.reference_net_call(networks, whole, 1, side)),
        PRUNED: (pruned, calls.reference_net_call(networks, pruned, 1, side)),
    }
    return [
        _Cost(model="SDXL", network=name, parameters=_parameters(net), flops=count(call), milliseconds=None)
        for name, (net, call) in forward.items()
    ]


def _parameters(net: nn.Module) -> int:
    return sum(parameter.numel() for parameter in net.parameters())
