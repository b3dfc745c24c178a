"""Operations and memory of a FLUX.1 picture with N subjects, counted without computing any: on the meta device.

Operations are matrix products, attention and convolutions, 2 per multiply-add. Memory is that of all tensors which a
step makes, as an allocator would see them on a GPU with fused attention; weights are counted by themselves.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import torch

from anystory.evaluation.bench.bar import Bar
from anystory.evaluation.bench.flux import calls
from anystory.evaluation.bench.flux.calls import Drawing, Method, StepKind
from anystory.evaluation.bench.flux.networks import FLUX, FluxNetworks, FluxSizes
from anystory.evaluation.bench.flux.weights import WeightMemory, weight_memory
from anystory.evaluation.plan.meter import LikeAGpu, Meter
from anystory.models.flux.state import Acting

SIDES = (512, 1024)
"""Of pictures, pixels."""

_STEP_BARS = {512: 0.055, 1024: 0.035}
"""Share added to a stock step in the steps that read the references, at N = 2."""
_NEXT_SUBJECT_BAR = 0.01
_MEMORY_BAR = 1.1
ALL: tuple[Method, ...] = ("official", "plain", "fast")
_KEPT = StepKind(Acting(references=True), computes=False)


@dataclass(frozen=True, kw_only=True)
class FluxStep:
    """One kind of step."""

    kind: str
    count: int
    """How many of a picture's steps are of this kind."""
    flops: int
    over_stock: float
    """Share added to a stock step, e.g. 0.05."""
    memory: int
    """Bytes at the peak, over those at a stock step's: with the references' keys and values."""


@dataclass(frozen=True, kw_only=True)
class FluxCost:
    """FLOPs and memory of one picture."""

    method: str
    side: int
    subjects: int
    shown: float
    """Share of each reference's tokens that show the subject."""
    encode: int
    """FLOPs of all references, before the first step."""
    picture: int
    """FLOPs of text, encoding, all steps, decoding."""
    cached: int
    """Bytes of the references' keys and values."""
    steps: list[FluxStep]
    kept_over_stock: float
    """Share added to a stock step where keys and values of the references are there and nothing else acts."""
    read_over_stock: float
    """The same, averaged over all steps in which references act: their own computation and appearances are in it."""
    picture_over_stock: float

    @property
    def memory(self) -> int:
        """Bytes over a stock picture's, at the peak of its steps."""
        return max(step.memory for step in self.steps)


@dataclass(frozen=True, kw_only=True)
class FluxFlopReport:
    """Everything that `anystory bench flops --model flux` prints."""

    model: str
    steps: int
    rank: int
    """Of the adapter's low-rank terms: an assumption."""
    torch: str
    rows: list[FluxCost]
    """A stock picture's, for each side, before those with subjects."""
    weights: list[WeightMemory]
    bars: list[Bar]
    """For FLUX.1-dev only."""


def measure(call: Callable[[], Any]) -> tuple[int, int]:
    """FLOPs of one call, and bytes at its peak."""
    with torch.no_grad(), LikeAGpu(bf16=False), Meter() as meter:
        call()
    return meter.flops, meter.peak


def count_flux_flops(
    *,
    sizes: FluxSizes = FLUX,
    subjects: Iterable[int] = range(5),
    steps: int = 25,
    shown: Sequence[float] = (1.0, 0.5),
    sides: Sequence[int] = SIDES,
    progress: Callable[[str], None] = lambda _: None,
) -> FluxFlopReport:
    """Counts stock, ours in both forms, and the authors' computation for every N.

    Args:
        sizes: of the model.
        subjects: every N ≥ 0 to count; N = 0 is the stock pipeline.
        steps: sampling steps of a picture.
        shown: shares of each reference that its mask shows, one after another.
        sides: of pictures, pixels.
        progress: called with the name of what is counted next.

    Raises:
        ValueError: a number outside its range.
    """
    wanted = sorted(set(subjects))
    if not wanted or wanted[0] < 0:
        raise ValueError(f"`subjects` must be numbers of at least 0, got {wanted}")
    if steps < 1:
        raise ValueError(f"`steps` must be at least 1, got {steps}")
    if not shown or not all(0 < share <= 1 for share in shown):
        raise ValueError(f"`shown` must be shares above 0 and up to 1, got {list(shown)}")
    networks = FluxNetworks(sizes=sizes, device=torch.device("meta"))
    rows: list[FluxCost] = []
    encode = {number: measure(calls.encode_call(networks, number))[0] for number in wanted if number}
    for side in sides:
        progress(f"{side} × {side}, stock")
        stock = _Stock.measured(networks, side, steps)
        rows.append(_stock_cost(stock))
        for number, share in product(encode, shown):
            progress(f"{side} × {side}, N = {number}, {share:.0%} of each reference")
            references = calls.encoded_references(networks, number, share)
            # The authors' computation reads all of a reference, whatever its mask shows.
            for method in ALL if share == shown[0] else ("fast",):
                drawing = Drawing(method, networks, side, references)
                rows.append(_cost(method, drawing, number, share, encode[number], stock))
    return FluxFlopReport(
        model=sizes.name,
        steps=steps,
        rank=sizes.rank,
        torch=torch.__version__,
        rows=rows,
        weights=weight_memory(sizes),
        bars=_bars(rows) if sizes == FLUX else [],
    )


@dataclass(frozen=True, kw_only=True)
class _Stock:
    """The stock picture."""

    side: int
    steps: int
    step: int
    peak: int
    around: int
    """FLOPs of text and decoding."""

    @classmethod
    def measured(cls, networks: FluxNetworks, side: int, steps: int) -> _Stock:
        step, peak = measure(Drawing("stock", networks, side, ()).step(StepKind(Acting(), computes=False)))
        around = measure(calls.text_call(networks))[0] + measure(calls.decode_call(networks, side))[0]
        return cls(side=side, steps=steps, step=step, peak=peak, around=around)

    @property
    def picture(self) -> int:
        return self.around + self.steps * self.step


def _stock_cost(stock: _Stock) -> FluxCost:
    step = FluxStep(kind="stock", count=stock.steps, flops=stock.step, over_stock=0, memory=0)
    return FluxCost(
        method="stock", side=stock.side, subjects=0, shown=0, encode=0, picture=stock.picture, cached=0, steps=[step],
        kept_over_stock=0, read_over_stock=0, picture_over_stock=0,
    )  # fmt: skip


def _cost(method: Method, drawing: Drawing, number: int, share: float, encode: int, stock: _Stock) -> FluxCost:
    counts = Counter(calls.kinds_of(stock.steps, number))
    counts[_KEPT] += 0  # few steps may have none
    steps: dict[StepKind, FluxStep] = {}
    for kind in sorted(counts, key=lambda kind: not kind.computes):
        kept = 0 if kind.computes else drawing.cached_bytes
        flops, peak = measure(drawing.step(kind))
        over, memory = flops / stock.step - 1, kept + peak - stock.peak
        steps[kind] = FluxStep(kind=kind.name, count=counts[kind], flops=flops, over_stock=over, memory=memory)
    reading = [step for kind, step in steps.items() if kind.acting.references]
    picture = stock.around + encode + sum(step.count * step.flops for step in steps.values())
    return FluxCost(
        method=method,
        side=stock.side,
        subjects=number,
        shown=share,
        encode=encode,
        picture=picture,
        cached=drawing.cached_bytes,
        steps=list(steps.values()),
        kept_over_stock=steps[_KEPT].over_stock,
        read_over_stock=sum(one.count * one.over_stock for one in reading) / sum(one.count for one in reading),
        picture_over_stock=picture / stock.picture - 1,
    )


def _bars(rows: list[FluxCost]) -> list[Bar]:
    ours = {(row.side, row.shown, row.subjects): row for row in rows if row.method == "fast"}
    bars = []
    for (side, shown, number), row in ours.items():
        name = f"{side} × {side}, {shown:.0%} of each reference"
        if number == 2 and side in _STEP_BARS:
            limit, ratio = _STEP_BARS[side], row.memory / row.cached
            bars += [
                Bar(name=f"{name}: a step that reads them", value=row.kept_over_stock, limit=limit),
                Bar(name=f"{name}: the mean of all such steps", value=row.read_over_stock, limit=limit),
                Bar(name=f"{name}: memory / keys and values", value=ratio, limit=_MEMORY_BAR),
            ]
        before = ours.get((side, shown, number - 1))
        if number > 2 and before is not None:
            added = row.kept_over_stock - before.kept_over_stock
            bars.append(Bar(name=f"{name}: subject {number}", value=added, limit=_NEXT_SUBJECT_BAR))
    return bars
