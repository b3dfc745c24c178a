"""Seconds and peak memory of FLUX.1's steps with subjects, all in one run: their ratios are what counts."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import product

import torch

from anystory.evaluation.bench.flux import calls
from anystory.evaluation.bench.flux.calls import Drawing, Method, StepKind
from anystory.evaluation.bench.flux.networks import FLUX, FLUX_SMALL, FluxNetworks, FluxSizes
from anystory.evaluation.bench.meters import hardware, peak_bytes
from anystory.evaluation.bench.timing import TimedCase, Timing, timed
from anystory.models.flux.state import Acting

_KINDS = (
    StepKind(Acting(references=True), computes=True),
    StepKind(Acting(references=True), computes=False),
    StepKind(Acting(appearance=True, references=True), computes=False),
)


@dataclass(frozen=True, kw_only=True)
class FluxSpeedReport:
    """Everything that `anystory bench speed --model flux` prints."""

    model: str
    side: int
    """Of the picture, pixels."""
    shown: float
    """Share of each reference's tokens that show the subject."""
    hardware: str
    torch: str
    dtype: str
    threads: int
    rounds: int
    steps: list[Timing]
    """The first is the stock pipeline's."""
    around: list[Timing]
    """Decoding, and encoding the references; the first is decoding."""


def default_flux_sizes(device: torch.device) -> FluxSizes:
    """FLUX.1-dev on a GPU, the scaled-down one elsewhere."""
    return FLUX if device.type == "cuda" else FLUX_SMALL


@torch.no_grad()
def measure_flux_speed(
    *,
    device: torch.device,
    sizes: FluxSizes | None = None,
    subjects: Iterable[int] = (0, 1, 2, 4),
    rounds: int = 5,
    side: int = 512,
    shown: float = 0.5,
    plain: bool = False,
    turn: float = 0.2,
    progress: Callable[[str], None] = lambda _: None,
) -> FluxSpeedReport:
    """Measures steps, encoding and decoding with random weights: stock, ours, and the authors' computation.

    Args:
        device: where; bfloat16 on a GPU, float32 on a CPU.
        sizes: of the model; by default what the device can carry.
        subjects: every N to measure; N = 0 is the stock pipeline, which is always measured.
        rounds: how often each case has its turn.
        side: of the picture, pixels.
        shown: share of each reference that its mask shows.
        plain: also our plain form.
        turn: least seconds of a turn.
        progress: called with the name of what is measured next.

    Raises:
        ValueError: a number outside its range.
    """
    wanted = sorted(set(subjects) - {0})
    if wanted and wanted[0] < 0:
        raise ValueError(f"`subjects` must be numbers of at least 0, got {wanted}")
    if rounds < 1:
        raise ValueError(f"`rounds` must be at least 1, got {rounds}")
    if not 0 < shown <= 1:
        raise ValueError(f"`shown` must be a share above 0 and up to 1, got {shown}")
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    networks = FluxNetworks(sizes=sizes or default_flux_sizes(device), device=device, dtype=dtype)
    methods: tuple[Method, ...] = ("fast", "plain", "official") if plain else ("fast", "official")
    cases, memory = _steps(networks, side, wanted, shown, methods, progress)
    progress("steps")
    steps = timed(cases, memory, rounds, turn)
    progress("encoding and decoding")
    around = [TimedCase(name="decode", subjects=0, call=calls.decode_call(networks, side))]
    around += [TimedCase(name="encode", subjects=n, call=calls.encode_call(networks, n)) for n in wanted]
    return FluxSpeedReport(
        model=networks.sizes.name,
        side=side,
        shown=shown,
        hardware=hardware(device),
        torch=torch.__version__,
        dtype=str(dtype).removeprefix("torch."),
        threads=torch.get_num_threads(),
        rounds=rounds,
        steps=steps,
        around=timed(around, [peak_bytes(case.run, device) for case in around], rounds, turn),
    )


def _steps(
    networks: FluxNetworks,
    side: int,
    wanted: list[int],
    shown: float,
    methods: tuple[Method, ...],
    progress: Callable[[str], None],
) -> tuple[list[TimedCase], list[int | None]]:
    """All cases, ready to be timed, and the peak memory of each alone."""
    stock = Drawing("stock", networks, side, ()).step(StepKind(Acting(), computes=False))
    cases = [TimedCase(name="stock", subjects=0, call=stock)]
    memory = [peak_bytes(stock, networks.device)]
    for number, method in product(wanted, methods):
        progress(f"{method}, N = {number}")
        drawing = Drawing(method, networks, side, calls.encoded_references(networks, number, shown))
        own = [TimedCase(name=f"{method}, {kind.name}", subjects=number, call=drawing.step(kind)) for kind in _KINDS]
        memory += [peak_bytes(case.run, networks.device) for case in own]
        drawing.state = None  # the next one's memory is its own
        cases += own
    for case in cases:  # those that read keys and values find them
        case.run()
    return cases, memory
