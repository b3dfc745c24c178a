"""Seconds and peak memory of what a picture is made of, all in one run: their ratios are what counts.

Cases take turns, see `in_turns`. Other work on the machine only ever adds time: ratios are of each case's fastest call.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch

from anystory.evaluation.bench import calls
from anystory.evaluation.bench.meters import hardware, in_turns, peak_bytes
from anystory.evaluation.bench.networks import SDXL, SMALL, Networks, Sizes
from anystory.evaluation.bench.timing import TimedCase, Timing, timed
from anystory.models.reference_net import ReferenceNet

STOCK = "stock"


@dataclass(frozen=True, kw_only=True)
class PictureEstimate:
    """Seconds of a picture, put together: encoding + steps + decoding; text and Python around the loop left out."""

    name: str
    subjects: int
    first: float
    """Ratio to the stock picture, with all encoding."""
    second: float
    """The same for the next picture with these subjects."""


@dataclass(frozen=True, kw_only=True)
class SpeedReport:
    """Everything that `anystory bench speed` prints."""

    model: str
    hardware: str
    torch: str
    dtype: str
    compiled: bool
    threads: int
    rounds: int
    steps: int
    unet: list[Timing]
    """A guided step; the first is the stock pipeline's."""
    reference_net: list[Timing]
    """Table 1 of the paper: batch 1; the first is the original U-Net."""
    pictures: list[PictureEstimate]


def default_sizes(device: torch.device) -> Sizes:
    """Full SDXL on a GPU, the scaled-down one elsewhere."""
    return SDXL if device.type == "cuda" else SMALL


@torch.no_grad()
def measure_speed(
    *,
    device: torch.device,
    sizes: Sizes | None = None,
    subjects: Iterable[int] = (0, 1, 2, 4),
    rounds: int = 5,
    steps: int = 25,
    plain: bool = False,
    compiled: bool = False,
    turn: float = 0.2,
    progress: Callable[[str], None] = lambda _: None,
) -> SpeedReport:
    """Measures steps, ReferenceNet, encoding and decoding with random weights.

    Args:
        device: where; bfloat16 on a GPU, float32 on a CPU.
        sizes: of the model; by default what the device can carry.
        subjects: every N to measure; N = 0 is the stock pipeline, which is always measured.
        rounds: how often each case has its turn.
        steps: of the picture that the parts are put together to.
        plain: also the plain twin of each N.
        compiled: run the U-Net through `torch.compile`.
        turn: least seconds of a turn.
        progress: called with the name of what is measured next.

    Raises:
        ValueError: a number outside its range.
    """
    wanted = sorted(set(subjects) - {0})
    if wanted and wanted[0] < 0:
        raise ValueError(f"`subjects` must be numbers of at least 0, got {wanted}")
    for name, value in (("rounds", rounds), ("steps", steps)):
        if value < 1:
            raise ValueError(f"`{name}` must be at least 1, got {value}")
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    networks = Networks(sizes=sizes or default_sizes(device), device=device, dtype=dtype)
    unet: Any = torch.compile(networks.unet) if compiled else networks.unet
    progress("steps")
    names = [(STOCK, 0), *((name, number) for number in wanted for name in (("fast", "plain") if plain else ("fast",)))]
    # The stock pipeline first, before an adapter exists; each case alone, so that no other's inputs count.
    memory = [peak_bytes(_step(networks, unet, *name).run, device) for name in names]
    unet_rows = timed([_step(networks, unet, *name) for name in names], memory, rounds, turn)
    progress("ReferenceNet")
    reference_net = timed(*_table_1(networks), rounds, turn)
    progress("encoding and decoding")
    around = [calls.decode_call(networks), *(calls.encode_call(networks, number) for number in wanted)]
    decode, *encode = (min(found.times) for found in in_turns(around, rounds, turn))
    return SpeedReport(
        model=networks.sizes.name,
        hardware=hardware(device),
        torch=torch.__version__,
        dtype=str(dtype).removeprefix("torch."),
        compiled=compiled,
        threads=torch.get_num_threads(),
        rounds=rounds,
        steps=steps,
        unet=unet_rows,
        reference_net=reference_net,
        pictures=_pictures(unet_rows, steps, decode, dict(zip(wanted, encode, strict=True))),
    )


def _step(networks: Networks, unet: Any, name: str, number: int) -> TimedCase:
    if name == STOCK:
        return TimedCase(name=name, subjects=0, call=calls.unet_call(networks, unet=unet))
    fast = name == "fast"
    carried = calls.conditioning(calls.encoded_subjects(networks, number, projected=fast), fast)
    call = calls.unet_call(networks, unet=unet, cross_attention_kwargs={"subject_conditioning": carried})
    return TimedCase(name=name, subjects=number, call=call, inside=lambda: networks.adapter.installed_on(networks.unet))


def _table_1(networks: Networks) -> tuple[list[TimedCase], list[int | None]]:
    side = networks.sizes.reference_latent
    paper = ReferenceNet.from_unet(networks.unet, pruned=False).requires_grad_(False).eval()
    cases = [TimedCase(name="U-Net", subjects=0, call=calls.unet_call(networks, rows=1, latent=side))]
    for name, net in (("the paper's", paper), ("pruned", networks.adapter.reference_net)):
        call = calls.reference_net_call(networks, net, 1, side)
        cases.append(TimedCase(name=f"ReferenceNet, {name}", subjects=1, call=call))
    return cases, [peak_bytes(case.run, networks.device) for case in cases]


def _pictures(rows: list[Timing], steps: int, decode: float, encode: dict[int, float]) -> list[PictureEstimate]:
    stock, *others = (steps * row.seconds + decode for row in rows)
    return [
        PictureEstimate(
            name=row.name, subjects=row.subjects, first=(drawn + encode[row.subjects]) / stock, second=drawn / stock
        )
        for row, drawn in zip(rows[1:], others, strict=True)
    ]
