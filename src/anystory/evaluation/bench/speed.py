"""Seconds and peak memory of what a picture is made of, all in one run: their ratios are what counts.

Cases take turns, so that whatever else the machine does falls on all of them alike. Such work only ever adds time:
ratios are of each case's fastest round.
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from dataclasses import dataclass
from statistics import median
from typing import Any

import torch

from anystory.evaluation.bench import calls
from anystory.evaluation.bench.meters import peak_bytes, seconds_of
from anystory.evaluation.bench.networks import SDXL, SMALL, Networks, Sizes
from anystory.models.fast_paths import ALL, PLAIN, FastPaths
from anystory.models.reference_net import ReferenceNet

STOCK = "stock"


@dataclass(frozen=True, kw_only=True)
class Timing:
    """One case."""

    name: str
    subjects: int
    seconds: float
    """Of the fastest round."""
    median: float
    ratio: float
    """Of `seconds` to the first case's of the table."""
    memory: int | None
    """Peak bytes; None where the system does not say."""
    memory_ratio: float | None


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


@dataclass(frozen=True, kw_only=True)
class _Case:
    name: str
    subjects: int
    call: Callable[[], Any]
    inside: Callable[[], Any] | None = None
    """Opens what must be open around the call."""

    def run(self) -> None:
        with ExitStack() as stack:
            if self.inside is not None:
                stack.enter_context(self.inside())
            self.call()


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
    progress: Callable[[str], None] = lambda _: None,
) -> SpeedReport:
    """Measures steps, ReferenceNet, encoding and decoding with random weights.

    Args:
        device: where; bfloat16 on a GPU, float32 on a CPU.
        sizes: of the model; by default what the device can carry.
        subjects: every N to measure; N = 0 is the stock pipeline, which is always measured.
        rounds: how often each case is timed, after one call to warm up.
        steps: of the picture that the parts are put together to.
        plain: also the plain twin of each N.
        compiled: run the U-Net through `torch.compile`.
        progress: is told what is measured next.

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

    def step(name: str, number: int) -> _Case:
        if name == STOCK:
            return _Case(name=name, subjects=0, call=calls.unet_call(networks, unet=unet))
        paths: FastPaths = PLAIN if name == "plain" else ALL
        carried = calls.conditioning(calls.encoded_subjects(networks, number, projected=paths.reuse), paths)
        call = calls.unet_call(networks, unet=unet, cross_attention_kwargs={"subject_conditioning": carried})
        return _Case(name=name, subjects=number, call=call, inside=lambda: networks.adapter.installed_on(networks.unet))

    names = [(STOCK, 0)]
    names += [(name, number) for number in wanted for name in (("fast", "plain") if plain else ("fast",))]
    progress("memory")
    # The stock pipeline first, before an adapter exists; each case alone, so that no other's inputs count.
    memory = [peak_bytes(step(*name).run, device) for name in names]
    progress("steps")
    unet_rows = _timed([step(*name) for name in names], memory, rounds, device)

    progress("ReferenceNet")
    reference_net = _timed(*_table_1(networks, device), rounds, device)

    progress("encoding and decoding")
    decode = _seconds(calls.decode_call(networks), rounds, device)
    encode = {number: _seconds(calls.encode_call(networks, number), rounds, device) for number in wanted}
    stock_picture = steps * unet_rows[0].seconds + decode
    pictures = []
    for row in unet_rows[1:]:
        drawn = steps * row.seconds + decode
        pictures.append(
            PictureEstimate(
                name=row.name,
                subjects=row.subjects,
                first=(drawn + encode[row.subjects]) / stock_picture,
                second=drawn / stock_picture,
            )
        )
    return SpeedReport(
        model=networks.sizes.name,
        hardware=torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor() or "CPU",
        torch=torch.__version__,
        dtype=str(dtype).removeprefix("torch."),
        compiled=compiled,
        threads=torch.get_num_threads(),
        rounds=rounds,
        steps=steps,
        unet=unet_rows,
        reference_net=reference_net,
        pictures=pictures,
    )


def _table_1(networks: Networks, device: torch.device) -> tuple[list[_Case], list[int | None]]:
    side = networks.sizes.reference_latent
    whole = ReferenceNet.from_unet(networks.unet, pruned=False).requires_grad_(False).eval()
    cases = [
        _Case(name="U-Net", subjects=0, call=calls.unet_call(networks, rows=1, latent=side)),
        _Case(name="ReferenceNet, the paper's", subjects=1, call=calls.reference_net_call(networks, whole, 1, side)),
        _Case(
            name="ReferenceNet, pruned",
            subjects=1,
            call=calls.reference_net_call(networks, networks.adapter.reference_net, 1, side),
        ),
    ]
    return cases, [peak_bytes(case.run, device) for case in cases]


def _timed(cases: list[_Case], memory: list[int | None], rounds: int, device: torch.device) -> list[Timing]:
    for case in cases:
        case.run()
    taken = [[seconds_of(case.run, device) for case in cases] for _ in range(rounds)]
    rows = []
    for i, case in enumerate(cases):
        own = [times[i] for times in taken]
        peak, first = memory[i], memory[0]
        rows.append(
            Timing(
                name=case.name,
                subjects=case.subjects,
                seconds=min(own),
                median=median(own),
                ratio=min(own) / min(times[0] for times in taken),
                memory=peak,
                memory_ratio=None if peak is None or not first else peak / first,
            )
        )
    return rows


def _seconds(call: Callable[[], Any], rounds: int, device: torch.device) -> float:
    call()
    return min(seconds_of(call, device) for _ in range(rounds))
