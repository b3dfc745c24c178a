"""Operations of a picture with N subjects, counted without computing any: everything lies on the meta device.

What `torch.utils.flop_counter` counts are matrix products, attention and convolutions, 2 per multiply-add;
elementwise work, norms and moving memory are not in it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from anystory.evaluation.bench import calls
from anystory.evaluation.bench.bar import Bar
from anystory.evaluation.bench.ip_adapter import ip_adapter_call, ip_adapter_encode_call, ip_adapter_installed
from anystory.evaluation.bench.networks import SDXL, Networks, Sizes
from anystory.models.reference_net import ReferenceNet

_BARS = {
    # subjects: over the stock pipeline, a step, a whole picture with all encoding, the next with the same subjects
    2: (0.02, 0.03, 0.02),
    6: (0.025, 0.06, 0.02),
}
_PROMPT_AGAIN = "fast, prompt in every step"
_REFERENCE_NET_BAR = 0.82
_REFERENCE_NET_PARAMETERS_BAR = 2.00e9


@dataclass(frozen=True, kw_only=True)
class PictureCost:
    """FLOPs of one picture drawn with guidance."""

    method: str
    subjects: int
    encode: int
    """All references, before the first step; 0 for a second picture with the same subjects."""
    first_step: int
    step: int
    """Every later step."""
    picture: int
    """Text, encoding, all steps, decoding."""
    second_picture: int
    """The same without encoding references."""
    step_over_stock: float
    """Share added to the stock step, averaged over the steps, e.g. 0.02."""
    picture_over_stock: float
    second_over_stock: float


@dataclass(frozen=True, kw_only=True)
class ReferenceNetCost:
    """ReferenceNet's forward on one reference against the original U-Net's on the same latent."""

    latent: int
    unet: int
    whole: int
    """The U-Net without cross-attention, not pruned: the paper's."""
    pruned: int
    ratio: float
    parameters: int


@dataclass(frozen=True, kw_only=True)
class FlopReport:
    """Everything that `anystory bench flops` prints."""

    model: str
    picture: int
    """Side of the picture in pixels."""
    steps: int
    foreground: float
    """Share of the pixels that belong to subjects."""
    torch: str
    stock: PictureCost
    stock_keeping: PictureCost
    """The stock pipeline, if it kept the prompt's keys and values from the first step on, as the fast form does."""
    rows: list[PictureCost]
    reference_net: ReferenceNetCost
    bars: list[Bar]
    """For SDXL only."""


def count(call: Callable[[], Any]) -> int:
    """FLOPs of one call."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        call()
    return counter.get_total_flops()


def count_flops(
    *,
    sizes: Sizes = SDXL,
    subjects: Iterable[int] = range(7),
    steps: int = 25,
    foreground: float = 0.5,
    progress: Callable[[str], None] = lambda _: None,
) -> FlopReport:
    """Counts stock, plain, fast with the prompt projected once and in every step, and IP-Adapter-Plus for every N.

    Args:
        sizes: of the model.
        subjects: every N ≥ 0 to count; N = 0 is the stock pipeline.
        steps: sampling steps of a picture, each with guidance.
        foreground: share of the pixels that belong to subjects, split evenly.
        progress: called with the name of what is counted next.

    Raises:
        ValueError: a number outside its range.
    """
    wanted = sorted(set(subjects))
    if not wanted or wanted[0] < 0:
        raise ValueError(f"`subjects` must be numbers of at least 0, got {wanted}")
    if steps < 1:
        raise ValueError(f"`steps` must be at least 1, got {steps}")
    if not 0 <= foreground <= 1:
        raise ValueError(f"`foreground` must be from 0 to 1, got {foreground}")
    networks = Networks(sizes=sizes, device=torch.device("meta"))
    progress("stock")
    around = count(calls.decode_call(networks)) + count(calls.text_call(networks))
    stock_step, prompt = count(calls.unet_call(networks)), count(calls.prompt_call(networks))
    stock = _cost("stock", 0, 0, stock_step, stock_step, steps, around, None)
    stock_keeping = _cost("stock, prompt kept", 0, 0, stock_step, stock_step - prompt, steps, around, None)
    reference_net, whole_net = _reference_net(networks)
    rows = []
    for number in wanted:
        progress(f"N = {number}")
        for method, encode, first, later in _counted(networks, whole_net, number, foreground, stock_step, prompt):
            rows.append(_cost(method, number, encode, first, later, steps, around, stock))
    return FlopReport(
        model=sizes.name,
        picture=sizes.picture,
        steps=steps,
        foreground=foreground,
        torch=torch.__version__,
        stock=stock,
        stock_keeping=stock_keeping,
        rows=rows,
        reference_net=reference_net,
        bars=_bars(rows, stock_keeping, reference_net) if sizes == SDXL else [],
    )


def _counted(
    networks: Networks, whole_net: ReferenceNet, number: int, foreground: float, stock_step: int, prompt: int
) -> Iterator[tuple[str, int, int, int]]:
    """Each method with N subjects, and its FLOPs: of encoding, of the first step, of every later one."""
    if number == 0:  # the pipeline hands over to diffusers before any of our code runs
        yield from ((method, 0, stock_step, stock_step) for method in ("plain", "fast"))
        return
    for method, fast, net in (("plain", False, whole_net), ("fast", True, None)):
        encoded = calls.encoded_subjects(networks, number, projected=fast)
        carried = {"subject_conditioning": calls.conditioning(encoded, fast, foreground)}
        step = calls.unet_call(networks, cross_attention_kwargs=carried)
        with networks.adapter.installed_on(networks.unet):
            first = count(step)
            later = count(step) if fast else first
        encode = count(calls.encode_call(networks, number, net))
        yield method, encode, first, later
        if method == "fast":
            yield _PROMPT_AGAIN, encode, first, later + prompt
    with ip_adapter_installed(networks):
        step_flops = count(ip_adapter_call(networks, number))
    yield "IP-Adapter-Plus", count(ip_adapter_encode_call(networks, number)), step_flops, step_flops


def _cost(
    method: str, subjects: int, encode: int, first: int, later: int, steps: int, around: int, stock: PictureCost | None
) -> PictureCost:
    drawn = first + (steps - 1) * later
    second = around + drawn
    return PictureCost(
        method=method,
        subjects=subjects,
        encode=encode,
        first_step=first,
        step=later,
        picture=second + encode,
        second_picture=second,
        step_over_stock=drawn / (steps * stock.step) - 1 if stock else 0.0,
        picture_over_stock=(second + encode) / stock.picture - 1 if stock else 0.0,
        second_over_stock=second / stock.picture - 1 if stock else 0.0,
    )


def _reference_net(networks: Networks) -> tuple[ReferenceNetCost, ReferenceNet]:
    latent = networks.sizes.reference_latent
    pruned, whole = networks.adapter.reference_net, ReferenceNet.from_unet(networks.unet, pruned=False)
    unet = count(calls.unet_call(networks, rows=1, latent=latent))
    flops = {net: count(calls.reference_net_call(networks, net, 1, latent)) for net in (pruned, whole)}
    return (
        ReferenceNetCost(
            latent=latent,
            unet=unet,
            whole=flops[whole],
            pruned=flops[pruned],
            ratio=flops[pruned] / unet,
            parameters=sum(parameter.numel() for parameter in pruned.parameters()),
        ),
        whole,
    )


def _bars(rows: list[PictureCost], stock_keeping: PictureCost, reference_net: ReferenceNetCost) -> list[Bar]:
    again = {row.subjects: row for row in rows if row.method == _PROMPT_AGAIN}
    bars = []
    for row in rows:
        if row.method != "fast" or row.subjects not in _BARS:
            continue
        step, picture, second = _BARS[row.subjects]
        name = f"picture with encoding, N = {row.subjects}"
        alike = row.picture / stock_keeping.picture - 1
        bars += [
            Bar(name=f"step, N = {row.subjects}", value=row.step_over_stock, limit=step),
            Bar(name=name, value=row.picture_over_stock, limit=picture),
            Bar(
                name=f"{name}, prompt in every step",
                value=again[row.subjects].picture_over_stock,
                limit=picture,
            ),
            Bar(name=f"{name}, if the stock pipeline kept its prompt too", value=alike, limit=picture),
            Bar(name=f"second picture, N = {row.subjects}", value=row.second_over_stock, limit=second),
        ]
    return [
        *bars,
        Bar(name="ReferenceNet / U-Net, FLOPs", value=reference_net.ratio, limit=_REFERENCE_NET_BAR),
        Bar(name="ReferenceNet, parameters", value=reference_net.parameters, limit=_REFERENCE_NET_PARAMETERS_BAR),
    ]
